"""Typical wrong answers to lesson 3: (what a reader would type, a fragment of what they hear)."""

from __future__ import annotations

PRELUDE = """
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from seglib.data import class_statistics
from seglib.losses import CombinedLoss, CrossEntropyLoss, DiceLoss, class_weights
"""


def _dice(
    p: str = "logits.softmax(1).movedim(1, 3)[valid]",
    g: str = "F.one_hot(target[valid], logits.shape[1])",
    dice: str = "2 * (p * g).sum(0) / (p.sum(0) + g.sum(0))",
    mean: str = "(1 - dice)[present].sum() / present.sum().clamp(min=1)",
    first: str = "valid = target != 255",
) -> str:
    """The solution with some of its lines changed."""
    lines = (
        first,
        f"p = {p}",
        f"g = {g}",
        f"dice = {dice}",
        "present = g.sum(0) > 0",
        f"return {mean}",
    )
    return "def soft_dice(logits, target):\n" + "".join(f"    {line}\n" for line in lines)


def _maps(
    labels: str = "torch.where(valid, target, 0)",
    p: str = "logits.softmax(1)",
    mask_p: str = "* valid[:, None]",
    mask_g: str = "* valid[:, None]",
    index: str = "2 * (p * g).sum(over) / (p.sum(over) + g.sum(over)).clamp(min=1e-6)",
    over: str = "(0, 2, 3)",
    mean: str = "(1 - dice)[there].sum() / there.sum().clamp(min=1)",
    start: str = "",
) -> str:
    """Another way to the solution, with whole maps; some of its parts changed."""
    return (
        f"def soft_dice(logits, target):\n    valid = target != 255\n    {start or 'pass'}\n"
        f"    p = {p} {mask_p}\n"
        f"    g = F.one_hot({labels}, logits.shape[1]).movedim(3, 1) {mask_g}\n"
        f"    over = {over}\n    dice, there = {index}, g.sum(over) > 0\n"
        f"    return {mean}\n"
    )


def _faults(**changes: object) -> str:
    right = {"a": 4, "b": 5, "c": 2, "d": 1, "e": 3}
    return f"faults = {right | changes!r}"


def _runs(four: str = "C", plain: str = "D", median: str = "B", dice: str = "A") -> str:
    return (
        f'runs = {{"cross-entropy, 4 %": "{four}", "cross-entropy, 0.1 %": "{plain}", '
        f'"median weights, 0.1 %": "{median}", "Dice, 0.1 %": "{dice}"}}'
    )


def _build(loss: str = "CombinedLoss()", lr: str = "5e-3", before: str = "") -> str:
    return f"{before}\ndef build_loss(train_set):\n    return {loss}, {lr}"


_NAN_LATER = """
class Later(nn.Module):
    calls = 0

    def forward(self, logits, target):
        Later.calls += 1
        return logits.mean() * (1 if Later.calls % 2 else float("nan"))
"""


def _supported(**changes: object) -> str:
    right = {"a": True, "b": False, "c": False, "d": True, "e": False}
    return f"supported = {right | changes}"


