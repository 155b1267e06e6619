"""What every exercise shares: its three outcomes, hints, solution, and the summary of a lesson.

A notebook asks in prose and gives a placeholder that runs (`...`). A check tells the reader
*not attempted yet*, *correct* or *not yet*, and with the last what was tried, what came out, what
was expected and a hint for that mistake. It never raises, whatever the answer does, and leaves
the random generators as they were, so that a notebook's later cells print the same either way.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import random
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KINDS = ("predict", "implement", "debug", "interpret", "design")
NOT_ATTEMPTED, CORRECT, NOT_YET = "not attempted yet", "correct", "not yet"


class NotYet(Exception):
    """Raised by a check: what was tried, what came out, what was expected, and a hint."""


@dataclass(frozen=True)
class Outcome:
    """How an answer did: one of the three states, and what to say."""

    state: str
    message: str = ""

    def __str__(self) -> str:
        return f"{self.state} · {self.message}" if self.message else self.state


@dataclass(eq=False)
class Exercise:
    """One exercise of a lesson.

    Args:
        name: as in `ex.NAME.check(…)`.
        kind: one of `KINDS`.
        outcome: what it tests, a number into the lesson's outcomes.
        judge: gets the answer; returns what to say of a correct one (or None), raises `NotYet`.
        answer: the solution: a function or class whose source is shown, or a value.
        variable: of a value, the name that it has in the notebook.
        hints: told one after the other.
    """

    name: str
    title: str
    kind: str
    outcome: int
    judge: Callable[[Any], str | None]
    answer: Any
    hints: tuple[str, ...]
    variable: str = ""
    state: str = NOT_ATTEMPTED
    _told: int = 0
    _checked: Any = ...

    def judged(self, answer: Any) -> Outcome:
        """The outcome of an answer."""
        if is_placeholder(answer):
            return Outcome(NOT_ATTEMPTED, f"{still_open(answer)}hint: ex.{self.name}.hint()")
        try:
            with untouched_randomness():
                outcome = Outcome(CORRECT, self.judge(answer) or "")
        except NotYet as reason:
            outcome = Outcome(NOT_YET, str(reason))
        except (Exception, SystemExit) as error:  # an answer of a kind that no check foresaw
            outcome = Outcome(
                NOT_YET,
                f"the check stumbled over {show(answer)} with {type(error).__name__}: {error}",
            )
        return outcome

    def check(self, answer: Any) -> None:
        """Print how the answer did."""
        outcome = self.judged(answer)
        self.state, self._checked = outcome.state, answer
        print(outcome)

    def use(self, answer: Any) -> Any:
        """The reader's answer if it is correct, else the solution: later cells always run."""
        known = self._checked is answer  # `check` has just judged it
        state = self.state if known else self.judged(answer).state
        return answer if state == CORRECT else self.answer

    def hint(self) -> None:
        """Print the next hint; after the last one, the way to the solution."""
        if self._told < len(self.hints):
            print(f"hint {self._told + 1} of {len(self.hints)} · {self.hints[self._told]}")
        else:
            print(f"no more hints; ex.{self.name}.solution() shows one way to do it")
        self._told += 1

    def source(self) -> str:
        """The solution as it would stand in the notebook."""
        if self.variable:
            return f"{self.variable} = {self.answer!r}"
        return inspect.getsource(self.answer).rstrip()

    def solution(self) -> None:
        """Print one way to do it."""
        print(self.source())


@dataclass
class Lesson:
    """A lesson's outcomes (what the reader will be able to do) and the exercises that test them."""

    number: str
    outcomes: tuple[str, ...]
    exercises: dict[str, Exercise] = field(default_factory=dict)

    def add(self, **settings: Any) -> Exercise:
        """Make an exercise of this lesson; see `Exercise`. ValueError for settings that clash."""
        exercise = Exercise(**settings)
        if exercise.name in self.exercises or exercise.kind not in KINDS:
            raise ValueError(
                f"exercise {exercise.name!r} of kind {exercise.kind!r}: the name is "
                f"taken, or the kind is none of {', '.join(KINDS)}"
            )
        if not 0 <= exercise.outcome < len(self.outcomes):
            raise ValueError(
                f"exercise {exercise.name!r} tests outcome {exercise.outcome}, but "
                f"there are {len(self.outcomes)}"
            )
        self.exercises[exercise.name] = exercise
        return exercise

    def summary(self) -> None:
        """Print where the reader stands, exercise by exercise."""
        width = max(len(exercise.title) for exercise in self.exercises.values())
        for exercise in self.exercises.values():
            print(f"{exercise.title:<{width}}  {exercise.state}")
        done = sum(exercise.state == CORRECT for exercise in self.exercises.values())
        print(f"{done} of {len(self.exercises)} correct")


# ---------------------------------------------------------------- for the checks


def is_placeholder(answer: Any) -> bool:
    """Whether nothing was filled in: `...` itself or in a list, or a function of only `...`.

    A class counts as one if any of its own methods is.
    """
    if answer is ...:
        return True
    if isinstance(answer, (tuple, list)):
        return any(item is ... for item in answer)
    if isinstance(answer, dict):
        return any(item is ... for item in answer.values())
    if isinstance(answer, types.FunctionType):
        idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "POP_TOP"}
        steps = list(dis.get_instructions(answer))
        return {step.opname for step in steps} <= idle and all(
            step.argval in (None, ...) for step in steps if step.opname.endswith("CONST")
        )
    if isinstance(answer, type):
        return any(is_placeholder(part) for part in vars(answer).values())
    return False


def still_open(answer: Any) -> str:
    """Of a list or dict that is filled in partly: how much is not."""
    parts = list(answer.values()) if isinstance(answer, dict) else answer
    if not isinstance(parts, (tuple, list)):
        return ""
    left = sum(part is ... for part in parts)
    return f"{left} of {len(parts)} still open; " if left < len(parts) else ""


def call(function: Any, *arguments: Any, given: str) -> Any:
    """Call the reader's function; an error or a missing return becomes `NotYet`.

    `given` says what it was tried on, as in "a mask of 2×2 pixels".
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not callable(function):
        raise NotYet(f"expected a function, found {show(function)}")
    try:
        result = function(*arguments)
    except (Exception, SystemExit) as error:
        raise NotYet(f"on {given}, {name} raised {type(error).__name__}: {error}") from None
    if result is None:
        raise NotYet(f"on {given}, {name} returned None; is the `return` missing?")
    return result


def number(answer: Any, what: str, low: float = -np.inf, high: float = np.inf) -> float:
    """The answer as a float between `low` and `high`, else `NotYet`."""
    try:
        value = float(answer)
    except (TypeError, ValueError):
        raise NotYet(f"expected a number for {what}, found {show(answer)}") from None
    if not (low <= value <= high and np.isfinite(value)):
        raise NotYet(f"found {value:g} for {what}, expected a number from {low:g} to {high:g}")
    return value


def show(value: Any) -> str:
    """A value in at most sixty characters, an array by its shape."""
    if isinstance(getattr(value, "shape", None), tuple) and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a module without super().__init__(), for one
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "…"


@contextlib.contextmanager
def untouched_randomness() -> Iterator[None]:
    """Put the global random generators back to where they were."""
    import torch

    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)  # noqa: NPY002
