"""U-Net: published parameter counts, shapes, gradients, errors."""

import pytest
import torch

from seglib.models import UNet, available_models, create_model


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_the_usual_large_net():
    assert count(UNet(21)) == 31_038_933


def test_parameters_by_hand():
    # depth 1, base 2, 1 class: per 3×3 convolution 9·in·out + 2·out of its BatchNorm
    double = lambda i, o: 9 * i * o + 2 * o + 9 * o * o + 2 * o  # noqa: E731
    up = 4 * 4 * 2 + 2
    by_hand = double(3, 2) + double(2, 4) + up + double(4, 2) + (2 * 1 + 1)
    assert count(UNet(1, base_channels=2, depth=1)) == by_hand


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("up", ["transpose", "resize"])
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (33, 20)])
def test_logits_have_the_images_size_and_gradients_reach_everything(norm, up, size):
    torch.manual_seed(0)
    model = UNet(5, base_channels=4, depth=3, norm=norm, up=up)
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5, *size)
    logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or "bias" in name, name


def test_other_numbers_of_channels():
    assert UNet(2, in_channels=1, base_channels=4, depth=1)(torch.zeros(1, 1, 6, 8)).shape == (
        1,
        2,
        6,
        8,
    )


def test_options_build_the_same_net_again():
    model = create_model("unet", 4, base_channels=6, depth=2, norm="group", up="resize")
    twin = create_model(model.name, model.num_classes, **model.options)
    twin.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 9, 9)
    torch.testing.assert_close(twin.eval()(x), model.eval()(x))


def test_available_models():
    assert "unet" in available_models()
