"""The decoder of a U-Net on the features of a classifier."""

import torch
from torch import Tensor, nn

from seglib.models.backbones import make_backbone
from seglib.models.blocks import options_from, resize_to
from seglib.models.unet import DoubleConv


class BackboneUNet(nn.Module):
    """U-Net (Ronneberger et al., 2015, arXiv:1505.04597) with a classifier as its encoder.

    As in TernausNet (Iglovikov & Shvets, 2018, arXiv:1801.05746), so that ImageNet's weights can be
    its start. Skips are the backbone's four feature maps and the image itself; at each the features
    are enlarged bilinearly to its size, joined with it and convolved twice: `base_channels` at the
    image's size, twice as many at 1/4, and so on. Takes images (N, 3, H, W) of any size, returns
    logits (N, num_classes, H, W).
    """

    name = "backbone_unet"

    def __init__(
        self,
        num_classes: int,
        backbone: str = "timm:tf_efficientnet_lite0",
        norm: str = "batch",
        base_channels: int = 16,
    ) -> None:
        super().__init__()
        if base_channels < 1:
            raise ValueError(f"found base_channels={base_channels}, expected a number from 1 up")
        self.num_classes, self.options = num_classes, options_from(locals())
        self.backbone = make_backbone(backbone, norm=norm)
        *skips, channels = self.backbone.channels  # at 1/4, 1/8, 1/16, and 1/32
        self.decoder = nn.ModuleList()
        for i, skip in reversed([*enumerate([3, *skips])]):
            width = base_channels * 2**i
            self.decoder.append(DoubleConv(channels + skip, width, norm))
            channels = width
        self.head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        *skips, x = self.backbone(images)  # (N, C, H/32, W/32)
        for block, skip in zip(self.decoder, [images, *skips][::-1], strict=True):
            x = block(torch.cat([skip, resize_to(x, skip)], dim=1))  # at 1/16, 1/8, 1/4, 1
        return self.head(x)  # (N, num_classes, H, W)
