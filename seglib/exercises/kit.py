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
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from seglib.exercises import progress

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
    lesson: str = ""  # its number
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
        """Print how the answer did, and note it in the reader's workbook."""
        outcome = self.judged(answer)
        self.state, self._checked = outcome.state, answer
        print(outcome)
        if outcome.state != NOT_ATTEMPTED:
            progress.store(self.lesson, self.name, outcome.state)

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

    def add(self, about: Sequence[Any] = (), /, **settings: Any) -> Exercise:
        """Make an exercise of this lesson; see `Exercise`. ValueError for settings that clash.

        `about` may hold the first ones in order: name, title, kind and outcome.
        """
        exercise = Exercise(*about, **settings)
        exercise.lesson = self.number
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

    def ask(self, about: Any, judge: Any, answer: Any, *hints: str, **more: str) -> Exercise:
        """`add` in few lines."""
        return self.add(about, judge=judge, answer=answer, hints=hints, **more)

    def summary(self) -> None:
        """Print where the reader stands, exercise by exercise; with what earlier kernels saw."""
        width = max(len(exercise.title) for exercise in self.exercises.values())
        stored, done = progress.load(progress.find()).get(self.number, {}), 0
        for name, exercise in self.exercises.items():
            entry, state = stored.get(name, {}), exercise.state
            if state == NOT_ATTEMPTED and "state" in entry:
                state = f"{entry['state']} (earlier)"
            if "correct" in entry and not state.startswith(CORRECT):
                state = f"{NOT_YET} (correct on {entry['correct']})"
            done += CORRECT in state
            print(f"{exercise.title:<{width}}  {state}")
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


def call(function: Any, *arguments: Any, given: str, clues: Mapping[str, str] | None = None) -> Any:
    """Call the reader's function; an error or a missing return becomes `NotYet`.

    `given` says what it was tried on, as in "a mask of 2×2 pixels"; `clues`, what an error means
    in whose message their words stand.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not callable(function):
        raise NotYet(f"expected a function, found {show(function)}")
    try:
        result = function(*arguments)
    except (Exception, SystemExit) as error:
        clue = "".join(f": {hint}" for words, hint in (clues or {}).items() if words in str(error))
        raise NotYet(f"on {given}, {name} raised {type(error).__name__}: {error}{clue}") from None
    if result is None:
        raise NotYet(f"on {given}, {name} returned None; is the `return` missing?")
    return result


def number(answer: Any, what: str, low: float = -np.inf, high: float = np.inf) -> float:
    """The answer as a float between `low` and `high`, else `NotYet`."""
    try:
        value = float(answer)
    except (TypeError, ValueError, RuntimeError, OverflowError):
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


# ---------------------------------------------------------------- judges that are tables

Mistakes = Sequence[tuple[str, Callable[..., Any]]]  # (the hint, a function that makes the mistake)
Readings = Mapping[Any, Sequence[tuple[Any, str]]]  # of each key: (a wrong value, its hint)


def close(tolerance: float = 1e-6) -> Callable[[Any, Any], bool]:
    """Whether two results agree: numbers, arrays or tensors of one shape; NaN agrees with NaN."""

    def agree(found: Any, value: Any) -> bool:
        first, second = (np.asarray(_plain(x), np.float64) for x in (found, value))
        return first.shape == second.shape and bool(
            np.allclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True)
        )

    return agree


NEARLY = close()


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def edits(function: Any, *rows: Any) -> Mistakes:
    """Mistakes as changes of a right function's text: rows of (hint, old, new, old, new, …).

    Or flat: a hint, its (old, new, …), a hint, and so on.
    """
    if rows and isinstance(rows[0], str):
        rows = tuple((hint, *changes) for hint, changes in zip(rows[::2], rows[1::2], strict=True))
    mistakes = []
    for hint, *changes in rows:
        source = inspect.getsource(function)
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            if old not in source:
                raise ValueError(f"found no {old!r} in\n{source}")
            source = source.replace(old, new)
        names = dict(vars(sys.modules[function.__module__]))  # of a class, too
        exec(source, names)
        mistakes.append((hint, names[function.__name__]))
    return mistakes


def first_match(
    mistakes: Mistakes, cases: Iterable[Sequence[Any]], results: Sequence[Any], agree: Any
) -> str | None:
    """The hint of the first mistake whose results agree with the reader's on *every* case."""
    for hint, wrong in mistakes:
        try:
            pairs = zip(cases, results, strict=True)
            if all(agree(found, wrong(*case)) for case, found in pairs):
                return hint
        except Exception:  # a mistake need not be able to compute every case
            continue
    return None


