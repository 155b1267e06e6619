"""The lines that tissue is drawn with, in millimetres: x to the right, y down."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

Line = NDArray[np.float64]  # (N, 2): x and y in mm


def wave(random: RandomState, breadth: float, y: float, height: float, slope: float) -> Line:
    """A gently waving line from edge to edge, about `y` mm deep: (48, 2)."""
    x = np.linspace(-1, breadth + 1, 48)
    order = np.arange(1, 4)[:, None]
    waves = np.sin(order * x * 4 / breadth + random.uniform(0, 2 * np.pi, (3, 1))) / order
    waving = height * (random.normal(size=(3, 1)) * waves).sum(axis=0)
    return np.stack([x, y + slope * (x - breadth / 2) + waving], axis=1)


def outline(
    random: RandomState, spot: Line, radius: float, flatness: float, roughness: float
) -> Line:
    """A closed line (73, 2) about `spot` whose radius is a random Fourier series.

    It encloses the area of a disc of `radius`; `flatness` is its height over its width.
    """
    angle = np.arange(72) * (2 * np.pi / 72)
    order = np.arange(2, 8)[:, None]
    waves = np.cos(order * angle + random.uniform(0, 2 * np.pi, (6, 1))) / order
    r = 1 + roughness * (random.normal(size=(6, 1)) * waves).sum(axis=0)
    r *= radius / np.sqrt((r * r).mean())
    stretch = math.sqrt(flatness)
    turn = random.uniform(-0.35, 0.35)
    cos, sin = math.cos(turn), math.sin(turn)
    oval = np.stack([r * np.cos(angle) / stretch, r * np.sin(angle) * stretch], axis=1)
    line = spot + oval @ np.array([(cos, sin), (-sin, cos)])
    return np.concatenate([line, line[:1]])


def free_spot(
    random: RandomState, breadth: float, depth: float, radius: float, taken: list[Line]
) -> Line:
    """The first of 24 random spots (x, y) away from all `taken` (x, y, radius), or the best.

    A disc of `radius` lies within the slice there, between the skin and 4/5 of the depth.
    """
    reach = 1.2 * radius + 0.5
    spots = random.uniform((reach, reach + 2.5), (breadth - reach, 0.8 * depth - reach), (24, 2))
    others = np.reshape(taken, (-1, 3))
    gaps = np.linalg.norm(spots[:, None] - others[:, :2], axis=2) - others[:, 2] - reach
    return np.asarray(spots[gaps.min(axis=1, initial=0).argmax()])
