"""Wrong answers to the exercises of lesson 3, beside those that their judges' tables imply."""

from answers import code

PRELUDE = """
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from seglib.data import class_statistics
from seglib.losses import CombinedLoss, CrossEntropyLoss, DiceLoss, class_weights
from seglib.exercises import lesson03 as ex
"""


def _maps(
    labels="torch.where(valid, target, 0)",
    p="logits.softmax(1)",
    end="(1 - dice)[there].sum() / there.sum().clamp(min=1)",
    one_hot=", logits.shape[1]).movedim(3, 1)",
):
    """A way to the solution with whole maps; some of its parts changed."""
    return code(
        "def soft_dice(logits, target):",
        "valid = target != 255",
        f"p = {p} * valid[:, None]",
        f"g = F.one_hot({labels}{one_hot} * valid[:, None]",
        "hits, sizes, over = p * g, g.sum((0, 2, 3)), (0, 2, 3)",
        "dice, there = 2 * hits.sum(over) / (p.sum(over) + sizes).clamp(min=1e-6), sizes > 0",
        f"return {end}",
    )


def _build(loss="CombinedLoss()", lr="5e-3"):
    return f"def build_loss(train_set):\n    return {loss}, {lr}"


WRONG = {
    "by_hand": {
        "pixel b is missing": "guess = 0.170",
        "pixel a is missing": "guess = 0.305",
        "Pixel by pixel": "guess = 0.5",
    },
    "soft_dice": {
        "movedim(3, 1) brings them there": _maps(one_hot=", logits.shape[1])"),
        "only as many channels": _maps(
            "target[valid].reshape(2, -1, 6)", one_hot=").movedim(3, 1)"
        ),
        "255 is not a class": _maps("target"),
        "target has changed: 20 void pixels": _maps("target.masked_fill_(~valid, 0)"),
        "no .item()": _maps(end="(1 - dice)[there].mean().item()"),
        "is the mean missing": _maps(end="(1 - dice)[there]"),
        "Class by class": _maps(end="F.cross_entropy(logits, target, ignore_index=255)"),
        "no gradient": _maps(end="(1 - dice[there]).mean() if valid.any() else torch.zeros(())"),
        "argmax has no gradient": _maps(p="F.one_hot(logits.argmax(1), 4).movedim(3, 1)"),
        "class 0, the background, is left out": _maps(end="(1 - dice)[1:][there[1:]].mean()"),
        "are weighted by their number": _maps(end="((1 - dice) * sizes).sum() / valid.sum()"),
        "are weighted inversely": _maps(end="((1 - dice) / sizes).sum() / (1 / sizes).sum()"),
        "that is generalized Dice": _maps(
            end="((1 - dice) * (w := (p.sum(over) + sizes) / sizes**2)).sum() / w.sum()"
        ),
    },
    "curves": {"gave this letter twice": "runs = {**ex.curves.answer, 'Dice, 0.1 %': 'D'}"},
    "faults": {
        "in float32 and 1.10": "faults = {**ex.faults.answer, 'b': 6}",
        "one of the numbers 1 to 6": "faults = {**ex.faults.answer, 'b': 2.5}",
    },
    "own_loss": {
        "a pair, loss and learning rate": "def build_loss(train_set):\n    return CombinedLoss()",
        "in reverse order": _build("5e-3", "CombinedLoss()"),
        "write DiceLoss(…) to make one": _build("DiceLoss"),
        "expected a loss to call": _build("'dice'"),
        "found 5 for the learning rate": _build(lr="5"),
        "expected a number for the learning rate": _build(lr="'high'"),
        "your loss has no gradient": _build("lambda x, y: (x.argmax(1) != y).float().mean()"),
        "a scalar tensor": _build("nn.CrossEntropyLoss(reduction='none')"),
        "a finite number": _build("lambda x, y: x.mean() * float('nan')"),
        "found 2 class weights": _build("CrossEntropyLoss(torch.ones(2))"),
        "stopped with": _build("lambda x, y: x.mean() / (x.shape[2] < 9)"),
    },
}
