"""Scenes and slices that are rendered when they are asked for: as many as one likes, any size.

Streets and Scans, which come with the course as files, are in `sets`; the renderer in `render`.
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.data.colours import SCAN_CLASSES, SCAN_PALETTE, STREET_CLASSES, STREET_PALETTE
from seglib.data.dataset import SegmentationDataset, Transform
from seglib.util.suggest import did_you_mean


class RenderedDataset(SegmentationDataset):
    """The pictures of `seeds`; `knobs` and sizes are the renderer's. `files[i]` is but a name.

    Raises ValueError for a knob that there is not, or that is out of its range.
    """

    _function: str  # in seglib.data.render
    _classes: tuple[str, ...]
    _palette: NDArray[np.uint8]

    def __init__(
        self,
        seeds: Sequence[int],
        height: int | None = None,
        width: int | None = None,
        transform: Transform | None = None,
        **knobs: Any,
    ) -> None:
        from seglib.data import render

        self._render: Callable[..., Any] = getattr(render, self._function)
        sizes = {"height": height, "width": width}
        known = sorted(set(inspect.signature(self._render).parameters) - {"seed", *sizes})
        for knob in knobs.keys() - set(known):
            hint = did_you_mean(knob, known)
            raise ValueError(f"there is no knob {knob!r}{hint}; there are {', '.join(known)}")
        self.seeds = tuple(seeds)
        self.knobs = knobs | {name: size for name, size in sizes.items() if size is not None}
        names = [Path(f"{self._function.removeprefix('render_')}_{seed:06}") for seed in seeds]
        classes, palette = self._classes, self._palette
        if knobs.get("lane"):
            classes, palette = (*classes, "LaneMarking"), np.vstack([palette, [[255, 255, 255]]])
        files = list(zip(names, names, strict=True))
        super().__init__(files, classes, palette=palette, transform=transform)
        if files:
            self.read(0)  # a value out of its range shows here

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Render pair `index` without the transform: uint8 (H, W, 3) and uint8 (H, W)."""
        self._pair(index)  # IndexError beyond the end
        shown = self._render(self.seeds[index], **self.knobs)
        return shown.image, shown.semantic

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        return self.read(index)[1]


class RenderedStreets(RenderedDataset):
    """Street scenes, 144×192 unless told otherwise; with `lane=True` LaneMarking is a class, too.

    >>> RenderedStreets(range(10_000, 10_500), light="night")
    RenderedStreets(500 images, 11 classes)
    """

    _function, _classes, _palette = "render_scene", STREET_CLASSES, STREET_PALETTE


class RenderedScans(RenderedDataset):
    """Slices as those of `Scans`, 128×128 unless told otherwise."""

    _function, _classes, _palette = "render_scan", SCAN_CLASSES, SCAN_PALETTE
