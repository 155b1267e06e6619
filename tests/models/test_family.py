"""What every model of the family must hold: sizes, gradients, options, one image, conversions."""

import copy
import warnings

import pytest
import torch
from test_backbones import random_statistics
from test_unet import count
from torch import nn
from torchvision import models as zoo
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.lraspp import LRASPP as Theirs

from seglib.engine.checkpoints import load_model, save_checkpoint
from seglib.models import available_models, create_model, is_model, model_options

pytestmark = pytest.mark.filterwarnings("ignore:on a feature map of")

MOBILE = {"backbone": "mobilenet_v3_small"}
SMALL = {
    "backbone_unet": {**MOBILE, "base_channels": 4},
    "fcn32s": MOBILE,
    "fcn16s": MOBILE,
    "fcn8s": {"backbone": "resnet18"},
    "segnet": {"base_channels": 4, "depth": 4},
    "deeplabv3": {"backbone": "resnet18", "atrous_rates": (1, 2), "channels": 16, "aux": True},
    "deeplabv3plus": {**MOBILE, "channels": 32, "low_channels": 8, "aux": True},
    "lraspp": {**MOBILE, "channels": 16},
    "segformer": {},
    "torchvision:lraspp_mobilenet_v3_large": {},
    "torchvision:deeplabv3_mobilenet_v3_large": {"aux": True},
}
PUBLISHED = {  # by torchvision, with the auxiliary head if there is
    "lraspp_mobilenet_v3_large": 3_221_538,
    "deeplabv3_mobilenet_v3_large": 11_029_328,
    "fcn_resnet50": 35_322_218,
    "fcn_resnet101": 54_314_346,
    "deeplabv3_resnet50": 42_004_074,
    "deeplabv3_resnet101": 60_996_202,
}


def build(name, num_classes=5, **more):
    torch.manual_seed(0)
    return create_model(name, num_classes, **{**SMALL[name], **more})


def outputs(model, images):
    """The logits, and the auxiliary ones where the model has a head for them."""
    if getattr(model, "aux_classifier", None) is None:
        return [model(images)]
    return list(model(images, return_aux=True))


def test_parameters_are_the_published_ones_and_those_by_hand():
    with torch.device("meta"):
        for name, options, published in (
            *((f"torchvision:{name}", {"aux": name[0] != "l"}, n) for name, n in PUBLISHED.items()),
            ("deeplabv3", {"backbone": "resnet50", "aux": True}, 42_004_074),
            ("deeplabv3", {"backbone": "resnet101", "aux": True, "output_stride": 8}, 60_996_202),
            ("lraspp", {"backbone": "mobilenet_v3_large"}, 3_221_538),
        ):
            assert count(create_model(name, 21, **options)) == published, name
        vgg, resnet = count(zoo.vgg16_bn().features), count(zoo.resnet18()) - 512_000 - 1000
        segnet = create_model("segnet", 7)
        assert count(segnet.encoder) == vgg - sum(2 * [64, 128] + 3 * [256] + 6 * [512])  # biases
        norms = 2 * (3 * 512 + 512 + 512 + 256 + 256 + 256 + 128 + 128 + 64 + 64)
        convs = count(segnet.encoder) - 2 * sum(2 * [64, 128] + 3 * [256] + 6 * [512])
        assert count(segnet.decoder) == convs - 9 * 3 * 64 + norms  # the mirror image
        for name, widths in (("fcn32s", 512), ("fcn16s", 512 + 256), ("fcn8s", 512 + 256 + 128)):
            model = create_model(name, 11, backbone="resnet18")
            assert count(model) == resnet + 11 * widths + 11 * len(model.scores)
        plus = create_model("deeplabv3plus", 11, backbone="resnet18", channels=10, low_channels=4)
    conv = lambda i, o: i * o + 2 * o  # noqa: E731
    separable = lambda i, o: 9 * i + 2 * i + conv(i, o)  # noqa: E731
    aspp = 2 * conv(512, 10) + 3 * separable(512, 10) + conv(50, 10)
    decoder = conv(64, 4) + separable(14, 10) + separable(10, 10) + 11 * 10 + 11
    assert count(plus) == resnet + aspp + decoder


