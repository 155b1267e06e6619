"""What an exercise of lesson 4 is about: lesions at a limit."""

from __future__ import annotations

import numpy as np


def lesion() -> tuple[np.ndarray, tuple[float, float]]:
    """The truth of a lesion, bool (96, 96), and the spacing of its pixels, mm (down, across)."""
    return _blob((96, 96), (0.4, 0.5), 104.0, seed=3), (0.4, 0.5)


def hidden_lesions() -> list[tuple[str, np.ndarray, tuple[float, float]]]:
    """Two more, each after its name."""
    sizes = [(96.0, (80, 110), (0.6, 0.5), 5), (108.0, (96, 96), (0.3, 0.3), 8)]
    name = "another lesion (right on the notebook's), of {} mm², spacing {} mm"
    return [(name.format(area, mm), _blob(n, mm, area, seed), mm) for area, n, mm, seed in sizes]


def _blob(shape: tuple[int, int], mm: tuple[float, float], area: float, seed: int) -> np.ndarray:
    """An irregular region without holes, of this area in mm² up to a pixel of such steps."""
    rng = np.random.default_rng(seed)
    down, across = (size * step for size, step in zip(np.indices(shape), mm, strict=True))
    down, across = down - down.mean(), across - across.mean()
    angle = np.arctan2(down, across)
    radius = 1 + sum(
        rng.uniform(0.05, 0.3) / k * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5)
    )
    distance = np.hypot(down, across) / radius
    return distance <= np.sort(distance, axis=None)[round(area / (mm[0] * mm[1])) - 1]
