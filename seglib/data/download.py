"""Public data sets from their home on GitHub: fetched once, checked, and put in place in one step.

The archive of one named commit is kept as `.part` while it grows, so that a cut connection costs
only what is missing; it is unpacked into a temporary folder, compared there with a digest of all
contents, and renamed. A folder under the data set's own name is therefore always whole.
"""

# Neither pooch nor torch.hub resumes a download, hence urllib from the standard library.

from __future__ import annotations

import http.client
import os
import re
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from seglib.data.sources import SOURCES, Source, manifest_digest, shortfalls, verify
from seglib.util import paths
from seglib.util.progress import progress as progress_bar
from seglib.util.suggest import did_you_mean

__all__ = ["SOURCES", "DownloadError", "Source", "download", "manifest_digest", "verify"]

_CHUNK = 1 << 18  # bytes read at a time
_TIMEOUT = 30.0  # seconds without a byte


class DownloadError(OSError):
    """A download that failed: its message says where, what was found, and what to do."""


def download(name: str, root: str | os.PathLike[str] | None = None, url: str | None = None) -> Path:
    """Fetch the data set `name` unless it is there already; returns its folder.

    It goes to `root`/name, or to the first data root that can be written. `url` names another
    copy of the archive (zip). Raises ValueError for an unknown name, and DownloadError.
    """
    if name not in SOURCES:
        raise ValueError(f"there is no data set {name!r}{did_you_mean(name, SOURCES)}")
    source = SOURCES[name]
    there = paths.find_dataset(name, lambda folder: not shortfalls(folder, source, True), root)
    if there is not None:
        return there
    base = paths.download_root(root)
    target, work = base / name, base / ".download"
    if target.exists() and any(target.iterdir()):
        raise DownloadError(
            f"{target} exists, but is not the whole data set: "
            f"{'; '.join(shortfalls(target, source, True))}; move it away or delete it, then "
            "download again"
        )
    archive = work / f"{name}-{source.commit[:12]}.zip"
    if not archive.exists():
        _need_space(base, 2 * source.total_bytes)  # the archive, then its contents
        work.mkdir(exist_ok=True)
        _fetch(url or source.url, archive, source, target)
    _need_space(base, source.total_bytes)
    _unpack(archive, target, source)
    if not any(work.iterdir()):
        work.rmdir()
    print(f"{source.attribution} ({source.licence}) is in {target}")
    return target


def _need_space(folder: Path, needed: int) -> None:
    free = paths.free_bytes(folder)
    if free < needed:
        raise DownloadError(
            f"the disk of {folder} has {free / 1e6:,.0f} MB free, but {needed / 1e6:,.0f} MB are "
            "needed; make room, or pass root=… (or set SEGLIB_DATA) to use another disk"
        )


