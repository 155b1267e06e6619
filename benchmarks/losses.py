"""Losses against those of other libraries: time and memory of forward and backward.

    python benchmarks/losses.py          # needs the extra `bench`

Logits 4×12×180×240, 4 % void. All contenders alternate; the least time of each counts. Memory is
the largest sum of what PyTorch's allocator holds above the start, from the profiler's events.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import kornia
import monai
import segmentation_models_pytorch as smp
import torch
from _report import Row, report
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from seglib.losses import DiceLoss, FocalLoss, LovaszSoftmaxLoss

ROUNDS, CLASSES = 15, 12


def monai_dice() -> Callable[[Tensor, Tensor], Tensor]:
    """MONAI's Dice with void left out by its wrapper for masked losses."""
    loss = monai.losses.MaskedDiceLoss(softmax=True, to_onehot_y=True, batch=True)

    def call(logits: Tensor, target: Tensor) -> Tensor:
        valid = (target != 255)[:, None]
        return loss(logits, torch.where(valid, target[:, None], 0), mask=valid.float())

    return call


CONTENDERS = {
    "Dice": {
        "seglib": DiceLoss(),
        "MONAI": monai_dice(),
        "smp": smp.losses.DiceLoss("multiclass", ignore_index=255),
    },
    "focal": {
        "seglib": FocalLoss(2.0),
        "smp": smp.losses.FocalLoss("multiclass", ignore_index=255),
        "kornia": kornia.losses.FocalLoss(None, 2.0, "mean", ignore_index=255),
    },
    "Lovász": {
        "seglib": LovaszSoftmaxLoss(),
        "smp": smp.losses.LovaszLoss("multiclass", ignore_index=255),
    },
}


def step(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> None:
    logits.grad = None
    loss(logits, target).backward()


def peak(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> float:
    """Megabytes held at most, above the start."""
    step(loss, logits, target)
    logits.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step(loss, logits, target)
    events = [
        event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 1e6


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    logits = torch.randn(4, CLASSES, 180, 240, requires_grad=True)
    target = torch.randint(0, CLASSES, (4, 180, 240))
    target[torch.rand(target.shape) < 0.04] = 255
    rows = []
    for name, losses in CONTENDERS.items():
        times: dict[str, list[float]] = {library: [] for library in losses}
        for _ in range(ROUNDS):
            for library, loss in losses.items():
                start = time.perf_counter()
                step(loss, logits, target)
                times[library].append(time.perf_counter() - start)
        for library, loss in losses.items():
            case = f"{name}, forward and backward, 4×12×180×240"
            rows += [
                Row(case, library, 1000 * min(times[library]), "ms"),
                Row(case, library, peak(loss, logits, target), "MB"),
            ]
    report(__file__, rows)


if __name__ == "__main__":
    main()
