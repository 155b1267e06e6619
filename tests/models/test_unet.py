"""U-Net and SegNet: published parameter counts, shapes, gradients, unpooling by hand."""

import pytest
import torch
from torch import nn

from seglib.models import UNet
from seglib.models.segnet import SegNet


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_the_usual_large_net_and_by_hand():
    with torch.device("meta"):
        assert count(UNet(21)) == 31_038_933
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
    model = UNet(5, in_channels=2, base_channels=4, depth=3, norm=norm, up=up)
    logits = model(torch.randn(2, 2, *size))
    assert logits.shape == (2, 5, *size)
    logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or "bias" in name, name


def test_bad_options_and_images_that_are_too_small():
    for option, bad in {"depth": 0, "in_channels": 0, "base_channels": 3, "up": "nearest"}.items():
        with pytest.raises(ValueError, match=f"found .*{option}=.*expected"):
            UNet(3, **{option: bad})
    for net in (UNet(2, base_channels=2, depth=3), SegNet(2, depth=3)):
        with pytest.raises(ValueError, match="7×40 pixels, but a network of depth 3 needs 8 at"):
            net(torch.zeros(1, 3, 7, 40))


def bare_segnet(depth):
    """Pooling and unpooling alone: all convolutions become identities."""
    model = SegNet(1, in_channels=1, base_channels=1, depth=depth)
    for blocks in (model.encoder, model.decoder):
        for i in range(depth):
            blocks[i] = nn.Identity()
    model.head = nn.Identity()
    return model.eval()


def test_unpooling_by_hand():
    image = torch.tensor([[1.0, 2, 5, 3], [4, 3, 1, 0], [7, 1, 2, 2], [0, 6, 8, 9]])
    expected = torch.tensor([[0.0, 0, 5, 0], [4, 0, 0, 0], [7, 0, 0, 0], [0, 0, 0, 9]])
    assert torch.equal(bare_segnet(1)(image[None, None])[0, 0], expected)
    largest_only = image * (image == 9)
    assert torch.equal(bare_segnet(2)(image[None, None])[0, 0], largest_only)
    # an odd row is empty after unpooling
    found = bare_segnet(1)(torch.rand(1, 1, 5, 7) + 1)
    assert found.shape == (1, 1, 5, 7)
    assert not found[..., 4, :].any() and not found[..., 6].any() and (found > 0).sum() == 6
