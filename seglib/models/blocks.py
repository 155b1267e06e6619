"""What the models of the family share: convolutions, norms, ASPP."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


def make_norm(kind: str, channels: int) -> nn.Module:
    """A normalisation layer: "batch", "group" (4 channels or more a group) or "none"."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(32, channels // 4) if channels % 4 == 0 else 1, channels)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f'found norm={kind!r}, expected "batch", "group" or "none"')


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


def conv_norm(
    in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1, norm: str = "batch"
) -> nn.Sequential:
    """Convolution that keeps the size, normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            bias=False,
        ),
        make_norm(norm, out_channels),
        nn.ReLU(),
    )


def separable(
    in_channels: int, out_channels: int, dilation: int = 1, norm: str = "batch"
) -> nn.Sequential:
    """A 3×3 convolution in two steps: within each channel, then 1×1 across channels.

    9·in + in·out weights in place of 9·in·out. As in DeepLabv3+, each step is followed by
    normalisation and ReLU.
    """
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            in_channels,
            3,
            padding=dilation,
            dilation=dilation,
            groups=in_channels,
            bias=False,
        ),
        make_norm(norm, in_channels),
        nn.ReLU(),
        *conv_norm(in_channels, out_channels, norm=norm),
    )


def fcn_head(in_channels: int, num_classes: int, norm: str = "batch") -> nn.Sequential:
    """torchvision's FCN head: 3×3 convolution to a quarter of the channels, then the classes."""
    inner = in_channels // 4
    return nn.Sequential(
        *conv_norm(in_channels, inner, 3, norm=norm),
        nn.Dropout(0.1),
        nn.Conv2d(inner, num_classes, 1),
    )


def resize_to(x: Tensor, like: Tensor) -> Tensor:
    """`x` enlarged bilinearly to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def auxiliary(head: nn.Module | None, features: Tensor, images: Tensor, name: str) -> Tensor:
    """The auxiliary logits at the images' size; ValueError if the model has no such head."""
    if head is None:
        raise ValueError(
            f"return_aux=True, but this {name} has no auxiliary head; build it with aux=True"
        )
    return resize_to(head(features), images)
