"""The reader's progress outlives the kernel, and is written in a workbook only."""

import json
import subprocess
import sys
from datetime import date

import pytest
import workbook

from seglib import exercises
from seglib.cli.main import main
from seglib.exercises import progress
from seglib.exercises.kit import Lesson, NotYet

TODAY = date.today().isoformat()


def is_three(answer):
    if answer != 3:
        raise NotYet("not three")


def kernel():
    """A lesson as a fresh kernel has it."""
    lesson = Lesson("07", outcomes=("add",))
    for name in ("total", "double"):
        lesson.ask((name, name.title(), "predict", 0), is_three, 3, variable=name)
    return lesson


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A workbook as `make lab` makes it, and the kernel's folder."""
    (tmp_path / "notebooks").mkdir()
    workbook.fill(tmp_path / "notebooks", tmp_path / "workbook")
    (tmp_path / "workbook" / "extra").mkdir()
    monkeypatch.chdir(tmp_path / "workbook")
    monkeypatch.setattr(progress, "_told", set())
    return tmp_path / "workbook"


def stored(book):
    return json.loads((book / progress.FILE).read_text())


def summary(capsys):
    capsys.readouterr()
    kernel().summary()
    return capsys.readouterr().out.splitlines()


def test_what_was_solved_is_correct_in_the_next_kernel(book, capsys, monkeypatch):
    assert workbook.PROGRESS == progress.FILE and stored(book) == {}
    assert summary(capsys)[0] == "Total   not attempted yet"
    lesson = kernel()
    lesson.exercises["total"].check(3)
    lesson.exercises["double"].check(4)
    assert stored(book)["07"]["total"] == {"state": "correct", "correct": TODAY}
    assert stored(book)["07"]["double"] == {"state": "not yet"}
    assert summary(capsys) == [
        "Total   correct (earlier)",
        "Double  not yet (earlier)",
        "1 of 2 correct",
    ]
    lesson.exercises["total"].check(...)  # the placeholder, run again
    assert stored(book)["07"]["total"]["state"] == "correct"
    monkeypatch.chdir(book / "extra")  # one folder below
    assert summary(capsys)[2] == "1 of 2 correct"


def test_a_wrong_try_afterwards_is_shown_and_keeps_the_date(book, capsys):
    path = book / progress.FILE
    path.write_text('{"07": {"total": {"state": "correct", "correct": "2026-01-02"}, "gone": {}}}')
    lesson = kernel()
    lesson.exercises["total"].check(4)
    assert stored(book)["07"]["total"] == {"state": "not yet", "correct": "2026-01-02"}
    capsys.readouterr()
    lesson.summary()
    assert capsys.readouterr().out.startswith("Total   not yet (correct on 2026-01-02)\n")
    assert summary(capsys) == [
        "Total   not yet (correct on 2026-01-02)",
        "Double  not attempted yet",
        "1 of 2 correct",
    ]
    lesson.exercises["total"].check(3)
    assert stored(book)["07"]["total"] == {"state": "correct", "correct": "2026-01-02"}
    assert "gone" in stored(book)["07"]


@pytest.mark.parametrize("place", ["notebooks", "elsewhere", "workbook/extra/deeper"])
def test_nothing_is_written_where_make_lab_made_no_file(book, monkeypatch, place):
    (book.parent / place).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(book.parent / place)
    before = {p: p.read_bytes() for p in book.parent.rglob("*") if p.is_file()}
    kernel().exercises["total"].check(3)
    assert {p: p.read_bytes() for p in book.parent.rglob("*") if p.is_file()} == before


BROKEN = [
    b"",
    b"{",
    b"[]",
    b'{"07": []}',
    b'{"07": {"total": "correct"}}',
    b"\xff\xfe",
    b"[" * 10**5,
]
BROKEN += [b'{"07": {"total": {"correct": 3}}}', b"null"]


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:30]))
def test_a_damaged_file_is_set_aside(book, capsys, content):
    (book / progress.FILE).write_bytes(content)
    assert summary(capsys)[2] == "0 of 2 correct"
    lesson = kernel()
    lesson.exercises["total"].check(3)
    first, note = capsys.readouterr().out.splitlines()
    assert first == "correct" and f"kept as progress_damaged_{TODAY}.json" in note
    assert (book / f"progress_damaged_{TODAY}.json").read_bytes() == content
    assert stored(book)["07"]["total"]["state"] == "correct"
    (book / progress.FILE).write_bytes(content)
    lesson.exercises["double"].check(3)
    assert (book / f"progress_damaged_{TODAY}_2.json").read_bytes() == content


def test_what_cannot_be_written_is_said_once(book, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress, "atomic_write", full)
    for _ in range(2):
        kernel().exercises["total"].check(3)
    first, note, second = capsys.readouterr().out.splitlines()
    assert first == second == "correct" and "No space left" in note
    assert stored(book) == {}


def test_a_folder_that_has_gone_is_no_error(book, monkeypatch):
    monkeypatch.setattr(progress.Path, "cwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    assert progress.find() is None and progress.load(None) == {}


WRITER = """
import sys
from seglib.exercises import progress
for n in range(15):
    progress.store(sys.argv[1], f"exercise{n}", "correct")
"""


@pytest.mark.slow
def test_several_kernels_lose_nothing_of_each_other(book):
    command = [sys.executable, "-c", WRITER]
    kernels = [subprocess.Popen([*command, f"0{n}"], cwd=book) for n in (1, 2, 3, 4)]
    assert [each.wait(60) for each in kernels] == [0] * 4
    assert {lesson: len(found) for lesson, found in stored(book).items()} == dict.fromkeys(
        ("01", "02", "03", "04"), 15
    )
    left = {path.name for path in book.glob(".progress*")} - {f"{progress.FILE}.lock"}
    assert left == {progress.FILE}


def test_one_that_holds_the_file_for_long_is_not_waited_for(book, monkeypatch, capsys):
    times = iter([0.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with progress.lock(book / f"{progress.FILE}.lock") as mine:
        assert mine
        kernel().exercises["total"].check(3)
    assert "another notebook holds the file" in capsys.readouterr().out and stored(book) == {}


def test_the_tables_of_the_welcome_page_and_the_command_line(book, capsys, monkeypatch):
    monkeypatch.setattr(exercises, "lessons", lambda: [kernel()])
    assert exercises.overview() == "lesson 7 · 0 of 2 correct"
    kernel().exercises["total"].check(3)
    assert exercises.overview() == f"lesson 7 · 1 of 2 correct, the last on {TODAY}"
    monkeypatch.chdir("/")
    monkeypatch.setattr("seglib.util.paths.checkout", lambda: book.parent)
    capsys.readouterr()
    assert main(["exercises"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"lesson 07 · 1 of 2 correct, the last on {TODAY}"
    assert said[1] == f"  ex.total (predict): Total · correct on {TODAY}"
    assert said[3] == "  ex.double (predict): Double"
