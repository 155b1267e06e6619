"""Writing a file that a kill cannot harm, and the room there is for it."""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HELD: dict[Path, object] = {}  # locks of this process: the system's are between processes


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path; rename it to `path` on success, so that readers see all or nothing."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())  # the content reaches the disk before the name does
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Keep all others from a block; gives False if another thread or process is in its own.

    The system opens the lock when a process ends, however it ends.
    """
    path, mine = path.resolve(), object()
    if _HELD.setdefault(path, mine) is not mine:
        yield False
        return
    try:
        with open(path, "ab") as handle:
            taken = _take(handle)
            try:
                yield taken
            finally:
                if taken and sys.platform != "win32":
                    path.unlink(missing_ok=True)  # (while it is held: else another's might go)
    finally:
        del _HELD[path]


def _take(handle: Any) -> bool:
    """Lock a file for this process; False if another has it, or removes it at this moment."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        import fcntl

        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # (a flock would pass on to workers)
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(handle.name))
    except (BlockingIOError, PermissionError, FileNotFoundError):
        return False
    except OSError:  # a network's file system without locks
        return True


def free_bytes(folder: Path) -> int:
    """Free space, in bytes, on the disk that holds `folder` (which need not exist yet)."""
    folder = folder.expanduser().resolve()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
