"""A mask laid over its photo, with the class's name written on its region."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from seglib.plotting.arrays import as_mask, as_pair, as_palette, colorize

_WORKING_SIDE = 640  # names are placed on a mask reduced to this many pixels
_ALSO_NAMED = 0.04  # a class's further regions are named from this share of the image on
_NAMES_PER_CLASS = 3
_LEAST_AREA = 0.25  # of a region, in boxes of its name
_LEAST_OVERLAP = 0.06  # of a name with its region, where it cannot lie inside


@dataclass(frozen=True)
class Label:
    """A class name and its place: pixels x0 ≤ x < x1 and y0 ≤ y < y1 of the mask."""

    text: str
    index: int
    box: tuple[int, int, int, int]  # x0, y0, x1, y1
    font_size: int  # pixels


@dataclass(frozen=True)
class _Region:
    index: int
    area: int
    pixels: NDArray[np.uint8]  # (h, w) of 0 and 1
    depth: NDArray[np.float32]  # distance to the region's border or the image's edge


def overlay(
    image: Any,
    mask: ArrayLike,
    palette: ArrayLike,
    alpha: float = 0.5,
    classes: Sequence[str] | None = None,
    *,
    ignore_index: int = 255,
    borders: bool = True,
) -> NDArray[np.uint8]:
    """Lay a mask (H, W) over its photo: uint8 (H, W, 3).

    The photo keeps the share `1 - alpha`. A region's rim carries its full colour, which keeps
    poles visible (`borders=False` leaves it out). With `classes`, names are written on regions
    (`place_labels`). Raises ValueError where sizes or labels do not fit.
    """
    colours = as_palette(palette, classes)
    photo, labels = as_pair(image, mask, len(colours), ignore_index)
    if not 0 <= alpha <= 1:
        raise ValueError(f"found alpha = {alpha}, expected 0 (photo only) to 1 (mask only)")
    painted = colorize(labels, colours, ignore_index)
    blended = np.asarray(cv2.addWeighted(painted, alpha, photo, 1 - alpha, 0), dtype=np.uint8)
    if borders:
        rim = _rim(labels)
        blended[rim] = painted[rim]
    if classes is None:
        return blended
    return _write(blended, place_labels(labels, classes, ignore_index=ignore_index), colours)


def place_labels(
    mask: ArrayLike,
    classes: Sequence[str],
    *,
    ignore_index: int = 255,
    font_size: float | None = None,
) -> list[Label]:
    """Find a place for each class's name on a mask (H, W); names never overlap nor leave it.

    A name lies on the biggest region of its class, and on up to two others that cover 4 % of the
    image: inside, as far from the border as possible (the pole of inaccessibility), somewhat
    smaller if it must; else where it covers most of its region. Regions of less than 0.2 % of the
    image get none, and of a name in a script that the font lacks the number stands there, with a
    warning. `font_size` is in pixels (default: 4 % of the shorter side, at least 10).
    """
    labels, classes = as_mask(mask, len(classes), ignore_index), writable(classes)
    height, width = labels.shape
    smallest = 8 if font_size is None else 1  # a size that is asked for is kept
    font_size = max(10.0, 0.04 * min(height, width)) if font_size is None else font_size

    scale = min(1.0, _WORKING_SIDE / max(height, width))
    small = labels[_sample(height, scale)][:, _sample(width, scale)]  # (h, w), nearest
    regions = _large_regions(small, ignore_index, max(1.0, labels.size // 500 * scale**2))
    free = np.zeros(small.shape, dtype=np.uint8)
    free[1:-1, 1:-1] = 1  # where no name stands yet; the edge stays clear
    placed: list[Label] = []
    for inside in (True, False):  # names that fit go first, the others take what is left
        waiting = []
        for region in regions:
            for shrink in (1.0, 0.85, 0.7) if inside else (0.85, 0.7):
                pixels = max(smallest, round(font_size * shrink))
                label = _fit(region, classes[region.index], pixels, free, labels.shape, inside)
                if label is not None:
                    placed.append(label)
                    break
            else:
                waiting.append(region)
        regions = waiting
    return placed


def _large_regions(small: NDArray[Any], ignore_index: int, min_area: float) -> list[_Region]:
    """Connected regions that deserve a name, the largest first."""
    found = []
    for index in np.unique(small[small != ignore_index]):
        same = (small == index).astype(np.uint8)
        _, components, stats, _ = cv2.connectedComponentsWithStats(same, connectivity=8)
        areas = stats[1:, cv2.CC_STAT_AREA]
        for rank, component in enumerate(np.argsort(-areas, kind="stable")[:_NAMES_PER_CLASS]):
            area = int(areas[component])
            if area < min_area or (rank and area < _ALSO_NAMED * small.size):
                break
            pixels = (components == component + 1).astype(np.uint8)
            depth = cv2.distanceTransform(np.pad(pixels, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
            found.append(_Region(int(index), area, pixels, np.asarray(depth, np.float32)))
    return sorted(found, key=lambda region: -region.area)


def _fit(
    region: _Region,
    text: str,
    font_size: int,
    free: NDArray[np.uint8],
    shape: tuple[int, ...],
    inside: bool,
) -> Label | None:
    """Find the best box for one name on the reduced mask and take it from `free`, or give up."""
    left, top, right, bottom = _text_box(text, font_size)
    height, width = bottom - top, right - left  # pixels of the full mask
    up, across = shape[0] / free.shape[0], shape[1] / free.shape[1]
    h = int(np.ceil(height / up + 1)) // 2 * 2 + 1  # odd, so that a box has a centre
    w = int(np.ceil(width / across + 1)) // 2 * 2 + 1
    if h > free.shape[0] or w > free.shape[1] or region.area < _LEAST_AREA * h * w:
        return None

    # Every array below says something about a box by its centre.
    box = np.ones((h, w), np.uint8)
    possible = cv2.erode(free, box, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    overlap = possible * cv2.boxFilter(
        region.pixels, cv2.CV_32F, (w, h), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    best = overlap.max()
    if best < (h * w if inside else _LEAST_OVERLAP * h * w):
        return None
    depth = np.where(overlap >= (best if inside else 0.95 * best), region.depth, -1)
    ys, xs = np.nonzero(depth >= 0.97 * depth.max())
    central = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
    y, x = int(ys[central]), int(xs[central])

    free[y - h // 2 : y + h // 2 + 1, x - w // 2 : x + w // 2 + 1] = 0
    x0 = min(max(round((x + 0.5) * across - width / 2), 0), shape[1] - width)
    y0 = min(max(round((y + 0.5) * up - height / 2), 0), shape[0] - height)
    return Label(text, region.index, (x0, y0, x0 + width, y0 + height), font_size)


def _write(
    image: NDArray[np.uint8], names: Sequence[Label], colours: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Write names in white, outlined by a dark shade of their class's colour."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for name in names:
        left, top, *_ = _text_box(name.text, name.font_size)
        place = name.box[0] - left, name.box[1] - top
        dark = tuple(int(value) for value in colours[name.index] // 4)
        outline: dict[str, Any] = {"stroke_width": _outline(name.font_size), "stroke_fill": dark}
        draw.text(place, name.text, "white", _font(name.font_size), **outline)
    return np.array(canvas)


def _rim(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark thin lines along the borders between regions: bool (H, W)."""
    side = 1 + max(1, round(min(labels.shape) / 300))
    values, window = labels.astype(np.int16), np.ones((side, side), np.uint8)
    return cv2.dilate(values, window) != cv2.erode(values, window)


def _sample(length: int, scale: float) -> NDArray[np.intp]:
    """Centre-aligned positions of a reduced axis."""
    count = max(1, round(length * scale))
    return ((np.arange(count) + 0.5) * length / count).astype(np.intp)


def writable(classes: Sequence[str]) -> list[str]:
    """The names, but the number of a class where the font has not all letters of its name."""
    known = {*map(chr, FT2Font(str(_font_file())).get_charmap())}
    found = [name if known.issuperset(name) else str(i) for i, name in enumerate(classes)]
    if lacking := [name for name, shown in zip(classes, found, strict=True) if name != shown]:
        names = ", ".join(lacking[:3])
        text = f"the font of pictures has no letters for {names}; numbers stand for these classes"
        warnings.warn(text, stacklevel=3)
    return found


def _font_file() -> Path:
    """Matplotlib's own bold sans: the same letters on every system."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_file(), pixels)


def _text_box(text: str, pixels: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of an outlined text written at (0, 0)."""
    box = _font(pixels).getbbox(text, stroke_width=_outline(pixels))
    return int(np.floor(box[0])), int(np.floor(box[1])), int(np.ceil(box[2])), int(np.ceil(box[3]))


def _outline(pixels: int) -> int:
    return max(1, round(pixels / 8))
