"""SegNet (Badrinarayanan et al., 2015, arXiv:1511.00561): remember where the maxima were.

The decoder enlarges without a skip's features: each value returns to the place from which max
pooling took it, zeros fill the rest, and convolutions make the map dense again.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.models.blocks import check_size, conv_norm, options_from

WIDTHS, CONVOLUTIONS = (1, 2, 4, 8, 8), (2, 2, 3, 3, 3)  # of VGG-16, in base_channels


class SegNet(nn.Module):
    """VGG-16's thirteen convolutions, and their mirror image with unpooling.

    Takes float images (N, in_channels, H, W) of any size from 2**depth pixels up; returns logits
    (N, num_classes, H, W). `depth` (1 to 5) is the number of poolings.
    """

    name = "segnet"

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        base_channels: int = 64,
        depth: int = 5,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if not 1 <= depth <= 5 or min(in_channels, base_channels) < 1:
            raise ValueError(
                f"found in_channels={in_channels}, base_channels={base_channels}, depth={depth}; "
                "expected channels from 1 up and a depth of 1 to 5"
            )
        self.num_classes, self.options = num_classes, options_from(locals())
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = in_channels
        for times, count in zip(WIDTHS[:depth], CONVOLUTIONS[:depth], strict=True):
            width = times * base_channels
            inwards = [before, *[width] * count]
            outwards = inwards[::-1] if len(self.encoder) else [*[width] * count]
            self.encoder.append(_convolutions(inwards, norm))
            self.decoder.insert(0, _convolutions(outwards, norm))
            before = width
        self.head = nn.Conv2d(base_channels, num_classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        check_size(images, depth=len(self.encoder))
        places, x = [], images  # (N, 3, H, W)
        for block in self.encoder:
            x = block(x)  # (N, C_i, H/2^i, W/2^i)
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, 2, return_indices=True)  # (N, C_i, H/2^(i+1), …)
            places.append((indices, size))
        for block, (indices, size) in zip(self.decoder, reversed(places), strict=True):
            # (F.max_unpool2d does this after a check that torch.export cannot prove for odd sizes)
            x = torch.ops.aten.max_unpool2d(x, indices, size)  # (N, C_i, H/2^i, W/2^i)
            x = block(x)  # (N, C_(i-1), H/2^i, W/2^i)
        return self.head(x)  # (N, num_classes, H, W)


def _convolutions(channels: list[int], norm: str) -> nn.Sequential:
    """3×3 convolutions with norm and ReLU from channels[0] to channels[1] to …"""
    return nn.Sequential(*(conv_norm(i, o, 3, norm=norm) for i, o in pairwise(channels)))
