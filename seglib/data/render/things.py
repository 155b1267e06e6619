"""What stands beside a road: trees, hedges, fences, lamps, lights and signs, bins."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import RandomState

from seglib.data.render.canvas import (
    VOID,
    Array,
    Canvas,
    Surface,
    bars,
    facing,
    patches,
    upright,
    wall,
)

BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST, LANE = range(1, 12)
CIRCLE = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], 1)

_GREENS = np.array([(66, 76, 44), (48, 60, 38), (82, 84, 54), (40, 50, 36)])
_SIGNS = np.array([(32, 66, 150), (222, 220, 214), (30, 96, 62), (210, 176, 40)])
_POLES = {  # height from … to, half the width, metres
    "lamp": (6, 10, 0.085),
    "bollard": (0.8, 1.1, 0.1),
    "light": (2.9, 3.4, 0.08),
    "sign": (2.2, 3.0, 0.05),
}


def pick(rng: RandomState, rows: Array) -> Array:
    """One row of colours, a little varied."""
    row = rows[int(rng.uniform(0, len(rows)))] * rng.uniform(0.8, 1.2)
    return np.minimum(np.maximum(row * rng.uniform(0.96, 1.04, 3), 4), 240)


def tree(canvas: Canvas, rng: RandomState, x: float, z: float, height: float, kind: str) -> None:
    """A "bare" tree (the sky shows between its branches), a "leafy" one, or a "conifer"."""
    u, wood = rng.uniform, Surface(TREE, facing(z), grain=0.2)
    bark, thick = np.array([52, 46, 42]) * u(0.6, 1.3), u(0.025, 0.045) * height
    crown, spread = u(0.2, 0.4) * height, u(0.26, 0.42) * height
    if kind == "conifer":
        crown, spread = 0.08 * height, u(0.13, 0.22) * height
    stem = [(-thick, 0), (thick, 0), (thick * 0.6, height * 0.6), (-thick * 0.6, height * 0.6)]
    canvas.paint([upright(stem, x, z)], bark, wood)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = (u(-0.12, 0.12) * np.cos(k * turn + u(0, 6)) for k in (2, 3, 5, 8))
    radius = 0.95 + sum(waves) + u(-0.06, 0.06, 40)
    size, middle = (spread, (height - crown) / 2), (0, (height + crown) / 2)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1) * radius[:, None]
    outline = upright(ring * size + middle, x, z)
    if kind == "bare":
        twigs = _branches(rng, crown, height, thick, z < 35)
        hull = cv2.convexHull(twigs.reshape(-1, 2).astype(np.float32))[:, 0]
        canvas.paint([upright(hull, x, z)], None, wood)
        canvas.paint(upright(twigs, x, z), bark * 1.1, wood._replace(label=None))
        return
    leaf = pick(rng, _GREENS) * (u(0.6, 1.2) if kind == "leafy" else u(0.4, 0.7))
    leaves = wood._replace(grain=0.6)
    canvas.paint([outline], leaf * 0.7, leaves)
    n = 40
    far, angle = np.sqrt(u(0, 1, n)) * 0.9, u(0, 2 * np.pi, n)
    at = np.stack([far * np.cos(angle), far * np.sin(angle)], 1) * size + middle
    at = at[np.argsort(at[:, 1])]  # those on top catch the light
    clumps = at[:, None] + CIRCLE * spread * u(0.1, 0.26, (n, 1, 1)) * u(0.7, 1.2, (n, 12, 1))
    lighter = np.linspace(0.6, 1.25, n)[:, None] * u(0.85, 1.15, (n, 1))
    canvas.paint(upright(clumps, x, z), leaf * lighter, leaves)


def _branches(rng: RandomState, crown: float, height: float, thick: float, fine: bool) -> Array:
    """Branches on branches, from the height `crown` on: thin quads (n, 4, 2)."""
    start, end = np.zeros((1, 2)), np.array([[0, crown]])
    heading, size, quads = np.full(1, np.pi / 2), (height - crown) * 0.4, []
    for children in (5, 4, 3, 2) if fine else (5, 4, 3):
        heading = np.repeat(heading, children)
        heading += rng.uniform(-0.75, 0.75, len(heading))
        start, end = np.repeat(start, children, 0), np.repeat(end, children, 0)
        start = end - 0.25 * rng.uniform(0, 1, (len(end), 1)) * (end - start)
        step = size * rng.uniform(0.6, 1.1, (len(end), 1))
        end = start + step * np.stack([np.cos(heading), 0.25 + 0.75 * np.sin(heading)], 1)
        thick, size = max(thick * 0.45, 0.03), size * 0.72
        quads.append(bars(start, end, np.full(len(end), thick)))
    return np.concatenate(quads)


def hedge(canvas: Canvas, rng: RandomState, a: Array, b: Array) -> None:
    """A hedge along the ground line from a to b, its top uneven."""
    t, height = np.linspace(0, 1, 14)[:, None], rng.uniform(0.7, 2.2)
    top = a + t * (b - a) + np.array([0, 1, 0]) * height * rng.uniform(0.85, 1.15, (14, 1))
    green = np.array([48, 56, 36]) * rng.uniform(0.6, 1.4)
    canvas.paint([np.vstack([a, top, b])], green, Surface(TREE, wall(a, b), grain=0.6))


def fence(canvas: Canvas, rng: RandomState, a: Array, b: Array, thin: float) -> None:
    """A railing with gaps to look through, or boards, along the ground line from a to b."""
    u, length = rng.uniform, float(np.hypot(*(b - a)[[0, 2]]))
    height, boards, tone = u(1.0, 2.1), u() < 0.5, u(0.4, 1.4)
    quad = np.array([a, b, b + (0, height, 0), a + (0, height, 0)])
    what = Surface(FENCE, wall(a, b), grain=0.2)
    step = 0.5 if boards else u(0.14, 0.3) / max(thin, 0.1)
    edges = np.arange(0, 1, max(step / length, 1 / 90))
    half = (0.04 if boards else 0.025) / length
    upright_bars = np.stack([edges - half, edges * 0, edges + half, edges * 0 + 1], 1)
    if boards:
        wood = np.array([96, 78, 58]) * tone
        canvas.paint([quad], wood, what)
        canvas.paint(patches(quad, upright_bars), wood * 0.75, what._replace(label=None))
    else:
        canvas.paint([quad], None, what)
        rails = np.vstack([upright_bars, (0, 0.9, 1, 0.97), (0, 0.12, 1, 0.18)])
        canvas.paint(patches(quad, rails), np.array([36, 38, 40]) * tone, what._replace(label=None))


def pole(canvas: Canvas, rng: RandomState, x: float, z: float, kind: str) -> None:
    """A street "lamp", a "bollard", a traffic "light", or a "sign" on its post."""
    u, metal, (low, high, half) = rng.uniform, Surface(POLE, facing(z), grain=0.08), _POLES[kind]
    grey, height = np.full(3, u(20, 90) if kind == "bollard" else u(30, 190)), u(low, high)
    half *= u(0.8, 1.3)
    stem = [(-half, 0), (half, 0), (half * 0.7, height), (-half * 0.7, height)]
    canvas.paint([upright(stem, x, z)], grey, metal)
    top, plate = (0, height), metal._replace(label=SIGN)
    if kind == "lamp":
        reach = -np.sign(x) * u(0.6, 1.8)
        arm = bars([top], [(reach, height + 0.25)], [0.1])
        head = np.array([(-0.35, 0.2), (0.35, 0.2), (0.25, 0.4), (-0.25, 0.4)]) + (reach, height)
        canvas.paint(upright(arm, x, z), grey, metal)
        canvas.paint([upright(head, x, z)], (205, 200, 186), metal._replace(glow=3.0))
    elif kind == "light":
        box = np.array([(-0.2, -1), (0.2, -1), (0.2, 0.1), (-0.2, 0.1)]) + top
        canvas.paint([upright(box, x, z)], (24, 24, 26), plate)
        on = int(u(0, 3))
        for lamp, rgb in enumerate([(60, 220, 150), (240, 170, 50), (230, 40, 40)]):
            disc = CIRCLE * 0.12 + (0, height - 0.8 + 0.33 * lamp)
            canvas.paint(
                [upright(disc, x, z)],
                np.array(rgb) * (1 if lamp == on else 0.2),
                metal._replace(label=None, glow=2.5 * (lamp == on)),
            )
    elif kind == "sign":
        _plate(canvas, rng, x, z, height, plate._replace(glow=0.15))


def _plate(
    canvas: Canvas, rng: RandomState, x: float, z: float, height: float, what: Surface
) -> None:
    """A round sign, a triangle or a board."""
    u, inner = rng.uniform, what._replace(label=None)
    size, kind = u(0.3, 0.45), u()
    if kind < 0.6:
        shape = CIRCLE if kind < 0.4 else np.array([(-1, -0.6), (1, -0.6), (0, 1.1)])
        middle = (40, 70, 160) if kind < 0.12 else (226, 224, 220)
        canvas.paint([upright(shape * size + (0, height), x, z)], (190, 34, 38), what)
        canvas.paint([upright(shape * size * 0.65 + (0, height), x, z)], middle, inner)
    else:
        wide, tall = u(0.3, 0.8), u(0.25, 0.5)
        sheet = np.array([(-wide, -tall), (wide, -tall), (wide, tall), (-wide, tall)])
        canvas.paint([upright(sheet + (0, height), x, z)], pick(rng, _SIGNS), what)
        canvas.paint([upright(sheet * (0.8, 0.15) + (0, height), x, z)], (128, 128, 130), inner)


def clutter(canvas: Canvas, rng: RandomState, x: float, z: float) -> None:
    """A bin or a box, which nobody labels."""
    half, tall = rng.uniform(0.2, 0.6), rng.uniform(0.5, 1.5)
    box = upright([(-half, 0), (half, 0), (half, tall), (-half, tall)], x, z)
    canvas.paint([box], np.array([70, 72, 66]) * rng.uniform(0.3, 1.8), Surface(VOID, facing(z)))
