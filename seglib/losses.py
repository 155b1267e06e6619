"""Losses for semantic segmentation: `loss(logits, target) -> scalar`, right about ignored pixels.

Every mean runs over the valid pixels of the batch: an ignored pixel changes neither the value
nor the gradient, and a batch without a valid pixel gives zero, with a gradient path.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.messages import did_you_mean


class CrossEntropyLoss(nn.Module):
    """Cross-entropy per pixel, averaged over the valid pixels of the batch.

    Unweighted: sum of l over valid pixels / their number. Weighted: Σ w·l / Σ w, as PyTorch.
    Half precision is computed in float32.

    Args:
        weight: one factor a class, (C,), or None.
        ignore_index: the label of pixels that do not count.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al.,
            2016, arXiv:1512.00567).

    >>> loss = CrossEntropyLoss()
    >>> round(loss(torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 3], [255, 255]]])).item(), 4)
    1.3863
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"found label_smoothing={label_smoothing}, expected 0 ≤ value < 1")
        if weight is not None:
            weight = torch.as_tensor(weight, dtype=torch.float32)
            if weight.ndim != 1 or not bool((weight >= 0).all()):
                raise ValueError(f"found weight {weight.tolist()}, expected one number ≥ 0 a class")
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def extra_repr(self) -> str:
        weight = None if self.weight is None else [round(w, 4) for w in self.weight.tolist()]
        return (
            f"weight={weight}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}"
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of float logits (N, C, H, W) against int64 labels (N, H, W), a scalar."""
        check_logits_and_target(logits, target)
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(
                f"found {len(self.weight)} class weights for {logits.shape[1]} classes; "
                "pass one weight a class"
            )
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        try:
            total = F.cross_entropy(
                logits,
                target,
                weight=None if self.weight is None else self.weight.to(logits.dtype),
                ignore_index=self.ignore_index,
                reduction="sum",
                label_smoothing=self.label_smoothing,
            )
        except IndexError:
            check_labels(target, logits.shape[1], self.ignore_index)
            raise
        mass = self.mass(target)
        return total / torch.where(mass > 0, mass, 1)

    def mass(self, target: Tensor) -> Tensor:
        """What the sum is divided by: the number of valid pixels, or Σ w over them.

        Means of several batches make the mean of all of them when weighted by it.
        """
        valid = target != self.ignore_index                        # (N, H, W)
        if self.weight is None:
            return valid.sum()
        return self.weight[torch.where(valid, target, 0)].mul(valid).sum()


def class_weights(statistics: Any, method: str = "median") -> Tensor:
    """One loss weight a class, float32 (C,), from the counts of a data set's training split.

    Args:
        statistics: what `seglib.data.class_statistics(dataset)` returns: `.pixels`, the pixels
            of each class, and `.image_pixels`, the valid pixels of the images it occurs in.
        method: "median" (median frequency balancing, Eigen & Fergus, 2015, arXiv:1411.4734: a
            class's frequency is taken over the images that contain it) or "enet"
            (1 / ln(1.02 + share), Paszke et al., 2016, arXiv:1606.02147; at most 50.5).

    A class that never occurs gets weight 0 with "median"; with "enet" it has the largest.
    """
    pixels = torch.as_tensor(statistics.pixels, dtype=torch.float64)
    if pixels.sum() == 0:
        raise ValueError("found no valid pixel in the statistics, so there is nothing to balance")
    if method == "enet":
        return (1 / torch.log(1.02 + pixels / pixels.sum())).float()
    if method == "median":
        seen = pixels > 0
        whole = torch.as_tensor(statistics.image_pixels, dtype=torch.float64)
        frequency = pixels[seen] / whole[seen]
        weights = torch.zeros_like(pixels)
        weights[seen] = frequency.quantile(0.5) / frequency
        return weights.float()
    raise ValueError(f"there is no method {method!r}{did_you_mean(method, ['median', 'enet'])}")


def check_logits_and_target(logits: Tensor, target: Tensor) -> None:
    """Raise ValueError unless logits are (N, C, H, W) floats and target (N, H, W) int64."""
    expected = (logits.shape[0], *logits.shape[2:])
    if logits.ndim != 4 or target.shape != expected:
        raise ValueError(
            f"found logits {tuple(logits.shape)} and target {tuple(target.shape)}, expected "
            "(N, C, H, W) and (N, H, W) of the same N, H and W"
        )
    if target.dtype != torch.int64:
        raise ValueError(f"found a target of {target.dtype}, expected int64; use target.long()")


def check_labels(target: Tensor, num_classes: int, ignore_index: int) -> None:
    """Raise ValueError if a label is neither a class nor void.

    A GPU would end the process with an assertion, or not notice: call it before `.to(device)`.
    """
    bad = (target != ignore_index) & ((target < 0) | (target >= num_classes))
    if bad.any():
        raise ValueError(
            f"the target has label {int(target[bad][0])} ({int(bad.sum())} pixels outside), but "
            f"the logits have {num_classes} classes (0–{num_classes - 1}) and ignore_index is "
            f"{ignore_index}; remap the labels or build the model for more classes"
        )
