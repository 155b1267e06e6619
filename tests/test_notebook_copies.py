"""Every lesson runs to its end for a reader who solved it, and for one who got it all wrong."""

from __future__ import annotations

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
    """The copies of one lesson: a class of its own each, so that workers share the lessons."""

    path: Path

    @pytest.mark.slow
    def test_with_every_exercise_solved(self, tmp_path):
        page = notebook_rules.read(self.path)
        solved = {name: exercise.source() for name, exercise in page.lesson.exercises.items()}
        ran = notebook_copies.filled(page, solved)
        assert notebook_copies.run(ran, tmp_path / self.path.name) == []
        said = notebook_copies.verdicts(page, ran)
        assert {name: text for name, text in said.items() if not text.startswith("correct")} == {}
        differ = notebook_copies.differences(page, ran)
        assert not differ or not notebook_copies.LOCKED, "\n".join(differ)

    @pytest.mark.slow
    def test_with_every_answer_wrong(self, tmp_path):
        page = notebook_rules.read(self.path)
        wrong = {name: rows[0][0] for name, rows in answers.wrong_ones(page.lesson.number).items()}
        ran = notebook_copies.filled(page, wrong)
        assert notebook_copies.run(ran, tmp_path / self.path.name) == []
        said = notebook_copies.verdicts(page, ran)
        assert {name: text for name, text in said.items() if not text.startswith("not yet")} == {}
        differ = notebook_copies.differences(page, ran, notebook_copies.mentions_answers(page))
        assert not differ or not notebook_copies.LOCKED, "\n".join(differ)


for path in commands.lessons([]):
    if not path.name.startswith("00_"):
        name = f"TestLesson{path.name[:2]}"
        globals()[name] = type(name, (Copies,), {"path": path})


# ---------------------------------------------------------------- the machinery itself

TOY = '''
from seglib.exercises.base import Lesson, NotYet

LESSON = Lesson("07", outcomes=("add", "double", "tell"))


def judge(right):
    def judged(answer):
        found = answer(5) if callable(answer) else answer
        if found != right:
            raise NotYet(f"{found} is not {right}")
    return judged


def double(number):
    return number * 2


total = LESSON.add(name="total", title="t", kind="predict", outcome=0, judge=judge(3), answer=3,
                   variable="total", hints=())
double = LESSON.add(name="double", title="d", kind="implement", outcome=1, judge=judge(10),
                    answer=double, hints=())
odd = LESSON.add(name="odd", title="o", kind="interpret", outcome=2, judge=judge((True, False)),
                 answer=(True, False), variable="odd, even", hints=())
summary = LESSON.summary
'''


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


def play(page, folder, answers):
    ran = notebook_copies.filled(page, answers)
    errors = notebook_copies.run(ran, folder / "copy.ipynb", PYTHONPATH=str(folder))
    return errors, notebook_copies.verdicts(page, ran), notebook_copies.differences(page, ran)


@pytest.mark.slow
def test_a_toy_lesson_solved_and_wrong_and_broken(page, tmp_path):
    solved = {"total": "total = 3", "odd": "odd, even = True, False",
              "double": "def double(number):\n    return 2 * number"}              # fmt: skip
    assert play(page, tmp_path, solved) == ([], dict.fromkeys(solved, "correct"), [])
    assert (tmp_path / "copy.ipynb").exists()

    wrong = {"total": "total = 4", "odd": "odd, even = True, True",
             "double": "def double(number):\n    return number ** 2"}              # fmt: skip
    errors, said, differ = play(page, tmp_path, wrong)
    assert (errors, differ) == ([], [])             # ex.double.use handed on the solution
    assert said["total"] == "not yet · 4 is not 3" and said["double"] == "not yet · 25 is not 10"

    page.notebook.cells[4].outputs[0].text = "4\n"
    errors, said, differ = play(page, tmp_path, {**solved, "total": "total = 1 / 0"})
    assert errors[0].startswith("[3] ZeroDivisionError") and said["total"].startswith("no verdict")
    assert differ == ["[2] stored [('stdout', '4\\n')], found [('stdout', '3\\n')]"]


def test_which_cells_depend_on_an_answer(page):
    code = {where: cell for where, cell, _ in page.code}
    code["[2]"].source, code["[7]"].source = "print(total)", "print(double(2))"
    mentions = notebook_copies.mentions_answers(page)
    assert mentions(code["[2]"])                        # there is no ex.total.use
    assert not mentions(code["[7]"])
