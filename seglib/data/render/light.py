"""From polygon numbers to a photograph: light, shadows, haze, lamps, rain, the camera's flaws."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from seglib.data.render.canvas import SCALE, Array, Canvas

Map = NDArray[Any]  # float32 (H, W), or (H, W, 3)

LIGHTS = ("day", "dusk", "night", "rain")


class Light(NamedTuple):
    """The light of one scene."""

    zenith: Array  # (3,) colour of the sky, 0–255 and beyond
    horizon: Array  # (3,)
    clouds: float  # their contrast
    exposure: float  # what falls on the street; 1 on a bright, overcast day
    sun: float  # 0: no shadows; 1: they are black
    haze: float  # metres after which two thirds of the contrast are gone
    lamps: float  # strength of lamps and lit windows; from 1 on they have halos
    wet: float  # reflections in the ground
    noise: float  # standard deviation of the sensor's noise, grey levels
    blur: float  # standard deviation of the lens's blur, 1/144 of the height
    tint: Array  # (3,) colour of the light


def draw_light(rng: RandomState, name: str, overcast: bool) -> Light:
    """Draw the light of a scene: one of `LIGHTS`. An overcast day may be a dull one."""
    u = rng.uniform
    blur, white = u(0.15, 0.45), 1 + u(-0.15, 0.15) * np.array([1, 0, -1])
    dull = u() < 0.42
    if name == "rain":
        grey = np.full(3, u(130, 190))
        return Light(
            grey * 0.85,
            grey,
            0.15,
            u(0.45, 0.75),
            0,
            u(50, 140),
            1,
            u(0.4, 0.7),
            u(2, 4),
            blur + 0.4,
            white,
        )
    if name == "dusk":
        warm = u(0.7, 1.1)
        return Light(
            np.array([58, 72, 118]) * warm,
            np.array([226, 150, 104]) * warm,
            u(0.05, 0.3),
            u(0.3, 0.45),
            0,
            u(150, 500),
            1,
            0,
            u(2.5, 5),
            blur,
            white * (1, 0.92, 1.05),
        )
    if name == "night":
        return Light(
            np.array([8, 10, 20]) * u(0.6, 1.3),
            np.array([34, 30, 34]),
            u(0, 0.2),
            u(0.09, 0.16),
            0,
            u(200, 600),
            1.3,
            0,
            u(4, 8),
            blur,
            white * (0.9, 0.95, 1.15),
        )
    if overcast and dull:  # a heavy sky over a dark street
        return Light(
            np.array([88, 100, 106]) * u(0.8, 1.5),
            np.array([176, 188, 192]),
            u(0.1, 0.45),
            u(0.3, 0.6),
            0,
            u(150, 900),
            0.35,
            0,
            u(1, 3),
            blur,
            white,
        )
    blue = np.full(3, u(225, 270)) if overcast else np.array([176, 212, 246]) * u(0.6, 1.1)
    return Light(
        blue,
        np.full(3, u(225, 270)),
        u(0, 0.12),
        u(0.55, 1.35),
        0 if overcast else u(0.2, 0.65),
        u(150, 900),
        0.35,
        0,
        u(0.8, 3),
        blur,
        white,
    )


@lru_cache(maxsize=1)
def _tiles() -> tuple[Map, Map, Map]:
    """Noise (256, 256) without seams, mean 0, deviation 1: white, fine, and smooth."""
    rng = RandomState(20)  # a frozen stream, see layout.stream
    tiles = []
    for sigmas in ((0,), (0, 1, 2.5), (3, 7, 16)):
        tile = np.zeros((256, 256), np.float32)
        for sigma in sigmas:
            layer: Map = np.tile(rng.standard_normal((256, 256)), (2, 2)).astype(np.float32)
            layer = cv2.GaussianBlur(layer, (0, 0), sigma) if sigma else layer
            tile += (layer / layer.std())[128:384, 128:384]
        tiles.append((tile - tile.mean()) / tile.std())
    return tiles[0], tiles[1], tiles[2]


def _look_up(tile: Map, x: Map, y: Map, shift: Map) -> Map:
    """The tile's values at (x, y), repeated without end."""
    return tile[(y + shift[1]).astype(np.int32) & 255, (x + shift[0]).astype(np.int32) & 255]


