"""A canvas of polygon numbers: every picture and every map of a scene is a lookup from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]
Plane = tuple[float, float, float]

SCALE = 3  # canvas pixels per image pixel, odd: the middle one is the image pixel's centre
NEAR = 1.5  # metres; nothing closer is drawn
GRID = 16  # corners are rounded to 1/16 canvas pixel, so that masks are equal on every machine
VOID, SHADOW = 255, -1  # labels: nobody names it; it only takes the sun's light from the ground


class Camera(NamedTuple):
    """A level pinhole camera: x to the right, y up from the ground, z forward, in metres.

    A small pitch is a shift of the horizon; roll turns the picture about the vanishing point.
    """

    focal: float  # pixels
    eye: float  # height above the ground, metres
    centre: float  # column of the vanishing point
    horizon: float  # its row
    roll: float  # radians

    def project(self, points: Array) -> Array:
        """Points (n, 3) in metres to columns and rows (n, 2) in pixels."""
        x, y, z = points.T
        right, down = x / z * self.focal, (self.eye - y) / z * self.focal
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        columns, rows = cos * right - sin * down, sin * right + cos * down
        return np.stack([self.centre + columns, self.horizon + rows], -1)

    def rays(self, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How far each pixel's ray goes right and down per metre of depth: twice (H, W)."""
        u = np.arange(width, dtype=np.float32) - np.float32(self.centre)
        v = np.arange(height, dtype=np.float32)[:, None] - np.float32(self.horizon)
        cos, sin = np.array([np.cos(self.roll), np.sin(self.roll)], np.float32) / self.focal
        return cos * u + sin * v, cos * v - sin * u


class Surface(NamedTuple):
    """What a polygon is. On its plane, 1/z = a·right + b·down + c along a ray (right, down, 1)."""

    label: int | None  # None: seen, but not named (a window of a wall)
    plane: Plane
    instance: int = 0
    grain: float = 0.1  # how strongly its brightness varies from place to place
    ground: bool = False  # lies flat: takes shadows and reflections
    glow: float = 0.0  # light of its own where it is dark


