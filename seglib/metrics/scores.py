"""Scores from one confusion matrix: per class, their means, and how sure one can be of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A value, the ends of its 95 % interval, and how many groups or seeds it rests on."""

    value: float
    low: float
    high: float
    units: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Scores:
    """Segmentation scores, fractions 0…1, from a confusion matrix (rows truth, columns prediction).

    `images`, int64 (M, C, C), holds the matrix of each image if they were kept apart. Per-class
    arrays are float64 (C,). A class neither in the truth nor predicted is *absent*: NaN, and left
    out of every mean; one predicted but not in the truth has IoU 0. A mean of nothing is NaN.
    """

    matrix: np.ndarray
    classes: tuple[str, ...] = ()
    images: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.classes and len(self.classes) != len(self.matrix):
            raise ValueError(
                f"found {len(self.classes)} class names for {len(self.matrix)} classes"
            )

    @cached_property
    def _hits(self) -> np.ndarray:
        return np.diag(self.matrix).astype(np.float64)

    @cached_property
    def support(self) -> np.ndarray:
        """Pixels of each class in the truth, int64 (C,)."""
        return self.matrix.sum(axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Pixels predicted as each class, int64 (C,)."""
        return self.matrix.sum(axis=0)

    @cached_property
    def iou(self) -> np.ndarray:
        """Intersection over union (Jaccard index)."""
        return ratio(self._hits, self.support + self.predicted - self._hits)

    @cached_property
    def dice(self) -> np.ndarray:
        """2·|A∩B| / (|A|+|B|), also called F1; per class it is 2·IoU / (1 + IoU)."""
        return ratio(2 * self._hits, self.support + self.predicted)

    @cached_property
    def precision(self) -> np.ndarray:
        """Share of the pixels predicted as a class that are of it; NaN where none was."""
        return ratio(self._hits, self.predicted)

    @cached_property
    def recall(self) -> np.ndarray:
        """Share of a class's pixels that were found; NaN where the truth has none."""
        return ratio(self._hits, self.support)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that are not absent."""
        return mean_of(self.iou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the valid pixels that are right."""
        return float(ratio(self._hits.sum(), self.matrix.sum()))

    @property
    def class_accuracy(self) -> float:
        """Mean recall over the classes that the truth has."""
        return mean_of(self.recall)

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU averaged with each class's share of the truth as weight."""
        return float(ratio(np.nansum(self.support * self.iou), self.matrix.sum()))

    def per_image(self) -> list[Scores]:
        """The scores of each image. ValueError if they were not kept apart."""
        if self.images is None:
            raise ValueError(
                "the images were not kept apart; count or evaluate with per_image=True"
            )
        return [Scores(matrix, self.classes) for matrix in self.images]

    def by_group(self, groups: Sequence[Any]) -> dict[Any, Scores]:
        """The scores of each group of images (drive, patient), in the order they first occur.

        `groups`, one an image, are in the order of the updates (`dataset.groups`); else ValueError.
        """
        each = self.per_image()
        if len(groups) != len(each):
            raise ValueError(f"found {len(groups)} groups for {len(each)} images, expected as many")
        sums = {name: np.zeros_like(self.matrix) for name in groups}
        for name, scores in zip(groups, each, strict=True):
            sums[name] += scores.matrix
        return {name: Scores(matrix, self.classes) for name, matrix in sums.items()}

    def interval(
        self,
        score: str = "miou",
        groups: Sequence[Any] | None = None,
        draws: int = 2000,
        seed: int = 0,
    ) -> Interval:
        """A score and its 95 % bootstrap interval over groups of images (drives, patients).

        Groups, given as in `by_group`, are drawn with replacement, as many as there are, their
        matrices added up and scored; the interval holds the middle 95 % of the draws (Efron &
        Tibshirani, 1993, percentile method). Without `groups` every image is one, which takes
        neighbouring frames for independent and makes the interval too narrow. So do few groups: of
        intervals from ten or so somewhat less than 95 % hold the truth, of those from two half.
        `score` names one that is a number, "pixel_accuracy", say. ValueError for a single group.
        """
        images = self.per_image()
        parts = self.by_group(range(len(images)) if groups is None else groups).values()
        n = len(parts)
        if n < 2:
            raise ValueError("found one group only; an interval needs two or more")
        times = np.random.default_rng(seed).multinomial(n, [1 / n] * n, size=draws)
        drawn = np.tensordot(times, np.stack([part.matrix for part in parts]), axes=1)
        values = [getattr(Scores(matrix), score) for matrix in drawn]  # (draws,)
        low, high = np.nanpercentile(values, [2.5, 97.5])
        return Interval(float(getattr(self, score)), float(low), float(high), n)

    def table(self) -> str:
        """A text table: a line per class, then the means.

        >>> print(Scores(np.array([[3, 1], [0, 4]]), ("road", "car")).table())
        class   IoU    Dice   precision  recall  pixels
        road    0.750  0.857      1.000   0.750       4
        car     0.800  0.889      0.800   1.000       4
        mean    0.775  0.873      0.900   0.875       8
        pixel accuracy 0.875 · frequency-weighted IoU 0.775
        """
        names = self.classes or tuple(map(str, range(len(self.matrix))))
        columns = (self.iou, self.dice, self.precision, self.recall)
        rows = [(name, [c[i] for c in columns], self.support[i]) for i, name in enumerate(names)]
        rows.append(("mean", [mean_of(c) for c in columns], self.matrix.sum()))
        wide = max(len(name) for name in ("class", *names)) + 2
        digits = max(len("pixels"), len(str(self.matrix.sum()))) + 1
        lines = [f"{'class':<{wide}} IoU    Dice   precision  recall {'pixels':>{digits}}"]
        for name, (iou, dice, precision, recall), pixels in rows:
            cells = f"{iou:6.3f} {dice:6.3f} {precision:10.3f} {recall:7.3f}".replace("nan", "  –")
            lines.append(f"{name:<{wide}}{cells} {pixels:>{digits}}")
        lines.append(
            f"pixel accuracy {self.pixel_accuracy:.3f} · "
            f"frequency-weighted IoU {self.frequency_weighted_iou:.3f}"
        )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON: miou, per-class iou and dice (None = absent), accuracies."""
        names = ("miou", "iou", "dice", "pixel_accuracy", "class_accuracy")
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        nothing = np.array(None)
        plain = {key: np.where(np.isnan(v), nothing, v).tolist() for key, v in values.items()}
        return {**plain, "support": self.support.tolist()}


def ratio(part: Any, whole: Any) -> Any:
    """part / whole in float64, NaN where the whole is 0."""
    part, whole = np.broadcast_arrays(np.float64(part), np.float64(whole))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def mean_of(values: np.ndarray) -> float:
    """The mean of what is not NaN; NaN if nothing is."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
