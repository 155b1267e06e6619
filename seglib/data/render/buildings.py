"""Houses along the street: walls with windows, shops on the ground floor, roofs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import RandomState

from seglib.data.render.canvas import Array, Canvas, Surface, boxes, facing, patches, upright, wall
from seglib.data.render.things import BUILDING, SIGN, pick

_WALLS = np.array(
    [  # brick, gault brick, render, stone, concrete, timber
        (108, 74, 58),
        (148, 130, 102),
        (196, 194, 186),
        (222, 220, 212),
        (206, 200, 190),
        (142, 132, 114),
        (110, 109, 107),
        (66, 54, 48),
        (92, 84, 72),
        (72, 72, 74),
        (170, 150, 122),
        (84, 60, 50),
    ]
)
_FRONTS = np.array(
    [  # of shops
        (28, 48, 84),
        (130, 24, 28),
        (24, 62, 44),
        (34, 32, 34),
        (196, 190, 178),
        (60, 30, 60),
        (20, 60, 140),
        (186, 60, 30),
        (220, 180, 40),
        (70, 68, 66),
    ]
)


class Style(NamedTuple):
    """Materials and measures that the walls of a building share; lengths in metres."""

    wall: Array
    front: Array
    storey: float
    bay: float
    window: tuple[float, float]  # width over the bay's, height over the storey's
    shop: bool
    glazing_bars: bool
    frame: float | None  # grey level
    roof: float  # height


def draw_style(rng: RandomState, shop: float) -> Style:
    """Draw the style of a building; it has a shop with probability `shop`."""
    u = rng.uniform
    modern = u() < 0.2
    window = (u(0.75, 0.95), u(0.5, 0.8)) if modern else (u(0.3, 0.55), u(0.45, 0.62))
    roof = 0.0 if modern or u() < 0.25 else u(1.5, 4.0)
    return Style(
        pick(rng, _WALLS),
        pick(rng, _FRONTS),
        u(2.8, 3.6),
        u(1.6, 4.0),
        window,
        u() < shop,
        u() < 0.6,
        None if u() < 0.5 else u(110, 225),
        roof,
    )


def building(
    canvas: Canvas,
    rng: RandomState,
    near: Array,
    far: Array,
    depth: float,
    height: float,
    style: Style,
    shades: tuple[float, float],
    terrace: bool,
) -> None:
    """A house whose front runs from `near` to `far` along the street and whose side wall, at the
    near end, is `depth` metres wide (positive: to the right). `shades`: of front and side. In a
    terrace the side is a bare gable over the neighbour's roof."""
    out, up = np.array([depth, 0, 0]), np.array([0, height, 0])
    ridge = np.array([depth / 2, height + style.roof, 0])
    if style.roof:
        tiles, slate = Surface(BUILDING, wall(near, far), grain=0.25), rng.uniform(50, 95)
        canvas.paint(
            [[near + up, far + up, far + ridge, near + ridge]], np.full(3, slate) * shades[0], tiles
        )
        for _ in range(int(rng.uniform(0, 3)) if near[2] < 50 else 0):  # chimneys
            x, y, z = near + (far - near) * rng.uniform(0.1, 0.9) + ridge
            stack = [(-0.5, y - 0.4), (0.5, y - 0.4), (0.5, y + 1.2), (-0.5, y + 1.2)]
            canvas.paint([upright(stack, x, z)], style.wall * shades[1] * 0.8, tiles)
    if near[0] * depth > 0:  # otherwise one looks at the back of the front
        left, right = (far, near) if depth > 0 else (near, far)
        _facade(canvas, rng, left, right, height, style, shades[0])
    side = (near, near + out) if depth > 0 else (near + out, near)
    end = Surface(BUILDING, facing(near[2]), grain=0.22)
    if terrace:
        canvas.paint([[*side, side[1] + up, side[0] + up]], style.wall * shades[1], end)
    else:
        plain = style._replace(shop=False, bay=style.bay * 1.8)
        _facade(canvas, rng, side[0], side[1], height, plain, shades[1])
    if style.roof:
        canvas.paint([[near + up, near + out + up, near + ridge]], style.wall * shades[1], end)