class Canvas:
    """Two maps of polygon numbers: what is seen, and what is named (a railing's gaps differ).

    Polygon 0 is the sky. Polygons are noted from far to near, and all filled by `finish`.
    """

    def __init__(self, camera: Camera, height: int, width: int) -> None:
        self.camera, self.height, self.width = camera, height, width
        self.seen = np.zeros((SCALE * height, SCALE * width), np.int32)
        self.named, self.shadow = np.zeros_like(self.seen), np.zeros(self.seen.shape, np.uint8)
        self.surfaces = [Surface(0, (0.0, 0.0, 0.0), grain=0.0)]
        self._colours: list[Array] = [np.zeros((1, 3))]
        self._owners, self._shades, self._sizes = [0], [0], [0]  # of each polygon
        self._points: list[Array] = []
        self._coloured = 1  # how many colours there are

    def paint(self, polygons: Iterable[ArrayLike], rgb: ArrayLike | None, what: Surface) -> None:
        """Note polygons ((k, 3) each, metres) of one colour (3,), or of one each (n, 3).

        Without a colour they are named only: what is behind stays visible.
        """
        if isinstance(polygons, np.ndarray):  # all of one length
            self._points.append(polygons.reshape(-1, 3))
            sizes = [polygons.shape[1]] * len(polygons)
        else:
            corners = [np.asarray(polygon, float) for polygon in polygons]
            self._points += corners
            sizes = [len(polygon) for polygon in corners]
        self._sizes += sizes
        self._owners += [len(self.surfaces)] * len(sizes)
        self.surfaces.append(what)
        if rgb is None:
            self._shades += [-1] * len(sizes)
            return
        colours = np.asarray(rgb, float).reshape(-1, 3)
        first, one = self._coloured, len(colours) == 1
        self._coloured += len(colours)
        self._shades += [first] * len(sizes) if one else range(first, first + len(sizes))
        self._colours.append(colours)

    def solid(
        self, corners: Array, rgb: Array, shades: Sequence[float], what: Surface
    ) -> list[Array]:
        """Note the visible faces of a box or frustum, corners (8, 3): bottom, then top, each from
        the front left anticlockwise as seen from above. Returns its faces as quads (4, 3) from
        lower left: front, right, back, left, top; those turned away are empty."""
        quads = corners.take(_FACES, 0)  # (5, 4, 3)
        across, up = quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]
        normals = across.take(_NEXT, 1) * up.take(_LAST, 1)
        normals -= across.take(_LAST, 1) * up.take(_NEXT, 1)
        visible = (normals * (quads[:, 0] - (0, self.camera.eye, 0))).sum(1) > 0
        self.paint(quads[visible], (rgb * np.array(shades)[:, None])[visible], what)
        return [quad if shown else quad[:0] for quad, shown in zip(quads, visible, strict=True)]

    def finish(self) -> None:
        """Fill all polygons in view, in the order in which they were noted."""
        points, ends = np.concatenate(self._points), np.cumsum(self._sizes)
        starts, pixels = ends[:-1], self._pixels(points)
        low, high = (f.reduceat(pixels, starts) // GRID for f in (np.minimum, np.maximum))
        inside = ((high >= 0) & (low < (SCALE * self.width, SCALE * self.height))).all(1)
        closest = np.minimum.reduceat(points[:, 2], starts)
        inside |= closest < NEAR
        inside &= np.maximum.reduceat(points[:, 2], starts) > NEAR
        labels = [self.surfaces[owner].label for owner in self._owners]
        details = np.array([label is None for label in labels[1:]])
        inside &= ~details | (high > low).all(1)  # of smaller ones, nothing would be seen
        cut, stops, shades = (closest < NEAR).tolist(), ends.tolist(), self._shades
        fill, seen, named = cv2.fillPoly, self.seen, self.named
        for number in (np.flatnonzero(inside) + 1).tolist():
            corners, label = pixels[stops[number - 1] : stops[number]], labels[number]
            if cut[number - 1]:
                corners = self._pixels(_clip(points[stops[number - 1] : stops[number]]))
            if label == SHADOW:
                fill(self.shadow, [corners], 255, shift=4)
                continue
            if shades[number] >= 0:
                fill(seen, [corners], number, shift=4)
            if label is not None:
                fill(named, [corners], number, shift=4)
        self.table = self._table()

    def _table(self) -> NDArray[np.float32]:
        """Label, instance, plane (a, b, c), grain, ground and glow of every polygon: (8, n)."""
        rows = [
            (VOID if s.label is None else s.label, s.instance, *s.plane, *s[3:])
            for s in self.surfaces
        ]
        return np.array(rows, np.float32).T.take(self._owners, 1)

    def owners(self) -> NDArray[np.int_]:
        """The number of every polygon's surface."""
        return np.array(self._owners)

    def colours(self) -> NDArray[np.uint8]:
        """Red, green, blue of every polygon, and 255 for the sky: (n, 4)."""
        rgb = np.concatenate(self._colours)[np.maximum(self._shades, 0)]
        rgba = np.zeros((len(rgb), 4), np.uint8)
        rgba[:, :3], rgba[0, 3] = np.clip(rgb, 0, 255), 255
        return rgba

    def _pixels(self, points: Array) -> NDArray[np.int32]:
        """Points (n, 3) on the canvas, in sixteenths of its pixels."""
        ahead = np.maximum(points, (-np.inf, -np.inf, NEAR))
        return np.rint((self.camera.project(ahead) * SCALE + SCALE // 2) * GRID).astype(np.int32)


_FACES = np.array([(0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7)])
_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])  # of a cross product


def _clip(points: Array) -> Array:
    """Cut a polygon (k, 3) off at the plane z = NEAR (Sutherland and Hodgman, 1974)."""
    kept = []
    for start, end in zip(points, np.roll(points, -1, 0), strict=True):
        if start[2] >= NEAR:
            kept.append(start)
        if (start[2] >= NEAR) != (end[2] >= NEAR):
            kept.append(start + (end - start) * (NEAR - start[2]) / (end[2] - start[2]))
    return np.array(kept)


def patches(quad: Array, where: ArrayLike) -> Array:
    """Rectangles on a quad (4, 3) from lower left, anticlockwise: (n, 4, 3).

    `where` (n, 4) holds left, bottom, right, top as fractions of the quad.
    """
    rows = np.asarray(where, float).reshape(-1, 4)
    s, t = rows.take((0, 2, 2, 0), 1)[..., None], rows.take((1, 1, 3, 3), 1)[..., None]
    low = quad[0] + s * (quad[1] - quad[0])
    return np.asarray(low + t * (quad[3] + s * (quad[2] - quad[3]) - low))


def boxes(sides: Array, low: ArrayLike, high: ArrayLike) -> Array:
    """Rows of left, bottom, right, top (n, 4) from pairs of sides (n, 2)."""
    rows = np.empty((len(sides), 4))
    rows[:, ::2], rows[:, 1], rows[:, 3] = sides, low, high
    return rows


def upright(shape: ArrayLike, x: float, z: float, grow: float = 1.0) -> Array:
    """Outlines (..., 2) in metres, standing at (x, z) and facing the camera: (..., 3)."""
    shape = np.asarray(shape, float)
    points = np.empty((*shape.shape[:-1], 3))
    points[..., :2], points[..., 2] = shape * grow, z
    points[..., 0] += x
    return points


def bars(starts: ArrayLike, ends: ArrayLike, widths: ArrayLike) -> Array:
    """Thin quads (n, 4, 2) along the segments from `starts` to `ends`, each (n, 2)."""
    starts, ends = np.asarray(starts, float), np.asarray(ends, float)
    across = (ends - starts)[:, ::-1] * (-1, 1)
    across *= (np.asarray(widths) / 2 / np.maximum(np.hypot(*across.T), 1e-6))[:, None]
    quads = np.empty((len(starts), 4, 2))
    quads[:, 0], quads[:, 1] = starts - across, starts + across
    quads[:, 2], quads[:, 3] = ends + across, ends - across
    return quads


def facing(depth: float) -> Plane:
    """The plane of something that faces the camera, `depth` metres away."""
    return 0.0, 0.0, 1 / max(depth, NEAR)


def wall(a: Array, b: Array) -> Plane:
    """The plane of an upright wall over the ground points a and b, each (x, y, z)."""
    x, z = b[2] - a[2], a[0] - b[0]
    distance = float(x * a[0] + z * a[2])
    distance = distance if abs(distance) > 1e-3 else 1e-3
    return float(x) / distance, 0.0, float(z) / distance
