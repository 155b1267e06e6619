"""How often each class occurs, and whether a data set is sound: one pass over the masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seglib.util.progress import progress as progress_bar

if TYPE_CHECKING:
    from seglib.data.dataset import SegmentationDataset


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Pixel and image counts of C classes.

    Median-frequency weights divide `pixels` by `image_pixels`, not by the total: a class that is
    seen in few images is not rare where it is seen.
    """

    classes: tuple[str, ...]
    pixels: NDArray[np.int64]  # (C,) pixels of each class
    images: NDArray[np.int64]  # (C,) images that contain the class
    image_pixels: NDArray[np.int64]  # (C,) valid pixels of the images that contain the class
    void: int  # pixels with ignore_index
    total_images: int

    @property
    def share(self) -> NDArray[np.float64]:
        """Each class's fraction of the valid pixels: float64 (C,); NaN if there are none."""
        valid = int(self.pixels.sum())
        return self.pixels / valid if valid else np.full(len(self.classes), np.nan)

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that no image contains."""
        return tuple(name for name, n in zip(self.classes, self.images, strict=True) if n == 0)

    @property
    def only_background(self) -> bool:
        """Whether all masks together hold only label 0 and void: the trap of masks of 0 and 255."""
        rest = self.pixels[1:]
        return bool(len(rest) and self.pixels[0] > 0 and not rest.any() and self.void > 0)

    def table(self) -> str:
        """A table for printing: per class its pixels, their share and the images it is in."""
        width = max(map(len, (*self.classes, "class")))
        lines = [f"{'class':<{width}}  {'pixels':>13}  {'share':>7}  images"]
        for name, pixels, share, images in zip(
            self.classes, self.pixels, self.share, self.images, strict=True
        ):
            lines.append(f"{name:<{width}}  {pixels:>13,}  {100 * share:>6.2f}%  {images:>6}")
        lines.append(f"{'void':<{width}}  {self.void:>13,}  (not counted in the shares)")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


@dataclass(frozen=True, eq=False)
class Report:
    """What `dataset.check()` found: problems to mend, notes to know, and the class statistics.

    The statistics count the sound pairs only.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    statistics: ClassStatistics
    images: int  # pairs looked at

    @property
    def ok(self) -> bool:
        """Whether no problem was found; notes do not count."""
        return not self.problems

    def table(self) -> str:
        """The whole report for printing."""
        number = len(self.problems)
        verdict = "no problems" if self.ok else f"{number} problem{'s' * (number > 1)}"
        lines = [f"{self.images} images checked: {verdict}"]
        lines += [f"  problem: {text}" for text in self.problems]
        lines += [f"  note: {text}" for text in self.notes]
        return "\n".join([*lines, "", self.statistics.table()])

    def __str__(self) -> str:
        return self.table()


def class_statistics(dataset: SegmentationDataset, progress: bool = True) -> ClassStatistics:
    """Count the classes of a data set in one pass over its masks; the images stay closed.

    Raises what `dataset.read_mask` raises for the first mask that cannot be used.
    """
    counter = _Counter(dataset)
    for index in _indices(dataset, progress, "counting classes"):
        counter.add(dataset.read_mask(index))
    return counter.result()


def check(dataset: SegmentationDataset, progress: bool = True) -> Report:
    """Read every pair of a data set and collect all problems, not only the first."""
    counter, problems = _Counter(dataset), []
    for index in _indices(dataset, progress, "checking"):
        try:
            _, mask = dataset.read(index)
        except (OSError, ValueError) as error:
            problems.append(str(error))
        else:
            counter.add(mask)
    statistics = counter.result()
    notes = []
    if statistics.only_background and dataset.ignore_index:
        problems.append(void_trap(statistics, dataset.ignore_index))
    elif statistics.absent and statistics.total_images:
        notes.append(f"no pixel of {', '.join(statistics.absent)} in any mask")
    return Report(tuple(problems), tuple(notes), statistics, len(dataset))


class _Counter:
    """Adds up masks (H, W) uint8 for a `ClassStatistics`."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.classes, self.ignore_index = dataset.classes, dataset.ignore_index
        self.pixels = np.zeros(dataset.num_classes, np.int64)
        self.images, self.image_pixels = self.pixels.copy(), self.pixels.copy()
        self.void = self.total = 0

    def add(self, mask: NDArray[np.uint8]) -> None:
        counts = np.bincount(mask.ravel(), minlength=256)
        self.void += int(counts[self.ignore_index])
        counts[self.ignore_index] = 0  # void stays void even where it has a class's number
        pixels = counts[: len(self.classes)]
        self.pixels += pixels
        self.images += pixels > 0
        self.image_pixels += np.where(pixels > 0, pixels.sum(), 0)
        self.total += 1

    def result(self) -> ClassStatistics:
        return ClassStatistics(
            self.classes, self.pixels, self.images, self.image_pixels, self.void, self.total
        )


def void_trap(statistics: ClassStatistics, ignore_index: int) -> str:
    """The message for masks whose foreground is written as void."""
    names = statistics.classes[1:]
    return (
        f"the only labels in {statistics.total_images} masks are 0 and {ignore_index}, which is "
        f"ignore_index: {statistics.void:,} pixels would be left out as void, and of "
        f"{', '.join(names)} there are none; if {ignore_index} means {names[0]}, pass "
        f"label_map={{{ignore_index}: 1}} (--label_map {ignore_index}:1)"
    )


def _indices(dataset: SegmentationDataset, progress: bool, description: str) -> Iterable[Any]:
    indices = range(len(dataset))
    return progress_bar(indices, desc=description) if progress else indices
