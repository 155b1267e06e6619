"""How the answers of lesson 6 about what half precision rounds away are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from seglib.exercises.kit import NotYet, show

# ---------------------------------------------------------------- formats

HALF, BRAIN = torch.float16, torch.bfloat16
COMPUTED: dict[str, tuple[float, torch.dtype]] = {
    "float16(70000)": (70000, HALF),
    "float16(2049)": (2049, HALF),
    "bfloat16(257)": (257, BRAIN),
    "float16(1e-8)": (1e-8, HALF),
    "bfloat16(1e-8)": (1e-8, BRAIN),
    "bfloat16(1 + 0.001)": (1 + 0.001, BRAIN),
}


class _Infinity(float):
    """Infinity that prints as one would type it."""

    def __repr__(self) -> str:
        return 'float("inf")'


def stored(value: float, dtype: torch.dtype) -> float:
    """What a format keeps of a number."""
    return float(torch.tensor(value, dtype=torch.float64).to(dtype).item())


RIGHT = {key: stored(*case) for key, case in COMPUTED.items()}
FORMATS = {
    key: (_Infinity("inf") if value == math.inf else 1e-8 if 0 < value < 1e-7 else int(value))
    for key, value in RIGHT.items()
}

_RANGE = "bfloat16 has float32's eight bits of exponent, and so its range"
_TIE = (
    "lies as far above as {right:g} below. On a tie the last bit of the result is even, and "
    "{right:g} it is"
)
_READINGS: dict[str, tuple[tuple[float, str], ...]] = {
    "float16(70000)": (
        (70000, "that is not rounded at all: float16 ends at 65504"),
        (
            65504,
            "that is the largest finite number. A cast does not stop there: what rounds "
            "beyond it is infinite",
        ),
        (
            65535,
            "that is the largest of an unsigned integer of 16 bits; float16 needs some of its "
            "bits for the exponent",
        ),
        (65536, "2^16 is the first power that five bits of exponent no longer reach"),
        (70016, "the step would fit, but there is no finite number above 65504"),
        (4464, "integers wrap round at 2^16; floating-point numbers do not"),
    ),
    "float16(2049)": (
        (
            2049,
            "that is not rounded. 11 significant bits count every integer up to 2048, and "
            "above it every second one",
        ),
        (2050, f"2050 {_TIE.format(right=2048)}"),
        (math.inf, "the range ends at 65504. What runs out here is the number of significant bits"),
        (2000, "the bits are binary: 11 of them, and no digits of the decimal system"),
    ),
    "bfloat16(257)": (
        (
            257,
            "that is not rounded. 8 significant bits count every integer up to 256, and above "
            "it every second one",
        ),
        (258, f"258 {_TIE.format(right=256)}"),
        (math.inf, f"{_RANGE}. What runs out here is the number of significant bits"),
        (
            255,
            "that is where integers of 8 bits end; 256 is a power of two and needs one "
            "significant bit",
        ),
        (260, "above 256 the step is 2, not 4"),
    ),
    "float16(1e-8)": (
        (1e-8, "that is not rounded. The smallest number above 0 is 2^-24, six times as large"),
        (
            2**-24,
            "that is the smallest number above 0. A cast takes the nearer one, and 1e-8 is "
            "nearer to 0",
        ),
        (
            2**-14,
            "that is the smallest normal number. Below it there are subnormal ones, and what "
            "is nearer to 0 than to the first of them is lost",
        ),
    ),
    "bfloat16(1e-8)": (
        (0, f"{_RANGE}: it begins at about 1e-38, and 1e-8 survives with its two or three digits"),
        (2**-24, f"that is the smallest number of float16. {_RANGE}"),
        (2**-14, f"that is the smallest normal number of float16. {_RANGE}"),
    ),
    "bfloat16(1 + 0.001)": (
        (1.001, "that is not rounded. Above 1 the step of bfloat16 is 2^-7, about 0.008"),
        (
            1 + 2**-10,
            "that is what float16 makes of it, with its step of 2^-10. bfloat16 has three "
            "bits less",
        ),
        (1 + 2**-7, "that is the next number above 1. 1.001 is nearer to 1"),
        (0, "0.001 alone would be stored well; asked is the sum, beside a 1"),
        (0.001, "0.001 alone would be stored well; asked is the sum, beside a 1"),
    ),
}


def formats(answer: Any) -> str:
    _same_keys(answer, RIGHT)
    given = {key: _number(answer[key], key) for key in RIGHT}
    wrong = [key for key in RIGHT if not _near(given[key], RIGHT[key], 0.01 * (key in _LOOSE))]
    if wrong:
        key, found = wrong[0], given[wrong[0]]
        reasons = [
            text
            for value, text in _READINGS[key]
            if _near(found, value, 1e-2 * (value < 1)) or _near(found, value, 1e-5)
        ]
        reason = (reasons or [_other(key, found)])[0]
        raise NotYet(
            f"{len(RIGHT) - len(wrong)} of {len(RIGHT)} are right; {key} is not "
            f"{found:.8g}: {reason}"
        )
    return (
        "float16 has the finer step, bfloat16 the wider range: what overflows or vanishes in "
        "one is coarse in the other"
    )


_LOOSE = ("bfloat16(1e-8)",)


def _other(key: str, found: float) -> str:
    """What to say of a value that no known mistake gives."""
    value, dtype = COMPUTED[key]
    if math.isnan(found):
        return "nan comes of 0/0 or of inf − inf; a number too large or too small is no such case"
    if math.isinf(found):
        return "infinity is what lies beyond the largest number; this one lies inside the range"
    if math.isinf(RIGHT[key]):
        return "no number of the format lies beyond 65504; what does it keep for what is larger?"
    if stored(found, dtype) != found and not (value < 1e-7 and dtype == BRAIN):
        return "that number is not even in the format. Which two of its numbers lie around it?"
    return "which two numbers of the format lie around it? The nearer one is stored"


def _near(found: float, value: float, part: float) -> bool:
    return found == value or abs(found - value) <= part * abs(value) < math.inf


def _same_keys(answer: Any, keys: Mapping[str, Any]) -> None:
    if not isinstance(answer, dict) or set(answer) != set(keys):
        raise NotYet(f"expected a dict with the keys {list(keys)}, found {show(answer)}")


def _number(answer: Any, key: str) -> float:
    """The answer as a float; unlike `number`, infinity is one."""
    try:
        return float(answer)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise NotYet(
            f'expected a number for {key!r} (float("inf") is one), found {show(answer)}'
        ) from None


# ---------------------------------------------------------------- underflow

GRADIENTS = {"head": 4e-3, "up": 3e-5, "norm": 4e-8, "bridge": 2e-8, "block": 5e-11, "stem": 1e-11}
SCALES = {"unscaled": 1, "scaled by 1024": 1024, "overflow at 2**24": 2**24}
OVERFLOW = "overflow at 2**24"
NORMAL, SMALLEST = 2.0**-14, 2.0**-24

Names = frozenset[str]


def gradients() -> dict[str, float]:
    """Six gradients, one a layer, in float32."""
    return dict(GRADIENTS)


def _which(choose: Callable[[float], bool], scale: float = 1) -> Names:
    return frozenset(name for name, value in GRADIENTS.items() if choose(value * scale))


def lost(key: str) -> Names:
    """The names for which the cast to float16 gives 0, or infinity."""
    gone = math.inf if key == OVERFLOW else 0.0
    return _which(lambda value: stored(value, HALF) == gone, SCALES[key])


VANISHES = {key: set(lost(key)) for key in SCALES}


def _sets(key: str) -> list[tuple[Names, str]]:
    """(a wrong set of names, what it comes of), the likeliest first."""
    scale, everything = SCALES[key], frozenset(GRADIENTS)
    if key == OVERFLOW:
        return [
            (
                frozenset(),
                "but one does overflow: 2^24 is 1.7e7, and times the largest of the "
                "six it lies above 65504",
            ),
            (
                everything,
                "that all overflow: the scale itself is too large for float16, but the "
                "product is taken in float32 and only then cast",
            ),
            (everything - lost(key), "that is what does not overflow"),
            (
                _which(lambda value: value > 1, scale),
                "those are the products above 1; float16 goes on to 65504",
            ),
            (
                _which(lambda value: value > 1e-5),
                "those are the larger gradients. Multiply: which product lies above 65504?",
            ),
        ]
    found = [
        (frozenset(), "nothing, you say: so it is in bfloat16. float16 ends at 2^-24 = 5.96e-8"),
        (everything, "that is all of them: float16 knows numbers down to 2^-24 = 5.96e-8"),
        (
            _which(lambda value: value < NORMAL, scale),
            "that takes 6.1e-5 as the limit, the smallest normal number. Below it float16 goes on "
            "with subnormal numbers, of fewer bits, down to 2^-24",
        ),
        (
            _which(lambda value: value < SMALLEST, scale),
            "that takes 2^-24 = 5.96e-8 as the limit, the smallest number above 0. But a cast rounds "
            "to the nearer: what lies above its half becomes 2^-24, not 0",
        ),
        (
            _which(lambda value: value < 1e-8, scale),
            "the limit is not 1e-8: half of 2^-24 is 2.98e-8, and below it 0 is nearer",
        ),
        (everything - lost(key), "that is what survives; asked is what becomes 0"),
    ]
    if scale > 1:
        found[:0] = [
            (
                lost("unscaled"),
                "those are the same as without scaling. The gradients are "
                "multiplied first and cast then: what was small is 1024 times as "
                "large",
            ),
            (
                _which(lambda value: stored(value / scale, HALF) == 0),
                "that divides by the scale; scaling multiplies, the division comes after the cast",
            ),
        ]
    return found


def underflow(answer: Any) -> str:
    _same_keys(answer, SCALES)
    given = {key: _names(answer[key], key) for key in SCALES}
    for key, scale in SCALES.items():
        right, found = lost(key), given[key]
        if found == right:
            continue
        reasons = [text for names, text in _sets(key) if names == found]
        name = sorted(found ^ right)[0]
        gone = "overflows" if key == OVERFLOW else "becomes 0"
        text = (
            f"{name} {gone}, and you leave it out"
            if name in right
            else f"{name} does not, {GRADIENTS[name]:g} · {scale:g} = {GRADIENTS[name] * scale:.3g}"
        )
        raise NotYet(f"{key!r}: {sorted(found)} is not it: {(reasons or [text])[0]}")
    return (
        "unscaled, half of the six are lost; a scale of 1024 brings back all but one; 2**24 "
        "would bring back that one, too, and lose the largest"
    )


def _names(answer: Any, key: str) -> Names:
    if not isinstance(answer, (set, frozenset, list, tuple, dict)) or not all(
        isinstance(name, str) for name in answer
    ):
        raise NotYet(
            f"for {key!r} expected a set of names (set() if there is none), found {show(answer)}"
        )
    strange = sorted(set(answer) - set(GRADIENTS))
    if strange:
        raise NotYet(
            f"for {key!r}, there is no gradient named {strange[0]!r}; the names are "
            f"{', '.join(GRADIENTS)}"
        )
    return frozenset(answer)
