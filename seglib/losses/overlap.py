"""Losses of overlap: Dice, Tversky and Lovász-softmax, which score classes instead of pixels.

All of them take softmax probabilities in float32, leave void pixels out of every sum, and average
over the classes that the truth has.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from seglib.losses.check import as_weight, check_labels, checked, weight_repr

Over = Literal["batch", "image"]


class TverskyLoss(nn.Module):
    """One minus the soft Tversky index, averaged over the classes present in the truth.

    With p the softmax probabilities: TP = Σ p over a class's own pixels, FP = Σ p over the
    others, FN = Σ (1 − p) over its own; the index is TP / (TP + α·FP + β·FN) (Salehi et al.,
    2017, arXiv:1706.05721). β > α punishes what is missed more than what is added. α = β = 1/2
    is Dice, α = β = 1 the soft Jaccard index.

    Args:
        alpha, beta: weights of false positives and false negatives, ≥ 0, not both 0.
        weight: one factor a class, (C,), for the mean over classes: Σ w·l / Σ w; or None.
        ignore_index: the label of pixels that do not count.
        over: "batch" adds the pixels of all images up first, "image" takes the mean of each
            image's loss over the images that have a valid pixel.
        smooth: added to numerator and denominator.
    """

    weight: Tensor | None

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        over: Over = "batch",
        smooth: float = 0.0,
    ) -> None:
        super().__init__()
        if over not in ("batch", "image"):
            raise ValueError(f"found over={over!r}, expected 'batch' or 'image'")
        if min(alpha, beta, smooth) < 0 or alpha + beta == 0:
            raise ValueError(
                f"found alpha={alpha}, beta={beta}, smooth={smooth}; expected numbers "
                "≥ 0, and alpha + beta > 0"
            )
        self.register_buffer("weight", as_weight(weight))
        self.alpha, self.beta, self.smooth = alpha, beta, smooth
        self.ignore_index, self.over = ignore_index, over

    def extra_repr(self) -> str:
        return (
            f"alpha={self.alpha}, beta={self.beta}, {weight_repr(self.weight)}, "
            f"ignore_index={self.ignore_index}, over={self.over!r}, smooth={self.smooth}"
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of float logits (N, C, H, W) against int64 labels (N, H, W), a scalar."""
        logits = checked(logits, target, self.weight)
        hits, predicted, truth = soft_counts(logits, target, self.ignore_index)  # (N, C) each
        if self.over == "batch":
            hits, predicted, truth = (x.sum(0, keepdim=True) for x in (hits, predicted, truth))
        missed, added = truth - hits, predicted - hits
        whole = hits + self.alpha * added + self.beta * missed + self.smooth
        index = (hits + self.smooth) / torch.where(whole > 0, whole, 1)
        return mean_over_present(1 - index, truth > 0, self.weight)


