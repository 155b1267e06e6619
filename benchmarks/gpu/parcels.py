"""CamVid in parcels that a slow or narrow way can carry, and back again.

    python benchmarks/gpu/parcels.py pack FOLDER [--root ROOT] [--limit 44 47]   # at home
    python benchmarks/gpu/parcels.py unpack FOLDER ROOT                       # where it is used

A parcel is a zip file of at most `limit` MB: images as lossless WebP (two thirds of their PNG),
masks as they are, and a list with the sha256 of every image's *pixels* and of every mask's bytes.
Unpacking compares each of them, writes PNG files again, and leaves out what is there already;
parcels may arrive one by one, train before val before test.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from seglib.util.files import atomic_write

LIST = "digests.json"


def pixels_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def digest(data: bytes | np.ndarray) -> str:
    return hashlib.sha256(
        np.ascontiguousarray(data) if not isinstance(data, bytes) else data
    ).hexdigest()


def packed(path: Path) -> tuple[str, bytes, str]:
    """The file's name in the parcel, its content there, and the digest that it must have again."""
    name = f"{path.parent.name}/{path.name}"
    if path.parent.name.endswith("annot"):
        content = path.read_bytes()
        return name, content, digest(content)
    with Image.open(path) as image:
        pixels = pixels_of(image)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, quality=100, method=4)
    return name, stream.getvalue(), digest(pixels)


def pack(camvid: Path, folder: Path, limits: Sequence[float]) -> list[Path]:
    """Write the parcels of the CamVid in `camvid` to `folder`; their paths."""
    files = [
        path
        for split in ("train", "val", "test")
        for path in sorted((camvid / split).glob("*.png"))
    ]
    if not files:
        raise FileNotFoundError(f"{camvid} has no train/, val/ and test/ with PNG files")
    both = [
        p
        for image in files
        for p in (image, image.parent.with_name(f"{image.parent.name}annot") / image.name)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        return list(
            parcels(pool.map(packed, both, chunksize=8), folder, [limit * 1e6 for limit in limits])
        )


def parcels(
    contents: Iterator[tuple[str, bytes, str]], folder: Path, limits: Sequence[float]
) -> Iterator[Path]:
    """Fill zip files of at most so many bytes, the last limit for all further ones."""
    pairs = zip(contents, contents, strict=True)
    waiting = next(pairs, None)
    number = 0
    while waiting is not None:
        number += 1
        path = folder / f"camvid_{number}.zip"
        size, digests = 0, {}
        limit = limits[min(number, len(limits)) - 1]
        with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as parcel:
            while waiting is not None:
                more = sum(len(content) + 2 * len(name) + 400 for name, content, _ in waiting)
                if digests and size + more > limit:  # (a pair stays together)
                    break
                for name, content, expected in waiting:
                    parcel.writestr(name, content)
                    digests[name] = expected
                size, waiting = size + more, next(pairs, None)
            parcel.writestr(LIST, json.dumps(digests))
        yield path


def write_back(item: tuple[str, bytes, str], camvid: Path) -> None:
    """Write a PNG; ValueError if its pixels, or a mask's bytes, are not those that were packed."""
    name, content, expected = item
    if name.partition("/")[0].endswith("annot"):
        found = digest(content)
    else:
        with Image.open(io.BytesIO(content)) as image:
            pixels = pixels_of(image)
        found, stream = digest(pixels), io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
        content = stream.getvalue()
    if found != expected:
        raise ValueError(
            f"{name} has arrived damaged (sha256 {found[:12]}…, expected {expected[:12]}…)"
        )
    with atomic_write(camvid / name) as temporary:
        temporary.write_bytes(content)


def unpack(folder: Path, camvid: Path) -> int:
    """Write what the parcels in `folder` hold to `camvid`; how many files there were to write."""
    wanted = []
    for path in sorted(folder.glob("camvid_*.zip")):
        with zipfile.ZipFile(path) as parcel:
            digests = json.loads(parcel.read(LIST))
            missing = [name for name in digests if not (camvid / name).exists()]
            wanted += [(name, parcel.read(name), digests[name]) for name in missing]
    for name in {name.partition("/")[0] for name, _, _ in wanted}:
        (camvid / name).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(write_back, camvid=camvid), wanted, chunksize=8))
    return len(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument("--root")
    packing.add_argument("--limit", type=float, nargs="+", default=[44.0], help="MB of each")
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("folder", type=Path)
    unpacking.add_argument("root", type=Path)
    options = parser.parse_args()
    if options.command == "unpack":
        print(f"{unpack(options.folder, options.root / 'camvid')} files written")
        return
    from seglib.data import CamVid

    camvid = CamVid("train", options.root).root
    for path in pack(camvid, options.folder, options.limit):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
