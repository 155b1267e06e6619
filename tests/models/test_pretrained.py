"""Pretrained weights without a network: stand-ins of the right name and shapes in torch's cache."""

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import models as zoo

from seglib.engine.checkpoints import load_model, save_checkpoint
from seglib.inference import predict
from seglib.models import create_model
from seglib.models.pretrained import fill, weights_url

pytestmark = pytest.mark.filterwarnings("ignore:on a feature map of")

LRASPP = "torchvision:lraspp_mobilenet_v3_large"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch.hub's folder for weights; every download fails as it does without a network."""

    def offline(url, *args, **kwargs):
        raise URLError("[Errno -2] Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def published(cache: Path, name: str, version: str) -> Path:
    return cache / weights_url(name, version).rsplit("/", 1)[1]


def coco_file(cache, name, **options):
    """As torchvision publishes it: 21 classes, with the auxiliary head if there is one."""
    torch.manual_seed(1)
    model = zoo.get_model(name, weights=None, weights_backbone=None, num_classes=21, **options)
    torch.save(model.state_dict(), published(cache, name, "COCO_WITH_VOC_LABELS_V1"))
    return model.eval()


def hollow(model):
    """The model's state dict with one number a tensor: all names and shapes in a small file."""
    return {
        key: torch.tensor(float(i % 7)).to(value.dtype).expand(value.shape)
        for i, (key, value) in enumerate(model.state_dict().items())
    }


# ---------------------------------------------------------------- ImageNet


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_imagenet_weights_reach_the_backbone(cache, name):
    torch.manual_seed(1)
    classifier = zoo.get_model(name, weights=None)
    torch.save(classifier.state_dict(), published(cache, name, "IMAGENET1K_V1"))
    model = create_model("fcn32s", 3, pretrained="backbone", backbone=name)
    source = getattr(classifier, "features", classifier).state_dict()
    found = model.backbone.state_dict()
    assert all(torch.equal(value, source[key]) for key, value in found.items())
    assert len(source) - len(found) == (2 if name == "resnet18" else 0)  # fc
    assert "pretrained" not in model.options


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus", "fcn8s", "lraspp"])
def test_imagenet_weights_fit_every_model_with_a_backbone(cache, name):
    torch.save(
        hollow(zoo.mobilenet_v3_small()), published(cache, "mobilenet_v3_small", "IMAGENET1K_V1")
    )
    model = create_model(name, 3, pretrained="backbone", backbone="mobilenet_v3_small")
    assert model.backbone["0"][0].weight.unique().numel() == 1


def test_imagenet_weights_in_a_wrapped_model(cache):
    with torch.device("meta"):
        classifier = zoo.mobilenet_v3_large()
    state = {
        key: torch.tensor(1).to(value.dtype).expand(value.shape)
        for key, value in classifier.state_dict().items()
    }
    torch.save(state, published(cache, "mobilenet_v3_large", "IMAGENET1K_V1"))
    model = create_model(LRASPP, 3, pretrained="backbone")
    assert all((p == 1).all() for p in model.backbone.parameters())
    assert not all((p == 1).all() for p in model.classifier.parameters())


# ---------------------------------------------------------------- COCO


def test_coco_loads_and_predicts_as_torchvision(cache):
    theirs = coco_file(cache, "lraspp_mobilenet_v3_large")
    ours = create_model(LRASPP, 21, pretrained="coco").eval()
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    x = torch.randn(1, 3, 33, 48)
    with torch.no_grad():
        expected = theirs(x)["out"]
        torch.testing.assert_close(ours(x), expected)
    labels = predict(ours, image)
    assert labels.shape == (40, 50) and labels.max() < 21


def test_coco_with_another_number_of_classes_gets_a_new_head(cache, tmp_path):
    theirs = coco_file(cache, "lraspp_mobilenet_v3_large").state_dict()
    torch.manual_seed(5)
    ours = create_model(LRASPP, 8, pretrained="coco").eval()
    torch.manual_seed(5)
    fresh = create_model(LRASPP, 8).state_dict()
    new = {key for key, value in ours.state_dict().items() if value.shape != theirs[key].shape}
    assert new == {
        f"classifier.{part}_classifier.{kind}"
        for part in ("low", "high")
        for kind in ("weight", "bias")
    }
    for key, value in ours.state_dict().items():
        assert torch.equal(value, (fresh if key in new else theirs)[key]), key
    assert predict(ours, np.zeros((20, 30, 3), np.uint8)).max() < 8
    save_checkpoint(tmp_path / "a.pt", ours)  # and from here on without the file
    published(cache, "lraspp_mobilenet_v3_large", "COCO_WITH_VOC_LABELS_V1").unlink()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path / "a.pt")(x), ours(x))


