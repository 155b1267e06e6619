"""The command line from end to end on a small folder of pictures."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from toys import CLASSES, Toy, flags, words, write_folder

from seglib import exercises
from seglib.cli.main import main
from seglib.cli.settings import MODEL_OPTIONS, TrainSettings, read_settings, setting_names
from seglib.cli.train import choose_workers
from seglib.data import read_mask
from seglib.models import UNet, available_models, model_options

NAMES = ",".join(CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a space in its path, which shells and parsers trip over."""
    return write_folder(tmp_path_factory.mktemp("my photos"))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "toy"
    assert main(["train", *flags(folder), "--out", str(out)]) == 0
    return out


def test_a_recipe_and_flags_mean_the_same(tmp_path):
    recipe = tmp_path / "toy.toml"
    recipe.write_text(
        'epochs = 7\nlr = 1e-2\nzoom = [0.5, 2]\nbase_channels = 8\nmodel = "unet"\ncache = "none"'
    )
    flags = {"epochs": "7", "lr": "1e-2", "zoom": "0.5,2", "base_channels": "8", "cache": "none"}
    settings = read_settings(recipe, {})
    assert settings == read_settings(None, flags)
    assert settings.options == {"base_channels": 8} and settings.zoom == (0.5, 2.0)
    assert settings.cache is None and read_settings(recipe, {"cache": "2GB"}).cache == "2GB"
    assert read_settings(recipe, {"epochs": "9"}).epochs == 9
    assert read_settings(None, {}) == TrainSettings()
    assert (TrainSettings().cache, TrainSettings().workers) == ("auto", "auto")
    assert choose_workers(torch.device("cpu")) == 0 < choose_workers(torch.device("cuda")) <= 8


def test_none_switches_off_what_can_be():
    off = ("clip", "patience", "amp", "ema", "backbone_lr", "class_weights", "pretrained", "cache")
    settings = read_settings(None, dict.fromkeys(off, "none"))
    assert [getattr(settings, name) for name in off] == [None] * len(off)
    assert read_settings(None, {"clip": "0.5", "workers": "2"}).clip == 0.5
    for name, found, what in (
        ("epochs", "none", "a whole number"),
        ("compile", "none", "true or false"),
        ("clip", "off", "a number or none"),
        ("workers", "all", "a whole number or auto"),
    ):
        with pytest.raises(ValueError, match=f"{name} = '{found}', expected {what}"):
            read_settings(None, {name: found})


def test_help_knows_every_setting_and_every_models_options(capsys):
    options = {option for name in available_models() for option in model_options(name)}
    assert set(MODEL_OPTIONS) == options and len(MODEL_OPTIONS) == len(options)
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert not [name for name in (*setting_names(), *options) if f"--{name} " not in said]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--epoch", "3"], "no setting 'epoch'; did you mean 'epochs'"),  # (3 is no recipe)
        (["--batchsize=3"], "no setting 'batchsize'; did you mean 'batch_size'"),
        (["toy.toml", "epochs=3"], "found 'epochs=3', expected --key value"),
        (["--lr"], "--lr"),
        (["--lr", "1", "--lr", "2"], "--lr is given twice"),
        (["--batch_size", "1", "--batch-size", "2"], "--batch-size is given twice"),
    ],
    ids=str,
)
def test_flags_that_cannot_be_meant(tmp_path, capsys, given, said):
    try:
        code = main(["train", *given, "--out", str(tmp_path / "run")])
    except SystemExit as usage:
        code = usage.code
    assert code in (1, 2) and said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_train_writes_its_files_and_resumes(folder, trained, capsys):
    files = {"best.pt", "last.pt", "history.csv", "history.png", "run.json", "examples"}
    assert {path.name for path in trained.iterdir()} == files
    given = ["train", *flags(folder), "--out", str(trained)]
    assert main([*given, "--resume"]) == 0 and "best epoch" in capsys.readouterr().out
    assert main(given) == 1 and "--resume" in capsys.readouterr().err


def test_train_with_another_loss_and_resumes_with_the_same_only(folder, tmp_path, capsys):
    end = ["--out", str(tmp_path / "dice")]
    for loss, *more in (["cross-entropy+dice"], ["cross-entropy+dice", "--resume"]):
        assert main(["train", *flags(folder, loss=loss, epochs=1), *end, *more]) == 0
    assert main(["train", *flags(folder, epochs=1), *end, "--resume"]) == 1
    assert "loss" in capsys.readouterr().err


