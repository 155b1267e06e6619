"""The exercises of lesson 3, Losses, and how they are judged."""

# mypy: allow-untyped-defs

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.data import RenderedScans, make_loader
from seglib.exercises import kit
from seglib.exercises.kit import Lesson, NotYet, call, number, show
from seglib.exercises.material03 import ask as ask
from seglib.exercises.material03 import curves_figure as curves_figure
from seglib.losses import CombinedLoss

LESSON = Lesson(
    "03",
    outcomes=(
        "compute cross-entropy by hand and say which pixels count",
        "write a soft Dice loss that ignores void",
        "tell from recall and precision what weights and losses do to a rare class",
        "choose a loss and a learning rate for a rare class",
        "find the fault in a loss function by testing it on small batches",
    ),
)
summary = LESSON.summary

# ---------------------------------------------------------------- 1: four pixels

A, B, C = math.log(4 / 3), math.log(2), math.log(5 / 4)  # −ln p of the truth at pixels a, b, c
SUM, MEAN_P, LOGIT = A + B + C, (3 / 4 + 1 / 2 + 4 / 5) / 3, math.log(12) / 3
D = math.log1p(math.exp(18))  # what the void pixel would add if its 255 meant class 1

MISSING = "is missing from the sum: it has a truth, so its −ln p counts"
BY_HAND = [
    (SUM / 4, "that is the sum divided by four, but void is left out of the divisor, too"),
    (SUM, "that is the sum of the three logarithms; divide by the number of valid pixels"),
    (
        SUM / 3 / math.log(2),
        "that is in bits (logarithm to base 2); PyTorch uses the natural logarithm",
    ),
    (SUM / 3 / math.log(10), "that is the logarithm to base 10; PyTorch uses the natural one"),
    ((A + C) / 3, f"pixel b {MISSING}. (All three with logarithms to base 10 would give 0.174)"),
    ((A + C) / 2, f"pixel b {MISSING}"),
    *(((B + C) / n, f"pixel a {MISSING}") for n in (2, 3)),
    *(((A + B) / n, f"pixel c {MISSING}") for n in (2, 3)),
    (-math.log(MEAN_P), "that is −ln of the mean of p. The logarithm comes first, then the mean"),
    (MEAN_P, "that is the mean probability of the truth. The loss is the mean of its −ln"),
    (1 - MEAN_P, "that is one minus the mean probability. The loss is the mean of −ln p"),
    (-SUM / 3, "the size is right, the sign is wrong: the loss is −ln p, and ln p is negative"),
    *(((SUM + D) / n, "void counts as class 1. Leave d out of sum and divisor") for n in (3, 4)),
    *((x, "that is the mean of the truth's logits, without the softmax") for x in (LOGIT, -LOGIT)),
    (math.log(40) / 3, "those are the probabilities of the other class; a's truth is class 1"),
    ((math.log(4) + B + C) / 3, "pixel a has the wrong class: its truth, 1, is the second logit"),
]

by_hand = LESSON.add(
    name="by_hand",
    title="Cross-entropy of four pixels",
    kind="predict",
    outcome=0,
    judge=kit.numbers(
        SUM / 3,
        {None: BY_HAND},
        praise=f"(−ln 0.75 − ln 0.5 − ln 0.8) / 3 = {SUM / 3:.4f}, and d does not matter",
        what=lambda _: "the loss",
        tolerance=0.006,  # two decimal places, rounded or cut off
        otherwise="Pixel by pixel: softmax, −ln of the true class's p; then the mean without void",
    ),
    variable="guess",
    answer=0.4013,
    hints=(
        "e^ln 3 is 3 and e⁰ is 1: what is the probability of the true class at pixel a?",
        "Add up −ln p of the three true classes: by how many pixels do you divide?",
    ),
)

# ---------------------------------------------------------------- 2: which run is which?

# What the figure shows, and a question about each run: adjusted to the record by hand
SEEN = {
    "A": "nothing is found for 300 steps, then half of the lesion, mostly at a precision above 0.5",
    "B": "most lesion pixels are found from the first steps on, with a precision of a few per cent",
    "C": "recall and precision are both high in the end",
    "D": "nothing is found for 700 steps, then a fifth, with high precision",
}
ASK = {
    "cross-entropy, 4 %": "Lesions are forty times as large: in which panel is the task solved?",
    "cross-entropy, 0.1 %": "How little does it cost to predict no lesion at all?",
    "median weights, 0.1 %": "A miss costs most here: which of recall and precision is cheap?",
    "Dice, 0.1 %": "All classes count the same: when does recall rise, and is precision the price?",
}
RUNS = dict(zip(ASK, "CDBA", strict=True))

