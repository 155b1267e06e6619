"""Each exercise knows its solution, its placeholder and at least three typical wrong answers.

`python tests/exercises/test_answers.py [LESSON]` prints every answer with what the reader hears.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import answers

from seglib import exercises
from seglib.exercises.base import CORRECT, NOT_ATTEMPTED, NOT_YET


def params(choose):
    """The cases whose answer `choose` likes; those of exercises that train are slow."""
    return [pytest.param(case, id=str(case), marks=pytest.mark.slow if
                         case.exercise.kind == "design" and case.answer != "placeholder" else ())
            for case in answers.cases() if choose(case.answer)]


SOLUTIONS = params(lambda answer: answer == "solution")
WRONG = params(lambda answer: answer.startswith("wrong"))


# These train for half a minute, and once is enough: in the solved lesson of test_notebook_copies.
TRAINED = "02-small_net-solution", "03-own_loss-solution"


@pytest.mark.parametrize("case", [each for each in SOLUTIONS if each.id not in TRAINED])
def test_the_solution_is_correct(case):
    found = answers.outcome(case)
    assert found.state == CORRECT, str(found)


@pytest.mark.parametrize("case", params(lambda answer: answer == "placeholder"))
def test_the_placeholder_is_not_attempted(case):
    found = answers.outcome(case)
    assert found.state == NOT_ATTEMPTED, str(found)
    assert f"ex.{case.name}.hint()" in found.message


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_hears_what_is_wrong_with_it(case):
    fragment, found = case.wrong[1], answers.outcome(case)
    assert found.state == NOT_YET, str(found)
    assert fragment and fragment in found.message, found.message
    assert "stumbled" not in found.message and "Traceback" not in found.message
    assert 20 <= len(found.message) <= 700, len(found.message)


@pytest.mark.parametrize("case", SOLUTIONS)
def test_three_wrong_answers_and_each_is_told_something_else(case):
    """(Numbers in a message do not make it another one.)"""
    rows = answers.wrong_ones(case.number).get(case.name, [])
    assert len(rows) >= 3
    same = [case._replace(answer=f"wrong {n}") for n in range(1, len(rows) + 1)]
    messages = [re.sub(r"\d+", "#", answers.outcome(other).message) for other in same]
    assert len(set(messages)) == len(messages), messages


@pytest.mark.parametrize("case", SOLUTIONS)
def test_the_solution_runs_in_the_notebook(case):
    """Each name that it takes from outside is bound in a cell above; it binds what is checked."""
    asked = answers.cell(case)
    assert asked is not None, "the notebook has no cell for this exercise"
    page = answers.page(case.number)
    bound = set(dir(builtins))
    for _, cell, i in page.code:
        if i < asked.place:
            bound |= outer_names(cell.source)
    tree = ast.parse(case.exercise.source())
    assert free_names(tree) - bound - outer_names(case.exercise.source()) == set()
    checked = {node.id for node in ast.walk(ast.parse(asked.answer)) if isinstance(node, ast.Name)}
    assert checked <= outer_names(case.exercise.source())


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
    read = {node.id for node in nodes if isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Load)}
    inside = {node.id for node in nodes if isinstance(node, ast.Name)
              and not isinstance(node.ctx, ast.Load)}
    return read - inside - {node.arg for node in nodes if isinstance(node, ast.arg)}


@pytest.mark.parametrize("case", SOLUTIONS)
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
        "None": None, "text": "what", "empty text": "", "number": -12345.678, "nan": float("nan"),
        "infinity": float("inf"), "complex": 1j, "empty list": [], "list": [1, "a", None],
        "tuple": ("x",) * 3, "dict": {"a": 1}, "set": {1}, "object": object(), "type": int,
        "array": np.zeros((0, 3)), "array of text": np.array(["a", "b"]), "scalar": np.float64(-7),
        "tensor": torch.full((2, 3), -5.0), "bool": True, "bytes": b"x",
    }                                                                              # fmt: skip
    functions = {f"function that returns {name}": lambda *_, value=value, **__: value
                 for name, value in values.items()}
    return values | functions | {"function of too few": lambda: 1,
                                 "function that raises": lambda *_, **__: {}["gone"],
                                 "empty class": type("Empty", (), {"x": 1}),
                                 "empty module": type("Net", (torch.nn.Module,), {"x": 1})}


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
            print(f"\n{'=' * 100}\nlesson {case.number} · ex.{case.name} "
                  f"({case.exercise.kind}) · {case.exercise.title}\n"
                  f"tests: {case.lesson.outcomes[case.exercise.outcome]}")
            for n, hint in enumerate(case.exercise.hints, 1):
                print(f"hint {n}: {hint}")
        print(f"\n--- {case.answer}")
        try:
            print("\n".join(f"    {line}" for line in answers.source(case).strip().splitlines()))
            print(f"  ▷ {answers.outcome(case)}", flush=True)
        except Exception as error:
            print(f"  (cannot be judged: {type(error).__name__}: {error})")