@pytest.mark.parametrize("name", [*SMALL, *(f"{name}, group" for name in SMALL if ":" not in name)])
def test_odd_sizes_and_gradients_everywhere(name):
    name, _, norm = name.partition(", ")
    model = build(name, **({"norm": norm} if norm else {}))
    images = torch.randn(2, 3, 65, 51)
    found = outputs(model, images)
    assert all(logits.shape == (2, 5, 65, 51) for logits in found)
    sum(logits.square().mean() for logits in found).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key
    with torch.no_grad():  # one image is enough, in training, too
        assert all(torch.isfinite(x).all() for x in outputs(model, torch.randn(1, 3, 64, 48)))
        assert model.eval()(images[:1, :, :33, :40]).shape == (1, 5, 33, 40)


@pytest.mark.parametrize("name", SMALL)
def test_checkpoints_and_synchronised_batch_norm_give_the_same_net(name, tmp_path, monkeypatch):
    """A checkpoint needs no network; convert_sync_batchnorm takes every model."""
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)  # nobody asked for the network
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    model, images = build(name).eval(), torch.randn(1, 3, 40, 33)
    save_checkpoint(tmp_path / "a.pt", model)
    twin = load_model(tmp_path / "a.pt")
    assert twin.name == model.name == name and twin.options == model.options
    assert set(model.options) == set(model_options(name))
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model)).eval()
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in synced.modules()) == norms > 0
    assert synced.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(twin(images), model(images))
        torch.testing.assert_close(synced(images), model(images))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus", "lraspp"])
def test_output_stride_by_the_size_of_the_features(name, output_stride):
    with torch.device("meta"):
        model = create_model(name, 3, **SMALL[name], output_stride=output_stride)
        features = model.backbone(torch.zeros(2, 3, 64, 96))[-1]
    assert features.shape[2:] == (64 // output_stride, 96 // output_stride)


def test_deeplabv3_and_the_head_of_lraspp_equal_torchvisions():
    torch.manual_seed(0)
    offline = {"weights": None, "weights_backbone": None}
    theirs = zoo.get_model("deeplabv3_resnet50", num_classes=4, aux_loss=True, **offline)
    random_statistics(theirs)
    rates = {"output_stride": 8, "atrous_rates": (12, 24, 36)}
    with torch.device("meta"):
        ours = create_model("deeplabv3", 4, aux=True, **rates)
        wrapped = create_model("torchvision:deeplabv3_resnet50", 4, aux=True)
    images = torch.randn(1, 3, 41, 56)
    with torch.no_grad():
        expected = theirs(images)
        for model in (ours, wrapped):
            model.load_state_dict(theirs.state_dict(), assign=True)
            logits, aux = model.eval()(images, return_aux=True)
            torch.testing.assert_close(logits, expected["out"])
            torch.testing.assert_close(aux, expected["aux"])
            torch.testing.assert_close(model(images), logits)
    features = zoo.mobilenet_v3_small().features  # not dilated; last layer of each stage
    backbone = IntermediateLayerGetter(features, {"3": "low", "12": "high"})
    theirs = Theirs(backbone, 24, 576, num_classes=4)
    random_statistics(theirs)
    ours = create_model("lraspp", 4, backbone="mobilenet_v3_small", output_stride=32).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 50, 66)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images)["out"])


def test_fcn_by_hand():
    """Scores, enlarged and added; from zero, so that the first prediction is the coarse one."""
    torch.manual_seed(0)
    model = create_model("fcn8s", 3, backbone="resnet18").eval()
    images = torch.randn(1, 3, 50, 70)
    grow = lambda x, size: nn.functional.interpolate(x, size, mode="bilinear")  # noqa: E731
    with torch.no_grad():
        _, c3, c4, c5 = model.backbone(images)
        s5, s4, s3 = model.scores
        assert s3(c3).abs().max() == s4(c4).abs().max() == 0
        coarse = grow(grow(grow(s5(c5), c4.shape[2:]), c3.shape[2:]), (50, 70))
        torch.testing.assert_close(model(images), coarse)
        for score in (s4, s3):
            nn.init.normal_(score.weight)
            nn.init.normal_(score.bias)
        x = grow(s5(c5), c4.shape[2:]) + s4(c4)
        x = grow(x, c3.shape[2:]) + s3(c3)
        torch.testing.assert_close(model(images), grow(x, (50, 70)))


