"""Bad input and the message it gets: what was found, what was expected, how to fix it.

(Folders, pictures and masks: tests/data/. Set-up: test_bootstrap.py. Flags: cli/test_main.py.)
"""

import contextlib
import datetime
import io
import os
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset
from toys import Toy, tiny_model, tiny_run, write_folder

from seglib import course
from seglib.cli.main import main
from seglib.cli.settings import read_settings
from seglib.data import CamVid, FolderDataset, make_loader
from seglib.engine import distributed
from seglib.engine.checkpoints import DataSpec, load_checkpoint, load_model, save_checkpoint
from seglib.inference import predict
from seglib.losses import CrossEntropyLoss, class_weights
from seglib.metrics import ConfusionMatrix
from seglib.models import UNet, create_model
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform, train_transform

GREY, PHOTO = np.zeros((4, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)
LOGITS, TARGET = torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
NOW = datetime.datetime(2026, 1, 2)
EVAL, PIXELS = eval_transform(4, 4), SimpleNamespace(pixels=[1, 2])


def unet(classes=3, depth=1):
    return UNet(classes, base_channels=4, depth=depth)


def checkpoint(folder, model=None):
    save_checkpoint(folder / "model.pt", model or unet())
    return folder / "model.pt"


def file(folder, content):
    """A file of this text, or these bytes, or with this saved by torch."""
    path = folder / "a.pt"
    if isinstance(content, str | bytes):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    else:
        torch.save(content, path)
    return path


def train(model, folder=None, data=Toy, **options):
    loaders = [make_loader(data(n, eval_transform(24, 32)), 2, shuffle=n > 2) for n in (6, 2)]
    fit(model, *loaders, epochs=1, out=folder, **options)


def print_nothing(*_):
    pass


def odd_model(**options):
    model = tiny_model()
    model.options = options
    return model


class Other(Toy):
    classes = ("ground", "box", "line")


def flipped(path):
    """With one bit of a weight the other way round, which torch itself does not notice."""
    content = bytearray(path.read_bytes())
    place = content.find(next(load_model(path).parameters()).detach().numpy().tobytes())
    content[place + 2] ^= 1
    path.write_bytes(content)
    return path


def changed(folder, **entries):
    return torch.load(checkpoint(folder), weights_only=True) | entries


def again(folder, resume=True, keep=None, **options):
    """A run that is over, of which all files but one are lost, is started again."""
    tiny_run(folder)
    for path in folder.iterdir():
        if keep not in (None, path.name):
            path.unlink()
    tiny_run(folder, resume=resume, **options)


def joined(**environment):
    with patch.dict(os.environ, environment), distributed.process_group("cpu"):
        pass


class Spoiled(Toy):
    """Image 3 holds a value that is no number, as a faulty conversion leaves it."""

    def __getitem__(self, key):
        image, mask = super().__getitem__(key)
        if key.__index__() == 3:
            image[0, 0, 0] = float("nan")
        return image, mask


def command(words):
    """Run a command; turn its message on stderr, one line, into an exception."""
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(io.StringIO()):
        code = main(words.split())
    assert code == 1 and heard.getvalue().count("\n") == 1, heard.getvalue()
    raise ValueError(heard.getvalue().strip())


def zero_and_255(folder):
    for path in write_folder(folder).rglob("masks/*.png"):
        Image.fromarray(np.uint8(np.asarray(Image.open(path)) == 1) * 255).save(path)
    command(f"train --data folder --root {folder} --classes sky,bird --out {folder}/run")


def class_twice(folder):
    pairs = write_folder(folder) / "train"
    FolderDataset(pairs / "images", pairs / "masks", ["road", "car", "car"])


def two_photos(folder):
    for kind in ("png", "jpg"):
        Image.fromarray(PHOTO).save(folder / f"a.{kind}")
    command(f"predict {checkpoint(folder)} {folder} --out {folder}/out")


def profile(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGLIB_PROFILE", name)
        course.setup({}, {})


def cm(prediction, target, classes=3):
    ConfusionMatrix(classes).update(torch.as_tensor(prediction), torch.as_tensor(target))


CHECK, STREETS = "check --images a --masks b --classes x,y", "train --data streets --loss dise"
ZERO = CrossEntropyLoss(ignore_index=0)
# parts of the message in their order: what is done to hear it, in an empty folder f
TABLE = {
    # data, arrays and tensors
    "car … twice": class_twice,
    "camvid … python -m seglib download camvid": lambda f: CamVid("train", root=f),
    "shape (8, 8, 3) … expected integer labels": lambda f: EVAL(PHOTO, PHOTO),
    "8×8 … 4×8 … equal sizes": lambda f: EVAL(PHOTO, GREY),
    "float64 … expected uint8": lambda f: predict(unet(), PHOTO / 255),
    "zoom (2, 1) … ≤": lambda f: train_transform(4, 4, zoom=(2, 1)),
    "8×8 … depth 4 … needs 16": lambda f: unet(depth=4)(torch.zeros(1, 3, 8, 8)),
    "'medain' … did you mean 'median'": lambda f: class_weights(PIXELS, "medain"),
    "prediction has label 5 … 3 classes": lambda f: cm([[5]], [[0]]),
    "target has label 7 … ignore_index is 255": lambda f: cm([[0]], [[7]]),
    "float prediction … must be integers": lambda f: cm([[0.0]], [[0]]),
    "(1, 2) … (1, 1) … resize": lambda f: cm([[0, 1]], [[0]]),
    "4 classes … counts 3": lambda f: cm(LOGITS, TARGET),
    # models and checkpoints
    "'unett' … did you mean 'unet'": lambda f: create_model("unett", 3),
    "'base_chanels' … 'base_channels'": lambda f: create_model("unet", 3, base_chanels=8),
    "no checkpoint … --out": lambda f: load_model(f / "no.pt"),
    "1000 bytes … cannot be read as a checkpoint … use another copy": lambda f: load_model(
        file(f, checkpoint(f).read_bytes()[:1000])
    ),
    "a.pt (6 bytes)": lambda f: load_model(file(f, "a text")),
    "lacks … model … damaged": lambda f: load_model(file(f, {"format": "seglib-1"})),
    "Sequential, which is not one of this library's … model=…": lambda f: load_model(
        checkpoint(f, tiny_model())
    ),
    "bare state dict of 9 tensors … load_state_dict": lambda f: load_model(
        file(f, tiny_model().state_dict())
    ),
    "'seglib-9' … 'seglib-1' … update": lambda f: load_model(file(f, {"format": "seglib-9"})),
    "3 classes … head … leave model out": lambda f: load_checkpoint(checkpoint(f), unet(5)),
    # training
    "predicts 5 classes … data set has 3 … num_classes=3": lambda f: train(unet(5)),
    "loss is nan at batch … of epoch 1 … toy_003.jpg … images hold values": lambda f: train(
        tiny_model(), f, Spoiled
    ),
    "loss is … toy_00 … lower lr … take bf16 where amp is fp16": lambda f: tiny_run(
        f, lr=1e30, schedule="constant"
    ),
    "epochs=0 … above 0": lambda f: tiny_run(f, epochs=0),
    "accumulate=0 … above 0": lambda f: tiny_run(f, accumulate=0),
    "seed=-1 … from 0 up": lambda f: tiny_run(f, seed=-1),
    "did you mean 'onecycle'": lambda f: tiny_run(f, schedule="one_cycle"),
    "did you mean 'bf16'": lambda f: tiny_run(f, amp="bf61"),
    "empty": lambda f: make_loader(Toy(0), 2),
    "batch_size is 0": lambda f: make_loader(Toy(3), 0),
    "cannot make the folder … another out": lambda f: tiny_run(file(f, "")),
    "data set has ignore_index 255 … here it is 0 … to all": lambda f: train(
        tiny_model(), ignore_index=0
    ),
    "loss has ignore_index 0 … here it is 255": lambda f: train(tiny_model(), loss=ZERO),
    "no batch": lambda f: evaluate(tiny_model(), []),
    # what a checkpoint cannot hold, or is not (kinds C, E and M), and runs in one's way
    "settings['draw'] is <function … a checkpoint cannot hold … pass": lambda f: tiny_run(
        f, config={"draw": print_nothing}
    ),
    "settings['at'] is datetime … cannot hold": lambda f: tiny_run(f, config={"at": NOW}),
    "settings['a']['b'] is <object … cannot hold": lambda f: tiny_run(
        f, config={"a": {"b": object()}}
    ),
    "settings['norm'] is <class … cannot hold": lambda f: tiny_run(f, model=odd_model(norm=Toy)),
    "training['x'] is <object … cannot hold": lambda f: save_checkpoint(
        f / "a.pt", unet(), training={"x": object()}
    ),
    "classes are {'a': 0} … list of names": lambda f: DataSpec.of(
        SimpleNamespace(classes={"a": 0})
    ),
    "classes are 3 … list of names": lambda f: DataSpec.of(SimpleNamespace(classes=3)),
    "different classes put together": lambda f: DataSpec.of(ConcatDataset([Toy(1), Other(1)])),
    "cannot be read … checksum … another copy": lambda f: load_model(flipped(checkpoint(f))),
    "a.pt is damaged: its options": lambda f: load_model(file(f, changed(f, options=3))),
    "of 40 tensors 40 missing (encoder.0.0.weight, … …), 9 left over (0.weight … …)": lambda f: (
        load_checkpoint(checkpoint(f, tiny_model()), unet())
    ),
    "found pretrained='no.pt', which is no file; expected False … path": lambda f: create_model(
        "unet", 3, pretrained="no.pt"
    ),
    "holds a unet, expected a segnet": lambda f: create_model(
        "segnet", 3, pretrained=checkpoint(f)
    ),
    "found depth=2 … trained with 1; leave depth out": lambda f: create_model(
        "unet", 3, pretrained=checkpoint(f), depth=2
    ),
    "bare state dict of": lambda f: create_model(
        "unet", 3, pretrained=file(f, unet().state_dict())
    ),
    "resume='more', expected True, False or": lambda f: tiny_run(f, resume="more"),
    'epochs was 2, now it is 3 … old value … resume="extend"': lambda f: again(f, epochs=3),
    "epochs was 2, now it is 1 … more than the 2 done": lambda f: again(f, "extend", epochs=1),
    "lr was 0.01, now it is 0.02": lambda f: again(f, "extend", epochs=3, lr=0.02),
    "best.pt of an earlier run, and no last.pt … move it away": lambda f: again(f, keep="best.pt"),
    "'WORLD_SIZE': '2', 'RANK': '' … torchrun … unset": lambda f: joined(WORLD_SIZE="2"),
    "'WORLD_SIZE': 'two' … unset": lambda f: joined(WORLD_SIZE="two", RANK="0", LOCAL_RANK="0"),
    "found a ReLU without parameters": lambda f: evaluate(torch.nn.ReLU(), []),
    "found a function … nn.Module": lambda f: evaluate(print_nothing, []),
    # settings and command line
    "not valid TOML": lambda f: read_settings(file(f, "lr: 3"), {}),
    "255 … --label_map 255:1": zero_and_255,
    "'255=1' … such as 255:1": lambda f: command(f"{CHECK} --label_map 255=1"),
    "no.txt … 128 64 128 road": lambda f: command(f"{CHECK} --palette no.txt"),
    "would both become a_overlay.png": two_photos,
    "'camvit' … did you mean 'camvid'": lambda f: command(f"train --data camvit --out {f}/r"),
    "'dise' … did you mean 'dice'": lambda f: command(f"{STREETS} --out {f}/r"),
    "'gpu' … expected … --device": lambda f: command(
        f"predict {checkpoint(f)} x.jpg --out {f} --device gpu"
    ),
    "no file /x.jpg": lambda f: command(f"predict {checkpoint(f)} {f}/x.jpg --out {f}"),
    "'lit' … did you mean 'lite'": lambda f: profile("lit"),
    "a, b": lambda f: course.setup({"a": 1}, {"b": 1}),  # (profiles of different settings)
}


@pytest.mark.parametrize("told", TABLE)
def test_bad_input(told, tmp_path):
    with pytest.raises((ValueError, OSError, FloatingPointError)) as caught:
        TABLE[told](tmp_path)
    message = rest = str(caught.value).replace(str(tmp_path), "")  # (its name repeats the row's)
    for part in told.split(" … "):
        assert part in rest, f"{part!r} is missing in: {message}"
        rest = rest.partition(part)[2]
    assert "Traceback" not in message and len(message) < 700


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = checkpoint(tmp_path)
    before = path.read_bytes()

    def full(content, handle):
        handle.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not write .*No space left.*unharmed"):
        save_checkpoint(path, tiny_model())
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=r"cannot be written; choose another out"):
        tiny_run(tmp_path / "run")
