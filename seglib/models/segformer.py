"""SegFormer (Xie et al., 2021, arXiv:2105.15203): a transformer of four stages, a plain decoder.

Feature maps are (N, H, W, C) inside the transformer, so that Linear and LayerNorm see the channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import normal_, trunc_normal_, zeros_

from seglib.models.blocks import conv_norm, options_from, resize_to
from seglib.models.hub import segformer_weights
from seglib.models.pretrained import fill

WIDE = (64, 128, 320, 512)
VARIANTS = {  # channels and blocks of the four stages, channels of the decoder (table 6)
    "b0": ((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": (WIDE, (2, 2, 2, 2), 256),
    "b2": (WIDE, (3, 4, 6, 3), 768),
    "b3": (WIDE, (3, 4, 18, 3), 768),
    "b4": (WIDE, (3, 8, 27, 3), 768),
    "b5": (WIDE, (3, 6, 40, 3), 768),
}
HEADS, REDUCTIONS = (1, 2, 5, 8), (8, 4, 2, 1)  # of the stages: attention heads, and `reduction`


class PatchEmbedding(nn.Module):
    """Patches that overlap: a convolution wider than its stride, then LayerNorm.

    Takes (N, in_channels, H, W), returns (N, H/stride, W/stride, channels).
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Attention(nn.Module):
    """Every place asks (query) a map that is `reduction` times smaller (keys, values).

    Takes and returns (N, H, W, channels). Memory for the weights goes with (H·W)² / reduction².
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.query, self.key, self.value, self.project = (
            nn.Linear(channels, channels) for _ in range(4)
        )
        if reduction > 1:
            self.reduce = nn.Conv2d(channels, channels, reduction, reduction)
            self.norm = nn.LayerNorm(channels)

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What attention is computed from: (N, heads, H·W, C/heads), and twice (…, h·w, …)."""
        smaller = self.norm(self._reduced(x)) if self.reduction > 1 else x  # (N, h, w, C)
        parts = self.query(x), self.key(smaller), self.value(smaller)
        query, key, value = (
            part.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts
        )
        return query, key, value

    def forward(self, x: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.queries_keys_values(x))
        return self.project(mixed.transpose(1, 2).reshape(x.shape))  # (N, H, W, C)

    def _reduced(self, x: Tensor) -> Tensor:
        if min(x.shape[1:3]) < self.reduction:  # smaller than a single window
            height, width = (max(0, self.reduction - side) for side in x.shape[1:3])
            x = F.pad(x, (0, 0, 0, width, 0, height))
        return self.reduce(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class MixFFN(nn.Module):
    """Two linear layers around a depthwise 3×3 convolution, whose zero padding tells positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 4 * channels
        self.expand, self.shrink = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.expand(x).permute(0, 3, 1, 2))  # (N, 4·C, H, W)
        return self.shrink(F.gelu(x).permute(0, 2, 3, 1))  # (N, H, W, C)


class Block(nn.Module):
    """Attention, then Mix-FFN, each behind a LayerNorm and beside a shortcut.

    In training a sample skips each of them with probability `drop` (stochastic depth).
    """

    def __init__(self, channels: int, heads: int, reduction: int, drop: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention, self.ffn = Attention(channels, heads, reduction), MixFFN(channels)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._dropped(self.attention(self.norm1(x)))
        return x + self._dropped(self.ffn(self.norm2(x)))  # (N, H, W, C)

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
        return x * kept / (1 - self.drop)


class MixTransformer(nn.Module):
    """The backbone: images (N, 3, H, W) -> four maps (N, channels[i], H/4, …), down to H/32."""

    def __init__(self, variant: str = "b0", drop_path: float = 0.1) -> None:
        super().__init__()
        self.name = f"mit_{variant}"
        self.channels, depths, _ = VARIANTS[variant]
        before, last = 3, sum(depths) - 1
        drops = iter([drop_path * i / last for i in range(last + 1)])  # more in deeper blocks
        self.embeddings, self.stages, self.norms = (nn.ModuleList() for _ in range(3))
        for i, (width, depth) in enumerate(zip(self.channels, depths, strict=True)):
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            self.embeddings.append(PatchEmbedding(before, width, kernel, stride))
            blocks = [Block(width, HEADS[i], REDUCTIONS[i], next(drops)) for _ in range(depth)]
            self.stages.append(nn.Sequential(*blocks))
            self.norms.append(nn.LayerNorm(width))
            before = width

    def forward(self, images: Tensor) -> list[Tensor]:
        x, features = images, []
        for embedding, stage, norm in zip(self.embeddings, self.stages, self.norms, strict=True):
            x = norm(stage(embedding(x))).permute(0, 3, 1, 2)  # (N, C_i, H/4·2^i, W/4·2^i)
            features.append(x)
        return features

    def load_imagenet(self) -> None:
        """Fill in the published ImageNet weights. OSError if they cannot be fetched."""
        state = segformer_weights(f"nvidia/{self.name.replace('_', '-')}")
        own = {k.removeprefix("backbone."): v for k, v in state.items() if "backbone." in k}
        fill(self, own, what=f"the weights of {self.name}")


class SegFormer(nn.Module):
    """A Mix Transformer and the all-MLP decoder: images (N, 3, H, W) -> (N, num_classes, H, W).

    The decoder scores at a quarter of the size; the *logits* are enlarged, so that an argmax sees
    full-size scores. `norm` is the decoder's only normalisation; the backbone has LayerNorm. What
    fills no window of the reduction at the right and at the bottom is in no key, as published.
    """

    name = "segformer"

    def __init__(
        self, num_classes: int, variant: str = "b0", norm: str = "batch", drop_path: float = 0.1
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"found variant={variant!r}, expected one of {', '.join(VARIANTS)}")
        if not 0 <= drop_path < 1:
            raise ValueError(f"found drop_path={drop_path}, expected a probability below 1")
        self.num_classes, self.options = num_classes, options_from(locals())
        self.backbone = MixTransformer(variant, drop_path)
        before, channels = self.backbone.channels, VARIANTS[variant][2]
        self.projections = nn.ModuleList([nn.Linear(width, channels) for width in before])
        self.fuse = conv_norm(4 * channels, channels, norm=norm)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        maps = []
        for project, x in zip(self.projections, self.backbone(images), strict=True):
            maps.append(project(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))  # (N, channels, h, w)
        same = [resize_to(x, maps[0]) for x in maps[:0:-1]]  # the smallest map first
        x = self.fuse(torch.cat([*same, maps[0]], dim=1))  # (N, channels, H/4, W/4)
        logits = self.classifier(self.dropout(x))  # (N, num_classes, H/4, W/4)
        return resize_to(logits, images)  # (N, num_classes, H, W)

    def load_ade20k(self) -> None:
        """Fill in the weights published for ADE20K's 150 classes; another number: a new head."""
        variant = self.options["variant"]
        size = "640-640" if variant == "b5" else "512-512"
        name = f"segformer-{variant}-finetuned-ade-{size}"
        fill(self, segformer_weights(f"nvidia/{name}"), 150, f"the weights of {name}")


def initialise(layer: nn.Module) -> None:
    """As the published code: truncated normal for Linear, He's by outputs for convolutions."""
    if isinstance(layer, nn.Linear):
        trunc_normal_(layer.weight, std=0.02)
    elif isinstance(layer, nn.Conv2d):
        fan_out = layer.weight[0, 0].numel() * layer.out_channels // layer.groups
        normal_(layer.weight, std=(2 / fan_out) ** 0.5)
    if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
        zeros_(layer.bias)
