"""Scenes and slices that are rendered when they are asked for: as many as one likes, any size."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglib.data.dataset import SegmentationDataset, Transform
from seglib.data.palettes import SCAN_CLASSES, SCAN_PALETTE, STREET_CLASSES, STREET_PALETTE
from seglib.util.suggest import did_you_mean

_WHITE = np.array([[255, 255, 255]], dtype=np.uint8)  # lane markings


class RenderedDataset(SegmentationDataset):
    """Pairs without files: `files[i]` has a name for messages only, and a seed is a group.

    Raises ValueError for a knob that there is not, or that is out of its range.
    """

    _prefix: ClassVar[str]
    _classes: tuple[str, ...]
    _palette: NDArray[np.uint8]

    def __init__(
        self,
        seeds: Sequence[int],
        height: int,
        width: int,
        transform: Transform | None = None,
        **knobs: Any,
    ) -> None:
        self.seeds, self.height, self.width, self.knobs = tuple(seeds), height, width, knobs
        known = set(inspect.signature(self._renderer()).parameters) - {"seed", "height", "width"}
        for knob in knobs.keys() - known:
            hint = did_you_mean(knob, sorted(known))
            names = ", ".join(sorted(known))
            raise ValueError(f"there is no knob {knob!r}{hint}; there are {names}")
        if self.seeds:
            self._render(self.seeds[0])  # a value out of its range shows here
        paths = [Path(f"{self._prefix}_{seed:06}") for seed in self.seeds]
        files = list(zip(paths, paths, strict=True))
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
        return self._renderer()(seed, self.height, self.width, **self.knobs)

    @staticmethod
    def _renderer() -> Callable[..., Any]:
        """The function that renders, imported when it is needed."""
        raise NotImplementedError


class RenderedStreets(RenderedDataset):
    """The street scenes of `seeds`; `knobs` are those of `seglib.data.render.render_scene`.

    With `lane=True` there is a twelfth class, LaneMarking.

    >>> RenderedStreets(range(10_000, 10_500), light="night")
    RenderedStreets(500 images, 11 classes)
    """

    _prefix = "scene"
    _classes: tuple[str, ...] = STREET_CLASSES
    _palette = STREET_PALETTE

    def __init__(
        self,
        seeds: Sequence[int],
        height: int = 144,
        width: int = 192,
        transform: Transform | None = None,
        **knobs: Any,
    ) -> None:
        if knobs.get("lane"):
            self._classes = (*STREET_CLASSES, "LaneMarking")
            self._palette = np.vstack([STREET_PALETTE, _WHITE])
        super().__init__(seeds, height, width, transform, **knobs)

    @staticmethod
    def _renderer() -> Callable[..., Any]:
        from seglib.data.render import render_scene

        return render_scene


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

    @staticmethod
    def _renderer() -> Callable[..., Any]:
        from seglib.data.render import render_scan

        return render_scan