class DiceLoss(TverskyLoss):
    """One minus the soft Dice index, 2·Σ p·g / (Σ p + Σ g), averaged over the classes present.

    Milletari et al. (2016, arXiv:1606.04797), without their squares in the denominator. It is
    `TverskyLoss` with α = β = 1/2, and takes its other arguments.

    >>> logits = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
    >>> round(DiceLoss()(logits, torch.tensor([[[0, 1]]])).item(), 4)
    0.0
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        over: Over = "batch",
        smooth: float = 0.0,
    ) -> None:
        super().__init__(0.5, 0.5, weight, ignore_index, over, smooth)


class LovaszSoftmaxLoss(nn.Module):
    """The Lovász-softmax loss: the convex closure of 1 − IoU in the space of pixel errors.

    For each class present in the truth, the pixels' errors |g − p| are sorted, the largest first,
    and each is weighted by how much the Jaccard loss grows when its pixel joins those that are
    wrong (Berman et al., 2018, arXiv:1705.08790). Arguments as in `TverskyLoss`.
    """

    weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, ignore_index: int = 255, over: Over = "batch"
    ) -> None:
        super().__init__()
        if over not in ("batch", "image"):
            raise ValueError(f"found over={over!r}, expected 'batch' or 'image'")
        self.register_buffer("weight", as_weight(weight))
        self.ignore_index, self.over = ignore_index, over

    def extra_repr(self) -> str:
        return f"{weight_repr(self.weight)}, ignore_index={self.ignore_index}, over={self.over!r}"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of float logits (N, C, H, W) against int64 labels (N, H, W), a scalar."""
        logits = checked(logits, target, self.weight)
        check_labels(target, logits.shape[1], self.ignore_index)
        with torch.autocast(logits.device.type, enabled=False):
            probability = logits.softmax(1)  # (N, C, H, W)
            value, slope = self._value_and_slope(probability.detach(), target)
            return LinearPiece.apply(probability, value, slope)

    @torch.no_grad()
    def _value_and_slope(self, probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and its derivative by the probabilities, (N, C, H, W)."""
        slope, values = torch.zeros_like(probability), []
        whole: list[Any] = [slice(None)] if self.over == "batch" else list(range(len(target)))
        parts = [i for i in whole if (target[i] != self.ignore_index).any()]
        for i in parts:
            labels = target[i]
            valid = labels != self.ignore_index
            truth = labels[valid]  # (P,)
            present = truth.unique()  # (K,)
            share = torch.ones(len(present)) if self.weight is None else self.weight[present]
            share = share.to(probability) / share.sum().clamp(min=1e-12) / len(parts)
            for k, factor in zip(present.tolist(), share, strict=True):
                channel = (i, k) if self.over == "image" else (i, slice(k, k + 1))
                chance = probability[channel].reshape(labels.shape)[valid]  # (P,)
                own = truth == k
                errors = torch.where(own, 1 - chance, chance)
                order = largest_first(errors)
                steps = factor * jaccard_steps(own[order])
                values.append((errors[order] * steps).sum())
                steps = torch.empty_like(steps).scatter_(0, order, steps)
                found = (
                    torch.zeros(labels.shape)
                    .to(steps)
                    .masked_scatter_(valid, torch.where(own, -steps, steps))
                )
                slope[channel] = found.reshape(slope[channel].shape)
        return (torch.stack(values).sum() if values else slope.sum()), slope


class LinearPiece(torch.autograd.Function):
    """A piecewise linear function of `x` whose value and slope here are known."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * ctx.saved_tensors[0], None, None


def largest_first(errors: Tensor) -> Tensor:
    """The order that sorts errors ≥ 0, (P,), the largest first: int64 (P,)."""
    if errors.device.type != "cpu" or errors.dtype != torch.float32:
        return errors.argsort(descending=True)
    # The bits of floats ≥ 0 sort as whole numbers do, and NumPy sorts those of 16 bits by radix:
    # two stable passes, lower half first, take a fifth of the time of torch's sort.
    bits = ~errors.contiguous().numpy().view(np.uint32)
    order = np.argsort(bits.astype(np.uint16), kind="stable")
    upper = (bits >> 16).astype(np.uint16)
    return torch.from_numpy(order[np.argsort(upper[order], kind="stable")])


def jaccard_steps(truth: Tensor) -> Tensor:
    """How much 1 − IoU grows with each pixel that turns wrong, in the order given.

    `truth` is bool (P,): is the pixel of the class? Returns float32 (P,), with sum 1.
    """
    size = truth.sum()
    found = truth.cumsum(0, dtype=torch.int32)  # of the class, wrong so far
    position = torch.arange(1, len(truth) + 1, device=truth.device, dtype=torch.int32)
    jaccard = 1 - (size - found) / (size + position - found)  # (P,)
    return torch.diff(jaccard, prepend=jaccard.new_zeros(1))


def soft_counts(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, ...]:
    """Per image and class, float32 (N, C): Σ p over a class's own pixels, Σ p, and its pixels.

    Only valid pixels count. Raises ValueError for labels that are no class.
    """
    num_classes = logits.shape[1]
    valid = target != ignore_index  # (N, H, W)
    labels = torch.where(valid, target, 0)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        check_labels(target, num_classes, ignore_index)
    with torch.autocast(logits.device.type, enabled=False):
        probability = logits.softmax(1)  # (N, C, H, W); void has no share in any sum below
        predicted = (probability * valid[:, None]).sum((2, 3))  # (N, C)
        own = (probability.gather(1, labels[:, None]) * valid[:, None]).flatten(1)  # (N, H·W)
        place = labels.flatten(1)
        zeros = torch.zeros_like(predicted)
        hits = zeros.scatter_add(1, place, own)
        truth = zeros.scatter_add(1, place, valid.flatten(1).to(zeros.dtype))
    return hits, predicted, truth


def mean_over_present(losses: Tensor, present: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of (N, C) losses over each row's present classes, then over the rows that have one."""
    share = present.to(losses.dtype)
    if weight is not None:
        share = share * weight.to(losses.dtype)
    mass = share.sum(1)  # (N,)
    rows = (losses * share).sum(1) / torch.where(mass > 0, mass, 1)
    return rows.sum() / (mass > 0).sum().clamp(min=1)
