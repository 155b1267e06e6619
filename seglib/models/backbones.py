"""Backbones: classifiers as feature extractors at 1/4, 1/8, … of the image's size.

A classifier shrinks its input 32 times. For dense prediction the last stages can be kept larger:
a convolution loses its stride, and every one behind it is dilated, so that each weight meets the
same pixels as before ("à trous", Chen et al., 2017, arXiv:1706.05587, section 3).
"""

from itertools import pairwise

from torch import Tensor, nn

from seglib.models.blocks import to_group_norm
from seglib.models.taps import check_batch
from seglib.models.timm_backbone import TimmBackbone
from seglib.util.suggest import did_you_mean

BACKBONES = (
    *("resnet18", "resnet34", "resnet50", "resnet101"),
    *("mobilenet_v3_small", "mobilenet_v3_large"),
)


def make_backbone(
    name: str, output_stride: int = 32, norm: str = "batch"
) -> "Backbone | TimmBackbone":
    """The backbone `name`: one of torchvision's in BACKBONES, or "timm:NAME" for a CNN of timm.

    Raises ValueError for an unknown name, output stride or norm.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"found output_stride={output_stride}, expected 8, 16 or 32")
    if norm not in ("batch", "group"):
        raise ValueError(f'found norm={norm!r}, expected "batch" or "group"')
    if name.startswith("timm:"):
        return TimmBackbone(name.removeprefix("timm:"), output_stride, norm)
    if name not in BACKBONES:
        hint = did_you_mean(name, (*BACKBONES, "timm:NAME"))
        raise ValueError(f"there is no backbone {name!r}{hint}")
    return Backbone(name, output_stride, norm)


class Backbone(nn.ModuleDict):
    """The layers of a torchvision classifier without its head, under torchvision's own names.

    Takes images (N, 3, H, W); returns a list of four feature maps, the last of each stage:
    (N, channels[i], H/4, W/4), then at 1/8, 1/16 and 1/32, none smaller than 1/`output_stride`
    (8, 16 or 32). Odd sizes are rounded up at every halving.

    BatchNorm's momentum is PyTorch's 0.1 in all of them: with the 0.01 of torchvision's MobileNets
    a run of seventy steps would be evaluated with statistics that are still half those of before.
    `norm="group"` has GroupNorm in its place. The weights are random (see `create_model`).
    """

    def __init__(self, name: str, output_stride: int = 32, norm: str = "batch") -> None:
        from torchvision import models

        classifier = models.get_model(name, weights=None)
        layers = dict(getattr(classifier, "features", classifier).named_children())
        for head in ("avgpool", "fc"):  # of a ResNet
            layers.pop(head, None)
        super().__init__(layers)
        self.name, self.output_stride = name, output_stride
        strides = _strides(layers)
        ends = [a for a, b in pairwise(layers) if strides[a] < strides[b]] + [list(layers)[-1]]
        self.taps = [end for end in ends if strides[end] >= 4]
        self.channels = [_out_channels(layers[end]) for end in self.taps]
        rate = 1
        for key, layer in layers.items():
            if strides[key] > output_stride:
                rate = dilate(layer, rate)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.1
        if norm == "group":
            to_group_norm(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        check_batch(self, images)
        features, x = [], images  # (N, 3, H, W)
        for key, layer in self.items():
            x = layer(x)
            if key in self.taps:
                features.append(x)  # (N, C_i, H/2^i, W/2^i)
        return features


def dilate(layer: nn.Module, rate: int) -> int:
    """Take the stride out of `layer`, in place, if it has one, and dilate its convolutions.

    `rate` is the dilation so far. The convolution that loses its stride keeps this rate, and all
    behind it get twice of it. Returns the rate for the layers that follow. (torchvision does the
    same for ResNet-50 and 101 only, and dilates a MobileNet's strided convolution as well.)
    """
    doubled = 2 * rate
    for conv in (module for module in layer.modules() if isinstance(module, nn.Conv2d)):
        kernel = conv.kernel_size[0]
        if kernel > 1:
            conv.dilation, conv.padding = (rate, rate), (rate * (kernel // 2),) * 2
        if conv.stride != (1, 1):
            conv.stride = (1, 1)
            rate = doubled  # (a shortcut's 1×1 changes no more)
    return rate


def _strides(layers: dict[str, nn.Module]) -> dict[str, int]:
    """How many times smaller than the image each layer's output is."""
    strides, stride = {}, 1
    for key, layer in layers.items():
        if any(getattr(module, "stride", 1) in (2, (2, 2)) for module in layer.modules()):
            stride *= 2
        strides[key] = stride
    return strides


def _out_channels(layer: nn.Module) -> int:
    return [m.num_features for m in layer.modules() if isinstance(m, nn.BatchNorm2d)][-1]
