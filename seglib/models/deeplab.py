"""DeepLabv3 and DeepLabv3+: keep the features large, and look at them with several rates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seglib.models.aspp import ASPP, check_rates
from seglib.models.backbones import Backbone
from seglib.models.layers import auxiliary, conv_norm, fcn_head, resize_to, separable


class DeepLabV3(nn.Module):
    """Chen et al., 2017 (arXiv:1706.05587): a dilated backbone, ASPP, enlarged in one step.

    The paper's rates are (6, 12, 18) at output stride 16 and twice of them at 8, for images of
    513×513; small images need small ones (see `seglib.models.aspp.valid_taps`). Takes images
    (N, 3, H, W) of any size, returns logits (N, num_classes, H, W); built with `aux=True`,
    `model(images, return_aux=True)` also gives those of a small head on the stage before (for a
    loop of your own: `fit` trains the logits alone).

    The parameters are named as in torchvision, whose weights therefore fit.
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
        self.num_classes = num_classes
        self.options = {
            "backbone": backbone,
            "output_stride": output_stride,
            "atrous_rates": check_rates(atrous_rates),
            "channels": channels,
            "norm": norm,
            "aux": aux,
        }
        self.backbone = Backbone(backbone, output_stride, norm)
        self.classifier = nn.Sequential(
            ASPP(self.backbone.channels[-1], atrous_rates, channels, norm),
            *conv_norm(channels, channels, 3, norm=norm),
            nn.Conv2d(channels, num_classes, 1),
        )
        width = self.backbone.channels[2]
        self.aux_classifier = fcn_head(width, num_classes, norm) if aux else None

    def forward(self, images: Tensor, return_aux: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        features = self.backbone(images)  # at 1/4, 1/8, …, 1/output_stride
        logits = self.classifier(features[-1])  # (N, num_classes, h, w)
        logits = resize_to(logits, images)  # (N, num_classes, H, W)
        if not return_aux:
            return logits
        return logits, auxiliary(self.aux_classifier, features[2], images, self.name)


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
        self.num_classes = num_classes
        self.options = {
            "backbone": backbone,
            "output_stride": output_stride,
            "atrous_rates": check_rates(atrous_rates),
            "channels": channels,
            "low_channels": low_channels,
            "norm": norm,
            "aux": aux,
        }
        self.backbone = Backbone(backbone, output_stride, norm)
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
        logits = self.decoder(x)  # (N, num_classes, H/4, W/4)
        logits = resize_to(logits, images)  # (N, num_classes, H, W)
        if not return_aux:
            return logits
        return logits, auxiliary(self.aux_classifier, middle, images, self.name)
