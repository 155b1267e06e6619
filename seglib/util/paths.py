"""Where data sets and weights are found."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
Root = str | os.PathLike[str] | None


def checkout() -> Path | None:
    """The folder of the course's checkout, or None where seglib is installed without one."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def user_cache() -> Path:
    """The user's own cache folder for this course (it need not exist yet)."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "every-pixel"


def data_roots(root: Root = None) -> list[Path]:
    """The folders in which data sets are looked for, in this order.

    An explicit `root` stands alone: a typing error in it must not end in training on another
    copy. Otherwise: $SEGLIB_DATA, the checkout's data/, the installed package's, the user's cache.
    """
    if root is not None:
        return [Path(root).expanduser()]
    named, home = os.environ.get("SEGLIB_DATA"), checkout()
    roots = [Path(named).expanduser()] if named else []
    roots += [home / "data"] if home else []
    return [*roots, PACKAGE / "_data", user_cache()]


def find_dataset(name: str, contains: Callable[[Path], bool], root: Root = None) -> Path | None:
    """The folder of the data set `name` in the first root that contains it, or None.

    `contains(folder)` decides; an explicit `root` may also be the data set's folder itself.
    """
    candidates = [base / name for base in data_roots(root)]
    if root is not None:
        candidates.append(Path(root).expanduser())
    return next((folder for folder in candidates if contains(folder)), None)


def download_root(root: Root = None) -> Path:
    """The first data root that can be written (made if need be), or PermissionError."""
    roots = [folder for folder in data_roots(root) if folder != PACKAGE / "_data"]
    for folder in roots:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    tried = ", ".join(str(folder) for folder in roots)
    raise PermissionError(f"no folder for downloads can be written; tried {tried}; pass root=…")
