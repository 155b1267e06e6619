"""Bad input and the message it gets: what was found, what was expected, how to mend it.

(Downloads, and set-up without Python, network or disk, have tests of their own:
test_download.py, test_bootstrap.py.)
"""

import contextlib
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import Toy, tiny_model, tiny_run

from seglib import course
from seglib.cli.main import main
from seglib.cli.settings import read_settings
from seglib.data import CamVid, FolderDataset, make_loader
from seglib.engine.checkpoints import load_checkpoint, load_model, save_checkpoint
from seglib.inference import predict
from seglib.losses import CrossEntropyLoss, class_weights
from seglib.metrics import ConfusionMatrix
from seglib.models import UNet, create_model
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform, train_transform

GREY, PHOTO = np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)
BIG, COLOUR = np.full((8, 8), 12, np.uint8), np.full((8, 8, 3), (128, 64, 128), np.uint8)
LOGITS, TARGET = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
EVAL = eval_transform(4, 4)


# ---------------------------------------------------------------- ways to go wrong


def pairs(folder: Path, image: Any = PHOTO, mask: Any = GREY, name="a", kind="png", classes=2):
    """A folder with one image and one mask, as arrays or raw bytes."""
    for part, content in (("images", image), ("masks", mask)):
        (folder / part).mkdir(exist_ok=True, parents=True)
        if isinstance(content, bytes):
            (folder / part / f"{name}.png").write_bytes(content)
        elif content is not None:
            suffix = kind if part == "masks" else "png"
            Image.fromarray(content).save(folder / part / f"{name}.{suffix}")
    names = ["road", "car", "car"][:classes]
    return FolderDataset(folder / "images", folder / "masks", names)


def truncated() -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()[:4000]


def unet(classes: int = 3, depth: int = 1) -> UNet:
    return UNet(classes, base_channels=4, depth=depth)


def checkpoint(folder: Path, model: Any = None) -> Path:
    save_checkpoint(folder / "model.pt", model or unet())
    return folder / "model.pt"


def file(folder: Path, content: Any) -> Path:
    """A file of this text, or these bytes, or with this saved by torch."""
    path = folder / "a.pt"
    if isinstance(content, str | bytes):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    else:
        torch.save(content, path)
    return path


def train(model: Any, folder: Path | None = None, data: Any = Toy, **options: Any) -> None:
    loaders = [make_loader(data(n, eval_transform(24, 32)), 2, shuffle=n > 2) for n in (6, 2)]
    fit(model, *loaders, epochs=1, out=folder, **options)


class Spoiled(Toy):
    """Image 3 holds a value that is no number, as a faulty conversion leaves it."""

    def __getitem__(self, key):
        image, mask = super().__getitem__(key)
        if key.__index__() == 3:
            image[0, 0, 0] = float("nan")
        return image, mask


class Full:
    def __getstate__(self):
        raise OSError(28, "No space left on device")


def full_disk(path: Path) -> None:
    save_checkpoint(path, tiny_model(), training={"x": Full()})


def twice(folder: Path, **changed: Any) -> None:
    tiny_run(folder)
    tiny_run(folder, **changed)


def command(words: str) -> None:
    """Run a command; turn its message on stderr, one line, into an exception."""
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
        code = main(words.split())
    assert code == 1 and heard.getvalue().count("\n") == 1, heard.getvalue()
    raise ValueError(heard.getvalue().strip())


def zero_and_255(folder: Path) -> None:
    for split in ("train", "val"):
        pairs(folder / split, mask=np.eye(8, dtype=np.uint8) * 255)
    command(f"train --data folder --root {folder} --classes sky,bird --out {folder}/run")


def two_photos(f: Path) -> None:
    for kind in ("png", "jpg"):
        Image.fromarray(PHOTO).save(f / f"a.{kind}")
    command(f"predict {checkpoint(f)} {f} --out {f}/out")