def _fetch(url: str, archive: Path, source: Source, target: Path) -> None:
    """Bring `url` to `archive`, going on with a `.part` that is there; errors name the remedy."""
    if not url.lower().startswith(("https://", "http://")):
        raise ValueError(f"url is {url!r}, but must begin with https:// or http://")
    by_hand = (
        f"or get the folder by hand from {source.home} and put its contents "
        f"({', '.join(source.parts)}) into {target}"
    )
    partial = archive.with_suffix(".zip.part")
    try:
        _transfer(url, partial)
    except urllib.error.HTTPError as error:
        raise DownloadError(
            f"{url} answered {error.code} {error.reason}; try again later, {by_hand}"
        ) from error
    except DownloadError:
        raise
    except (http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        resumes = partial.exists() and _tag_file(partial).exists()
        kept = f"{partial.stat().st_size:,} bytes are kept, " if resumes else ""
        raise DownloadError(
            f"{url} could not be read to its end: {reason}; {kept}check the network and download "
            f"again{' to go on' if resumes else ''}, {by_hand}"
        ) from error
    os.replace(partial, archive)
    _tag_file(partial).unlink(missing_ok=True)


def _transfer(url: str, partial: Path) -> None:
    """Append what is missing to `partial`, or start over if the server's file is another one."""
    tag_file = _tag_file(partial)
    start = partial.stat().st_size if partial.exists() else 0
    known = tag_file.read_text() if tag_file.exists() else ""
    if not (start and known.startswith(f"{url}\n")):
        start = 0
    tag = known.removeprefix(f"{url}\n")
    answer = _open(url, start, tag)
    if start and not _continues(answer, start, tag):
        start = 0
        if answer.status != 200:  # some part, but not the one that is missing
            answer.close()
            answer = _open(url, 0, "")
    with answer:
        if not start:
            partial.unlink(missing_ok=True)  # never an old beginning with a new tag
            tag_file.unlink(missing_ok=True)
            if new_tag := answer.headers.get("ETag"):  # no tag, no proof that a rest belongs to it
                tag_file.write_text(f"{url}\n{new_tag}")
        _copy(answer, partial, start)


def _open(url: str, start: int, tag: str) -> http.client.HTTPResponse:
    """Ask for `url` from byte `start`, if the file still has this tag."""
    headers = {"User-Agent": "seglib", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if not tag.startswith("W/"):  # If-Range takes strong tags only; weak ones are compared
            headers["If-Range"] = tag
    request = urllib.request.Request(url, headers=headers)
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if start and error.code == 416:  # nothing lies beyond what we have: not the same file
            return _open(url, 0, "")
        raise
    return answer


def _continues(answer: http.client.HTTPResponse, start: int, tag: str) -> bool:
    """Whether the answer is the rest, from byte `start`, of the file with this tag."""
    span = re.match(rf"bytes {start}-\d+/", answer.headers.get("Content-Range", ""))
    return answer.status == 206 and span is not None and answer.headers.get("ETag") == tag


def _copy(answer: http.client.HTTPResponse, partial: Path, start: int) -> None:
    """Write the answer behind byte `start`; a body shorter than announced is an error."""
    length = answer.headers.get("Content-Length")
    expected = start + int(length) if length else None
    if expected:
        _need_space(partial.parent, expected - start)
    size = start
    bar = progress_bar(total=expected, initial=start, unit="B", unit_scale=True, desc=partial.name)
    with bar, open(partial, "ab") as handle:
        while block := answer.read(_CHUNK):
            size += handle.write(block)
            bar.update(len(block))
    if expected is not None and size != expected:  # read() ends a short body without a word
        raise ConnectionError(f"got {size:,} of {expected:,} bytes")


def _tag_file(partial: Path) -> Path:
    return partial.with_suffix(".etag")


def _unpack(archive: Path, target: Path, source: Source) -> None:
    """Unpack beside `target`, verify, rename. The archive goes, whether it was good or bad."""
    temporary = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=archive.parent))
    try:
        with zipfile.ZipFile(archive) as opened:
            for info, relative in _wanted(opened, source):
                _write_member(opened, info, temporary / relative)
        verify(temporary, source)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError) as error:
        archive.unlink(missing_ok=True)
        raise DownloadError(
            f"the archive of {source.title} is not usable: {error}; it was deleted, download "
            "again; if this repeats, the server gives something else than the published files"
        ) from error
    else:
        if hasattr(os, "sync"):
            os.sync()  # contents before the name: a power cut must not leave empty files
        if target.exists():
            target.rmdir()  # empty, as `download` has seen; Windows cannot replace a folder
        temporary.chmod(0o755)  # mkdtemp's folders are private
        os.replace(temporary, target)
        archive.unlink()
        for left in archive.parent.glob(f"{target.name}-*/"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _wanted(opened: zipfile.ZipFile, source: Source) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The members to unpack and where to; ValueError if any member is not to be trusted."""
    wanted: dict[str, tuple[zipfile.ZipInfo, PurePosixPath]] = {}
    for info in opened.infolist():
        name = info.orig_filename  # as stored: `filename` has been tidied
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or re.search(r"[\\\0]|^[A-Za-z]:", name):
            raise ValueError(f"member {name!r} would leave the folder")
        inside = PurePosixPath(*path.parts[1:])  # GitHub puts all under one folder name-commit/
        if not inside.is_relative_to(source.folder):
            continue
        relative = inside.relative_to(source.folder)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"member {name!r} is a symbolic link; expected plain files")
        if relative.parent.as_posix() in source.parts and relative.suffix == ".png":
            if str(relative).lower() in wanted:
                raise ValueError(f"member {name!r} is there twice")
            wanted[str(relative).lower()] = (info, relative)
    total = sum(info.file_size for info, _ in wanted.values())
    if total != source.total_bytes:
        raise ValueError(f"it holds {total:,} bytes of data, but {source.total_bytes:,} expected")
    return list(wanted.values())


def _write_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(info) as member, open(path, "wb") as handle:
        shutil.copyfileobj(member, handle)
