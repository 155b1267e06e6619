"""Solutions to the exercises of lesson 4, as they would stand in the notebook."""

# mypy: allow-untyped-defs

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np


def miou(matrix):
    """Mean IoU of a confusion matrix; absent classes are left out. (The notebook has its own.)"""
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    return (hits[union > 0] / union[union > 0]).mean()


class Matrix:
    """A confusion matrix over any number of batches: rows truth, columns prediction."""

    def __init__(self, num_classes, ignore_index=255):
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, prediction, target):
        valid = np.asarray(target) != self.ignore_index
        target = np.asarray(target)[valid].astype(np.int64)
        prediction = np.asarray(prediction)[valid].astype(np.int64)
        n = self.num_classes
        for labels in (prediction, target):
            outside = labels[(labels < 0) | (labels >= n)]
            if len(outside):
                raise ValueError(f"found label {outside[0]}, expected 0 to {n - 1}")
        self.counts += np.bincount(target * n + prediction, minlength=n * n).reshape(n, n)

    def iou(self):
        hits = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        with np.errstate(invalid="ignore"):  # 0 / 0 is nan: an absent class
            return hits / union


def split(frames):
    """(train, val): indices of whole drives, the first choice that has all classes in both."""
    drives = sorted({frame.drive for frame in frames})
    classes = set().union(*(frame.classes for frame in frames))
    for count in range(1, len(drives)):
        for chosen in combinations(drives, count):
            parts = [], []
            for i, frame in enumerate(frames):
                parts[frame.drive in chosen].append(i)
            complete = all(
                set().union(*(frames[i].classes for i in part)) == classes for part in parts
            )
            if complete and 0.15 <= len(parts[1]) / len(frames) <= 0.35:
                return parts
    raise ValueError("no choice of whole drives will do")


def interval(matrices, groups, draws=500, seed=0):
    rng = np.random.default_rng(seed)
    sums = np.stack(
        [
            sum(matrix for matrix, group in zip(matrices, groups, strict=True) if group == name)
            for name in sorted(set(groups))
        ]
    )
    scores = []
    for _ in range(draws):
        drawn = rng.integers(len(sums), size=len(sums))
        scores.append(miou(sums[drawn].sum(0)))
    low, high = np.percentile(scores, [2.5, 97.5])
    return low, high


def masks(truth, spacing):
    """The lesion with a rim taken off, and with one added, of equal Dice."""
    outside = cv2.distanceTransform((~truth).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
    order = np.argsort(outside - inside, axis=None, kind="stable")  # from the core outwards
    pixels = int(truth.sum())
    limit = 100 / (spacing[0] * spacing[1])  # pixels of 100 mm²
    fewer = int(abs(pixels - limit)) + 2
    more = round(pixels * fewer / (pixels - fewer))  # then the Dices are equal
    first, second = np.zeros_like(truth), np.zeros_like(truth)
    first.flat[order[: pixels - fewer]] = True
    second.flat[order[: pixels + more]] = True
    return first, second
