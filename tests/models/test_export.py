"""torch.export with a free batch, height and width: one graph for every batch and size."""

import warnings

import pytest
import torch
from torch.export import Dim, export

from seglib.models import available_models, create_model

RESNET = {"backbone": "resnet18"}
MOBILE = {"backbone": "mobilenet_v3_small", "channels": 16}
# name, options, smallest size (in a graph of free sizes PyTorch allows no map of one pixel).
NETS = [
    ("unet", {"base_channels": 4, "depth": 2}, 8),
    ("unet", {"base_channels": 4, "up": "resize"}, 32),
    ("segnet", {"base_channels": 4}, 64),
    ("segnet", {"base_channels": 4, "depth": 2, "norm": "group"}, 8),
    ("backbone_unet", {"backbone": "mobilenet_v3_small", "base_channels": 4}, 33),
    ("fcn32s", RESNET, 33),
    ("fcn16s", RESNET, 33),
    ("fcn8s", {**RESNET, "norm": "group"}, 33),
    ("deeplabv3", {**RESNET, "channels": 16, "atrous_rates": (1, 2)}, 33),
    ("deeplabv3", {**MOBILE, "output_stride": 8, "aux": True}, 33),
    ("deeplabv3plus", MOBILE, 33),  # (on small maps all its rates have few taps)
    ("lraspp", MOBILE, 33),
    ("segformer", {}, 61),
    ("fcn32s", {"backbone": "timm:resnet18"}, 33),
    ("torchvision:deeplabv3_mobilenet_v3_large", {}, 33),
]
SIZES = [(1, 96, 128), (3, 160, 64), (4, 64, 64), (2, 97, 101), (1, 65, 127)]


def exported(model, smallest, strict=False):
    """`model` as a graph whose sizes are free; traced at 2×96×128."""
    height, width = (Dim(name, min=smallest) for name in ("height", "width"))
    free = {0: Dim("batch"), 2: height, 3: width}
    images = torch.randn(2, 3, 96, 128)
    return export(model, (images,), dynamic_shapes=(free,), strict=strict).module()


@pytest.mark.parametrize(("name", "options", "smallest"), NETS)
def test_a_graph_of_free_sizes_equals_the_model_at_other_sizes(name, options, smallest):
    torch.manual_seed(0)
    model = create_model(name, 3, **options).eval()
    graph = exported(model, smallest)
    sizes = [(1, smallest, smallest), (2, smallest, 2 * smallest), *SIZES]
    for batch, height, width in sizes:
        images = torch.randn(batch, 3, height, width)
        with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
            found, expected = graph(images), model(images)
        assert found.shape == (batch, 3, height, width)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_own_model_is_among_them():
    own = {name for name in available_models() if ":" not in name}
    assert own == {name for name, *_ in NETS if ":" not in name}


@pytest.mark.slow
def test_the_strict_tracer_agrees_and_the_graph_does_not_warn():
    torch.manual_seed(0)
    model = create_model("deeplabv3plus", 3, **MOBILE).eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "on a feature map of")
        graph = exported(model, 33, strict=True)
        images = torch.randn(1, 3, 40, 70)
        found = graph(images)
    with pytest.warns(UserWarning, match=r"the ASPP branches of rate .* taps"):
        torch.testing.assert_close(found, model(images), rtol=1e-4, atol=1e-5)


def test_segnet_unpools_as_pytorch_does():
    x = torch.randn(2, 3, 9, 11, requires_grad=True)
    y, places = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
    ours = torch.ops.aten.max_unpool2d(y, places, x.shape[-2:])
    theirs = torch.nn.functional.max_unpool2d(y, places, [2, 2], output_size=x.shape[-2:])
    assert torch.equal(ours, theirs)
    weights = torch.randn_like(ours)
    grads = [
        torch.autograd.grad((each * weights).sum(), x, retain_graph=True)[0]
        for each in (ours, theirs)
    ]
    assert torch.equal(*grads)
