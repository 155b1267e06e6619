"""The day with a GPU, rehearsed on a CPU; parcels of CamVid; what its record says."""

import argparse
import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglib.data import CamVid

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "gpu")]
FRAMES = {"train": ["0001TP_1", "0006R0_1", "0006R0_2", "0016E5_1"], "val": ["0016E5_9"]}
FRAMES["test"] = ["0001TP_9", "Seq05VD_1", "Seq05VD_2"]


@pytest.fixture
def camvid(tmp_path):
    """A few frames of noise, as CamVid has them."""
    rng, folder = np.random.default_rng(0), tmp_path / "home" / "camvid"
    for split, names in FRAMES.items():
        for kind, shape in ((split, (36, 48, 3)), (f"{split}annot", (36, 48))):
            (folder / kind).mkdir(parents=True)
            for name in names:
                pixels = rng.integers(0, 12, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / kind / f"{name}.png")
    return folder


def pixels(folder):
    found = {}
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as image:
            found[path.relative_to(folder).as_posix()] = (image.mode, np.asarray(image).tobytes())
    return found


def test_parcels_bring_every_pixel(camvid, tmp_path):
    parcels = importlib.import_module("parcels")
    paths = parcels.pack(camvid, tmp_path / "parcels", [0.012, 0.02])
    assert len(paths) > 2 and paths[0].stat().st_size < 14_000
    there = tmp_path / "there"
    assert parcels.unpack(tmp_path / "parcels", there) == 16
    assert pixels(there) == pixels(camvid)
    assert parcels.unpack(tmp_path / "parcels", there) == 0
    (there / "train" / "0006R0_1.png").unlink()
    assert parcels.unpack(tmp_path / "parcels", there) == 1
    assert pixels(there) == pixels(camvid)


@pytest.mark.data
def test_parcels_bring_every_pixel_of_camvid(datasets, tmp_path):
    """Of one frame of each split, lossless: the digests are of pixels."""
    parcels, home = importlib.import_module("parcels"), tmp_path / "home"
    for split in ("train", "val", "test"):
        for path in CamVid(split, datasets).files[5]:
            (home / path.parent.name).mkdir(parents=True)
            (home / path.parent.name / path.name).write_bytes(path.read_bytes())
    sizes = [path.stat().st_size for path in parcels.pack(home, tmp_path / "parcels", [44])]
    assert sum(sizes) < 0.8 * sum(path.stat().st_size for path in home.rglob("*.png"))
    parcels.unpack(tmp_path / "parcels", tmp_path / "there")
    assert pixels(tmp_path / "there") == pixels(home)


def test_a_parcel_that_was_damaged_is_named(camvid, tmp_path):
    parcels = importlib.import_module("parcels")
    [path] = parcels.pack(camvid, tmp_path, [1])
    with zipfile.ZipFile(path) as parcel:
        contents = {name: parcel.read(name) for name in parcel.namelist()}
    digests = json.loads(contents[parcels.LIST])
    digests["test/Seq05VD_1.png"] = "0" * 64
    with zipfile.ZipFile(path, "w") as parcel:
        for name, content in {**contents, parcels.LIST: json.dumps(digests)}.items():
            parcel.writestr(name, content)
    with pytest.raises(ValueError, match=r"test/Seq05VD_1\.png has arrived damaged"):
        parcels.unpack(tmp_path, tmp_path / "there")
    assert not (tmp_path / "there" / "test" / "Seq05VD_1.png").exists()


def day(out, *words):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_day.py"), "--out", str(out), "--tiny"]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_day_can_be_rehearsed_and_goes_on_where_it_ended(camvid, tmp_path):
    out, where = tmp_path / "out", ["--root", str(camvid.parent), "--parcels", str(tmp_path)]
    first = day(out, *where, "trials=30", "render=30+main=30")
    assert first.returncode == 0 and "main: 2 epochs" in first.stdout, first.stdout + first.stderr
    again = day(out, *where, "trials", "main", "streets", "second", "score", "kernels")
    assert "-- trials" not in again.stdout and "-- main" not in again.stdout
    done = {
        stage["stage"]: stage["outcome"] for stage in json.loads((out / "day.json").read_text())
    }
    assert done == dict.fromkeys(
        ("trials", "render", "main", "streets", "second", "score", "kernels"), 0
    ), again.stderr
    record = importlib.import_module("record")
    content = record.collect(out)
    run = record.run_record(content, "tiny")
    assert run["images"] == 3 and set(run["test_groups"]) == {"0001TP", "Seq05VD"}
    curve = content["stages"]["score"]["second"]["curve"]
    assert [state["epoch"] for state in curve] == [1, 2] and "file" not in curve[0]
    assert record.training_table(content).count("published") == len(record.PUBLISHED)
    assert "seglib" in record.speed_table(content)


def test_a_stage_that_takes_too_long_is_stopped_and_the_next_one_begins(tmp_path, monkeypatch):
    script = importlib.import_module("gpu_day")
    monkeypatch.setattr(script, "GRACE", 0)
    monkeypatch.setitem(script.COMMANDS, "main", ["-c", "import time; time.sleep(60)"])
    monkeypatch.setitem(script.COMMANDS, "score", ["-c", "print(1)"])
    options = argparse.Namespace(out=tmp_path, root=tmp_path, tiny=False, seconds=30)
    day = script.Day(options)
    day.run("main=0.2+score=20")
    day.run("score=20")
    assert [(stage["stage"], stage["outcome"]) for stage in day.log] == [
        ("main", "stopped"),
        ("score", 0),
        ("score", 0),
    ]
    assert day.log[0]["seconds"] < 10
    day.end = 0.0
    day.run("main=5")
    assert day.log[-1] == {"stage": "main", "outcome": "no time left"}


def test_an_unknown_stage_is_named(tmp_path):
    found = day(tmp_path / "out", "--parcels", str(tmp_path), "trails=30")
    assert found.returncode == 1 and "found 'trails=30', expected name=seconds" in found.stderr


def test_a_day_in_order_names_every_stage_once():
    script = importlib.import_module("gpu_day")
    names = [part.partition("=")[0] for line in script.DAY for part in line.split("+")]
    assert sorted(names) == sorted(script.COMMANDS)
