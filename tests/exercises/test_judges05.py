"""Lesson 5: right answers of other kinds, and what the judges stand on."""

import pickle

import pytest
import torch
from torch import nn

from seglib.exercises import freeze05, heads05, lesson05, sight05
from seglib.exercises.kit import CORRECT, NOT_YET
from seglib.models import freeze


def test_the_field_by_gradient():
    for key, layers in sight05.STACKS.items():
        stack = nn.Sequential(
            *(nn.Conv2d(1, 1, 3, stride, rate, rate, bias=False) for stride, rate in layers)
        )
        for parameter in stack.parameters():
            nn.init.ones_(parameter)
        image = torch.zeros(1, 1, 64, 64, requires_grad=True)
        found = stack(image)
        found[0, 0, found.shape[2] // 2, found.shape[3] // 2].backward()
        rows = torch.nonzero(image.grad[0, 0].any(1))
        assert int(rows.max() - rows.min()) + 1 == sight05.FIELD[key]


def test_every_hidden_size_has_room_for_three_rates():
    largest = [sight05.largest_rate(*sight05._on_map(*case)) for case in sight05.HIDDEN]
    assert largest == [4, 8, 16, 16, 20, 7]


def test_the_frozen_block_is_alive():
    """Else its output would be the same, and its gradient nothing, whatever an answer does."""
    net = freeze05.network().eval()
    features = torch.randn(4, 4, 6, 8)
    out = net.block(features)
    assert (out > 0).float().mean() > 0.2
    assert (out - net.train().block(features)).abs().max() > 0.1


def only_the_module(module):
    module.requires_grad_(False).eval()
    module.train = lambda mode=True: module


def before_each_pass(module):
    module.requires_grad_(False)
    module.register_forward_pre_hook(lambda part, _: part.eval() and None)


def returns_nothing(module):
    freeze(module)
    for part in module.modules():
        part.train = lambda mode=True: None


@pytest.mark.parametrize("answer", [freeze, only_the_module, before_each_pass, returns_nothing])
def test_other_ways_to_freeze(answer):
    found = lesson05.freeze.judged(answer)
    assert found.state == CORRECT, str(found)
    assert ("returns no module" in found.message) == (answer is returns_nothing)


def test_what_an_answer_does_to_classes_and_gradients_is_undone():
    def patches(module):
        torch.set_grad_enabled(False)
        nn.BatchNorm2d.train = nn.Module.train = lambda self, mode=True: self

    train = nn.Module.train
    found = lesson05.freeze.judged(patches)
    assert found.state == NOT_YET and "has changed the class" in found.message
    assert nn.Module.train is train and "train" not in vars(nn.BatchNorm2d)
    assert torch.is_grad_enabled()


def test_a_note_that_was_left_is_mentioned():
    def without_the_note(model, num_classes):
        model.decoder[-1] = nn.Conv2d(model.decoder[-1].in_channels, num_classes, 1)
        return model

    found = lesson05.replace_head.judged(without_the_note)
    assert found.state == CORRECT and "still says 11" in found.message
    model = heads05.network(16, 0)
    assert pickle.dumps(model) and model.num_classes == heads05.CLASSES
