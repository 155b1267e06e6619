"""What moves in a street: cars, people, cyclists. Each is one instance."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike

from seglib.data.render.canvas import Array, Canvas, Surface, bars, boxes, facing, patches, upright
from seglib.data.render.things import BICYCLIST, CAR, CIRCLE, PEDESTRIAN, pick

_PAINTS = np.array(
    [
        (150, 154, 158),
        (172, 174, 176),
        (38, 40, 46),
        (30, 44, 74),
        (96, 24, 26),
        (72, 76, 82),
        (206, 206, 202),
        (28, 58, 52),
        (54, 58, 66),
        (120, 34, 30),
        (44, 64, 110),
        (100, 104, 106),
    ]
)
_CLOTHES = np.array(
    [  # the first six are trousers, too
        (24, 26, 32),
        (34, 32, 34),
        (18, 20, 22),
        (44, 42, 38),
        (30, 36, 56),
        (74, 34, 34),
        (66, 66, 68),
        (108, 98, 84),
        (46, 58, 46),
        (150, 148, 144),
        (130, 40, 36),
        (38, 30, 24),
    ]
)
_SKIN = np.array([(196, 152, 126), (172, 126, 100), (112, 78, 58), (210, 170, 146)])

# Length, width, height and height of the belt line in metres; where the cabin begins and ends at
# the belt line, and at the roof, in fractions of the length from the rear.
_CARS = {
    "hatch": (3.9, 1.70, 1.46, 0.92, (0.02, 0.74), (0.14, 0.56)),
    "saloon": (4.5, 1.76, 1.43, 0.93, (0.12, 0.74), (0.25, 0.56)),
    "estate": (4.6, 1.78, 1.50, 0.95, (0.01, 0.73), (0.08, 0.57)),
    "jeep": (4.6, 1.86, 1.80, 1.08, (0.01, 0.75), (0.05, 0.60)),
    "van": (4.9, 1.95, 2.10, 1.15, (0.00, 0.90), (0.01, 0.76)),
    "lorry": (7.5, 2.30, 3.20, 1.30, (0.00, 0.99), (0.00, 0.97)),
    "bus": (10.0, 2.50, 3.90, 1.20, (0.00, 1.00), (0.00, 0.99)),
}
_KINDS = ("hatch", "hatch", "hatch", "saloon", "saloon", "estate", "estate", "jeep", "van")
_TYRES = np.array([(18, 18, 20), (18, 18, 20), (96, 98, 100), (96, 98, 100)])


@lru_cache
def _model(kind: str, oncoming: bool) -> Array:
    """Corners (20, 3) of a car with its near end at the origin: body, cabin, what is under it."""
    length, width, height, belt, sill, roof = _CARS[kind]
    if oncoming:
        sill, roof = (1 - sill[1], 1 - sill[0]), (1 - roof[1], 1 - roof[0])
    half, slope = width / 2, 0.9 if kind in ("bus", "lorry", "van") else 0.78
    levels = (  # left, front, right, back, height
        (-half, 0, half, length, 0.3),
        (-half * 0.97, 0.08, half * 0.97, length - 0.08, belt),
        (-half * 0.94, sill[0] * length, half * 0.94, sill[1] * length, belt),
        (-half * slope, roof[0] * length, half * slope, roof[1] * length, height),
        (-half - 0.15, -0.2, half + 0.15, length + 0.2, 0),
    )
    return np.array(
        [
            corner
            for x0, z0, x1, z1, y in levels
            for corner in ((x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1))
        ]
    )


def car(
    canvas: Canvas,
    rng: RandomState,
    x: float,
    z: float,
    heading: float,
    oncoming: bool,
    instance: int,
    shades: tuple[float, float],
    kind: str | None = None,
) -> None:
    """A car, van, lorry or bus whose rear (its front, if oncoming) is at (x, z), `heading` radians
    to the right. `shades`: of its ends and its sides."""
    kind = kind or _KINDS[int(rng.uniform(0, len(_KINDS)))]
    length, (end, side) = _CARS[kind][0], shades
    cos, sin = np.cos(heading), np.sin(heading)
    turn = np.array([[cos, 0, -sin], [0, rng.uniform(0.96, 1.05), 0], [sin, 0, cos]])
    what = Surface(CAR, facing(z + length * 0.3), instance, grain=0.04)
    detail = what._replace(label=None)
    paint = pick(rng, _PAINTS if kind not in ("bus", "lorry") else _PAINTS[[3, 4, 6, 10]])
    body, cabin, under = np.split(_model(kind, oncoming) @ turn + (x, 0, z), (8, 16))
    canvas.paint([under], (16, 16, 18), detail._replace(plane=facing(z), grain=0))

    faces = canvas.solid(body, paint, (end, side, end, side, 1.25), what)
    for number in (0, 1, 3) if z < 45 else ():
        if len(faces[number]):  # the sky shines on the shoulder, the road darkens the sill
            tones = paint * (side if number else end) * np.array([[0.55], [1.22]])
            bands = patches(faces[number], [(0, 0, 1, 0.3), (0, 0.72, 1, 0.94)])
            canvas.paint(bands, tones, detail)
    if z < 60:
        _wheels(canvas, faces, length, what)
    panes = canvas.solid(cabin, paint, (end * 0.9, side * 0.9, end, side * 0.9, 1.3), what)
    low = 0.45 if kind == "lorry" or (kind == "van" and not oncoming) else 0.1
    for number in (0, 1, 3):
        if len(panes[number]) and not (number and kind in ("lorry", "van")):
            cuts = np.linspace(0.05, 0.95, 2 if number == 0 else 7 if kind == "bus" else 3)
            sides = np.stack([cuts[:-1] + 0.02, cuts[1:] - 0.02], 1)
            glass = rng.uniform(0.6, 1.8) * (rng.uniform(1.5, 4) if rng.uniform() < 0.3 else 1)
            where = patches(panes[number], boxes(sides, low, 0.9))
            canvas.paint(
                where, glass * np.array([28, 32, 36]), detail._replace(glow=1.0 * (kind == "bus"))
            )
    if len(faces[0]) and z < 80:
        _lamps(canvas, faces[0], oncoming, detail)


def _wheels(canvas: Canvas, faces: list[Array], length: float, what: Surface) -> None:
    """Tyres and hubs on the visible side, and the lower halves of the tyres at the end."""
    for side in (faces[1], faces[3]):
        if len(side):
            along = (side[1] - side[0]) / length
            hubs = side[0] + np.array([[0.19], [0.8]]) * length * along + (0, 0.02, 0)
            ring = CIRCLE[:, :1] * along + CIRCLE[:, 1:] * (0, 1, 0)
            tyres = np.concatenate([hubs[:, None] + r * ring for r in (0.33, 0.19)])
            canvas.paint(tyres, _TYRES, what)
    if len(faces[0]):
        drop = np.array([(0, -0.28, 0), (0, -0.28, 0), (0, 0, 0), (0, 0, 0)])
        ends = patches(faces[0], [(0.04, 0, 0.18, 0.05), (0.82, 0, 0.96, 0.05)])
        canvas.paint(ends + drop, _TYRES[0], what)


def _lamps(canvas: Canvas, face: Array, oncoming: bool, what: Surface) -> None:
    """Bumper, lamps and number plate of the end that one sees."""
    canvas.paint(patches(face, (0, 0, 1, 0.3)), (48, 48, 50), what)
    low, high, rgb, glow = (
        (0.5, 0.7, (186, 186, 180), 2.8) if oncoming else (0.5, 0.86, (150, 24, 26), 1.6)
    )
    canvas.paint(
        patches(face, [(0.03, low, 0.17, high), (0.83, low, 0.97, high)]),
        rgb,
        what._replace(glow=glow),
    )
    if oncoming:
        canvas.paint(patches(face, (0.28, 0.42, 0.72, 0.6)), (26, 26, 28), what)
    canvas.paint(
        patches(face, (0.36, 0.24, 0.64, 0.4)),
        (212, 208, 198) if oncoming else (206, 176, 60),
        what,
    )


class _Figure:
    """Puts shapes (..., k, 2), in metres about the feet, upright on the canvas at (x, z)."""

    def __init__(
        self, canvas: Canvas, rng: RandomState, x: float, z: float, what: Surface, tall: float
    ) -> None:
        self.canvas, self.place, self.what = canvas, (x, z, tall), what
        self.turn = (1.0 if rng.uniform() < 0.5 else -1.0, 1.0)

    def put(self, shapes: Iterable[ArrayLike], rgb: ArrayLike | None) -> None:
        outlines = [upright(np.asarray(shape) * self.turn, *self.place) for shape in shapes]
        self.canvas.paint(outlines, rgb, self.what)


def person(canvas: Canvas, rng: RandomState, x: float, z: float, instance: int) -> None:
    """A pedestrian, walking or standing; one in eight is a child."""
    u = rng.uniform
    tall = u(0.9, 1.08) if u() < 0.88 else u(0.6, 0.8)
    what = Surface(PEDESTRIAN, facing(z), instance)
    put = _Figure(canvas, rng, x, z, what, tall).put
    side, stride = u(0.55, 1.0), u(0, 0.34)  # from the side, a body is narrower
    coat, trousers = pick(rng, _CLOTHES), pick(rng, _CLOTHES[:6])
    wide, low = 0.24 * side + 0.03, 0.55 if u() < 0.25 else u(0.72, 0.9)
    feet = np.array([(-0.09 - stride, 0.04), (0.09 + stride, 0.04)])
    put(bars([(-0.07 * side, 0.86), (0.07 * side, 0.86)], feet, [0.17, 0.17]), trousers * 0.9)
    shoe = np.array([(-0.07, -0.04), (0.2, -0.04), (0.18, 0.06), (-0.07, 0.06)])
    put(feet[:, None] + shoe, (24, 22, 22))
    put(
        [
            [
                (-wide, low),
                (wide, low),
                (wide * 1.05, 1.36),
                (wide * 0.5, 1.5),
                (-wide * 0.5, 1.5),
                (-wide * 1.05, 1.36),
            ]
        ],
        coat,
    )
    shoulders = np.array([(-wide, 1.38), (wide, 1.38)])
    reach = np.stack([u(-0.3, 0.3, 2), u(-0.62, -0.45, 2)], 1)
    put(bars(shoulders, shoulders + reach, [0.12, 0.12]), coat * 0.8)
    put([CIRCLE * (0.1, 0.13) + (0.02, 1.63)], pick(rng, _SKIN))
    put([CIRCLE[:7] * (0.115, 0.13) + (0, 1.66)], np.array([44, 34, 28]) * u(0.4, 2))
    if u() < 0.35:
        bag = np.array([(-0.13, 0), (0.13, 0), (0.13, 0.34), (-0.13, 0.34)])
        put([bag + (-wide - 0.08, u(0.5, 1.05))], pick(rng, _CLOTHES))


def cyclist(
    canvas: Canvas, rng: RandomState, x: float, z: float, along: bool, instance: int
) -> None:
    """A cyclist, riding `along` the street (seen from behind) or across it."""
    what = Surface(BICYCLIST, facing(z), instance)
    put = _Figure(canvas, rng, x, z, what, 1.0).put
    iron, coat, legs = pick(rng, _PAINTS), pick(rng, _CLOTHES), pick(rng, _CLOTHES[:6])
    if along:
        put([[(-0.04, 0), (0.04, 0), (0.04, 0.7), (-0.04, 0.7)]], (20, 20, 22))
        put([[(-0.3, 0.98), (0.3, 0.98), (0.3, 1.03), (-0.3, 1.03)]], iron * 0.6)
        put(bars([(-0.1, 0.95), (0.1, 0.95)], [(-0.13, 0.3), (0.13, 0.42)], [0.15, 0.15]), legs)
        put(
            [[(-0.19, 0.85), (0.19, 0.85), (0.25, 1.4), (0.1, 1.52), (-0.1, 1.52), (-0.25, 1.4)]],
            coat,
        )
        put(bars([(-0.24, 1.4), (0.24, 1.4)], [(-0.3, 1.0), (0.3, 1.0)], [0.1, 0.1]), coat * 0.8)
        lamp = upright([(-0.03, 0.72), (0.03, 0.72), (0.03, 0.8), (-0.03, 0.8)], x, z)
        canvas.paint([lamp], (190, 30, 30), what._replace(label=None, glow=2.0))
    else:
        hubs = np.array([(-0.52, 0.34), (0.52, 0.34)])
        put(hubs[:, None] + CIRCLE * 0.34, None)  # a wheel is named as a disc, seen as a ring
        for rim in hubs[:, None] + CIRCLE * 0.32:
            put(bars(rim, np.roll(rim, -1, 0), np.full(12, 0.055)), (22, 22, 24))
        rear, front, crank, saddle, head, grip = np.array(
            [(-0.52, 0.34), (0.52, 0.34), (-0.05, 0.32), (-0.15, 0.85), (0.38, 0.85), (0.4, 1.05)]
        )
        put(
            bars(
                [rear, rear, crank, crank, saddle, head, head],
                [crank, saddle, saddle, head, head, front, grip],
                np.full(7, 0.05),
            ),
            iron,
        )
        put(bars([(-0.12, 0.95), (0.2, 0.72)], [(0.2, 0.72), (0.02, 0.3)], [0.17, 0.13]), legs)
        put([[(-0.24, 0.9), (0.02, 0.86), (0.32, 1.35), (0.2, 1.5), (0, 1.42)]], coat)
        put(bars([(0.24, 1.38)], [(0.42, 1.05)], [0.1]), coat * 0.8)
    lean = 0 if along else 0.3
    put([CIRCLE * (0.1, 0.13) + (lean, 1.66)], pick(rng, _SKIN))
    cap = pick(rng, _PAINTS) if rng.uniform() < 0.5 else (40, 32, 28)
    put([CIRCLE[:7] * (0.125, 0.13) + (lean, 1.69)], cap)
