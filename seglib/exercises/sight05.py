"""How the answers of lesson 5 about what a dilated convolution sees are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seglib.exercises.kit import NotYet, call, number, show
from seglib.models.deeplab import valid_taps

# ---------------------------------------------------------------- field

Layers = tuple[tuple[int, int], ...]  # (stride, rate) of each 3×3 convolution
STACKS: dict[str, Layers] = {
    "rates 1, 1, 1": ((1, 1), (1, 1), (1, 1)),
    "rates 1, 2, 4": ((1, 1), (1, 2), (1, 4)),
    "stride 2, then rates 1, 2": ((2, 1), (1, 1), (1, 2)),
}


def field_of(layers: Layers) -> int:
    """Pixels along one side that a stack of 3×3 convolutions sees."""
    seen, step = 1, 1  # step: pixels of the image between taps
    for stride, rate in layers:
        seen += 2 * rate * step
        step *= stride
    return seen


FIELD = {key: field_of(layers) for key, layers in STACKS.items()}


def field(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(FIELD):
        raise NotYet(f"expected a dict with the keys {list(FIELD)}, found {show(answer)}")
    given = [number(answer[key], f"the field of {key!r}", low=1) for key in FIELD]
    for (key, right), found in zip(FIELD.items(), given, strict=True):
        if found != right:
            reasons = [text for value, text in _readings(STACKS[key]) if value == found][:2]
            raise NotYet(f"{key}: {found:g} is not it: " + (". Or: ".join(reasons) or _HOW))
    return (
        "three layers see 7 pixels; with growing rates, or after a stride, 15. Of the two, the "
        "stride alone makes the map smaller"
    )


_HOW = (
    "start with 1, the pixel itself, and add 2 · rate · (product of the strides before it) for "
    "each layer"
)


def _readings(layers: Layers) -> list[tuple[int, str]]:
    """(a wrong value, what it is), the likeliest first."""
    right, (strides, rates) = field_of(layers), zip(*layers, strict=True)
    sizes = [2 * rate + 1 for rate in rates]
    plus, times = " + ".join(map(str, sizes)), " · ".join(map(str, sizes))
    found = []
    if max(strides) > 1:
        halved = field_of(layers[1:]) + 2  # the same layers without their stride
        own = 1 + sum(2 * rate * math.prod(strides[: n + 1]) for n, rate in enumerate(rates))
        found += [
            (
                halved,
                "that forgets the stride: behind it, neighbours on the map are two pixels of "
                "the image apart",
            ),
            (
                own,
                "that counts the stride for its own layer. Its window still lies on the image; "
                "the layers after it stand on the halved map",
            ),
            (
                2 * field_of(layers[1:]),
                "that doubles what the later layers see of the map. "
                "Neighbours on it see windows of 3 that overlap",
            ),
        ]
    if max(rates) > 1:
        found += [
            (
                field_of(tuple((stride, 1) for stride in strides)),
                "that is the field with all rates 1: at rate r the outer taps lie r away from the "
                "centre, and the layer adds 2 · r steps",
            ),
            (
                sum(sizes),
                f"that adds the layers' own widths, {plus}. Each widens by its width − 1, "
                "because its centre is counted already",
            ),
            (
                math.prod(sizes),
                f"that multiplies the layers' own widths, {times}. A stack adds: "
                "each layer widens the field by its width − 1",
            ),
            (
                field_of(tuple((rate, rate) for rate in rates)) if max(strides) == 1 else 0,
                "that multiplies the rates as if they were strides. A rate moves the taps of its own "
                "layer apart; the map stays as dense as before",
            ),
            (
                3 * sum(rates) if max(strides) == 1 else 0,
                "that adds 3 · rate for each layer. A layer widens the field by 2 · rate, the way "
                "from its first to its last tap",
            ),
            (field_of(layers[1:]) if max(strides) == 1 else 0, "that leaves out the first layer"),
        ]
    found += [
        (field_of(layers[:-1]), "that leaves out the last layer"),
        (
            3 * len(layers),
            "that adds the kernels, 3 + 3 + 3. They overlap: each layer after the "
            "first widens the field by what its outer taps reach further",
        ),
        (
            3 ** len(layers),
            "that multiplies the kernels, 3 · 3 · 3. A stack adds: each layer "
            "widens the field at both sides",
        ),
        (right // 2, "that is how far the field reaches to one side; asked is its whole side"),
        (
            sizes[-1],
            "that is the last layer alone, on its own input. The layers before it see more "
            "than one pixel, too",
        ),
        (right - 1, "the centre pixel itself counts, too"),
        (right**2, "that is the area; asked is one side"),
    ]
    return found


# ---------------------------------------------------------------- taps

Case = tuple[int, int, int]  # height, width, rate
CASES: tuple[Case, ...] = (
    (6, 8, 1),
    (6, 8, 2),
    (23, 30, 6),
    (9, 5, 3),
    (7, 7, 7),
    (4, 12, 6),
    (3, 3, 5),
)


def counted(height: int, width: int, rate: int) -> Tensor:
    """How many of the 9 taps lie inside, at every position, counted with a convolution of ones."""
    ones = torch.ones(1, 1, height, width)
    return F.conv2d(ones, torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)[0, 0]


def _axis(size: int, rate: int) -> float:
    """Of three rows, how many lie inside on average (to recognise mistakes)."""
    return 1 + 2 * max(0, size - rate) / size


_TAPS: tuple[tuple[str, Callable[[int, int, int], Any]], ...] = (
    (
        "that counts the zeros of the padding, too. A tap on them adds nothing, whatever its weight",
        lambda h, w, r: 9.0,
    ),
    (
        "that is the share; asked is the number out of 9",
        lambda h, w, r: counted(h, w, r).mean() / 9,
    ),
    (
        "that is the total over all positions; asked is the mean",
        lambda h, w, r: counted(h, w, r).sum(),
    ),
    (
        "that is the number at rate 1: at rate r an outer tap is missing from r rows or columns at "
        "its side, not from one",
        lambda h, w, r: counted(h, w, 1).mean(),
    ),
    (
        "that is the number at the centre of the map, its best position; asked is the mean over all",
        lambda h, w, r: counted(h, w, r)[h // 2, w // 2],
    ),
    (
        "that is the number at the worst position; asked is the mean over all",
        lambda h, w, r: counted(h, w, r).min(),
    ),
    (
        "that is the number in the corner, where most taps are missing; asked is the mean over all",
        lambda h, w, r: counted(h, w, r)[0, 0],
    ),
    (
        "where the rate is larger than the map, the outer taps are outside everywhere: 0 of them are "
        "inside, and not fewer. max(0, …)",
        lambda h, w, r: (1 + 2 * (h - r) / h) * (1 + 2 * (w - r) / w),
    ),
    (
        "that counts rows alone, out of 3. Each of them has up to three taps: times the columns",
        lambda h, w, r: _axis(h, r),
    ),
    ("that counts columns alone, out of 3: times the rows", lambda h, w, r: _axis(w, r)),
    (
        "that loses taps above and below only: the columns at the left and the right leave the map, "
        "too",
        lambda h, w, r: 3 * _axis(h, r),
    ),
    (
        "that loses taps at the left and the right only: the rows above and below leave the map, too",
        lambda h, w, r: 3 * _axis(w, r),
    ),
    (
        "your number knows the height alone: the columns depend on the width",
        lambda h, w, r: _axis(h, r) ** 2,
    ),
    (
        "your number knows the width alone: the rows depend on the height",
        lambda h, w, r: _axis(w, r) ** 2,
    ),
    (
        "that adds rows and columns. Each row that is inside has all columns that are: multiply",
        lambda h, w, r: _axis(h, r) + _axis(w, r),
    ),
    (
        "that counts only positions where all nine are inside; a tap counts by itself",
        lambda h, w, r: 9 * max(0, h - 2 * r) * max(0, w - 2 * r) / (h * w),
    ),
    (
        "that loses the centre with the others. The tap at the position itself is always inside",
        lambda h, w, r: 9 * max(0, h - r) * max(0, w - r) / (h * w),
    ),
    (
        "an outer tap leaves the map in r rows at its own side, not in r at both: it is inside for "
        "height − r of them",
        lambda h, w, r: _axis(h, 2 * r) * _axis(w, 2 * r),
    ),
    (
        "that counts one outer row and one outer column; there are two of each",
        lambda h, w, r: (1 + max(0, h - r) / h) * (1 + max(0, w - r) / w),
    ),
    (
        "that is rounded to a whole number; asked is the mean as it is",
        lambda h, w, r: round(float(counted(h, w, r).mean())),
    ),
    (
        "that is rounded to one decimal; asked is the mean as it is",
        lambda h, w, r: round(float(counted(h, w, r).mean()), 1),
    ),
    (
        "row `height` and column `width` are outside already: 0 <= row < height",
        lambda h, w, r: (_axis(h, r) + (r <= h) / h) * (_axis(w, r) + (r <= w) / w),
    ),
    (
        "that is cut to a whole number; asked is the mean as it is",
        lambda h, w, r: int(counted(h, w, r).mean()),
    ),
)


def taps(answer: Any) -> str:
    results = [_number_of_taps(answer, case) for case in CASES]
    rights = [float(counted(*case).mean()) for case in CASES]
    wrong = [n for n in range(len(CASES)) if not _close(results[n], rights[n])]
    if wrong:
        n, same = (
            wrong[0],
            [
                text
                for text, mistake in _TAPS
                if all(
                    _close(found, float(mistake(*case)))
                    for found, case in zip(results, CASES, strict=True)
                )
            ],
        )
        text = (
            same
            or [
                "begin with the tap above the middle one: at how many positions is it "
                f"inside, at rate {CASES[n][2]}? Then go round"
            ]
        )[0]
        if not 1 <= results[n] <= 9 and not same:
            text = "a position has from 1 to 9 taps inside, and so has the mean"
        raise NotYet(f"{_map(CASES[n])}: found {results[n]:.2f}, expected {rights[n]:.2f}: {text}")
    return f"equal to counting with a convolution of ones, on {len(CASES)} maps, one of them 3×3"


def _map(case: Case) -> str:
    return f"on a map of {case[0]}×{case[1]} at rate {case[2]}"


def _number_of_taps(answer: Any, case: Case) -> float:
    given = _map(case).removeprefix("on ")
    found = call(answer, *case, given=given)
    if getattr(found, "ndim", 0):
        raise NotYet(
            f"on {given}, found {show(found)}, expected one number: the mean over all positions"
        )
    return number(found, f"the mean number of taps on {given}")


def _close(found: float, value: float) -> bool:
    return abs(found - value) < 0.006  # two decimals are fine


# ---------------------------------------------------------------- rates

LEAST = 3  # taps that a branch must keep
HIDDEN: tuple[Case, ...] = (
    (96, 128, 16),
    (96, 128, 8),
    (180, 240, 8),
    (360, 480, 16),
    (512, 512, 16),
    (101, 75, 8),
)
_PAPER = ((6, 12, 18), (12, 24, 36))


def largest_rate(height: int, width: int, least: float = LEAST) -> int:
    """The largest rate that keeps `least` taps on a map of that size (0: none does)."""
    rate = 0
    while rate < max(height, width) and valid_taps(height, width, rate + 1) >= least:
        rate += 1
    return rate


def _on_map(height: int, width: int, stride: int) -> tuple[int, int]:
    return math.ceil(height / stride), math.ceil(width / stride)


_RATES: tuple[tuple[str, Callable[[int, int, int], int]], ...] = (
    (
        "That is the largest rate on the image. ASPP stands on the map, which is smaller by the "
        "output stride",
        lambda h, w, s: largest_rate(h, w),
    ),
    (
        "That is right for a map that is rounded down. A stride rounds up: its last row covers what "
        "is left over",
        lambda h, w, s: largest_rate(h // s, w // s),
    ),
    (
        "That is right at output stride 16: does your function use the one it gets?",
        lambda h, w, s: largest_rate(*_on_map(h, w, 16)),
    ),
    (
        "That is right at output stride 8. At 16 the map has half as many rows: use output_stride",
        lambda h, w, s: largest_rate(*_on_map(h, w, 8)),
    ),
    (
        "That keeps two taps, the limit at which the library warns; asked are three",
        lambda h, w, s: largest_rate(*_on_map(h, w, s), least=2),
    ),
    (
        "That is right for a square map as high as this one: count with its width, too",
        lambda h, w, s: largest_rate(*[_on_map(h, w, s)[0]] * 2),
    ),
    (
        "That is right for a square map as wide as this one: count with its height, too",
        lambda h, w, s: largest_rate(*[_on_map(h, w, s)[1]] * 2),
    ),
    (
        "That is the first rate that keeps too few: go back by one",
        lambda h, w, s: largest_rate(*_on_map(h, w, s)) + 1,
    ),
)


def rates(answer: Any) -> str:
    results = [_three(answer, case) for case in HIDDEN]
    rights = [largest_rate(*_on_map(*case)) for case in HIDDEN]
    wrong = [n for n in range(len(HIDDEN)) if results[n][2] != rights[n]]
    if not wrong:
        return (
            f"each branch keeps {LEAST} taps or more on {len(HIDDEN)} maps; the largest rate "
            f"goes from {min(rights)} to {max(rights)}"
        )
    n = wrong[0]
    size, found, right = _on_map(*HIDDEN[n]), results[n], rights[n]
    largest, kept = found[2], valid_taps(*size, found[2])
    said = (
        f"{_images(HIDDEN[n])}, a map of {size[0]}×{size[1]}: your largest rate, {largest}, "
        f"keeps {kept:.1f} taps; the largest that keeps {LEAST} is {right}. "
    )
    same = [
        text
        for text, mistake in _RATES
        if all(three[2] == mistake(*case) for three, case in zip(results, HIDDEN, strict=True))
    ]
    if set(results) <= set(_PAPER):
        twice = ", with twice of them at 8," * (len(set(results)) > 1)
        same = [f"{_PAPER[0]}{twice} are the paper's rates, chosen for images of 513×513"]
    elif len(set(results)) == 1:
        same = ["Your rates are the same for every map: they must follow its size"]
    elif largest < right:
        same = same or ["Yours is too careful: a branch that could see further does not"]
    raise NotYet(said + (same or ["Go through the rates and keep the last one that passes"])[0])


def _images(case: Case) -> str:
    return f"images of {case[0]}×{case[1]} at output stride {case[2]}"


def _three(answer: Any, case: Case) -> tuple[int, int, int]:
    """What the reader's function returns, if it is three different whole numbers in order."""
    given = _images(case)
    found = call(answer, *case, given=given)
    if not isinstance(found, (tuple, list)) or len(found) != 3:
        raise NotYet(f"on {given}, found {show(found)}, expected three rates: a tuple (a, b, c)")
    strange: Sequence[Any] = [rate for rate in found if type(rate) is not int]
    if strange:
        raise NotYet(
            f"on {given}, a rate is of type {type(strange[0]).__name__}, expected int: a "
            "convolution's dilation is a whole number (// divides ints, int(…) makes one)"
        )
    if min(found) < 1:
        raise NotYet(
            f"on {given}, you return {tuple(found)}. Rate {min(found)} is none: with 0, "
            "all nine taps would lie on the centre. The smallest is 1"
        )
    if len(set(found)) < 3:
        raise NotYet(
            f"on {given}, you return {tuple(found)}: two branches of one rate see the "
            "same. There is room for three that differ"
        )
    if list(found) != sorted(found):
        raise NotYet(f"on {given}, you return {tuple(found)}, expected the smallest first")
    first, second, third = found
    return first, second, third
