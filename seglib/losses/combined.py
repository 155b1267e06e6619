"""Sums of losses."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seglib.losses.overlap import DiceLoss
from seglib.losses.pixels import CrossEntropyLoss


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
