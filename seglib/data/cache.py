"""Decoded images kept in memory, once for all workers of a loader.

The first epoch leaves each pair that it decodes in a block of shared memory (whose size comes from
the files' headers); later ones copy it from there.
"""

import math
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglib.data.pictures import expanded
from seglib.util.machine import free_memory

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Cache:
    """Room for pairs of `sizes` bytes, as many from the first on as fit into `limit` bytes.

    All workers fill and read the same. Raises MemoryError if there is less shared memory.
    """

    def __init__(self, sizes: Sequence[int], limit: float) -> None:
        import torch

        ends = np.cumsum(np.array(sizes, np.int64))
        self.kept = int(np.searchsorted(ends, limit, side="right"))
        self.starts = np.array([0, *ends[: self.kept]])
        needed, room = int(self.starts[-1]), _shared_memory()
        if room is not None and needed > room:  # writing there would end the process
            raise MemoryError(
                f"the decoded images take {needed / 1e6:.0f} MB, but {room / 1e6:.0f} MB of shared "
                "memory are free; ask for less (cache='500MB') or give more (docker --shm-size)"
            )
        self.pixels = torch.empty(max(1, needed), dtype=torch.uint8).share_memory_()
        # Height and width of each pair that is there, else 0
        self.shapes = torch.zeros(max(1, self.kept), 2, dtype=torch.int32).share_memory_()

    def pair(self, index: int, read: Callable[[int], Pair]) -> Pair:
        """Pair `index`, by `read(index)` the first time; a copy that may be written to."""
        if index >= self.kept:
            return read(index)
        shape = self.shapes.numpy()[index]
        room = self.pixels.numpy()[self.starts[index] : self.starts[index + 1]]
        height, width = shape.tolist()
        if width:
            image, mask = np.split(room, [3 * height * width])
            return image.reshape(height, width, 3).copy(), mask.reshape(height, width).copy()
        image, mask = read(index)
        if image.size + mask.size == room.size:  # (else the file has been replaced since)
            room[: image.size], room[image.size :] = image.ravel(), mask.ravel()
            shape[0], shape[1] = mask.shape  # the width last: it tells that all is there
        return image, mask


def make_cache(files: Sequence[tuple[Path, Path]], cache: float | str | None) -> Cache | None:
    """The cache that the argument `cache` of a data set asks for.

    None: none. "all" (or True): all pairs. "auto": all if they fit into a quarter of the free
    memory, else none. A size in bytes, or as "500MB" or "1.5 GB": as many as fit, in each process.
    """
    if not cache:
        return None
    sizes = [_decoded_bytes(image) for image, _ in files]
    if cache == "auto":
        # Each process that torchrun has started on this machine keeps its own
        needed = sum(sizes) * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        fits = needed <= min(0.25 * (free_memory() or 0), _shared_memory() or 0)
        return Cache(sizes, math.inf) if fits else None
    if cache is True or cache == "all":
        return Cache(sizes, math.inf)
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", str(cache).strip(), re.IGNORECASE)
    if size is None:
        raise ValueError(f"found cache = {cache!r}, expected all, auto or a size such as 2GB")
    return Cache(sizes, float(size[1]) * UNITS[size[2].upper()])


def _shared_memory() -> int | None:
    """Bytes that are free in shared memory, where that has a bound of its own (Linux)."""
    folder = Path("/dev/shm")
    return shutil.disk_usage(folder).free if folder.is_dir() else free_memory()


def _decoded_bytes(path: Path) -> int:
    """Three bytes a pixel for the image, one for the mask; only the file's header is read."""
    try:
        with Image.open(expanded(path)) as picture:
            return 4 * picture.width * picture.height
    except Exception:  # reading it will tell what is wrong
        return 0
