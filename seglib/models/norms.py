"""Normalisation layers, and the two cases in which BatchNorm is the wrong one.

BatchNorm estimates mean and variance from the batch. Where a channel has a single value (one
image, pooled to 1×1) there is no variance; where batches are tiny the estimate is poor, and
GroupNorm (Wu & He, 2018, arXiv:1803.08494), which looks at one image at a time, takes its place.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seglib.models.unet import make_norm

__all__ = ["PooledBatchNorm", "make_norm", "to_group_norm"]


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm for (N, C, 1, 1): with one image in training it uses its running statistics.

    PyTorch raises an error there ("Expected more than 1 value per channel when training"). The
    running statistics stay as they are in such a step; with two images or more, and in
    evaluation, this is `BatchNorm2d`, whose parameters have the same names.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or input.numel() > input.shape[1]:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def to_group_norm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d inside `module`, in place, by a GroupNorm of the same channels.

    Scale and shift are kept; running statistics have no counterpart, so a trained network must
    be trained on. Returns `module`.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = make_norm("group", child.num_features).to(child.weight.device)
            norm.load_state_dict({"weight": child.weight, "bias": child.bias})
            setattr(module, name, norm)
        else:
            to_group_norm(child)
    return module
