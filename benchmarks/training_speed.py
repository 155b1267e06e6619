"""Images a second of training, end to end: `fit` against the loops that others use.

    python benchmarks/training_speed.py [--images 16] [--rounds 12]

All arms train the same U-Net on the same CamVid files (or, without CamVid, PNGs of noise of the
same size) with the same augmentation, AdamW and one-cycle, batches of 8 at 96×128:

fit            as the library has it: checks, exact means, channels last
fit, train     as `seglib train` calls it without a single flag of speed: besides, decoded images
               are kept in memory; the first epoch fills it and is timed, too
fit, bf16      the same in bfloat16, where the processor computes in it
tutorial       DataLoader, cross-entropy, backward, step, a running loss
torchvision    the shape of torchvision's references/segmentation/train.py: a dictionary of
               outputs, a schedule stepped in each iteration, meters of the loss and the rate
Lightning      a LightningModule and its Trainer without logger and checkpoints

The arms take turns in short rounds of six epochs, in a new order each time, because a machine's
speed drifts by more than the arms differ: what is told are medians, of the speeds and of the ratios
within a round, and the middle half of these. What the arms reach: training_scores.py.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("SEGLIB_PROGRESS", "0")

import numpy as np
import torch
from _report import Row, report
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset

from seglib.cli.settings import TrainSettings
from seglib.cli.train import FIT, choose_workers
from seglib.data import CamVid, FolderDataset, make_loader
from seglib.models import UNet
from seglib.training import fit
from seglib.transforms import train_transform
from seglib.util.machine import half_precision

SIZE, BATCH, EPOCHS, RATE = (96, 128), 8, 6, 3e-3
CLASSES = [f"class {i}" for i in range(11)]


class Files:
    """Opens the data: CamVid's first images, or noise in files of the same size."""

    def __init__(self, images: int, folder: Path) -> None:
        self.images, self.folder, self.real = images, folder, True
        try:
            CamVid("train")
        except FileNotFoundError:
            self.real = False
            rng = np.random.default_rng(0)
            for kind, shape in (("images", (360, 480, 3)), ("masks", (360, 480))):
                (folder / kind).mkdir()
                for i in range(images):
                    picture = rng.integers(0, 11, shape, dtype=np.uint8)
                    Image.fromarray(picture).save(folder / kind / f"{i:03}.png")

    def open(self, cache: str | None = None) -> Subset[Any]:
        data: Any
        if self.real:
            data = CamVid("train", transform=train_transform(*SIZE), cache=cache)
        else:
            data = FolderDataset(
                self.folder / "images",
                self.folder / "masks",
                CLASSES,
                transform=train_transform(*SIZE),
                cache=cache,
            )
        return Subset(data, range(self.images))


# ---------------------------------------------------------------- the arms


def by_fit(model: nn.Module, data: Subset[Any], epochs: int, seed: int) -> None:
    loader = make_loader(data, BATCH, shuffle=True, seed=seed)
    fit(model, loader, epochs=epochs, lr=RATE, seed=seed)


def by_train(
    model: nn.Module, data: Subset[Any], epochs: int, seed: int, amp: str | None = None
) -> None:
    """With what the command line chooses; FIT are the settings that it hands on."""
    chosen = vars(TrainSettings()) | {"epochs": epochs, "lr": RATE, "seed": seed, "amp": amp}
    workers = choose_workers(torch.device("cpu"))
    loader = make_loader(data, BATCH, shuffle=True, seed=seed, workers=workers)
    fit(model, loader, **{name: chosen[name] for name in FIT})


def by_train_in_half(model: nn.Module, data: Subset[Any], epochs: int, seed: int) -> None:
    by_train(model, data, epochs, seed, amp="bf16")


def usual(model: nn.Module, data: Subset[Any], epochs: int, seed: int) -> tuple[Any, Any, Any]:
    """Loader, optimiser and schedule of the other loops."""
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True, generator=order)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=RATE, total_steps=epochs * len(loader)
    )
    return loader, optimizer, schedule


def by_tutorial(model: nn.Module, data: Subset[Any], epochs: int, seed: int) -> None:
    loader, optimizer, schedule = usual(model, data, epochs, seed)
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    model.train()
    for _ in range(epochs):
        running = 0.0
        for images, target in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), target)
            loss.backward()
            optimizer.step()
            schedule.step()
            running += loss.item()


