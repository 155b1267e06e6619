"""A dash-cam scene: the photograph, and the maps that come with it."""

from __future__ import annotations

import operator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from seglib.data.render.canvas import SCALE, VOID
from seglib.data.render.layout import Street, stream
from seglib.data.render.light import LIGHTS, develop, draw_light
from seglib.data.render.things import (
    BICYCLIST,
    BUILDING,
    CAR,
    FENCE,
    LANE,
    PAVEMENT,
    PEDESTRIAN,
    POLE,
    ROAD,
    SIGN,
    TREE,
)
from seglib.util.suggest import did_you_mean

_MISTAKEN = {  # what a tired annotator takes for what
    BUILDING: TREE,
    POLE: SIGN,
    PAVEMENT: ROAD,
    TREE: BUILDING,
    SIGN: POLE,
    FENCE: BUILDING,
    CAR: BUILDING,
    PEDESTRIAN: BICYCLIST,
    BICYCLIST: PEDESTRIAN,
}


class Scene(NamedTuple):
    """A rendered scene: what a camera sees, and what is there."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    semantic: NDArray[np.uint8]  # (H, W) labels of STREET_CLASSES, 11 lane marking, 255 void
    instance: NDArray[np.int32]  # (H, W) cars, pedestrians, cyclists: 1, 2, …; 0 elsewhere
    depth: NDArray[np.float32]  # (H, W) metres along the optical axis; infinite in the sky


def render_scene(
    seed: int,
    height: int = 144,
    width: int = 192,
    *,
    light: str = "day",
    clutter: float = 1.0,
    thin: float = 1.0,
    noise: float = 1.0,
    label_noise: float = 0.0,
    void_border: int = 0,
    lane: bool = False,
) -> Scene:
    """Draw the street scene of `seed`; the same masks on every machine.

    `light`, `noise`, `label_noise`, `void_border` and `lane` leave everything in its place: the
    same street by day and by night. Meant for shapes between 3:4 and 9:16; a seed shows the same
    street at every size of the same shape.

    Args:
        seed: 0 … 2³² − 1.
        height, width: of the image, 32–4096 pixels.
        light: "day" (sunny, overcast or dull), "dusk", "night" or "rain".
        clutter: multiplies the expected number of cars, people and things about, 0–5.
        thin: multiplies the number of poles and signs, 0–5 (of lamps from 0.3 on; 0 removes all
            three), and of a railing's bars, which are seen but do not change its label.
        noise: multiplies the sensor's noise, 0–20.
        label_noise: share of things whose label is another class's, as a tired annotator's
            would be, 0–1: a car, person or cyclist as a whole, all else part by part (a wall, a
            roof, a crown, a pavement); sky, road and void never. `instance` and `depth` stay exact.
        void_border: pixels on either side of every border between classes that become void, 0–10;
            1 imitates Pascal VOC.
        lane: whether lane markings are a class of their own, 11, instead of road.

    Raises ValueError for a knob out of its range.
    """
    _check(locals())
    street = Street(seed, height, width, clutter, thin)
    canvas, rng = street.canvas, stream(seed, "light")
    look = draw_light(rng, light, street.overcast)
    image = develop(canvas, np.array(street.lamps).reshape(-1, 2), look, rng, noise)

    named = canvas.named[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
    table = canvas.table
    labels = table[0].astype(np.uint8)
    if label_noise:
        labels = _mislabel(labels, table[1].astype(int), canvas.owners(), seed, label_noise)
    semantic = labels[named]
    if not lane:
        semantic[semantic == LANE] = ROAD
    if void_border:
        semantic = _blank_borders(semantic, void_border)

    instance = table[1].astype(np.int32)[named]
    numbers = np.unique(instance[instance > 0])
    instance = np.where(instance > 0, np.searchsorted(numbers, instance) + 1, 0).astype(np.int32)
    right, down = canvas.camera.rays(height, width)
    a, b, c = table[2:5].take(named, 1)
    with np.errstate(divide="ignore"):
        depth = np.where(named > 0, 1 / np.maximum(a * right + b * down + c, 1e-4), np.inf)
    return Scene(image, semantic, instance, depth.astype(np.float32))


def _check(knobs: dict[str, object]) -> None:
    light = knobs["light"]
    if light not in LIGHTS:
        hint = did_you_mean(str(light), LIGHTS)
        raise ValueError(f"light is {light!r}{hint}; expected one of {', '.join(LIGHTS)}")
    for name, low, high, whole in (
        ("seed", 0, 2**32 - 1, True),
        ("height", 32, 4096, True),
        ("width", 32, 4096, True),
        ("clutter", 0, 5, False),
        ("thin", 0, 5, False),
        ("noise", 0, 20, False),
        ("label_noise", 0, 1, False),
        ("void_border", 0, 10, True),
    ):
        value = knobs[name]
        kind = "a whole number" if whole else "a number"
        try:
            number = operator.index(value) if whole else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = None
        if number is None or not low <= number <= high:
            raise ValueError(f"{name} is {value!r}; pass {kind} from {low} to {high}")


def _mislabel(
    labels: NDArray[np.uint8],
    instance: NDArray[np.int_],
    owner: NDArray[np.int_],
    seed: int,
    share: float,
) -> NDArray[np.uint8]:
    """Give this share of the things the label of another class; an instance as a whole."""
    thing = np.where(instance > 0, instance, instance.max(initial=0) + 1 + owner)
    wrong = stream(seed, "labels").uniform(0, 1, thing.max() + 2)[thing] < share
    mistaken = np.arange(256, dtype=np.uint8)
    mistaken[list(_MISTAKEN)] = list(_MISTAKEN.values())
    return np.where(wrong, mistaken[labels], labels)


def _blank_borders(semantic: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Void where another class is at most `pixels` away, counting rows and columns alike."""
    window = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    border = cv2.dilate(semantic, window) != cv2.erode(semantic, window)
    return np.where(border, VOID, semantic).astype(np.uint8)
