"""How lesson 3's exercise of writing a soft Dice loss is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from seglib.exercises.kit import NotYet, call, show

Array = NDArray[np.float64]
VOID = 255
CLOSE = 2e-4  # room for a small number against 0 / 0


# ---------------------------------------------------------------- the truth, and mistakes of value


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def one_hot_argmax(logits: Array) -> Array:
    return np.moveaxis(np.eye(logits.shape[1])[logits.argmax(1)], 3, 1)


INDICES: dict[str, Callable[[Array, Array], Any]] = {
    "dice": lambda p, g: 2 * (p * g).sum() / (p.sum() + g.sum()),
    "half": lambda p, g: (p * g).sum() / (p.sum() + g.sum()),
    "squares": lambda p, g: 2 * (p * g).sum() / ((p**2).sum() + (g**2).sum()),
    "jaccard": lambda p, g: (p * g).sum() / (p + g - p * g).sum(),
    "smooth": lambda p, g: (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1),
}


def value(
    logits: Array,
    target: NDArray[np.int64],
    *,
    index: str = "dice",
    void: str = "out",
    absent: str = "out",
    over: str = "batch",
    result: str = "loss",
    probability: Callable[[Array], Array] = softmax,
) -> float:
    """The loss in float64, or what comes out with a mistake."""
    if over != "batch":
        images = [(logits[i : i + 1], target[i : i + 1]) for i in range(len(target))]
        rows = [_losses(*image, index, void, absent, probability) for image in images]
        losses = [float(np.mean(row)) for row in rows if row]
    else:
        losses = _losses(logits, target, index, void, absent, probability)
    if result == "sum":
        return float(np.sum(losses))
    mean = float(np.mean(losses)) if losses else 0.0
    return 1 - mean if result == "dice" else mean - 1 if result == "negative" else mean


def _losses(
    logits: Array,
    target: NDArray[np.int64],
    index: str,
    void: str,
    absent: str,
    probability: Callable[[Array], Array],
) -> list[float]:
    """One minus the index of each class that counts."""
    classes = logits.shape[1]
    valid, p = target != VOID, probability(logits)
    truth = np.where(valid, target, {"class 0": 0, "truth 0": 0, "last": classes - 1}.get(void, -1))
    kept = valid if void in ("out", "truth 0") else np.ones_like(valid)
    if index == "micro":
        inside = [(p[:, c][valid] * (truth == c)[valid]).sum() for c in range(classes)]
        return [1 - sum(inside) / max(1, valid.sum())]
    losses = []
    for c in range(classes):
        g = (truth == c).astype(float)
        if g.sum() > 0 or absent != "out":
            whole = INDICES[index](p[:, c] * kept, g)
            losses.append(0.0 if g.sum() == 0 and absent == "zero" else float(1 - whole))
    return losses


class Mistake(NamedTuple):
    how: Mapping[str, Any]
    message: str


ANYWHERE = (
    Mistake(
        {"result": "dice"},
        "that is Dice itself, which training would make smaller: return one minus it",
    ),
    Mistake(
        {"result": "negative"},
        "that is minus Dice. It trains as well, but its best value is "
        "−1: return one minus Dice, so that 0 means perfect",
    ),
    Mistake(
        {"result": "sum"},
        "the losses of the classes are added up; take their mean, so that "
        "the number of classes does not change the step",
    ),
    Mistake(
        {"probability": one_hot_argmax},
        "these are overlaps of predicted labels. argmax has "
        "no gradient, so nothing would be learned: use the probabilities, logits.softmax(1)",
    ),
    Mistake(
        {"probability": lambda x: x},
        "the logits went in as they are. They are no probabilities: logits.softmax(1) first",
    ),
    Mistake(
        {"probability": lambda x: 1 / (1 + np.exp(-x))},
        "a sigmoid for each channel: then a "
        "pixel's probabilities do not add up to one. Here the classes exclude each other: "
        "softmax over dimension 1",
    ),
    Mistake(
        {"probability": lambda x: softmax(softmax(x))},
        "softmax is taken twice, which leaves all probabilities close to each other",
    ),
    Mistake(
        {"index": "half"}, "the factor 2 is missing: even a perfect prediction would lose a half"
    ),
    Mistake(
        {"index": "squares"},
        "the denominator has squares, Σ p² + Σ g². Milletari et al. "
        "(2016) define it so; it is another loss. Here the denominator is Σ p + Σ g",
    ),
    Mistake(
        {"index": "jaccard"},
        "that is the soft Jaccard index, whose denominator leaves out "
        "what both share. Dice divides 2·Σ p·g by Σ p + Σ g",
    ),
    Mistake(
        {"index": "smooth"},
        "1 is added to numerator and denominator. On small classes that "
        "changes the loss much; which case needs it, if only present classes count?",
    ),
    Mistake(
        {"index": "micro"},
        "the classes are added up before the division, so large classes "
        "decide. Divide class by class, then take the mean",
    ),
    Mistake(
        {"over": "images"},
        "that is one loss per image, then their mean. A class with three "
        "pixels in one image would weigh as much as one with thousands: add up over the whole "
        "batch (dimensions 0, 2 and 3) before you divide",
    ),
)
ABSENT = (
    Mistake(
        {"absent": "one"},
        "the absent class is in the mean: its overlap is 0 whatever the "
        "network does, so it costs a full point. Average over classes that the truth has",
    ),
    Mistake(
        {"absent": "zero"},
        "the absent class is in the mean with loss 0, which makes the "
        "others count less: divide by the number of classes that the truth has",
    ),
)
WITH_VOID = (
    Mistake(
        {"void": "all"},
        "what is predicted on void pixels still counts in Σ p. Nobody knows "
        "what is there: leave those pixels out of all three sums",
    ),
    Mistake(
        {"void": "class 0"},
        "void pixels count as class 0, as if someone had labelled them: "
        "leave them out of all three sums",
    ),
    Mistake(
        {"void": "truth 0"},
        "void is left out of Σ p, but in Σ g it counts as class 0: leave it out of all three sums",
    ),
    Mistake(
        {"void": "last"},
        "void pixels count as the last class: did a clamp bring 255 into "
        "range? Leave them out of all three sums",
    ),
)


# ---------------------------------------------------------------- the judge


class Trial(NamedTuple):
    given: str
    logits: Tensor
    target: Tensor
    mistakes: tuple[Mistake, ...]


def trials() -> Iterator[Trial]:
    """Each has one difficulty more than those before."""
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, 3, (2, 5, 6), generator=generator)
    target[0, :, 4:], target[1, 0, :2] = 3, 3  # a class of many pixels here, few there
    logits = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    logits += 2 * F.one_hot(target, 4).movedim(3, 1)
    void = target.clone()
    void[0, :2], void[1, 3:, 2:] = VOID, VOID
    yield Trial("two images of four classes, no void", logits, target, ANYWHERE)
    yield Trial(
        "two images of which the truth has three of four classes",
        logits,
        torch.where(target == 3, 1, target),
        ABSENT,
    )
    yield Trial("two images with void pixels", logits, void, WITH_VOID)


def soft_dice(answer: Any) -> str:
    for trial in trials():
        _check_value(answer, trial)
    _check_all_void(answer)
    return "value and gradient agree with sums in float64, on void, absent classes and no pixel"


def _check_value(answer: Any, trial: Trial) -> None:
    given, logits, target = trial.given, trial.logits.float().requires_grad_(), trial.target
    found = _called(answer, logits, target, given)
    exact, labels = trial.logits.numpy(), target.numpy()
    expected = value(exact, labels)
    if not torch.isfinite(found):
        raise NotYet(
            f"on {given}, the loss is {found.item()}, expected {expected:.4f}: what is "
            "divided by 0 here?"
        )
    if abs(found.item() - expected) > CLOSE:
        start = f"on {given}, the loss is {found.item():.4f}, expected {expected:.4f}"
        away = {
            mistake.message: abs(value(exact, labels, **mistake.how) - found.item())
            for mistake in trial.mistakes
        }
        message = min(away, key=lambda message: away[message])
        if away[message] < CLOSE:
            raise NotYet(f"{start}: {message}")
        raise NotYet(
            f"{start}. Class by class: one minus 2·Σ p·g / (Σ p + Σ g), sums over all "
            "valid pixels of the batch; then the mean over the classes that the truth has"
        )
    slope = _gradient(found, logits, given).double().numpy()
    if not np.isfinite(slope).all():
        raise NotYet(
            f"on {given}, the value is right, but the gradient has NaN: is there a 0 / 0 "
            "in a term that is thrown away later?"
        )
    towards = np.random.default_rng(0).standard_normal(exact.shape)
    ahead, behind = (value(exact + step * towards, labels) for step in (1e-5, -1e-5))
    if not np.isclose((slope * towards).sum(), (ahead - behind) / 2e-5, rtol=1e-2, atol=1e-4):
        raise NotYet(
            f"on {given}, the value is right and its gradient is not: is part of it "
            "detached, or computed under no_grad?"
        )


def _called(answer: Any, logits: Tensor, target: Tensor, given: str) -> Tensor:
    """The loss as a scalar tensor with a gradient; the target must be as it was."""
    copy = target.clone()
    try:
        found = call(answer, logits, copy, given=given)
    except NotYet as reason:
        text = str(reason)
        signs = ("one_hot", "Class values", "out of bounds", "out of range")
        if any(sign in text for sign in signs):
            raise NotYet(
                f"{text}. 255 is no class: put an allowed number there first "
                "(torch.where makes a new tensor), and leave those pixels out of the sums "
                "afterwards; or pick the valid pixels before"
            ) from None
        if "size of tensor" in text and "three of four" in given:
            raise NotYet(
                f"{text}. The last class is absent: F.one_hot(labels) makes as many "
                "channels as it sees; tell it, F.one_hot(labels, classes)"
            ) from None
        if "size of tensor" in text:
            raise NotYet(
                f"{text}. F.one_hot puts the classes last, (N, H, W, C), and the logits "
                "have them second: .movedim(3, 1) brings them there"
            ) from None
        raise
    changed = copy != target
    if changed.any():
        label = copy[changed][0].item()
        raise NotYet(
            f"on {given}, the caller's target has changed: {int(changed.sum())} void "
            f"pixels are now {label}, and the next metric takes them for a class. "
            "torch.where or masked_fill without the underscore make a new tensor"
        )
    if not isinstance(found, Tensor):
        raise NotYet(
            f"on {given}, expected a tensor of one number, found {show(found)}. A number "
            "of Python or NumPy has no gradient: stay in torch, no .item()"
        )
    if found.numel() != 1 or found.ndim:
        raise NotYet(
            f"on {given}, expected a scalar tensor, found one of shape "
            f"{tuple(found.shape)}: is the mean over the classes missing?"
        )
    return found


def _gradient(found: Tensor, logits: Tensor, given: str) -> Tensor:
    if not found.requires_grad:
        raise NotYet(
            f"on {given}, the result {found.item():.4f} has no gradient path to the "
            "logits, so backward() fails. Compute it from the logits all the way: even "
            "(0 * logits).sum() has one"
        )
    try:
        found.backward()
    except RuntimeError as error:
        raise NotYet(
            f"on {given}, backward() raised {type(error).__name__}: {str(error)[:200]}"
        ) from None
    return torch.zeros_like(logits) if logits.grad is None else logits.grad


def _check_all_void(answer: Any) -> None:
    given = "a batch with nothing but void"
    logits = torch.randn(2, 4, 3, 3).requires_grad_()
    found = _called(answer, logits, torch.full((2, 3, 3), VOID), given)
    if not torch.isfinite(found):
        raise NotYet(
            f"on {given}, the loss is {found.item()}, expected 0. No class is present, "
            "so the mean divides 0 by 0: divide by at least 1, as in "
            "number.clamp(min=1)"
        )
    if abs(found.item()) > 1e-3:
        raise NotYet(
            f"on {given}, the loss is {found.item():.4f}, expected 0: there is nothing "
            "to be wrong about"
        )
    slope = _gradient(found, logits, given)
    if not torch.isfinite(slope).all():
        raise NotYet(
            f"on {given}, the loss is 0, but its gradient has NaN, and one step would "
            "destroy the network: leave no 0 / 0 behind a torch.where"
        )
