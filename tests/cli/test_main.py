"""The command line from end to end on a small folder of pictures."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from toys import CLASSES, Toy, flags, write_folder

from seglib.cli.main import main
from seglib.cli.settings import TrainSettings, read_settings
from seglib.data import read_mask

NAMES = ",".join(CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "toy"
    assert main(["train", *flags(folder), "--out", str(out)]) == 0
    return out


def test_train_writes_its_files_and_resumes(folder, trained, capsys):
    assert {p.name for p in trained.iterdir()} == {
        "best.pt",
        "last.pt",
        "history.csv",
        "history.png",
        "run.json",
        "examples",
    }
    assert main(["train", *flags(folder), "--out", str(trained), "--resume"]) == 0
    assert "best epoch" in capsys.readouterr().out
    assert main(["train", *flags(folder), "--out", str(trained)]) == 1
    assert "--resume" in capsys.readouterr().err


def test_train_with_another_loss_and_resumes_with_the_same_only(folder, tmp_path, capsys):
    out = str(tmp_path / "dice")
    dice = flags(folder, loss="cross-entropy+dice", epochs=1)
    assert main(["train", *dice, "--out", out]) == 0
    assert main(["train", *dice, "--out", out, "--resume"]) == 0
    capsys.readouterr()
    assert main(["train", *flags(folder, epochs=1), "--out", out, "--resume"]) == 1
    assert "loss" in capsys.readouterr().err
    assert main(["train", *flags(folder, loss="dise"), "--out", str(tmp_path / "no")]) == 1
    assert "did you mean 'dice'" in capsys.readouterr().err


def test_a_recipe_and_flags_mean_the_same(folder, tmp_path):
    recipe = tmp_path / "toy.toml"
    recipe.write_text('epochs = 7\nlr = 1e-2\nzoom = [0.5, 2]\nbase_channels = 8\nmodel = "unet"\n')
    by_file = read_settings(recipe, {})
    by_flags = read_settings(
        None, {"epochs": "7", "lr": "1e-2", "zoom": "0.5,2", "base_channels": "8"}
    )
    assert by_file == by_flags
    assert by_file.options == {"base_channels": 8} and by_file.zoom == (0.5, 2.0)
    assert read_settings(recipe, {"epochs": "9"}).epochs == 9
    assert read_settings(None, {}) == TrainSettings()


def test_evaluate_scores_the_split_and_its_groups(folder, trained, tmp_path, capsys):
    where = ["--data", "folder", "--root", str(folder)]
    report = tmp_path / "scores.json"
    assert (
        main(["evaluate", str(trained / "best.pt"), *where, "--per_group", "--json", str(report)])
        == 0
    )
    found = json.loads(report.read_text())
    assert set(found) == {"all", "009", "010"}
    support = np.sum([found[group]["support"] for group in ("009", "010")], axis=0)
    assert found["all"]["support"] == support.tolist()
    # 24×32 pixels less two void rows, twice
    assert sum(found["all"]["support"]) == 2 * 22 * 32
    assert "stripe" in capsys.readouterr().out


def test_predict_writes_overlay_and_labels_at_the_photos_size(folder, trained, tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.fromarray(Toy(9).read(5)[0]).resize((97, 61)).save(photo)
    out = tmp_path / "out"
    images = [str(photo), str(folder / "val" / "images")]
    assert main(["predict", str(trained / "best.pt"), *images, "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 2 * 4
    assert Image.open(out / "photo_overlay.png").size == (97, 61)
    labels = read_mask(out / "photo_labels.png", CLASSES)
    assert labels.shape == (61, 97) and set(np.unique(labels)) <= {0, 1, 2}


def test_check_tells_a_sound_folder_from_a_faulty_one(folder, tmp_path, capsys):
    where = ["check", "--images", str(folder / "train" / "images"), "--masks"]
    assert main([*where, str(folder / "train" / "masks"), "--classes", NAMES]) == 0
    assert "no problems" in capsys.readouterr().out
    assert main([*where, str(folder / "train" / "masks"), "--classes", "ground,box"]) == 1
    assert "label 2" in capsys.readouterr().out


def test_check_reports_all_kinds_of_problems_at_once(folder, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(folder / "train", copy)
    (copy / "masks" / "000.png").unlink()
    (copy / "images" / "001.png").unlink()
    (copy / "images" / "002.png").write_bytes((copy / "images" / "002.png").read_bytes()[:300])
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(copy / "masks" / "003.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(copy / "masks" / "004.png")
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(copy / "masks" / "005.jpg")
    by_folders = ["--images", str(copy / "images"), "--masks", str(copy / "masks")]
    by_root = ["--data", "folder", "--root", str(tmp_path), "--split", "copy"]
    assert main(["check", *by_folders, "--classes", NAMES]) == 1
    shown = capsys.readouterr().out
    assert main(["check", *by_root, "--classes", NAMES]) == 1
    assert capsys.readouterr().out == shown
    assert "4 images checked: 6 problems" in shown and "JPEG masks (005.jpg)" in shown
    for part in (
        "000.png is without a mask",
        "001.png is without an image",
        "002.png",
        "label 77",
        "004.png is 5×5",
    ):
        assert part in shown


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
    words = ["check", "--images", str(tmp_path / "images"), "--classes", "ground,road", "--masks"]
    for given in (
        [str(tmp_path / "masks"), "--palette", str(tmp_path / "colours.txt")],
        [str(tmp_path / "binary"), "--label_map", "255:1"],
    ):
        assert main([*words, *given]) == 0
        road = next(line for line in capsys.readouterr().out.splitlines() if "road" in line)
        assert road.split()[1:3] == ["8", "33.33%"]
    assert main([*words, str(tmp_path / "binary")]) == 1
    assert "--label_map 255:1" in capsys.readouterr().out


def test_exercises_are_listed_with_lesson_and_outcome(capsys):
    from seglib.exercises import lessons

    assert main(["exercises"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("lesson ")] == [
        f"lesson {lesson.number}" for lesson in lessons()
    ]
    for lesson in lessons():
        for name, exercise in lesson.exercises.items():
            at = lines.index(f"  ex.{name} ({exercise.kind}): {exercise.title}")
            assert lines[at + 1] == f"      tests: {lesson.outcomes[exercise.outcome]}"


def test_doctor_and_version(capsys):
    assert main(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0


@pytest.mark.data
@pytest.mark.slow
def test_camvid_from_the_command_line(datasets, tmp_path, capsys):
    out = tmp_path / "run"
    settings = {
        "root": datasets,
        "train_split": "dev",
        "val_split": "dev",
        "height": 24,
        "width": 32,
        "epochs": 1,
        "base_channels": 4,
        "depth": 2,
    }
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    assert main(["train", *words, "--out", str(out)]) == 0
    checkpoint, root = str(out / "best.pt"), ["--root", str(datasets)]
    report = tmp_path / "scores.json"
    assert main(["evaluate", checkpoint, *root, "--per_group", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert {name: found[name]["images"] for name in found} == {
        "all": 233,
        "0001TP": 62,
        "Seq05VD": 171,
    }
    assert main(["evaluate", checkpoint, *root, "--data", "ultrasound"]) == 1
    assert "was trained for 11 classes" in capsys.readouterr().err
