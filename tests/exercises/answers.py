"""The answers that readers give to exercises, and how they do: for tests, and for people to read.

wrongNN.py beside this file holds PRELUDE, the imports, and WRONG: for each exercise of lesson NN
typical wrong answers, as source in place of the placeholder, with a part of the message each gets.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import commands  # noqa: E402
import notebook_rules  # noqa: E402

from seglib import exercises  # noqa: E402
from seglib.exercises.kit import Exercise, Lesson, Outcome  # noqa: E402


class Case(NamedTuple):
    """An answer to an exercise: "solution", "placeholder", or "wrong 1" and so on."""

    number: str
    name: str
    answer: str

    def __str__(self) -> str:
        return f"{self.number}-{self.name}-{self.answer.replace(' ', '')}"

    @property
    def lesson(self) -> Lesson:
        return next(lesson for lesson in exercises.lessons() if lesson.number == self.number)

    @property
    def exercise(self) -> Exercise:
        return self.lesson.exercises[self.name]

    @property
    def wrong(self) -> tuple[str, str]:
        """Of a wrong answer: its source, and a part of the message that must come."""
        return wrong_ones(self.number)[self.name][int(self.answer.split()[1]) - 1]


def module(number: str) -> Any:
    return importlib.import_module(f"wrong{number}")


def wrong_ones(number: str) -> dict[str, list[tuple[str, str]]]:
    """WRONG of a lesson; empty where there is no wrongNN.py."""
    return module(number).WRONG if (HERE / f"wrong{number}.py").exists() else {}


@cache
def page(number: str) -> notebook_rules.Page | None:
    """The lesson's notebook, or None where there is none."""
    found = [path for path in commands.lessons([]) if path.name.startswith(number)]
    return notebook_rules.read(found[0]) if found else None


def cell(case: Case) -> notebook_rules.ExerciseCell | None:
    """The exercise's cell in the notebook."""
    found = page(case.number)
    cells = notebook_rules.exercise_cells(found) if found else []
    return next((cell for cell in cells if cell.name == case.name), None)


def cases() -> list[Case]:
    """Every answer to every exercise."""
    found = []
    for lesson in exercises.lessons():
        wrong = wrong_ones(lesson.number)
        for name in lesson.exercises:
            rows = range(1, 1 + len(wrong.get(name, [])))
            kinds = ["solution", "placeholder", *(f"wrong {n}" for n in rows)]
            found += [Case(lesson.number, name, kind) for kind in kinds]
    return found


def source(case: Case) -> str:
    if case.answer == "solution":
        return case.exercise.source()
    if case.answer == "placeholder":
        asked = cell(case)
        if asked is None:
            raise LookupError(f"{case}: the notebook has no cell for this exercise")
        return asked.placeholder
    return case.wrong[0]


def evaluate(case: Case) -> Any:
    """What the reader hands to check: the source after the lesson's imports, then the name."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(module(case.number).PRELUDE, namespace)
    exec(compile(source(case), f"<{case}>", "exec"), namespace)
    asked = cell(case)
    name = case.exercise.variable or case.exercise.answer.__name__
    return eval(asked.answer if asked else name, namespace)


@cache
def outcome(case: Case) -> Outcome:
    """How the answer does (judged once)."""
    with contextlib.redirect_stdout(io.StringIO()):  # what the answer itself prints
        return case.exercise.judged(evaluate(case))
