"""How lesson 4's exercise on the number of images is judged: by the recorded widths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from seglib.course.records import read_record, values
from seglib.exercises.kit import NotYet, number, show

WIDTH = 0.02  # of the interval
UNITS = {"scenes": ("frame_width", 60), "drives": ("drive_width", 24)}  # from this size on
SIZE = {"scenes": 90, "drives": 90}  # about


def recorded(unit: str) -> dict[int, float]:
    """Size of the sample -> mean width of its interval."""
    key, least = UNITS[unit]
    rows = values(read_record("04_metrics"), "sampling", unit, lambda run: run["samples"])[0]
    return {row["size"]: row[key] for row in rows if row["size"] >= least}


def needed(unit: str) -> float:
    """The size at which the width is `WIDTH`, if width · √size stays as it is."""
    scale = float(np.mean([width * math.sqrt(size) for size, width in recorded(unit).items()]))
    return (scale / WIDTH) ** 2


def size(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(UNITS):
        raise NotYet(f"expected a dict with the keys {list(UNITS)}, found {show(answer)}")
    for unit in UNITS:
        found = number(answer[unit], unit, low=0)
        if not _near(found, needed(unit)):
            raise NotYet(_mistake(unit, found))
    drives = round(needed("drives"))
    return (
        f"about {round(needed('scenes'), -1):.0f} scenes or {drives} drives, that is "
        f"{8 * drives} frames: neighbours in a drive count for little"
    )


def _near(found: float, value: float) -> bool:
    """A quarter more or less."""
    return 0.75 <= found / max(value, 1e-9) <= 1.25


def _mistake(unit: str, found: float) -> str:
    rows, right = recorded(unit), needed(unit)
    start = f"{unit} {found:g} · "
    other = next(name for name in UNITS if name != unit)
    if _near(found, 8 * right) and unit == "drives":
        return start + "that counts frames; asked are drives, of eight frames each"
    if _near(found, needed(other)):
        return start + f"that is near the answer for {other}: did you look at the other table?"
    if _near(found, 4 * right):
        return start + (
            "that gives ± 0.5 points. From the lower to the upper end the interval may "
            "measure 0.02, ± 1 point"
        )
    if _near(found, right / 4):
        return start + "that gives ± 2 points: 0.02 is the whole width, not a half"
    linear = [n * width / WIDTH for n, width in rows.items()]
    if any(_near(found, value) for value in linear):
        return start + (
            "that scales the number with the width. The width shrinks with the square "
            "root: for half the width you need four times as many"
        )
    n, width = max(rows.items())
    much = "more" if found < right else "fewer"
    return start + (
        f"{n} of them give a width of {width:.3f}; you need {much} than {found:g}. "
        f"(width / {WIDTH})² says how many times {n}"
    )
