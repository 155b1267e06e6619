"""BatchNorm's statistics of other images: by hand in float64, and PyTorch's `update_bn`."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from toys import tiny_model

from seglib.models import adapt_batchnorm, create_model, freeze
from seglib.models.deeplab import PooledBatchNorm

pytestmark = pytest.mark.filterwarnings("ignore:on a feature map of")


def images(count, seed=0, dtype=torch.float32):
    """`count` images 6×8 whose brightness and contrast differ from one to the next."""
    torch.manual_seed(seed)
    shift, scale = 3 * torch.randn(count, 3, 1, 1), 1 + torch.rand(count, 3, 1, 1)
    return (shift + scale * torch.randn(count, 3, 6, 8)).to(dtype)


def statistics(model):
    return {k: v.clone() for k, v in model.state_dict().items() if "running" in k}


def test_one_layer_gets_what_all_images_as_one_batch_would_give():
    x = images(7, dtype=torch.float64)
    flat = x.movedim(1, 0).reshape(3, -1)
    parts = [x[:4], (x[4:6], torch.zeros(9)), [x[6:], None]]  # labels are not looked at
    for batches in (parts, parts[::-1], list(x.split(1)), [x]):
        layer = nn.BatchNorm2d(3).double()
        assert adapt_batchnorm(layer, batches) is layer
        torch.testing.assert_close(layer.running_mean, flat.mean(1), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.running_var, flat.var(1), rtol=1e-12, atol=1e-12)
    layer = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144)).double()
    adapt_batchnorm(layer, x.split(4))
    torch.testing.assert_close(layer[1].running_var, x.flatten(1).var(0), rtol=1e-12, atol=1e-12)


def test_a_momentum_starts_from_what_the_layer_has():
    layer = nn.BatchNorm2d(3, momentum=0.1).double()
    layer.running_mean += 5
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    x = images(6, dtype=torch.float64)
    for batch in x.split(2):
        flat = batch.movedim(1, 0).reshape(3, -1)
        mean, var = 0.7 * mean + 0.3 * flat.mean(1), 0.7 * var + 0.3 * flat.var(1)
    adapt_batchnorm(layer, x.split(2), momentum=0.3)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, var)
    assert layer.momentum == 0.1


@pytest.mark.parametrize("name", ["unet", "timm"])
def test_means_are_those_of_update_bn_and_weights_stay(name):
    torch.manual_seed(1)
    model = {
        "unet": lambda: create_model("unet", 3, base_channels=4, depth=1),
        "timm": lambda: create_model("fcn32s", 3, backbone="timm:mobilenetv3_small_050"),
    }[name]()
    x = torch.randn(6, 3, 64, 96) * 2 + 1
    theirs, before = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    update_bn(x.split(2), theirs.train())  # a plain mean over batches, of the variances as well
    adapt_batchnorm(model.eval(), x.split(2))
    assert not any(module.training for module in model.modules())
    expected, moved = statistics(theirs), 0
    for key, value in model.state_dict().items():
        if key.endswith("running_mean"):
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)
            moved += not torch.equal(value, before[key])
        elif "running_var" not in key and "num_batches" not in key:
            assert torch.equal(value, before[key]), key
    assert moved == sum("running_mean" in key for key in before) > 2
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_dropout_stays_off_and_modes_are_put_back():
    model, x = tiny_model().train(), images(4)
    model[3].p, model[2].training = 0.9, False
    seen = []
    model[3].register_forward_hook(lambda part, given, out: seen.append(torch.equal(given[0], out)))
    adapt_batchnorm(model, [x])
    assert seen == [True]
    assert [part.training for part in model.modules()] == [True, True, True, False, True, True]

    def broken():
        yield x + 1
        raise OSError("the disk is gone")

    before = statistics(model)
    with pytest.raises(OSError, match="the disk is gone"):
        adapt_batchnorm(model, broken())
    assert all(torch.equal(value, before[key]) for key, value in statistics(model).items())
    with pytest.raises(OSError, match="the disk is gone"):
        adapt_batchnorm(model, broken(), momentum=0.5)
    assert [part.training for part in model.modules()] == [True, True, True, False, True, True]
    assert model[1].momentum == 0.1 and not model[1]._forward_pre_hooks


def test_frozen_layers_and_layers_out_of_reach_stay_and_one_image_is_enough():
    torch.manual_seed(0)
    options = {"backbone": "mobilenet_v3_small", "channels": 16, "aux": True}
    model = create_model("deeplabv3plus", 3, **options)
    freeze(model.backbone)
    pooled = next(m for m in model.modules() if isinstance(m, PooledBatchNorm))
    before, inputs, x = statistics(model), [], torch.randn(3, 3, 64, 64)
    pooled.register_forward_pre_hook(lambda layer, given: inputs.append(given[0]))
    adapt_batchnorm(model, x.split(1))
    for key, value in statistics(model).items():
        same = key.startswith(("backbone.", "aux_classifier."))
        assert torch.equal(value, before[key]) == same, key
    given = torch.cat(inputs).flatten(1)
    torch.testing.assert_close(pooled.running_mean, given.mean(0))
    torch.testing.assert_close(pooled.running_var, given.var(0), rtol=1e-4, atol=1e-9)
    freeze(model)
    with pytest.raises(ValueError, match=r"no BatchNorm to adapt \(those that are frozen"):
        adapt_batchnorm(model, [x])


def test_what_it_refuses():
    layer, net = nn.BatchNorm2d(3), create_model("unet", 2, base_channels=4, depth=1)
    hole = images(2)
    hole[1, 0, 0, 0] = torch.nan
    for model, loader, momentum, message in (
        (nn.Conv2d(3, 3, 1), [images(2)], None, "no BatchNorm to adapt"),
        (create_model("unet", 2, base_channels=4, norm="group"), [], None, "no BatchNorm"),
        (nn.BatchNorm2d(3, track_running_stats=False), [images(2)], None, "no BatchNorm"),
        (layer, [], None, "the loader gave no batch"),
        (layer, [images(2)], 0, "found momentum=0, expected None or a number above 0, up to 1"),
        (layer, [images(2)], 1.5, "found momentum=1.5"),
        (layer, [hole], None, "values that are not finite"),
        (layer, [images(2).byte()], None, r"a batch of torch.uint8 \(2, 3, 6, 8\), expected float"),
        (layer, [images(2)[0]], None, r"a batch of torch.float32 \(3, 6, 8\)"),
        (net, [torch.zeros(2, 6, 8, 3)], None, r"\(2, 6, 8, 3\), expected float .*\(N, 3, H, W\)"),
        (layer, [{"image": images(2)}], None, "a batch of dict"),
    ):
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ValueError, match=message):
            adapt_batchnorm(model, loader, momentum)
        running = (k for k in before if "num_batches" not in k)
        assert all(torch.equal(before[k], model.state_dict()[k]) for k in running)


def test_grey_images_for_a_network_of_one_channel():
    net = create_model("unet", 2, base_channels=4, depth=1, in_channels=1)
    adapt_batchnorm(net, [images(2)[:, :1]])
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        adapt_batchnorm(net, [images(2)])
