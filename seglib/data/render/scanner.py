"""From tissue to the picture on an ultrasound machine: speckle, shadows, bright trails.

Tissue is three maps: how strongly it scatters sound (`echo`, dB), the thin reflectors in it
(`detail`, dB), and what each millimetre takes from the sound that passes (`loss`, dB/mm), so that
dense things leave a shadow below them, and fluid, which takes less than tissue, a bright trail.
Echoes of random phase add up under the beam to speckle, whose amplitude has Rayleigh's
distribution. The beam is finer along the sound than across, and widens with depth. The machine
averages two such views, and shows the logarithm.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from seglib.data.render.outlines import Line

BLACK, WHITE = -46.0, 15.0  # dB, against an `echo` of 0
ALONG, ACROSS = 0.16, (0.28, 0.6)  # mm: the beam's standard deviations; across near and far
VIEWS = 2  # what is shown is the mean of so many, each with a speckle of its own
NOISE = 1e-5  # power of the machine's own noise: -50 dB

Map = NDArray[np.float32]  # (H, W)


class Tissue:
    """The maps of a slice, and how millimetres become pixels.

    Outlines are rounded to 1/16 pixel and filled in whole numbers, so that what they cover is the
    same on every machine.
    """

    def __init__(self, height: int, width: int, depth: float, breadth: float) -> None:
        self.depth, self.breadth = depth, breadth  # mm
        self.spacing = depth / height, breadth / width
        self.echo, self.detail, self.loss = np.zeros((3, height, width), np.float32)
        self.semantic = np.zeros((height, width), np.uint8)

    def fill(self, target: NDArray[np.uint8] | Map, outline: Line, value: float) -> None:
        """Give every pixel of `target` (H, W) that `outline` encloses or touches this value."""
        cv2.fillPoly(target, [self._sixteenths(outline)], float(value), shift=4)

    def stroke(self, line: Line, decibels: float) -> None:
        """Draw a reflector one pixel thin."""
        # An outline there and back: cv2.polylines draws other pixels in OpenCV 4 than in 5.
        self.fill(self.detail, np.concatenate([line, line[::-1]]), decibels)

    def blur(self, values: Map, mm: float) -> Map:
        """`values` (H, W) under a Gaussian with a standard deviation of `mm`."""
        across, down = mm / self.spacing[1], mm / self.spacing[0]
        return np.asarray(cv2.GaussianBlur(values, (0, 0), across, sigmaY=down))

    def clouds(self, random: RandomState, mm: float) -> Map:
        """Smooth noise (H, W) around 0, with lumps of about `mm`."""
        grid = random.normal(size=(int(self.depth / mm) + 2, int(self.breadth / mm) + 2))
        size = self.echo.shape[1], self.echo.shape[0]
        return np.asarray(cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC), np.float32)

    def _sixteenths(self, line: Line) -> NDArray[np.int32]:
        pixels = line / self.spacing[::-1] - 0.5  # a pixel's centre has whole coordinates
        return np.rint(16 * pixels).astype(np.int32)


def picture(tissue: Tissue, random: RandomState, speckle: float) -> NDArray[np.uint8]:
    """The slice as the machine shows it, grey: uint8 (H, W)."""
    depth = np.linspace(0, 1, len(tissue.echo), dtype=np.float32)[:, None]
    sliders = random.normal(random.normal(0, 2.5), 1.2, 6)  # dB: the operator's, for six depths
    received = tissue.echo + tissue.detail + np.interp(depth, np.linspace(0, 1, 6), sliders)
    received -= np.cumsum(tissue.blur(tissue.loss, 0.4), axis=0) * tissue.spacing[0]
    strength = (10 ** (received / 20)).astype(np.float32)
    in_phase = strength * tissue.detail / 8  # a smooth reflector answers as one

    waves = random.normal(0, math.sqrt(0.5), (*strength.shape, 2 * VIEWS)).astype(np.float32)
    waves *= strength[..., None]  # the real parts of all views, then the imaginary ones
    waves[..., :VIEWS] += in_phase[..., None]
    echoes = np.zeros_like(waves)
    power = np.zeros_like(strength)  # what a view has on average
    along = _beam(ALONG / tissue.spacing[0])
    for share, mm in zip((1 - depth, depth), ACROSS, strict=True):
        across = _beam(mm / tissue.spacing[1])
        echoes += share[..., None] * cv2.sepFilter2D(waves, -1, across, along)
        power += share * cv2.sepFilter2D(strength**2, -1, across**2, along**2)
        power += share * cv2.sepFilter2D(in_phase, -1, across, along) ** 2

    even = 10 * np.log10(power + NOISE)
    uneven = 10 * np.log10((echoes**2).sum(axis=-1) / VIEWS + NOISE)
    shown = even + speckle * (uneven - even)
    return np.clip(np.rint(255 * (shown - BLACK) / (WHITE - BLACK)), 0, 255).astype(np.uint8)


def _beam(pixels: float) -> NDArray[np.float64]:
    """A Gaussian of this standard deviation that leaves the power of white noise as it is."""
    kernel = cv2.getGaussianKernel(2 * math.ceil(3 * pixels) + 1, pixels)
    return np.asarray(kernel / np.linalg.norm(kernel))
