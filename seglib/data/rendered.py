"""Scenes and slices that are rendered when they are asked for: as many as one likes, any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglib.data.base import SegmentationDataset, Transform
from seglib.data.palettes import SCAN_CLASSES, SCAN_PALETTE, STREET_CLASSES, STREET_PALETTE


class RenderedDataset(SegmentationDataset):
    """Pairs without files: `files[i]` has a name for messages only, and a seed is a group."""

    _prefix: ClassVar[str]
    _classes: ClassVar[tuple[str, ...]]
    _palette: ClassVar[NDArray[np.uint8]]

    def __init__(
        self,
        seeds: Sequence[int],
        height: int = 144,
        width: int = 192,
        transform: Transform | None = None,
        **knobs: Any,
    ) -> None:
        self.seeds, self.height, self.width, self.knobs = tuple(seeds), height, width, knobs
        names = [Path(f"{self._prefix}_{seed:06}") for seed in self.seeds]
        files = list(zip(names, names, strict=True))
        super().__init__(files, self._classes, palette=self._palette, transform=transform)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Render pair `index` without the transform: uint8 (H, W, 3) and uint8 (H, W)."""
        self._pair(index)  # IndexError beyond the end
        shown = self._render(self.seeds[index])
        return shown.image, shown.semantic

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """The mask of pair `index`: uint8 (H, W). It takes as long as the pair."""
        return self.read(index)[1]

    def _render(self, seed: int) -> Any:
        raise NotImplementedError


class RenderedStreets(RenderedDataset):
    """The street scenes of `seeds`; `knobs` are those of `seglib.data.render.render_scene`.

    >>> RenderedStreets(range(10_000, 10_500), light="night")
    RenderedStreets(500 images, 11 classes)
    """

    _prefix, _classes, _palette = "scene", STREET_CLASSES, STREET_PALETTE

    def _render(self, seed: int) -> Any:
        from seglib.data.render import render_scene

        return render_scene(seed, self.height, self.width, **self.knobs)


class RenderedScans(RenderedDataset):
    """The slices of `seeds`; `knobs` are those of `seglib.data.render.scan.render_scan`."""

    _prefix, _classes, _palette = "scan", SCAN_CLASSES, SCAN_PALETTE

    def __init__(
        self,
        seeds: Sequence[int],
        height: int = 128,
        width: int = 128,
        transform: Transform | None = None,
        **knobs: Any,
    ) -> None:
        super().__init__(seeds, height, width, transform, **knobs)

    def _render(self, seed: int) -> Any:
        from seglib.data.render.scan import render_scan

        return render_scan(seed, self.height, self.width, **self.knobs)
