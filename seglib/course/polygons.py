"""Outlines to label maps: what an annotation tool does when it exports a mask.

All in whole numbers, so a mask is the same on every machine. (OpenCV's `fillPoly` also paints each
pixel that the outline passes through.)
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

VOID = 255
_STEPS = 16  # vertices are rounded to 1/16 px
_FARTHEST = 1e6  # px from the corner: beyond it a vertex is a mistake


def polygon_mask(
    polygons: Iterable[tuple[int, ArrayLike]], height: int, width: int
) -> NDArray[np.uint8]:
    """Draw polygons into a label map: uint8 (height, width), 0 where none is.

    Each polygon is `(label, vertices)`, with vertices (x, y) in pixels, x to the right, y down,
    and (0, 0) the *centre* of the top left pixel. A pixel gets the label if its centre is inside,
    so neighbours that share an edge leave no gap and do not overlap. Later polygons cover earlier
    ones; where an outline crosses itself, what it goes round twice is outside (even–odd rule).
    Label 255 is void, and a polygon may reach beyond the picture.

    Raises ValueError for other labels, and for what is no polygon (x and y swapped, no pixel, …).

    >>> polygon_mask([(1, [(0.5, 0.5), (2.5, 0.5), (2.5, 1.5), (0.5, 1.5)])], 3, 4).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    if height < 1 or width < 1:
        raise ValueError(f"found height {height} and width {width}, expected pixels: 1 or more")
    mask = np.zeros((height, width), np.uint8)
    for i, polygon in enumerate(polygons):
        label, points = _pair(polygon)
        if not hasattr(label, "__index__") or not 0 <= label <= VOID:
            expected = "expected a whole number 0–254, or 255 for void"
            raise ValueError(f"polygon {i} has label {label!r}, {expected}")
        vertices = _vertices(points, f"polygon {i}", height, width)
        inside = _inside(np.round(vertices * _STEPS).astype(np.int64), height, width)
        if not inside.any():
            raise ValueError(
                f"polygon {i} {_extent(vertices)} covers no pixel of the picture, which has width "
                f"{width} and height {height}; list its corners (x, y) in order, from the top left"
            )
        mask[inside] = label
    return mask


def _inside(vertices: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """Which pixel centres are inside, (height, width); vertices (N, 2) in 1/16 px.

    Along a row, every edge changes inside and outside. It is crossed by the rows from its upper end
    up to, but without, its lower one; the first pixel beyond has its centre on it or to its right.
    """
    crossed = np.zeros((height, width + 1), bool)
    for a, b in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = (a, b) if a[1] < b[1] else (b, a)
        first, end = (min(max(-(-y // _STEPS), 0), height) for y in (y0, y1))
        rows = np.arange(first, end)
        # x = x0 + (16·row − y0)·(x1 − x0)/(y1 − y0) in 1/16 px, rounded up to whole pixels
        steps = x0 * (y1 - y0) + (_STEPS * rows - y0) * (x1 - x0)
        columns = -(-steps // (_STEPS * (y1 - y0))) if len(rows) else rows
        crossed[rows, columns.clip(0, width)] ^= True
    return np.logical_xor.accumulate(crossed[:, :width], axis=1)


def _pair(polygon: Any) -> tuple[Any, Any]:
    """(label, vertices), or a ValueError that shows how to write it."""
    try:
        label, points = polygon
        if np.ndim(label) == 0 and np.ndim(points) > 0:
            return label, points
    except (TypeError, ValueError):  # no pair, or a list of unequal things
        pass
    raise ValueError(
        f"found {str(polygon)[:60]} where a polygon is expected; pass a list of (label, vertices), "
        "as in [(1, [(10, 20), (30, 20), (30, 40)])]"
    )


def _vertices(points: Any, name: str, height: int, width: int) -> NDArray[np.float64]:
    """The vertices as float64 (N, 2), or a ValueError that knows the usual mistakes."""
    vertices = np.asarray(points, float)
    if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) < 3:
        expected = "expected (N, 2), (x, y) of at least 3"
        raise ValueError(f"{name} has vertices of shape {vertices.shape}, {expected}")
    if not (np.abs(vertices) <= _FARTHEST).all():  # NaN fails, too
        raise ValueError(f"{name} {_extent(vertices)} has vertices that are no finite pixels")
    slack = 0.05 * max(height, width)  # px that a hand may slip over the edge
    low, high = -slack, np.array([width, height]) - 1 + slack
    fits, swapped = (((low <= v) & (v <= high)).all() for v in (vertices, vertices[:, ::-1]))
    if swapped and not fits:
        raise ValueError(
            f"{name} {_extent(vertices)} leaves the picture, which has width {width} and height "
            f"{height}, but fits if x and y are swapped; expected (x, y), not (row, column): "
            "[(x, y) for y, x in points]"
        )
    return vertices


def _extent(vertices: NDArray[np.float64]) -> str:
    (left, top), (right, bottom) = vertices.min(axis=0), vertices.max(axis=0)
    return f"(x {left:g} to {right:g}, y {top:g} to {bottom:g})"
