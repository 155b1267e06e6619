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
LINES = {"recall": ("#009e73", "-"), "precision": ("#cc79a7", "--")}


def curves_figure() -> Figure:
    """Recall and precision of the lesion in four recorded runs, panels A to D."""
    from seglib.course.records import read_record, values

    record = read_record("03_losses")
    figure = Figure(figsize=(8, 4.6), dpi=90, layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for axis, (letter, arm) in zip(axes.flat, ARMS.items(), strict=True):
        rows = values(record, "lesions", arm, lambda run: run.get("watched"))[3]  # of seed 3
        for key, (colour, dash) in LINES.items():
            line = np.array([[row["step"], row[key]] for row in rows], float)  # nothing found: NaN
            axis.plot(*line.T, dash, color=colour, linewidth=2, label=key)
        axis.set_title(letter, fontsize=11, fontweight="bold")
        axis.set_ylim(-0.04, 1.04)
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[1]:
        axis.set_xlabel("training step", fontsize=10)
    figure.supylabel("recall, precision", fontsize=10)
    lines = axes[0, 0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, fontsize=10)
    figure.suptitle("Four runs: which loss, and how large are the lesions?", fontsize=11)
    return figure


def ask(*losses: Callable[..., torch.Tensor]) -> None:
    """Print what losses say of small batches: three classes, two images of 1×3 pixels."""
    T = torch.tensor
    full, half = T([[[0, 1, 2]], [[0, 1, 2]]]), T([[[0, 1, 2]], [[255] * 3]])
    right, none = (9.0 * F.one_hot(t, 3).movedim(3, 1) for t in (full, 0 * full))
    other, wide = torch.stack([right[0], none[0]]), torch.zeros(1, 3, 360, 480)
    batches = {
        "right": (right, full),
        "right, image 2 void": (right, half),
        "image 2 void, predicted as class 0": (other, half),
        "unsure": (0 * right, full),
        "unsure, image 2 void": (0 * right, half),
        "all void": (right, torch.full_like(full, 255)),
        "unsure, 360×480, float32": (wide, wide[:, 0].long()),
        "unsure, 360×480, float16": (wide.half(), wide[:, 0].long()),
    }
    names = [getattr(loss, "__name__", "loss") for loss in losses]
    if len(losses) > 1:
        print(" " * 36 + "".join(f"{name:>8}" for name in names))
    spoilt = set()
    for name, (logits, target) in batches.items():
        values = []
        for who, loss in zip(names, losses, strict=True):
            given = target.clone()
            values.append(f"{loss(logits, given):8.2f}")
            if not torch.equal(given, target):
                spoilt.add(who)
        print(f"{name:<36}" + "".join(values))
    for who in sorted(spoilt):
        print(f"{who}: the target has changed")
