"""Lesson 5: right answers of other kinds, and what the judges stand on."""

import answers
import pytest
import torch
from torch import nn

from seglib.course.records import paired_difference, read_record, values
from seglib.exercises import lesson05 as ex
from seglib.exercises.kit import NOT_YET
from seglib.models import freeze


def test_the_fields_by_gradient():
    stacks = [(1, 1), (1, 1), (1, 1)], [(1, 1), (1, 2), (1, 4)], [(2, 1), (1, 1), (1, 2)]
    for layers, field in zip(stacks, ex.FIELD.values(), strict=True):
        x = image = torch.zeros(1, 1, 64, 64, requires_grad=True)
        for stride, rate in layers:
            x = torch.conv2d(x, torch.ones(1, 1, 3, 3), None, stride, rate, rate)
        x[0, 0, x.shape[2] // 2, x.shape[3] // 2].backward()
        rows = torch.nonzero(image.grad[0, 0].any(1))
        assert int(rows.max() - rows.min()) + 1 == field


def test_the_frozen_block_is_alive():  # else nothing that an answer does would show
    block, features = ex.small_net()[1].eval(), torch.randn(4, 4, 6, 8)
    out = block(features)
    assert (out > 0).float().mean() > 0.2
    assert (out - block.train()(features)).abs().max() > 0.1


def only_the_module(module):
    module.requires_grad_(False).eval().train = lambda mode=True: module


def before_each_pass(module):
    module.requires_grad_(False)
    module.register_forward_pre_hook(lambda part, _: part.eval() and None)


def returns_nothing(module):
    freeze(module)
    for part in module.modules():
        part.train = lambda mode=True: None


@pytest.mark.parametrize("answer", [freeze, only_the_module, before_each_pass, returns_nothing])
def test_other_ways_to_freeze(answer):
    said = answers.accepted(ex.freeze, answer)
    assert ("returns no module" in said) == (answer is returns_nothing)


def test_what_an_answer_does_to_classes_and_gradients_is_undone():
    def patches(module):
        torch.set_grad_enabled(False)
        nn.BatchNorm2d.train = nn.Module.train = lambda self, mode=True: self

    train, found = nn.Module.train, ex.freeze.judged(patches)
    assert found.state == NOT_YET and "has changed the class" in found.message
    assert nn.Module.train is train and "train" not in vars(nn.BatchNorm2d)
    assert torch.is_grad_enabled()


def test_a_note_that_was_left_is_mentioned():
    def without_the_note(model, num_classes):
        model.decoder[-1] = nn.Conv2d(model.decoder[-1].in_channels, num_classes, 1)
        return model

    assert "still says 11" in answers.accepted(ex.replace_last_layer, without_the_note)


def test_the_choice_is_what_the_record_says_and_the_hints_quote_it():
    record, both = read_record("05_real"), "ImageNet, then rendered streets"

    def gap(part, first, second, of=""):
        arms = (
            values(record, part, arm + of, lambda run: run["test"]["miou"])
            for arm in (first, second)
        )
        return paired_difference(*arms)

    gaps = {
        "20 frames": gap("small", "ImageNet", "rendered streets", ", 20 frames"),
        "367 frames": gap("small", "ImageNet", "rendered streets", ", 367 frames"),
        "by night": gap("night", "ImageNet", "rendered streets"),
        "on top": gap("small", both, "ImageNet", ", 367 frames"),
    }
    for key, found in gaps.items():
        better, worse = ("y", "n") if key == "on top" else ("i", "r")
        right = better if found.low > 0 else worse if found.high < 0 else "?"
        assert ex.CHOICE[key] == right and set(ex._WHY[key]) == {better, worse, "?"} - {right}
        for hint in ex._WHY[key].values():
            assert f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]" in hint, key
