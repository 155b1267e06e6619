"""Lesson 3's five losses have one fault each, and none of the other seven on the list.

Each fault has a test of its own here, which shares nothing with the judge's.
"""

from __future__ import annotations

import inspect

import answers
import pytest
import torch

from seglib.exercises import faulty03, judges03
from seglib.losses import CrossEntropyLoss, DiceLoss, LovaszSoftmaxLoss

LETTERS = "abcde"
LOSSES = {letter: getattr(faulty03, f"loss_{letter}") for letter in LETTERS}
SOUND = {"cross-entropy": CrossEntropyLoss(), "Dice": DiceLoss(), "Lovász": LovaszSoftmaxLoss()}


def draw(height=4, width=5, classes=3, images=2):
    generator = torch.Generator().manual_seed(height * width)
    logits = torch.randn(images, classes, height, width, generator=generator)
    target = torch.randint(0, classes, (images, height, width), generator=generator)
    return logits, target


def sure(target, classes=3, size=20.0):
    """Logits that predict the target, class 0 where it is void."""
    labels = torch.where(target == 255, 0, target)
    return size * torch.eye(classes)[labels].permute(0, 3, 1, 2)


def value(loss, logits, target):
    return loss(logits, target.clone()).item()


def void_in_divisor(loss):
    """Void columns, on which class 0 is certain, dilute the loss."""
    logits, target = draw()
    void = torch.full((2, 4, 15), 255)
    wide = torch.cat([logits, sure(void)], 3), torch.cat([target, void], 2)
    return value(loss, *wide) < 0.5 * value(loss, logits, target)


def void_is_class_0(loss):
    """On void, a network that says class 1 has a higher loss than one that says class 0."""
    logits, target = draw()
    target[:, :2] = 255
    zero, one = logits.clone(), logits.clone()
    zero[:, 0, :2], one[:, 1, :2] = 9, 9
    return value(loss, one, target) > value(loss, zero, target) + 0.1


def absent_costs(loss):
    """Of two perfect predictions, the one of a map without class 2 costs more."""
    target = draw()[1]
    two = target.clamp(max=1)
    return value(loss, sure(two), two) > value(loss, sure(target), target) + 0.1


def target_changes(loss):
    logits, target = draw()
    target[0, 0] = 255
    before = target.tolist()
    loss(logits, target)
    return target.tolist() != before


def softmax_twice(loss):
    """However sure of the truth, the loss stays away from 0."""
    target = draw()[1]
    return value(loss, sure(target, size=1000.0), target) > 0.3


def nan_on_void(loss):
    logits = draw()[0].requires_grad_()
    found = loss(logits, torch.full((2, 4, 5), 255))
    found.backward()
    return not (torch.isfinite(found) and torch.isfinite(logits.grad).all())


def mean_over_images(loss):
    """Pixels of the image with fewer valid ones push harder."""
    logits = torch.zeros(2, 3, 4, 5, requires_grad=True)
    target = torch.zeros(2, 4, 5, dtype=torch.int64)
    target[:, 0], target[1, 2:] = 1, 255
    loss(logits, target.clone()).backward()
    first, second = logits.grad[:, :, 1, 0].abs().sum(1)  # pixels of class 0
    return abs(first - second) > 1e-3 * first


def half_overflows(loss):
    logits, target = draw(360, 480, classes=2, images=1)
    return abs(value(loss, logits.half(), target) - value(loss, logits, target)) >= 0.01


CHECKS = {
    1: void_in_divisor,
    2: void_is_class_0,
    3: absent_costs,
    4: target_changes,
    5: softmax_twice,
    6: nan_on_void,
    7: mean_over_images,
    8: half_overflows,
}


@pytest.mark.parametrize("fault", CHECKS)
@pytest.mark.parametrize("letter", LETTERS)
def test_each_loss_has_its_fault_and_no_other(letter, fault):
    assert bool(CHECKS[fault](LOSSES[letter])) == (judges03.RIGHT[letter] == fault)


@pytest.mark.parametrize("fault", CHECKS)
@pytest.mark.parametrize("name", SOUND)
def test_sound_losses_have_none(name, fault):
    assert not CHECKS[fault](SOUND[name])


def overflowing(logits, target):
    p = logits.softmax(1)[:, 0]
    return p.sum() / target.numel()


def by_image(logits, target):
    return torch.stack(
        [CrossEntropyLoss()(logits[i : i + 1], target[i : i + 1]) for i in range(len(target))]
    ).mean()


def all_void(logits, target):
    return torch.nn.functional.cross_entropy(logits, target, ignore_index=255)


def test_the_tests_of_unused_faults_can_fail():
    assert half_overflows(overflowing) and mean_over_images(by_image) and nan_on_void(all_void)


def test_the_faults_are_used_once_and_three_are_not():
    assert set(judges03.FAULTS) == set(CHECKS) == set(range(1, 9))
    assert len(set(judges03.RIGHT.values())) == len(LETTERS) == 5


@pytest.mark.skipif(answers.page("03") is None, reason="there is no notebook 03 yet")
def test_the_copy_is_the_notebooks():
    page = answers.page("03")
    cell = next(cell.source for _, cell, _ in page.code if "def loss_a" in cell.source)
    assert cell == "\n\n".join(inspect.getsource(LOSSES[x]).rstrip() for x in LETTERS)
    prose = "\n".join(cell.source for _, cell, _ in page.prose)
    for fault, text in judges03.FAULTS.items():
        assert f"{fault}. {text}" in prose or f"{fault} · {text}" in prose, text