curves = LESSON.add(
    name="curves",
    title="Which run is which?",
    kind="interpret",
    outcome=2,
    judge=kit.letters(
        RUNS,
        {run: {x: f"there, {SEEN[x]}. {ASK[run]}" for x in SEEN if x != RUNS[run]} for run in RUNS},
        praise="at 0.1 % cross-entropy finds few lesion pixels, weights most of them at low "
        "precision, Dice half",
        what=lambda run: f"“{run}”",
        once=True,
    ),
    variable="runs",
    answer=RUNS,
    hints=(
        "Start with the run whose lesions are large: which panel looks like an easy task?",
        "Weights make misses expensive and false alarms cheap: which curve is high, which is low?",
    ),
)

# ---------------------------------------------------------------- 3: soft Dice


def soft_dice(logits, target):
    """One minus the mean soft Dice of the classes in the truth; void is 255."""
    valid = target != 255  # (N, H, W)
    p = logits.softmax(1).movedim(1, 3)[valid]  # (P, C): the valid pixels
    g = F.one_hot(target[valid], logits.shape[1])  # (P, C)
    hits, whole = (p * g).sum(0), p.sum(0) + g.sum(0)  # (C,) each
    present = g.sum(0) > 0
    losses = 1 - 2 * hits[present] / whole[present]
    return losses.sum() / present.sum().clamp(min=1)


INDEX, MEAN = "hits[present] / whole[present]", "losses.sum() / present.sum().clamp(min=1)"
ANYWHERE = kit.edits(
    soft_dice,
    "that is Dice itself, which training would minimize: return one minus it",
    ("1 - 2", "2"),
    "that is minus Dice. It trains as well; return one minus Dice, so that 0 means perfect",
    ("1 - 2", "-2"),
    "the classes are summed; take their mean, so that their number does not change the step",
    (MEAN, "losses.sum()"),
    "logits are not probabilities: apply logits.softmax(1) first",
    (".softmax(1)", ""),
    "a sigmoid for each channel. Here the classes exclude each other: softmax over dimension 1",
    (".softmax(1)", ".sigmoid()"),
    "softmax is applied twice, which leaves all probabilities close to each other",
    (".softmax(1)", ".softmax(1).softmax(1)"),
    "the factor 2 is missing: even a perfect prediction would have a loss of 1/2",
    ("2 * ", ""),
    "the denominator has squares, as in Milletari et al. (2016). Here it is Σ p + Σ g",
    ("p.sum(0) +", "(p**2).sum(0) +"),
    "that is the soft Jaccard index. Dice divides 2·Σ p·g by Σ p + Σ g",
    ("2 * ", "", "+ g.sum(0)", "+ g.sum(0) - (p * g).sum(0)"),
    "1 is added to numerator and denominator, which changes the loss of small classes a lot",
    (f"2 * {INDEX}", "(2 * hits + 1) / (whole + 1)"),
    "the classes are summed before the division, so large classes dominate. Divide per class",
    (INDEX, "hits.sum() / whole.sum()", MEAN, "losses"),
    "class 0, the background, is left out of the mean. Include it like the other classes",
    (MEAN, "losses[1:].mean()"),
    "the classes are weighted by their number of pixels. Here each counts the same",
    (MEAN, "(losses * g.sum(0)).sum() / g.sum()"),
    "the classes are weighted inversely by their number of pixels. Here each counts the same",
    (MEAN, "(losses / g.sum(0)).sum() / (1 / g.sum(0)).sum()"),
    "that is generalized Dice (Sudre et al., 2017), with weights 1 / n². Here nothing is weighted",
    (INDEX, "(hits / g.sum(0) ** 2).sum() / (whole / g.sum(0) ** 2).sum()", MEAN, "losses"),
    "that is one loss per image, then their mean: sum over the batch before you divide",
    (".sum(0)", ".view(2, 30, 4).sum(1)", "[present]", "", MEAN, "losses.mean()"),
    "the value is right, its gradient is wrong: the denominator is detached",
    ("whole[present]", "whole[present].detach()"),
)
ABSENT = kit.edits(
    soft_dice,
    "the absent class is in the mean, where it costs 1, whatever the network does",
    (INDEX, "hits / whole", MEAN, "losses.mean()"),
    "the absent class is in the mean with loss 0: divide by the number of classes in the truth",
    (MEAN, "losses.sum() / len(present)"),
)
WITH_VOID = kit.edits(
    soft_dice,
    "predictions on void pixels still count in Σ p: leave those pixels out of all sums",
    ("p.sum(0) +", "logits.softmax(1).sum((0, 2, 3)) +"),
    "void pixels count as class 0: leave those pixels out of all three sums",
    ("valid =", "target = target % 255; valid ="),
    "void is left out of Σ p, but in Σ g it counts as class 0: leave it out of all three sums",
    ("+ g.sum(0)", "+ F.one_hot(target % 255, 4).sum((0, 1, 2))"),
    "void pixels count as the last class. Did a clamp bring 255 into range?",
    ("valid =", "target = target.clamp(max=3); valid ="),
)
ONLY_VOID = kit.edits(
    soft_dice,
    "without a class, the mean divides 0 by 0: divide by at least 1, as in number.clamp(min=1)",
    (".clamp(min=1)", ""),
    "without a valid pixel there is no error: return 0",
    ("return ", "return ~valid.any() + "),
    "its gradient has NaN, which would destroy the network: torch.where hides a 0 / 0 in the value",
    ("return ", "z = valid.sum() * logits.sum(); return torch.where(valid.any(), 0 * z / z, 0) + "),
)
BATCHES = (
    "two images of four classes without void",
    "two images of which the truth has three of four classes",
    "two images with void pixels",
    "a batch of void pixels only",
)
NO_CLASS = "255 is not a class: select the valid pixels first, or replace 255 for the moment"
CLUES = {  # the cause of an error, by words in its message
    BATCHES[0]: {"size of tensor": "F.one_hot puts classes last; .movedim(3, 1) brings them there"},
    BATCHES[1]: {
        "size of tensor": "F.one_hot makes only as many channels as it sees: pass classes"
    },
    BATCHES[2]: dict.fromkeys(("Class values", "out of "), NO_CLASS),
}
NO_PATH = (
    "your loss has no gradient path to the logits: argmax has no gradient, nor have constants; "
    "(0 * logits).sum() has one"
)


