"""What must hold for every loss, in every precision: one item a loss, one list of properties.

The list is that of parity/properties.py, by the stricter bar; the oracles are PyTorch in float64,
finite differences and the same loss on other pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path

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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))

import properties
from properties import OURS, PRECISIONS, PROPERTIES, World

WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0])
LOSSES = {
    "cross-entropy": lambda: CrossEntropyLoss(),
    "cross-entropy, weighted": lambda: CrossEntropyLoss(WEIGHT),
    "cross-entropy, smoothed": lambda: CrossEntropyLoss(label_smoothing=0.1),
    "cross-entropy, weighted, smoothed": lambda: CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
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
        {FocalLoss(): 0.5, LovaszSoftmaxLoss(): 1.0, TverskyLoss(): 2.0}
    ),
}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
each_loss = pytest.mark.parametrize("name", LOSSES)


def case(seed=0, shape=(2, 4, 5, 6), void=0.3):
    """Logits and a target of random classes, with void."""
    generator = torch.Generator().manual_seed(seed)
    n, c, h, w = shape
    logits = 2 * torch.randn(shape, generator=generator)
    target = torch.randint(0, c, (n, h, w), generator=generator)
    target[torch.rand((n, h, w), generator=generator) < void] = 255
    return logits, target


def value_and_gradient(make, logits, target):
    x = logits.detach().clone().requires_grad_()
    value = make()(x, target)
    value.backward()
    return value.detach(), x.grad


@pytest.mark.parametrize("device", DEVICES)
@each_loss
def test_every_property_in_every_precision(name, device):
    """(A smoothed target is never matched, so that a perfect prediction costs something.)"""
    asked = [each for each in PROPERTIES if not ("smoothed" in name and "perfect" in each)]
    loss = LOSSES[name]().to(device)
    answers = {
        (each, precision): properties.ask(each, loss, World(precision, OURS, device))
        for each in asked
        for precision in PRECISIONS
    }
    failed = {key: said for key, said in answers.items() if said}
    assert len(asked) >= 6 and not failed, failed


class Off(CrossEntropyLoss):
    """A loss with a small fault, of the kind that other libraries are not asked for."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def forward(self, logits, target):
        return self.fault(super().forward, logits, target)


def of_void(loss, logits, target):
    return loss(logits, target) + 1e-5 * (logits.detach().mean(1) * (target == 255)).mean()


def in_place(loss, logits, target):
    logits.data[0, 0, 0, 0] += 1
    return loss(logits, target)


def of_any_logit(loss, logits, target):
    return loss(logits, target) + 1e-8 * logits.mean()


def without_a_lonely_pixel(loss, logits, target):
    return loss(logits, target) * int((target != 255).sum() > 1)


def a_little(loss, logits, target):
    return loss(logits, target) + 1e-5


def of_the_size(loss, logits, target):
    return loss(logits, target) * (1 + 1e-5 * target.numel())


def imprecise(loss, logits, target):
    return loss(logits, target) * (1 if logits.dtype == torch.float64 else 1.001)


FAULTS = {
    of_void: "ignored pixels count nowhere",
    in_place: "the target is left alone",
    of_any_logit: "an all-void batch gives 0",
    without_a_lonely_pixel: "one valid pixel works",
    a_little: "a perfect prediction costs 0",
    of_the_size: "the mean is over valid pixels",
    imprecise: "half precision agrees with float32",
}


def test_our_bar_sees_what_the_peers_bar_lets_pass():
    for fault, name in FAULTS.items():
        assert properties.ask(name, Off(fault), World("float32")) == "", fault
        assert properties.ask(name, Off(fault), World("float32", OURS)) != "", fault
    assert list(FAULTS.values()) == list(PROPERTIES)


@each_loss
def test_gradient_matches_finite_differences(name):
    logits, target = case(seed=3, shape=(2, 4, 3, 2), void=0.2)
    loss = LOSSES[name]().double()
    x = logits.double().requires_grad_()
    assert loss(x, target).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda z: loss(z, target), x, eps=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 3),
    h=st.integers(1, 7),
    w=st.integers(1, 7),
    void=st.floats(0, 1),
    name=st.sampled_from(list(LOSSES)),
)
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
def test_channels_last_gives_the_same(name):
    logits, target = case()
    torch.testing.assert_close(
        LOSSES[name]()(logits.contiguous(memory_format=torch.channels_last), target),
        LOSSES[name]()(logits, target),
        rtol=1e-6,
        atol=1e-7,
    )


BAD = {
    "shapes": (torch.zeros(2, 4, 3, 3), torch.zeros(2, 3, 4, dtype=torch.int64), "expected"),
    "float target": (torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2), "target.long()"),
    "label": (torch.zeros(1, 4, 2, 2), torch.full((1, 2, 2), 4), "label 4"),
    "negative label": (torch.zeros(1, 4, 2, 2), torch.full((1, 2, 2), -1), "label -1"),
    "no class axis": (torch.zeros(4, 2, 2), torch.zeros(4, 2, dtype=torch.int64), "expected"),
}


@each_loss
def test_bad_input_is_told(name):
    for kind, (logits, target, message) in BAD.items():
        with pytest.raises(ValueError) as caught:
            LOSSES[name]()(logits, target)
        assert message in str(caught.value), kind


def test_every_class_constructs_without_arguments_and_says_what_it_is():
    for kind in (
        CrossEntropyLoss,
        FocalLoss,
        DiceLoss,
        TverskyLoss,
        LovaszSoftmaxLoss,
        CombinedLoss,
    ):
        loss = kind()
        assert loss.ignore_index == 255 and "ignore_index=255" in repr(loss), kind


@each_loss
def test_another_label_may_be_ignored(name):
    logits, target = case()
    other = LOSSES[name]()
    for part in other.modules():
        if hasattr(part, "ignore_index"):
            part.ignore_index = 17
    moved = torch.where(target == 255, 17, target)
    torch.testing.assert_close(other(logits, moved), LOSSES[name]()(logits, target))
