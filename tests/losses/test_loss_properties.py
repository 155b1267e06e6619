"""What must hold for every loss, in every precision: the list of benchmarks/parity, our bar."""

import properties
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import OURS, PRECISIONS, PROPERTIES, World, case

from seglib.losses import CombinedLoss, CrossEntropyLoss, FocalLoss
from seglib.losses.overlap import DiceLoss, LovaszSoftmaxLoss, TverskyLoss

WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0])
LOSSES = {
    "cross-entropy": CrossEntropyLoss,
    "cross-entropy, weighted": lambda: CrossEntropyLoss(WEIGHT),
    "cross-entropy, smoothed": lambda: CrossEntropyLoss(label_smoothing=0.1),
    "cross-entropy, weighted, smoothed": lambda: CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
    "focal": FocalLoss,
    "focal, weighted, γ 0.5": lambda: FocalLoss(0.5, WEIGHT),
    "Dice": DiceLoss,
    "Dice by image": lambda: DiceLoss(over="image"),
    "Dice, weighted, smooth": lambda: DiceLoss(WEIGHT, smooth=1.0),
    "Tversky": TverskyLoss,
    "Tversky by image, weighted": lambda: TverskyLoss(0.7, 0.3, WEIGHT, over="image"),
    "Lovász": LovaszSoftmaxLoss,
    "Lovász by image": lambda: LovaszSoftmaxLoss(over="image"),
    "Lovász, weighted": lambda: LovaszSoftmaxLoss(WEIGHT),
    "combined": CombinedLoss,
    "combined of three": lambda: CombinedLoss(
        {FocalLoss(): 0.5, LovaszSoftmaxLoss(): 1.0, TverskyLoss(): 2.0}
    ),
}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
each_loss = pytest.mark.parametrize("name", LOSSES)


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


# Small faults of a loss, of the kind that other libraries are not asked for
FAULTS = {
    "ignored pixels count nowhere": lambda loss, x, target: (
        loss(x, target) + 1e-5 * (x.detach().mean(1) * (target == 255)).mean()
    ),
    "the target is left alone": lambda loss, x, target: loss(x.data.add_(1), target) + x.sum() * 0,
    "an all-void batch gives 0": lambda loss, x, target: loss(x, target) + 1e-8 * x.mean(),
    "one valid pixel works": lambda loss, x, t: loss(x, t) * int((t != 255).sum() > 1),
    "a perfect prediction costs 0": lambda loss, x, target: loss(x, target) + 1e-5,
    "the mean is over valid pixels": lambda loss, x, t: loss(x, t) * (1 + 1e-5 * t.numel()),
    "half precision agrees with float32": lambda loss, x, target: (
        loss(x, target) * (1 if x.dtype == torch.float64 else 1.001)
    ),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_our_bar_sees_what_the_peers_bar_lets_pass(name):
    loss = CrossEntropyLoss()
    right = loss.forward
    loss.forward = lambda x, target: FAULTS[name](right, x, target)
    assert properties.ask(name, loss, World("float32")) == ""
    assert properties.ask(name, loss, World("float32", OURS)) != ""


@each_loss
def test_gradient_matches_finite_differences(name):
    logits, target = case(3, 0.2, (2, 4, 3, 2))
    loss = LOSSES[name]().double()
    x = logits.double().requires_grad_()
    assert loss(x, target).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda z: loss(z, target), x, eps=1e-6, atol=1e-6)


SIZES = st.tuples(st.integers(1, 3), st.just(4), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), SIZES, st.floats(0, 1), st.sampled_from(list(LOSSES)))
def test_any_shape_has_a_finite_loss_that_the_order_of_pixels_does_not_change(seed, size, void, n):
    logits, target = case(seed, void, size)
    x = logits.clone().requires_grad_()
    value = LOSSES[n]()(x, target)
    value.backward()
    assert value.isfinite() and value >= 0 and x.grad.isfinite().all()
    order = torch.randperm(target[0].numel(), generator=torch.Generator().manual_seed(seed))
    mixed = logits.flatten(2)[..., order].reshape(logits.shape)
    labels = target.flatten(1)[:, order].reshape(target.shape)
    torch.testing.assert_close(LOSSES[n]()(mixed, labels), value.detach(), rtol=1e-4, atol=1e-6)


@each_loss
def test_channels_last_and_another_ignored_label_give_the_same(name):
    (logits, target), loss = case(), LOSSES[name]()
    expected, last = loss(logits, target), logits.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(loss(last, target), expected, rtol=1e-6, atol=1e-7)
    for part in loss.modules():
        if hasattr(part, "ignore_index"):
            part.ignore_index = 17
    torch.testing.assert_close(loss(logits, torch.where(target == 255, 17, target)), expected)


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


@pytest.mark.parametrize("name", [n for n in LOSSES if isinstance(LOSSES[n], type)])
def test_every_class_constructs_without_arguments_and_says_what_it_is(name):
    loss = LOSSES[name]()
    assert loss.ignore_index == 255 and "ignore_index=255" in repr(loss)
