"""Where data sets and weights are found, and how to write a file that a kill cannot harm."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path; rename it to `path` on success, so that readers see all or nothing."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())  # the content reaches the disk before the name does
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def free_bytes(folder: Path) -> int:
    """Free space, in bytes, on the disk that holds `folder` (which need not exist yet)."""
    folder = folder.expanduser().resolve()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