def develop(
    canvas: Canvas, lamps: Array, light: Light, rng: RandomState, noise: float
) -> NDArray[np.uint8]:
    """The photograph: uint8 (H, W, 3) RGB. `lamps` (n, 2) stand at (x, z); `noise` multiplies the
    sensor's noise."""
    middle, size = slice(SCALE // 2, None, SCALE), (canvas.width, canvas.height)
    right, down = canvas.camera.rays(canvas.height, canvas.width)
    a, b, c, grain, ground, glow = canvas.table[2:].take(canvas.seen[middle, middle], 1)
    depth = 1 / np.maximum(a * right + b * down + c, 1e-3)

    packed = canvas.colours().view(np.int32)[:, 0].take(canvas.seen)  # four bytes at once
    rgba = packed.view(np.uint8).reshape(*packed.shape, 4)
    area = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    albedo, sky_share = area[..., :3], area[..., 3:] / 255

    # Grain lives in the world, not on the screen: it shrinks with the distance.
    _, fine, smooth = _tiles()
    shift = rng.uniform(0, 256, 2).astype(np.float32)
    x, y = right * depth, np.float32(canvas.camera.eye) - down * depth
    along, up = x + 0.8 * depth, y + 0.6 * depth
    texture = 0.6 * _look_up(smooth, along * 9, up * 9, shift)
    texture += 0.5 * _look_up(fine, along * 24, up * 24, shift) / (1 + depth / 12)
    shine = ground * np.minimum(depth, 60) / 30  # seen at a grazing angle, tar is bright
    gain = np.minimum(np.maximum(1 + grain * (texture + shine), 0.2), 2.5)
    if light.sun:
        shadow = cv2.resize(canvas.shadow, size, interpolation=cv2.INTER_AREA) / np.float32(255)
        gain *= 1 - light.sun * shadow * ground
    lit = (light.exposure * light.tint).astype(np.float32)
    if light.exposure < 0.2:
        lit = lit + _lamp_light(lamps, right, down, x, y, depth)
    picture = albedo * (gain[..., None] * lit)
    shining = albedo * (glow * light.lamps)[..., None]
    picture += shining if light.lamps >= 1 else 0.25 * shining

    sky = _sky(light, right, down, smooth, shift)
    if light.wet:
        picture = _wet(
            picture,
            sky,
            sky_share,
            ground * (0.7 + 0.3 * texture),
            light.wet,
            canvas.camera.horizon,
        )
    clear = np.exp(-depth / light.haze)[..., None]
    haze = light.horizon.astype(np.float32) * 0.8
    picture = picture * clear + (1 - sky_share) * (1 - clear) * haze + sky_share * sky
    return _photograph(picture, shining, light, rng, noise)


def _lamp_light(lamps: Array, right: Map, down: Map, x: Map, y: Map, depth: Map) -> Map:
    """What street lamps and one's own headlights add at night: (H, W, 3)."""
    warm = np.zeros_like(depth)
    for lamp_x, lamp_z in lamps.astype(np.float32):
        warm += np.exp(-((x - lamp_x) ** 2 + (depth - lamp_z) ** 2 + (y / 2) ** 2) / 60)
    beam = np.exp(-(((right - 0.02) / 0.35) ** 2) - ((down - 0.06) / 0.11) ** 2)
    beam *= np.minimum(1, 14 / depth)
    colours = np.array([(0.35, 0.27, 0.16), (0.5, 0.48, 0.45)], np.float32)
    return warm[..., None] * colours[0] + beam[..., None] * colours[1]


def _sky(light: Light, right: Map, down: Map, tile: Map, shift: Map) -> Map:
    """The sky along each ray, clouds drawn out towards the horizon: (H, W, 3)."""
    above = np.maximum(-down, 0)
    far = 1 / (above + 0.15)
    clouds = 1 + 0.4 * light.clouds * _look_up(tile, right * far * 20, far * 30, shift)
    share = np.minimum(1, above * 2.2)[..., None]
    low, high = light.horizon.astype(np.float32), light.zenith.astype(np.float32)
    return (low + (high - low) * share) * clouds[..., None]


def _wet(picture: Map, sky: Map, sky_share: Map, ground: Map, wet: float, horizon: float) -> Map:
    """Mirror what stands above the ground in it."""
    rows = np.rint(2 * horizon - np.arange(len(picture))).clip(0, len(picture) - 1).astype(int)
    mirrored = cv2.blur((picture + sky_share * sky)[rows], (3, 9))
    strength = (0.6 * wet * np.clip(ground, 0, 1))[..., None]
    return picture * (1 - strength) + strength * mirrored


def _photograph(
    picture: Map, shining: Map, light: Light, rng: RandomState, noise: float
) -> NDArray[np.uint8]:
    """Halos of lamps, blur, vignetting, noise, and a curve that saves what it can of the lights."""
    height, width = picture.shape[:2]
    if light.lamps >= 1:
        picture = picture + 0.9 * cv2.GaussianBlur(shining, (0, 0), 2.2 * height / 144)
    picture = cv2.GaussianBlur(picture, (0, 0), max(light.blur * height / 144, 0.1))
    if rng.uniform() < 0.1:  # the car moves while the shutter is open
        picture = cv2.blur(picture, (1 + 2 * int(rng.uniform(1, 2) * height / 144), 1))
    x, y = np.linspace(-1, 1, width) ** 2, np.linspace(-1, 1, height)[:, None] ** 2
    picture = picture * np.asarray(1 - rng.uniform(0.02, 0.12) * (x + y), np.float32)[..., None]
    white = _tiles()[0]
    for channel in range(4):  # one grain in each colour, and one in all
        at = rng.uniform(0, 256, 2)
        rows, columns = np.arange(height)[:, None] + int(at[0]), np.arange(width) + int(at[1])
        grain = white[rows & 255, columns & 255] * np.float32(noise * light.noise)
        picture += 0.56 * grain[..., None] if channel == 3 else 0
        if channel < 3:
            picture[..., channel] += 0.8 * grain
    bright = picture > 220
    picture[bright] = 255 - 35 * np.exp((220 - picture[bright]) / 35)
    return np.rint(np.maximum(picture, 0)).astype(np.uint8)
