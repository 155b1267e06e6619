"""Lesson 4's lesion at the edge of a decision, and how two masks of it are judged."""

from __future__ import annotations

from typing import Any

import numpy as np

from seglib.exercises.kit import NotYet, call, show

OPERATE = 100.0  # mm²: from here on
LOWEST, EQUAL = 0.85, 0.005  # of Dice: what is asked, and how far two may differ

Spacing = tuple[float, float]


def lesion() -> tuple[np.ndarray, Spacing]:
    """The truth of a lesion, bool (96, 96), and the spacing of its pixels, mm (down, across)."""
    return _blob((96, 96), (0.4, 0.5), 104.0, seed=3), (0.4, 0.5)


def _hidden() -> list[tuple[np.ndarray, Spacing]]:
    return [
        (_blob((80, 110), (0.6, 0.5), 96.0, seed=5), (0.6, 0.5)),
        (_blob((96, 96), (0.3, 0.3), 108.0, seed=8), (0.3, 0.3)),
    ]


def _blob(shape: tuple[int, int], spacing: Spacing, area: float, seed: int) -> np.ndarray:
    """An irregular region without holes, of this area in mm² up to a pixel."""
    rng = np.random.default_rng(seed)
    down, across = (size * step for size, step in zip(np.indices(shape), spacing, strict=True))
    down, across = down - down.mean(), across - across.mean()
    angle = np.arctan2(down, across)
    radius = 1 + sum(
        rng.uniform(0.05, 0.3) / k * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5)
    )
    distance = np.hypot(down, across) / radius
    pixels = round(area / (spacing[0] * spacing[1]))
    return distance <= np.sort(distance, axis=None)[pixels - 1]


def area_of(mask: np.ndarray, spacing: Spacing) -> float:
    return round(float(mask.sum()) * spacing[0] * spacing[1], 6)


def two_masks(masks: Any) -> str:
    said = _judge(masks, *lesion(), "the lesion")
    for truth, spacing in _hidden():
        which = f"another lesion, of {area_of(truth, spacing):.1f} mm² with spacing {spacing} mm"
        try:
            _judge(masks, truth, spacing, which)
        except NotYet as reason:
            raise NotYet(f"right on the notebook's lesion, but {reason}") from None
    return said


def _judge(masks: Any, truth: np.ndarray, spacing: Spacing, which: str) -> str:
    given = f"on {which}"
    handed = truth.copy()
    found = call(masks, handed, spacing, given=which)
    if not np.array_equal(handed, truth):
        raise NotYet(f"{given}, masks changes the truth that it gets: work on truth.copy()")
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise NotYet(f"{given}, expected two masks, `return first, second`; found {show(found)}")
    first, second = (
        _as_mask(part, truth.shape, f"{given}, the {name} mask")
        for part, name in zip(found, ("first", "second"), strict=True)
    )
    dices = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask in (first, second)]
    areas = [area_of(mask, spacing) for mask in (first, second)]
    decisions = [_decision(area) for area in areas]
    report = "; ".join(
        f"{name} Dice {dice:.3f}, {area:.1f} mm², {decision}"
        for name, dice, area, decision in zip(
            ("first", "second"), dices, areas, decisions, strict=True
        )
    )
    right = area_of(truth, spacing)
    report = f"{report} (truth {right:.1f} mm², {_decision(right)})"
    pixels = [int(mask.sum()) for mask in (first, second)]
    if decisions[0] == decisions[1] and min(pixels) < OPERATE <= max(pixels):
        raise NotYet(
            f"{given}: {report}. You compare {pixels[0]} and {pixels[1]} pixels with 100; "
            f"the rule speaks of mm², and a pixel has {spacing[0]} · {spacing[1]} = "
            f"{spacing[0] * spacing[1]:.2g} of them"
        )
    if min(dices) < LOWEST:
        raise NotYet(
            f"{given}: {report}. A Dice is below {LOWEST}: change less; the border of the "
            "decision is a few pixels away"
        )
    if decisions[0] == decisions[1]:
        raise NotYet(f"{given}: {report}. {_why_equal(first, second, pixels, spacing)}")
    if abs(dices[0] - dices[1]) > EQUAL:
        raise NotYet(
            f"{given}: {report}. The decisions are opposite, but the Dices differ by "
            f"{abs(dices[0] - dices[1]):.3f}, allowed are {EQUAL}: {_more_equal(dices)}"
        )
    return report


def _decision(area: float) -> str:
    return "operate" if area >= OPERATE else "wait"


def _why_equal(first: Any, second: Any, pixels: list[int], spacing: Spacing) -> str:
    """Why two masks may lead to one decision."""
    for name, step in (("down", spacing[0]), ("across", spacing[1])):
        if min(pixels) * step**2 < OPERATE <= max(pixels) * step**2:
            return (
                f"With {step}² mm² a pixel the decisions would differ; but pixels are not "
                f"square: {step} mm is the step {name} only"
            )
    if np.array_equal(first, second):
        return "Both masks are the same; one must be larger than 100 mm², the other smaller"
    if pixels[0] == pixels[1]:
        return (
            "Both have the same area: moving a mask costs Dice and changes no area. Take some "
            "pixels off one, and add some to the other"
        )
    return "Both lead to the same decision: which side of 100 mm² is missing?"


def _more_equal(dices: list[float]) -> str:
    if max(dices) == 1:
        return "one is the truth itself. Spoil it, too, without changing its decision"
    low = ("first", "second")[int(np.argmin(dices))]
    return (
        f"the {low} is further from the truth. Change it less, or the other one more: a part "
        "of it can also move without changing its area"
    )


def _as_mask(found: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The reader's mask as bool, else `NotYet`."""
    try:
        array = np.asarray(found.numpy() if hasattr(found, "numpy") else found)
    except Exception:
        array = np.array(None)
    if array.dtype.kind not in "uifb" or array.shape != shape:
        raise NotYet(f"{what} is {show(found)}, expected a bool array of the truth's shape {shape}")
    values = np.unique(array)
    if not set(values.tolist()) <= {0, 1}:
        raise NotYet(
            f"{what} holds values from {values[0]:g} to {values[-1]:g}, expected True and "
            "False (or 0 and 1)"
        )
    return array.astype(bool)
