"""What lesson 3 shows to be judged: a figure of curves."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

ARMS = {
    "A": "lesions of 0.1 %, Dice",
    "B": "lesions of 0.1 %, cross-entropy, median weights",
    "C": "lesions of 4 %, cross-entropy",
    "D": "lesions of 0.1 %, cross-entropy",
}
LINES = {
    "recall: of the lesion's pixels, how many are found": ("#0072b2", "-"),
    "precision: of those called lesion, how many are": ("#d55e00", "--"),
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
    figure.supylabel("recall, precision (share of pixels)", fontsize=10)
    lines = axes[0, 0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("Four runs: which loss, and how large are the lesions?", fontsize=11)
    return figure
