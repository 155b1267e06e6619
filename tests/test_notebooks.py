"""Every notebook keeps to the rules of notebook_rules.py; each rule finds what breaks it."""

import base64
import copy
import importlib.util
import io
import re

import commands
import nbformat
import notebook_rules
import pytest
import workbook
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_rules import FRAME, IGNORED, TECHNICAL, Page
from PIL import Image

from seglib import exercises
from seglib.exercises.kit import Lesson

NOTEBOOKS, LESSONS = commands.lessons([], extras=True), commands.lessons([])
RULES = {rule.__name__: rule for rule in (*TECHNICAL, *FRAME)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_to_the_rules(path):
    found = notebook_rules.faults(notebook_rules.read(path))
    assert not found, "\n" + "\n".join(found)


def test_every_lesson_with_exercises_has_one_notebook_and_every_deep_dive_a_lesson():
    numbers = [path.name[:2] for path in LESSONS if not path.name.startswith("00_")]
    assert numbers == [lesson.number for lesson in exercises.lessons()]
    assert workbook.originals(commands.NOTEBOOKS) == NOTEBOOKS


def test_what_notebooks_may_import_is_installed():
    allowed = notebook_rules.importable()
    assert {"seglib", "torch", "cv2", "PIL", "skimage", "IPython", "ipywidgets", "json"} <= allowed
    assert not {"pandas", "sklearn", "torchmetrics", "pytest", "nbformat"} & allowed
    other = allowed - notebook_rules.sys.stdlib_module_names
    assert [name for name in sorted(other) if importlib.util.find_spec(name) is None] == []


def small_lesson():
    lesson = Lesson("07", outcomes=("add two numbers", "double a number", "tell odd from even"))
    common = {"judge": lambda answer: None, "answer": 3, "hints": ("think",)}
    kinds = {"total": "predict", "double": "implement", "odd": "interpret"}
    for n, (name, kind) in enumerate(kinds.items()):
        lesson.add(name=name, title=name, kind=kind, outcome=n, variable=name, **common)
    return lesson


def shown(text):
    return [new_output("stream", name="stdout", text=text)]


STREAM = io.BytesIO()
Image.new("RGB", (3, 2)).save(STREAM, "PNG")
PNG = STREAM.getvalue()


def drawn(content=None, kind="png"):
    picture = content or base64.b64encode(PNG).decode()
    return [new_output("display_data", {f"image/{kind}": picture})]


CELLS = """
# 7 · Sums

You add numbers. It takes a moment.

![Two numbers and their sum](pictures/07.png)
=
**You will be able to**

1. add two numbers
2. double a number
3. tell odd from even

**Time** · half a minute of computing, 40 minutes of study.

**Needs** · the numbers.

Exercises check your answer. `ex.NAME.hint()` helps.
= setup
import numpy as np
from seglib.course import setup
from seglib.data import CamVid
from seglib.exercises import lesson07 as ex

run = setup(lite=dict(rows=2), full=dict(rows=200), seed=0)
=
## 1 · What is a sum?

**Predict** the sum before you run, see [below](#2-·-What-is-double?).
= code
print(1 + 2)
=
It is 3.
=
### Exercise 1 · predict · outcome 1

> What is 1 + 2?
= exercise
total = ...

ex.total.check(total)
=
## 2 · What is double?

**Predict.** What is twice 4?
= figure
figure = np.ones(2)
figure
=
*Two bars of one height.* More text.
=
### Exercise 2 · implement · outcome 2

> Write `double`.
= exercise
def double(number):
    ...

ex.double.check(double)
double = ex.double.use(double)
= machine
took = 1.5
print("took", took)
= code
assert took < 10
print("quick enough")
=
### Exercise 3 · interpret · outcome 3

> Which of them is odd: 3 and 4, or 3 alone?
= exercise
odd, even = ..., ...

ex.odd.check((odd, even))
= silent
if run.profile == "full":
    camvid = CamVid("train")
    print(len(camvid))
=
## Check yourself

**1.** What is 1 + 1?

a) One. b) Two. c) Three.

<details><summary>Answer</summary>

**b.** (a) forgets one, (c) counts one twice.

</details>

**2.** What is odd?

- A. two
- B. three
- C. four

<details><summary>Answer</summary>

**B.** A and C are even.

</details>

**3.** Is a sum of odd numbers odd?

- **A** · always
- **B** · never
- **C** · it depends

<details>
<summary>Answer</summary>

C: two make an even one (so A is wrong), three an odd one (so B is wrong).

</details>
=
## Deep dive · Larger numbers

They work alike.
= summary
ex.summary()
=
## In this lesson you

- added

## Mistakes to remember

- Sums are no products.

## Further reading

- Ada Lovelace and Alan Turing (2020), *On Sums*, arXiv:2001.01234
- Emmy Noether (1921), *Idealtheorie in Ringbereichen*, Mathematische Annalen 83, 24–66
"""


OUTPUTS = {
    "setup": shown("profile lite · seed 0\n"),
    "code": shown("3\n"),
    "machine": shown("took 1.5\n"),
    "summary": shown("0 of 3 correct\n"),
    "exercise": shown("not attempted yet · hint: ex.total.hint()\n"),
    "silent": [],
    "figure": drawn(),
}


def small_page(folder):
    """A notebook without a fault."""
    pictures = folder / "notebooks" / "pictures"
    pictures.mkdir(parents=True)
    (pictures / "07.png").write_bytes(PNG)
    cells = []
    for n, block in enumerate(CELLS.split("\n=")):
        kind, _, source = block.partition("\n")
        kind = kind.strip()
        cells.append(new_code_cell(source) if kind else new_markdown_cell(source.strip()))
        cells[-1]["id"] = f"c{n}"
        if kind:
            cells[-1].outputs = copy.deepcopy(OUTPUTS[kind])
        if kind in ("exercise", "machine", "summary"):
            cells[-1].metadata["tags"] = [IGNORED]
    notebook = new_notebook(cells=cells)
    commands.normalise(notebook)
    return Page(pictures.parent / "07_sums.ipynb", notebook, small_lesson(), folder)


@pytest.fixture
def page(tmp_path):
    return small_page(tmp_path)


def fresh(page):  # what a page reads once is read again
    return Page(page.path, page.notebook, page.lesson, page.root)


def test_a_sound_lesson_has_no_fault_and_the_welcome_page_needs_no_frame(page):
    before = copy.deepcopy(page.notebook)
    assert notebook_rules.faults(page) == [] and page.notebook == before
    page = fresh(page)
    page.path = page.path.with_name("00_sums.ipynb")
    page.notebook.cells = page.notebook.cells[3:5]
    page.notebook.cells[0].source, page.notebook.cells[1].execution_count = "# Hello", 1
    assert notebook_rules.faults(page) == []


def replace(old, new):
    """Break a notebook by other text in the cells that hold `old`."""

    def change(page):
        found = [cell for cell in page.notebook.cells if old in cell.source]
        assert found, old
        for cell in found:
            cell.source = cell.source.replace(old, new)

    return change


def code(n, source=None, outputs=None, tags=None):
    """Break a notebook in its n-th code cell (from 1)."""

    def change(page):
        cell = [cell for cell in page.notebook.cells if cell.cell_type == "code"][n - 1]
        cell.source = cell.source if source is None else source
        cell.outputs = cell.outputs if outputs is None else outputs
        if tags is not None:
            cell.metadata["tags"] = tags

    return change


def cells(change):
    """Break a notebook by a change of its list of cells."""
    return lambda page: change(page.notebook.cells)


def two_kinds(page):
    vars(page.lesson.exercises["total"]).update(kind="implement")


def large_picture(page):
    (page.path.parent / "pictures/07.png").write_bytes(b"x" * 270_000)


# Rule -> what
BREAKS = {
    "is_sound": [
        (lambda page: page.notebook.metadata.update(author="me"), "not normalised"),
        (cells(lambda all: all[0].update(id=all[1].id)), "same id"),
        (cells(lambda all: all[0].update(cell_type="prose")), "no valid"),
    ],
    "ran_through": [
        (cells(lambda all: all[2].update(execution_count=5)), r"\[5, 2, 3"),
        (code(2, "  "), r"\[2\] is empty"),
        (code(2, outputs=[new_output("error", ename="E", evalue="x")]), "E: x"),
        (code(2, outputs=[new_output("stream", name="stderr", text="Warn")]), "stderr: 'Warn'"),
        (code(2, outputs=[]), r"\[2\] prints or draws"),
    ],
    "names_no_machine": [
        (code(2, outputs=shown("/home/me/data")), "/home/m"),
        (code(2, "open('C:\\\\Users')"), "has the path"),
        ("It is 3.", "Look at /tmp/x.", "/tmp/x"),
        (code(2, outputs=shown("<f at 0x7fa2b3c4d5>")), "address"),
    ],
    "is_small": [
        (code(4, outputs=drawn("A" * 360_000)), "figure of 270 kB"),
        (code(2, outputs=shown("3" * 3_000_001)), "at most 3000"),
        (large_picture, r"07\.png: 270 kB"),
    ],
    "has_known_tags": [
        (code(2, tags=["nbval-ignore"]), "'nbval-ignore', which"),
        (cells(lambda all: all[0].metadata.update(tags=["x"])), "'x'"),
        (code(2, "# NBVAL_IGNORE_OUTPUT\nprint(3)"), "in a comment"),
    ],
    "asserts_what_it_ignores": [
        (code(7, "print('quick')"), r"\[6\] is not compared"),
        (code(2, tags=[IGNORED]), r"\[2\] is not compared"),
    ],
    "is_plain_and_short": [
        (code(2, "!ls"), "!ls"),
        (code(2, "files = !ls\nprint(files)"), "!ls"),
        (code(2, "get_ipython().system('ls')"), "get_ipython"),
        (code(2, "x = 1\n" * 30 + "print(3)"), "31 lines"),
        (code(2, "print('" + "3" * 100 + "')"), "109 characters"),
    ],
    "imports_what_is_declared": [
        (code(2, "import pandas as pd\nprint(3)"), "imports pandas"),
        (code(2, "from .other import x"), r"imports \."),
        (code(2, "from numpy import *"), r"imports \* from numpy"),
    ],
    "shows_no_real_data": [
        (code(9, outputs=drawn()), "reads CamVid and stores a picture"),
        (code(2, "CamVid('train')"), r"\[2\] reads CamVid in lite"),
        (code(2, "if run.profile == 'lite':\n    CamVid('val')"), "in lite"),
        (code(2, "if run.profile == 'full':\n    1\nelse:\n    x['camvid']"), "camvid in lite"),
    ],
    "has_captions": [
        ("*Two bars of one height.*", "Two bars.", "no caption"),
        (code(2, outputs=drawn() * 2), r"\[2\] shows a figure, but"),
        (code(4, outputs=drawn("<svg/>", "svg+xml")), r"svg\+xml; figures are image/png"),
    ],
    "has_links_that_resolve": [
        ("It is 3.", "[x](../data/nothing.md)", "leads nowhere"),
        ("It is 3.", "![](pictures/07.png)", "no alternative"),
        ("It is 3.", '<img src="pictures/07.png">', "no alternat"),
        ("It is 3.", "[a][1]\n\n[1]: pictures/08.png", "nowhere"),
        ("It is 3.", "[x](../../x)", "out of the repository"),
        ("It is 3.", "[x](/notebooks/07.png)", "neither https"),
        ("It is 3.", "[x](#3-·-What)", "leads to no heading"),
        ("It is 3.", "[x]()", "is empty"),
    ],
    "links_other_lessons": [
        ("It is 3.", "It is 3, as in lesson 1.", "What is a sum.*mentions lesson 1 without"),
        (
            "**Needs** · the numbers",
            "**Needs** · lessons 2 and 5",
            "opening.*lesson 2(.|\n)*lesson 5",
        ),
        ("It is 3.", "Lesson 1, [2](02_two.ipynb) and lesson 2", "lesson 1 without"),
    ],
    "is_sober": [
        ("It is 3.", "It is 3!", "'3!'"),
        ("It is 3.", "Just add.", "'Just'"),
        ("It is 3.", "It is 3 \U0001f600.", "says"),
    ],
    "opens_with_title_and_picture": [
        ("# 7 · Sums", "# 8 · Sums", "first cell is not"),
        ("pictures/07.png", "pictures/7.png", "first cell"),
        ("a moment.", "a moment. Or two. Or more.", "4 sente"),
    ],
    "has_one_title": [("It is 3.", "# Again", "a second title: # Again")],
    "has_full_references": [
        ("(2020), ", "", "a reference needs a year"),
        ("24–66", "", "a reference needs.*Noether"),
    ],
    "states_outcomes_time_and_needs": [
        ("2. double a", "2. treble a", "found .*'treble a number', LESSON has 'double a"),
        ("3. tell odd from even", "", "found the outcome '', LESSON has 'tell odd"),
        ("3. tell", "4. tell", r"numbered \[1, 2, 4\]"),
        ("**Time**", "4. treble it\n\n**Time**", "'treble it', LESSON has ''"),
        ("**You will be able to**", "You will", "begin"),
        ("**Time** ·", "Time:", "Time"),
        ("40 minutes", "long", r"in minutes"),
        ("**Needs** · the numbers.", "**Needs** ·", "Needs"),
        ("Exercises check your answer.", "", "how exercis"),
        (lambda page: vars(page).update(lesson=None), r"no seglib/exercises/lesson07\.py"),
    ],
    "sets_up_in_its_third_cell": [
        ("run = setup", "world = setup", "not called run"),
        ("lite=dict(rows=2)", "lite={}", "side by side"),
        ("import lesson07 as", "import lesson06 as", "lesson07"),
        (cells(lambda all: all.insert(2, all.pop(3))), "third cell"),
        (code(2, "run = setup(lite=dict(), full=dict())"), "only there"),
    ],
    "has_its_sections_in_order": [
        ("## 2 · What is double?", "## Doubling", "but: .*, Doubling, Check"),
        ("## 2 ·", "## 3 ·", r"numbered \[1, 3\]"),
        ("It is 3.", "".join(f"## {n} · Why?\n\nSo.\n\n" for n in range(2, 8)), "in this order"),
        (cells(lambda all: all.append(all.pop(-3))), "but: .*reading, Deep dive · Larger"),
        ("- Sums are no products.", "", "remember` is empty"),
        ("**Predict.** What", "What", "asks for no g"),
        ("It is 3.", "## 2 · Why?\n\n**Predict.**\n\n## 3 · How?\n\n**Predict.**", "Why.*no code"),
    ],
    "prompts_each_exercise": [
        ("Exercise 2 · ", "Exercise 4 · ", r"numbered \[1, 4, 3\]"),
        ("### Exercise 2 · implement · outcome 2", "Now:", r"\[5\] checks ex.double without"),
        ("2 · implement", "2 · debug", "debug, outcome 2; LESSON says implement, outcome 2"),
        ("### Exercise 1 · predict", "First.\n\n### Exercise 1 · predict", "a prompt is"),
        ("> What is 1 + 2?", "> What is 1 + 2?\n\nIt is a sum.", "a prompt is"),
        ("> What is 1 + 2?", "What is 1 + 2?", "a prompt is"),
        ("### Exercise 1 · predict · outcome 1\n\n> ", "> **Exercise 1.** ", "a prompt is"),
        (cells(lambda all: all.insert(7, new_markdown_cell("More."))), "exercise 1: no cell"),
    ],
    "has_placeholders": [
        ("total = ...", "total = 3", "no placeholder"),
        ("...\n\nex.total", "...\nex.total", "no empty line"),
        ("ex.total.check(total)", "print(ex.total.check(total))", "does"),
        ("ex.double.use(double)", "ex.double.use(sum)", "does not end"),
        (code(3, tags=[]), "lacks the tag"),
        (code(3, outputs=shown("correct\n")), "stored with an answer.*'correct"),
        (code(2, "ex.total.solution()"), "gives away ex.total"),
    ],
    "tests_every_outcome": [
        ("ex.odd.check", "ex.add.check", "no such exercise(.|\n)*no exercise tests outcome 3"),
        ("ex.odd.check", "ex.total.check", "checked in 2 cells"),
        (two_kinds, "3 exercises of 2 kinds"),
    ],
    "has_a_quiz": [
        ("**1.** What is 1 + 1?", "**1.** Add.", "question 1 needs"),
        ("c) Three.", "", "question 1 needs.*found 2"),
        ("- B. three", "- C. three", "question 2 needs.*found 0"),
        ("<details><summary>Answer</summary>\n\n**B.**", "**B.**", "2 questions with a fold"),
        ("</summary>\n\n**b.**", "</summary>\n**b.**", "fold 1 does not begin"),
        ("(a) forgets one, (c) counts", "Counts", "fold 1 says nothing of option a, c"),
        (cells(lambda all: all.insert(-3, new_markdown_cell("4. And?"))), "after the last fold"),
    ],
    "ends_as_a_lesson": [
        (code(10, "print(ex.summary())"), r"not `ex.summary\(\)` alone"),
        (cells(lambda all: all.append(new_code_cell("1"))), "last code cell"),
        (code(10, tags=[]), "lacks the tag"),
        ("- Sums are no products.", "None.", "remember` has no list"),
        ("arXiv:2001.01234", "doi:10.1/x", "no reference has an arXiv"),
    ],
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_finds_what_breaks_it(name, tmp_path):
    missed = []
    for n, (*change, said) in enumerate(BREAKS[name]):
        page = small_page(tmp_path / str(n))
        (replace(*change) if len(change) == 2 else change[0])(page)
        found = list(RULES[name](fresh(page)))
        notebook_rules.faults(fresh(page))  # the other rules bear it, too
        if not re.search(said, "\n".join(found)):
            missed.append(f"{said!r}: {found}")
    assert not missed, "\n".join(missed)


COLAB = "# Colab\ntry:\n    import seglib\nexcept ModuleNotFoundError:\n    %pip install -q x"
ALLOWED = [
    code(2, COLAB),
    code(2, "from IPython.display import display\nimport cv2, json, torch.nn\nprint(3)"),
    code(2, "text = '''\n%magic\n!shell\n'''\nprint(3)"),
    code(2, "first = CamVid('val') if run.profile == 'full' else None\nprint(3)"),
    code(2, "run2 = dict(lite=1, full=dict(data=CamVid))\nprint(3)"),
    code(2, "print('CamVid has 367 images')", shown("3\n")),
    code(2, "def f():\n    print(3)", []),
    code(2, "for i in []:\n    print(i)", []),
    replace("It is 3.", "`a!`, `TODO`, $n!$ and 3 != 4. [x](https://example.org/home/me)"),
    replace("It is 3.", "```python\nprint('!')\n# no heading\n## none\n[x](nowhere)\n```"),
    replace("It is 3.", "[title](#7-·-Sums), [again](#7--sums), [x](pictures/07.png)"),
    replace("*Two bars of one height.* More", "*Two bars\nof `x*y` height.*\n\nMore"),
    replace("- Sums are no products.", "- Sums are\n  no products."),
    replace("> What is 1 + 2?", "> What is 1 + 2?\n>\n> - a sum\n\n> ```\n> 1 + 2\n> ```"),
    replace("It is 3.", "It is 3, as in lesson 7 and `lesson 2`."),
    replace("**Predict** the sum before you run", "Guess before you run"),  # (an exercise does)
    cells(lambda all: all.insert(2, new_code_cell(COLAB))),
]


@pytest.mark.parametrize("change", ALLOWED)
def test_no_rule_minds(page, change):
    change(page)
    page.notebook.nbformat_minor = 5
    commands.normalise(page.notebook)
    assert notebook_rules.faults(fresh(page)) == []


def small_extra(folder, old="", new=""):
    """A deep dive of the small lesson, which is written, too; with `new` for `old` in both."""
    lesson, path = small_page(folder), folder / "notebooks" / "extra" / "07_more.ipynb"
    replace("They work alike.", "There is [more](extra/07_more.ipynb).")(lesson)
    title = "# More sums\n\nIt goes with [lesson 7](../07_sums.ipynb).\n\nIt is short."
    cells = [new_markdown_cell(title), new_code_cell("print(3)", outputs=shown("3\n"))]
    cells += [new_code_cell("figure", outputs=drawn()), new_markdown_cell("*Two bars.*")]
    for cell in [*lesson.notebook.cells, *cells]:
        cell.source = cell.source.replace(old, new) if old else cell.source
    nbformat.write(lesson.notebook, lesson.path)
    page = Page(path, new_notebook(cells=cells), None, folder)
    path.parent.mkdir()
    commands.normalise(page.notebook)
    return page


EXTRA_BREAKS = [
    ("[lesson 7](../07_sums.ipynb)", "lesson 7", "first cell is not `# Title` and a sentence"),
    ("It goes", "A sentence.\n\nIt goes", "first cell is not"),
    ("# More", "## More", "first cell is not"),
    ("(extra/07_more.ipynb)", "(pictures/07.png)", r"07_sums\.ipynb has no link `.*extra/07_more"),
    ("print(3)", "from seglib.exercises import lesson07 as ex", "no exercises"),
    ("It is short.", "# Again", "a second title"),  # what holds for all notebooks holds here
    ("*Two bars.*", "Two bars.", "no caption"),
    ("figure", "figure = CamVid('val')[0]", "reads CamVid and stores a picture"),
]


def test_a_deep_dive_belongs_to_a_lesson_and_keeps_to_what_holds_for_all(tmp_path):
    page = small_extra(tmp_path / "sound")
    assert notebook_rules.faults(page) == []
    page.path = page.path.with_name("08_more.ipynb")
    assert notebook_rules.faults(page) == ["belongs_to_a_lesson: there is no lesson 08"]
    for n, (old, new, said) in enumerate(EXTRA_BREAKS):
        found = notebook_rules.faults(small_extra(tmp_path / str(n), old, new))
        assert re.search(said, "\n".join(found)), (new, found)
