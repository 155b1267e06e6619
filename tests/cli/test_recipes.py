"""Every recipe can be read and run: two steps on small pictures, with a small network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import CLASSES, words, write_folder

from seglib.cli.main import main
from seglib.cli.settings import read_settings
from seglib.data import DATASETS
from seglib.engine import artifacts

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))
assert len(RECIPES) >= 3
# What would take long here, or is not here: the data, the size, pretrained weights, workers
DATA = {"data": "folder", "classes": ",".join(CLASSES), "train_split": "train", "val_split": "val"}
SMALL = {"height": 32, "width": 48, "epochs": 1, "batch_size": 2, "workers": 0, "device": "cpu"}
TINY = {**DATA, **SMALL, **dict.fromkeys(("pretrained", "class_weights", "amp"), "none")}
NETS = {
    "unet": {"base_channels": 4, "depth": 2},
    "deeplabv3plus": {"backbone": "mobilenet_v3_small", "channels": 16},
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_what_there_is_and_says_what_to_expect(path):
    settings = read_settings(path, {})
    assert settings.data in DATASETS
    splits = DATASETS[settings.data].splits
    assert settings.train_split in splits and settings.val_split in splits
    text = path.read_text()
    assert f"recipes/{path.name} --out" in text
    record = f"results/runs/{path.stem}.json"
    measured = record in text and (path.parent.parent / record).exists()
    assert measured != ("Reckoned, not measured:" in text)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_two_steps(path, tmp_path, capsys):
    folder = write_folder(tmp_path / "pairs", (("train", 4), ("val", 2)))
    given = words(**{**TINY, **NETS[read_settings(path, {}).model], "root": folder})
    out = tmp_path / "run"
    assert main(["train", str(path), *given, "--out", str(out)]) == 0, capsys.readouterr().err
    content = torch.load(out / "last.pt", weights_only=True)["training"]
    assert int(next(iter(content["optimizer"]["state"].values()))["step"]) == 2
    said = json.loads((out / "run.json").read_text())
    assert said["settings"]["batch_size"] == 2 and said["settings"]["lr"] > 0
    assert said["machine"]["versions"]["torch"] and said["revision"]
    pictures = sorted((out / "examples").iterdir())
    assert [picture.name for picture in pictures] == ["004.png", "005.png"]
    assert Image.open(pictures[0]).size == (2 * 32, 24)  # truth and prediction
    assert np.asarray(Image.open(pictures[0])).std() > 0


def test_the_revision_is_known_with_and_without_a_checkout(monkeypatch):
    assert artifacts.revision()
    monkeypatch.setattr(artifacts, "checkout", lambda: None)
    assert artifacts.revision().startswith("version 0")
