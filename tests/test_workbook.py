"""The reader's copies: made where missing, never overwritten, whatever happens on the way."""

from __future__ import annotations

import datetime
import errno
import json
import os
import posixpath
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import nbformat
import pytest
import workbook
from notebook_rules import LINK

ROOT = Path(__file__).resolve().parent.parent
TODAY = "03_losses_2026-11-26"


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course with two pages, a deep dive and pictures, in the place of the real one."""
    notebooks = tmp_path / "notebooks"
    for name in ("00_welcome", "03_losses", "extra/borders"):
        lesson = nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_markdown_cell(f"# {name}\n![A street](pictures/01.png)"),
                nbformat.v4.new_code_cell(
                    "print(1)\nprint(2)",
                    execution_count=1,
                    outputs=[nbformat.v4.new_output("stream", text="1\n2\n")],
                ),
            ]
        )
        for folder in (notebooks / name).parent, (notebooks / name).parent / "pictures":
            folder.mkdir(exist_ok=True, parents=True)
            (folder / "01.png").write_bytes(b"a picture")
        nbformat.write(lesson, notebooks / f"{name}.ipynb")
    (notebooks / "pictures" / "draw.py").touch()
    monkeypatch.setattr(commands, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(commands, "WORKBOOK", tmp_path / "workbook")

    class Calendar(datetime.date):
        @classmethod
        def today(cls) -> Calendar:
            return cls(2026, 11, 26)

    monkeypatch.setattr(workbook, "date", Calendar)
    return tmp_path


def fill() -> None:
    workbook.fill(commands.NOTEBOOKS, commands.WORKBOOK)


def edit(path: Path, change: Callable[[Any], object]) -> bytes:
    """Change a notebook as JupyterLab would save it; return what is in the file then."""
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)
    return path.read_bytes()


def answer(notebook: Any) -> None:
    notebook.cells[1].source = "my answer"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---------------------------------------------------------------- the copies of the real lessons


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course") / "workbook"
    workbook.fill(ROOT / "notebooks", folder)
    return folder


def test_every_lesson_has_a_valid_copy_without_outputs(real: Path) -> None:
    lessons = workbook.originals(ROOT / "notebooks")
    assert {path.name for path in commands.lessons([])} <= {path.name for path in lessons}
    for lesson in lessons:
        copy = nbformat.read(real / lesson.relative_to(ROOT / "notebooks"), as_version=4)
        nbformat.validate(copy)
        stored = nbformat.read(lesson, as_version=4)
        assert [cell.source for cell in copy.cells] == [cell.source for cell in stored.cells]
        assert [cell.metadata for cell in copy.cells] == [cell.metadata for cell in stored.cells]
        code = [cell for cell in copy.cells if cell.cell_type == "code"]
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_pictures_and_links_work_in_the_copies(real: Path) -> None:
    found = []
    for copy in real.rglob("*.ipynb"):
        for cell in nbformat.read(copy, as_version=4).cells:
            for match in LINK.finditer(cell.source if cell.cell_type == "markdown" else ""):
                target = match[3] or match[5] or match[6] or ""
                name = urllib.parse.unquote(target).partition("#")[0]
                if name and not re.match(r"\w+:", name):
                    found.append((copy.relative_to(real.parent).as_posix(), name))
    assert ("workbook/01_problem_setup.ipynb", "pictures/01.png") in found
    for place, name in found:
        target = posixpath.normpath(f"{posixpath.dirname(place)}/{name}")
        root = real.parent if target.startswith("workbook/") else ROOT
        assert (root / target).exists(), f"{place} links to {name}"


# ---------------------------------------------------------------- filling


def test_copies_pictures_and_settings_are_made(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill()
    made = set(files(course / "workbook"))
    assert made == {
        "00_welcome.ipynb",
        "03_losses.ipynb",
        "extra/borders.ipynb",
        "pictures/01.png",
        "extra/pictures/01.png",
        ".jupyter/labconfig/default_setting_overrides.json",
    }
    assert capsys.readouterr().out == "new in workbook/: 00_welcome, 03_losses, borders\n"


def test_a_second_time_changes_nothing_and_says_nothing(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill()
    edit(course / "workbook" / "03_losses.ipynb", answer)
    (course / "workbook" / "notes.txt").write_text("mine")
    before, _ = files(course / "workbook"), capsys.readouterr()
    times = [path.stat().st_mtime_ns for path in sorted((course / "workbook").rglob("*"))]
    fill()
    assert files(course / "workbook") == before
    assert [path.stat().st_mtime_ns for path in sorted((course / "workbook").rglob("*"))] == times
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("edited", [True, False])
def test_a_new_version_is_offered_and_not_forced(
    course: Path, capsys: pytest.CaptureFixture[str], edited: bool
) -> None:
    fill()
    copies = course / "workbook"
    if edited:
        edit(copies / "03_losses.ipynb", answer)
    before, _ = files(copies), capsys.readouterr()
    for name in ("03_losses", "extra/borders"):
        edit(course / "notebooks" / f"{name}.ipynb", lambda new: new.cells[0].update(source="new"))
    fill()
    assert files(copies) == before
    said = capsys.readouterr().out.replace(workbook.MAKE, "make").splitlines()
    assert said == [
        f"{name} has a new version; yours in workbook/ is unchanged. "
        f"`make reset LESSON={handle}` fetches it and keeps yours"
        for name, handle in (("03_losses", "03"), ("borders", "extra/borders"))
    ]
    commands.main(["reset", "LESSON=03"])
    assert (copies / f"{TODAY}.ipynb").read_bytes() == before["03_losses.ipynb"]
    assert nbformat.read(copies / "03_losses.ipynb", as_version=4).cells[0].source == "new"
    capsys.readouterr()
    fill()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["borders"]


def run_again(notebook: Any) -> None:
    notebook.cells[1].update(execution_count=9, outputs=[], metadata={"tags": ["slow"]})
    notebook.metadata["kernelspec"] = {"name": "other", "display_name": "Other"}


def test_outputs_counts_and_metadata_are_no_new_version(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill()
    capsys.readouterr()
    edit(course / "notebooks" / "03_losses.ipynb", run_again)
    fill()
    assert capsys.readouterr().out == ""


def test_a_copy_without_a_version_is_left_alone(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(course / "notebooks", course / "workbook")  # made by hand, say
    edit(course / "notebooks" / "03_losses.ipynb", answer)
    before = files(course / "workbook")
    fill()
    assert before.items() <= files(course / "workbook").items()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"\xff\xfe\xfd", b"[]", b"{}"])
def test_a_broken_copy_is_the_readers(
    course: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (course / "workbook").mkdir()
    broken = course / "workbook" / "03_losses.ipynb"
    broken.write_bytes(content)
    fill()
    assert broken.read_bytes() == content
    assert "03_losses in workbook/ is not a readable notebook and is left as it is" in (
        capsys.readouterr().out
    )
    commands.main(["reset", "LESSON=03"])
    assert broken.with_stem(TODAY).read_bytes() == content
    nbformat.validate(nbformat.read(broken, as_version=4))


def test_pictures_follow_the_course(course: Path) -> None:
    fill()
    (course / "notebooks" / "pictures" / "01.png").write_bytes(b"a new picture")
    (course / "workbook" / "pictures" / "mine.png").write_bytes(b"mine")
    fill()
    assert files(course / "workbook" / "pictures") == {
        "01.png": b"a new picture",
        "mine.png": b"mine",
    }


# ---------------------------------------------------------------- resetting


def test_reset_keeps_every_old_copy_with_its_date(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill()
    copies = course / "workbook"
    fresh = (copies / "03_losses.ipynb").read_bytes()
    kept = {}
    for name in (TODAY, f"{TODAY}_2", f"{TODAY}_3"):
        edit(copies / "03_losses.ipynb", lambda old, name=name: old.cells[1].update(source=name))
        kept[f"{name}.ipynb"] = (copies / "03_losses.ipynb").read_bytes()
        commands.main(["reset", "LESSON=03"])
        assert f"yours is kept beside it as {name}.ipynb" in capsys.readouterr().out
        assert (copies / "03_losses.ipynb").read_bytes() == fresh
        assert kept.items() <= files(copies).items()
    # dated copies are no lessons: nobody lists, fills or resets them
    fill()
    assert [path.name for path in commands.lessons([])] == ["00_welcome.ipynb", "03_losses.ipynb"]
    with pytest.raises(commands.Trouble, match="there is no lesson"):
        commands.main(["reset", f"LESSON={TODAY}"])
    assert kept.items() <= files(copies).items()
    assert capsys.readouterr().out == ""


def test_reset_without_a_copy_makes_one(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.main(["reset", "LESSON=03"])
    assert capsys.readouterr().out == (
        "there was no copy of 03_losses; a fresh one is in workbook/\n"
    )
    assert list(files(course / "workbook")) == ["03_losses.ipynb"]


# ---------------------------------------------------------------- what may happen on the way


@pytest.mark.parametrize("name", ["fsync", "rename", "replace"])
def test_an_interruption_loses_nothing_and_leaves_nothing_half(
    course: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill()
    copies = course / "workbook"
    mine = edit(copies / "03_losses.ipynb", answer)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, name, interrupt)
        commands.main(["reset", "LESSON=03"])
    assert mine in files(copies).values()
    assert not [path for path in files(copies) if path.endswith(".part")]
    (copies / "00_welcome.ipynb").unlink()
    if name != "rename":  # (only a reset renames)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, name, interrupt)
            fill()
        assert not (copies / "00_welcome.ipynb").exists()
    fill()
    commands.main(["reset", "LESSON=03"])
    for path in copies.rglob("*.ipynb"):
        nbformat.validate(nbformat.read(path, as_version=4))
    assert mine in files(copies).values()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_kill_leaves_no_half_copy(course: Path) -> None:
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import workbook
from pathlib import Path
workbook.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
workbook.fill(Path("notebooks"), Path("workbook"))
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=course)
    assert killed.returncode == -signal.SIGKILL
    assert list((course / "workbook").glob(".00_welcome.ipynb.*.part"))
    assert not list((course / "workbook").glob("*.ipynb"))
    fill()
    assert len(list((course / "workbook").glob("*.ipynb"))) == 2


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            errno.ENOSPC,
            r"the disk is full: .*03_losses.ipynb was not written, but nothing of yours",
        ),
        (
            errno.EROFS,
            r"03_losses.ipynb cannot be written \(Read-only.*allow writing in .*workbook",
        ),
    ],
)
def test_a_disk_that_takes_nothing(
    course: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    fill()
    edit(course / "workbook" / "03_losses.ipynb", answer)
    before = files(course / "workbook")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(commands.Trouble, match=said):
        commands.main(["reset", "LESSON=03"])
    assert files(course / "workbook") == before
    fill()  # nothing to write, no trouble


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written(course: Path) -> None:
    (course / "workbook").mkdir(mode=0o500)
    with pytest.raises(commands.Trouble, match=r"cannot be written \(Permission denied\); allow"):
        fill()


@pytest.mark.parametrize("name", ["workbook", "workbook/pictures", "workbook/extra"])
def test_a_file_in_the_place_of_a_folder(course: Path, name: str) -> None:
    (course / name).parent.mkdir(exist_ok=True)
    (course / name).write_text("mine")
    with pytest.raises(commands.Trouble, match=f"{Path(name).name} is not a folder; rename it"):
        fill()
    assert (course / name).read_text() == "mine"


def test_a_broken_lesson_is_named(course: Path) -> None:
    lesson = course / "notebooks" / "03_losses.ipynb"
    lesson.write_text("<<<<<<< HEAD\n" + json.dumps({}))
    with pytest.raises(commands.Trouble, match=r"03_losses.ipynb is not a readable notebook \(Exp"):
        fill()
