"""Losses that score pixels one by one: cross-entropy and its focal form."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.losses.check import as_weight, check_labels, checked, weight_repr


class CrossEntropyLoss(nn.Module):
    """Cross-entropy per pixel, averaged over the valid pixels of the batch.

    Args:
        weight: one factor a class, (C,): Σ w·l / Σ w, as PyTorch; or None.
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
        self.register_buffer("weight", as_weight(weight))
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.last_denominator: Tensor | None = None  # of the last call, for means of batches

    def extra_repr(self) -> str:
        return (
            f"{weight_repr(self.weight)}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}"
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of float logits (N, C, H, W) against int64 labels (N, H, W), a scalar."""
        total, whole = self.total(logits, target), self.denominator(target)
        self.last_denominator = whole
        return total / torch.where(whole > 0, whole, 1)

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Σ w·l over the valid pixels, a scalar."""
        logits = checked(logits, target, self.weight)
        weight = None if self.weight is None else self.weight.to(logits.dtype)
        return self._cross_entropy(
            logits, target, weight=weight, label_smoothing=self.label_smoothing, reduction="sum"
        )

    def denominator(self, target: Tensor) -> Tensor:
        """What the total is divided by: the number of valid pixels, or Σ w over them."""
        valid = target != self.ignore_index  # (N, H, W)
        if self.weight is None:
            return valid.sum()
        return self.weight[torch.where(valid, target, 0)].mul(valid).sum()

    def _cross_entropy(self, logits: Tensor, target: Tensor, **options: Any) -> Tensor:
        """PyTorch's, with an error that names a label that is no class."""
        try:
            return F.cross_entropy(logits, target, ignore_index=self.ignore_index, **options)
        except IndexError:
            check_labels(target, logits.shape[1], self.ignore_index)
            raise


class FocalLoss(CrossEntropyLoss):
    """Cross-entropy in which easy pixels count less: −w·(1 − p)^γ·log p, p that of the truth.

    The softmax form of Lin et al. (2017, arXiv:1708.02002; γ = 2), whose own has a sigmoid for
    each class. Averaged as `CrossEntropyLoss`, with γ = 0 it *is* that loss. (Dividing by
    Σ (1 − p)^γ instead would undo the focus.) `weight` and `ignore_index` as there.

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

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Σ w·(1 − p)^γ·l over the valid pixels, a scalar."""
        logits = checked(logits, target, self.weight)
        # (N, H, W): −log p, void 0
        surprise = self._cross_entropy(logits, target, reduction="none")
        # 1 − p without cancellation; never quite 0, where the slope of a power below 1 is infinite
        missing = (-torch.expm1(-surprise)).clamp(min=1e-12)
        loss = missing**self.gamma * surprise
        if self.weight is not None:
            loss = loss * self.weight[torch.where(target != self.ignore_index, target, 0)]
        return loss.sum()
