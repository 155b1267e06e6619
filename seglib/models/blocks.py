"""What several models share: normalisation, convolutions, enlarging."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def options_from(arguments: dict[str, Any]) -> dict[str, Any]:
    """A constructor's `locals()` as options: what `create_model` needs to build the net again."""
    others = ("self", "num_classes", "__class__")
    return {name: value for name, value in arguments.items() if name not in others}


def make_norm(kind: str, channels: int) -> nn.Module:
    """A normalisation layer: "batch", "group" (4 channels or more a group) or "none"."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(32, channels // 4) if channels % 4 == 0 else 1, channels)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f'found norm={kind!r}, expected "batch", "group" or "none"')


def to_group_norm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d inside `module`, in place, by a GroupNorm of the same channels.

    Scale and shift are kept; running statistics have no counterpart, so a trained network must
    be trained on. Returns `module`.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = make_norm("group", child.num_features).to(child.weight.device)
            norm.load_state_dict({"weight": child.weight, "bias": child.bias})
            if hasattr(child, "act"):  # timm's has the activation inside
                inside: Any = (child.drop, child.act)
                norm = nn.Sequential(norm, *inside)
            setattr(module, name, norm)
        else:
            to_group_norm(child)
    return module


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    dilation: int = 1,
    norm: str = "batch",
    groups: int = 1,
) -> nn.Sequential:
    """Convolution that keeps the size, normalisation, ReLU."""
    stride, padding = 1, dilation * (kernel // 2)
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False
    )
    return nn.Sequential(conv, make_norm(norm, out_channels), nn.ReLU())


def separable(
    in_channels: int, out_channels: int, dilation: int = 1, norm: str = "batch"
) -> nn.Sequential:
    """A 3×3 convolution in two steps: within each channel, then 1×1 across channels.

    9·in + in·out weights in place of 9·in·out. As in DeepLabv3+, each step is followed by
    normalisation and ReLU.
    """
    within = conv_norm(in_channels, in_channels, 3, dilation, norm, groups=in_channels)
    return nn.Sequential(*within, *conv_norm(in_channels, out_channels, norm=norm))


def check_size(images: Tensor, depth: int) -> None:
    """ValueError for images that are too small to be halved `depth` times."""
    height, width = images.shape[-2:]
    if height < 2**depth or width < 2**depth:
        raise ValueError(
            f"found images of {height}×{width} pixels, but a network of depth {depth} needs "
            f"{2**depth} at least; use larger images or a smaller depth"
        )


def resize_to(x: Tensor, like: Tensor) -> Tensor:
    """`x` enlarged bilinearly to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
