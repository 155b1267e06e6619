"""The bricks that the models of the family share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seglib.models.norms import make_norm


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
