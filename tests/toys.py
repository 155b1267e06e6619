"""Small data sets, models and runs for the tests; a module, so that spawned workers can load it."""

import importlib.util
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from seglib.data.loader import SampleKey, make_loader
from seglib.engine.state import epoch_randomness
from seglib.losses import CrossEntropyLoss
from seglib.models import UNet
from seglib.training import fit
from seglib.transforms import eval_transform, train_transform

CLASSES = ("ground", "box", "stripe")
PALETTE = np.array([[90, 90, 90], [220, 60, 60], [60, 60, 220]], dtype=np.uint8)

LANDSCAPE_CLASSES = ("meadow", "lake", "path")
LANDSCAPE_PALETTE = np.array([(60, 120, 60), (30, 60, 180), (250, 140, 20)], np.uint8)

# The smallest Mask2Former; its group normalisation asks for multiples of 32
SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
SWIN |= {"window_size": 4, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
TINY = {"backbone_config": SWIN, "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32}
TINY |= {"num_queries": 5, "decoder_layers": 3, "encoder_layers": 1, "num_attention_heads": 2}
TINY |= {"encoder_feedforward_dim": 16, "dim_feedforward": 16}


@cache
def load_script(path):
    """A script whose name is none of a module, such as 01_half_pixel.py."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def landscape():
    """A photo and a mask (120, 160): meadow with a lake, a thin path, void in a corner."""
    mask = np.zeros((120, 160), np.uint8)
    mask[20:70, 15:105] = 1
    mask[:, 130:134] = 2
    mask[105:, :25] = 255
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8), mask


class Toy:
    """Boxes with a stripe on noisy ground, 24×32, a few void rows; drawn from the index alone."""

    classes, palette, ignore_index, num_classes = CLASSES, PALETTE, 255, 3

    def __init__(self, length: int, transform=None):
        self.length, self.transform = length, transform
        self.files = [(Path(f"toy_{i:03}.jpg"), Path(f"toy_{i:03}.png")) for i in range(length)]

    def __len__(self):
        return self.length

    def read(self, index: int):
        rng = np.random.default_rng(index)
        mask = np.zeros((24, 32), np.uint8)
        top, left = rng.integers(0, 12), rng.integers(0, 16)
        mask[top : top + 12, left : left + 16] = 1
        mask[top + 5 : top + 7, left : left + 16] = 2
        mask[-2:] = 255
        image = PALETTE[np.where(mask == 255, 0, mask)] + rng.integers(0, 30, (24, 32, 3))
        return image.clip(0, 255).astype(np.uint8), mask

    def __getitem__(self, key):
        if key >= self.length:
            raise IndexError(key)
        image, mask = self.read(int(key))
        if self.transform is None:
            return image, mask
        if isinstance(key, SampleKey) and hasattr(self.transform, "pipeline"):
            return self.transform(image, mask, seed=key.derived_seed())
        return self.transform(image, mask)


class Uneven(Toy):
    """Image i keeps about i/6 of its rows; `void` has none at all."""

    void: tuple[int, ...] = ()

    def read(self, index):
        image, mask = super().read(index)
        mask[0 if index in self.void else 3 + 3 * index :] = 255
        return image, mask


class Changed(CrossEntropyLoss):
    """Cross-entropy and something more."""

    def __init__(self, change):
        super().__init__()
        self.change, self.calls = change, 0

    def forward(self, logits, target):
        self.calls += 1
        return self.change(super().forward(logits, target), logits, self.calls)


def write_folder(root: Path, splits=(("train", 6), ("val", 3), ("test", 2))) -> Path:
    """Toy pairs in ROOT/SPLIT/images and masks; no image is in two splits."""
    start = 0
    for split, count in splits:
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i in range(start, start + count):
            image, mask = Toy(100).read(i)
            Image.fromarray(image).save(root / split / "images" / f"{i:03}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{i:03}.png")
        start += count
    return root


def words(**settings: object) -> list[str]:
    """Settings as flags of the command line."""
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def flags(folder: Path, **more: object) -> list[str]:
    """What `seglib train` is told about such a folder."""
    data = {"data": "folder", "root": folder, "classes": ",".join(CLASSES), "height": 24}
    net = {"width": 32, "epochs": 2, "batch_size": 2, "base_channels": 4, "depth": 1}
    return words(**{**data, **net, **more})


def tiny_model():
    """Two convolutions with all that has state or chance: BatchNorm and dropout."""
    torch.manual_seed(7)
    first, norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
    return nn.Sequential(first, norm, nn.ReLU(), nn.Dropout2d(0.3), nn.Conv2d(4, 3, 1))


def loader(length, batch_size, data=Toy, height=24, width=32, **options):
    """Toys without augmentation in batches."""
    return make_loader(data(length, eval_transform(height, width)), batch_size, **options)


def small_unet(**options):
    torch.manual_seed(0)
    return UNet(3, **{"base_channels": 4, "depth": 1, **options})


def tiny_loaders(workers: int = 0):
    """Three batches to train on, with augmentation, and two to validate."""
    train, val = Toy(6, train_transform(16, 24)), Toy(3, eval_transform(16, 24))
    return make_loader(train, 2, shuffle=True, seed=3, workers=workers), make_loader(val, 2)


def tiny_run(
    out: Path | None, resume: bool = False, workers: int = 0, model=None, val=None, **options
):
    """Train the tiny model; returns (model, history)."""
    settings = {"epochs": 2, "lr": 0.01, "seed": 3, "out": out, "resume": resume, **options}
    model = model or tiny_model()
    train, usual = tiny_loaders(workers)
    return model, fit(model, train, val or usual, **settings)


def plain_loop(model: nn.Module, criterion: nn.Module, clip=None, follow=None):
    """The loop of a tutorial: what `tiny_run` does without another memory layout, step by step."""
    loader, parameters = tiny_loaders()[0], list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=6)
    for epoch in range(2):
        with epoch_randomness(3, epoch, torch.device("cpu")):
            loader.sampler.set_epoch(epoch)
            model.train()
            for images, target in loader:
                optimizer.zero_grad()
                criterion(model(images), target).backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(parameters, clip)
                optimizer.step()
                schedule.step()
                if follow is not None:
                    follow(model)
