"""Slices that look like ultrasound, with exact masks: tissue, vessels and, mostly, a lesion.

Lengths are millimetres until they are drawn: a seed shows the same anatomy at every size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from seglib.data.render.outlines import Line, free_spot, outline, wave
from seglib.data.render.scanner import Tissue, picture

LESION, VESSEL = 1, 2


@dataclass(frozen=True, eq=False)
class Scan:
    """A slice: what is seen, what it is, and how large its pixels are."""

    image: NDArray[np.uint8]  # (H, W, 3), three equal channels
    semantic: NDArray[np.uint8]  # (H, W): 0 background, 1 lesion, 2 vessel
    spacing: tuple[float, float]  # mm per row, mm per column


def render_scan(
    seed: int,
    height: int = 128,
    width: int = 128,
    *,
    lesion_size: float | None = None,
    contrast: float = 1.0,
    lesion: bool | None = None,
    speckle: float = 1.0,
) -> Scan:
    """Draw the slice of `seed`: 30 to 60 mm deep, 38 or 50 mm broad, with up to three vessels.

    Args:
        seed: 0 … 2³² − 1. The knobs below change what they name, and nothing else of the slice.
        lesion_size: the lesion's fraction of all pixels, 0.001–0.1; None draws 0.012–0.038.
            A large one may cover a vessel.
        contrast: how far the lesion stands out, 0 (not at all) to 5; the mask has it anyway.
        lesion: whether there is one; None leaves it out of one slice in five.
        speckle: multiplies the speckle, 0 to 5; 0 leaves the mean of the echoes.

    Raises ValueError for a knob out of range, and for less than 32 or more than 4096 pixels a side.
    """
    _check(seed, height, width, lesion_size, contrast, speckle)
    # NEP 19 froze the streams of RandomState for good; those of a Generator may change.
    anatomy, disease, noise = (RandomState([seed, stream]) for stream in range(3))
    depth = 5.0 * int(anatomy.uniform(6, 13))  # as one turns the machine's knob: 30, 35 … 60 mm
    breadth = 38.0 if anatomy.uniform() < 0.5 else 50.0  # two probes
    tissue = Tissue(height, width, depth, breadth)
    _add_layers(tissue, anatomy)
    taken = _add_vessels(tissue, anatomy)
    taken += _add_lobules(tissue, anatomy, taken)
    by_chance, size = disease.uniform() < 0.8, disease.uniform(0.012, 0.038)
    if by_chance if lesion is None else lesion:
        _add_lesion(tissue, disease, taken, size if lesion_size is None else lesion_size, contrast)
    grey = picture(tissue, noise, speckle)
    return Scan(np.repeat(grey[..., None], 3, axis=2), tissue.semantic, tissue.spacing)


def _check(
    seed: int, height: int, width: int, size: float | None, contrast: float, speckle: float
) -> None:
    fraction = 0.01 if size is None else size
    limits = (
        ("seed", seed, 0, 2**32 - 1, "every whole number between them is a slice"),
        ("height", height, 32, 4096, "render it at such a size, then resize image and mask"),
        ("width", width, 32, 4096, "render it at such a size, then resize image and mask"),
        ("lesion_size", fraction, 0.001, 0.1, "pass a fraction of the pixels: 0.02 is 2 %"),
        ("contrast", contrast, 0, 5, "pass 1 for the usual, 0 for an invisible lesion"),
        ("speckle", speckle, 0, 5, "pass 1 for the usual, 0 for none"),
    )
    for name, value, low, high, remedy in limits:
        if not low <= value <= high:
            raise ValueError(f"found {name} = {value}, expected {low} to {high}; {remedy}")


def _add_layers(tissue: Tissue, random: RandomState) -> None:
    """Skin, fat and muscles with their sheaths and fibres; at times bone, or a poor contact."""
    below = np.array([(tissue.breadth + 9, tissue.depth + 9), (-9, tissue.depth + 9)])
    top, bottom, slope = random.uniform(1, 2), random.uniform(4, 11), 0.0
    tissue.echo -= 9
    while top < tissue.depth:
        border = wave(random, tissue.breadth, top, min(1.0, 0.1 * top), slope)
        layer = np.concatenate([border, below])
        tissue.fill(tissue.echo, layer, random.uniform(-24, -13))
        tissue.fill(tissue.detail, layer, 0)
        _add_fibres(tissue, random, top, bottom, slope)
        for _ in range(int(random.uniform(1, 3))):
            tissue.stroke(border + np.array([0, random.normal(0, 0.4)]), random.uniform(6, 13))
        top, bottom = bottom, bottom + random.uniform(4, 16)
        slope += random.uniform(-0.12, 0.12)
    tissue.detail *= np.clip(0.9 + 0.35 * tissue.clouds(random, 4), 0, None)
    tissue.echo += 2 * tissue.clouds(random, 7)
    tissue.loss += random.uniform(0.15, 0.5)
    if random.uniform() < 0.4:  # a poor contact of the probe
        x, half = random.uniform(0, tissue.breadth), random.uniform(2, 6)
        strip = np.array([(x - half, -1), (x + half, -1), (x + half, 1), (x - half, 1)])
        tissue.fill(tissue.loss, strip, random.uniform(2, 8))
        tissue.loss = tissue.blur(tissue.loss, 1.2)
    if random.uniform() < 0.3:  # bone, which lets nothing pass
        depth = random.uniform(0.82, 0.95) * tissue.depth
        bone = wave(random, tissue.breadth, depth, 1.2, 0)
        for k in range(3):
            tissue.stroke(bone + np.array([0, 0.3 * k]), 16 - 4 * k)
        tissue.fill(tissue.loss, np.concatenate([bone, below]) + np.array([0, 1]), 5)


def _add_fibres(
    tissue: Tissue, random: RandomState, top: float, bottom: float, slope: float
) -> None:
    """Short bright threads, more or less along the layer."""
    number = int((bottom - top) * tissue.breadth * random.uniform(0.02, 0.2))
    middle = random.uniform((0, top), (tissue.breadth, bottom), (number, 2))
    middle[:, 1] += slope * (middle[:, 0] - tissue.breadth / 2)
    half = np.stack([np.ones(number), random.normal(slope, 0.12, number)], axis=1)
    half *= 0.4 + random.exponential(1.4, (number, 1))
    bend = np.stack([np.zeros(number), random.normal(0, 0.1, number)], axis=1)
    fibres = np.stack([middle - half, middle + bend, middle + half], axis=1)
    for fibre, decibels in zip(fibres, random.exponential(4.5, number), strict=True):
        tissue.stroke(fibre, min(decibels, 12))


def _add_vessels(tissue: Tissue, random: RandomState) -> list[Line]:
    """Round or oval, with next to no echo, a bright wall above and below, a trail; in 4 of 5."""
    taken: list[Line] = []
    for _ in range(int(np.searchsorted((0.2, 0.55, 0.85), random.uniform()))):
        radius = random.uniform(1.4, 3.8)
        spot = free_spot(random, tissue.breadth, tissue.depth, radius, taken)
        edge = outline(random, spot, radius, random.uniform(0.6, 1.05), 0.04)
        tissue.fill(tissue.echo, edge, random.uniform(-46, -38))
        tissue.fill(tissue.detail, edge, 0)
        tissue.fill(tissue.semantic, edge, VESSEL)
        tissue.fill(tissue.loss, edge, -0.9)
        wall = spot + (1 + 0.3 / radius) * (edge - spot)
        tissue.stroke(wall, 4)
        for part in (wall[10:27], wall[46:63]):  # below and above: the sound meets them square
            tissue.stroke(part, random.uniform(6, 12))
        taken.append(np.append(spot, radius))
    return taken


def _add_lobules(tissue: Tissue, random: RandomState, taken: list[Line]) -> list[Line]:
    """Lobules of fat, not to be taken for a lesion: as dark, but flat, smooth, even, with a rim."""
    found: list[Line] = []
    for _ in range(int(random.uniform(1, 4))):
        radius = random.uniform(1.8, 3.6)
        spot = free_spot(random, tissue.breadth, tissue.depth, radius, taken + found)
        edge = outline(random, spot, radius, random.uniform(0.4, 0.7), 0.1)
        column, row = (spot / tissue.spacing[::-1]).astype(int)
        tissue.fill(tissue.echo, edge, max(tissue.echo[row, column] - random.uniform(5, 9), -28))
        tissue.fill(tissue.detail, edge, 0)
        tissue.stroke(edge, random.uniform(3, 8))
        found.append(np.append(spot, radius))
    return found


def _add_lesion(
    tissue: Tissue, random: RandomState, taken: list[Line], size: float, contrast: float
) -> None:
    """Darker than what is around it, uneven, ragged, with a bright halo and often a shadow."""
    radius = math.sqrt(size * tissue.depth * tissue.breadth / math.pi)
    room = 1.5 * radius  # for its jags
    spot = free_spot(random, tissue.breadth, tissue.depth, room, taken)
    edge = outline(random, spot, radius, random.uniform(0.75, 1.3), 0.4)
    low, high = 0.2, 1.2  # which scale covers the right number of pixels? fill adds a border
    for _ in range(12):
        scale = (low + high) / 2
        mask = np.zeros_like(tissue.semantic)
        tissue.fill(mask, spot + scale * (edge - spot), 1)
        low, high = (scale, high) if mask.sum() < size * mask.size else (low, scale)
    tissue.semantic[mask > 0] = LESION
    inside, near = (tissue.blur(mask.astype(np.float32), mm) for mm in (0.35, 1.0))
    hides = min(contrast, 1) * inside
    tissue.detail -= hides * tissue.detail
    tissue.echo -= hides * (tissue.echo - tissue.echo[mask > 0].mean())
    tissue.echo += contrast * inside * (3.5 * tissue.clouds(random, 1.2) - 7)
    tissue.echo += contrast * 12 * near * (1 - inside)
    tissue.loss += contrast * random.uniform(0, 0.8) * inside