def value_and_gradient(answer: Any, given: str, logits: Tensor, target: Tensor) -> Tensor:
    """What a loss says, and its gradient times the number of pixels."""
    before = target.clone()
    found = call(answer, logits.requires_grad_(), target, given=given, clues=CLUES.get(given))
    if (spoilt := target != before).any():
        raise NotYet(
            f"on {given}, the caller's target has changed: {int(spoilt.sum())} void pixels are now "
            f"{target[spoilt][0].item()}. torch.where and masked_fill return a new tensor"
        )
    if not isinstance(found, Tensor) or found.ndim:
        hint = "is the mean missing?" if isinstance(found, Tensor) else "no .item(), no NumPy"
        raise NotYet(f"on {given}, expected a scalar tensor, found {show(found)}: {hint}")
    clues = dict.fromkeys(("does not require grad", "not have been used"), NO_PATH)
    back = f"the backward pass of {given}"
    (slope,) = call(torch.autograd.grad, found, logits, given=back, clues=clues)
    if not found.isfinite() or slope.isnan().any():
        slope = torch.full_like(slope, torch.nan)  # wherever it is
    return torch.cat([found.detach().float()[None], target.numel() * slope.flatten()])


def dice_judges() -> list[kit.function]:
    """One for each batch, which has a difficulty more than those before, and its mistakes."""
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, 3, (2, 5, 6), generator=generator)
    target[0, :, 4:], target[1, 0, :2] = 3, 3  # a class of many pixels here, few there
    logits = torch.randn(2, 4, 5, 6, generator=generator) + 2 * F.one_hot(target, 4).movedim(3, 1)
    three, void = torch.where(target == 3, 1, target), target.clone()
    void[0, :2], void[1, 3:, 2:] = 255, 255
    targets = (target, three, void, torch.full_like(target, 255))
    mistakes = (ANYWHERE, ABSENT, WITH_VOID, ONLY_VOID)
    return [
        kit.function(
            [(logits, labels)],
            soft_dice,
            wrong,
            given=lambda *_, batch=batch: batch,
            praise="value and gradient are right with void, absent classes and no valid pixel",
            read=lambda found, given: found,
            agree=kit.close(2e-4),  # 1e-3 against 0 / 0, added to sums above 15, changes less
            shown=lambda found: f"{found[0]:.4f} (gradient of length {found[1:].norm():.3f})",
            otherwise="Class by class, over the batch: one minus 2·Σ p·g / (Σ p + Σ g); the mean",
            run=value_and_gradient,
        )
        for batch, labels, wrong in zip(BATCHES, targets, mistakes, strict=True)
    ]


