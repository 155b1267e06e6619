"""How lesson 3's exercise of reading curves is judged, and its figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seglib.exercises.kit import NotYet, show

RUNS = {
    "cross-entropy, 4 %": "C",
    "cross-entropy, 0.1 %": "D",
    "median weights, 0.1 %": "B",
    "Dice, 0.1 %": "A",
}
ARMS = {
    "A": "lesions of 0.1 %, Dice",
    "B": "lesions of 0.1 %, cross-entropy, median weights",
    "C": "lesions of 4 %, cross-entropy",
    "D": "lesions of 0.1 %, cross-entropy",
}
LINES = (
    ("recall", "recall: of the lesion's pixels, how many are found", "#0072b2", "-"),
    ("precision", "precision: of those called lesion, how many are", "#d55e00", "--"),
)
SEED = 3
# What the figure shows, and what is to be asked of each run: adjusted to the record by hand
SEEN = {
    "A": "nothing is found for 300 steps, then about half of the lesion's pixels; of what is "
    "called lesion, most is one in the end",
    "B": "most lesion pixels are found from the first steps on, while of the pixels that are "
    "called lesion only a few per cent are one",
    "C": "recall and precision are both high in the end",
    "D": "nothing is found for 700 steps, and then a fifth, nearly all of it right",
}
ASK = {
    "cross-entropy, 4 %": "Lesions here are forty times as large as in the other three runs: in "
    "which panel is the task solved?",
    "cross-entropy, 0.1 %": "Of a thousand pixels one is lesion and all count the same: what does "
    "a network lose that predicts no lesion at all?",
    "median weights, 0.1 %": "A missed lesion pixel costs hundreds of times as much as a false "
    "alarm: which of recall and precision is cheap then?",
    "Dice, 0.1 %": "Each class counts the same, and false alarms enlarge the denominator: does "
    "it wait as long as cross-entropy, and does it pay with precision?",
}


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
    figure.legend(
        *axes.flat[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    figure.suptitle("Four runs: which loss, and how large are the lesions?", fontsize=11)
    return figure


def curves(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(RUNS):
        raise NotYet(f"expected a dict with the keys {list(RUNS)}, found {show(answer)}")
    letters = {run: str(answer[run]).strip().upper() for run in RUNS}
    for run, letter in letters.items():
        if letter not in ARMS:
            raise NotYet(f"for “{run}” expected a letter from A to D, found {show(answer[run])}")
    for run, right in RUNS.items():
        if letters[run] != right:
            twice = list(letters.values()).count(letters[run]) > 1
            again = " (You gave this letter twice.)" if twice else ""
            raise NotYet(
                f"“{run}” is not {letters[run]}: there, {SEEN[letters[run]]}. {ASK[run]}{again}"
            )
    return (
        "large lesions are found well; of rare ones plain cross-entropy finds a few, and late, "
        "weights find most of them at once among many false alarms, and Dice about half of "
        "them with fewer"
    )
