"""Losses per pixel: cross-entropy and its focal form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.losses.check import check_labels, check_logits_and_target, check_weight, full_precision


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
        self, weight: Tensor | None = None, ignore_index: int = 255, label_smoothing: float = 0.0
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
        valid = target != self.ignore_index  # (N, H, W)
        if self.weight is None:
            return valid.sum()
        return self.weight[torch.where(valid, target, 0)].mul(valid).sum()


class FocalLoss(CrossEntropyLoss):
    """Cross-entropy in which easy pixels count less: −w·(1 − p)^γ·log p, p that of the truth.

    The softmax form of Lin et al. (2017, arXiv:1708.02002), whose own has a sigmoid for each
    class. Averaged as `CrossEntropyLoss`: over valid pixels, or Σ w·l / Σ w; with γ = 0 it *is*
    that loss. (Dividing by Σ (1 − p)^γ instead would undo the focus.)

    Args:
        gamma: γ ≥ 0, how much less; 2 in the paper.
        weight, ignore_index: as in `CrossEntropyLoss`.

    >>> loss = FocalLoss(gamma=2.0)
    >>> round(loss(torch.zeros(1, 2, 1, 1), torch.tensor([[[0]]])).item(), 4)   # 0.5² · ln 2
    0.1733
    """

    def __init__(
        self, gamma: float = 2.0, weight: Tensor | None = None, ignore_index: int = 255
    ) -> None:
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"found gamma={gamma}, expected a number ≥ 0")
        super().__init__(weight, ignore_index)
        self.gamma = gamma

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, {super().extra_repr()}"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of float logits (N, C, H, W) against int64 labels (N, H, W), a scalar."""
        check_logits_and_target(logits, target)
        if self.weight is not None:
            check_weight(self.weight, logits.shape[1])
        try:
            surprise = F.cross_entropy(
                full_precision(logits), target, ignore_index=self.ignore_index, reduction="none"
            )  # (N, H, W): −log p, void 0
        except IndexError:
            check_labels(target, logits.shape[1], self.ignore_index)
            raise
        # 1 − p without cancellation; never quite 0, where the slope of a power below 1 is infinite
        missing = (-torch.expm1(-surprise)).clamp(min=1e-12)
        loss = missing**self.gamma * surprise
        if self.weight is not None:
            loss = loss * self.weight[torch.where(target != self.ignore_index, target, 0)]
        mass = self.mass(target)
        return loss.sum() / torch.where(mass > 0, mass, 1)
