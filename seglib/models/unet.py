"""U-Net (Ronneberger, Fischer & Brox, 2015, arXiv:1505.04597), with padding and a norm layer.

Two things differ from the paper, as in nearly every implementation of today: 3×3 convolutions
are padded, so that the output has the input's size, and each is followed by a normalisation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.models.blocks import check_size, make_norm, options_from


class DoubleConv(nn.Sequential):
    """Two times: 3×3 convolution, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm: str = "batch") -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=1, bias=norm == "none"),
                make_norm(norm, out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class Up(nn.Module):
    """Double the size, halve the channels, join the skip, convolve twice.

    `up="transpose"` is the paper's 2×2 up-convolution; "resize" enlarges bilinearly and then
    mixes the channels by a 1×1 convolution (no checkerboard: Odena et al., 2016).
    """

    def __init__(self, channels: int, norm: str = "batch", up: str = "transpose") -> None:
        super().__init__()
        half = channels // 2
        self.up: nn.Module
        if up == "transpose":
            self.up = nn.ConvTranspose2d(channels, half, 2, stride=2)
        elif up == "resize":
            self.up = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(channels, half, 1)
            )
        else:
            raise ValueError(f'found up={up!r}, expected "transpose" or "resize"')
        self.conv = DoubleConv(channels, half, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)  # (N, C/2, 2h, 2w)
        missing_h, missing_w = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        # Pooling an odd size dropped its last row or column (an export is for all sizes)
        if torch.compiler.is_exporting() or missing_h or missing_w:
            x = F.pad(x, (0, missing_w, 0, missing_h), mode="replicate")
        return self.conv(torch.cat([skip, x], dim=1))  # (N, C/2, H, W)


class UNet(nn.Module):
    """Encoder, bottleneck and decoder with a skip at every size.

    The defaults are the usual large net: 31,038,933 parameters for 21 classes. Takes float
    images (N, in_channels, H, W) of any size from 2**depth pixels up, odd ones too; returns
    logits (N, num_classes, H, W).
    """

    name = "unet"

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        base_channels: int = 64,
        depth: int = 4,
        norm: str = "batch",
        up: str = "transpose",
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels, depth) < 1 or base_channels < 2 or base_channels % 2:
            raise ValueError(
                f"found num_classes={num_classes}, in_channels={in_channels}, depth={depth}, "
                f"base_channels={base_channels}; expected numbers from 1 up, base_channels even"
            )
        self.num_classes, self.options = num_classes, options_from(locals())
        widths = [base_channels * 2**i for i in range(depth + 1)]
        self.encoder = nn.ModuleList(
            DoubleConv(i, o, norm) for i, o in zip([in_channels, *widths], widths, strict=False)
        )
        self.ups = nn.ModuleList(Up(width, norm, up) for width in reversed(widths[1:]))
        self.head = nn.Conv2d(base_channels, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        check_size(images, depth=len(self.ups))
        features, x = [], images  # (N, 3, H, W)
        for i, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if i else x)  # (N, C_i, H/2^i, W/2^i)
            features.append(x)
        for up, skip in zip(self.ups, reversed(features[:-1]), strict=True):
            x = up(x, skip)  # (N, C_i, H/2^i, W/2^i)
        return self.head(x)  # (N, num_classes, H, W)