def test_evaluate_scores_the_split_and_its_groups(folder, trained, tmp_path, capsys, monkeypatch):
    seen, forward = [], UNet.forward
    monkeypatch.setattr(
        UNet, "forward", lambda self, images: (seen.append(len(images)), forward(self, images))[1]
    )
    where, report = ["--data", "folder", "--root", str(folder)], tmp_path / "scores.json"
    best = str(trained / "best.pt")
    assert main(["evaluate", best, *where, "--per_group", "--json", str(report)]) == 0
    assert seen == [2]  # each image once
    found = json.loads(report.read_text())
    assert set(found) == {"all", "009", "010"} and "stripe" in capsys.readouterr().out
    support = np.sum([found[group]["support"] for group in ("009", "010")], axis=0)
    assert found["all"]["support"] == support.tolist()
    assert sum(found["all"]["support"]) == 2 * 22 * 32  # 24×32 pixels less two void rows, twice


def test_predict_writes_overlay_and_labels_at_the_photos_size(folder, trained, tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(Toy(9).read(5)[0]).resize((97, 61)).save(photo)
    out, images = tmp_path / "out", [str(photo), str(folder / "val" / "images")]
    assert main(["predict", str(trained / "best.pt"), *images, "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 2 * 4
    assert Image.open(out / "photo_overlay.png").size == (97, 61)
    labels = read_mask(out / "photo_labels.png", CLASSES)
    assert labels.shape == (61, 97) and set(np.unique(labels)) <= {0, 1, 2}


def test_check_tells_a_sound_folder_from_a_faulty_one(folder, capsys):
    train = folder / "train"  # (with a space in its path)
    where = ["check", f"--images={train / 'images'}", "--masks", str(train / "masks")]
    assert main([*where, "--classes", NAMES]) == 0 and "no problems" in capsys.readouterr().out
    assert main([*where, "--classes", "ground,box"]) == 1 and "label 2" in capsys.readouterr().out


def test_check_reports_all_kinds_of_problems_at_once(folder, tmp_path, capsys):
    images, masks = tmp_path / "copy" / "images", tmp_path / "copy" / "masks"
    shutil.copytree(folder / "train", tmp_path / "copy")
    (masks / "000.png").unlink()
    (images / "001.png").unlink()
    (images / "002.png").write_bytes((images / "002.png").read_bytes()[:300])
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(masks / "003.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(masks / "004.png")
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(masks / "005.jpg")
    by_folders = ["--images", str(images), "--masks", str(masks)]
    by_root = ["--data", "folder", "--root", str(tmp_path), "--split", "copy"]
    assert main(["check", *by_folders, "--classes", NAMES]) == 1
    shown = capsys.readouterr().out
    assert main(["check", *by_root, "--classes", NAMES]) == 1
    assert capsys.readouterr().out == shown
    told = ["4 images checked: 6 problems", "000.png is without a mask", "001.png is without an i"]
    told += ["002.png", "label 77", "004.png is 5×5", "JPEG masks (005.jpg)"]
    assert [part for part in told if part not in shown] == []


def test_coloured_and_0_255_masks_through_the_command_line(tmp_path, capsys):
    """The remedies that the messages name exist as flags: --palette, --label_map."""
    for kind in ("images", "masks", "binary"):
        (tmp_path / kind).mkdir()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[:, :2] = 128, 64, 128
    Image.fromarray(colours).save(tmp_path / "masks" / "a.png")
    Image.fromarray(colours[..., 0] // 128 * 255).save(tmp_path / "binary" / "a.png")
    (tmp_path / "colours.txt").write_text("0 0 0 ground\n128 64 128 road\n")
    given = ["check", "--images", str(tmp_path / "images"), "--classes", "ground,road", "--masks"]
    palette = ["--palette", str(tmp_path / "colours.txt")]
    for kind, more in (("masks", palette), ("binary", ["--label_map", "255:1"])):
        assert main([*given, str(tmp_path / kind), *more]) == 0
        road = next(line for line in capsys.readouterr().out.splitlines() if "road" in line)
        assert road.split()[1:3] == ["8", "33.33%"]
    assert main([*given, str(tmp_path / "binary")]) == 1
    assert "--label_map 255:1" in capsys.readouterr().out


def test_exercises_doctor_and_version(capsys):
    assert main(["exercises"]) == 0 and capsys.readouterr().out == exercises.table() + "\n"
    assert main(["doctor"]) == 0 and "torch" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0


@pytest.mark.data
@pytest.mark.slow
def test_camvid_from_the_command_line(datasets, tmp_path, capsys):
    out, root = tmp_path / "run", ["--root", str(datasets)]
    splits = {"train_split": "dev", "val_split": "dev", "height": 24, "width": 32, "epochs": 1}
    given = [*root, *words(**splits, base_channels=4, depth=2), "--out", str(out)]
    assert main(["train", *given]) == 0
    checkpoint, report = str(out / "best.pt"), tmp_path / "scores.json"
    assert main(["evaluate", checkpoint, *root, "--per_group", "--json", str(report)]) == 0
    found = {name: scores["images"] for name, scores in json.loads(report.read_text()).items()}
    assert found == {"all": 233, "0001TP": 62, "Seq05VD": 171}
    assert main(["evaluate", checkpoint, *root, "--data", "ultrasound"]) == 1
    assert "was trained for 11 classes" in capsys.readouterr().err
