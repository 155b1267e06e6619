"""How the predictions of lesson 6 about faster steps are judged."""

from __future__ import annotations

import math
from typing import Any

from seglib.exercises.kit import NotYet, number, show

PARTS = {"data": 60, "forward": 20, "backward": 36, "optimiser": 4}  # ms, made up
REMEDIES: dict[str, dict[str, float]] = {  # what a part takes then
    "sixteen bits": {"forward": 10, "backward": 18},
    "cached images": {"data": 12},
    "fused optimiser": {"optimiser": 0},
    "the first two": {"forward": 10, "backward": 18, "data": 12},
}
WHOLE = sum(PARTS.values())


def step_parts() -> dict[str, int]:
    """Milliseconds that each part of a training step takes."""
    return dict(PARTS)


def after(name: str) -> float:
    """Milliseconds of the whole step with a remedy."""
    return sum({**PARTS, **REMEDIES[name]}.values())


FACTORS = {name: WHOLE / after(name) for name in REMEDIES}


def _part_alone(name: str) -> float:
    """How many times as fast the part gets for itself."""
    before = sum(PARTS[part] for part in REMEDIES[name])
    return before / (sum(REMEDIES[name].values()) or math.nan)


def _readings(name: str) -> list[tuple[float, str]]:
    """(a wrong value, what it comes of)."""
    right, single = FACTORS[name], [FACTORS[one] for one in ("sixteen bits", "cached images")]
    found = [
        (after(name), "those are the milliseconds that are left; asked is the factor"),
        (WHOLE - after(name), "those are the milliseconds that are saved; asked is the factor"),
        (1 / right, "that is the time that is left, as a share; the factor is its inverse"),
        (
            1 - 1 / right,
            "that is the share of the time that is saved. The factor is old time / new time",
        ),
        (
            100 * (1 - 1 / right),
            "that is the time saved in per cent. The factor is old time / new time",
        ),
        (100 * (right - 1), "that is the gain in per cent; asked is the factor, 1 for no gain"),
        (right - 1, "that is the gain; asked is the factor, 1 for no gain"),
        (
            _part_alone(name),
            "that is what the part gains for itself. The rest of the step takes as long as before",
        ),
    ]
    if name == "the first two":
        product, total = single[0] * single[1], single[0] + single[1]
        more = (
            "Factors of a whole step do not {}: the second remedy's part is a larger share "
            "of the step once the first has helped. Add up the milliseconds that are left"
        )
        found[:0] = [
            (product, more.format("multiply")),
            (total, more.format("add up")),
            (total - 1, more.format("add up")),
        ]
    if name == "fused optimiser":
        found.append((1.0, "4 ms are little, but not nothing"))
    return found


def speedup(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(FACTORS):
        raise NotYet(f"expected a dict with the keys {list(FACTORS)}, found {show(answer)}")
    for name, right in FACTORS.items():
        if answer[name] == math.inf:
            raise NotYet(
                f"{name!r}: a part that takes no time does not make the step infinitely "
                f"fast: of {WHOLE} ms, {after(name):g} are left"
            )
        found = number(answer[name], f"the factor for {name!r}", low=0)
        if abs(found - right) <= max(0.005, 0.025 * (right - 1)):  # (a share of the gain)
            continue
        reasons = [
            text for value, text in _readings(name) if math.isclose(found, value, rel_tol=0.015)
        ]
        side = "too much" if found > right else "too little"
        left = f"that is {side}. Of {WHOLE} ms, how many are left?"
        raise NotYet(f"{name!r}: {found:.4g} is not it: {(reasons or [left])[0]}")
    return (
        "here the input is half of the step, so caching it gains more than sixteen bits do; "
        "and with it done, sixteen bits gain more than they did before"
    )