WRONG: dict[str, list[tuple[str, str]]] = {
    "by_hand": [
        ("guess = 0.301", "divided by four"),
        ("guess = 1.204", "the sum of the three logarithms"),
        ("guess = 0.579", "in bits"),
        ("guess = 0.174", "base 10"),
        ("guess = 0.381", "The logarithm comes first"),
        ("guess = 0.683", "that is the mean probability"),
        ("guess = 0.317", "one minus the mean probability"),
        ("guess = -0.401", "the sign is not"),
        ("guess = 4.80", "void counts as class 1"),
        ("guess = -0.828", "without the softmax"),
        ("guess = 0.828", "the mean of the truth's logits"),
        ("guess = 1.230", "probabilities of the other class"),
        ("guess = 0.767", "pixel a has the wrong class"),
        ("guess = 0.5", "Pixel by pixel"),
        ("guess = 'ln 2'", "expected a number"),
    ],
    "soft_dice": [
        (
            """
def soft_dice(logits, target):
    p, valid = logits.softmax(1), (target != 255)[:, None]
    g = F.one_hot(torch.where(target != 255, target, 0), logits.shape[1])
    return 1 - (2 * (p * g * valid).sum() / (p * valid + g).sum())
""",
            "movedim(3, 1) brings them there",
        ),
        (_dice(mean="dice[present].sum() / present.sum().clamp(min=1)"), "one minus it"),
        (_dice(mean="-dice[present].sum() / present.sum().clamp(min=1)"), "minus Dice"),
        (_dice(mean="(1 - dice)[present].sum()"), "are added up"),
        (_dice(p="logits.movedim(1, 3)[valid]"), "no probabilities"),
        (_dice(p="logits.sigmoid().movedim(1, 3)[valid]"), "a sigmoid for each channel"),
        (_dice(p="logits.softmax(1).softmax(1).movedim(1, 3)[valid]"), "softmax is taken twice"),
        (_dice(p="F.one_hot(logits.argmax(1), logits.shape[1])[valid]"), "argmax has no gradient"),
        (_dice(dice="(p * g).sum(0) / (p.sum(0) + g.sum(0))"), "the factor 2"),
        (_dice(dice="2 * (p * g).sum(0) / (p.pow(2).sum(0) + g.pow(2).sum(0))"), "Milletari"),
        (_dice(dice="(p * g).sum(0) / (p + g - p * g).sum(0)"), "soft Jaccard"),
        (_dice(dice="(2 * (p * g).sum(0) + 1) / (p.sum(0) + g.sum(0) + 1)"), "1 is added"),
        (_dice(mean="1 - 2 * (p * g).sum() / (p.sum() + g.sum())"), "large classes decide"),
        (
            _maps(
                over="(2, 3)",
                mean="torch.stack([(1 - d)[t].mean() for d, t in zip(dice, there)]).mean()",
            ),
            "one loss per image",
        ),
        (_dice(mean="(1 - dice).mean()"), "costs a full point"),
        (_dice(mean="((1 - dice) * present).sum() / len(dice)"), "in the mean with loss 0"),
        (_maps(mask_p=""), "what is predicted on void pixels"),
        (_maps(mask_p="", mask_g=""), "void pixels count as class 0"),
        (_maps(mask_g=""), "in Σ g it counts as class 0"),
        (
            _maps(labels="target.clamp(max=logits.shape[1] - 1)", mask_p="", mask_g=""),
            "void pixels count as the last class",
        ),
        (_maps(start="target[~valid] = 0"), "the caller's target has changed: 20 void pixels"),
        (_maps(labels="target"), "255 is no class"),
        (_dice(g="F.one_hot(target[valid])"), "as many channels as it sees"),
        (_dice(mean="(1 - dice)[present].mean()"), "divides 0 by 0"),
        (
            _dice(mean="(1 - dice)[present].mean() if valid.any() else torch.tensor(0.0)"),
            "no gradient path",
        ),
        (
            _maps(mean="(1 - dice)[there].mean() if valid.any() else 1 + 0 * logits.sum()"),
            "nothing to be wrong about",
        ),
        (
            _maps(
                index="2 * (p * g).sum(over) / (p.sum(over) + g.sum(over))",
                mean="torch.where(there, 1 - dice, 0).sum() / there.sum().clamp(min=1)",
            ),
            "its gradient has NaN",
        ),
        (_dice(dice="2 * (p * g).sum(0) / (p.sum(0) + g.sum(0)).detach()"), "gradient is not"),
        (
            _dice(mean="((1 - dice)[present].sum() / present.sum().clamp(min=1)).item()"),
            "no .item()",
        ),
        (_dice(mean="(1 - dice)[present]"), "is the mean over the classes missing"),
        (_dice(mean="F.cross_entropy(logits, target, ignore_index=255)"), "Class by class"),
        (_dice(mean="None"), "returned None"),
    ],
    "curves": [
        (_runs(four="A", dice="C"), "forty times as large"),
        (_runs(plain="A", dice="D"), "predicts no lesion at all"),
        (_runs(plain="B", median="D"), "most lesion pixels are found from the first"),
        (_runs(median="A", dice="B"), "which of recall and precision is cheap"),
        (_runs(dice="D"), "You gave this letter twice"),
        (_runs(dice="E"), "a letter from A to D"),
        ("runs = ['C', 'D', 'B', 'A']", "expected a dict"),
    ],
    "faults": [
        (_faults(a=2), "4 of 5 are right; the first that is not is loss_a → 2"),
        (_faults(a=6), "is [0, 0, 0] afterwards"),
        (_faults(b=3), "loss_b gives 0.55 for logits that are right by a mile"),
        (_faults(b=7), "costs 0.80 in an image of three valid pixels and 0.80"),
        (_faults(c=1), "and 2.20 with the second of two images void"),
        (_faults(c=4), "is [255, 255, 255] afterwards"),
        (_faults(d=2), "with class 0 predicted on the void pixels 0.00"),
        (_faults(d=8), "1.10 in float16 and 1.10 in float32"),
        (_faults(e=6), "loss_e gives 1.00 on a batch of void only"),
        (_faults(e=5), "0.33 if class 2 is neither there nor predicted"),
        (_faults(b=9), "expected a number from 1 to 8"),
        (_faults(b=2.5), "one of the numbers 1 to 8"),
        ("faults = [4, 5, 2, 1, 3]", "expected a dict"),
    ],
    "advice": [
        (_supported(a=False), "a is supported: Dice minus cross-entropy"),
        (_supported(b=True), "b is not supported: focal minus cross-entropy"),
        (_supported(c=True), "c is not supported: with the best rate of each"),
        (_supported(d=False), "d is supported: the table says recall"),
        (_supported(e=True), "it cannot know"),
        (_supported(c=None), "for c expected True or False, found None"),
        ("supported = [True, False, False, True, False]", "expected a dict"),
    ],
    "own_loss": [
        ("def build_loss(train_set):\n    return CombinedLoss()", "a pair, loss and learning rate"),
        (_build("5e-3", "CombinedLoss()"), "the other way round"),
        (_build("DiceLoss"), "write DiceLoss(…) to make one"),
        (_build("'dice'"), "expected a loss to call"),
        (_build(lr="5"), "found 5 for the learning rate"),
        (_build(lr="'high'"), "expected a number for the learning rate"),
        (
            _build("lambda logits, target: (logits.argmax(1) != target).float().mean()"),
            "your loss has no gradient",
        ),
        (_build("nn.CrossEntropyLoss(reduction='none')"), "a scalar tensor"),
        (_build("lambda logits, target: logits.mean().log() * float('nan')"), "a finite number"),
        (_build("CrossEntropyLoss(torch.ones(2))"), "found 2 class weights"),
        (_build("Later()", before=_NAN_LATER), "training broke off"),
        ("def build_loss(train_set):\n    DiceLoss(), 5e-3", "returned None"),
    ],
}
