"""Backbones: torchvision's own features as oracle, and the identity behind dilation."""

import pytest
import torch
from torch import nn
from torchvision import models as zoo
from torchvision.ops import SqueezeExcitation

from seglib.models.backbones import BACKBONES, Backbone

CHANNELS = {
    **{name: [64, 128, 256, 512] for name in ("resnet18", "resnet34")},
    **{name: [256, 512, 1024, 2048] for name in ("resnet50", "resnet101")},
    "mobilenet_v3_small": [16, 24, 48, 576],
    "mobilenet_v3_large": [24, 40, 112, 960],
}


def random_statistics(module):
    """Give BatchNorm numbers that are not 0 and 1, so that a mix-up would show."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, 0, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return module.eval()


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", BACKBONES)
def test_sizes_and_channels_and_no_other_weights(name, output_stride):
    with torch.device("meta"):  # shapes alone: nothing is computed
        backbone, theirs = Backbone(name, output_stride).eval(), zoo.get_model(name)
        features = backbone(torch.zeros(2, 3, 65, 96))
    strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    for found, channels, s in zip(features, CHANNELS[name], strides, strict=True):
        assert found.shape == (2, channels, -(-65 // s), 96 // s)
    state = getattr(theirs, "features", theirs).state_dict()
    state = {k: v.shape for k, v in state.items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in backbone.state_dict().items()} == state


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_features_are_those_of_the_classifier(name):
    torch.manual_seed(0)
    classifier = random_statistics(zoo.get_model(name))
    children = dict(getattr(classifier, "features", classifier).named_children())
    layers = nn.Sequential(*(part for k, part in children.items() if k not in ("avgpool", "fc")))
    backbone = Backbone(name).eval()
    state = dict(zip(backbone.state_dict(), layers.state_dict().values(), strict=True))
    backbone.load_state_dict(state)
    images = torch.randn(1, 3, 40, 56)
    features = backbone(images)
    torch.testing.assert_close(features[-1], layers(images))
    torch.testing.assert_close(features[1], layers[: 6 if name == "resnet18" else 4](images))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v3_small"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_backbone_computes_the_old_values_and_those_in_between(name, output_stride):
    torch.manual_seed(0)
    plain, large = random_statistics(Backbone(name)), Backbone(name, output_stride).eval()
    large.load_state_dict(plain.state_dict())
    # squeeze-and-excitation averages over the whole map, which now has other values as well
    for block in (*plain.modules(), *large.modules()):
        for key, child in block.named_children():
            if isinstance(child, SqueezeExcitation):
                setattr(block, key, nn.Identity())
    images = torch.randn(1, 3, 75, 98).double()
    pairs = zip(plain.double()(images), large.double()(images), strict=True)
    for stride, (small, big) in zip((4, 8, 16, 32), pairs, strict=True):
        step = max(1, stride // output_stride)
        torch.testing.assert_close(big[..., ::step, ::step], small)  # borders included


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_one_value_per_channel_is_explained_and_statistics_follow_short_runs(name):
    """After thirty batches of a mean of 5 little is left of the initial 0."""
    backbone = Backbone(name)
    with pytest.raises(ValueError, match=r'one image of 32×20 pixels .* stride 32 .*norm="group"'):
        backbone(torch.zeros(1, 3, 32, 20))
    backbone(torch.randn(1, 3, 32, 40))
    assert backbone.eval()(torch.zeros(1, 3, 32, 20))[-1].shape[2:] == (1, 1)
    norm = next(part for part in Backbone(name).modules() if isinstance(part, nn.BatchNorm2d))
    for _ in range(30):
        norm(torch.randn(2, norm.num_features, 4, 4) + 5)
    assert (norm.running_mean - 5).abs().max() < 0.7
