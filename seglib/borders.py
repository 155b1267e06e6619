"""How far a pixel is from the nearest border between two classes, and how errors depend on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def border_distance(mask: NDArray[np.integer], ignore_index: int = 255) -> NDArray[np.float32]:
    """The distance in pixels from each pixel's centre to that of the nearest other class.

    Takes a label map (H, W) and returns float32 (H, W): 1 beside a border, `inf` where the map has
    no other class, NaN at void. Void is no class: it has no border.

    >>> border_distance(np.array([[0, 0, 0, 1]], np.uint8)).tolist()
    [[3.0, 2.0, 1.0, 1.0]]
    """
    import cv2

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
        other = valid & ~own
        if other.any():
            # (the exact distance to the nearest zero pixel)
            away = cv2.distanceTransform(
                (~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
            )
            distance[own] = away[own]
        else:
            distance[own] = np.inf
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
                f"found a prediction of {prediction.shape} for a truth of "
                f"{truth.shape}, expected equal sizes"
            )
        distance = border_distance(truth, ignore_index)
        ring = np.searchsorted(edges, distance, side="right") - 1
        ring[np.isinf(distance)] = len(edges) - 2
        counted = ~np.isnan(distance) & (ring >= 0) & (ring < len(edges) - 1)
        total += np.bincount(ring[counted], minlength=len(total))
        wrong += np.bincount(ring[counted & (prediction != truth)], minlength=len(total))
    return np.divide(wrong, total, out=np.full(len(total), np.nan), where=total > 0)
