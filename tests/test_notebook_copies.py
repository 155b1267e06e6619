"""Every lesson runs to its end for a reader who gets each exercise wrong at first, then right."""

import sys
from pathlib import Path

import commands
import notebook_copies
import notebook_rules
import pytest
from test_notebooks import fresh, replace, small_page

sys.path.insert(0, str(Path(__file__).resolve().parent / "exercises"))

import answers


class Copies:
    """The copy of one lesson: a class of its own each, so that workers share the lessons."""

    path: Path

    @pytest.mark.slow
    def test_with_every_exercise_wrong_and_then_right(self, tmp_path):
        page = notebook_rules.read(self.path)
        wrong = {name: rows[0][0] for name, rows in answers.wrong_ones(page.number).items()}
        right = {name: exercise.source() for name, exercise in page.lesson.exercises.items()}
        ran = notebook_copies.filled(page, wrong, right)
        assert notebook_copies.run(ran, tmp_path / self.path.name) == []
        for name, said in notebook_copies.verdicts(page, ran).items():
            kinds = [line.split(" · ")[0] for line in said]
            assert kinds == ["not yet", "correct"], f"{name}: {said}"
        differ = notebook_copies.differences(page, ran)
        assert not differ or not notebook_copies.LOCKED, "\n".join(differ)

    def test_no_later_cell_sees_a_wrong_answer(self):
        assert notebook_copies.mentions(notebook_rules.read(self.path)) == []


for path in commands.lessons([]):
    if not path.name.startswith("00_"):
        name = f"TestLesson{path.name[:2]}"
        globals()[name] = type(name, (Copies,), {"path": path})


TOY = """
from seglib.exercises.kit import Lesson, NotYet

LESSON = Lesson("07", outcomes=("add", "double", "tell"))


def add(name, kind, outcome, right, answer, **more):
    def judge(given):
        found = given(5) if callable(given) else given
        if found != right:
            raise NotYet(f"{found} is not {right}")
    return LESSON.add(name=name, title=name, kind=kind, outcome=outcome, judge=judge,
                      answer=answer, hints=(), **more)


def double(number):
    return number * 2


total = add("total", "predict", 0, 3, 3, variable="total")
double = add("double", "implement", 1, 10, double)
odd = add("odd", "interpret", 2, (True, False), (True, False), variable="odd, even")
summary = LESSON.summary
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The made-up lesson of test_notebooks, as one that really runs."""
    (tmp_path / "toy07.py").write_text(TOY)
    page = small_page(tmp_path)
    replace("from seglib.exercises import lesson07 as ex", "import toy07 as ex")(page)
    replace("print(1 + 2)", "print(double(1) + 1 if 'double' in globals() else 3)")(page)
    replace("figure = np.ones(2)\nfigure", "print(3)")(page)
    for cell in page.notebook.cells:
        if cell.source == "print(3)":
            cell.outputs = notebook_rules.copy.deepcopy(page.notebook.cells[4].outputs)
        if cell.source.startswith("assert took"):
            cell.source = "print(double(4) - 5)"
    return fresh(page)


def play(page, folder, *attempts):
    ran = notebook_copies.filled(page, *attempts)
    errors = notebook_copies.run(ran, folder / "copy.ipynb", PYTHONPATH=str(folder))
    return errors, notebook_copies.verdicts(page, ran), notebook_copies.differences(page, ran)


SOLVED = {"total": "total = 3", "odd": "odd, even = True, False"}
SOLVED["double"] = "def double(number):\n    return 2 * number"
WRONG = {"total": "total = 4", "odd": "odd, even = True, True"}
WRONG["double"] = "def double(number):\n    return number ** 2"


@pytest.mark.slow
def test_a_toy_lesson_wrong_and_right_and_broken(page, tmp_path):
    errors, said, differ = play(page, tmp_path, WRONG, SOLVED)
    assert (errors, differ) == ([], []) and (tmp_path / "copy.ipynb").exists()
    assert {name: lines[1] for name, lines in said.items()} == dict.fromkeys(SOLVED, "correct")
    assert said["total"][0] == "not yet · 4 is not 3"
    assert said["double"][0] == "not yet · 25 is not 10"

    errors, said, differ = play(page, tmp_path, WRONG)
    assert (errors, differ) == ([], [])  # ex.double.use handed on the solution
    assert all(lines[0].startswith("not yet") for lines in said.values())

    page.notebook.cells[4].outputs[0].text = "4\n"
    errors, said, differ = play(page, tmp_path, {**SOLVED, "total": "total = 1 / 0"})
    assert errors[0].startswith("[3] ZeroDivisionError")
    assert said["total"][0].startswith("no verdict")
    assert differ == ["[2] stored [('stdout', '4\\n')], found [('stdout', '3\\n')]"]


def test_which_cells_depend_on_an_answer(page):
    assert notebook_copies.mentions(page) == []
    code = {where: cell for where, cell, _ in page.code}
    code["[7]"].source = "print(double(2))"  # (handed on by ex.double.use)
    assert notebook_copies.mentions(page) == []
    code["[2]"].source = "print(total)"  # (before its exercise)
    code["[7]"].source = "total = 5\nprint(total)"
    assert notebook_copies.mentions(page) == []
    code["[7]"].source = "print(total)"
    assert notebook_copies.mentions(page) == ["[7] reads total of total"]
