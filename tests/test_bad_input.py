"""Bad input and the message it gets: what was found, what was expected, how to fix it.

(Folders, pictures and masks: tests/data/. Set-up: test_bootstrap.py. Flags: cli/test_main.py.)
"""

import contextlib
import datetime
import io
import os
import struct
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset
from torchvision.transforms.functional import to_tensor
from toys import Toy, flags, tiny_model, tiny_run, write_folder

from seglib import course
from seglib.cli.main import main
from seglib.cli.settings import read_settings
from seglib.data import CamVid, FolderDataset, Scans, make_loader, read_image, read_mask
from seglib.data.colours import read_palette
from seglib.engine import distributed
from seglib.engine.checkpoints import DataSpec, load_checkpoint, load_model, save_checkpoint
from seglib.inference import predict
from seglib.losses import CrossEntropyLoss, class_weights
from seglib.metrics import ConfusionMatrix
from seglib.models import UNet, create_model
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform, train_transform

LINE = Image.fromarray(np.array([[(0, 0, 0), (255, 0, 0), (255, 0, 0)]], np.uint8))
GREY, PHOTO = np.zeros((4, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)
LOGITS, TARGET = torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
EVAL_24 = eval_transform(24, 32)
NOW = datetime.datetime(2026, 1, 2)
EVAL, PIXELS = eval_transform(4, 4), SimpleNamespace(pixels=[1, 2])


def unet(classes=3, depth=1):
    return UNet(classes, base_channels=4, depth=depth)


def checkpoint(folder, model=None):
    data = DataSpec(mean=(0, 0, 0), std=(1, 1, 1))
    save_checkpoint(folder / "model.pt", model or unet(), data)
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


def saved(folder, content, **options):
    """A picture called a.png, whatever its format."""
    picture = content if isinstance(content, Image.Image) else Image.fromarray(content)
    picture.save(folder / "a.png", **options)
    return folder / "a.png"


def bands(folder, number, colours):
    """A TIFF of a single pixel with so many bands; `colours` 1 is grey, 2 RGB."""
    data, extra = bytes(8), number - (3 if colours == 2 else 1)
    short = [(256, 1), (257, 1), (258, *[8] * number), (262, colours), (273, 8), (277, number)]
    entries, tail, start = b"", b"", 16 + 2 + 12 * (len(short) + 1) + 4
    for tag, *values in [*short, (338, *[0] * extra)]:
        raw = struct.pack(f"<{len(values)}H", *values)
        if len(raw) > 4:
            raw, tail = struct.pack("<I", start + len(tail)), tail + raw
        entries += struct.pack("<HHI4s", tag, 3, len(values), raw)
    head = struct.pack("<2sHI", b"II", 42, 16) + data + struct.pack("<H", len(short) + 1)
    return file(folder, head + entries + bytes(4) + tail)


def teach(folder, classes, label_map="0:0"):
    for kind, array in (("images", PHOTO[:4]), ("masks", GREY)):
        (folder / kind).mkdir()
        saved(folder / kind, array)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        words = f"check --images {folder}/images --masks {folder}/masks --classes {classes}"
        assert main([*words.split(), "--label_map", label_map]) == 1
    raise ValueError(told.getvalue())


def zero_and_255(folder):
    for path in write_folder(folder).rglob("masks/*.png"):
        Image.fromarray(np.uint8(np.asarray(Image.open(path)) == 1) * 255).save(path)
    command(f"train --data folder --root {folder} --classes sky,bird --out {folder}/run")


def recipe(folder, content):
    path = folder / "toy.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read_settings(path, {})


def mined(folder):
    """To train on six toys."""
    return " ".join(["train", *flags(write_folder(folder / "pairs")), f"--out {folder}/run"])


def scans_model(folder):
    save_checkpoint(folder / "model.pt", unet(), DataSpec.of(Scans("val", transform=EVAL)))
    return folder / "model.pt"


def class_twice(folder):
    pairs = write_folder(folder) / "train"
    FolderDataset(pairs / "images", pairs / "masks", ["road", "car", "car"])


def two_photos(folder):
    for kind in ("png", "jpg"):
        Image.fromarray(PHOTO).save(folder / f"a.{kind}")
    command(f"predict {checkpoint(folder)} {folder} --out {folder}/out")


class Handed(Toy):
    """Toys as other people hand them over: `change` makes a sample of image, mask and index."""

    def __init__(self, change, count=6):
        super().__init__(count, eval_transform(24, 32))
        self.change = change

    def __getitem__(self, key):
        return self.change(*super().__getitem__(key), int(key))


class Answer(torch.nn.Module):
    """A network whose logits `change` turns into what it returns."""

    def __init__(self, change, classes=3):
        super().__init__()
        self.head, self.change = torch.nn.Conv2d(3, classes, 1), change

    def forward(self, images):
        return self.change(self.head(images))


def handed(change, model=None, use=fit, **options):
    """Train or evaluate on samples of another kind."""
    loader = make_loader(Handed(change), 2, shuffle=use is fit)
    use(model or unet(), loader, **({"epochs": 1} if use is fit else {}), **options)


def answered(change, classes=3, use=fit):
    """The same for a network that answers otherwise, and in `predict`."""
    model = Answer(change, classes)
    predict(model, PHOTO) if use is predict else handed(lambda x, y, i: (x, y), model, use)


def foreign(transform, split="train"):
    """A folder's data set under a transform of the reader's own."""
    return lambda f: fit(
        unet(), make_loader(folder_set(f, split, transform), 2, shuffle=True), epochs=1
    )


def folder_set(folder, split, transform=EVAL_24, classes=("ground", "box", "stripe"), **options):
    root = folder / "d" if (folder / "d").exists() else write_folder(folder / "d")
    return FolderDataset(
        root / split / "images", root / split / "masks", classes, transform=transform, **options
    )


def wrong_val(folder):
    """Label 7 in the masks of val: said before the first step."""
    train_set, val_set = folder_set(folder, "train"), folder_set(folder, "val")
    path = val_set.files[1][1]
    Image.fromarray(np.full((24, 32), 7, np.uint8)).save(path)
    never = Answer(lambda logits: pytest.fail("a step was made"))
    fit(never, make_loader(train_set, 2, shuffle=True), make_loader(val_set, 2), epochs=1)


def labelled(label_map, use=fit, **options):
    """A folder whose labels `label_map` has changed."""

    def run(folder):
        data = folder_set(folder, "train", label_map=label_map)
        model, loader = unet(), make_loader(data, 2, shuffle=use is fit)
        use(model, loader, **({"epochs": 1} if use is fit else {}), **options)

    return run


def not_a_number(logits):
    return torch.where(logits == logits.max(), float("nan"), logits)


def same(x, y, i):
    return x, y


def profile(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGLIB_PROFILE", name)
        course.setup({}, {})


def cm(prediction, target, classes=3):
    ConfusionMatrix(classes).update(torch.as_tensor(prediction), torch.as_tensor(target))


CHECK, STREETS = "check --images a --masks b --classes x,y", "train --data streets --loss dise"
MINE = "train --data folder --root x --out no_such_folder"
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
    # nothing to learn or to measure (A)
    "one class only … num_classes=2 … label_map={255: 1}": lambda f: fit(
        unet(1), make_loader(folder_set(f, "train", classes=["lesion"]), 2), epochs=1
    ),
    "found one class only … background as a class": lambda f: evaluate(
        unet(1), [(torch.rand(1, 3, 8, 8), torch.zeros(1, 8, 8).long())]
    ),
    "found one class only": lambda f: answered(lambda x: x, 1, predict),
    "masks to train on all pixels are void … label_map": labelled({0: 255, 1: 255, 2: 255}),
    "masks to train on the only label is 0 … transform": labelled({1: 0, 2: 0}),
    "masks to evaluate on all pixels are void": labelled({0: 255, 1: 255, 2: 255}, evaluate),
    "masks to evaluate on the only label is 1 … two classes": labelled({0: 1, 2: 1}, evaluate),
    "mask 007.png has label 7 at 768 pixels": wrong_val,
    "masks to validate all pixels are void": lambda f: fit(
        unet(),
        make_loader(folder_set(f, "train"), 2),
        make_loader(folder_set(f, "val", label_map={0: 255, 1: 255, 2: 255}), 2),
        epochs=1,
    ),
    "labels (2, 24, 32) of torch.float32 … 0.0039 is no label: ToTensor": foreign(
        lambda i, m: (to_tensor(i), to_tensor(m)[0])
    ),
    "the only label is 0 … look at the masks, the transform": foreign(
        lambda i, m: (to_tensor(i), torch.from_numpy(m * 0).long())
    ),
    "float64 … whole numbers (N, H, W) … from_numpy(mask).long()": lambda f: handed(
        lambda x, y, i: (x, y.double()), use=evaluate
    ),
    # NaN, and what is unknown (D, E)
    "NaN in the logits of 1 pixels … bf16 or float32": lambda f: cm(
        torch.tensor([0.0, float("nan"), 1.0]).reshape(1, 3, 1, 1), [[[0]]]
    ),
    "found NaN in the logits … expected numbers": lambda f: answered(not_a_number, use=evaluate),
    "found NaN … look for NaN in the images": lambda f: answered(not_a_number, use=predict),
    "were normalised; pass mean and std": lambda f: predict(unet(), PHOTO, mean=None),
    "how the images of this model's training were normalised": lambda f: predict(
        unet(), PHOTO, std=None
    ),
    # loaders, models and losses of others (F)
    "returned a tuple [(2, 3, 24, 32), (2, 3, 24, 32)] … (2, 3, 24, 32) … alone": lambda f: (
        answered(lambda x: (x, x))
    ),
    "returned a list [(2, 3, 24, 32)] … as 'out'": lambda f: answered(lambda x: [x], use=evaluate),
    "returned a tuple … for images (1, 3, 8, 8)": lambda f: answered(lambda x: (x, x), use=predict),
    "returned a tuple ['masks', 'boxes']": lambda f: answered(lambda x: {"masks": x, "boxes": x}),
    "returned a Tensor [(2, 3)] … expected float logits": lambda f: answered(
        lambda x: x.mean((2, 3)), use=evaluate
    ),
    "returned a Tensor … float logits (N, C, H, W)": lambda f: answered(lambda x: x.argmax(1)),
    "(2, 3, 12, 16) for a target (2, 24, 32) … let forward resize": lambda f: answered(
        lambda x: x[:, :, ::2, ::2]
    ),
    "a dict of image, mask as batch … return (image, mask)": lambda f: handed(
        lambda x, y, i: {"image": x, "mask": y}
    ),
    "dict of pixels, labels": lambda f: handed(
        lambda x, y, i: {"pixels": x, "labels": y}, use=evaluate
    ),
    "of Tensor, Tensor, tuple … nothing else": lambda f: handed(lambda x, y, i: (x, y, "name")),
    "a Tensor of Tensor as batch … (images, labels)": lambda f: evaluate(
        unet(), [torch.rand(1, 3, 8, 8)]
    ),
    "images of 1 channel(s), but the model takes 3 … in_channels=1": lambda f: handed(
        lambda x, y, i: (x[:1], y)
    ),
    "images of 4 channel(s) … in_channels=4": lambda f: handed(
        lambda x, y, i: (torch.cat([x, x[:1]]), y), use=evaluate
    ),
    "images of 3 channel(s), but the model takes 1": lambda f: predict(
        UNet(3, in_channels=1, base_channels=4, depth=1), PHOTO
    ),
    "[3, 24, 32] at entry 0 … expected tensors of one size … batch_size=1": lambda f: handed(
        lambda x, y, i: (x[:, i % 2 :], y[i % 2 :]), use=evaluate
    ),
    "found <class 'PIL.Image.Image'> … transform=eval_transform": lambda f: handed(
        lambda x, y, i: (Image.fromarray(PHOTO), y)
    ),
    "(2, 24, 32, 3) of torch.uint8 … transform=eval_transform(height, width)": foreign(None),
    "labels (2, 1, 24, 32) … (N, H, W) … take mask[0]": lambda f: handed(
        lambda x, y, i: (x, y[None])
    ),
    "loss=<class 'torch.nn.modules.loss.CrossEntropyLoss'> … with its brackets": lambda f: handed(
        same, loss=torch.nn.CrossEntropyLoss
    ),
    "loss='dice' … a module": lambda f: handed(same, loss="dice"),
    "no parameter that learns … unfreeze": lambda f: handed(same, unet().requires_grad_(False)),
    "learns: all are frozen, or there are none": lambda f: handed(same, torch.nn.Identity()),
    "(1, 3, 4, 4), of which a BatchNorm sees one value … batch_size=2": lambda f: fit(
        unet(depth=2), [(torch.rand(1, 3, 4, 4), torch.eye(4).long()[None])], epochs=1
    ),
    "image mode=RGBA … a picture of mode RGB": lambda f: predict(unet(), Image.new("RGBA", (8, 8))),
    "found [[0, 0]], expected a path": lambda f: predict(unet(), [[0, 0]]),
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
    "found <class 'torch.nn.modules.activation.ReLU'> as the model": lambda f: evaluate(
        torch.nn.ReLU, []
    ),
    "found <function … nn.Module": lambda f: evaluate(print_nothing, []),
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
    # command line: lists, numbers, files, unused flags (kinds E, G, H, J, K)
    "empty entry in classes = 'a,b,' … comma": lambda f: command(f"{MINE} --classes a,b,"),
    "empty entry in classes = 'a,,b'": lambda f: command(f"{MINE} --classes a,,b"),
    "empty entry in classes = ' ,x'": lambda f: recipe(f, 'classes = [" ", "x"]'),
    "classes = 3, expected a list in order": lambda f: recipe(f, "classes = 3"),
    "classes = {'sky': 0} … list in order": lambda f: recipe(f, "classes = {sky = 0}"),
    "{'sky'} … list in order": lambda f: read_settings(None, {"classes": {"sky"}}),
    "classes = 1, expected text": lambda f: recipe(f, "classes = [1, 2]"),
    "no recipe thing … one word: a,b": lambda f: command(f"{MINE} thing --classes background,"),
    "found 'b' … a list hold a space": lambda f: command("check --classes a, b"),
    "'0:1,0:2' … none twice": lambda f: command(f"{CHECK} --label_map 0:1,0:2"),
    "no folder a": lambda f: command(f"{CHECK} --label_map -1:255"),
    "found colour = -1.0 … from 0 to 10": lambda f: command(f"{MINE} --colour -1"),
    "found colour = 50.0 … from 0 to 10": lambda f: command(f"{MINE} --colour 50"),
    "found workers = -1 … from 0": lambda f: command(f"{MINE} --workers -1"),
    "found seed = 99999999999999999999 … from 0 to 9223372036854775807": lambda f: recipe(
        f, "seed = 99999999999999999999"
    ),
    "epochs = 10000000000000000000 … below 2^63": lambda f: recipe(f, "epochs = 1" + 19 * "0"),
    "lr = 1000 … a number": lambda f: recipe(f, "lr = 1" + 400 * "0"),
    "lr = nan … finite": lambda f: recipe(f, "lr = nan"),
    "lr=-0.001 … above 0": lambda f: command(f"{mined(f)} --lr -1e-3"),
    "weight_decay = -1.0": lambda f: command(f"{MINE} --weight_decay -1"),
    "label_smoothing = 2.0 … from 0 to 1": lambda f: command(f"{MINE} --label_smoothing 2"),
    "toy.toml is not valid TOML … UTF-8": lambda f: recipe(f, "lr = 1".encode("utf-16")),
    "found --classes, but streets brings its own … --data folder": lambda f: command(
        f"train --data streets --classes a,b --out {f}"
    ),
    "found --label_map, but scans": lambda f: command("check --data scans --label_map 1:0"),
    "--images and --masks need no --root": lambda f: command(f"{CHECK} --root {f}"),
    "6 of 6 images of train are in train too … val_split": lambda f: command(
        f"{mined(f)} --val_split train"
    ),
    "alpha = 7.0 … from 0 to 1": lambda f: command(f"predict m.pt a.png --out {f} --alpha 7"),
    "the URL https://a.org/b.jpg; download": lambda f: command(
        f"predict {checkpoint(f)} https://a.org/b.jpg --out {f}"
    ),
    "*.jpg holds no image": lambda f: command(f"predict {checkpoint(f)} {f}/*.jpg --out {f}"),
    "mean = (0.5,), expected R,G,B": lambda f: command(
        f"predict {checkpoint(f)} x.jpg --out {f} --mean 0.5"
    ),
    "std = (0.0, 1.0, 1.0) … above 0": lambda f: command(
        f"predict {checkpoint(f)} x.jpg --out {f} --std 0,1,1"
    ),
    "batch_size = 'x', expected a whole number": lambda f: command(
        f"evaluate {scans_model(f)} --data scans --batch_size x"
    ),
    "'lit' … did you mean 'lite'": lambda f: profile("lit"),
    "a, b": lambda f: course.setup({"a": 1}, {"b": 1}),  # (profiles of different settings)
    # B: what a picture file holds, whatever its name
    "a HEIC photo … export": lambda f: read_image(file(f, b"\0\0\0\x18ftypheic")),
    "HEIC … JPEG or PNG": lambda f: read_mask(file(f, b"\0\0\0\x18ftypmif1")),
    "a DICOM file … PNG": lambda f: read_image(file(f, bytes(128) + b"DICM")),
    "a NumPy array … Image.fromarray": lambda f: read_mask(file(f, b"\x93NUMPY")),
    "Git LFS … git lfs pull": lambda f: read_image(file(f, "version https://git-lfs.github.com")),
    "HTML … download": lambda f: read_image(file(f, "<!doctype html>")),
    "a PDF … PNG": lambda f: read_image(file(f, "%PDF-1.7")),
    "cannot read … (0 bytes) … whole picture": lambda f: read_mask(file(f, b"")),
    "TIFF of 5 bands … expected a whole picture": lambda f: read_image(bands(f, 5, 1)),
    "5 bands … only 3 would be read": lambda f: read_image(bands(f, 5, 2)),
    "4 bands … only 3 would be read": lambda f: read_mask(bands(f, 4, 2)),
    "3 pages or frames": lambda f: read_image(
        saved(f, GREY, format="TIFF", save_all=True, append_images=[LINE, LINE])
    ),
    "2 pages or frames … one page": lambda f: read_mask(
        saved(f, GREY, format="PNG", save_all=True, append_images=[Image.fromarray(GREY + 1)])
    ),
    "none is above 4095 … 12 bits … 0–65535": lambda f: read_image(
        saved(f, np.full((2, 2), 4095, np.uint16))
    ),
    "floating-point values … 8-bit PNG": lambda f: read_image(
        saved(f, np.ones((2, 2), np.float32), format="TIFF")
    ),
    "floating-point pixels … uint8": lambda f: read_mask(
        saved(f, np.ones((2, 2), np.float32), format="TIFF")
    ),
    "found JPEG masks (a.png) … again as PNG": lambda f: read_mask(saved(f, GREY, format="JPEG")),
    "JPEG-in-TIFF": lambda f: read_mask(saved(f, GREY, format="TIFF", compression="jpeg")),
    "found WEBP masks": lambda f: read_mask(saved(f, GREY, format="WEBP")),
    "CMYK colours … RGB": lambda f: read_mask(
        saved(f, Image.fromarray(PHOTO).convert("CMYK"), format="TIFF")
    ),
    "colours in LAB … RGB": lambda f: read_image(
        saved(f, Image.frombytes("LAB", (1, 1), b"abc"), format="TIFF")
    ),
    "transparent at 64 pixels": lambda f: read_mask(
        saved(f, Image.new("RGBA", (8, 8), (0, 0, 0, 9)))
    ),
    "a colour picture … palette=": lambda f: read_mask(saved(f, LINE)),
    "colour (255, 0, 0) at 2 pixels … nearest is label 0 a": lambda f: read_mask(
        saved(f, LINE), ["a"], palette=[(200, 0, 0)]
    ),
    "colour (255, 0, 0) … leave it out if the numbers": lambda f: read_mask(
        saved(f, LINE.quantize(2)), palette=[(0, 0, 0)]
    ),
    "number 0 … colour of label 1 (0, 0, 0) … leave it out": lambda f: read_mask(
        saved(f, np.array([[0, 1]], np.uint8)), palette=[(9, 8, 7), (0, 0, 0)]
    ),
    "label 7 at 32 pixels … 2 classes": lambda f: read_mask(saved(f, GREY + 7), ["a", "b"]),
    # K: palettes as text
    "'0 1 2 3 a' … 128 64 128 road": lambda f: read_palette(file(f, "0 1 2 3 a")),
    "it has none": lambda f: read_palette(file(f, "# R G B")),
    "'b' is label 0 there, but 1 in the classes": lambda f: read_palette(
        file(f, "b:1,2,3::"), ["a", "b"]
    ),
    # A: masks that teach nothing
    "one class only, lesion … background,lesion": lambda f: teach(f, "lesion"),
    "all 32 pixels of 1 masks are void": lambda f: teach(f, "a,b", "0:255"),
    "only label in 1 masks is 0 (a)": lambda f: teach(f, "a,b"),
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
