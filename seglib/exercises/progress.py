"""What the reader has solved, kept in the workbook: it outlives the kernel.

`make lab` puts an empty file FILE into workbook/. Checks write where they find it, in the
notebook's folder or the one above, and nowhere else: not in notebooks/, not in a test.
"""

import json
import shutil
import time
from datetime import date
from pathlib import Path

from seglib.util.files import atomic_write, lock

FILE = ".progress.json"  # lesson -> exercise -> {"state": the last verdict, "correct": a date}
CORRECT = "correct"
Progress = dict[str, dict[str, dict[str, str]]]
_told: set[str] = set()  # what went wrong is said once in a kernel


def find() -> Path | None:
    """The reader's file, as seen from the working directory of a notebook's kernel."""
    try:
        here = Path.cwd()
        return next((path for path in (here / FILE, here.parent / FILE) if path.is_file()), None)
    except OSError:  # the folder has gone, or is another's
        return None


def load(path: Path | None) -> Progress:
    """What is stored; nothing if there is no such file, or if it cannot be read."""
    try:
        return _read(path) if path else {}
    except (OSError, ValueError):
        return {}


def store(lesson: str, exercise: str, state: str) -> None:
    """Note the last verdict, and the day of the first correct answer. Never raises."""
    path = find()
    if path is None:
        return
    try:
        if not _update(path, lesson, exercise, state):
            _say("another notebook holds the file; this answer was not noted")
    except (OSError, ValueError) as error:
        _say(f"{path.name} in {path.parent.name}/ cannot be written ({error})")


def _update(path: Path, lesson: str, exercise: str, state: str, patience: float = 3) -> bool:
    """False if other kernels keep the file for `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        with lock(path.with_name(f"{FILE}.lock")) as mine:
            if mine:
                try:
                    progress = _read(path)
                except ValueError:
                    progress = {}
                    _set_aside(path)
                entry = progress.setdefault(lesson, {}).setdefault(exercise, {})
                entry["state"] = state
                if state == CORRECT:
                    entry.setdefault("correct", date.today().isoformat())
                text = json.dumps(progress, indent=1, sort_keys=True) + "\n"
                with atomic_write(path) as part:
                    part.write_text(text, encoding="utf-8")
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.02)


def _read(path: Path) -> Progress:
    """ValueError unless the file is as `_update` writes it."""
    try:
        progress = json.loads(path.read_text(encoding="utf-8"))
        entries = [entry for lesson in progress.values() for entry in lesson.values()]
        if all(isinstance(text, str) for entry in entries for text in entry.values()):
            return dict(progress)
    except (AttributeError, RecursionError):
        pass
    raise ValueError("not as it was written")


def _set_aside(path: Path) -> None:
    kept, n = path.with_name(f"progress_damaged_{date.today()}.json"), 1
    while kept.exists():
        n += 1
        kept = kept.with_stem(f"progress_damaged_{date.today()}_{n}")
    shutil.copyfile(path, kept)
    _say(f"{path.name} was damaged and starts anew; the old one is kept as {kept.name}")


def _say(what: str) -> None:
    if what not in _told:
        print(f"(your progress: {what})")
        _told.add(what)
