"""How lesson 6's exercise on the gradient scaler's bookkeeping is judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seglib.exercises.kit import NotYet, call, number, show

State = tuple[float, float, bool]  # scale, good, taken
Machine = Callable[[float, float, bool, int], State]


class Script(NamedTuple):
    """A start, and what each step finds: "." finite gradients, "x" an overflow."""

    scale: float
    growth_interval: int
    steps: str


SCRIPTS = (
    Script(65536.0, 3, "....x..x......"),
    Script(1024.0, 4, "...x....x.x........."),
    Script(8.0, 1, "..x.x"),
    Script(2.0, 2, "xxx.....xx."),
)


def step(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
    """The truth."""
    if overflow:
        return scale / 2, 0, False
    if good + 1 == growth_interval:
        return scale * 2, 0, True
    return scale, good + 1, True


def _mistake(
    *,
    halve: Callable[[float], float] = lambda scale: scale / 2,
    grow: Callable[[float], float] = lambda scale: scale * 2,
    keep: bool = False,
    late: int = 0,
    stays: bool = False,
    taken: Callable[[bool], bool] = lambda bad: not bad,
) -> Machine:
    """The machine with something else in one place."""

    def machine(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
        if overflow:
            return halve(scale), good if keep else 0, taken(True)
        good += 1
        if good >= growth_interval + late:
            return grow(scale), good if stays else 0, taken(False)
        return scale, good, taken(False)

    return machine


def _multiples(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
    if overflow:
        return scale / 2, 0, False
    return scale * (1 if (good + 1) % growth_interval else 2), good + 1, True


def _once(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
    right = step(scale, good, overflow, growth_interval)
    return right if overflow else (right[0], good + 1, True)


def _counts_overflows(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
    state = step(scale, good, False, growth_interval)
    return (state[0] / 2, state[1], False) if overflow else state


def _resets_always(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
    right = step(scale, good, overflow, growth_interval)
    return right[0], 0, right[2]


def _never_counts(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
    return scale / 2 if overflow else scale, 0, not overflow


def _growth_skips(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
    right = step(scale, good, overflow, growth_interval)
    return right[0], right[1], right[2] and right[0] == scale


MISTAKES: tuple[tuple[Machine, str], ...] = (
    (_mistake(keep=True), "an overflow ends the run of good steps: the count begins again at 0"),
    (
        _mistake(late=1),
        "that doubles one step late. Count this step first, then ask whether the "
        "count has reached growth_interval",
    ),
    (
        _mistake(late=-1),
        "that doubles one step early: growth_interval good steps are needed, this one among them",
    ),
    (
        _mistake(taken=lambda bad: True),
        "the step is taken although a gradient is not finite: the "
        "weights would be inf or NaN from here on",
    ),
    (
        _mistake(taken=lambda bad: bad),
        "taken is the wrong way round: a step with an overflow is skipped, the others are taken",
    ),
    (
        _mistake(stays=True),
        "the scale doubles, but the count goes on from there, and the scale "
        "doubles again at the very next step",
    ),
    (_multiples, "the scale is right, but the count is to begin again at 0 when the scale doubles"),
    (
        _once,
        "the scale doubles, but the count goes on from there and never is growth_interval "
        "again: a new run begins at 0",
    ),
    (_mistake(grow=lambda scale: scale + 2), "2 is added; the scale is to be doubled"),
    (_mistake(grow=lambda scale: scale + 1), "1 is added; the scale is to be doubled"),
    (_mistake(grow=lambda scale: scale * scale), "the scale is squared; it is to be doubled"),
    (
        _mistake(halve=lambda scale: scale),
        "the scale stays where the overflow was: the next batch overflows, too. Halve it",
    ),
    (
        _mistake(halve=lambda scale: scale * 2),
        "an overflow doubles the scale, and the next one is certain: halve it",
    ),
    (
        _mistake(halve=lambda scale: max(1.0, scale / 2)),
        "the scale stops at 1. It may go below: there it makes large gradients smaller",
    ),
    (
        _mistake(halve=lambda scale: scale // 2),
        "// rounds down: half of 1 would be 0, and a scale of 0 never comes back. Divide with /",
    ),
    (_mistake(halve=lambda scale: 1.0), "the scale falls to 1 at once; halve it"),
    (_mistake(halve=lambda scale: scale - 2), "2 is taken off; the scale is to be halved"),
    (
        _mistake(grow=lambda scale: scale / 2, halve=lambda scale: scale * 2),
        "growing and falling are exchanged: an overflow halves, a run of good steps doubles",
    ),
    (
        _mistake(grow=lambda scale: scale),
        "the scale never grows: after growth_interval good steps in a row it doubles",
    ),
    (
        _mistake(late=1999),
        "the scale never grows: after growth_interval good steps in a row it doubles",
    ),
    (_counts_overflows, "a step with an overflow counts as a good one; it sets the count to 0"),
    (_never_counts, "the count never rises: a step without overflow adds 1 to it"),
    (_resets_always, "a step without overflow adds 1 to the count; yours stays at 0"),
    (
        _growth_skips,
        "a step at which the scale grows is taken like any other: its gradients were finite",
    ),
)

_NAMES = ("scale", "good", "taken")


def scaler(answer: Any) -> str:
    found = [_trace(answer, script) for script in SCRIPTS]
    right = [_machine(step, script) for script in SCRIPTS]
    if found == right:
        total = sum(len(script.steps) for script in SCRIPTS)
        return f"the same scale, count and decision as a real scaler's on {total} steps"
    n = next(n for n in range(len(SCRIPTS)) if found[n] != right[n])
    k = next(k for k in range(len(right[n])) if found[n][k] != right[n][k])
    which = next(
        name for name, a, b in zip(_NAMES, found[n][k], right[n][k], strict=True) if a != b
    )
    same = [
        text
        for mistake, text in MISTAKES
        if all(
            _machine(mistake, script) == trace for script, trace in zip(SCRIPTS, found, strict=True)
        )
    ]
    last = "an overflow" if SCRIPTS[n].steps[k] == "x" else "a good step"
    reason = (same or [f"what becomes of {which} at {last}?"])[0]
    raise NotYet(
        f"on {_given(SCRIPTS[n], k + 1)}: found {_told(found[n][k])}, expected "
        f"{_told(right[n][k])}: {reason}"
    )


def _machine(machine: Machine, script: Script) -> list[State]:
    """The states that follow from each other."""
    states: list[State] = [(script.scale, 0, True)]
    for sign in script.steps:
        scale, good, _ = states[-1]
        states.append(machine(scale, good, sign == "x", script.growth_interval))
    return states[1:]


def _trace(answer: Any, script: Script) -> list[State]:
    """What the reader's function makes of a script, from its own states."""
    count = 0

    def checked(scale: float, good: float, overflow: bool, growth_interval: int) -> State:
        nonlocal count
        count += 1
        given = _given(script, count)
        found = call(answer, scale, good, overflow, growth_interval, given=given)
        if not isinstance(found, (tuple, list)) or len(found) != 3:
            raise NotYet(
                f"on {given}: found {show(found)}, expected three values: (scale, good, taken)"
            )
        if not isinstance(found[2], (bool, np.bool_)):
            raise NotYet(
                f"on {given}: taken is {show(found[2])}, expected True or False: is the "
                "order (scale, good, taken)?"
            )
        scale = number(found[0], f"the scale ({given})")
        good = number(found[1], f"the count of good steps ({given})")
        return scale, int(good) if good.is_integer() else good, bool(found[2])

    return _machine(checked, script)


def _given(script: Script, steps: int) -> str:
    words = ", ".join("overflow" if sign == "x" else "good" for sign in script.steps[:steps])
    return (
        f"a run from scale {script.scale:g} with growth_interval {script.growth_interval}, "
        f"after {words}"
    )


def _told(state: State) -> str:
    return f"({state[0]:g}, {state[1]:g}, {state[2]})"
