"""The reader's copies: made where missing, never overwritten, whatever happens on the way."""

import datetime
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
from pathlib import Path

import commands
import nbformat
import pytest
import workbook
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_rules import LINK, Page

ROOT = Path(__file__).resolve().parent.parent
TODAY = "03_losses_2026-11-26"
TROUBLE = commands.Trouble


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course with two pages, a deep dive and pictures, in the place of the real one."""
    notebooks = tmp_path / "notebooks"
    (notebooks / "pictures").mkdir(parents=True)
    (notebooks / "extra").mkdir()
    (notebooks / "pictures" / "01.png").write_bytes(b"a picture")
    lesson, deep = "[lesson 3](03_losses.ipynb)", "[more](extra/03_borders.ipynb)"
    back = "[lesson 3](../03_losses.ipynb) ![A street](../pictures/01.png)"
    links = {"00_welcome": lesson, "03_losses": deep, "extra/03_borders": back}
    for name, link in links.items():
        text = new_markdown_cell(f"# {name}\n{link}")
        code = new_code_cell("print(1)\nprint(2)", execution_count=1)
        code.outputs = [new_output("stream", text="1\n2\n")]
        nbformat.write(new_notebook(cells=[text, code]), notebooks / f"{name}.ipynb")
    (notebooks / "pictures" / "draw.py").touch()
    monkeypatch.setattr(commands, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(commands, "WORKBOOK", tmp_path / "workbook")

    class Calendar(datetime.date):
        @classmethod
        def today(cls):
            return cls(2026, 11, 26)

    monkeypatch.setattr(workbook, "date", Calendar)
    return tmp_path


@pytest.fixture
def copies(course, capsys):
    fill()
    return course / "workbook"


@pytest.fixture
def said(capsys):
    """The lines that were printed since it was called last."""
    return lambda: capsys.readouterr().out.replace(workbook.MAKE, "make").splitlines()


def fill():
    workbook.fill(commands.NOTEBOOKS, commands.WORKBOOK)


def reset(lesson="03"):
    commands.main(["reset", f"LESSON={lesson}"])


def edit(path, **code):
    """Change the code cell as JupyterLab would save it; return what is in the file then."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].update(code)
    nbformat.write(notebook, path)
    return path.read_bytes()


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "workbook"
    workbook.fill(ROOT / "notebooks", folder)
    return folder


def test_every_lesson_has_a_valid_copy_without_outputs(real):
    lessons = workbook.originals(ROOT / "notebooks")
    assert set(commands.lessons([])) <= set(lessons)
    for lesson in lessons:
        copy = nbformat.read(real / lesson.relative_to(ROOT / "notebooks"), as_version=4)
        nbformat.validate(copy)
        stored = nbformat.read(lesson, as_version=4)
        for mine, theirs in zip(copy.cells, stored.cells, strict=True):
            assert (mine.source, mine.metadata) == (theirs.source, theirs.metadata)
            assert mine.get("outputs", []) == [] and mine.get("execution_count") is None


def linked(folder):
    """The files that copies link to, by their place in the course; all of them exist."""
    found = set()
    for copy in folder.rglob("*.ipynb"):
        for _, cell, _ in Page(copy, nbformat.read(copy, as_version=4)).prose:
            for match in LINK.finditer(cell.source):
                target = match[3] or match[5] or match[6] or ""
                name = urllib.parse.unquote(target).partition("#")[0]
                if name and not re.match(r"\w+:", name):
                    place = os.path.relpath(copy.parent / name, folder.parent)
                    root = folder.parent if place.startswith("workbook") else ROOT
                    assert (root / place).exists(), f"{copy.name} links to {name}"
                    found.add(Path(place).as_posix())
    return found


def test_pictures_and_links_work_in_the_copies(real, copies):
    assert "workbook/pictures/01.png" in linked(real)
    there = "03_losses.ipynb", "extra/03_borders.ipynb", "pictures/01.png"
    assert linked(copies) == {f"workbook/{name}" for name in there}


def test_copies_pictures_and_settings_are_made(copies, said):
    assert said() == ["new in workbook/: 00_welcome, 03_losses, 03_borders"]
    made = "00_welcome.ipynb 03_losses.ipynb extra/03_borders.ipynb pictures/01.png"
    settings = ".jupyter/labconfig/default_setting_overrides.json"
    assert set(files(copies)) == {*made.split(), settings, ".progress.json"}


def test_a_second_time_changes_nothing_and_says_nothing(copies, said):
    edit(copies / "03_losses.ipynb", source="my answer")
    (copies / "notes.txt").write_text("mine")
    (copies / workbook.PROGRESS).write_text('{"01": {}}')

    def state():
        return files(copies), [path.stat().st_mtime_ns for path in sorted(copies.rglob("*"))]

    before, _ = state(), said()
    fill()
    assert state() == before and said() == []