class Meter:
    """A value's median over a window and its mean over all, as torchvision's meters keep them."""

    def __init__(self) -> None:
        self.window: deque[float] = deque(maxlen=20)
        self.total, self.count = 0.0, 0

    def update(self, value: float) -> None:
        self.window.append(value)
        self.total, self.count = self.total + value, self.count + 1

    def __str__(self) -> str:
        return f"{np.median(self.window):.4f} ({self.total / self.count:.4f})"


def by_reference(model: nn.Module, data: Subset[Any], epochs: int, seed: int) -> None:
    loader, optimizer, schedule = usual(model, data, epochs, seed)
    for _ in range(epochs):
        model.train()
        meters = {name: Meter() for name in ("loss", "lr", "iter_time", "data_time")}
        end = time.time()
        for number, (images, target) in enumerate(loader):
            meters["data_time"].update(time.time() - end)
            images, target = images.to("cpu"), target.to("cpu")
            output = {"out": model(images)}
            losses = {
                name: nn.functional.cross_entropy(logits, target, ignore_index=255)
                for name, logits in output.items()
            }
            loss = losses["out"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            meters["loss"].update(loss.item())
            meters["lr"].update(optimizer.param_groups[0]["lr"])
            meters["iter_time"].update(time.time() - end)
            if number % 10 == 0:
                "  ".join(f"{name}: {meter}" for name, meter in meters.items())
            end = time.time()


def by_lightning(model: nn.Module, data: Subset[Any], epochs: int, seed: int) -> None:
    import pytorch_lightning as lightning

    loader, optimizer, schedule = usual(model, data, epochs, seed)
    criterion = nn.CrossEntropyLoss(ignore_index=255)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, number: int) -> Any:
            images, target = batch
            loss = criterion(self.model(images), target)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            every_step = {"scheduler": schedule, "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": every_step}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of too few workers, and of no logger
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), loader)


Arm = Callable[[nn.Module, "Subset[Any]", int, int], None]
CACHE = TrainSettings().cache
ARMS: dict[str, tuple[Arm, str | None]] = {
    "fit": (by_fit, None),
    "fit, train": (by_train, CACHE),
    "fit, bf16": (by_train_in_half, CACHE),
    "tutorial loop": (by_tutorial, None),
    "torchvision's shape": (by_reference, None),
    "Lightning": (by_lightning, None),
}

# ---------------------------------------------------------------- measuring


def available() -> dict[str, tuple[Arm, str | None]]:
    arms = dict(ARMS)
    if not {"avx512_bf16", "amx_bf16"} & set(half_precision()):
        del arms["fit, bf16"]
    try:
        import pytorch_lightning  # noqa: F401
    except ModuleNotFoundError:
        print("Lightning is not installed: left out (pip install pytorch-lightning)")
        del arms["Lightning"]
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return arms


def decoding(files: Files) -> float:
    """Seconds to read and decode one image and its mask."""
    data = files.open().dataset
    start = time.perf_counter()
    for i in range(files.images):
        data.read(i)  # type: ignore[attr-defined]
    return (time.perf_counter() - start) / files.images


def speeds(files: Files, rounds: int) -> list[Row]:
    what = "CamVid" if files.real else "noise"
    print(f"{what}; one image and mask decoded: {decoding(files) * 1000:.1f} ms")
    arms = available()
    found: dict[tuple[str, int], list[float]] = {}
    for function, _ in arms.values():  # first use imports and allocates
        function(UNet(11, base_channels=4), files.open(), 1, 0)
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for base in (8, 16):
            for name in order.permutation(list(arms)):
                function, cache = arms[name]
                torch.manual_seed(0)
                model, data = UNet(11, base_channels=base), files.open(cache)
                start = time.perf_counter()
                function(model, data, EPOCHS, 0)
                seen = EPOCHS * (files.images // BATCH * BATCH)
                speed = seen / (time.perf_counter() - start)
                found.setdefault((name, base), []).append(speed)
    rows, others = [], [name for name in arms if not name.startswith("fit")]
    for base in (8, 16):
        for way, ours in (
            ("", "fit"),
            (", as the command line trains without flags", "fit, train"),
            (", the same in bfloat16", "fit, bf16"),
        ):
            case = f"training end to end, U-Net base {base}, 96×128{way}"
            if ours in arms:
                rows += [
                    Row(
                        case,
                        name,
                        float(np.median(found[name, base])),
                        "images/s",
                        tuple(found[name, base]),
                    )
                    for name in (ours, *others)
                ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--record", action="store_true", help="see _report.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = Files(options.images, Path(folder))
        report(__file__, speeds(files, options.rounds), None if files.real else "noise, not CamVid")


if __name__ == "__main__":
    main()
