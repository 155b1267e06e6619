"""How good a prediction is where classes meet: boundary IoU and F1, and errors by distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglib.metrics.check import alike, check_range
from seglib.metrics.scores import mean_of, ratio

Mask = NDArray[np.bool_]
SQUARE = np.ones((3, 3), np.uint8)


class BoundaryCounts:
    """Counts, over any number of label maps, how well the borders of each class agree.

    A class's *band* are its own pixels up to `distance` steps (eight neighbours) from its border,
    the picture's edge included; boundary IoU is the IoU of the two bands (Cheng et al., 2021,
    arXiv:2103.16562, whose erosion this is). Its *border* is the band of one step; boundary F1 is
    the harmonic mean of the shares of predicted border pixels that have a true one within
    `distance` steps, and the other way round (Csurka et al., 2013, doi:10.5244/C.27.32, class by
    class). `distance` None is 2 % of the picture's diagonal, as in Cheng et al. Void, the label
    `ignore_index` in the truth, makes no border and counts nowhere. Counts add up: `+`.
    """

    def __init__(
        self, num_classes: int, distance: int | None = None, ignore_index: int = 255
    ) -> None:
        if num_classes < 1 or (distance is not None and distance < 1):
            raise ValueError(
                f"found num_classes={num_classes}, distance={distance}; expected numbers from 1 up"
            )
        self.num_classes, self.distance, self.ignore_index = num_classes, distance, ignore_index
        self.counts = np.zeros((num_classes, 6), np.int64)

    def update(self, prediction: Any, target: Any) -> None:
        """Add label maps: integers (H, W) or (N, H, W), NumPy or CPU tensors; else ValueError."""
        predictions, targets = np.asarray(prediction), np.asarray(target)
        if predictions.shape != targets.shape or targets.ndim not in (2, 3):
            raise ValueError(
                f"found a prediction {predictions.shape} for a target {targets.shape}, expected "
                "label maps of equal shape, (H, W) or (N, H, W)"
            )
        valid = targets != self.ignore_index
        for name, found in (("target", targets), ("prediction", predictions)):
            if found.dtype.kind not in "iu":
                raise ValueError(f"found a {name} of {found.dtype}, expected integer labels")
            check_range(found, valid, self.num_classes, name)
        pairs = zip(predictions, targets, strict=True)
        for labels, truth in pairs if targets.ndim == 3 else [(predictions, targets)]:
            void = truth == self.ignore_index
            for k in np.union1d(labels[~void], truth[~void]):
                self.counts[k] += self._compare(labels == k, truth == k, void)

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        total = BoundaryCounts(**alike(self, other, "num_classes", "distance", "ignore_index"))
        total.counts = self.counts + other.counts
        return total

    def _compare(self, labels: Mask, truth: Mask, void: Mask) -> NDArray[np.int64]:
        """Both bands, either; predicted borders and those near a true one; the same for true."""
        distance = self.distance or max(1, round(0.02 * float(np.hypot(*truth.shape))))
        mine, theirs = (band(mask | void, distance) & mask & ~void for mask in (labels, truth))
        my_line, their_line = (band(mask | void, 1) & mask & ~void for mask in (labels, truth))
        counted = (
            mine & theirs,
            mine | theirs,
            my_line,
            my_line & grown(their_line, distance),
            their_line,
            their_line & grown(my_line, distance),
        )
        return np.array([pixels.sum() for pixels in counted])

    def compute(self) -> BoundaryScores:
        """The scores of everything counted so far."""
        both, either, predicted, right, true, found = self.counts.T
        precision, recall = ratio(right, predicted), ratio(found, true)
        f1 = ratio(2 * precision * recall, precision + recall)
        absent = (predicted == 0) & (true == 0)
        f1 = np.where(absent, np.nan, np.nan_to_num(f1))  # found nowhere or there nowhere: 0
        return BoundaryScores(ratio(both, either), f1)


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary IoU and F1 of each class, float64 (C,); absent classes NaN."""

    iou: NDArray[np.float64]
    f1: NDArray[np.float64]

    @property
    def miou(self) -> float:
        """Mean over the classes that are not absent."""
        return mean_of(self.iou)

    @property
    def mean_f1(self) -> float:
        """Mean over the classes that are not absent."""
        return mean_of(self.f1)


def band(mask: Mask, distance: int) -> Mask:
    """The pixels of a mask (H, W) that erosion takes away; beyond the picture there is nothing."""
    framed = np.pad(mask.astype(np.uint8), 1)
    return mask & (cv2.erode(framed, SQUARE, iterations=distance)[1:-1, 1:-1] == 0)


def grown(mask: Mask, distance: int) -> Mask:
    """The pixels within `distance` steps, eight neighbours, of a mask (H, W)."""
    return cv2.dilate(mask.astype(np.uint8), SQUARE, iterations=distance) > 0


def border_distance(mask: NDArray[np.integer], ignore_index: int = 255) -> NDArray[np.float32]:
    """The distance in pixels from each pixel's centre to that of the nearest other class.

    Takes a label map (H, W) and returns float32 (H, W): 1 beside a border, `inf` where the map has
    no other class, NaN at void. Void is no class: it has no border.

    >>> border_distance(np.array([[0, 0, 0, 1]], np.uint8)).tolist()
    [[3.0, 2.0, 1.0, 1.0]]
    """
    labels = np.asarray(mask)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"found a mask of shape {labels.shape} and dtype {labels.dtype}, expected "
            "integer labels (H, W)"
        )
    valid = labels != ignore_index
    distance = np.full(labels.shape, np.nan, np.float32)
    for label in np.unique(labels[valid]):
        own = labels == label
        elsewhere = (own | ~valid).astype(np.uint8)  # 0 at other classes
        if elsewhere.all():
            distance[own] = np.inf
        else:  # exact distances to the nearest zero
            away = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            distance[own] = away[own]
    return distance


def error_by_distance(
    predictions: Sequence[NDArray[np.integer]],
    truths: Sequence[NDArray[np.integer]],
    edges: Sequence[float] = (1, 2, 3, 5, 9, np.inf),
    ignore_index: int = 255,
) -> NDArray[np.float64]:
    """The share of wrong pixels in each ring around the borders of the truth.

    `predictions` and `truths` are label maps (H, W) in equal numbers; ring i holds the valid
    pixels with `edges[i]` ≤ distance < `edges[i + 1]`, over all maps together (the last ring has
    infinite distances, too). Returns float64 (len(edges) − 1,), NaN for an empty ring.
    """
    if len(predictions) != len(truths):
        raise ValueError(f"found {len(predictions)} predictions for {len(truths)} truths")
    wrong, total = np.zeros((2, len(edges) - 1), np.int64)
    for prediction, truth in zip(predictions, truths, strict=True):
        if prediction.shape != truth.shape:
            raise ValueError(
                f"found a prediction of {prediction.shape} for a truth of {truth.shape}, expected "
                "equal sizes"
            )
        distance = border_distance(truth, ignore_index)
        ring = np.searchsorted(edges, distance, side="right") - 1  # NaN: behind the last
        ring[np.isinf(distance)] = len(total) - 1
        counted = (ring >= 0) & (ring < len(total))
        total += np.bincount(ring[counted], minlength=len(total))
        wrong += np.bincount(ring[counted & (prediction != truth)], minlength=len(total))
    return ratio(wrong, total)