@pytest.mark.parametrize("aux", [False, True])
@pytest.mark.parametrize("num_classes", [21, 4])
def test_coco_with_and_without_the_auxiliary_head(cache, aux, num_classes):
    name = "deeplabv3_mobilenet_v3_large"
    theirs = zoo.get_model(name, weights=None, weights_backbone=None, aux_loss=True)
    state = hollow(theirs)
    torch.save(state, published(cache, name, "COCO_WITH_VOC_LABELS_V1"))
    ours = create_model(f"torchvision:{name}", num_classes, pretrained="coco", aux=aux)
    heads = {"classifier.4.", "aux_classifier.4."} if num_classes == 4 else set()
    for key, value in ours.state_dict().items():
        if not any(key.startswith(head) for head in heads):
            assert torch.equal(value, state[key]), key
    assert (ours.aux_classifier is not None) == aux
    assert ours.classifier[4].weight.shape[0] == num_classes


def test_coco_in_our_own_deeplabv3(cache):
    with torch.device("meta"):
        theirs = zoo.get_model(
            "deeplabv3_resnet50", weights=None, weights_backbone=None, aux_loss=True
        )
    state = {
        key: torch.tensor(float(i % 5)).to(value.dtype).expand(value.shape)
        for i, (key, value) in enumerate(theirs.state_dict().items())
    }
    torch.save(state, published(cache, "deeplabv3_resnet50", "COCO_WITH_VOC_LABELS_V1"))
    model = create_model("deeplabv3", 6, pretrained="coco", atrous_rates=(1, 2, 3))
    for key, value in model.state_dict().items():
        if not key.startswith("classifier.4."):
            assert torch.equal(value, state[key]), key
    assert model.classifier[4].weight.shape == (6, 256, 1, 1)


# ---------------------------------------------------------------- the course's own


@pytest.fixture
def carried(tmp_path, monkeypatch):
    """A stand-in for the checkpoint that the repository carries, in half precision."""
    torch.manual_seed(2)
    model = create_model(
        "deeplabv3plus", 8, backbone="mobilenet_v3_small", channels=16, atrous_rates=(1, 2, 3)
    )
    folder = tmp_path / "data" / "weights"
    folder.mkdir(parents=True)
    save_checkpoint(folder / "streets_deeplabv3plus.pt", model.half())
    monkeypatch.setenv("SEGLIB_DATA", str(tmp_path / "data"))
    return model.float().eval()


def test_streets_comes_with_its_options(carried):
    model = create_model("deeplabv3plus", 8, pretrained="streets", channels=16).eval()
    assert model.options == carried.options
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert model(x).dtype == torch.float32
        torch.testing.assert_close(model(x), carried(x))


def test_streets_with_other_classes(carried):
    model = create_model("deeplabv3plus", 3, pretrained="streets")
    different = [
        key
        for key, value in model.state_dict().items()
        if not torch.equal(value, carried.state_dict()[key])
    ]
    assert different == ["decoder.2.weight", "decoder.2.bias"]


def test_streets_with_other_options_is_refused(carried):
    with pytest.raises(ValueError, match=r"found channels=64, but .* trained with 16; leave"):
        create_model("deeplabv3plus", 8, pretrained="streets", channels=64)


def test_streets_without_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLIB_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError,
        match=(
            r"no weights streets_fcn8s\.pt for 'fcn8s' .* looked in .*weights.* leave pretrained out"
        ),
    ):
        create_model("fcn8s", 8, pretrained="streets")


def test_streets_from_a_file_that_is_no_checkpoint(carried, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "data" / "weights" / "streets_unet.pt")
    with pytest.raises(ValueError, match=r"streets_unet\.pt is no checkpoint: it lacks model"):
        create_model("unet", 8, pretrained="streets")


