"""How the answers of lesson 3 are judged: by hand, and five losses with a fault each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seglib.exercises import faulty03
from seglib.exercises.kit import NotYet, number, show

# ---------------------------------------------------------------- 1: four pixels

_LOGITS = {"a": (0.0, math.log(3)), "b": (0.0, 0.0), "c": (math.log(4), 0.0)}
_TRUTH = {"a": 1, "b": 0, "c": 0}  # d is void, with logits (9, −9)


def _probabilities(other: bool = False) -> list[float]:
    """Of the three valid pixels, the probability of the truth or of the other class."""
    found = []
    for pixel, logits in _LOGITS.items():
        powers = [math.exp(x) for x in logits]
        found.append(powers[_TRUTH[pixel] ^ other] / sum(powers))
    return found


def _by_hand() -> tuple[float, list[tuple[float, str]]]:
    """The right answer, and what comes out with each mistake."""
    p, q = _probabilities(), _probabilities(other=True)
    total, mean = -sum(map(math.log, p)), sum(p) / 3
    raw = -sum(_LOGITS[pixel][_TRUTH[pixel]] for pixel in _LOGITS)
    void = math.log1p(math.exp(18))  # d taken for class 1
    return total / 3, [
        (
            total / 4,
            "that is the sum divided by four. Pixel d is void: it neither adds to the sum "
            "nor counts in the divisor",
        ),
        (
            total,
            "that is the sum of the three logarithms; the loss is their mean over the valid pixels",
        ),
        (
            total / 3 / math.log(2),
            "that is in bits, from the logarithm to base 2. PyTorch takes the natural one",
        ),
        (
            total / 3 / math.log(10),
            "that is the logarithm to base 10. PyTorch takes the natural one",
        ),
        (
            -math.log(mean),
            "that is −ln of the mean probability. The logarithm comes first, pixel "
            "by pixel, then the mean: a pixel that is badly wrong weighs more so",
        ),
        (mean, "that is the mean probability of the truth. The loss is the mean of its −ln"),
        (
            1 - mean,
            "that is one minus the mean probability. The loss is the mean of −ln p, which "
            "grows without bound as p goes to 0",
        ),
        (
            -total / 3,
            "the size is right and the sign is not: ln of a probability is negative, and "
            "the loss is −ln",
        ),
        (
            (total + void) / 4,
            "void counts as class 1 here: d alone would add 18. A void pixel has "
            "no truth: leave it out of sum and divisor",
        ),
        (
            (total + void) / 3,
            "void counts as class 1 here: d alone would add 18. A void pixel has "
            "no truth: leave it out of sum and divisor, which is 3",
        ),
        (
            raw / 3,
            "these are the logits of the truth with a minus, without the softmax. First "
            "p = e^logit / Σ e^logit, then −ln p",
        ),
        (
            -raw / 3,
            "that is the mean of the truth's logits. First p = e^logit / Σ e^logit, then "
            "the mean of −ln p",
        ),
        (
            -sum(map(math.log, q)) / 3,
            "those are the probabilities of the other class. For a the "
            "truth is class 1, the second logit",
        ),
        (
            -sum(map(math.log, [*p[1:], q[0]])) / 3,
            "pixel a has the wrong class: its truth is class 1, the second logit",
        ),
    ]


def by_hand(answer: Any) -> str:
    found = number(answer, "the loss", -1000, 1000)
    right, mistakes = _by_hand()
    if abs(found - right) <= 0.006:
        return f"(−ln 0.75 − ln 0.5 − ln 0.8) / 3 = {right:.4f}, and d does not matter"
    for mistaken, reason in mistakes:
        if abs(found - mistaken) <= 0.006:
            raise NotYet(f"{found:g} · {reason}")
    raise NotYet(
        f"found {found:g}. Pixel by pixel: e to the power of both logits, divided by "
        "their sum; −ln of the truth's share; then the mean over the pixels with a truth"
    )


# ---------------------------------------------------------------- 4: five losses, five faults

FAULTS = {
    1: "void pixels are in the divisor",
    2: "void counts as class 0",
    3: "an absent class costs a full point",
    4: "the caller's target is changed",
    5: "softmax is taken twice",
    6: "an all-void batch gives NaN",
    7: "the mean is taken over images, whatever their number of valid pixels",
    8: "sums overflow in half precision",
}
RIGHT = {"a": 4, "b": 5, "c": 2, "d": 1, "e": 3}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    letter: getattr(faulty03, f"loss_{letter}") for letter in RIGHT
}
FULL = [[[0, 1, 2]], [[0, 1, 2]]]  # two images of 1×3 pixels, three classes
HALF = [[[0, 1, 2]], [[255, 255, 255]]]


def _sure(labels: Any) -> Tensor:
    """Logits that are right by a mile if `labels` are the truth."""
    return 9.0 * F.one_hot(torch.tensor(labels), 3).movedim(3, 1)


def _says(letter: str, logits: Tensor, labels: Any) -> str:
    value = LOSSES[letter](logits, torch.tensor(labels)).item()
    return f"{0.0 if abs(value) < 0.005 else value:.2f}"


def _shown(letter: str, fault: int) -> str:
    """What the loss says on the small input that tells whether it has this fault."""
    loss, full = f"loss_{letter}", _sure(FULL)
    if fault == 1:
        return (
            f"for unsure logits (all 0) {loss} gives {_says(letter, 0 * full, FULL)}, and "
            f"{_says(letter, 0 * full, HALF)} with the second of two images void (void in the "
            "divisor would halve it)"
        )
    if fault == 2:
        other = _sure([[[0, 1, 2]], [[0, 0, 0]]])
        return (
            f"for logits that are right, with the second image void, {loss} gives "
            f"{_says(letter, full, HALF)}, and with class 0 predicted on the void pixels "
            f"{_says(letter, other, HALF)}"
        )
    if fault == 3:
        two = [[[0, 1, 0]], [[0, 1, 0]]]
        return (
            f"for logits that are right {loss} gives {_says(letter, full, FULL)}, and "
            f"{_says(letter, _sure(two), two)} if class 2 is neither there nor predicted"
        )
    if fault == 4:
        given = torch.tensor(HALF)
        LOSSES[letter](full, given)
        return (
            f"a target whose second image is [255, 255, 255] before {loss} is called is "
            f"{given[1, 0].tolist()} afterwards"
        )
    if fault == 5:
        return (
            f"{loss} gives {_says(letter, full, FULL)} for logits that are right by a mile, "
            "on a map without void and with all classes"
        )
    if fault == 6:
        return f"{loss} gives {_says(letter, full, [[[255] * 3]] * 2)} on a batch of void only"
    if fault == 7:
        pair = []
        for image in (0, 1):  # one pixel of class 0 is called class 1
            labels = [[[0, 1, 2]], [[0, 0, 0]]]
            labels[image][0][0] = 1
            pair.append(_says(letter, _sure(labels), [[[0, 1, 2]], [[0, 255, 255]]]))
        return (
            f"one wrong pixel costs {pair[0]} in an image of three valid pixels and {pair[1]} "
            "in one of a single valid pixel; a mean over images would make the second cost "
            "more"
        )
    many = torch.zeros(1, 3, 360, 480)
    zeros = torch.zeros(1, 360, 480, dtype=torch.int64)
    half, single = (LOSSES[letter](x, zeros).item() for x in (many.half(), many))
    return f"on 360×480 pixels {loss} gives {half:.2f} in float16 and {single:.2f} in float32"


def faults(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(RIGHT):
        raise NotYet(f"expected a dict with the keys {', '.join(RIGHT)}, found {show(answer)}")
    found = {}
    for letter in RIGHT:
        value = number(answer[letter], f"the fault of loss_{letter}", 1, 8)
        found[letter] = round(value)
        if found[letter] != value:
            raise NotYet(f"expected one of the numbers 1 to 8 for loss_{letter}, found {value:g}")
    good = sum(found[letter] == RIGHT[letter] for letter in RIGHT)
    for letter, right in RIGHT.items():
        if found[letter] != right:
            raise NotYet(
                f"{good} of 5 are right; the first that is not is loss_{letter} → {found[letter]}, "
                f"“{FAULTS[found[letter]]}”. That would show here, and does not: "
                f"{_shown(letter, found[letter])}. What does show: {_shown(letter, right)}"
            )
    return "; ".join(f"{letter}: {FAULTS[fault]}" for letter, fault in RIGHT.items())
