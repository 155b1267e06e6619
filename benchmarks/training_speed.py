"""Images a second of training: `fit` end to end against the loops that tutorials show.

All arms read the same CamVid files (or, without CamVid, PNGs of noise of the same size) and
augment them alike. The arms alternate, forwards and backwards, and each keeps its fastest round.

    python benchmarks/training_speed.py [--root FOLDER] [--images 96] [--rounds 4]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("SEGLIB_PROGRESS", "0")

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from seglib.data import CamVid, FolderDataset, make_loader
from seglib.models import UNet
from seglib.training import fit
from seglib.transforms import train_transform


def open_data(root: str | None, images: int, folder: Path) -> tuple[Any, str]:
    """CamVid's first training images, or noise in files of the same size."""
    try:
        data: Any = CamVid("train", root=root)
        return data, "CamVid train"
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        for kind, shape in (("images", (360, 480, 3)), ("masks", (360, 480))):
            (folder / kind).mkdir()
            for i in range(images):
                picture = rng.integers(0, 11, shape, dtype=np.uint8)
                Image.fromarray(picture).save(folder / kind / f"{i:03}.png")
        names = [f"class {i}" for i in range(11)]
        return FolderDataset(folder / "images", folder / "masks", names), "PNGs of noise, 360×480"


def tutorial_loop(model: torch.nn.Module, data: Any, batch_size: int) -> None:
    """The usual epoch: DataLoader, Adam, cross-entropy, a running loss."""
    loader = DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    running = 0.0
    model.train()
    for images, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), target)
        loss.backward()
        optimizer.step()
        running += loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, what = open_data(options.root, options.images, Path(folder))
        measure(data, what, options.images, options.rounds)


def measure(data: Any, what: str, images: int, rounds: int) -> None:
    def part(size: tuple[int, int], count: int) -> Subset:
        data.transform = train_transform(*size)
        return Subset(data, range(count))

    def run_fit(base: int, size: tuple[int, int], batch: int, count: int) -> float:
        model, subset = UNet(11, base_channels=base), part(size, count)
        start = time.perf_counter()
        fit(model, make_loader(subset, batch, shuffle=True), epochs=1)
        return time.perf_counter() - start

    def run_tutorial(base: int, size: tuple[int, int], batch: int, count: int) -> float:
        model, subset = UNet(11, base_channels=base), part(size, count)
        start = time.perf_counter()
        tutorial_loop(model, subset, batch)
        return time.perf_counter() - start

    few = max(8, images // 12)
    small, large = (96, 128), (256, 256)
    arms: dict[str, tuple[Callable[..., float], int, tuple[int, int], int, int]] = {
        "fit, U-Net base 8, 96×128": (run_fit, 8, small, 8, images),
        "tutorial loop, U-Net base 8, 96×128": (run_tutorial, 8, small, 8, images),
        "fit, U-Net base 16, 96×128": (run_fit, 16, small, 8, images),
        "tutorial loop, U-Net base 16, 96×128": (run_tutorial, 16, small, 8, images),
        "fit, U-Net base 64, 256×256": (run_fit, 64, large, 4, few),
        "tutorial loop, U-Net base 64, 256×256": (run_tutorial, 64, large, 4, few),
    }
    for function in (run_fit, run_tutorial):           # first use imports and allocates
        function(8, small, 8, 16)
    best = dict.fromkeys(arms, 0.0)
    for turn in range(rounds):
        order = list(arms.items())
        for name, (function, base, size, batch, count) in order[:: 1 if turn % 2 == 0 else -1]:
            seen = count // batch * batch
            best[name] = max(best[name], seen / function(base, size, batch, count))
    print(f"{what}; torch {torch.__version__}, {torch.get_num_threads()} threads, load "
          f"{os.getloadavg()[0]:.2f} (this benchmark included), {rounds} rounds")
    print("| arm | images/s |\n|---|---|")
    for name, speed in best.items():
        print(f"| {name} | {speed:.2f} |")


if __name__ == "__main__":
    main()
