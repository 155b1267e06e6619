"""What the exercises of lesson 3 show: five losses with a fault each, and a figure of curves."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure


def loss_a(logits, target):
    valid = target != 255
    labels = target.masked_fill_(~valid, 0)
    surprise = F.cross_entropy(logits.float(), labels, reduction="none")
    return (surprise * valid).sum() / valid.sum().clamp(min=1)


def loss_b(logits, target):
    p, valid = logits.float().softmax(1), target != 255
    surprise = F.cross_entropy(p, target, ignore_index=255, reduction="sum")
    return surprise / valid.sum().clamp(min=1)


def loss_c(logits, target):
    valid = target != 255
    labels = torch.where(valid, target, 0)
    surprise = F.cross_entropy(logits.float(), labels, reduction="sum")
    return surprise / valid.sum().clamp(min=1)


def loss_d(logits, target):
    surprise = F.cross_entropy(logits.float(), target, ignore_index=255, reduction="none")
    return surprise.mean()


def loss_e(logits, target):
    p, valid = logits.float().softmax(1), (target != 255)[:, None]
    g = F.one_hot(torch.where(target != 255, target, 0), p.shape[1]).movedim(3, 1) * valid
    hits, whole = (p * g).sum((0, 2, 3)), (p * valid + g).sum((0, 2, 3))
    return (1 - 2 * hits / whole.clamp(min=1e-6)).mean()


ARMS = {
    "A": "lesions of 0.1 %, Dice",
    "B": "lesions of 0.1 %, cross-entropy, median weights",
    "C": "lesions of 4 %, cross-entropy",
    "D": "lesions of 0.1 %, cross-entropy",
}
SEED = 3
LINES = (
    ("recall", "recall: of the lesion's pixels, how many are found", "#0072b2", "-"),
    ("precision", "precision: of those called lesion, how many are", "#d55e00", "--"),
)


def curves_figure() -> Figure:
    """Recall and precision of the lesion in four recorded runs, panels A to D."""
    import matplotlib.pyplot as plt

    from seglib.course.records import read_record, values

    record = read_record("03_losses")
    figure, axes = plt.subplots(
        2, 2, figsize=(8.5, 5.2), dpi=80, sharex=True, sharey=True, layout="constrained"
    )
    plt.close(figure)
    for axis, (letter, arm) in zip(axes.flat, ARMS.items(), strict=True):
        rows = values(record, "lesions", arm, lambda run: run.get("watched"))[SEED]
        steps = [row["step"] for row in rows]
        for key, label, colour, dash in LINES:
            line = np.array([row[key] for row in rows], float)  # None (nothing predicted): NaN
            axis.plot(steps, line, dash, color=colour, linewidth=2, label=label)
        axis.set_title(letter, fontsize=11, fontweight="bold")
        axis.set_ylim(-0.04, 1.04)
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[1]:
        axis.set_xlabel("training step", fontsize=10)
    figure.supylabel("recall, precision (share of pixels)", fontsize=10)
    names = axes.flat[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("Four runs: which loss, and how large are the lesions?", fontsize=11)
    return figure
