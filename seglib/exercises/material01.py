"""The small pictures that the judges of lesson 1 use."""

from __future__ import annotations

import numpy as np

VOID = 255
Pair = tuple[np.ndarray, np.ndarray]  # an image and its mask


def discs() -> Pair:
    """A grainy photo 360×480 and its mask: sixteen discs (label 5) in the upper left half."""
    rng, mask = np.random.default_rng(0), np.full((360, 480), 3, np.uint8)
    y, x = np.mgrid[:360, :480]
    for row, column in np.ndindex(4, 4):
        place = np.array([30 + 60 * row, 30 + 60 * column]) + rng.uniform(-5, 5, 2)
        mask[np.hypot(y - place[0], x - place[1]) < rng.uniform(15, 25)] = 5
    photo = np.where(mask[..., None] == 5, (210, 90, 160), (60, 80, 100))
    grain = rng.integers(-40, 41, photo.shape)  # an average smooths it, a single pixel does not
    return (photo + grain).astype(np.uint8), mask


def label_maps() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Three predictions and truths, uint8; of the classes 0 to 4, 3 is absent, 4 only predicted."""
    rng = np.random.default_rng(3)
    true, called = np.array([[0, 1, 2, VOID], [0, 1, 2, 4]], np.uint8)
    truths = [rng.choice(true, size, p=[0.5, 0.2, 0.1, 0.2]) for size in ((6, 8), (6, 8), (5, 9))]
    truths[2][truths[2] == 2] = 0  # an image without class 2
    others = [rng.choice(called, truth.shape) for truth in truths]
    pairs = zip(truths, others, strict=True)
    return [np.where(rng.random(a.shape) < 0.6, a % VOID, b) for a, b in pairs], truths
