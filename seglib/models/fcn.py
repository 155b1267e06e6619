"""Fully convolutional networks (Long, Shelhamer & Darrell, 2015, arXiv:1411.4038).

A 1×1 convolution scores the last features; FCN-16s and FCN-8s add the scores of larger, earlier
features. As in the paper these start at zero: training begins with the coarse prediction and
learns what to add. On ResNets and MobileNets in the place of VGG, and with fixed bilinear
enlargement, which is what the paper's transposed convolutions start as.
"""

from torch import Tensor, nn

from seglib.models.backbones import make_backbone
from seglib.models.blocks import options_from, resize_to


class FCN32s(nn.Module):
    """Scores at 1/32 of the size, enlarged 32 times. Images (N, 3, H, W) -> logits (N, C, H, W)."""

    name = "fcn32s"
    skips = 0  # how many earlier feature maps are scored as well

    def __init__(self, num_classes: int, backbone: str = "resnet50", norm: str = "batch") -> None:
        super().__init__()
        self.num_classes, self.options = num_classes, options_from(locals())
        self.backbone = make_backbone(backbone, output_stride=32, norm=norm)
        deepest_first = self.backbone.channels[::-1][: self.skips + 1]
        self.scores = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in deepest_first)
        for parameter in self.scores[1:].parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)[::-1]  # at 1/32, 1/16, 1/8, 1/4
        x = self.scores[0](features[0])  # (N, num_classes, H/32, W/32)
        for score, skip in zip(self.scores[1:], features[1:], strict=False):
            x = resize_to(x, skip) + score(skip)  # (N, num_classes, H/16, …), then H/8
        return resize_to(x, images)  # (N, num_classes, H, W)


class FCN16s(FCN32s):
    """Scores at 1/32 and 1/16, added, enlarged 16 times."""

    name, skips = "fcn16s", 1


class FCN8s(FCN32s):
    """Scores at 1/32, 1/16 and 1/8, added, enlarged 8 times."""

    name, skips = "fcn8s", 2
