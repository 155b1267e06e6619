"""Where everything stands in a street. Every part draws from its own random numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import PCG64, RandomState

from seglib.data.render.buildings import Style, building, draw_style
from seglib.data.render.canvas import SHADOW, Array, Camera, Canvas, Surface
from seglib.data.render.movers import car, cyclist, person
from seglib.data.render.road import FAR, Road, close_view, mount_bonnet
from seglib.data.render.things import LANE, PAVEMENT, ROAD, TREE, clutter, fence, hedge, pole, tree

SIDES = {"left": -1, "right": 1}
_PLOTS = {  # a fence, else a hedge; how far back from … to; a house; trees; in what share
    "houses": (0.45, (2, 6), 0.9, 2.6),
    "park": (0.6, (14, 30), 0.35, 6.0),
    "open": (0.12, (14, 30), 0.6, 2.4),
}
_PARTS = (
    "camera",
    "ground",
    "left",
    "right",
    "cars",
    "people",
    "thin",
    "backdrop",
    "bonnet",
    "light",
    "labels",
)


def stream(seed: int, part: str) -> RandomState:
    """Random numbers for one part of a scene, so that a knob leaves the other parts alone.

    Only a car park's `clutter` moves what stands behind it: they share a side's numbers. The
    streams of RandomState are frozen (NEP 19); those of a Generator may change with NumPy.
    """
    return RandomState(PCG64([seed, _PARTS.index(part)]))


class Street:
    """A street and all that stands in it, painted on `canvas`. Traffic keeps left."""

    def __init__(self, seed: int, height: int, width: int, clutter: float, thin: float) -> None:
        self.seed, self.busy, self.thin = seed, clutter, thin
        u = stream(seed, "camera").uniform
        half = u(3.0, 5.2) if u() < 0.75 else u(5.2, 8.0)
        self.road = Road(half, u(0.25, 0.65) * half, u(-0.1, 0.1), u(-1, 1) ** 3 * 0.004)
        focal = u(0.8, 1.35) * max(width, height * 4 / 3)
        camera = Camera(
            focal, u(1.2, 1.8), width * u(0.34, 0.66), height * u(0.44, 0.60), np.deg2rad(u(-2, 2))
        )
        self.canvas = Canvas(camera, height, width)
        self.ground = Surface(ROAD, (0, 1 / camera.eye, 0), ground=True)
        self.lamps: list[tuple[float, float]] = []
        self._things: list[tuple[float, Callable[..., None], tuple[object, ...]]] = []
        self._movers = 0
        self.overcast, self.sun = u() < 0.5, np.array([u(-1.6, 1.6), 0, u(-0.6, 1.2)])
        lit = 0 if self.overcast else 0.42 * float(np.clip(self.sun[0], -1, 1))
        self.shade = {-1: 0.85 - lit, 1: 0.85 + lit, 0: 0.8 if self.overcast else u(0.4, 1.15)}
        self._lay_ground()
        close_view(self.canvas, stream(seed, "backdrop"))
        for side in SIDES:
            self._line_side(side)
        self._send_cars()
        self._send_people()
        self._plant_poles()
        for _, paint, arguments in sorted(self._things, key=lambda thing: -thing[0]):
            paint(self.canvas, *arguments)
        mount_bonnet(self.canvas, stream(seed, "bonnet"))
        self.canvas.finish()

    def _place(
        self, paint: Callable[..., None], distance: float, at: Array, reach: float, *how: object
    ) -> bool:
        """Have a thing painted when its turn comes, if it can be in view: at most `reach` metres
        to both sides of the point `at`."""
        camera, z = self.canvas.camera, max(float(at[2]), 2.0)
        column, size = camera.centre + camera.focal * at[0] / z, camera.focal * reach / z
        seen = at[2] + reach > 2 and -size < column < self.canvas.width + size
        if seen:
            self._things.append((distance, paint, how))
        return bool(seen)

    def _cast(self, outline: Array, height: float) -> None:
        """The shadow of something `height` metres tall over its outline (k, 3) on the ground."""
        if self.overcast:
            return
        moved = outline + self.sun * height
        sides = np.stack([outline, np.roll(outline, -1, 0), np.roll(moved, -1, 0), moved], 1)
        self.canvas.paint([*sides, moved], None, self.ground._replace(label=SHADOW))

    def _lay_ground(self) -> None:
        rng, paint = stream(self.seed, "ground"), self.canvas.paint
        u = rng.uniform
        tar = np.array([92, 96, 101]) * u(0.6, 1.4) * (1 + u(-0.05, 0.05, 3))
        slabs = tar * u(0.8, 1.3) * (1 + u(-0.03, 0.05, 3))
        grass = np.array([74, 84, 52]) * u(0.7, 1.2)
        paved = self.ground._replace(label=PAVEMENT, grain=0.16)
        self.kinds, self.kerb = {}, {}
        for side, sign in SIDES.items():
            kind = ("terrace", "terrace", "terrace", "houses", "park", "open")[int(u(0, 6))]
            rgb, label = {"terrace": (slabs, PAVEMENT), "open": (tar * 1.05, ROAD)}.get(
                kind, (grass, TREE)
            )
            self.kinds[side], kerb = kind, sign * (self.road.half + u(1.2, 3.2))
            self.kerb[side], edge = kerb, sign * self.road.half
            paint([self.road.strip(edge, sign * 400)], rgb, paved._replace(label=label, grain=0.25))
            paint([self.road.strip(edge, kerb)], slabs, paved)
            joints = np.arange(2.4, 26, 1.2)[:, None] + (0, 0, 0.08, 0.08)
            across = np.array([edge, kerb, kerb, edge])
            paint(self.road.at(across, joints), slabs * 0.72, paved._replace(label=None))
            paint([self.road.strip(edge, edge + sign * 0.15)], slabs * 1.3, paved)
        paint([self.road.strip(-self.road.half, self.road.half)], tar, self.ground)
        for _ in range(int(u(0, 5))):  # mended places
            z, s = u(4, 30), u(-self.road.half, self.road.half * 0.6)
            patch = self.road.strip(s, min(s + u(0.6, 2.5), self.road.half), z, z + u(1, 6))
            paint([patch], tar * u(0.8, 1.12), self.ground)
        self.junction = u(14, 45) if u() < 0.45 else 2 * FAR
        for sign in (-1, 1):
            if u() < 0.7:
                edge, end = sign * self.road.half * 0.9, self.junction + u(6, 9)
                paint([self.road.strip(edge, sign * 90, self.junction, end)], tar, self.ground)
        white, line = np.full(3, u(0.5, 1.0)) * (206 - tar) + tar, self.ground._replace(label=LANE)
        marks = list(self.road.markings(u))
        paint(marks, white, line)
        if u() < 0.35:  # no parking
            for s in (self.road.half - 0.25, self.road.half - 0.45):
                lines = [self.road.strip(sign * s, sign * (s - 0.09)) for sign in (-1, 1)]
                paint(lines, np.array([176, 160, 84]) * u(0.6, 1.0), line)

    def _line_side(self, side: str) -> None:
        """Buildings, gardens, a park or open ground along one side, from near to far."""
        rng, kind, kerb = stream(self.seed, side), self.kinds[side], self.kerb[side]
        u = rng.uniform
        common, rise, fenced, z = draw_style(rng, 0.5), u(9, 18), 0.95 * (u() < 0.5), u(-6, 2)
        while z < FAR * 0.55:
            end = z + (u(5, 14) if kind == "terrace" else u(7, 16))
            if z < self.junction + 9 and end > self.junction:
                if self.junction - z < 3:
                    z = self.junction + 9
                    continue
                end = self.junction
            if kind == "terrace":
                style = common if u() < 0.35 else draw_style(rng, 0.55)
                back = kerb + np.sign(kerb) * u(0, 1.5) * (u() < 0.3)
                self._build(rng, back, z, end, rise * u(0.75, 1.25), style)
            else:
                self._fill_plot(rng, kind, kerb, z, end, fenced)
                end += u(0, 3)
            z = end

    def _build(
        self, rng: RandomState, s: float, z0: float, z1: float, height: float, style: Style
    ) -> None:
        near, far, sign = self.road.at(s, z0), self.road.at(s, z1), int(np.sign(s))
        shades, depth = (self.shade[sign], self.shade[0]), sign * rng.uniform(7, 12)
        reach = 3 + abs(depth) * (z1 < 20)
        terrace = self.kinds["left" if sign < 0 else "right"] == "terrace"
        how = (rng, near, far, depth, height, style, shades, terrace)
        if self._place(building, z1, far, reach, *how):
            self._cast(np.array([near, far]), height)

    def _fill_plot(
        self, rng: RandomState, kind: str, kerb: float, z0: float, z1: float, fenced: float
    ) -> None:
        """What is behind the pavement: a fence or a hedge, a house, trees, parked cars."""
        u, (hedged, distance, housed, trees) = rng.uniform, _PLOTS[kind]
        border, sign = (self.road.at(kerb, z0), self.road.at(kerb, z1)), int(np.sign(kerb))
        if u() < fenced:
            self._place(fence, z1, border[1], 3, rng, *border, self.thin)
        elif u() < hedged:
            self._place(hedge, z1, border[1], 3, rng, *border)
        back = u(*distance)
        if u() < housed:
            tall = u(3.5, 7) if kind == "open" else u(6, 11)
            gap = u(0, 2) if kind == "houses" else 0
            self._build(rng, kerb + sign * back, z0, z1 - gap, tall, draw_style(rng, 0.15))
        for _ in range(int(u(0, trees))):
            s, z, tall = kerb + sign * u(0.8, max(back - 1, 2)), max(u(z0, z1), 3), u(6, 15)
            at = self.road.at(s, z)
            species = ("bare", "bare", "bare", "leafy", "conifer")[int(u(0, 5))]
            if self._place(tree, at[2], at, tall / 2, rng, at[0], at[2], tall, species):
                turn = np.arange(8) * np.pi / 4
                disc = np.stack([np.cos(turn), 0 * turn, np.sin(turn)], 1) * tall / 4 + at
                self._cast(disc, tall * 0.6)
        if kind == "open" and u() < 0.6:  # a car park
            for z in np.arange(z0, z1, 2.9):
                if u() < 0.65 * self.busy:
                    self._park(rng, kerb + sign * u(2, 3), z, sign * -1.5 + u(-0.1, 0.1), u() < 0.5)

    def _park(
        self,
        rng: RandomState,
        s: float,
        z: float,
        turn: float,
        oncoming: bool,
        kind: str | None = None,
    ) -> None:
        self._movers += 1
        at = self.road.at(s, z)
        turn += self.road.heading + 2 * self.road.bend * z
        shades = (self.shade[0] * 1.05, self.shade[1 if at[0] < 0 else -1])
        how = (rng, at[0], z, turn, oncoming, self._movers, shades, kind)
        if self._place(car, z + 1, at, 5, *how):
            corners = np.array([(-0.9, 0, 0), (0.9, 0, 0), (0.9, 0, 4), (-0.9, 0, 4)])
            self._cast(corners + at, 1.4)

    def _send_cars(self) -> None:
        """Parked along both kerbs, driving ahead of us, and towards us."""
        rng = stream(self.seed, "cars")
        u = rng.uniform
        for sign in (-1, 1):
            z, share = u(4, 14), u(0, 0.9) ** 1.5 * self.busy * (0.5 if self.road.half < 3.4 else 1)
            while z < 55:
                if u() < share:
                    s, oncoming = sign * (self.road.half - 1.05), u() < 0.5 + 0.3 * sign
                    self._park(rng, s, z, u(-0.03, 0.03), oncoming)
                z += u(5.2, 8)
            z = (9, 0, 6)[sign + 1] + u(0, 30)
            while z < 75:
                big = u()
                kind = "bus" if big < 0.05 else "lorry" if big < 0.09 else None
                if u() < 0.7 * self.busy:
                    s = sign * self.road.half * u(0.3, 0.5)
                    self._park(rng, s, z, u(-0.02, 0.02), sign > 0, kind)
                z += u(9, 40)

    def _pavement(self, rng: RandomState) -> float:
        """A place on a pavement: metres from the middle of the street."""
        kerb = self.kerb["left" if rng.uniform() < 0.5 else "right"]
        inner = self.road.half + 0.3
        return float(np.sign(kerb)) * rng.uniform(inner, max(abs(kerb) - 0.3, inner + 0.2))

    def _send_people(self) -> None:
        """Pedestrians in groups, cyclists, and what stands about without a name."""
        rng = stream(self.seed, "people")
        u = rng.uniform
        count = rng.poisson(5.5 * self.busy * u(0.1, 1.9))
        while count > 0:
            group, z, s = min(count, int(u(1, 3.5))), 5.5 + 52 * u(), self._pavement(rng)
            if u() < 0.08:
                s = u(-self.road.half, self.road.half)  # crossing
            for at in self.road.at(s + np.arange(group) * u(0.45, 0.8), z + u(-0.3, 0.3, group)):
                self._movers += 1
                self._place(person, at[2], at, 1, rng, at[0], at[2], self._movers)
            count -= group
        for _ in range(rng.poisson(0.9 * self.busy)):
            sign, along = (-1 if u() < 0.6 else 1), u() < 0.6
            at = self.road.at(sign * self.road.half * u(0.5, 0.9), 5.5 + 40 * u())
            self._movers += 1
            self._place(cyclist, at[2], at, 1, rng, at[0], at[2], along, self._movers)
        for _ in range(rng.poisson(3.2 * self.busy)):
            at = self.road.at(self._pavement(rng), u(6, 40))
            self._place(clutter, at[2], at, 1, rng, at[0], at[2])

    def _plant_poles(self) -> None:
        rng = stream(self.seed, "thin")
        u = rng.uniform
        for sign in (-1, 1):
            s = sign * (self.road.half + 0.35)
            places = [("lamp", z) for z in np.arange(u(8, 50), 85, u(32, 60) / max(self.thin, 0.3))]
            for kind, rate in (("sign", 1.6), ("light", 0.9)):
                places += [(kind, 6 + 50 * u()) for _ in range(rng.poisson(rate * self.thin))]
            z, step, row = u(5, 20), u(1.5, 3), int(u(3, 12))
            if u() < 0.3 * self.thin:
                places += [("bollard", z + k * step) for k in range(row)]
            for kind, z in places if self.thin else ():
                at = self.road.at(s, z)
                self._place(pole, z, at, 3, rng, at[0], z, kind)
                if kind == "lamp":
                    self.lamps.append((at[0] - sign, z))