def profile(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGLIB_PROFILE", name)
        course.setup({}, {})


def cm(prediction: Any, target: Any, classes: int = 3) -> None:
    ConfusionMatrix(classes).update(torch.as_tensor(prediction), torch.as_tensor(target))


CHECK = "check --images a --masks b --classes x,y"
# what is wrong: (what is done, in an empty folder f; parts of the message in their order)
TABLE = {
    # folders of pictures
    "image without a mask": (lambda f: (pairs(f), pairs(f, mask=None, name="b")), "b.png"),
    "mask without an image": (lambda f: (pairs(f), pairs(f, image=None, name="b")), "b.png"),
    "folder without masks": (lambda f: pairs(f, mask=None), "no masks"),
    "folder that is not there": (
        lambda f: FolderDataset(f / "x", f / "y", ["a"]),
        "no folder /x … check the path",
    ),
    "empty folder": (lambda f: pairs(f, image=None, mask=None), "no image"),
    "mask of another size": (lambda f: pairs(f, mask=GREY[:4])[0], "8×8 … 4×8 … equal sizes"),
    "truncated image": (
        lambda f: pairs(f, image=truncated())[0],
        "cannot read /images/a.png (4000 bytes) … truncated",
    ),
    "file that is no image": (
        lambda f: pairs(f, image=b"hello")[0],
        "cannot read /images/a.png (5 bytes) … expected a whole picture",
    ),
    "label out of range": (
        lambda f: pairs(f, mask=BIG)[0],
        "label 12 at 64 pixels … 2 classes … ignore_index 255 … remap",
    ),
    "float mask": (lambda f: pairs(f, mask=GREY / np.float32(1), kind="tif")[0], "float … labels"),
    "colour mask without a palette": (lambda f: pairs(f, mask=COLOUR)[0], "colour … palette"),
    "JPEG mask": (lambda f: pairs(f, kind="jpg"), "JPEG … PNG"),
    "class named twice": (lambda f: pairs(f, classes=3), "car … twice"),
    # public data sets
    "data set that is not there": (
        lambda f: CamVid("train", root=f),
        "camvid … python -m seglib download camvid",
    ),
    "split that does not exist": (lambda f: CamVid("testing", root=f), "testing … test"),
    # arrays and tensors
    "mask in colours for a transform": (
        lambda f: EVAL(PHOTO, PHOTO),
        "shape (8, 8, 3) … expected integer labels",
    ),
    "sizes of image and mask differ": (lambda f: EVAL(PHOTO, GREY[:4]), "8×8 … 4×8 … equal sizes"),
    "float image": (lambda f: predict(unet(), PHOTO / 255), "float64 … expected uint8"),
    "zoom upside down": (lambda f: train_transform(4, 4, zoom=(2, 1)), "zoom (2, 1) … ≤"),
    "image too small for the depth": (
        lambda f: unet(depth=4)(torch.zeros(1, 3, 8, 8)),
        "8×8 … depth 4 … needs 16",
    ),
    "weights by an unknown method": (
        lambda f: class_weights(SimpleNamespace(pixels=[1, 2]), "medain"),
        "'medain' … did you mean 'median'",
    ),
    "prediction out of range": (lambda f: cm([[5]], [[0]]), "prediction has label 5 … 3 classes"),
    "truth out of range": (lambda f: cm([[0]], [[7]]), "target has label 7 … ignore_index is 255"),
    "float labels": (lambda f: cm([[0.0]], [[0]]), "float prediction … must be integers"),
    "shapes that differ": (lambda f: cm([[0, 1]], [[0]]), "(1, 2) … (1, 1) … resize"),
    "logits of another class count": (
        lambda f: cm(torch.zeros(1, 4, 2, 2), TARGET),
        "4 classes … counts 3",
    ),
    # models and checkpoints
    "unknown model": (lambda f: create_model("unett", 3), "'unett' … did you mean 'unet'"),
    "mistyped option of a model": (
        lambda f: create_model("unet", 3, base_chanels=8),
        "'base_chanels' … did you mean 'base_channels'",
    ),
    "checkpoint that is not there": (lambda f: load_model(f / "no.pt"), "no checkpoint … --out"),
    "damaged checkpoint": (
        lambda f: load_model(file(f, checkpoint(f).read_bytes()[:1000])),
        "1000 bytes … cannot be read as a checkpoint … use another copy",
    ),
    "text file for a checkpoint": (lambda f: load_model(file(f, "a text")), "a.pt (6 bytes)"),
    "checkpoint without its parts": (
        lambda f: load_model(file(f, {"format": "seglib-1"})),
        "lacks … model … damaged",
    ),
    "checkpoint of a model of one's own": (
        lambda f: load_model(checkpoint(f, tiny_model())),
        "Sequential, which is not one of this library's … model=…",
    ),
    "foreign checkpoint": (
        lambda f: load_model(file(f, tiny_model().state_dict())),
        "bare state dict of 9 tensors … load_state_dict",
    ),
    "checkpoint of a later version": (
        lambda f: load_model(file(f, {"format": "seglib-9"})),
        "'seglib-9' … 'seglib-1' … update",
    ),
    "wrong class count against a checkpoint": (
        lambda f: load_checkpoint(checkpoint(f), unet(5)),
        "3 classes … head … leave model out",
    ),
    # training
    "model and data of different class counts": (
        lambda f: train(unet(5)),
        "predicts 5 classes … data set has 3 … num_classes=3",
    ),
    "loss that is not a number": (
        lambda f: train(tiny_model(), f, Spoiled),
        "loss is nan at batch … of epoch 1 … toy_003.jpg … images hold values",
    ),
    "loss that explodes": (
        lambda f: tiny_run(f, lr=1e30, schedule="constant"),
        "loss is … toy_00 … lower lr … take bf16 where amp is fp16",
    ),
    "epochs = 0": (lambda f: tiny_run(f, epochs=0), "epochs=0 … above 0"),
    "accumulate = 0": (lambda f: tiny_run(f, accumulate=0), "accumulate=0 … above 0"),
    "negative seed": (lambda f: tiny_run(f, seed=-1), "seed=-1 … from 0 up"),
    "unknown schedule": (lambda f: tiny_run(f, schedule="one_cycle"), "did you mean 'onecycle'"),
    "unknown precision": (lambda f: tiny_run(f, amp="bf61"), "did you mean 'bf16'"),
    "batch larger than nothing": (lambda f: make_loader(Toy(0), 2), "empty"),
    "batch size 0": (lambda f: make_loader(Toy(3), 0), "batch_size is 0"),
    "out is a file": (lambda f: tiny_run(file(f, "")), "cannot make the folder … another out"),
    "disk full while saving": (
        lambda f: full_disk(f / "a.pt"),
        "could not write … No space left … unharmed",
    ),
    "void label of data and call differ": (
        lambda f: train(tiny_model(), ignore_index=0),
        "data set has ignore_index 255 … here it is 0 … to all",
    ),
    "void label of loss and call differ": (
        lambda f: train(tiny_model(), loss=CrossEntropyLoss(ignore_index=0)),
        "loss has ignore_index 0 … here it is 255",
    ),
    "out holds a run": (twice, "holds a run already … --resume"),
    "resumed with another learning rate": (
        lambda f: twice(f, resume=True, lr=0.5),
        "lr was 0.01, now it is 0.5 … old value",
    ),
    "evaluating nothing": (lambda f: evaluate(tiny_model(), []), "no batch"),
    # settings and command line (its flags: tests/cli/test_main.py)
    "recipe that is no TOML": (lambda f: read_settings(file(f, "lr: 3"), {}), "not valid TOML"),
    "masks of 0 and 255 for training": (zero_and_255, "void … --label_map 255:1"),
    "label map that is none": (
        lambda f: command(f"{CHECK} --label_map 255=1"),
        "'255=1' … such as 255:1",
    ),
    "file of colours that is none": (
        lambda f: command(f"{CHECK} --palette no.txt"),
        "no.txt … 128 64 128 road",
    ),
    "two photos of one name": (two_photos, "would both become a_overlay.png"),
    "unknown data set": (
        lambda f: command(f"train --data camvit --out {f}/r"),
        "'camvit' … did you mean 'camvid'",
    ),
    "unknown loss": (
        lambda f: command(f"train --data streets --loss dise --out {f}/r"),
        "'dise' … did you mean 'dice'",
    ),
    "device that is not here": (
        lambda f: command(f"predict {checkpoint(f)} x.jpg --out {f} --device gpu"),
        "'gpu' … expected auto, cpu … --device cpu",
    ),
    "photo that is not there": (
        lambda f: command(f"predict {checkpoint(f)} {f}/x.jpg --out {f}"),
        "no file /x.jpg",
    ),
    "profile that does not exist": (lambda f: profile("lit"), "'lit' … did you mean 'lite'"),
    "profiles with different settings": (lambda f: course.setup({"a": 1}, {"b": 1}), "a, b"),
}


@pytest.mark.parametrize("what", TABLE)
def test_bad_input(what, tmp_path):
    action, told = TABLE[what]
    with pytest.raises((ValueError, OSError, FloatingPointError)) as caught:
        action(tmp_path)
    message = rest = str(caught.value).replace(str(tmp_path), "")  # (its name repeats the row's)
    for part in told.split(" … "):
        assert part in rest, f"{part!r} is missing in: {message}"
        rest = rest.partition(part)[2]
    assert "Traceback" not in message and len(message) < 700


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path):
    path = checkpoint(tmp_path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="unharmed"):
        full_disk(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


class Bomb(CrossEntropyLoss):
    """Gives NaN after five calls."""

    left = 5

    def forward(self, logits, target):
        self.left -= 1
        return super().forward(logits, target) * (1 if self.left >= 0 else float("nan"))


def test_a_nan_loss_leaves_the_last_checkpoint_whole(tmp_path):
    with pytest.raises(FloatingPointError):
        tiny_run(tmp_path, epochs=6, loss=Bomb())
    assert load_checkpoint(tmp_path / "last.pt", tiny_model()).training["rows"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=r"cannot be written; choose another out"):
        tiny_run(tmp_path / "run")