soft_dice = LESSON.add(  # type: ignore[assignment]
    name="soft_dice",
    title="Soft Dice that ignores void",
    kind="implement",
    outcome=1,
    judge=kit.in_turn(dice_judges()),
    answer=soft_dice,
    hints=(
        "p and g have one row per valid pixel and one column per class. Over which dimension do "
        "you sum?",
        "Classes with Σ g > 0 are present. If there are none, what do you divide by?",
    ),
)

# ---------------------------------------------------------------- 4: a loss of one's own

# The bar comes from measurements with just these data, seeds and steps.
BAR, SEEDS, TRAIN, HIDDEN = 0.70, (51, 52), range(160), range(5000, 5030)
EPOCHS, SIZE, LESION = 6, 64, 1
EMA = 0.96  # of about 25 steps: at a constant rate single steps jump


class Slices(RenderedScans):
    """Slices that are rendered once."""

    kept = cache(RenderedScans.read)

    def read(self, index: int) -> Any:
        image, mask = self.kept(index)
        return image.copy(), mask.copy()


@cache
def slices() -> tuple[Slices, Slices]:
    """Those to train on and the hidden ones, with lesions of one per cent of the pixels."""
    from seglib.transforms import eval_transform, train_transform

    flips = train_transform(SIZE, SIZE, zoom=(1, 1), stretch=1, colour=0)
    look: dict[str, Any] = {"lesion_size": 0.01, "lesion": True, "contrast": 3.0}
    hidden = Slices(HIDDEN, SIZE, SIZE, eval_transform(SIZE, SIZE), **look)
    return Slices(TRAIN, SIZE, SIZE, flips, **look), hidden


def loss_and_rate(build: Any) -> tuple[nn.Module, float]:
    """What build_loss returns, or what is wrong with it."""
    found = call(build, slices()[0], given="the training scans")
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise NotYet(f"expected a pair, loss and learning rate, found {show(found)}")
    loss, rate = found
    if callable(rate) and not callable(loss):
        raise NotYet("expected loss first, learning rate second; found them in reverse order")
    if isinstance(loss, type) or not callable(loss):
        made = f"; write {loss.__name__}(…) to make one" if isinstance(loss, type) else ""
        raise NotYet(f"expected a loss to call as loss(logits, target), found {show(loss)}{made}")
    lr = number(rate, "the learning rate", 1e-7, 1)
    given = "random logits (2, 3, 8, 8)"
    said = value_and_gradient(loss, given, torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8)))
    if not said[0].isfinite():
        raise NotYet(f"on {given}, your loss is {said[0]:g}, expected a finite number")
    if isinstance(loss, nn.Module):
        return loss, lr
    module = nn.Module()  # as `fit` takes it
    module.forward = loss
    return module, lr


def scores_after_training(build: Any, seed: int) -> Any:
    """Scores on the hidden slices of the lesson's small U-Net, trained with the loss."""
    from seglib.models import UNet
    from seglib.training import evaluate, fit

    (train, hidden), (loss, lr) = slices(), loss_and_rate(build)
    torch.manual_seed(seed)
    model = UNet(train.num_classes, base_channels=8)
    loader = make_loader(train, 4, shuffle=True, seed=seed)
    try:
        fit(model, loader, epochs=EPOCHS, lr=lr, loss=loss, seed=seed, schedule="constant", ema=EMA)
    except Exception as error:
        text = f"{type(error).__name__}: {str(error)[:200]}"
        raise NotYet(f"training with learning rate {lr:g} stopped with {text}") from None
    return evaluate(model, make_loader(hidden, 10))


