"""Running and normalising notebooks; Makefile, CI and commands fit together."""

import os
import re
import subprocess
import sys
from pathlib import Path

import commands
import kernel_env
import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import bootstrap

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A repository with one lesson, in the place of the real one."""
    cells = [
        new_markdown_cell("# A lesson"),
        new_code_cell("print('one')\nprint('two')", metadata={"tags": ["keep"]}),
        new_code_cell(""),
        new_code_cell("import os; os.environ['SEGLIB_PROFILE']"),
    ]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "03_lesson.ipynb")
    for name, folder in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("WORKBOOK", "workbook")):
        monkeypatch.setattr(commands, name, tmp_path / folder)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for line in ("init -q", "add .", "-c user.name=a -c user.email=a@b.c commit -q -m lesson"):
        subprocess.run(["git", *line.split()], cwd=tmp_path, check=True)
    return tmp_path / "notebooks" / "03_lesson.ipynb"


@pytest.mark.slow
def test_notebooks_are_executed_and_normalised_in_place(course):
    assert commands.main(["notebooks", "LESSON=3"]) == 0
    notebook = nbformat.read(course, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3]
    assert [dict(cell.metadata) for cell in code] == [{"tags": ["keep"]}, {}, {}]
    assert [output.text for output in code[0].outputs] == ["one\ntwo\n"]
    assert code[2].outputs[0].data["text/plain"] == "'lite'"
    first = course.read_bytes()
    with pytest.raises(commands.Trouble, match=r"uncommitted changes.*03_lesson.*--force"):
        commands.main(["notebooks", "03"])
    commands.main(["notebooks", "03", "--force"])
    assert course.read_bytes() == first  # nothing varies from run to run

    notebook.cells[1].source = "1 / 0"
    nbformat.write(notebook, course)
    before = course.read_bytes()
    with pytest.raises(commands.Trouble, match="stopped at an error and was not written"):
        commands.main(["notebooks", "--force"])
    assert course.read_bytes() == before


def test_paths_of_this_machine_do_not_stay_and_what_is_large_is_named(course):
    text = f"{commands.ROOT}/data and {Path.home()}/.cache"
    cell = new_code_cell(outputs=[new_output("stream", name="stdout", text=text)])
    commands.normalise(new_notebook(cells=[cell]))
    assert cell.outputs[0].text == "every-pixel/data and ~/.cache"
    view = {
        "application/vnd.jupyter.widget-view+json": {},
        "text/plain": "interactive(IntSlider())",
    }
    slider = new_code_cell(outputs=[new_output("display_data", data=view), *cell.outputs])
    commands.normalise(new_notebook(cells=[slider]))
    assert slider.outputs == cell.outputs
    for size, faults in ((4_000_000, r".*figure of 3000 kB \(at most 250\) 4000 kB.*"), (1000, "")):
        output = new_output("display_data", data={"image/png": "A" * size})
        found = commands.too_big(new_notebook(cells=[new_code_cell(outputs=[output])]))
        assert re.fullmatch(faults, " ".join(found))


def test_reset_needs_no_git_leaves_the_lesson_alone_and_names_what_is_not_there(course):
    before = course.read_bytes()
    (course.parent.parent / ".git").rename(course.parent.parent / "no-git")
    with pytest.raises(commands.Trouble, match=r"there is no lesson 07.*there are: 03_lesson"):
        commands.main(["reset", "LESSON=07"])
    with pytest.raises(commands.Trouble, match="name the lesson: reset LESSON=03"):
        commands.main(["reset"])
    assert not commands.WORKBOOK.exists()
    for said in ("LESSON=03", "3"):
        assert commands.main(["reset", said]) == 0
    assert len(list(commands.WORKBOOK.glob("03_*.ipynb"))) == 2 and course.read_bytes() == before


@pytest.fixture
def deep(course):
    """A deep dive of that lesson."""
    (course.parent / "extra").mkdir()
    path, cell = course.parent / "extra" / "03_borders.ipynb", "import os; os.listdir('..')"
    nbformat.write(new_notebook(cells=[new_code_cell(cell)]), path)
    return path


def test_a_deep_dive_is_no_lesson_but_can_be_named_and_comes_along(course, deep):
    assert commands.lessons([]) == commands.lessons(["3"]) == [course]
    assert commands.lessons(["LESSON=extra/03_borders"], extras=True) == [deep]
    assert commands.lessons([], extras=True) == commands.lessons(["3"], extras=True)
    assert commands.lessons(["3"], extras=True) == [course, deep]
    assert commands.main(["reset", "LESSON=extra/03_borders"]) == 0
    made = [path.relative_to(commands.WORKBOOK) for path in commands.WORKBOOK.rglob("*.ipynb")]
    assert made == [Path("extra/03_borders.ipynb")]
    commands.main(["reset", "LESSON=03"])  # what the reader made of the deep dive stays
    assert len(list(commands.WORKBOOK.rglob("*.ipynb"))) == 2


@pytest.mark.slow
def test_a_deep_dive_runs_where_it_lies_after_its_lesson(course, deep):
    def listed(path):
        return nbformat.read(path, as_version=4).cells[0].outputs[0].data["text/plain"]

    assert commands.main(["notebooks", "LESSON=03", "--force"]) == 0
    assert "03_lesson.ipynb" in listed(deep) and len(commands.git("status", "-s").split()) == 4
    assert commands.main(["full", "LESSON=extra/03_borders"]) == 0
    [full] = (course.parent / "full").rglob("*.ipynb")
    assert full.relative_to(course.parent) == Path("full/extra/03_borders.ipynb")
    assert "03_lesson.ipynb" in listed(full)


def test_lab_fills_the_workbook_before_jupyterlab_starts(course, monkeypatch):
    monkeypatch.setitem(os.environ, "JUPYTER_CONFIG_PATH", "before")
    monkeypatch.setattr(commands, "run", lambda _: int(not any(commands.WORKBOOK.glob("03_*"))))
    assert commands.main(["lab"]) == 0
    settings, before = os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert before == "before"
    assert (Path(settings) / "labconfig" / "default_setting_overrides.json").is_file()


def test_commands_can_be_imported_without_any_package():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import commands"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_every_step_runs_and_the_failed_ones_are_named(monkeypatch):
    ran = []

    def run(step):
        ran.append(step)
        return int("ruff" in step or "--nbval" in step)

    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with pytest.raises(commands.Trouble, match=r"^test: failed: ruff, notebooks$"):
        commands.main(["test"])
    assert len(ran) == 4
    assert "--nbval" in ran[3] and ran[3][-1] == "notebooks"
    os.environ["SEGLIB_VERSIONS"] = "newest"
    assert commands.main(["test"]) == 0  # no linters, a looser comparison
    assert len(ran) == 6 and "--nbval-lax" in ran[-1]


def test_kernels_world():
    world = {"MPLBACKEND": "Agg", "SEGLIB_DATA": "/x", "SEGLIB_PROFILE": "full", "HOME": "/h"}
    kernel_env.apply(world, threads=1)
    assert not {"MPLBACKEND", "SEGLIB_DATA"} & set(world) and world["HOME"] == "/h"
    expected = "SEGLIB_PROFILE=lite SEGLIB_PROGRESS=0 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE"
    assert {tuple(word.split("=")) for word in expected.split()} <= set(world.items())
    world = {"SEGLIB_DATA": "/x"}
    kernel_env.apply(world, profile="full")
    assert world["SEGLIB_DATA"] == "/x" and "OMP_NUM_THREADS" not in world


def test_makefile_help_and_steps_know_the_same_commands():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^TARGETS := (.*)$", makefile, re.M)[1]
    assert {*targets.split(), "help"} == set(bootstrap.COMMANDS)
    described = re.findall(r"^  ([a-z][a-z-]+)(?:, ([a-z]+))?", bootstrap.__doc__, re.M)
    names = {name for pair in described for name in pair if name}
    assert names | {"help"} == set(bootstrap.COMMANDS)
    elsewhere = {"help", "clean", "setup", "notebooks", "full", "reset"}
    assert all(commands.steps(name, []) for name in names - elsewhere - {"test"})


@pytest.mark.skipif(os.name == "nt", reason="make")
def test_make_hands_on_lesson_and_options_and_tells_when_python_is_missing():
    def make(*words):
        # (a `make test ARGS=…` around these tests would hand its own ARGS and flags on)
        command, world = ["make", "-s", "-C", str(ROOT), *words], {"PATH": os.environ["PATH"]}
        return subprocess.run(command, capture_output=True, text=True, env=world)

    for words, line in (
        (["notebooks", "LESSON=03", "ARGS=--force"], "notebooks LESSON=03 --force"),
        ([], "help"),
    ):
        assert make("-n", *words).stdout.strip().endswith(f"bootstrap.py {line}")
    result = make("lab", "PYTHON=")
    assert result.returncode != 0 and "install Python 3.11 or newer" in result.stderr


def test_conda_names_what_exists_and_ci_is_a_program():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["channels"][0] == "conda-forge"
    assert conda["dependencies"][-1] == {"pip": ["-e .[lab]"]}
    calm = {name: bootstrap.CALM[name] for name in conda["variables"]}
    assert conda["variables"] == calm and "OMP_WAIT_POLICY" in calm
    wanted = {line.split(">")[0]: line for line in conda["dependencies"][:-1]}
    project = (ROOT / "pyproject.toml").read_text()
    assert f'"{wanted["torchvision"]}"' in project  # the same oldest versions
    assert f'"{wanted["pytorch"].removeprefix("py")}"' in project
    script = ROOT / ".ci" / "run"
    assert re.match(r"#!/usr/bin/env bash\n[^$]*set -euo pipefail", script.read_text())
    assert os.name == "nt" or os.access(script, os.X_OK)