def test_a_unet_on_a_backbone_by_hand():
    model, images = build("backbone_unet").eval(), torch.randn(1, 3, 50, 70)
    low, middle, high, x = 16, 24, 48, 576
    widths = [(x + high, 32), (32 + middle, 16), (16 + low, 8), (8 + 3, 4)]
    double = sum(9 * (i * o + o * o) + 4 * o for i, o in widths)
    assert count(model.decoder) == double and count(model.head) == 4 * 5 + 5
    with torch.no_grad():
        *skips, x = model.backbone(images)
        for block, skip in zip(model.decoder, (*skips[::-1], images), strict=True):
            y = nn.functional.interpolate(x, skip.shape[2:], mode="bilinear")
            x = torch.cat([skip, y], dim=1)
            for conv, norm in ((block[0], block[1]), (block[3], block[4])):
                x = norm(nn.functional.conv2d(x, conv.weight, padding=1)).clamp(min=0)
        torch.testing.assert_close(model(images), model.head(x))


def test_names_bad_arguments_and_the_warning_that_torchvisions_rates_bring():
    wrapped = {f"torchvision:{name}" for name in PUBLISHED}
    assert set(available_models()) == {"unet", *SMALL} | wrapped
    assert all(map(is_model, [*available_models(), "smp:unet/resnet34"]))
    assert not is_model("Sequential")
    model = build("torchvision:deeplabv3_mobilenet_v3_large").eval()
    with pytest.warns(UserWarning, match=r"map of 6×8 .* rate 12, 24, 36 have 1\.0, 1\.0, 1\.0"):
        model(torch.zeros(1, 3, 96, 128))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("torchvision:lraspp_mobilenet_v3_large").eval()(torch.zeros(1, 3, 32, 32))
    # bad arguments
    for name, options, message in (
        ("deeplabv3", {"num_classes": 0}, "num_classes=0"),
        ("deeplabv3", {"atrous_rate": 6}, "no option 'atrous_rate'; did you mean 'atrous_rates'"),
        ("deeplabv3", {"atrous_rates": (0,)}, r"found atrous_rates=\(0,\)"),
        (
            "unet",
            {"backbone": "resnet18"},
            "unet has no option 'backbone'; .* backbone_unet has it",
        ),
        ("backbone_unet", {"base_channels": 0}, "base_channels=0, expected a number from 1 up"),
        ("deeplabv3plus", {"output_stride": 4}, "output_stride=4, expected 8, 16 or 32"),
        ("fcn8s", {"backbone": "resnet52"}, "no backbone 'resnet52'; did you mean 'resnet50'"),
        ("lraspp", {"norm": "none"}, 'norm=\'none\', expected "batch" or "group"'),
        ("segnet", {"norm": "layer"}, "norm='layer'"),
        ("segnet", {"depth": 6}, "depth=6; expected .* 1 to 5"),
        ("torchvision:fcn_resnet5", {}, "did you mean 'torchvision:fcn_resnet50'"),
        ("torchvision:lraspp_mobilenet_v3_large", {"aux": True}, "no auxiliary head; leave aux"),
        ("smp:unet", {}, "found 'smp:unet', expected smp:DECODER/ENCODER"),
        ("unet", {"pretrained": True}, "pretrained=True, .* expected False, 'imagenet', 'coco'"),
        ("unet", {"pretrained": "backbone"}, "pretrained='backbone', which is no file; .*imagenet"),
        ("unet", {"pretrained": "imagenet"}, "unet has no backbone .* such as backbone_unet"),
    ):
        with pytest.raises(ValueError, match=message):
            create_model(name, **{"num_classes": 3, **options})
    for name in (name for name, options in SMALL.items() if "aux" in options):
        told = f"{name} has no auxiliary head; build it with aux=True"
        with pytest.raises(ValueError, match=told):
            build(name, aux=False).eval()(torch.zeros(1, 3, 32, 32), return_aux=True)
