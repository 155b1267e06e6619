"""LR-ASPP (Howard et al., 2019, arXiv:1905.02244, section 6.4): a very cheap head."""

from torch import Tensor, nn

from seglib.models.backbones import make_backbone
from seglib.models.blocks import conv_norm, options_from, resize_to


class LRASPPHead(nn.Module):
    """Last features, weighed channel by channel by the image's mean, plus a score of larger ones.

    Takes low (N, low_channels, h, w) and high (N, high_channels, h', w'), returns logits
    (N, num_classes, h, w).
    """

    def __init__(
        self, low_channels: int, high_channels: int, num_classes: int, channels: int, norm: str
    ) -> None:
        super().__init__()
        self.cbr = conv_norm(high_channels, channels, norm=norm)
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(high_channels, channels, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(low_channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        x = self.cbr(high) * self.scale(high)  # (N, channels, h', w')
        x = resize_to(x, low)  # (N, channels, h, w)
        return self.low_classifier(low) + self.high_classifier(x)


class LRASPP(nn.Module):
    """The head above on a backbone: images (N, 3, H, W) -> logits (N, num_classes, H, W)."""

    name = "lraspp"

    def __init__(
        self,
        num_classes: int,
        backbone: str = "mobilenet_v3_large",
        output_stride: int = 16,
        channels: int = 128,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.num_classes, self.options = num_classes, options_from(locals())
        self.backbone = make_backbone(backbone, output_stride, norm)
        _, low, _, high = self.backbone.channels
        self.classifier = LRASPPHead(low, high, num_classes, channels, norm)

    def forward(self, images: Tensor) -> Tensor:
        _, low, _, high = self.backbone(images)
        logits = self.classifier(low, high)  # (N, num_classes, H/8, W/8)
        return resize_to(logits, images)  # (N, num_classes, H, W)
