"""Each exercise knows its solution, its placeholder and at least three typical wrong answers.

`python tests/exercises/test_answers.py [LESSON]` prints every answer with what the reader hears.
"""

import ast
import builtins
import contextlib
import io
import re
import symtable
import sys

import answers
import numpy as np
import pytest
import torch

from seglib import exercises
from seglib.exercises.kit import CORRECT, NOT_ATTEMPTED, NOT_YET

LESSONS = exercises.lessons()
CASES = {
    f"{lesson.number}-{name}": answers.Case(lesson.number, name, "solution")
    for lesson in LESSONS
    for name in lesson.exercises
}
SLOW = ("04-bootstrap",)  # whose judge draws again and again
TRAINED = ("03-own_loss",)  # half a minute; test_notebook_copies does it, too


def each_exercise(slow=(), without=()):
    rows = [
        pytest.param(case, id=name, marks=pytest.mark.slow if name in slow else ())
        for name, case in CASES.items()
        if name not in without
    ]
    return pytest.mark.parametrize("case", rows)


def implied(case):
    """The wrong answers that a judge's table implies, with their hints."""
    return getattr(case.exercise.judge, "wrong_answers", list)()


@each_exercise(SLOW, without=TRAINED)
def test_the_solution_is_correct(case):
    found = answers.outcome(case)
    assert found.state == CORRECT, str(found)


def test_the_placeholder_is_not_attempted():
    for case in CASES.values():
        found = answers.outcome(case._replace(answer="placeholder"))
        assert found.state == NOT_ATTEMPTED, f"{case.name}: {found}"
        assert f"ex.{case.name}.hint()" in found.message


@each_exercise(SLOW)
def test_each_wrong_answer_hears_what_is_wrong_with_it(case):
    """And is told something else than the others. (Numbers do not make it another message.)"""
    rows = answers.wrong_ones(case.number)[case.name]
    assert rows and len(rows) + len(implied(case)) >= 3
    failed, told = [], {}
    for n, (_, fragment) in enumerate(rows, 1):
        found = answers.outcome(case._replace(answer=f"wrong {n}"))
        said = found.message
        alike = told.setdefault(re.sub(r"\d+", "#", said), n)
        heard = found.state == NOT_YET and fragment and fragment in said and 20 <= len(said) <= 700
        if not heard or alike != n or "stumbled" in said or "Traceback" in said:
            failed.append(f"wrong {n}, like {alike}: {found}; expected {fragment!r}")
    assert not failed, "\n\n".join(failed)


@each_exercise(SLOW)
def test_every_mistake_of_a_table_hears_its_own_hint(case):
    """No mistake is taken for another that stands before it in the table."""
    for answer, hint in implied(case):
        with contextlib.redirect_stdout(io.StringIO()):
            found = case.exercise.judged(answer)
        assert found.state == NOT_YET and hint in found.message, f"{hint!r}, but heard: {found}"


@each_exercise()
def test_the_solutions_run_in_the_notebook(case):
    """Each name that one takes from outside is bound in a cell above; it binds what is checked."""
    asked = answers.cell(case)
    above = [cell.source for _, cell, i in answers.page(case.number).code if i < asked.place]
    own, needed = names(case.exercise.source())
    assert needed <= own.union(dir(builtins), *(names(source)[0] for source in above))
    checked = {node.id for node in ast.walk(ast.parse(asked.answer)) if isinstance(node, ast.Name)}
    assert checked <= own


def names(source):
    """Of a cell: the names that it binds at its top level, and those that it takes from outside."""
    todo = [symtable.symtable(source, "cell", "exec")]
    symbols = todo[0].get_symbols()
    bound = {name.get_name() for name in symbols if name.is_assigned() or name.is_imported()}
    read = set()
    while todo:
        table = todo.pop()
        read |= {name.get_name() for name in table.get_symbols() if name.is_global()}
        todo += table.get_children()
    return bound, read - bound


def test_names():
    source = "import numpy as np\nx, y = 1, [z for z in q]\ndef f(a):\n    b = a + k\n    g(b)"
    assert names(source) == ({"np", "x", "y", "f"}, {"q", "g", "k"})


ODD_VALUES = [
    *(None, "what", "", -12345.678, float("nan"), float("inf"), 1j, True, b"x", object(), int),
    *([], [1, "a", None], ("x",) * 3, {"a": 1}, {1}, np.float64(-7)),
    *(np.zeros((0, 3)), np.array(["a", "b"]), torch.full((2, 3), -5.0)),
]
ODD = {f"{value!r}": value for value in ODD_VALUES}
ODD |= {f"returns {name}": lambda *_, value=value, **__: value for name, value in ODD.items()}
ODD |= {
    "function of too few": lambda: 1,
    "function that raises": lambda *_, **__: {}["gone"],
    "empty class": type("Empty", (), {"x": 1}),
    "empty module": type("Net", (torch.nn.Module,), {"x": 1}),
}


@each_exercise(("05-replace_last_layer", "06-accumulate"))
def test_odd_answers_are_told_so(case):
    """Whatever is handed to check: no exception, no praise, and the judge foresaw the kind."""
    for name, answer in ODD.items():
        found = case.exercise.judged(answer)
        assert found.state == NOT_YET and "stumbled" not in found.message, f"{name}: {found}"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.number)
def test_every_exercise_has_wrong_answers_hints_a_title_and_an_outcome(lesson):
    assert set(answers.wrong_ones(lesson.number)) == set(lesson.exercises)
    for exercise in lesson.exercises.values():
        assert exercise.hints and all(exercise.hints) and exercise.title
    tested = {exercise.outcome for exercise in lesson.exercises.values()}
    assert tested == set(range(len(lesson.outcomes)))


if __name__ == "__main__":
    wanted = {word.zfill(2) for word in sys.argv[1:]} or {lesson.number for lesson in LESSONS}
    for case in (case for case in CASES.values() if case.number in wanted):
        exercise = case.exercise
        print(f"\n{'=' * 100}\nlesson {case.number} · ex.{case.name} ({exercise.kind})")
        print(f"{exercise.title}; tests: {case.lesson.outcomes[exercise.outcome]}")
        print(*(f"hint {n}: {hint}" for n, hint in enumerate(exercise.hints, 1)), sep="\n")
        wrong = range(len(answers.wrong_ones(case.number)[case.name]))
        for kind in ("solution", "placeholder", *(f"wrong {n + 1}" for n in wrong)):
            each = case._replace(answer=kind)
            print(f"\n--- {kind}\n{answers.source(each).strip()}\n  ▷ {answers.outcome(each)}")
