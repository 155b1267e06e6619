"""DeepLabv3 and DeepLabv3+: keep the features large, and look at them with several rates."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.models.backbones import make_backbone
from seglib.models.blocks import conv_norm, make_norm, options_from, resize_to, separable
from seglib.models.taps import valid_taps, warn_of_few_taps

__all__ = ["ASPP", "DeepLabV3", "DeepLabV3Plus", "valid_taps"]


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm for (N, C, 1, 1): with one image in training it uses its running statistics.

    PyTorch raises an error there ("Expected more than 1 value per channel when training"). They
    stay as they are in such a step; otherwise this is `BatchNorm2d`, with the same names.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or input.numel() > input.shape[1]:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class Pooled(nn.Sequential):
    """The branch that sees the whole image: its mean, 1×1 convolution, norm, ReLU, everywhere.

    What it adds is constant over an image. With a batch of one, the BatchNorm behind all branches
    subtracts it again, so nothing is lost by the running statistics of `PooledBatchNorm`.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            PooledBatchNorm(out_channels) if norm == "batch" else make_norm(norm, out_channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).expand(-1, -1, *x.shape[-2:])  # (N, C, h, w)


class ASPP(nn.Module):
    """A 1×1 convolution, one 3×3 for each rate and the image's mean, side by side, then mixed.

    Chen et al., 2017 (arXiv:1706.05587); with `separable_convs` as in DeepLabv3+ (2018,
    arXiv:1802.02611). Takes (N, in_channels, h, w), returns (N, channels, h, w). Warns on a map
    so small that a branch has fewer than two valid taps.
    """

    def __init__(
        self,
        in_channels: int,
        rates: Sequence[int],
        channels: int = 256,
        norm: str = "batch",
        separable_convs: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.rates = check_rates(rates)
        self.convs = nn.ModuleList([conv_norm(in_channels, channels, norm=norm)])
        for rate in self.rates:
            if separable_convs:
                self.convs.append(separable(in_channels, channels, rate, norm))
            else:
                self.convs.append(conv_norm(in_channels, channels, 3, rate, norm))
        self.convs.append(Pooled(in_channels, channels, norm))
        width = len(self.convs) * channels
        self.project = nn.Sequential(*conv_norm(width, channels, norm=norm), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        warn_of_few_taps(x.shape[-2], x.shape[-1], self.rates)
        x = torch.cat([branch(x) for branch in self.convs], dim=1)  # (N, branches·channels, h, w)
        return self.project(x)  # (N, channels, h, w)


def check_rates(rates: Sequence[int]) -> tuple[int, ...]:
    """The rates as a tuple; ValueError unless they are whole numbers from 1 up."""
    found = tuple(rates) if isinstance(rates, Sequence) and not isinstance(rates, str) else ()
    if not found or any(not isinstance(rate, int) or rate < 1 for rate in found):
        raise ValueError(
            f"found atrous_rates={rates!r}, expected whole numbers from 1 up, such as (6, 12, 18)"
        )
    return found


def fcn_head(in_channels: int, num_classes: int, norm: str) -> nn.Sequential:
    """torchvision's FCN head: 3×3 convolution to a quarter of the channels, then the classes."""
    inner = in_channels // 4
    block = conv_norm(in_channels, inner, 3, norm=norm)
    return nn.Sequential(*block, nn.Dropout(0.1), nn.Conv2d(inner, num_classes, 1))


def outputs(
    model: Any, logits: Tensor, middle: Tensor | None, images: Tensor, return_aux: bool
) -> Tensor | tuple[Tensor, Tensor]:
    """The logits at the images' size, and if asked for those of the auxiliary head on `middle`."""
    logits = resize_to(logits, images)  # (N, num_classes, H, W)
    if not return_aux:
        return logits
    if model.aux_classifier is None:
        raise ValueError(f"this {model.name} has no auxiliary head; build it with aux=True")
    return logits, resize_to(model.aux_classifier(middle), images)


class DeepLabV3(nn.Module):
    """Chen et al., 2017 (arXiv:1706.05587): a dilated backbone, ASPP, enlarged in one step.

    The paper's rates are (6, 12, 18) at output stride 16 and twice of them at 8, for images of
    513×513; small images need small ones (see `valid_taps`). Takes images (N, 3, H, W) of any
    size, returns logits (N, num_classes, H, W). The parameters are named as in torchvision, whose
    weights therefore fit. Built with `aux=True`, `model(images, return_aux=True)` also gives the
    logits of a small head on the stage before (for a loop of your own: `fit` trains without).
    """

    name = "deeplabv3"

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet50",
        output_stride: int = 16,
        atrous_rates: tuple[int, ...] = (6, 12, 18),
        channels: int = 256,
        norm: str = "batch",
        aux: bool = False,
    ) -> None:
        super().__init__()
        atrous_rates = check_rates(atrous_rates)
        self.num_classes, self.options = num_classes, options_from(locals())
        self.backbone = make_backbone(backbone, output_stride, norm)
        *_, middle, high = self.backbone.channels
        self.classifier = nn.Sequential(
            ASPP(high, atrous_rates, channels, norm),
            *conv_norm(channels, channels, 3, norm=norm),
            nn.Conv2d(channels, num_classes, 1),
        )
        self.aux_classifier = fcn_head(middle, num_classes, norm) if aux else None

    def forward(self, images: Tensor, return_aux: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        *_, middle, high = self.backbone(images)  # at 1/4, 1/8, …, 1/output_stride
        return outputs(self, self.classifier(high), middle, images, return_aux)


class DeepLabV3Plus(nn.Module):
    """Chen et al., 2018 (arXiv:1802.02611): separable ASPP and a decoder for sharper borders.

    The decoder joins the ASPP's output, enlarged to 1/4 of the image, with the backbone's
    features of that size, which still know where edges are; these are reduced to `low_channels`
    first, so that they do not outweigh the rest. Takes images (N, 3, H, W) of any size, returns
    logits (N, num_classes, H, W); `aux` as in `DeepLabV3`.
    """

    name = "deeplabv3plus"

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet50",
        output_stride: int = 16,
        atrous_rates: tuple[int, ...] = (6, 12, 18),
        channels: int = 256,
        low_channels: int = 48,
        norm: str = "batch",
        aux: bool = False,
    ) -> None:
        super().__init__()
        atrous_rates = check_rates(atrous_rates)
        self.num_classes, self.options = num_classes, options_from(locals())
        self.backbone = make_backbone(backbone, output_stride, norm)
        low, _, middle, high = self.backbone.channels
        self.aspp = ASPP(high, atrous_rates, channels, norm, separable_convs=True, dropout=0.1)
        self.low = conv_norm(low, low_channels, norm=norm)
        self.decoder = nn.Sequential(
            separable(channels + low_channels, channels, norm=norm),
            separable(channels, channels, norm=norm),
            nn.Conv2d(channels, num_classes, 1),
        )
        self.aux_classifier = fcn_head(middle, num_classes, norm) if aux else None

    def forward(self, images: Tensor, return_aux: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        low, _, middle, high = self.backbone(images)
        x = resize_to(self.aspp(high), low)  # (N, channels, H/4, W/4)
        x = torch.cat([x, self.low(low)], dim=1)  # (N, channels + low_channels, H/4, W/4)
        return outputs(self, self.decoder(x), middle, images, return_aux)
