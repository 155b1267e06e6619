"""The command line from end to end on a small folder of pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toys import CLASSES, Toy, flags, words, write_folder

from seglib import exercises
from seglib.cli import score
from seglib.cli.main import main
from seglib.cli.settings import MODEL_OPTIONS, TrainSettings, read_settings, setting_names
from seglib.cli.train import choose_workers
from seglib.data import read_image, read_mask
from seglib.data.colours import STREET_PALETTE
from seglib.engine.checkpoints import DataSpec, load_checkpoint, load_model, save_checkpoint
from seglib.inference import predict
from seglib.models import UNet, available_models, model_options
from seglib.transforms import eval_transform

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


def test_names_of_classes_stay_whole(tmp_path):
    """In a recipe with a BOM, in quotes, and on lines of their own; two ways to say the same."""
    recipe = tmp_path / "names.toml"
    recipe.write_text('classes = ["wall, partition", "door"]\nepochs = 3', encoding="utf-8-sig")
    names, settings = ("wall, partition", "door"), read_settings(recipe, {})
    assert (settings.classes, settings.epochs) == (names, 3)
    for text in ('"wall, partition",door', '"wall, partition"\ndoor\n', '"wall, partition" , door'):
        assert read_settings(None, {"classes": text}).classes == tuple(map(str.strip, names)), text
    assert read_settings(None, {"classes": ""}).classes == ()


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
    names = [*available_models(), "hf:segformer"]
    options = {option for name in names for option in model_options(name)}
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
        (["--backbone=resnet18"], "no setting 'backbone' of unet; the model backbone_unet has it"),
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


def test_predict_says_what_it_found_and_how_sure_it_is(folder, trained, tmp_path, capsys):
    photo, out = folder / "val" / "images" / "006.png", tmp_path / "out"
    assert main(["predict", str(trained / "best.pt"), str(photo), "--out", str(out)]) == 0
    labels = np.asarray(Image.open(out / "006_labels.png"))
    counts = sorted(((np.sum(labels == i) / labels.size, -i) for i in range(3)), reverse=True)
    found = ", ".join(f"{CLASSES[-i]} {100 * share:.0f} %" for share, i in counts if share)
    model = load_model(trained / "best.pt")
    with torch.no_grad():
        logits = model(eval_transform(24, 32)(read_image(photo), labels)[0][None])
    chances = logits.exp() / logits.exp().sum(1, keepdim=True)
    line = f"006.png: {found} · mean confidence {chances.max(1).values.mean():.2f}\n"
    assert capsys.readouterr().out.startswith(line)

    labels = np.repeat(np.arange(7, dtype=np.uint8), [1, 20, 30, 2, 40, 300, 7])
    shares = score.shares(labels.reshape(20, 20), tuple("abcdefg"))
    assert shares == "f 75 %, e 10 %, c 8 %, b 5 %, 3 more 2 %"


def test_the_checkpoint_that_is_carried_has_a_name(folder, tmp_path, capsys):
    photo = str(folder / "val" / "images" / "006.png")
    assert main(["predict", "streets", photo, "--out", str(tmp_path)]) == 0
    assert "006.png: " in capsys.readouterr().out
    weights = Path(__file__).parents[2] / "data" / "weights" / "streets_deeplabv3plus.pt"
    data = load_checkpoint(weights)
    expected = predict(data.model, photo, data.data.size)
    drawn = Image.open(tmp_path / "006_labels.png")
    assert np.array_equal(np.asarray(drawn), expected)
    ours = STREET_PALETTE.tolist()  # of today: the file was written with earlier colours
    assert np.reshape(drawn.getpalette(), (-1, 3))[:11].tolist() == ours != [*data.data.palette]
    assert main(["evaluate", "streets", "--root", str(folder), "--classes", NAMES]) == 1
    assert "streets was trained for 11 classes (Sky, Building, " in capsys.readouterr().err
    assert main(["predict", "street", photo, "--out", str(tmp_path)]) == 1
    assert "the course brings along: streets, imagenet+streets" in capsys.readouterr().err


def test_predict_goes_on_and_leaves_out_what_is_its_own(folder, trained, tmp_path, capsys):
    photos = tmp_path / "photos"
    shutil.copytree(folder / "val" / "images", photos)  # 006.png, 007.png, 008.png
    (photos / "._006.png").write_bytes(b"\0\5\x16\7")
    (photos / "broken.png").write_bytes((photos / "006.png").read_bytes()[:300])
    command = ["predict", str(trained / "best.pt"), "--out", str(photos)]
    assert main([*command, str(photos)]) == 1
    heard = capsys.readouterr()
    assert "3 of 4" in heard.out and "broken.png" in heard.err and heard.err.count("\n") == 1
    (photos / "broken.png").unlink()
    shown = {f"00{i}_{kind}.png" for i in (6, 7, 8) for kind in ("overlay", "labels")}
    made = {path.name for path in photos.iterdir()}
    assert made == shown | {"006.png", "007.png", "008.png", "._006.png"}
    for places in ([photos], [photos / "*.png"], sorted(photos.glob("[0-9]*"))):
        assert main([*command, *map(str, places)]) == 0
        assert "3 photo(s)" in capsys.readouterr().out
        assert {path.name for path in photos.iterdir()} == made
    twice = [str(photos / "006.png"), str(photos / ".." / "photos" / "006.png")]
    assert main([*command, *twice]) == 0 and "1 photo(s)" in capsys.readouterr().out


def test_predict_asks_for_a_normalisation_that_nobody_knows(tmp_path, capsys):
    photo, model = tmp_path / "photo.png", tmp_path / "model.pt"
    Image.fromarray(Toy(9).read(5)[0]).save(photo)
    net = UNet(3, base_channels=4, depth=1).eval()
    save_checkpoint(model, net, DataSpec(CLASSES, mean=None, std=None))
    command = ["predict", str(model), str(photo), "--out", str(tmp_path)]
    assert main(command) == 1 and "--mean R,G,B and --std R,G,B" in capsys.readouterr().err
    assert main([*command, "--mean", "-0.1,0,0.5", "--std=1,1,2"]) == 0
    expected = predict(net, read_image(photo), None, (-0.1, 0, 0.5), (1, 1, 2))
    assert np.array_equal(read_mask(tmp_path / "photo_labels.png"), expected)


def test_evaluate_reads_masks_as_the_training_did(folder, tmp_path, capsys):
    """Masks of 0 and 255 once more, whose label_map only the training was told."""
    root, scores = tmp_path / "pairs", tmp_path / "scores.json"
    shutil.copytree(folder, root)
    for path in root.rglob("masks/*.png"):
        Image.fromarray(np.uint8(np.asarray(Image.open(path)) == 1) * 255).save(path)
    told = [*flags(root, classes="ground,box", epochs=1), "--label_map", "255:1"]
    assert main(["train", *told, "--out", str(tmp_path / "run")]) == 0
    assert "void: 0.0% of train and 0.0% of val" in capsys.readouterr().out
    command = ["evaluate", str(tmp_path / "run" / "best.pt"), "--root", str(root)]
    assert main([*command, "--json", str(scores)]) == 0
    boxes = sum(int((np.asarray(Image.open(p)) > 0).sum()) for p in root.glob("test/masks/*.png"))
    assert json.loads(scores.read_text())["all"]["support"] == [2 * 24 * 32 - boxes, boxes]
    assert "label_map 255:1, as in training" in capsys.readouterr().out
    assert main([*command, "--label_map", "none"]) == 1  # as they are: one label, and void


def test_a_root_with_images_is_a_folder(folder, tmp_path, capsys):
    given = [word for word in flags(folder, epochs=1) if word not in ("--data", "folder")]
    assert main(["train", *given, "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith("folder: 6 images")
    assert main(["check", "--root", str(folder), "--split", "val", "--classes", NAMES]) == 0
    assert "3 images checked" in capsys.readouterr().out


def test_val_is_read_before_the_first_step(folder, tmp_path, capsys):
    root, out = tmp_path / "pairs", tmp_path / "run"
    shutil.copytree(folder, root)
    Image.fromarray(np.full((24, 32), 7, np.uint8)).save(root / "val" / "masks" / "008.png")
    assert main(["train", *flags(root), "--out", str(out)]) == 1
    assert "008.png has label 7" in capsys.readouterr().err and not list(out.iterdir())


def test_home_and_what_was_run_before(folder, tmp_path, monkeypatch, capsys):
    """~ is the home folder, a refused run changes no file, --extend trains on."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # (Windows)
    recipe = tmp_path / "toy.toml"
    (tmp_path / "pairs").symlink_to(folder)
    recipe.write_text('root = "~/pairs"\ndata = "folder"')
    given = [word for word in flags(folder, epochs=1) if word not in ("--root", str(folder))]
    command = ["train", "~/toy.toml", *given, "--out=~/run"]
    assert main(command) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert main(command) == 1 and main([*command[:-1], "--out=~/run", "--resume", "--lr=1"]) == 1
    assert before == {path: path.read_bytes() for path in before}
    longer = [
        "2" if word == "1" and command[i - 1] == "--epochs" else word
        for i, word in enumerate(command)
    ]
    assert main([*longer, "--resume"]) == 1 and "--extend" in capsys.readouterr().err
    assert main([*longer, "--extend"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["epochs"] == 2


def test_an_error_that_nobody_foresaw_is_one_line_without_debug(monkeypatch, capsys):
    def fail(options):
        raise KeyError("LOCAL_RANK\nand more")

    monkeypatch.setattr("seglib.cli.data.exercises", fail)
    assert main(["exercises"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("seglib exercises: KeyError: ") and said.count("\n") == 1
    assert "--debug" in said
    for given in (["--debug", "exercises"], ["exercises", "--debug"]):
        assert main(given) == 1 and "Traceback" in capsys.readouterr().err


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


def test_exercises_doctor_and_version(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("seglib.util.paths.checkout", lambda: None)  # (no reader's progress)
        assert main(["exercises"]) == 0 and capsys.readouterr().out == exercises.table() + "\n"
    assert main(["doctor"]) == 0 and "torch" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0


@pytest.mark.data
@pytest.mark.slow
def test_camvid_from_the_command_line(datasets, tmp_path, capsys):
    out, root = tmp_path / "run", ["--root", str(datasets)]
    splits = {"train_split": "fit", "val_split": "dev", "height": 24, "width": 32, "epochs": 1}
    given = [*root, *words(**splits, base_channels=4, depth=2), "--out", str(out)]
    assert main(["train", *given]) == 0
    checkpoint, report = str(out / "best.pt"), tmp_path / "scores.json"
    assert main(["evaluate", checkpoint, *root, "--per_group", "--json", str(report)]) == 0
    found = {name: scores["images"] for name, scores in json.loads(report.read_text()).items()}
    assert found == {"all": 233, "0001TP": 62, "Seq05VD": 171}
    assert main(["evaluate", checkpoint, *root, "--data", "ultrasound"]) == 1
    assert "was trained for 11 classes" in capsys.readouterr().err