@pytest.mark.parametrize("edited", [True, False])
def test_a_new_version_is_offered_and_not_forced(course, copies, said, edited):
    if edited:
        edit(copies / "03_losses.ipynb", source="my answer")
    (course / "notebooks" / "pictures" / "01.png").write_bytes(b"a new picture")
    before, _ = {**files(copies), "pictures/01.png": b"a new picture"}, said()
    for name in ("03_losses", "extra/03_borders"):
        edit(course / "notebooks" / f"{name}.ipynb", source="new")
    fill()
    assert files(copies) == before
    assert said() == [
        f"{name} has a new version; yours in workbook/ is unchanged. "
        f"`make reset LESSON={handle}` fetches it and keeps yours"
        for name, handle in (("03_losses", "03"), ("03_borders", "extra/03_borders"))
    ]
    reset()
    assert (copies / f"{TODAY}.ipynb").read_bytes() == before["03_losses.ipynb"]
    assert nbformat.read(copies / "03_losses.ipynb", as_version=4).cells[1].source == "new"
    said()
    fill()
    assert [line.split()[0] for line in said()] == ["03_borders"]


def test_outputs_are_no_new_version_and_a_copy_without_a_version_is_left_alone(course, said):
    shutil.copytree(course / "notebooks", course / "workbook")  # made by hand, say
    (course / "workbook" / "00_welcome.ipynb").unlink()
    fill()
    lessons, before, _ = course / "notebooks", files(course / "workbook"), said()
    edit(lessons / "00_welcome.ipynb", execution_count=9, outputs=[], metadata={"tags": ["slow"]})
    edit(lessons / "03_losses.ipynb", source="new")
    fill()
    assert files(course / "workbook") == before and said() == []


@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"\xff\xfe\xfd", b"[]", b"{}"])
def test_a_broken_copy_is_the_readers(copies, said, content):
    broken = copies / "03_losses.ipynb"
    broken.write_bytes(content)
    said()
    fill()
    assert broken.read_bytes() == content
    [line] = said()
    assert "03_losses in workbook/ is not a readable notebook and is left as it is" in line
    reset()
    assert broken.with_stem(TODAY).read_bytes() == content
    nbformat.validate(nbformat.read(broken, as_version=4))


def test_reset_keeps_every_old_copy_with_its_date(copies, said):
    lesson, kept = copies / "03_losses.ipynb", {}
    fresh, _ = lesson.read_bytes(), lesson.unlink()
    said()
    reset()  # without a copy it makes one
    assert lesson.read_bytes() == fresh and said() == ["03_losses in workbook/ is fresh"]
    for name in (TODAY, f"{TODAY}_2", f"{TODAY}_3"):
        kept[f"{name}.ipynb"] = edit(lesson, source=name)
        said()
        reset()
        assert f"yours is kept beside it as {name}.ipynb" in said()[0]
        assert lesson.read_bytes() == fresh
        assert kept.items() <= files(copies).items()
    fill()  # dated copies are no lessons: nobody lists, fills or resets them
    assert [path.name for path in commands.lessons([])] == ["00_welcome.ipynb", "03_losses.ipynb"]
    with pytest.raises(TROUBLE, match="there is no lesson"):
        reset(TODAY)
    assert kept.items() <= files(copies).items()
    assert said() == []


@pytest.mark.parametrize("name", ["fsync", "rename", "replace"])
def test_an_interruption_loses_nothing_and_leaves_nothing_half(copies, monkeypatch, name):
    def interrupted(function):
        def interrupt(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, name, interrupt)
            function()

    mine = edit(copies / "03_losses.ipynb", source="my answer")
    interrupted(reset)
    assert mine in files(copies).values()
    assert not [path for path in files(copies) if path.endswith(".part")]
    (copies / "00_welcome.ipynb").unlink()
    if name != "rename":  # (only a reset renames)
        interrupted(fill)
        assert not (copies / "00_welcome.ipynb").exists()
    fill()
    reset()
    for path in copies.rglob("*.ipynb"):
        nbformat.validate(nbformat.read(path, as_version=4))
    assert mine in files(copies).values()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_kill_leaves_no_half_copy(course):
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import workbook
from pathlib import Path
workbook.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
workbook.fill(Path("notebooks"), Path("workbook"))
"""
    killed, folder = subprocess.run([sys.executable, "-c", code], cwd=course), course / "workbook"
    assert killed.returncode == -signal.SIGKILL
    assert [*folder.glob(".00_welcome.ipynb.*.part")] and not [*folder.glob("*.ipynb")]
    fill()
    assert len([*folder.glob("*.ipynb")]) == 2


FULL = r"the disk is full: .*03_losses.ipynb was not written, but nothing of yours"
READ_ONLY = r"03_losses.ipynb cannot be written \(Read-only.*allow writing in .*workbook"


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, FULL), (errno.EROFS, READ_ONLY)])
def test_a_disk_that_takes_nothing(copies, monkeypatch, number, told):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    edit(copies / "03_losses.ipynb", source="my answer")
    before = files(copies)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(TROUBLE, match=told):
        reset()
    assert files(copies) == before
    fill()  # nothing to write, no trouble


@pytest.mark.parametrize("name", ["workbook", "workbook/pictures", "workbook/extra"])
def test_a_file_in_the_place_of_a_folder_and_a_broken_lesson(course, name):
    (course / name).parent.mkdir(exist_ok=True)
    (course / name).write_text("mine")
    with pytest.raises(TROUBLE, match=f"{Path(name).name} is not a folder; rename it"):
        fill()
    assert (course / name).read_text() == "mine"
    (course / name).unlink()
    lesson = course / "notebooks" / "03_losses.ipynb"
    lesson.write_text("<<<<<<< HEAD\n" + json.dumps({}))
    with pytest.raises(TROUBLE, match=r"03_losses.ipynb is not a readable notebook \(Exp"):
        fill()
