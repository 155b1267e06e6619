"""Panoptic quality: how well segments, things and stuff, are found and outlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.metrics.check import alike, check_range
from seglib.metrics.scores import mean_of, ratio


class PanopticCounts:
    """Counts, over any number of images, which predicted segments match a true one.

    Kirillov et al., 2019 (arXiv:1801.00868). A *segment* is all pixels of one class and one
    instance number: stuff has the number 0, so one segment a class and image. A predicted and a
    true segment of the same class *match* if their IoU is above 0.5, which no segment can be with
    two others. Matches are true positives, other predicted segments false positives, other true
    ones false negatives.

    Void, the label `ignore_index`, is no segment. Void pixels of the truth are taken out of
    predicted segments before IoUs are computed, and an unmatched predicted segment of which more
    than half is void does not count. (COCO's crowd regions have no counterpart here: make them
    void.) Counts add up: `+`.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        if num_classes < 1:
            raise ValueError(f"found num_classes={num_classes}, expected a number from 1 up")
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = np.zeros((num_classes, 3), np.int64)  # TP, FP, FN
        self.iou = np.zeros(num_classes)  # sum over the matches

    def update(self, prediction: Sequence[Any], target: Sequence[Any]) -> None:
        """Add one image: `prediction` and `target` are pairs (semantic, instance) of label maps.

        All four are integers (H, W), NumPy or CPU tensors. Raises ValueError for other shapes and
        types, labels that are no class, and negative instance numbers.
        """
        maps = [self._checked(*pair) for pair in (("prediction", prediction), ("target", target))]
        shapes = {part.shape for pair in maps for part in pair}
        if len(shapes) != 1:
            raise ValueError(f"found maps of shapes {sorted(shapes)}, expected one and the same")
        (classes, areas, mine), (true_classes, true_areas, theirs) = map(self._segments, maps)
        both = np.zeros((len(classes) + 1, len(true_classes) + 1), np.int64)
        np.add.at(both, (mine.ravel(), theirs.ravel()), 1)  # the last row and column are void
        void, both = both[:-1, -1], both[:-1, :-1]
        union = (areas - void)[:, None] + true_areas[None] - both
        match = 2 * both > union
        match &= classes[:, None] == true_classes[None]
        found, hit = match.any(axis=1), match.any(axis=0)
        wrong = ~found & (2 * void <= areas)
        for column, which in enumerate((classes[found], classes[wrong], true_classes[~hit])):
            np.add.at(self.counts[:, column], which, 1)
        rows, columns = np.nonzero(match)
        np.add.at(self.iou, classes[rows], both[rows, columns] / union[rows, columns])

    def __add__(self, other: PanopticCounts) -> PanopticCounts:
        total = PanopticCounts(**alike(self, other, "num_classes", "ignore_index"))
        total.counts, total.iou = self.counts + other.counts, self.iou + other.iou
        return total

    def compute(self) -> PanopticScores:
        """The scores of everything counted so far."""
        true, wrong, missed = self.counts.T
        total = true + wrong / 2 + missed / 2
        segmentation = np.where(total > 0, np.nan_to_num(ratio(self.iou, true)), np.nan)
        return PanopticScores(
            ratio(self.iou, total), segmentation, ratio(true, total), self.counts.copy()
        )

    def _checked(self, name: str, pair: Sequence[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        if len(pair) != 2:
            raise ValueError(f"found {len(pair)} maps as {name}, expected (semantic, instance)")
        semantic, instance = (np.asarray(part) for part in pair)
        for part in (semantic, instance):
            if part.ndim != 2 or part.dtype.kind not in "iu":
                raise ValueError(
                    f"found a {name} of {part.dtype} {part.shape}, expected integers (H, W)"
                )
        valid = semantic != self.ignore_index
        check_range(semantic, valid, self.num_classes, name)
        if instance.shape == semantic.shape and (instance[valid] < 0).any():
            raise ValueError(f"found negative instance numbers in the {name}; 0 is stuff")
        return semantic, instance

    def _segments(
        self, maps: tuple[NDArray[Any], NDArray[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Class and area of every segment, and each pixel's segment (-1: void)."""
        semantic, instance = (part.astype(np.int64) for part in maps)
        valid = semantic != self.ignore_index
        pairs = np.stack([semantic[valid], instance[valid]], axis=1)
        segments, inverse, areas = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        where = np.full(semantic.shape, -1, np.int64)
        where[valid] = inverse.ravel()
        return segments[:, 0], areas.astype(np.int64), where


@dataclass(frozen=True)
class PanopticScores:
    """Of each class, float64 (C,): `pq` = `sq`·`rq`. Classes without any segment are NaN.

    `sq`, segmentation quality, is the mean IoU of the matches (0 without a match), and `rq`,
    recognition quality, their F1: TP / (TP + FP/2 + FN/2). `counts` (C, 3) are TP, FP and FN.
    """

    pq: NDArray[np.float64]
    sq: NDArray[np.float64]
    rq: NDArray[np.float64]
    counts: NDArray[np.int64]

    def mean(self, classes: Sequence[int] | None = None) -> tuple[float, float, float]:
        """Mean PQ, SQ and RQ of some classes (None: all) that have a segment, as in the paper.

        (The mean PQ is not the product of the other two.)
        """
        which = slice(None) if classes is None else list(classes)
        pq, sq, rq = (mean_of(part[which]) for part in (self.pq, self.sq, self.rq))
        return pq, sq, rq
