"""Each exercise knows its solution, its placeholder and at least three typical wrong answers.

`python tests/exercises/test_answers.py [LESSON]` prints every answer with what the reader hears.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import answers

from seglib import exercises
from seglib.exercises.kit import CORRECT, NOT_ATTEMPTED, NOT_YET

CASES = [
    answers.Case(lesson.number, name, "solution")
    for lesson in exercises.lessons()
    for name in lesson.exercises
]
SLOW = "02-small_net", "04-bootstrap"  # whose judges train a net, and draw again and again
EACH = [
    pytest.param(
        case,
        id=f"{case.number}-{case.name}",
        marks=pytest.mark.slow if f"{case.number}-{case.name}" in SLOW else (),
    )
    for case in CASES
]
each_exercise = pytest.mark.parametrize("case", EACH)

# These train for half a minute, and once is enough: in the solved lesson of test_notebook_copies.
TRAINED = "02-small_net", "03-own_loss"


@pytest.mark.parametrize("case", [each for each in EACH if each.id not in TRAINED])
def test_the_solution_is_correct(case):
    found = answers.outcome(case)
    assert found.state == CORRECT, str(found)


def test_the_placeholder_is_not_attempted():
    for case in CASES:
        found = answers.outcome(case._replace(answer="placeholder"))
        assert found.state == NOT_ATTEMPTED, f"{case.name}: {found}"
        assert f"ex.{case.name}.hint()" in found.message


@each_exercise
def test_each_wrong_answer_hears_what_is_wrong_with_it(case):
    """And is told something else than the others. (Numbers do not make it another message.)"""
    rows = answers.wrong_ones(case.number).get(case.name, [])
    implied = getattr(case.exercise.judge, "wrong_answers", list)()
    assert rows and len(rows) + len(implied) >= 3
    failed, told = {}, {}
    for n, (_, fragment) in enumerate(rows, 1):
        wrong = case._replace(answer=f"wrong {n}")
        found = answers.outcome(wrong)
        said = found.message
        alike = told.setdefault(re.sub(r"\d+", "#", said), n)
        if (
            found.state != NOT_YET
            or not fragment
            or fragment not in said
            or alike != n
            or "stumbled" in said
            or "Traceback" in said
            or not 20 <= len(said) <= 700
        ):
            failed[str(wrong)] = f"{found}; expected {fragment!r}" + (
                "" if alike == n else f"; wrong {alike} hears the same"
            )
    assert not failed, "\n\n".join(f"{wrong}: {said}" for wrong, said in failed.items())


@each_exercise
def test_every_mistake_of_a_table_hears_its_own_hint(case):
    """No mistake is taken for another that stands before it in the table."""
    exercise = case.exercise
    for answer, hint in getattr(exercise.judge, "wrong_answers", list)():
        with contextlib.redirect_stdout(io.StringIO()):
            found = exercise.judged(answer)
        assert found.state == NOT_YET and hint in found.message, f"{hint!r}, but heard: {found}"


@pytest.mark.parametrize("number", [lesson.number for lesson in exercises.lessons()])
def test_the_solutions_run_in_the_notebook(number):
    """Each name that one takes from outside is bound in a cell above; it binds what is checked."""
    page = answers.page(number)
    for case in (case for case in CASES if case.number == number):
        asked = answers.cell(case)
        assert asked is not None, f"the notebook has no cell for {case.name}"
        bound = set(dir(builtins))
        for _, cell, i in page.code:
            if i < asked.place:
                bound |= outer_names(cell.source)
        own = outer_names(case.exercise.source())
        tree = ast.parse(case.exercise.source())
        assert free_names(tree) - bound - own == set(), case.name
        checked = {
            node.id for node in ast.walk(ast.parse(asked.answer)) if isinstance(node, ast.Name)
        }
        assert checked <= own, case.name


def outer_names(source: str) -> set[str]:
    """The names that a cell binds at its top level (in its loops and conditions, too)."""
    found, todo = set(), list(ast.parse(source).body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif not isinstance(node, (ast.Lambda, ast.ListComp, ast.GeneratorExp)):
            todo += ast.iter_child_nodes(node)
    return found


def free_names(tree: ast.AST) -> set[str]:
    """The names that are read and nowhere bound inside."""
    nodes = list(ast.walk(tree))
    read = {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    inside = {
        node.id
        for node in nodes
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    return read - inside - {node.arg for node in nodes if isinstance(node, ast.arg)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.name}")
def test_odd_answers_are_told_so(case):
    """Whatever is handed to check: no exception, no praise, and the judge foresaw the kind."""
    for name, answer in odd_answers().items():
        found = case.exercise.judged(answer)
        assert found.state == NOT_YET, f"{name}: {found}"
        assert "stumbled" not in found.message, f"{name}: {found}"


def odd_answers():
    import numpy as np
    import torch

    values = {
        "None": None,
        "text": "what",
        "empty text": "",
        "number": -12345.678,
        "nan": float("nan"),
        "infinity": float("inf"),
        "complex": 1j,
        "empty list": [],
        "list": [1, "a", None],
        "tuple": ("x",) * 3,
        "dict": {"a": 1},
        "set": {1},
        "object": object(),
        "type": int,
        "array": np.zeros((0, 3)),
        "array of text": np.array(["a", "b"]),
        "scalar": np.float64(-7),
        "tensor": torch.full((2, 3), -5.0),
        "bool": True,
        "bytes": b"x",
    }
    functions = {
        f"function that returns {name}": lambda *_, value=value, **__: value
        for name, value in values.items()
    }
    return (
        values
        | functions
        | {
            "function of too few": lambda: 1,
            "function that raises": lambda *_, **__: {}["gone"],
            "empty class": type("Empty", (), {"x": 1}),
            "empty module": type("Net", (torch.nn.Module,), {"x": 1}),
        }
    )


def test_wrong_answers_belong_to_exercises():
    for lesson in exercises.lessons():
        assert set(answers.wrong_ones(lesson.number)) == set(lesson.exercises)


def test_every_exercise_has_hints_a_title_and_an_outcome():
    for lesson in exercises.lessons():
        for exercise in lesson.exercises.values():
            assert exercise.hints and all(exercise.hints) and exercise.title
        tested = {exercise.outcome for exercise in lesson.exercises.values()}
        assert tested == set(range(len(lesson.outcomes)))


def test_free_and_outer_names():
    source = "import numpy as np\nx, y = 1, [z for z in q]\ndef f(a):\n    b = a + k\n    g(b)"
    assert outer_names(source) == {"np", "x", "y", "f"}
    assert free_names(ast.parse(source)) == {"q", "g", "k"}


if __name__ == "__main__":
    wanted = {word.zfill(2) for word in sys.argv[1:]}
    for case in answers.cases():
        if wanted and case.number not in wanted:
            continue
        if case.answer == "solution":
            print(
                f"\n{'=' * 100}\nlesson {case.number} · ex.{case.name} "
                f"({case.exercise.kind}) · {case.exercise.title}\n"
                f"tests: {case.lesson.outcomes[case.exercise.outcome]}"
            )
            for n, hint in enumerate(case.exercise.hints, 1):
                print(f"hint {n}: {hint}")
        print(f"\n--- {case.answer}")
        try:
            print("\n".join(f"    {line}" for line in answers.source(case).strip().splitlines()))
            print(f"  ▷ {answers.outcome(case)}", flush=True)
        except Exception as error:
            print(f"  (cannot be judged: {type(error).__name__}: {error})")
