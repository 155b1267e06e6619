"""The answers that readers give to exercises, and how they do: for tests, and for people to read.

wrongNN.py beside this file holds PRELUDE, the imports, and WRONG: for each exercise of lesson NN
{a part of the message: the wrong answer that must hear it, as source in place of the placeholder}.
"""

import contextlib
import importlib
import io
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parent.parent))  # where this is not pytest

import commands
import notebook_rules

from seglib import exercises
from seglib.exercises.kit import CORRECT, Exercise, Lesson, Outcome


class Case(NamedTuple):
    """An answer to an exercise: "solution", "placeholder", or "wrong 1" and so on."""

    number: str
    name: str
    answer: str

    @property
    def lesson(self) -> Lesson:
        return next(lesson for lesson in exercises.lessons() if lesson.number == self.number)

    @property
    def exercise(self) -> Exercise:
        return self.lesson.exercises[self.name]


def accepted(exercise: Exercise, answer: Any) -> str:
    """What an answer hears that must be correct."""
    found = exercise.judged(answer)
    assert found.state == CORRECT, str(found)
    return found.message


def code(head: str, *body: str) -> str:
    """A definition from its lines."""
    return "\n    ".join((head, *body))


def module(number: str) -> Any:
    return importlib.import_module(f"wrong{number}")


def wrong_ones(number: str) -> dict[str, list[tuple[str, str]]]:
    """Of each exercise: (the source of a wrong answer, a part of the message that must come)."""
    rows = module(number).WRONG
    return {name: [(source, part) for part, source in rows[name].items()] for name in rows}


@cache
def page(number: str) -> notebook_rules.Page:
    """The lesson's notebook."""
    return next(
        notebook_rules.read(path) for path in commands.lessons([]) if path.name.startswith(number)
    )


def cell(case: Case) -> notebook_rules.ExerciseCell:
    """The exercise's cell in the notebook."""
    cells = notebook_rules.exercise_cells(page(case.number))
    return next(cell for cell in cells if cell.name == case.name)


def source(case: Case) -> str:
    if case.answer == "solution":
        return case.exercise.source()
    if case.answer == "placeholder":
        return cell(case).placeholder
    return wrong_ones(case.number)[case.name][int(case.answer.split()[1]) - 1][0]


@cache
def outcome(case: Case) -> Outcome:
    """How the answer does: its source is run after the lesson's imports, and the name judged."""
    namespace = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):  # what the answer itself prints
        exec(module(case.number).PRELUDE, namespace)
        exec(compile(source(case), f"<{case.name}>", "exec"), namespace)
        return case.exercise.judged(eval(cell(case).answer, namespace))
