"""Recorded results: well-formed, and the README shows what they say."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUNS = sorted((ROOT / "results" / "runs").glob("*.json"))
CLASSES = {"camvid": 11, "ultrasound": 3}
TEST_IMAGES = {"camvid": 233, "ultrasound": 40}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_is_recorded_whole(path):
    run = json.loads(path.read_text(encoding="utf-8"))
    assert run["schema"] == 1 and run["name"] == path.stem
    assert len(run["classes"]) == len(run["test"]["iou"]) == CLASSES[run["dataset"]]
    assert run["images"] == TEST_IMAGES[run["dataset"]]
    present = [value for value in run["test"]["iou"] if value is not None]
    assert run["test"]["miou"] == pytest.approx(sum(present) / len(present), abs=1e-4)
    for iou, dice in zip(run["test"]["iou"], run["test"]["dice"], strict=True):
        assert dice == pytest.approx(2 * iou / (1 + iou), abs=2e-4)
    assert 0 < run["minutes"] < 24 * 60 and run["images_seen"] > 0 and run["epochs"] > 0
    assert run["hardware"] and run["revision"] and "dirty" not in run["revision"]
    assert {"python", "torch", "torchvision", "numpy"} <= set(run["versions"])
    groups = run["test_groups"].values()
    assert not groups or sum(group["images"] for group in groups) == run["images"]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(name):
    """What README.md has between two marks."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    between = readme.split(f"<!-- {name}: begin")[1].split(f"<!-- {name}: end")[0]
    return between.split("-->\n", 1)[1].strip()


def test_the_readme_shows_the_recorded_runs():
    assert RUNS and shown("runs") == load(ROOT / "results" / "runs.py").table()


def test_the_readme_shows_the_recorded_models(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    record = ROOT / "results" / "experiments" / "05_models.json"
    table = load(ROOT / "experiments" / "05_models.py").table
    assert shown("models") == table(json.loads(record.read_text(encoding="utf-8")))