# ---------------------------------------------------------------- what can go wrong


@pytest.mark.parametrize(
    ("name", "kind", "options", "file"),
    [
        ("deeplabv3plus", "backbone", {"backbone": "resnet18"}, "resnet18-f37072fd.pth"),
        ("lraspp", "backbone", {}, "mobilenet_v3_large-8738ca79.pth"),
        (LRASPP, "coco", {}, "lraspp_mobilenet_v3_large-d234d4ea.pth"),
    ],
)
def test_offline(cache, name, kind, options, file):
    with pytest.raises(OSError, match="could not be fetched") as caught:
        create_model(name, 3, pretrained=kind, **options)
    message = str(caught.value)
    assert file in message and str(cache) in message and "leave pretrained out" in message
    assert "Name or service not known" in message
    assert f"https://download.pytorch.org/models/{file}" in message


def test_a_download_of_something_else(cache, monkeypatch):
    def other(*args, **kwargs):
        raise RuntimeError('invalid hash value (expected "f37072fd", got "00")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", other)
    with pytest.raises(OSError, match=r"f37072fd\.pth could not be fetched \(invalid hash"):
        create_model("fcn32s", 3, pretrained="backbone", backbone="resnet18")


def test_the_network_is_asked_once_and_with_the_hash(cache, monkeypatch):
    asked = []

    def fetch(url, path, digest, progress):
        asked.append((url.rsplit("/", 1)[1], digest))
        torch.save(zoo.resnet18().state_dict(), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for _ in range(2):
        create_model("fcn32s", 3, pretrained="backbone", backbone="resnet18")
    assert asked == [("resnet18-f37072fd.pth", "f37072fd")]


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


@pytest.mark.parametrize("content", ["cut", "empty", "evil", "list"])
def test_damaged_files(cache, content, capsys):
    path = published(cache, "resnet18", "IMAGENET1K_V1")
    if content == "evil":
        torch.save({"conv1.weight": Evil()}, path)
    elif content == "list":
        torch.save([1, 2], path)
    else:
        torch.save({"a": torch.zeros(100)}, path)
        path.write_bytes(path.read_bytes()[: 200 if content == "cut" else 0])
    unreadable = r"f37072fd\.pth \(\d+ bytes\) cannot be read"
    with pytest.raises(ValueError, match="holds a list" if content == "list" else unreadable):
        create_model("fcn32s", 3, pretrained="backbone", backbone="resnet18")
    assert "this ran" not in capsys.readouterr().out


def test_the_weights_of_another_network(cache):
    path = published(cache, "resnet18", "IMAGENET1K_V1")
    torch.save(zoo.mobilenet_v3_small().state_dict(), path)
    with pytest.raises(ValueError, match=r"do not fit: \d+ tensors .* right file"):
        create_model("fcn32s", 3, pretrained="backbone", backbone="resnet18")


def test_fill_replaces_nothing_but_the_classes():
    module, state = torch.nn.Linear(4, 3), {"weight": torch.ones(5, 4), "bias": torch.ones(5)}
    with pytest.raises(ValueError, match="2 tensors"):
        fill(module, state)
    assert fill(module, state, replaced_classes=5) == ["weight", "bias"]
    with pytest.raises(ValueError, match="such as weight"):
        fill(module, {**state, "weight": torch.ones(5, 9)}, replaced_classes=5)


@pytest.mark.parametrize(
    ("name", "kind", "options", "message"),
    [
        ("unet", "backbone", {}, "unet has no backbone of a classifier"),
        ("segnet", "backbone", {}, "segnet has no backbone"),
        ("unet", "coco", {}, "no COCO weights for unet on its own"),
        (
            "deeplabv3",
            "coco",
            {"backbone": "resnet18"},
            "no COCO weights for deeplabv3 on resnet18",
        ),
        ("lraspp", "coco", {}, "no COCO weights for lraspp .* torchvision:"),
        ("deeplabv3", "coco", {"channels": 64}, "channels=64 .* 256 channels"),
        ("fcn8s", "backbone", {"norm": "group"}, 'needs norm="batch"'),
    ],
)
def test_weights_that_do_not_exist(cache, name, kind, options, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, 3, pretrained=kind, **options)
