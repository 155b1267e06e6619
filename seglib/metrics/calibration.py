"""Does a network know how sure it is? Reliability curve and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seglib.metrics.check import alike, check_range
from seglib.metrics.scores import ratio


class CalibrationCounts:
    """Counts how often pixels of each confidence are right, over any number of batches.

    Confidence is the largest softmax probability; bins are equally wide from 0 to 1 (Guo et al.,
    2017, arXiv:1706.04599). Void counts nowhere. Counts add up: `+`.
    """

    def __init__(self, bins: int = 15, ignore_index: int = 255) -> None:
        if bins < 1:
            raise ValueError(f"found bins={bins}, expected 1 or more")
        self.bins, self.ignore_index = bins, ignore_index
        self.pixels, self.right = np.zeros((2, bins), np.int64)
        self.confidence = np.zeros(bins, np.float64)  # summed up

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add float logits (N, C, H, W) and integer labels (N, H, W), or raise ValueError."""
        if logits.ndim != 4 or target.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError(
                f"found logits {tuple(logits.shape)} and target {tuple(target.shape)}, expected "
                "(N, C, H, W) and (N, H, W)"
            )
        valid = target != self.ignore_index
        check_range(target, valid, logits.shape[1], "target")
        confidence, labels = (part[valid] for part in logits.float().softmax(1).max(1))
        if (undefined := confidence.isnan()).any():
            raise ValueError(
                f"found NaN or +∞ in the logits of {int(undefined.sum())} pixels, expected numbers"
            )
        right = labels == target[valid]
        # a bin holds its upper end: (0, 1/15], (1/15, 2/15], …
        place = (confidence.double() * self.bins).ceil().long().sub(1).clamp(0, self.bins - 1)
        self.pixels += torch.bincount(place, minlength=self.bins).cpu().numpy()
        self.right += torch.bincount(place[right], minlength=self.bins).cpu().numpy()
        self.confidence += torch.bincount(place, confidence.double(), self.bins).cpu().numpy()

    def __add__(self, other: CalibrationCounts) -> CalibrationCounts:
        total = CalibrationCounts(**alike(self, other, "bins", "ignore_index"))
        for name in ("pixels", "right", "confidence"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def compute(self) -> Calibration:
        """The reliability curve of everything counted so far."""
        return Calibration(
            self.pixels.copy(), ratio(self.right, self.pixels), ratio(self.confidence, self.pixels)
        )


@dataclass(frozen=True)
class Calibration:
    """A reliability curve: per bin its pixels, accuracy and mean confidence (NaN if empty)."""

    pixels: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error: Σ pixels·|accuracy − confidence| / Σ pixels; NaN if none."""
        gap = np.nansum(self.pixels * np.abs(self.accuracy - self.confidence))
        return float(ratio(gap, self.pixels.sum()))
