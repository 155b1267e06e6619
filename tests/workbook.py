"""The reader's own copies of the lessons, in workbook/: made where missing, never overwritten.

A copy has no outputs, so no stored answer spoils a prediction. It remembers which version of its
lesson it was made from, so `make lab` can offer a newer one. Only the standard library is needed.
"""

import errno
import hashlib
import itertools
import json
import os
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from bootstrap import Trouble

MAKE = "python bootstrap.py" if os.name == "nt" else "make"
CONFIG = ".jupyter"  # in workbook/: JupyterLab reads it beside the reader's settings
PROGRESS = ".progress.json"  # seglib.exercises.progress writes where it finds it, nowhere else
NO_NEWS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}


def originals(notebooks: Path) -> list[Path]:
    """The lessons, then the deep dives in extra/."""
    return [*sorted(notebooks.glob("[0-9][0-9]_*.ipynb")), *sorted(notebooks.glob("extra/*.ipynb"))]


def handle(original: Path) -> str:
    """What LESSON= calls a notebook: 03, or extra/03_borders for a deep dive."""
    extra = original.parent.name == "extra"
    return f"extra/{original.stem}" if extra else original.name[:2]


def fill(notebooks: Path, folder: Path) -> None:
    """Make missing copies, bring pictures and settings up to date, offer new versions."""
    made = []
    for original in originals(notebooks):
        lesson, copy = fresh(original), folder / original.relative_to(notebooks)
        if not os.path.lexists(copy):
            write(copy, as_bytes(lesson))
            made.append(copy.stem)
            continue
        said = ""
        try:
            was = json.loads(copy.read_bytes())["metadata"].get("every_pixel")
            if was not in (None, lesson["metadata"]["every_pixel"]):  # (None: cannot tell)
                said = f"has a new version; yours in {folder.name}/ is unchanged"
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            said = f"in {folder.name}/ is not a readable notebook and is left as it is"
        if said:
            command = f"`{MAKE} reset LESSON={handle(original)}`"
            print(f"{copy.stem} {said}. {command} fetches it and keeps yours", flush=True)
    if made:
        print(f"new in {folder.name}/: {', '.join(made)}", flush=True)
    for picture in notebooks.glob("pictures/*"):
        if picture.is_file() and picture.suffix != ".py":
            update(folder / picture.relative_to(notebooks), picture.read_bytes())
    if not os.path.lexists(folder / PROGRESS):
        write(folder / PROGRESS, as_bytes({}))
    update(folder / CONFIG / "labconfig" / "default_setting_overrides.json", as_bytes(NO_NEWS))


def reset(original: Path, notebooks: Path, folder: Path) -> None:
    """Put a fresh copy in the place of the reader's, which stays beside it with the date."""
    copy = folder / original.relative_to(notebooks)
    kept = write(copy, as_bytes(fresh(original)), keep=True)
    print(f"{copy.stem} in {folder.name}/ is fresh", end="\n" if kept is None else "; ")
    if kept is not None:
        print(f"yours is kept beside it as {kept.name}. If it is open in JupyterLab, choose File,")
        print("then Reload Notebook from Disk")


def fresh(original: Path) -> Any:
    """A lesson without outputs, with a note of its version: a digest of what its cells say."""
    try:
        notebook = json.loads(original.read_bytes())
        said = [[cell["cell_type"], "".join(cell["source"])] for cell in notebook["cells"]]
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [], None
        version = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
        notebook["metadata"]["every_pixel"] = {"version": version}
    except (ValueError, LookupError, TypeError) as error:
        remedy = f"restore it: git checkout -- {original}"
        raise Trouble(f"{original} is not a readable notebook ({error}); {remedy}") from None
    return notebook


def as_bytes(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def update(path: Path, content: bytes) -> None:
    """Write what is not the reader's, unless it is there already."""
    if not path.is_file() or path.read_bytes() != content:
        write(path, content)


def write(path: Path, content: bytes, keep: bool = False) -> Path | None:
    """Write a file in one step: after a kill the old file or the new one is there, never a part.

    With `keep` an old file is renamed first; returns its new name.
    """
    part, kept = path.with_name(f".{path.name}.{os.getpid()}.part"), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # on the disk before the rename is
        if keep and os.path.lexists(path):
            kept = dated(path)
            os.rename(path, kept)
        os.replace(part, path)
    except OSError as error:
        raise Trouble(explained(path, error)) from None
    finally:
        with suppress(OSError):  # (already renamed, if all went well)
            part.unlink()
    return kept


def dated(path: Path) -> Path:
    """A free name beside a copy: 03_losses_2026-11-26.ipynb, then …_2.ipynb and so on."""
    ends = itertools.chain([""], (f"_{n}" for n in itertools.count(2)))
    found = (path.with_name(f"{path.stem}_{date.today()}{end}{path.suffix}") for end in ends)
    return next(free for free in found if not os.path.lexists(free))


def explained(path: Path, error: OSError) -> str:
    """What kept a file from being written, and how to fix it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        lost = "was not written, but nothing of yours is lost"
        return f"the disk is full: {path} {lost}; free a few MB, then run this again"
    for parent in reversed(path.parents):
        if os.path.lexists(parent) and not parent.is_dir():
            return f"{parent} is not a folder; rename it or move it away, then run this again"
    folder = next(parent for parent in path.parents if parent.is_dir())
    remedy = f"allow writing in {folder}, or copy the course to a folder of your own"
    return f"{path} cannot be written ({error.strerror}); {remedy}, then run this again"
