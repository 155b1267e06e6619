"""What lesson 3 shows to be judged: a figure of curves, and what a loss says of small batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

ARMS = {
    "A": "lesions of 0.1 %, Dice",
    "B": "lesions of 0.1 %, cross-entropy, median weights",
    "C": "lesions of 4 %, cross-entropy",
    "D": "lesions of 0.1 %, cross-entropy",
}
LINES = {
    "recall: fraction of the lesion's pixels that are found": ("#0072b2", "-"),
    "precision: fraction of the pixels called lesion that are lesion": ("#d55e00", "--"),
}


def curves_figure() -> Figure:
    """Recall and precision of the lesion in four recorded runs, panels A to D."""
    from seglib.course.records import read_record, values

    record = read_record("03_losses")
    figure = Figure(figsize=(8.5, 5.2), dpi=80, layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for axis, (letter, arm) in zip(axes.flat, ARMS.items(), strict=True):
        rows = values(record, "lesions", arm, lambda run: run.get("watched"))[3]  # of seed 3
        for label, (colour, dash) in LINES.items():
            key = label.split(":")[0]
            line = np.array([[row["step"], row[key]] for row in rows], float)  # nothing found: NaN
            axis.plot(*line.T, dash, color=colour, linewidth=2, label=label)
        axis.set_title(letter, fontsize=11, fontweight="bold")
        axis.set_ylim(-0.04, 1.04)
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[1]:
        axis.set_xlabel("training step", fontsize=10)
    figure.supylabel("recall, precision", fontsize=10)
    lines = axes[0, 0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("Four runs: which loss, and how large are the lesions?", fontsize=11)
    return figure


def ask(*losses: Callable[..., torch.Tensor]) -> None:
    """Print what losses say of small batches: three classes, two images of 1×3 pixels."""
    T = torch.tensor
    full, half = T([[[0, 1, 2]], [[0, 1, 2]]]), T([[[0, 1, 2]], [[255] * 3]])
    two, most = T([[[0, 1, 0]], [[0, 1, 0]]]), T([[[0, 1, 2]], [[0, 255, 255]]])
    right, zero, none = (9.0 * F.one_hot(t, 3).movedim(3, 1) for t in (full, two, 0 * full))
    other, wide = torch.stack([right[0], none[0]]), torch.zeros(1, 3, 360, 480)
    miss_1, miss_2 = other.clone(), other.clone()
    miss_1[0, :, 0, 0] = miss_2[1, :, 0, 0] = T([0.0, 9.0, 0.0])  # 1 instead of 0
    batches = {
        "right": (right, full),
        "right, class 2 absent": (zero, two),
        "right, image 2 void": (right, half),
        "the same, other logits at void": (other, half),
        "unsure": (0 * right, full),
        "unsure, image 2 void": (0 * right, half),
        "1 of 3 pixels of image 1 wrong": (miss_1, most),
        "1 of 1 pixel of image 2 wrong": (miss_2, most),
        "all void": (right, torch.full_like(full, 255)),
        "unsure, 360×480, float32": (wide, wide[:, 0].long()),
        "unsure, 360×480, float16": (wide.half(), wide[:, 0].long()),
    }
    names = [getattr(loss, "__name__", "loss") for loss in losses]
    if len(losses) > 1:
        print(" " * 32 + "".join(f"{name:>8}" for name in names))
    spoilt = set()
    for name, (logits, target) in batches.items():
        values = []
        for who, loss in zip(names, losses, strict=True):
            given = target.clone()
            values.append(f"{loss(logits, given):8.2f}")
            if not torch.equal(given, target):
                spoilt.add(who)
        print(f"{name:<32}" + "".join(values))
    for who in sorted(spoilt):
        print(f"{who}: the target has changed")
