"""Scores of borders: boundary IoU and boundary F1, class by class over a whole split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seglib.scores import mean_of, ratio

SQUARE = np.ones((3, 3), np.uint8)


class BoundaryCounts:
    """Counts, over any number of label maps, how well the borders of each class agree.

    A class's *band* are its own pixels up to `distance` steps (eight neighbours) from its border,
    the picture's edge included; boundary IoU is the IoU of the two bands (Cheng et al., 2021,
    arXiv:2103.16562, whose erosion this is). Its *border* is the band of one step; boundary F1 is
    the harmonic mean of the shares of predicted border pixels that have a true one within
    `distance` steps, and the other way round (Csurka et al., 2013, doi:10.5244/C.27.32, class by
    class). Void makes no border and counts nowhere. Counts are added over all maps.

    Args:
        num_classes: labels are 0 … num_classes − 1.
        distance: in pixels, or None for 2 % of the picture's diagonal, as Cheng et al.
        ignore_index: the label of void in the truth.
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
        """Add label maps: integers (H, W) or (N, H, W), NumPy or CPU tensors.

        Raises ValueError for shapes that differ and for labels that are no class.
        """
        predictions, targets = np.asarray(prediction), np.asarray(target)
        if predictions.shape != targets.shape or targets.ndim not in (2, 3):
            raise ValueError(
                f"found a prediction {predictions.shape} for a target "
                f"{targets.shape}, expected label maps of equal shape, (H, W) or "
                "(N, H, W)"
            )
        if targets.ndim == 2:
            predictions, targets = predictions[None], targets[None]
        for labels, truth in zip(predictions, targets, strict=True):
            self._check(labels, truth)
            for k in np.union1d(labels, truth):
                if k != self.ignore_index and k < self.num_classes:
                    self.counts[k] += self._compare(
                        labels == k, truth == k, truth == self.ignore_index
                    )

    def _check(self, labels: NDArray[Any], truth: NDArray[Any]) -> None:
        for name, found in (("target", truth), ("prediction", labels)):
            if found.dtype.kind not in "iu":
                raise ValueError(f"found a {name} of {found.dtype}, expected integer labels")
            bad = (truth != self.ignore_index) & ((found < 0) | (found >= self.num_classes))
            if bad.any():
                raise ValueError(
                    f"the {name} has label {found[bad][0]} at {bad.sum()} pixels, "
                    f"expected 0 to {self.num_classes - 1}"
                )

    def _compare(
        self, labels: NDArray[np.bool_], truth: NDArray[np.bool_], void: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Both bands, either; predicted borders and those near a true one; the same for true."""
        distance = self.distance or max(1, round(0.02 * float(np.hypot(*truth.shape))))
        mine, theirs = (band(mask | void, distance) & mask & ~void for mask in (labels, truth))
        my_line, their_line = (band(mask | void, 1) & mask & ~void for mask in (labels, truth))
        return np.array(
            [
                (mine & theirs).sum(),
                (mine | theirs).sum(),
                my_line.sum(),
                (my_line & grown(their_line, distance)).sum(),
                their_line.sum(),
                (their_line & grown(my_line, distance)).sum(),
            ]
        )

    def compute(self) -> BoundaryScores:
        """The scores of everything counted so far."""
        both, either, predicted, right, true, found = self.counts.T
        precision, recall = ratio(right, predicted), ratio(found, true)
        f1 = ratio(2 * precision * recall, precision + recall)
        absent = (predicted == 0) & (true == 0)
        f1 = np.where(absent, np.nan, np.nan_to_num(f1))  # found nowhere or there nowhere: 0
        return BoundaryScores(ratio(both, either), f1, precision, recall)


@dataclass(frozen=True)
class BoundaryScores:
    """Boundary IoU, F1, precision and recall of each class, float64 (C,); absent classes NaN."""

    iou: NDArray[np.float64]
    f1: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    @property
    def miou(self) -> float:
        """Mean boundary IoU over the classes that are not absent."""
        return mean_of(self.iou)

    @property
    def mean_f1(self) -> float:
        """Mean boundary F1 over the classes that are not absent."""
        return mean_of(self.f1)


def band(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The pixels of a mask (H, W) that erosion takes away; beyond the picture there is nothing."""
    inner = cv2.erode(
        mask.astype(np.uint8),
        SQUARE,
        iterations=distance,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return mask & (inner == 0)


def grown(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """The pixels within `distance` steps, eight neighbours, of a mask (H, W)."""
    return cv2.dilate(mask.astype(np.uint8), SQUARE, iterations=distance) > 0