def _facade(
    canvas: Canvas, rng: RandomState, a: Array, b: Array, height: float, style: Style, shade: float
) -> None:
    """A wall over the ground line from a to b."""
    quad = np.array([a, b, b + (0, height, 0), a + (0, height, 0)])
    stone = Surface(BUILDING, wall(a, b), grain=0.22)
    detail = stone._replace(label=None)
    canvas.paint([quad], style.wall * shade, stone)
    canvas.paint(patches(quad, (0, 0.97, 1, 1)), style.wall * shade * 0.7, detail)
    length, near = float(np.hypot(*(b - a)[[0, 2]])), min(a[2], b[2]) < 35
    floors, bays = max(1, round(height / style.storey)), max(1, round(length / style.bay))
    columns, rows = np.arange(bays) + 0.5, np.arange(style.shop, floors) + 0.5
    half = np.array([style.window[0] / bays, style.window[1] / floors]) / 2
    middle = np.empty((len(rows) * bays, 2))
    middle[:, 0], middle[:, 1] = np.tile(columns / bays, len(rows)), np.repeat(rows / floors, bays)
    if len(middle):
        panes = np.hstack([middle - half, middle + half])
        margin = np.array([-0.12, -0.12, 0.12, 0.12]) / np.tile([length, height], 2)
        if style.frame is not None and near:
            canvas.paint(patches(quad, panes + margin), np.full(3, style.frame * shade), detail)
        bright = rng.uniform(0, 1, (len(panes), 1))
        glass = np.where(bright > 0.85, 4.5, 0.4 + bright) * (36, 40, 44) * shade**0.5
        lit = rng.uniform(0, 1, len(panes)) < 0.3
        canvas.paint(patches(quad, panes[~lit]), glass[~lit], detail._replace(grain=0.05))
        canvas.paint(patches(quad, panes[lit]), (62, 56, 44), detail._replace(grain=0.05, glow=1.6))
        if style.glazing_bars and near:
            sides = middle[:, :1] + np.array([-0.04, 0.04]) / length
            between = patches(quad, boxes(sides, panes[:, 1], panes[:, 3]))
            canvas.paint(between, style.wall * shade * 1.2, detail)
    if style.shop:
        _shop(canvas, rng, quad, length, 1 / floors, style.front, shade, detail)


def _shop(
    canvas: Canvas,
    rng: RandomState,
    quad: Array,
    length: float,
    top: float,
    front: Array,
    shade: float,
    detail: Surface,
) -> None:
    """Panes and what is displayed behind them, and a name board (lettering is a sign in CamVid)."""
    u = rng.uniform
    canvas.paint(patches(quad, (0, 0, 1, top)), front * shade, detail)
    edges = np.linspace(0.03, 0.97, max(2, round(length / 2.4)) + 1)
    sides = np.stack([edges[:-1], edges[1:]], 1) + (0.012, -0.012)
    panes = boxes(sides, top * 0.13, top * 0.72)
    glass = u(0.4, 2.6, (len(panes), 1)) * (44, 41, 35) * shade
    canvas.paint(patches(quad, panes), glass, detail._replace(glow=1.2))
    goods: Array = np.sort(u(0.04, 0.96, (2 * len(panes), 2)), 1)
    goods[:, 1] = np.minimum(goods[:, 1], goods[:, 0] + u(0.2, 1.2, len(goods)) / length)
    goods = boxes(goods, *np.sort(u(0.13, 0.6, (len(goods), 2)), 1).T * top)
    canvas.paint(
        patches(quad, goods),
        u(15, 170, (len(goods), 1)) * shade * u(0.8, 1.2, (len(goods), 3)),
        detail,
    )
    if u() < 0.85:
        left, right = np.sort(u(0.05, 0.95, 2))
        right = max(right, left + 0.3)
        board = front * 0.7 + 70 if u() < 0.5 else np.array([190, 186, 178])
        canvas.paint(
            patches(quad, (left, top * 0.76, right, top * 0.97)),
            board * shade,
            detail._replace(label=SIGN, glow=0.4),
        )
        edges = np.linspace(left + 0.02, right - 0.02, 9)
        sides = np.stack([edges[:-1], edges[:-1] + (right - left) * 0.06], 1)
        letters = boxes(sides, top * 0.82, top * 0.91)
        canvas.paint(patches(quad, letters), 235 - board * shade, detail)
