"""How many scenes and slices a second does the renderer make on one core?"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
from _report import Row, report

from seglib.data.render import render_scan, render_scene

ROUNDS, EACH = 3, 100


def rate(render: Callable[[int], object]) -> float:
    """Pictures a second, the fastest of some rounds over the same seeds."""
    render(0)  # what is made once: noise tiles
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for seed in range(EACH):
            render(seed)
        seconds.append(time.perf_counter() - start)
    return EACH / min(seconds)


def main() -> None:
    cv2.setNumThreads(1)
    rows = [
        Row(
            f"street scenes 144×192, {light}",
            "seglib, one core",
            rate(lambda seed, light=light: render_scene(seed, 144, 192, light=light)),
            "scenes/s",
        )
        for light in ("day", "night", "rain")
    ]
    rows.append(Row("scans 128×128", "seglib, one core", rate(render_scan), "scans/s"))
    report(__file__, rows)


if __name__ == "__main__":
    main()
