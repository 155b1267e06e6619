"""What the exercises of lesson 4 are about: a log of drives, and a lesion at a limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One frame of a log: its drive, its time since the drive began, and the classes it shows."""

    drive: str
    second: float
    classes: frozenset[str]

    def __repr__(self) -> str:
        """With the classes in order, so that a notebook prints the same in each run."""
        return f"Frame({self.drive!r}, {self.second:g} s, {', '.join(sorted(self.classes))})"


def driving_log() -> list[Frame]:
    """120 frames of five drives, every four seconds one."""
    return _log({"A": 34, "B": 22, "C": 12, "D": 30, "E": 22}, {"B": (8, 15), "D": (19, 26)}, 4)


def hidden_log() -> list[Frame]:
    lengths = {"south": 40, "bridge": 24, "park": 16, "tunnel": 18, "harbour": 26}
    return _log(lengths, {"bridge": (3, 9), "park": (4, 8), "harbour": (15, 22)}, 6)


def _log(lengths: dict[str, int], rare: dict[str, tuple[int, int]], seed: int) -> list[Frame]:
    """Frames in order; `rare` says where bicyclists ride, from one frame of a drive to another."""
    rng = np.random.default_rng(seed)
    always = ["Building", "Car", "Pavement", "Road", "Sky", "Tree"]
    often, frames = ["Fence", "Pedestrian", "Pole", "SignSymbol"], []
    for drive, length in lengths.items():
        low, high = rare.get(drive, (0, 0))
        for i in range(length):
            seen = always + [name for name in often if rng.random() < 0.6]
            seen += ["Bicyclist"] * (low <= i < high)
            frames.append(Frame(drive, 4.0 * i, frozenset(seen)))
    return frames


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
