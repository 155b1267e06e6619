"""How training grows: images a second and memory against batch, size, and number of processes.

    python benchmarks/growth.py [--record]       # five minutes, alone on the machine

A U-Net (base 16) on random images in memory, so that neither files nor augmentation count. Each
case runs in a process of its own, which tells its peak of memory above what it held before the
first step. Several processes share one batch of 8 through torchrun and gloo, one thread each.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("SEGLIB_PROGRESS", "0")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import torch
from _report import Row, report

from seglib.data import make_loader
from seglib.engine import distributed
from seglib.models import UNet
from seglib.training import fit

STEPS = 6
CASES: dict[str, list[tuple[str, int, int, int, int]]] = {  # name, batch, H, W, processes
    "batch": [(f"batch of {n}, 96×128", n, 96, 128, 0) for n in (1, 2, 4, 8, 16, 32)],
    "size": [
        (f"batch of 4, {h}×{w}", 4, h, w, 0)
        for h, w in ((72, 96), (144, 192), (180, 240), (360, 480))
    ],
    "processes": [
        (f"{n} process{'es' * (n > 1)} of one thread, batch of 8 in all, 96×128", 8, 96, 128, n)
        for n in (1, 2, 4)
    ],
}


class Noise(torch.utils.data.Dataset[Any]):
    """Random images and labels, made once; every index gives one of eight."""

    def __init__(self, length: int, height: int, width: int) -> None:
        self.length = length
        self.images = torch.randn(8, 3, height, width)
        self.masks = torch.randint(0, 11, (8, height, width))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[int(index) % 8], self.masks[int(index) % 8]


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def work(batch: int, height: int, width: int) -> None:
    """Print images a second of `fit`, and the memory that it took."""
    with distributed.process_group("cpu"):
        torch.manual_seed(0)
        model = UNet(11, base_channels=16, norm="group")
        before = megabytes()
        fit(model, make_loader(Noise(2 * batch, height, width), batch, shuffle=True), epochs=1)
        start = time.perf_counter()
        loader = make_loader(Noise(STEPS * batch, height, width), batch, shuffle=True)
        fit(model, loader, epochs=1)
        speed = STEPS * batch / (time.perf_counter() - start)
        if distributed.rank() == 0:
            print(f"RESULT {speed} {megabytes() - before}", flush=True)


def measured(batch: int, height: int, width: int, processes: int) -> tuple[float, float]:
    words = [__file__, "work", str(batch), str(height), str(width)]
    world = dict(os.environ)
    if processes:
        world["OMP_NUM_THREADS"] = "1"
        words = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            str(processes),
            *words,
        ]
    done = subprocess.run([sys.executable, *words], env=world, capture_output=True, text=True)
    line = next((text for text in done.stdout.splitlines() if text.startswith("RESULT")), None)
    if line is None:
        raise RuntimeError(f"{' '.join(words)} gave no result:\n{done.stderr[-2000:]}")
    speed, memory = map(float, line.split()[1:])
    return speed, memory


def main() -> None:
    rows = []
    for cases in CASES.values():
        for name, *case in cases:
            speed, memory = measured(*case)
            rows += [
                Row(name, "fit, U-Net base 16", speed, "images/s"),
                Row(name, "fit, U-Net base 16", memory, "MB"),
            ]
            print(f"{name}: {speed:.1f} images/s, {memory:.0f} MB", flush=True)
    report(__file__, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(*map(int, sys.argv[2:5]))
    else:
        main()