@dataclass(frozen=True)
class function:
    """A judge of functions: right if they agree with `right` on all `cases`.

    Args:
        cases: argument tuples. The reader's function gets a copy of arrays and tensors.
        right: the right function.
        mistakes: (hint, wrong function), the more particular first; the reader hears the hint of
            the first that agrees with theirs on every case.
        given: the words for a case, as in "a map of 6×8 at rate 2".
        praise: what a right answer hears; or a judge that gets it next, and says so.
        read: gets the reader's result and `given`; returns what is compared, or raises `NotYet`.
            By default the result must be a number, or with `run` it is taken as it is.
        agree: whether two results are equal.
        shown: a result in a message.
        otherwise: the hint where no mistake agrees; better none than a wrong cause.
        run: where an answer is no function of the case: gets it (or the right one, or a mistake),
            `given` and the case, and returns the result, or raises `NotYet`.
    """

    cases: Sequence[Sequence[Any]]
    right: Callable[..., Any]
    mistakes: Mistakes
    given: Callable[..., str]
    praise: str | Callable[[Any], str] = ""
    read: Callable[[Any, str], Any] | None = None
    agree: Callable[[Any, Any], bool] = NEARLY
    shown: Callable[[Any], str] = lambda value: f"{value:.4g}"
    otherwise: str | Callable[[Any, Any], str] = ""  # a function gets what was found and expected
    run: Callable[..., Any] = lambda answer, given, *case: call(answer, *case, given=given)

    def __call__(self, answer: Any) -> str:
        as_it_is = self.run is not type(self).run
        read = self.read or (lambda x, on: x if as_it_is else number(x, f"the result on {on}"))
        results = [read(self.result(answer, *case), self.given(*case)) for case in self.cases]
        for case, found in zip(self.cases, results, strict=True):
            value = self.result(self.right, *case)
            if not self.agree(found, value):
                mistakes = [(hint, partial(self.result, wrong)) for hint, wrong in self.mistakes]
                hint = first_match(mistakes, self.cases, results, self.agree)
                if not hint:
                    other = self.otherwise
                    hint = other(found, value) if callable(other) else other
                self.refuse(self.given(*case), found, value, hint)
        return self.praise(answer) if callable(self.praise) else self.praise

    def result(self, answer: Any, *case: Any) -> Any:
        """What an answer makes of a copy of the case."""
        return self.run(answer, self.given(*case), *map(_copied, case))

    def refuse(self, given: str, found: Any, value: Any, hint: str) -> None:
        """Raise `NotYet`: what was tried, what came out, what was expected, and the hint."""
        end = f": {hint}" if hint else ""
        raise NotYet(f"on {given}: found {self.shown(found)}, expected {self.shown(value)}{end}")

    def wrong_answers(self) -> list[tuple[Any, str]]:
        """An answer for each mistake, with the hint that it must hear (for the tests)."""
        return [(wrong, hint) for hint, wrong in self.mistakes]


def _copied(value: Any) -> Any:
    """A copy of an array or tensor that the reader's function may spoil; all else as it is."""
    if hasattr(value, "detach"):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value


@dataclass(frozen=True)
class numbers:
    """A judge of a number, or of a dict or list of numbers.

    Args:
        right: the number, {key: number} or [number, …].
        readings: for each key (or place; None for a single number) the values that come of a
            typical mistake, with their hints.
        praise, otherwise: as in `function`.
        what: the words for a key, as in "the field of rates 1, 2, 4".
        low, high: between which values an answer makes sense.
        tolerance: how far from the right number an answer may be, absolute.
        distance: how far it is, if not absolute.
        read: where an answer is no finite number: gets it and the words, returns what is compared.
        shown: such a value in a message.
        wholes: (whole wrong answer, its hint), of mistakes that only all numbers together show.
    """

    right: Any
    readings: Readings
    praise: str = ""
    what: Callable[[Any], str] = str
    low: float = -np.inf
    high: float = np.inf
    tolerance: float = 1e-9
    otherwise: str | Callable[[Any, Any], str] = ""  # a function gets the key and what was found
    distance: Callable[[Any, Any], float] = lambda found, value: abs(found - value)
    read: Callable[[Any, str], Any] | None = None
    shown: Callable[[Any], str] = lambda value: f"{value:g}"
    wholes: Sequence[tuple[Any, str]] = ()

    def __call__(self, answer: Any) -> str:
        rights = _by_key(self.right)
        given = filled_in(answer, self.right)
        read = self.read or (lambda value, what: number(value, what, self.low, self.high))
        found = {key: read(given[key], self.what(key)) for key in rights}
        for key, value in rights.items():
            if not self.distance(found[key], value) <= self.tolerance:
                hint = self.whole(found) or self.hint(key, found[key])
                end = f": {hint}" if hint else ""
                raise NotYet(f"{self.what(key)}: {self.shown(found[key])} is not it{end}")
        return self.praise

    def whole(self, found: dict[Any, Any]) -> str:
        """The hint of the whole wrong answer that the reader's agrees with, in every number."""
        for whole, hint in self.wholes:
            parts = _by_key(whole)
            if all(self.distance(found[key], parts[key]) <= self.tolerance for key in parts):
                return hint
        return ""

    def hint(self, key: Any, found: Any) -> str:
        """The nearest reading of a wrong number; it must be as near as the right one would be."""
        readings = self.readings.get(key, ())
        same = [(self.distance(found, value), text) for value, text in readings]
        distance, text = min(same, key=lambda pair: pair[0], default=(np.inf, ""))
        if distance <= self.tolerance:
            return text
        return self.otherwise(key, found) if callable(self.otherwise) else self.otherwise

    def wrong_answers(self) -> list[tuple[Any, str]]:
        rights = _by_key(self.right)
        return [
            *self.wholes,
            *(
                (_put(self.right, key, value), hint)
                for key in rights
                for value, hint in self.readings.get(key, ())
            ),
        ]


