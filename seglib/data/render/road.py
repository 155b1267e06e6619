"""The road's course, the lines painted on it, and what frames the view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike

from seglib.data.render.canvas import VOID, Array, Canvas, Surface
from seglib.data.render.things import BUILDING, TREE

FAR = 170.0  # metres; the street ends there
_SHORT, _LONG = np.linspace(0, 1, 4) ** 2, np.linspace(0, 1, 24) ** 2  # denser where near


class Road(NamedTuple):
    """A road whose middle runs along x = offset + heading·z + bend·z²; lengths in metres.

    `s` is metres to the right of its middle, `z` metres ahead of the camera.
    """

    half: float  # of the carriageway's width
    offset: float
    heading: float
    bend: float

    def at(self, s: ArrayLike, z: ArrayLike) -> Array:
        """Points on the ground: (..., 3)."""
        z = np.asarray(z, float)
        x = self.offset + self.heading * z + self.bend * z * z + s
        points = np.zeros((*x.shape, 3))
        points[..., 0], points[..., 2] = x, z
        return points

    def strip(self, s0: float, s1: float, z0: float = 1.6, z1: float = FAR) -> Array:
        """A stretch of ground between two lines along the road: (k, 3)."""
        z = z0 + (z1 - z0) * (_LONG if z1 - z0 > 20 else _SHORT)
        return np.vstack([self.at(s0, z), self.at(s1, z[::-1])])

    def markings(self, u: Callable[..., Any]) -> Iterator[Array]:
        """Outlines of the white lines: lanes, edges, a crossing, a stop line, an arrow, a box.
        `u` draws uniform random numbers."""
        half, dash, gap, width, chance = self.half, u(1.5, 4), u(1.5, 6), u(0.1, 0.16), u(0, 1, 5)
        if chance[0] < 0.85:
            for s in [0.0] if half < 5.2 else [-half / 2, 0, half / 2]:
                z = np.arange(u(2, 8), 70, dash + gap)[:, None] + (0, 0, dash, dash)
                yield from self.at(s + width * np.array([-0.5, 0.5, 0.5, -0.5]), z)
        if chance[1] < 0.2:
            yield from (self.strip(s - 0.06, s + 0.06) for s in (0.35 - half, half - 0.35))
        z = u(6, 22)
        if chance[2] < 0.12:
            yield self.strip(-half, 0, z, z + 0.3)
        elif chance[2] < 0.24:
            for s in np.arange(0.3 - half, half - 0.4, 1.1):
                yield self.strip(s, s + 0.55, z, z + 2.6)
        s, z = -half * u(0.35, 0.65), u(6, 14)
        if chance[3] < 0.2:
            yield self.strip(s - 0.12, s + 0.12, z, z + 2.6)
            yield self.at(s + np.array([0, -0.6, 0.6]), [z + 4, z + 2.4, z + 2.4])
        if chance[4] < 0.15:
            for s in np.linspace(-half, half, 7):
                for lean in (3, -3):
                    corners = np.clip(s + np.array([0, 0.15, lean + 0.15, lean]), -half, half)
                    yield self.at(corners, [z, z, z + 6, z + 6])


def close_view(canvas: Canvas, rng: RandomState) -> None:
    """Rows of far houses and trees, and before them things too far off to be named."""
    u = rng.uniform
    for distance, label, share, tall, rgb in (
        (FAR, BUILDING, 0.8, 13, (112, 104, 98)),
        (FAR * 0.9, TREE, 0.55, 13, (66, 72, 60)),
        (FAR * 0.8, VOID, 0.7, 3.5, (70, 68, 66)),
    ):
        x = -125.0
        while x < 125:
            wide, z = u(14, 40), distance * u(0.9, 1.0)
            ridge = u(0.3, 1) * tall * (1 if label == BUILDING else u(0.85, 1.1, 9))
            top = np.stack(np.broadcast_arrays(np.linspace(x, x + wide, 9), ridge, z), 1)
            if u() < share:
                canvas.paint(
                    [[*top, (x + wide, 0, z), (x, 0, z)]],
                    np.array(rgb) * u(0.6, 1.3),
                    Surface(label, (0, 0, 1 / z), grain=0.3),
                )
            x += wide * u(0.7, 1.6)


def mount_bonnet(canvas: Canvas, rng: RandomState) -> None:
    """One's own bonnet at the lower edge, in three scenes of five: void, as nobody labels it."""
    camera, u, x = canvas.camera, rng.uniform, np.linspace(-1, 1, 15)
    rise, tilt, shiny, depth = u(0.03, 0.1), u(-0.3, 0.3), u(25, 200), 1.6
    if u() < 0.6:
        rows = canvas.height * (1 - rise * (1 - 0.7 * (x - tilt) ** 2))
        columns = canvas.width * (x + 1) / 2
        edge = np.stack([columns - camera.centre, camera.horizon - rows], 1) * depth / camera.focal
        edge = np.hstack([edge + (0, camera.eye), np.full((15, 1), depth)])
        canvas.paint(
            [[*edge, edge[-1] - (0, 2, 0), edge[0] - (0, 2, 0)]],
            np.full(3, shiny) * (0.96, 1, 1.04),
            Surface(VOID, (0, 0, 1 / depth), grain=0.02),
        )
