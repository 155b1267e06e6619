"""Recorded results: well-formed, and the pages show what they say."""

import csv
import importlib
import json
from pathlib import Path

import pytest
from toys import load_script, words

from seglib.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
RUNS = sorted((ROOT / "results" / "runs").glob("*.json"))
SHAPES = {"camvid": (11, 233), "ultrasound": (3, 40)}  # classes, images of test


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_is_recorded_whole(path):
    run = json.loads(path.read_text(encoding="utf-8"))
    assert run["schema"] == 1 and run["name"] == path.stem
    assert len(run["classes"]) == len(run["test"]["iou"])
    assert (len(run["classes"]), run["images"]) == SHAPES[run["dataset"]]
    present = [value for value in run["test"]["iou"] if value is not None]
    assert run["test"]["miou"] == pytest.approx(sum(present) / len(present), abs=1e-4)
    for iou, dice in zip(run["test"]["iou"], run["test"]["dice"], strict=True):
        assert dice == pytest.approx(2 * iou / (1 + iou), abs=2e-4)
    assert 0 < run["minutes"] < 24 * 60 and run["images_seen"] > 0 and run["epochs"] > 0
    assert run["hardware"] and run["revision"] and "dirty" not in run["revision"]
    assert {"python", "torch", "torchvision", "numpy"} <= set(run["versions"])
    groups = run["test_groups"].values()
    assert not groups or sum(group["images"] for group in groups) == run["images"]


def shown(name, page):
    """What a page has between two marks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    between = text.split(f"<!-- {name}: begin")[1].split(f"<!-- {name}: end")[0]
    return between.split("-->\n", 1)[1].strip()


def test_the_page_shows_the_recorded_runs():
    runs = load_script(ROOT / "results" / "runs.py")
    assert RUNS and shown("runs", "results/README.md") == runs.table()


@pytest.mark.slow
def test_a_finished_run_of_any_model_can_be_recorded(tmp_path):
    net = {"data": "streets", "model": "segnet", "base_channels": 4, "height": 32, "width": 48}
    flags = words(**net, epochs=1, batch_size=48, device="cpu", out=tmp_path)
    assert main(["train", *flags]) == 0
    found = load_script(ROOT / "results" / "runs.py").record(tmp_path, "small", None)
    with open(tmp_path / "history.csv", newline="") as file:
        miou = [float(row["val_miou"]) for row in csv.DictReader(file)]
    assert found["val"]["miou"] == pytest.approx(max(miou), abs=1e-4)
    assert found["val"]["miou_last_epoch"] == pytest.approx(miou[-1], abs=1e-4)
    assert found["images_seen"] == 240 and found["size"] == [32, 48]
    assert found["model"]["model"] == "segnet" and found["model"]["base_channels"] == 4
    assert found["pretrained"] is None and found["peak_gb"] is None and found["amp"] is None
    said = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert found["revision"] == said["revision"] and found["versions"]["torch"]
    best, scores = str(tmp_path / "best.pt"), tmp_path / "s.json"
    assert main(["evaluate", best, "--data=streets", "--json", str(scores)]) == 0
    expected = json.loads(scores.read_text(encoding="utf-8"))["all"]["miou"]
    assert found["test"]["miou"] == pytest.approx(expected, abs=1e-4)
    assert len(found["test"]["iou"]) == 11 and found["images"] > 0


@pytest.mark.parametrize(
    ("script", "name", "page"),
    [("05_models", "models", "seglib/models/README.md"), ("00_data", "measured", "data/README.md")],
)
def test_a_page_shows_what_an_experiment_recorded(monkeypatch, script, name, page):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    record = ROOT / "results" / "experiments" / f"{script}.json"
    table = load_script(ROOT / "experiments" / f"{script}.py").table
    assert shown(name, page) == table(json.loads(record.read_text(encoding="utf-8")))


BENCHMARKS = [path.stem for path in sorted((ROOT / "benchmarks").glob("[!_]*.py"))]
BENCHMARKS.remove("gpu_day")  # (on a GPU only; it has a record of its own)


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    record = ROOT / "results" / "experiments" / "benchmarks.json"
    return importlib.import_module("_report"), json.loads(record.read_text(encoding="utf-8"))


def test_the_page_shows_the_recorded_benchmarks(measured):
    report, record = measured
    assert sorted(record) == BENCHMARKS
    assert shown("benchmarks", "benchmarks/README.md") == report.summary(record)


@pytest.mark.parametrize(
    ("name", "page"), [("training", "results/README.md"), ("speed", "benchmarks/README.md")]
)
def test_a_page_shows_what_the_gpu_has_done(name, page):
    script = load_script(ROOT / "benchmarks" / "gpu" / "record.py")
    record = json.loads(script.RECORD.read_text(encoding="utf-8"))
    assert shown(f"gpu-{name}", page) == script.TABLES[name](record)


def test_the_run_of_the_gpu_is_the_recorded_one():
    script = load_script(ROOT / "benchmarks" / "gpu" / "record.py")
    run = json.loads((script.ROOT / "results/runs/camvid_unet_360x480.json").read_text("utf-8"))
    record = json.loads(script.RECORD.read_text(encoding="utf-8"))
    assert run == script.run_record(record, "camvid_unet_360x480")


@pytest.mark.parametrize("script", BENCHMARKS)
def test_the_page_of_a_benchmark_shows_its_record(measured, script):
    report, record = measured
    assert shown(script, "benchmarks/README.md") == report.page(record[script])
    assert record[script]["load"] < 0.3, "measure on an idle machine"


def test_ratios_favour_more_speed_and_score_and_less_time_and_memory(measured):
    report, _ = measured
    for unit, expected in (("images/s", 2), ("mIoU", 2), ("ms", 0.5), ("MB", 0.5)):
        assert report.Row("a", "b", 4.0, unit).times(report.Row("a", "c", 2.0, unit)) == expected
