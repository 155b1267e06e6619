"""Public data sets from their home on GitHub: fetched once, checked, and put in place in one step.

The archive of one named commit is kept as `.part` while it grows, so that a cut connection costs
only what is missing (pooch and torch.hub begin anew, hence urllib); it is unpacked into a temporary
folder, compared there with a digest of all contents, and renamed: a folder under the data set's own
name is always whole.
"""

import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from seglib.data.sources import SOURCES, Published
from seglib.util import files, paths
from seglib.util.progress import progress as progress_bar
from seglib.util.suggest import did_you_mean


class DownloadError(OSError):
    """A download that failed: its message says where, what was found, and what to do."""


def download(name: str, root: paths.Root = None) -> Path:
    """Fetch the data set `name` into `root` (or the first data root that can be written).

    Returns its folder, also if it is there already. Raises ValueError and DownloadError.
    """
    if name not in SOURCES:
        raise ValueError(f"there is no data set {name!r}{did_you_mean(name, SOURCES)}")
    source = SOURCES[name]
    there = paths.find_dataset(name, lambda folder: not source.shortfalls(folder, True), root)
    if there is not None:
        return there
    base = paths.download_root(root)
    target, work = base / name, base / ".download"
    if target.exists() and any(target.iterdir()):
        found = "; ".join(source.shortfalls(target, True))
        raise DownloadError(
            f"{target} exists, but is not whole: {found}; move it away or delete it, then try again"
        )
    free, needed = files.free_bytes(base), 2 * source.total_bytes  # the archive and its contents
    if free < needed:
        raise DownloadError(
            f"the disk of {base} has {free / 1e6:,.0f} MB free, but {needed / 1e6:,.0f} MB are "
            "needed; make room, or name a folder on another disk: root=… or SEGLIB_DATA"
        )
    work.mkdir(exist_ok=True)
    archive = work / f"{name}-{source.commit[:12]}.zip"
    if not archive.exists():
        _fetch(archive, target, source)
    _unpack(archive, target, source)
    if not any(work.iterdir()):
        work.rmdir()
    print(f"{source.attribution} ({source.licence}) is in {target}")
    return target


def _fetch(archive: Path, target: Path, source: Published) -> None:
    """Bring the archive, going on with a `.part` that is there; errors name the remedy."""
    partial = archive.with_suffix(".zip.part")
    try:
        _transfer(source.url, partial)
    except (http.client.HTTPException, OSError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:
            partial.unlink()  # nothing lies beyond what is here: it belongs to another file
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DownloadError(
            f"{source.url} was not read to its end: {getattr(error, 'code', '')} {reason}; check "
            f"the network and download again, or get the folder by hand from {source.home} and put "
            f"its contents ({', '.join(source.parts)}) into {target}"
        ) from error
    os.replace(partial, archive)


def _transfer(url: str, partial: Path) -> None:
    """Append to `partial` what it lacks, or all if the server gives all."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "seglib", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30.0) as answer:  # seconds without a byte
        size = start = start if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = progress_bar(total=total, initial=start, unit="B", unit_scale=True, desc=partial.name)
        with bar, open(partial, "ab" if start else "wb") as handle:
            while block := answer.read(1 << 18):
                size += handle.write(block)
                bar.update(len(block))
    if total is not None and size != total:  # read() ends a short body without a word
        raise ConnectionError(f"got {size:,} of {total:,} bytes")


def _unpack(archive: Path, target: Path, source: Published) -> None:
    """Unpack beside `target`, verify, rename. The archive goes, whether it was good or bad."""
    temporary = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=archive.parent))
    try:
        _extract(archive, temporary, source)
        source.verify(temporary)
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


def _extract(archive: Path, folder: Path, source: Published) -> None:
    """Write the members that are named in `source.parts`; no name can lead elsewhere."""
    places = {PurePosixPath(source.folder, part): folder / part for part in source.parts}
    with zipfile.ZipFile(archive) as opened:
        wanted = []
        for info in opened.infolist():
            path = PurePosixPath(*PurePosixPath(info.filename).parts[1:])  # without name-commit/
            if path.parent in places and path.suffix == ".png":
                wanted.append((info, places[path.parent] / path.name))
        total = sum(info.file_size for info, _ in wanted)
        if total != source.total_bytes:
            raise ValueError(f"it has {total:,} bytes of data, but {source.total_bytes:,} expected")
        for info, target in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(info) as member, open(target, "wb") as handle:
                shutil.copyfileobj(member, handle)
