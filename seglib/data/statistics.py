"""How often each class occurs, and whether a data set is sound: one pass over the masks."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.util.progress import progress as progress_bar

MOST = 10  # lines of a kind in a report


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Pixel and image counts of C classes. (`image_pixels` is for median-frequency weights.)"""

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

    def table(self) -> str:
        """A table for printing: per class its pixels, their share and the images it is in."""
        width = max(map(len, (*self.classes, "class")))
        lines = [f"{'class':<{width}}  {'pixels':>13}  {'share':>7}  images"]
        for row in zip(self.classes, self.pixels, 100 * self.share, self.images, strict=True):
            line = "{:<{width}}  {:>13,}  {:>6.2f}%  {:>6}".format(*row, width=width)
            lines.append(line.replace("nan%", "   –"))
        share = 100 * self.void / max(1, self.void + int(self.pixels.sum()))
        void = f"{'void':<{width}}  {self.void:>13,}  {share:>6.2f}%"
        lines.append(f"{void}  of all pixels (the shares are of the others)")
        return "\n".join(lines)

    __str__ = table


@dataclass(frozen=True, eq=False)
class Report:
    """What `dataset.check()` found: problems to fix, notes to know, and the class statistics."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    statistics: ClassStatistics  # of the sound pairs
    images: int  # pairs looked at

    @property
    def ok(self) -> bool:
        return not self.problems

    def table(self) -> str:
        number = len(self.problems)
        lines = [f"{self.images} images checked: {number or 'no'} problem{'s' * (number != 1)}"]
        kinds: dict[str, list[str]] = {}  # by the last words: the remedy, without names and numbers
        for text in self.problems:
            kinds.setdefault(" ".join(re.findall("[a-z]+", text)[-5:]), []).append(text)
        for texts in kinds.values():
            lines += [f"  problem: {text}" for text in texts[:MOST]]
            lines += [f"  … and {len(texts) - MOST:,} more of this kind"] * (len(texts) > MOST)
        lines += [f"  note: {text}" for text in self.notes]
        return "\n".join([*lines, "", self.statistics.table()])

    __str__ = table


def class_statistics(dataset: Any, progress: bool = True) -> ClassStatistics:
    """Count the classes of a data set in one pass over its masks; the images stay closed.

    `dataset` has classes, ignore_index, a length and `read_mask(i)`, whose errors end the count.
    """
    masks = map(dataset.read_mask, _indices(dataset, progress, "counting classes"))
    return count_classes(masks, dataset.classes, dataset.ignore_index)


def check(dataset: Any, progress: bool = True) -> Report:
    """Read every pair of a data set and collect all problems, not only the first."""
    problems, notes = list(dataset.problems), []

    def sound_masks() -> Iterator[NDArray[np.uint8]]:
        for index in _indices(dataset, progress, "checking"):
            try:
                _, mask = dataset.read(index)
            except (OSError, ValueError) as error:
                problems.append(str(error))
            else:
                yield mask

    statistics = count_classes(sound_masks(), dataset.classes, dataset.ignore_index)
    if reason := nothing_to_learn(statistics, dataset.ignore_index):
        problems.append(reason)
    elif statistics.absent and statistics.total_images:
        notes.append(f"no pixel of {', '.join(statistics.absent)} in any mask")
    return Report(tuple(problems), tuple(notes), statistics, len(dataset))


def count_classes(
    masks: Iterable[NDArray[np.uint8]], classes: tuple[str, ...], ignore_index: int
) -> ClassStatistics:
    """Add up masks, each uint8 (H, W)."""
    pixels, images, image_pixels = np.zeros((3, len(classes)), np.int64)
    void = total = 0
    for mask in masks:
        counts = np.bincount(mask.ravel(), minlength=256)
        void += int(counts[ignore_index])
        counts[ignore_index] = 0  # void stays void even where it has a class's number
        here = counts[: len(classes)]
        pixels += here
        images += here > 0
        image_pixels += np.where(here > 0, here.sum(), 0)
        total += 1
    return ClassStatistics(classes, pixels, images, image_pixels, void, total)


def nothing_to_learn(statistics: ClassStatistics, ignore_index: int) -> str:
    """Why masks teach nothing: one class, no valid pixel, the same label throughout; "" if not."""
    names, number = statistics.classes, statistics.total_images
    if len(names) == 1:
        return (
            f"there is one class only, {names[0]}, which every guess gets right; name the "
            f"background as well: classes background,{names[0]}"
        )
    present = np.flatnonzero(statistics.pixels)
    if number == 0 or len(present) > 1:
        return ""
    if len(present) == 0:
        return (
            f"all {statistics.void:,} pixels of {number} masks are void ({ignore_index}), which "
            "leaves none to learn from; correct label_map or ignore_index"
        )
    label = present[0]
    return void_trap(statistics, ignore_index) or (
        f"the only label in {number} masks is {label} ({names[label]}), which every guess gets "
        "right; expected two classes or more: look whether these are the right masks"
    )


def void_trap(statistics: ClassStatistics, ignore_index: int) -> str:
    """The message for masks that hold only 0 and void, as masks of 0 and 255 do; "" for others."""
    names, void = statistics.classes[1:], ignore_index
    background, *rest = statistics.pixels.tolist()
    if not (rest and background and statistics.void and void) or any(rest):
        return ""
    return (
        f"the only labels in {statistics.total_images} masks are 0 and {void}, the ignore_index: "
        f"{statistics.void:,} pixels would be left out, and of {', '.join(names)} there are none; "
        f"if {void} means {names[0]}, pass label_map={{{void}: 1}} (--label_map {void}:1)"
    )


def _indices(dataset: Any, progress: bool, description: str) -> Iterable[int]:
    indices: Iterable[int] = range(len(dataset))
    return progress_bar(indices, desc=description) if progress else indices