def own_loss_judge(build: Any) -> str:
    runs = [scores_after_training(build, seed) for seed in SEEDS]
    iou, recall, precision = (
        np.nan_to_num([getattr(run, name)[LESION] for run in runs])
        for name in ("iou", "recall", "precision")
    )
    each = ["{:.2f} and {:.2f}".format(*row) for row in (iou, recall, precision)]
    found = (
        f"lesion IoU {iou.mean():.3f} on {len(HIDDEN)} hidden scans ({each[0]} with two seeds); "
        f"recall {each[1]}, precision {each[2]}; the bar is {BAR}"
    )
    if iou.mean() >= BAR:
        return found
    if recall.max() < 0.05:
        hint = (
            "No lesion is found yet. Would weights, an overlap loss or another rate start earlier?"
        )
    elif recall.min() < 0.05:
        hint = "One seed finds lesions, the other does not yet. What would make it start earlier?"
    elif recall.mean() > 1.5 * precision.mean():
        hint = "Misses cost so much that there are many false alarms. Weaken weights, or mix losses"
    elif precision.mean() > 1.5 * recall.mean():
        hint = "Precision is high and recall low. Let missed pixels cost more than false alarms"
    else:
        hint = "Recall and precision are balanced, so weights will not help. Try other rates"
    raise NotYet(f"{found}. {hint}")


def build_loss(train_set):
    return CombinedLoss(), 5e-3


own_loss = LESSON.add(
    name="own_loss",
    title="A loss of your own",
    kind="design",
    outcome=3,
    judge=own_loss_judge,
    answer=build_loss,
    hints=(
        "Only one pixel in a hundred is lesion: which losses found such a class early?",
        "Compare DiceLoss() and CombinedLoss() at two rates on dev.",
        "dev_iou(DiceLoss(), 0.002) trains as the check does, with two other seeds. Does a higher "
        "rate raise the lower of the two IoUs?",
    ),
)

# ---------------------------------------------------------------- 5: four losses, four faults

FAULTS = {
    1: "void pixels are in the divisor",
    2: "void counts as class 0",
    3: "the caller's target is changed",
    4: "softmax is applied twice",
    5: "an all-void batch gives NaN",
    6: "sums overflow in half precision",
}
FAULTY = {"a": 3, "b": 4, "c": 2, "d": 1}
COST = {  # what each of these four does to a training
    1: "the more void there is, the smaller is the gradient",
    2: "the network is taught class 0 on void",
    3: "whatever reads the target afterwards takes void for class 0",
    4: "even certain, right pixels cost 0.55",
}
LOOK = {  # what reveals each fault: lines of ask, with the figures below
    1: "unsure logits cost {}, and {} with image 2 void (void in the divisor would halve it)",
    2: "with image 2 void, right logits cost {}, and {} with class 0 predicted on the void pixels",
    3: "the caller's target is {} afterwards",
    4: "logits that are right by a wide margin, without void, cost {}",
    5: "a batch of void pixels only costs {}",
    6: "on 360×480 pixels unsure logits cost {} in float32 and {} in float16",
}
FOUND = {  # from loss_a to loss_d (a test calls them)
    1: ("1.10 1.10", "1.10 1.10", "1.10 2.20", "1.10 0.55"),
    2: ("0.00 0.00", "0.55 0.55", "6.00 0.00", "0.00 0.00"),
    3: ("changed", "unchanged", "unchanged", "unchanged"),
    4: ("0.00", "0.55", "0.00", "0.00"),
    5: ("0.00", "0.00", "36.00", "0.00"),
    6: ("1.10 1.10", "1.10 1.10", "1.10 1.10", "1.10 1.10"),
}


def why_not(letter: str, fault: int) -> str:
    missing, there = (
        LOOK[n].format(*FOUND[n]["abcd".index(letter)].split()) for n in (fault, FAULTY[letter])
    )
    return f"“{FAULTS[fault]}” would show here, but does not: {missing}. What shows: {there}"


faults = LESSON.add(
    name="faults",
    title="Four losses, four faults",
    kind="debug",
    outcome=4,
    judge=kit.numbers(
        FAULTY,
        {x: [(fault, why_not(x, fault)) for fault in FAULTS if fault != FAULTY[x]] for x in FAULTY},
        praise="; ".join(f"{x}: {FAULTS[fault]}, so {COST[fault]}" for x, fault in FAULTY.items()),
        what=lambda letter: f"the fault of loss_{letter}",
        low=1,
        high=6,
        otherwise="expected one of the numbers 1 to 6",
    ),
    variable="faults",
    answer=FAULTY,
    hints=(
        "Each line of ask tests one thing: which line of which loss must be wrong?",
        "Right logits must cost 0, and void must change nothing: compare the lines in pairs.",
        "The lines “all void” and “float16” rule out two faults.",
    ),
)
