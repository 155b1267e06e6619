"""Losses for semantic segmentation: `loss(logits, target) -> scalar`, right about ignored pixels.

Every mean runs over the valid pixels of the batch: an ignored pixel changes neither the value
nor the gradient, and a batch without a valid pixel gives zero, with a gradient path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.messages import did_you_mean
from seglib.overlap import DiceLoss, LovaszSoftmaxLoss, TverskyLoss, check_weight
from seglib.targets import (
    check_labels,
    check_logits_and_target,
    check_multilabel_target,
    full_precision,
)

__all__ = [
    "CombinedLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "LovaszSoftmaxLoss",
    "SigmoidFocalLoss",
    "TverskyLoss",
    "check_labels",
    "check_logits_and_target",
    "class_weights",
    "create_loss",
]


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


class SigmoidFocalLoss(nn.Module):
    """Focal loss with a sigmoid for each channel, as in Lin et al. (2017, arXiv:1708.02002).

    For labels that may overlap, or for one channel. The mean over all valid entries of
    −(1 − p)^γ·log p, p the probability of what the entry is; γ = 0 is binary cross-entropy.

    Args:
        gamma: γ ≥ 0.
        alpha: factor of positive entries, 1 − alpha that of negative ones; None for 1 and 1.
        ignore_index: the label of entries that do not count.
    """

    def __init__(
        self, gamma: float = 2.0, alpha: float | None = None, ignore_index: int = 255
    ) -> None:
        super().__init__()
        if not 0 <= gamma < float("inf") or (alpha is not None and not 0 <= alpha <= 1):
            raise ValueError(
                f"found gamma={gamma}, alpha={alpha}; expected gamma ≥ 0 and alpha "
                "from 0 to 1 or None"
            )
        self.gamma, self.alpha, self.ignore_index = gamma, alpha, ignore_index

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, alpha={self.alpha}, ignore_index={self.ignore_index}"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of float logits (N, C, H, W) against int64 0, 1 or `ignore_index` of that shape."""
        target = check_multilabel_target(logits, target, self.ignore_index)
        valid, positive = target != self.ignore_index, target == 1
        with torch.autocast(logits.device.type, enabled=False):
            x = full_precision(logits)
            surprise = F.softplus(torch.where(positive, -x, x))  # −log p
            missing = (-torch.expm1(-surprise)).clamp(min=1e-12)
            loss = missing**self.gamma * surprise * valid
            if self.alpha is not None:
                loss = loss * torch.where(positive, self.alpha, 1 - self.alpha)
            return loss.sum() / valid.sum().clamp(min=1)


class CombinedLoss(nn.Module):
    """A weighted sum of losses: `CombinedLoss({CrossEntropyLoss(): 1.0, DiceLoss(): 1.0})`.

    Without an argument it is this very sum. `parts(logits, target)` gives the terms one by one.
    """

    def __init__(self, losses: Mapping[nn.Module, float] | None = None) -> None:
        super().__init__()
        losses = {CrossEntropyLoss(): 1.0, DiceLoss(): 1.0} if losses is None else losses
        if not losses:
            raise ValueError("found no loss to combine; pass a dict of loss: factor")
        ignored = {loss.ignore_index for loss in losses if hasattr(loss, "ignore_index")}
        if len(ignored) > 1:
            raise ValueError(f"the losses ignore different labels, {ignored}; expected one")
        self.losses = nn.ModuleList(losses)
        self.factors = tuple(float(factor) for factor in losses.values())
        self.ignore_index = next(iter(ignored), 255)

    def extra_repr(self) -> str:
        return f"factors={self.factors}"

    def parts(self, logits: Tensor, target: Tensor) -> list[Tensor]:
        """Each loss times its factor."""
        return [
            factor * loss(logits, target)
            for factor, loss in zip(self.factors, self.losses, strict=True)
        ]

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of float logits (N, C, H, W) against int64 labels (N, H, W), a scalar."""
        return torch.stack(self.parts(logits, target)).sum()


def create_loss(name: str, weight: Tensor | None = None, label_smoothing: float = 0.0) -> nn.Module:
    """A loss by its name in recipes, or the sum of several, as in "cross-entropy+dice".

    `weight` goes to each of them, `label_smoothing` to cross-entropy. Raises ValueError for an
    unknown name, and for smoothing without cross-entropy.
    """
    makers = {
        "cross-entropy": lambda: CrossEntropyLoss(weight, label_smoothing=label_smoothing),
        "focal": lambda: FocalLoss(weight=weight),
        "dice": lambda: DiceLoss(weight),
        "tversky": lambda: TverskyLoss(weight=weight),
        "lovasz": lambda: LovaszSoftmaxLoss(weight),
    }
    names = name.split("+")
    for part in names:
        if part not in makers:
            raise ValueError(
                f"there is no loss {part!r}{did_you_mean(part, makers)}; several are joined by +"
            )
    if label_smoothing and "cross-entropy" not in names:
        raise ValueError(
            f"found label_smoothing={label_smoothing} for the loss {name!r}; only "
            "cross-entropy has it"
        )
    losses = [makers[part]() for part in names]
    return losses[0] if len(losses) == 1 else CombinedLoss(dict.fromkeys(losses, 1.0))


def class_weights(statistics: Any, method: str = "median") -> Tensor:
    """One loss weight a class, float32 (C,), from the counts of a data set's training split.

    Args:
        statistics: what `seglib.data.class_statistics(dataset)` returns: `.pixels`, the pixels
            of each class, `.image_pixels`, the valid pixels of the images it occurs in, and
            `.images`, the number of these images.
        method: "median" (median frequency balancing, Eigen & Fergus, 2015, arXiv:1411.4734: a
            class's frequency is taken over the images that contain it), "enet"
            (1 / ln(1.02 + share), Paszke et al., 2016, arXiv:1606.02147; at most 50.5), "inverse"
            (1 / share, so that all classes weigh the same in sum) or "effective" ((1 − β) /
            (1 − βⁿ), Cui et al., 2019, arXiv:1901.05555, of the n images that contain the class,
            β = (N − 1) / N for N images; of pixels it would give every class the same).

    "inverse" and "effective" are scaled to a mean of 1 over the classes that occur. A class that
    never occurs gets weight 0, but with "enet" the largest.
    """
    pixels = torch.as_tensor(statistics.pixels, dtype=torch.float64)
    if pixels.sum() == 0:
        raise ValueError("found no valid pixel in the statistics, so there is nothing to balance")
    seen = pixels > 0
    if method == "enet":
        return (1 / torch.log(1.02 + pixels / pixels.sum())).float()
    if method == "median":
        whole = torch.as_tensor(statistics.image_pixels, dtype=torch.float64)
        frequency = pixels[seen] / whole[seen]
        found = frequency.quantile(0.5) / frequency
    elif method == "inverse":
        found = 1 / pixels[seen]
    elif method == "effective":
        images = torch.as_tensor(statistics.images, dtype=torch.float64)[seen]
        beta = 1 - 1 / statistics.total_images
        found = (1 - beta) / (1 - beta**images)
    else:
        methods = ["median", "enet", "inverse", "effective"]
        raise ValueError(f"there is no method {method!r}{did_you_mean(method, methods)}")
    weights = torch.zeros_like(pixels)
    weights[seen] = found if method == "median" else found / found.mean()
    return weights.float()
