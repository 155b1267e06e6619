"""Pretrained weights without a network: stand-ins of the right name and shapes in torch's cache."""

import itertools
from pathlib import Path
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import models as zoo

from seglib.engine.checkpoints import load_model, save_checkpoint
from seglib.inference import predict
from seglib.models import create_model
from seglib.models.pretrained import weights_url

pytestmark = pytest.mark.filterwarnings("ignore:on a feature map of")

IMAGENET, COCO = "IMAGENET1K_V1", "COCO_WITH_VOC_LABELS_V1"
HEADS = ("fcn32s", "fcn8s", "deeplabv3", "deeplabv3plus", "lraspp", "backbone_unet")
LRASPP, DEEPLAB = (f"torchvision:{name}_mobilenet_v3_large" for name in ("lraspp", "deeplabv3"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch.hub's folder for weights; every download fails as it does without a network."""

    offline = Mock(side_effect=URLError("[Errno -2] Name or service not known"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def published(cache):
    """Where a model's weights lie, once `published(name, version, state)` has written them."""

    def publish(name, version, state):
        path = cache / weights_url(name, version).rsplit("/", 1)[1]
        torch.save(state, path)
        return path

    return publish


def hollow(name, **options):
    """A torchvision model's state dict, one number a tensor: names and shapes in a small file."""
    with torch.device("meta"):
        model = zoo.get_model(name, weights=None, **options)
        state = model.state_dict()
    numbers = zip(itertools.cycle(range(1, 8)), state.items())
    return {key: torch.tensor(n).to(like.dtype).expand(like.shape) for n, (key, like) in numbers}


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small"])
@pytest.mark.parametrize("name", HEADS)
def test_imagenet_weights_reach_every_backbone(published, name, backbone):
    source = hollow(backbone)
    published(backbone, IMAGENET, source)
    model = create_model(name, 3, pretrained="imagenet", backbone=backbone)
    for key, value in model.backbone.state_dict().items():
        prefix = "features." if backbone.startswith("mobilenet") else ""
        assert torch.equal(value, source[prefix + key]), key
    assert "pretrained" not in model.options


def test_weights_of_a_wrapped_model_and_that_coco_predicts_as_torchvision(published, tmp_path):
    published("mobilenet_v3_large", IMAGENET, hollow("mobilenet_v3_large"))
    model = create_model(LRASPP, 3, pretrained="imagenet")
    assert all((p == p.flatten()[0]).all() for p in model.backbone.parameters())
    assert model.classifier.cbr[0].weight.unique().numel() > 1
    name = LRASPP.removeprefix("torchvision:")
    theirs = zoo.get_model(name, weights=None, weights_backbone=None, num_classes=21).eval()
    file = published(name, COCO, theirs.state_dict())
    ours, fewer = (create_model(LRASPP, n, pretrained="coco").eval() for n in (21, 8))
    x = torch.randn(1, 3, 33, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x)["out"])
        save_checkpoint(tmp_path / "a.pt", fewer)  # and from here on without the file
        file.unlink()
        torch.testing.assert_close(load_model(tmp_path / "a.pt")(x), fewer(x))
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert predict(fewer, image).shape == (40, 50) and predict(fewer, image).max() < 8


@pytest.mark.parametrize("num_classes", [21, 4])
@pytest.mark.parametrize("name", [LRASPP, f"{DEEPLAB}, aux", DEEPLAB, "deeplabv3"])
def test_coco_replaces_nothing_but_the_last_layer(published, name, num_classes):
    name, _, aux = name.partition(", ")
    options = {"aux": True} if aux else {"atrous_rates": (1, 2, 3)} if name == "deeplabv3" else {}
    architecture = "deeplabv3_resnet50" if name == "deeplabv3" else name.partition(":")[2]
    head = {} if architecture.startswith("lraspp") else {"aux_loss": True}
    state = hollow(architecture, weights_backbone=None, **head)
    published(architecture, COCO, state)
    torch.manual_seed(5)
    fresh = create_model(name, num_classes, **options).state_dict()
    torch.manual_seed(5)
    ours = create_model(name, num_classes, pretrained="coco", **options).state_dict()
    assert any(key.startswith("aux_") for key in ours) == options.get("aux", False)
    replaced = {key for key, value in ours.items() if value.shape != state[key].shape}
    assert bool(replaced) == (num_classes == 4)
    assert all(len(ours[key]) == num_classes for key in replaced)
    for key, value in ours.items():
        assert torch.equal(value, (fresh if key in replaced else state)[key]), key


@pytest.fixture
def carried(tmp_path, monkeypatch):
    """A stand-in for the checkpoint that the repository carries, in half precision."""
    torch.manual_seed(2)
    options = {"backbone": "mobilenet_v3_small", "channels": 16, "atrous_rates": (1, 2, 3)}
    model = create_model("deeplabv3plus", 8, **options)
    (folder := tmp_path / "data" / "weights").mkdir(parents=True)
    save_checkpoint(folder / "streets_deeplabv3plus.pt", model.half())
    torch.save({"a": torch.zeros(1)}, folder / "streets_unet.pt")
    monkeypatch.setenv("SEGLIB_DATA", str(tmp_path / "data"))
    return model.float().eval()


def test_streets_comes_with_its_options_or_does_not_fit(carried):
    state = carried.state_dict()
    for num_classes, replaced in ((8, []), (3, ["decoder.2.weight", "decoder.2.bias"])):
        model = create_model("deeplabv3plus", num_classes, pretrained="streets", channels=16)
        assert model.options == carried.options
        assert next(model.parameters()).dtype == torch.float32
        found = model.state_dict().items()
        assert [k for k, value in found if not torch.equal(value, state[k])] == replaced
    for name, options, message in (
        ("deeplabv3plus", {"channels": 64}, "found channels=64, but .* trained with 16; leave"),
        ("fcn8s", {}, r"no weights streets_fcn8s\.pt for 'fcn8s' .* looked in .*weights.* leave"),
        ("unet", {}, r"streets_unet\.pt is not a checkpoint .* bare state dict of 1 tensors"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            create_model(name, 8, pretrained="streets", **options)


def test_a_carried_checkpoint_is_known_by_its_name_unless_a_file_is_called_so(
    carried, tmp_path, monkeypatch
):
    other = create_model("unet", 3, base_channels=4, depth=1)
    folder = tmp_path / "data" / "weights"
    save_checkpoint(folder / "imagenet_streets_deeplabv3plus.pt", carried)
    (tmp_path / "here" / "streets").mkdir(parents=True)  # a folder is no checkpoint
    monkeypatch.chdir(tmp_path / "here")
    for name in ("streets", Path("streets"), "imagenet+streets"):
        found = load_model(name)
        assert found.options == carried.options and next(found.parameters()).dtype == torch.float32
        for key, value in found.state_dict().items():
            assert torch.equal(value, carried.state_dict()[key]), key
    start = create_model("deeplabv3plus", 8, pretrained="imagenet+streets").state_dict()
    assert all(torch.equal(value, start[key]) for key, value in carried.state_dict().items())
    for path in ("./streets", "streets.pt", "street"):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint street.*: streets, imagenet\+"):
            load_model(path)
    (tmp_path / "here" / "streets").rmdir()
    save_checkpoint("streets", other)
    assert load_model("streets").name == load_model("./streets").name == "unet"


OWN = {  # small networks, and their last layers
    "unet": ({"base_channels": 4, "depth": 1}, {"head.weight", "head.bias"}),
    "segnet": ({}, None),
    "fcn8s": ({"backbone": "mobilenet_v3_small"}, None),
    "deeplabv3plus": ({"backbone": "mobilenet_v3_small", "channels": 16, "aux": True}, None),
    "lraspp": ({"backbone": "mobilenet_v3_small"}, None),
    LRASPP: ({}, None),
}


@pytest.mark.parametrize("name", OWN)
def test_a_checkpoint_of_ones_own_fills_all_but_the_last_layer(tmp_path, name):
    options, last = OWN[name]
    trained = create_model(name, 3, **options)
    save_checkpoint(path := tmp_path / "best.pt", trained)
    source = trained.state_dict()
    for num_classes, given in ((3, str(path)), (5, path)):
        state = create_model(name, num_classes, pretrained=given).state_dict()
        replaced = {key for key, value in state.items() if value.shape != source[key].shape}
        assert all(torch.equal(state[key], source[key]) for key in state.keys() - replaced)
        assert all(len(state[key]) == 5 for key in replaced) and bool(replaced) == (
            num_classes == 5
        )
        assert last is None or replaced in (set(), last)


def resnet_fcn():
    return create_model("fcn32s", 3, pretrained="imagenet", backbone="resnet18")


def test_offline_and_that_the_network_is_asked_once_and_with_the_hash(cache, monkeypatch):
    with pytest.raises(OSError, match=r"resnet18-f37072fd\.pth could not be fetched"):
        resnet_fcn()
    with pytest.raises(OSError, match="could not be fetched") as caught:
        create_model(LRASPP, 3, pretrained="coco")
    file = "lraspp_mobilenet_v3_large-d234d4ea.pth"
    url = f"https://download.pytorch.org/models/{file}"
    for part in (url, str(cache), "leave pretrained out", "Name or service not known"):
        assert part in str(caught.value)
    asked = []

    def fetch(url, path, digest, progress):
        asked.append((url.rsplit("/", 1)[1], digest))
        if len(asked) == 1:
            raise RuntimeError('invalid hash value (expected "f37072fd", got "00")')
        torch.save(hollow("resnet18"), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(OSError, match=r"f37072fd\.pth could not be fetched \(invalid hash"):
        resnet_fcn()
    for _ in range(2):
        resnet_fcn()
    assert asked == [("resnet18-f37072fd.pth", "f37072fd")] * 2


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def test_damaged_files(published, capsys):
    for content, kept, message in (
        ({"a": torch.zeros(100)}, 200, r"f37072fd\.pth \(200 bytes\) cannot be read"),
        ({"a": torch.zeros(100)}, 0, r"f37072fd\.pth \(0 bytes\) cannot be read"),
        ({"conv1.weight": Evil()}, None, r"f37072fd\.pth \(\d+ bytes\) cannot be read"),
        ([1, 2], None, "holds a list"),
        ({"conv1.weight": torch.zeros(2)}, None, r"do not fit: of \d+ tensors .* right file"),
    ):
        path = published("resnet18", IMAGENET, content)
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match=message):
            resnet_fcn()
    assert "this ran" not in capsys.readouterr().out


def test_weights_that_do_not_exist(cache):
    for name, kind, options, message in (
        ("unet", "imagenet", {}, "unet has no backbone of a classifier"),
        ("unet", "coco", {}, "no COCO weights for unet"),
        ("deeplabv3", "coco", {"backbone": "resnet18"}, "for deeplabv3 with .*resnet18"),
        ("lraspp", "coco", {}, "no COCO weights for lraspp .* torchvision:"),
        ("deeplabv3", "coco", {"channels": 64}, "'channels': 64.* 256 channels"),
        ("fcn8s", "imagenet", {"norm": "group"}, 'needs norm="batch"'),
    ):
        with pytest.raises(ValueError, match=message):
            create_model(name, 3, pretrained=kind, **options)