@dataclass(frozen=True)
class letters:
    """A judge of choices: {key: letter}, a list of letters, or one letter; or True and False.

    Args:
        right: the right letters. Whether a reader types capitals does not matter.
        why: for each key (or place; None for a single letter) the hint of each wrong letter.
        praise: what a right answer hears.
        what: the words for a key.
        once: whether no letter is right twice, so that one that is given twice is worth a word.
    """

    right: Any
    why: Mapping[Any, Mapping[Any, str]]
    praise: str = ""
    what: Callable[[Any], str] = str
    once: bool = False

    def __call__(self, answer: Any) -> str:
        rights = _by_key(self.right)
        given = filled_in(answer, self.right)
        found = {}
        for key, value in rights.items():
            known = {_word(letter): letter for letter in (value, *self.why.get(key, {}))}
            if _word(given[key]) not in known:
                letters = ", ".join(sorted(map(str, known.values())))
                raise NotYet(
                    f"expected one of {letters} for {self.what(key)}, found {show(given[key])}"
                )
            found[key] = known[_word(given[key])]
        for key, letter in found.items():
            if letter != rights[key]:
                twice = self.once and list(found.values()).count(letter) > 1
                again = " (You gave this letter twice.)" if twice else ""
                raise NotYet(f"{self.what(key)}: not {letter}: {self.why[key][letter]}{again}")
        return self.praise

    def wrong_answers(self) -> list[tuple[Any, str]]:
        return [
            (_put(self.right, key, letter), hint)
            for key in _by_key(self.right)
            for letter, hint in self.why.get(key, {}).items()
        ]


def _word(value: Any) -> str:
    """A letter or truth value as a word to compare; of anything else, none that is known."""
    return str(value).strip().upper() if isinstance(value, (str, bool, np.bool_)) else ""


@dataclass(frozen=True)
class in_turn:
    """Judges one after the other: what the first refuses, the second does not see."""

    judges: Sequence[Any]

    def __call__(self, answer: Any) -> str:
        return [judge(answer) for judge in self.judges][-1]

    def wrong_answers(self) -> list[tuple[Any, str]]:
        return [pair for judge in self.judges for pair in getattr(judge, "wrong_answers", list)()]


def _by_key(value: Any) -> dict[Any, Any]:
    """A dict as it is, a list by its places, anything else under None."""
    if isinstance(value, dict):
        return value
    return dict(enumerate(value)) if isinstance(value, (list, tuple)) else {None: value}


def _put(whole: Any, key: Any, value: Any) -> Any:
    """A copy of `whole` with another value at `key`."""
    if isinstance(whole, dict):
        return {**whole, key: value}
    return [*whole[:key], value, *whole[key + 1 :]] if key is not None else value


def filled_in(answer: Any, like: Any) -> dict[Any, Any]:
    """The answer by key, else `NotYet`: a dict of the same keys, as many items, or one value."""
    if isinstance(like, dict):
        if not isinstance(answer, dict) or set(answer) != set(like):
            raise NotYet(f"expected a dict with the keys {list(like)}, found {show(answer)}")
        return answer
    if isinstance(like, (list, tuple)):
        items = answer.tolist() if getattr(answer, "ndim", 0) == 1 else answer
        if not isinstance(items, (list, tuple)) or len(items) != len(like):
            raise NotYet(f"expected {len(like)} values, found {show(answer)}")
        return dict(enumerate(items))
    return {None: answer}
