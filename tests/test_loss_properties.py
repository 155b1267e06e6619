"""What must hold for every loss, in every precision: one suite, each case a loss.

The oracles are PyTorch in float64, finite differences and the same loss on other pixels.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.losses import (
    CombinedLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszSoftmaxLoss,
    TverskyLoss,
)

WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0])
LOSSES = {
    "cross-entropy": lambda: CrossEntropyLoss(),
    "cross-entropy, weighted": lambda: CrossEntropyLoss(WEIGHT),
    "cross-entropy, smoothed": lambda: CrossEntropyLoss(label_smoothing=0.1),
    "focal": lambda: FocalLoss(),
    "focal, weighted, γ 0.5": lambda: FocalLoss(0.5, WEIGHT),
    "Dice": lambda: DiceLoss(),
    "Dice by image": lambda: DiceLoss(over="image"),
    "Dice, weighted, smooth": lambda: DiceLoss(WEIGHT, smooth=1.0),
    "Tversky": lambda: TverskyLoss(),
    "Tversky by image, weighted": lambda: TverskyLoss(0.7, 0.3, WEIGHT, over="image"),
    "Lovász": lambda: LovaszSoftmaxLoss(),
    "Lovász by image": lambda: LovaszSoftmaxLoss(over="image"),
    "Lovász, weighted": lambda: LovaszSoftmaxLoss(WEIGHT),
    "combined": lambda: CombinedLoss(),
    "combined of three": lambda: CombinedLoss(
        {FocalLoss(): 0.5, LovaszSoftmaxLoss(): 1.0, TverskyLoss(): 2.0}),
}                                                                                  # fmt: skip
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
PRECISIONS = {                                         # dtype of the logits, dtype of autocast
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "autocast to bfloat16": (torch.float32, torch.bfloat16),
    "autocast to float16": (torch.float32, torch.float16),
}
each_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
each_precision = pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
each_device = pytest.mark.parametrize("device", DEVICES)


def case(seed=0, shape=(2, 4, 5, 6), void=0.3):
    """Logits and a target of random classes, with void."""
    generator = torch.Generator().manual_seed(seed)
    n, c, h, w = shape
    logits = 2 * torch.randn(shape, generator=generator)
    target = torch.randint(0, c, (n, h, w), generator=generator)
    target[torch.rand((n, h, w), generator=generator) < void] = 255
    return logits, target


def value_and_gradient(make, logits, target, precision=(torch.float32, None), device="cpu"):
    dtype, autocast = precision
    x = logits.detach().to(device, dtype, copy=True).requires_grad_()
    world = torch.autocast(device, autocast) if autocast else nullcontext()
    with world:
        value = make().to(device)(x, target.to(device))
    value.backward()
    return value.detach().cpu(), x.grad.cpu()


@each_loss
@each_precision
@each_device
def test_ignored_pixels_change_neither_value_nor_gradient(make, precision, device):
    logits, target = case()
    void = (target == 255)[:, None]
    other = torch.where(void, 20 * torch.randn(logits.shape), logits)
    first, second = (value_and_gradient(make, x, target, precision, device)
                     for x in (logits, other))                                     # fmt: skip
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1]) and (first[1] * void == 0).all()


@each_loss
def test_target_and_logits_stay_as_they_were(make):
    logits, target = case()
    before = logits.clone(), target.clone()
    value_and_gradient(make, logits, target)
    assert torch.equal(logits, before[0]) and torch.equal(target, before[1])


@each_loss
@each_precision
@each_device
def test_an_all_void_batch_gives_zero_with_a_gradient_path(make, precision, device):
    logits, target = case(void=2.0)
    assert (target == 255).all()
    value, gradient = value_and_gradient(make, logits, target, precision, device)
    assert value.item() == 0 and (gradient == 0).all()


@each_loss
@each_precision
@each_device
def test_one_valid_pixel_is_a_batch_of_one_pixel(make, precision, device):
    logits, target = case(void=2.0)
    target[1, 2, 3] = 1
    value, gradient = value_and_gradient(make, logits, target, precision, device)
    alone, _ = value_and_gradient(make, logits[1:, :, 2:3, 3:4], target[1:, 2:3, 3:4], precision,
                                  device)                                          # fmt: skip
    torch.testing.assert_close(value, alone, rtol=1e-5, atol=1e-6)
    assert value > 0 and gradient.isfinite().all() and (gradient[1, :, 2, 3] != 0).any()


@pytest.mark.parametrize("name", [name for name in LOSSES if "smoothed" not in name])
@each_precision
def test_a_perfect_prediction_costs_nothing(name, precision):
    """Class 2 is absent, and costs nothing either. (A smoothed target is never matched.)"""
    make = LOSSES[name]
    _, target = case()
    target[target == 2] = 0
    logits = torch.full((2, 4, 5, 6), -30.0)
    logits.scatter_(1, torch.where(target == 255, 3, target)[:, None], 30.0)
    value, gradient = value_and_gradient(make, logits, target, precision)
    assert 0 <= value < 1e-6 and gradient.isfinite().all()


@each_loss
@each_precision
def test_void_pixels_stand_in_no_mean(make, precision):
    """A void margin around the images changes nothing."""
    logits, target = case(void=0.2)
    wide = torch.nn.functional.pad(logits, (3, 4, 2, 1), value=5.0)
    margin = torch.nn.functional.pad(target, (3, 4, 2, 1), value=255)
    bare = value_and_gradient(make, logits, target, precision)[0]
    torch.testing.assert_close(value_and_gradient(make, wide, margin, precision)[0], bare,
                               rtol=1e-5, atol=1e-6)                               # fmt: skip


@each_loss
def test_gradient_matches_finite_differences(make):
    logits, target = case(seed=3, shape=(2, 4, 3, 2), void=0.2)
    loss = make().double()
    x = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), x, eps=1e-6, atol=1e-6)


@each_loss
@each_precision
@each_device
def test_every_precision_agrees_with_float64(make, precision, device):
    """At a size at which half-precision sums over a class would overflow."""
    logits, target = case(shape=(1, 4, 360, 480), void=0.1)
    target[:, :, :300] = torch.where(target[:, :, :300] == 255, 255, 1)     # over 65,504 pixels
    seen = logits.to(precision[0])                     # what is left of the logits in this dtype
    exact = make().double()(seen.double(), target)
    value, gradient = value_and_gradient(make, logits, target, precision, device)
    torch.testing.assert_close(value.double(), exact, rtol=2e-4, atol=1e-6)
    assert gradient.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 3), h=st.integers(1, 7), w=st.integers(1, 7),
       void=st.floats(0, 1), name=st.sampled_from(list(LOSSES)))                   # fmt: skip
def test_any_shape_has_a_finite_loss_that_the_order_of_pixels_does_not_change(
    seed, n, h, w, void, name
):
    logits, target = case(seed, (n, 4, h, w), void)
    value, gradient = value_and_gradient(LOSSES[name], logits, target)
    assert value.isfinite() and value >= 0 and gradient.isfinite().all()
    order = torch.randperm(h * w, generator=torch.Generator().manual_seed(seed))
    mixed = logits.flatten(2)[..., order].reshape(logits.shape)
    labels = target.flatten(1)[:, order].reshape(target.shape)
    again, _ = value_and_gradient(LOSSES[name], mixed, labels)
    torch.testing.assert_close(again, value, rtol=1e-4, atol=1e-6)


@each_loss
def test_channels_last_gives_the_same(make):
    logits, target = case()
    torch.testing.assert_close(
        make()(logits.contiguous(memory_format=torch.channels_last), target),
        make()(logits, target), rtol=1e-6, atol=1e-7)                              # fmt: skip


BAD = {
    "shapes": (torch.zeros(2, 4, 3, 3), torch.zeros(2, 3, 4, dtype=torch.int64), "expected"),
    "float target": (torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2), "target.long()"),
    "label": (torch.zeros(1, 4, 2, 2), torch.full((1, 2, 2), 4), "label 4"),
    "negative label": (torch.zeros(1, 4, 2, 2), torch.full((1, 2, 2), -1), "label -1"),
    "no class axis": (torch.zeros(4, 2, 2), torch.zeros(4, 2, dtype=torch.int64), "expected"),
}


@each_loss
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(make, name):
    logits, target, message = BAD[name]
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        make()(logits, target)


@pytest.mark.parametrize("kind", [CrossEntropyLoss, FocalLoss, DiceLoss, TverskyLoss,
                                  LovaszSoftmaxLoss, CombinedLoss])
def test_every_class_constructs_without_arguments_and_says_what_it_is(kind):
    loss = kind()
    assert loss.ignore_index == 255 and "ignore_index=255" in repr(loss)


@each_loss
def test_another_label_may_be_ignored(make):
    logits, target = case()
    other = make()
    for part in other.modules():
        if hasattr(part, "ignore_index"):
            part.ignore_index = 17
    moved = torch.where(target == 255, 17, target)
    torch.testing.assert_close(other(logits, moved), make()(logits, target))
