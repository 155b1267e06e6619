"""Bad input and the message it gets: what was found, what was expected, how to mend it.

`python tests/test_bad_input.py` prints the table. (Downloads, and set-up without Python, network
or disk, have tests of their own: test_download.py, test_bootstrap.py.)
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import CLASSES, Toy, tiny_model, tiny_run

from seglib.cli.main import main
from seglib.cli.settings import read_settings
from seglib.course import doctor as course
from seglib.data import CamVid, FolderDataset, make_loader
from seglib.engine.checkpoints import load_checkpoint, load_model, save_checkpoint
from seglib.inference import predict
from seglib.losses import CrossEntropyLoss, class_weights
from seglib.metrics import ConfusionMatrix
from seglib.models import UNet, create_model
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform, train_transform

GREY = np.zeros((8, 8), np.uint8)
PHOTO = np.zeros((8, 8, 3), np.uint8)


# ---------------------------------------------------------------- ways to go wrong


def pairs(folder: Path, image: Any = PHOTO, mask: Any = GREY, name: str = "a") -> FolderDataset:
    """A folder with one image and one mask, as arrays or raw bytes."""
    for kind, content in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(exist_ok=True)
        if isinstance(content, bytes):
            (folder / kind / f"{name}.png").write_bytes(content)
        elif content is not None:
            picture = content if isinstance(content, Image.Image) else Image.fromarray(content)
            suffix = "tif" if picture.mode == "F" else "png"
            picture.save(folder / kind / f"{name}.{suffix}")
    return FolderDataset(folder / "images", folder / "masks", ["road", "car"])


def truncated() -> bytes:
    import io

    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        stream, "PNG"
    )
    return stream.getvalue()[:4000]


def checkpoint(folder: Path, classes: int = 3) -> Path:
    path = folder / "model.pt"
    save_checkpoint(path, UNet(classes, base_channels=4, depth=1))
    return path


def cut_checkpoint(folder: Path) -> Path:
    path = checkpoint(folder)
    path.write_bytes(path.read_bytes()[:1000])
    return path


def foreign_checkpoint(folder: Path) -> Path:
    torch.save(tiny_model().state_dict(), folder / "other.pt")
    return folder / "other.pt"


def future_checkpoint(folder: Path) -> Path:
    torch.save({"format": "seglib-9"}, folder / "future.pt")
    return folder / "future.pt"


def loaders(transform=None, length=6):
    transform = transform or eval_transform(24, 32)
    return make_loader(Toy(length, transform), 2, shuffle=True), make_loader(Toy(2, transform), 2)


def nan_run(folder: Path) -> None:
    class Spoiled(Toy):
        """Image 3 holds a value that is no number, as a faulty conversion leaves it."""

        def __getitem__(self, key):
            image, mask = super().__getitem__(key)
            if key.__index__() == 3:
                image[0, 0, 0] = float("nan")
            return image, mask

    fit(
        tiny_model(),
        make_loader(Spoiled(6, eval_transform(24, 32)), 2, shuffle=True),
        epochs=1,
        out=folder,
    )


def unwritable(folder: Path) -> None:
    (folder / "file").write_text("a file where a folder should be")
    tiny_run(folder / "file")


def full_disk(path: Path) -> None:
    class Full:
        def __getstate__(self):
            raise OSError(28, "No space left on device")

    save_checkpoint(path, tiny_model(), training={"x": Full()})


def other_run(folder: Path, **changed: Any) -> None:
    tiny_run(folder)
    tiny_run(folder, resume=True, **changed)


def command(*words: str) -> None:
    """Run a command; turn its message on stderr into an exception."""
    import contextlib
    import io

    heard = io.StringIO()
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(words))
    assert code == 1 and heard.getvalue().count("\n") == 1, heard.getvalue()
    raise SystemExit(heard.getvalue().strip())


def zero_and_255(folder: Path) -> None:
    for split in ("train", "val"):
        (folder / split).mkdir()
        pairs(folder / split, mask=np.eye(8, dtype=np.uint8) * 255)
    command(
        "train",
        "--data",
        "folder",
        "--root",
        str(folder),
        "--classes",
        "sky,bird",
        "--out",
        str(folder / "run"),
    )


def two_photos(folder: Path) -> None:
    for kind in ("png", "jpg"):
        Image.fromarray(PHOTO).save(folder / f"a.{kind}")
    command("predict", str(checkpoint(folder)), str(folder), "--out", str(folder / "out"))


def profile(name: str) -> None:
    before = os.environ.get("SEGLIB_PROFILE")
    os.environ["SEGLIB_PROFILE"] = name
    try:
        course.profile()
    finally:
        os.environ.pop("SEGLIB_PROFILE")
        if before:
            os.environ["SEGLIB_PROFILE"] = before


def cm(prediction: Any, target: Any, classes: int = 3) -> None:
    ConfusionMatrix(classes).update(torch.as_tensor(prediction), torch.as_tensor(target))


LOGITS, TARGET = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
BIG = np.full((8, 8), 12, np.uint8)
COLOUR = np.full((8, 8, 3), (128, 64, 128), np.uint8)

# what is wrong | what is done, in an empty folder f | parts of the message
TABLE = [
    # folders of pictures
    (
        "image without a mask",
        lambda f: (pairs(f), pairs(f, mask=None, name="b")),
        ["b.png", "no mask|without|partner"],
    ),
    (
        "mask without an image",
        lambda f: (pairs(f), pairs(f, image=None, name="b")),
        ["b.png", "no image|without|partner"],
    ),
    ("folder without masks", lambda f: pairs(f, mask=None), ["no masks", "holds nothing"]),
    (
        "folder that is not there",
        lambda f: FolderDataset(f / "x", f / "y", ["a"]),
        ["no folder …/x", "check the path"],
    ),
    ("empty folder", lambda f: pairs(f, image=None, mask=None), ["no image", "images"]),
    (
        "mask of another size",
        lambda f: pairs(f, mask=np.zeros((4, 8), np.uint8))[0],
        ["8×8", "4×8", "expected equal sizes"],
    ),
    (
        "truncated image",
        lambda f: pairs(f, image=truncated())[0],
        ["cannot read …/images/a.png \\(4000 bytes\\)", "truncated"],
    ),
    (
        "file that is no image",
        lambda f: pairs(f, image=b"hello")[0],
        ["cannot read …/images/a.png \\(5 bytes\\)", "expected a whole picture"],
    ),
    (
        "label out of range",
        lambda f: pairs(f, mask=BIG)[0],
        ["label 12 at 64 pixels", "2 classes", "ignore_index 255", "remap"],
    ),
    (
        "float mask",
        lambda f: pairs(f, mask=Image.fromarray(np.zeros((8, 8), np.float32)))[0],
        ["float", "integer|whole|labels"],
    ),
    ("colour mask without a palette", lambda f: pairs(f, mask=COLOUR)[0], ["colour", "palette"]),
    (
        "JPEG mask",
        lambda f: (
            (f / "images").mkdir(),
            (f / "masks").mkdir(),
            Image.fromarray(PHOTO).save(f / "images" / "a.png"),
            Image.fromarray(GREY).save(f / "masks" / "a.jpg"),
            FolderDataset(f / "images", f / "masks", ["a"]),
        ),
        ["JPEG", "PNG"],
    ),
    (
        "class named twice",
        lambda f: (pairs(f), FolderDataset(f / "images", f / "masks", ["road", "road"])),
        ["road", "twice"],
    ),
    # public data sets
    (
        "data set that is not there",
        lambda f: CamVid("train", root=f),
        ["camvid", "python -m seglib download camvid"],
    ),
    ("split that does not exist", lambda f: CamVid("testing", root=f), ["testing", "test"]),
    # arrays and tensors
    (
        "mask in colours for a transform",
        lambda f: eval_transform(4, 4)(PHOTO, PHOTO),
        ["shape \\(8, 8, 3\\)", "expected integer labels"],
    ),
    (
        "sizes of image and mask differ",
        lambda f: eval_transform(4, 4)(PHOTO, GREY[:4]),
        ["8×8", "4×8", "expected equal sizes"],
    ),
    (
        "float image",
        lambda f: predict(UNet(2, base_channels=4), PHOTO / 255.0),
        ["float64", "expected uint8", "read_image"],
    ),
    ("zoom upside down", lambda f: train_transform(4, 4, zoom=(2, 1)), ["zoom \\(2, 1\\)", "≤"]),
    (
        "image too small for the depth",
        lambda f: UNet(2, base_channels=4)(torch.zeros(1, 3, 8, 8)),
        ["8×8", "depth 4", "needs 16"],
    ),
    (
        "target that is not int64",
        lambda f: CrossEntropyLoss()(LOGITS, TARGET.int()),
        ["torch.int32", "target.long\\(\\)"],
    ),
    (
        "target of another size",
        lambda f: CrossEntropyLoss()(LOGITS, TARGET[:, :1]),
        ["\\(1, 3, 2, 2\\)", "\\(1, 1, 2\\)", "expected"],
    ),
    (
        "label beyond the logits",
        lambda f: CrossEntropyLoss()(LOGITS, TARGET + 7),
        ["label 7", "4 pixels", "3 classes"],
    ),
    (
        "wrong number of class weights",
        lambda f: CrossEntropyLoss(torch.ones(2))(LOGITS, TARGET),
        ["2 class weights", "3 classes"],
    ),
    (
        "weights by an unknown method",
        lambda f: class_weights(SimpleNamespace(pixels=[1, 2], image_pixels=[3, 3]), "medain"),
        ["'medain'", "did you mean 'median'"],
    ),
    (
        "prediction out of range",
        lambda f: cm([[5]], [[0]]),
        ["prediction has label 5", "3 classes"],
    ),
    (
        "truth out of range",
        lambda f: cm([[0]], [[7]]),
        ["target has label 7", "ignore_index is 255"],
    ),
    ("float labels", lambda f: cm([[0.0]], [[0]]), ["float prediction", "must be integers"]),
    ("shapes that differ", lambda f: cm([[0, 1]], [[0]]), ["\\(1, 2\\)", "\\(1, 1\\)", "resize"]),
    (
        "logits of another class count",
        lambda f: cm(torch.zeros(1, 4, 2, 2), TARGET),
        ["4 classes", "counts 3"],
    ),
    # models and checkpoints
    ("unknown model", lambda f: create_model("unett", 3), ["'unett'", "did you mean 'unet'"]),
    (
        "mistyped option of a model",
        lambda f: create_model("unet", 3, base_chanels=8),
        ["'base_chanels'", "did you mean 'base_channels'"],
    ),
    ("checkpoint that is not there", lambda f: load_model(f / "no.pt"), ["no checkpoint", "--out"]),
    (
        "damaged checkpoint",
        lambda f: load_model(cut_checkpoint(f)),
        ["1000 bytes", "cannot be read as a checkpoint", "use another copy"],
    ),
    (
        "text file for a checkpoint",
        lambda f: ((f / "t.pt").write_text("this is text"), load_model(f / "t.pt")),
        ["t.pt \\(12 bytes\\)"],
    ),
    (
        "checkpoint without its parts",
        lambda f: (torch.save({"format": "seglib-1"}, f / "a.pt"), load_model(f / "a.pt")),
        ["lacks model"],
    ),
    (
        "checkpoint of a model of one's own",
        lambda f: (save_checkpoint(f / "a.pt", tiny_model()), load_model(f / "a.pt")),
        ["Sequential, which is not one of this library's", "model=…"],
    ),
    (
        "foreign checkpoint",
        lambda f: load_model(foreign_checkpoint(f)),
        ["bare state dict of \\d+ tensors", "load_state_dict"],
    ),
    (
        "checkpoint of a later version",
        lambda f: load_model(future_checkpoint(f)),
        ["'seglib-9'", "'seglib-1'", "update"],
    ),
    (
        "wrong class count against a checkpoint",
        lambda f: load_checkpoint(checkpoint(f, 3), UNet(5, base_channels=4, depth=1)),
        ["3 classes", "head", "leave model out"],
    ),
    # training
    (
        "model and data of different class counts",
        lambda f: fit(UNet(5, base_channels=4, depth=1), *loaders(), epochs=1),
        ["predicts 5 classes", "data set has 3", "num_classes=3"],
    ),
    (
        "loss that is not a number",
        nan_run,
        ["loss is nan at batch \\d of epoch 1", "toy_003.jpg", "images hold values"],
    ),
    (
        "loss that explodes",
        lambda f: tiny_run(f, lr=1e30, schedule="constant"),
        ["loss is (nan|inf)", "toy_00", "lower lr", "take bf16 where amp is fp16"],
    ),
    ("epochs = 0", lambda f: tiny_run(f, epochs=0), ["epochs=0", "above 0"]),
    ("unknown schedule", lambda f: tiny_run(f, schedule="one_cycle"), ["did you mean 'onecycle'"]),
    ("batch larger than nothing", lambda f: make_loader(Toy(0), 2), ["empty"]),
    ("batch size 0", lambda f: make_loader(Toy(3), 0), ["batch_size is 0"]),
    ("out is a file", unwritable, ["cannot make the folder", "choose another out"]),
    (
        "disk full while saving",
        lambda f: full_disk(f / "a.pt"),
        ["could not write", "No space left", "unharmed"],
    ),
    (
        "void label of data and call differ",
        lambda f: fit(tiny_model(), *loaders(), epochs=1, ignore_index=0),
        ["data set has ignore_index 255", "here it is 0", "to all"],
    ),
    (
        "void label of loss and call differ",
        lambda f: fit(tiny_model(), *loaders(), epochs=1, loss=CrossEntropyLoss(ignore_index=0)),
        ["loss has ignore_index 0", "here it is 255"],
    ),
    ("negative seed", lambda f: tiny_run(f, seed=-1), ["seed=-1", "from 0 up"]),
    ("out holds a run", lambda f: (tiny_run(f), tiny_run(f)), ["holds a run already", "--resume"]),
    (
        "resumed with another learning rate",
        lambda f: other_run(f, lr=0.5),
        ["lr was 0.01, now it is 0.5", "old value"],
    ),
    ("evaluating nothing", lambda f: evaluate(tiny_model(), []), ["no batch"]),
    # settings and command line
    (
        "mistyped setting",
        lambda f: command("train", "--epcohs", "3", "--out", str(f / "r")),
        ["'epcohs'", "did you mean 'epochs'"],
    ),
    (
        "setting of the wrong type",
        lambda f: read_settings(None, {"epochs": "many"}),
        ["epochs = 'many'", "whole number such as 20"],
    ),
    (
        "recipe that is no TOML",
        lambda f: ((f / "r.toml").write_text("epochs: 3"), read_settings(f / "r.toml", {})),
        ["not valid TOML"],
    ),
    (
        "flag without a value",
        lambda f: command("train", "--lr", "--out", str(f / "r")),
        ["--lr has no value"],
    ),
    ("masks of 0 and 255 for training", lambda f: zero_and_255(f), ["--label_map 255:1", "void"]),
    (
        "label map that is none",
        lambda f: command(
            "check", "--images", "a", "--masks", "b", "--classes", "x,y", "--label_map", "255=1"
        ),
        ["'255=1'", "such as 255:1"],
    ),
    (
        "file of colours that is none",
        lambda f: command(
            "check", "--images", "a", "--masks", "b", "--classes", "x,y", "--palette", "no.txt"
        ),
        ["no.txt", "128 64 128 road"],
    ),
    ("two photos of one name", lambda f: two_photos(f), ["would both become a_overlay.png"]),
    (
        "unknown data set",
        lambda f: command("train", "--data", "camvit", "--out", str(f / "r")),
        ["'camvit'", "did you mean 'camvid'"],
    ),
    (
        "device that is not here",
        lambda f: command(
            "predict", str(checkpoint(f)), "x.jpg", "--out", str(f), "--device", "gpu"
        ),
        ["'gpu'", "expected auto, cpu", "--device cpu"],
    ),
    (
        "photo that is not there",
        lambda f: command("predict", str(checkpoint(f)), str(f / "x.jpg"), "--out", str(f)),
        ["x.jpg", "no such|not there|no file|does not exist|there is no"],
    ),
    ("profile that does not exist", lambda f: profile("lit"), ["'lit'", "did you mean 'lite'"]),
    ("profiles with different settings", lambda f: course.setup({"a": 1}, {"b": 1}), ["a, b"]),
]


def provoke(action: Any, folder: Path) -> str:
    with pytest.raises((ValueError, OSError, FloatingPointError, SystemExit)) as caught:
        action(folder)
    return str(caught.value).replace(str(folder), "…")  # (its name repeats the row's)


def test_the_table_is_long_enough_and_names_each_row_once():
    assert len(TABLE) >= 30 and len({row[0] for row in TABLE}) == len(TABLE)
    assert Toy.classes == CLASSES


@pytest.mark.parametrize(("what", "action", "parts"), TABLE, ids=[row[0] for row in TABLE])
def test_bad_input(what, action, parts, tmp_path):
    message = provoke(action, tmp_path)
    for part in parts:
        assert re.search(part, message), f"{part!r} is missing in: {message}"
    assert "Traceback" not in message and len(message) < 700


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path):
    path = checkpoint(tmp_path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="unharmed"):
        full_disk(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_nan_loss_leaves_the_last_checkpoint_whole(tmp_path):
    with pytest.raises(FloatingPointError):
        tiny_run(tmp_path, epochs=6, loss=Bomb(after=5))
    assert load_checkpoint(tmp_path / "last.pt", tiny_model()).training["rows"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=r"cannot be written; choose another out"):
        tiny_run(tmp_path / "run")


class Bomb(CrossEntropyLoss):
    """Gives NaN after some calls."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def forward(self, logits, target):
        self.left -= 1
        return super().forward(logits, target) * (1 if self.left >= 0 else float("nan"))


if __name__ == "__main__":
    import tempfile

    print("| bad input | message |\n|---|---|")
    for what, action, _ in TABLE:
        with tempfile.TemporaryDirectory() as name:
            text = provoke(action, Path(name)).replace(name, "…").replace("|", "\\|")
        print(f"| {what} | {text} |")
    sys.exit()
