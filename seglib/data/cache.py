"""Decoded images kept in memory, once for all workers of a loader.

The first epoch reads and decodes as ever, and leaves each pair in a block of shared memory; later
ones copy it from there. The block's size comes from the files' headers.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglib.util.machine import free_memory

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SHARE = 0.25  # of the free memory: what "auto" may take


class Cache:
    """Room for the pairs of `files`, as many from the first on as fit into `limit` bytes.

    It is in shared memory, so that all workers fill and read the same; a pair that two of them
    decode at once is written twice, equally.
    """

    def __init__(self, files: Sequence[tuple[Path, Path]], limit: float) -> None:
        import torch

        sizes = np.array([_decoded_bytes(image) for image, _ in files], dtype=np.int64)
        ends = np.cumsum(sizes)
        self.kept = int(np.searchsorted(ends, limit, side="right"))
        self.starts = (ends - sizes)[: self.kept]
        self.bytes = int(ends[self.kept - 1]) if self.kept else 0
        check_shared_memory(self.bytes)
        self.pixels = torch.empty(max(1, self.bytes), dtype=torch.uint8).share_memory_()
        self.shapes = torch.zeros(max(1, self.kept), 3, dtype=torch.int32).share_memory_()

    def pair(self, index: int, read: Callable[[int], Pair]) -> Pair:
        """Pair `index`, by `read(index)` the first time; a copy that may be written to."""
        if index >= self.kept:
            return read(index)
        start, shapes = int(self.starts[index]), self.shapes.numpy()
        pixels = self.pixels.numpy()
        if shapes[index, 2]:  # (written last, so read first)
            height, width = int(shapes[index, 0]), int(shapes[index, 1])
            size = height * width
            image = pixels[start : start + 3 * size].reshape(height, width, 3)
            mask = pixels[start + 3 * size : start + 4 * size].reshape(height, width)
            return image.copy(), mask.copy()
        image, mask = read(index)
        height, width = mask.shape
        size = height * width
        room = (int(self.starts[index + 1]) if index + 1 < self.kept else self.bytes) - start
        if 4 * size == room:  # (else the file has been replaced since)
            pixels[start : start + 3 * size] = image.reshape(-1)
            pixels[start + 3 * size : start + 4 * size] = mask.reshape(-1)
            shapes[index, :2] = height, width
            shapes[index, 2] = 1
        return image, mask


def make_cache(
    files: Sequence[tuple[Path, Path]], cache: bool | int | float | str | None
) -> Cache | None:
    """The cache that the argument `cache` of a data set asks for.

    False, None or "no": none. True or "yes": all pairs. "auto": all if they fit into a quarter of
    the free memory, else none. A size in bytes, or as "2GB": as many as fit, in each process.
    """
    if cache is None or cache is False or cache in ("no", "false", "False"):
        return None
    if cache is True or cache in ("yes", "true", "True"):
        return Cache(files, math.inf)
    if cache == "auto":
        free = free_memory()
        # Each process that torchrun has started on this machine keeps its own
        needed = sum(_decoded_bytes(image) for image, _ in files)
        needed *= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        fits = free is not None and needed <= SHARE * free and needed <= (_shared_memory() or 0)
        return Cache(files, math.inf) if fits else None
    return Cache(files, read_size(cache))


def read_size(text: Any) -> float:
    """A number of bytes: 2000000, "500MB", "1.5 GB".

    >>> read_size("1.5 GB"), read_size(4096)
    (1500000000.0, 4096.0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", str(text), re.IGNORECASE)
    if match is None:
        raise ValueError(f"found cache = {text!r}, expected no, yes, auto or a size such as 2GB")
    return float(match[1]) * UNITS[match[2].upper()]


def check_shared_memory(needed: int) -> None:
    """Raise MemoryError if there is less shared memory: writing there would end the process."""
    room = _shared_memory()
    if room is not None and needed > room:
        raise MemoryError(
            f"the decoded images take {needed / 1e6:.0f} MB, but {room / 1e6:.0f} MB of shared "
            "memory are free; name a smaller size (cache='500MB'), leave the cache out, or give "
            "a container more (docker run --shm-size)"
        )


def _shared_memory() -> int | None:
    """Bytes that are free in shared memory, where that has a bound of its own (Linux)."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return free_memory()
    return shutil.disk_usage(folder).free


def _decoded_bytes(path: Path) -> int:
    """Three bytes a pixel for the image, one for the mask; only the file's header is read."""
    try:
        with Image.open(path) as picture:
            return 4 * picture.width * picture.height
    except Exception:  # reading it will tell what is wrong
        return 0
