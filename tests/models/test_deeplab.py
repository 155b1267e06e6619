"""ASPP: valid taps by brute force, the warning, one image in training, separable convolutions."""

import itertools
import pickle
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPP as Theirs

from seglib.models.blocks import separable, to_group_norm
from seglib.models.deeplab import ASPP, PooledBatchNorm, check_rates, valid_taps, warn_of_few_taps


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 14))
def test_valid_taps_by_counting(height, width, rate):
    inside = 0
    for y, x in itertools.product(range(height), range(width)):
        for dy, dx in itertools.product((-rate, 0, rate), repeat=2):
            inside += 0 <= y + dy < height and 0 <= x + dx < width
    assert valid_taps(height, width, rate) == pytest.approx(inside / (height * width))


def test_the_warning_names_the_branches_and_a_remedy_where_the_rates_do_not_fit():
    for rates, message in (
        ((6, 12, 18), r"map of 6×8 .* rate 6, 12, 18 have 1\.5, 1\.0, 1\.0 of 9 taps .* up to 5"),
        ((2, 6), r"the ASPP branch of rate 6 has 1\.5 of 9"),
    ):
        with pytest.warns(UserWarning, match=message):
            ASPP(4, rates, 4).eval()(torch.zeros(1, 4, 6, 8))
    with pytest.warns(UserWarning, match=r"1×1 convolution; larger images or"):
        warn_of_few_taps(1, 1, (1,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ASPP(4, (1, 2, 3), 4).eval()(torch.zeros(1, 4, 6, 8))
        warn_of_few_taps(33, 33, (6, 12, 18))  # the paper's, at 513×513
    for rates in ((), (0, 1), (1.5,), "6,12", 6, (True, "2")):
        with pytest.raises(ValueError, match=r"found atrous_rates=.* expected whole numbers from"):
            check_rates(rates)


def test_equals_torchvisions_aspp():
    torch.manual_seed(0)
    theirs, ours = Theirs(8, (2, 3), 12).eval(), ASPP(8, (2, 3), 12).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 9, 11)
    torch.testing.assert_close(ours(x), theirs(x))
    theirs, ours = theirs.train(), ours.train()
    theirs.project[3].p = ours.project[3].p = 0.0
    torch.testing.assert_close(ours(x), theirs(x))  # batch statistics, too


def test_pooled_batch_norm_with_one_image_in_training_leaves_the_statistics_alone():
    torch.manual_seed(0)
    aspp = ASPP(6, (1,), 8)
    norm = aspp.convs[-1][2]
    norm.running_mean.fill_(0.3)
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    aspp(torch.randn(1, 6, 5, 7)).square().mean().backward()
    assert all(torch.equal(before[k], v) for k, v in norm.state_dict().items())
    assert all(torch.isfinite(p.grad).all() for p in aspp.parameters())
    aspp(torch.randn(2, 6, 5, 7))
    assert norm.num_batches_tracked == 1
    assert not torch.equal(norm.running_mean, before["running_mean"])
    # with one image it trains as it evaluates
    norm = PooledBatchNorm(3)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.running_var.fill_(4.0)
    x, expected = torch.tensor([[3.0, 2.0, 1.0], [1.0, 0.0, -1.0]]).reshape(2, 1, 3, 1, 1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm(x), norm.eval()(x))
    assert type(pickle.loads(pickle.dumps(norm))) is PooledBatchNorm
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(3)(x)  # what it is there for


def test_separable_is_two_convolutions_and_group_norm_keeps_scale_and_shift():
    within, across = (m for m in separable(6, 10, dilation=2) if isinstance(m, nn.Conv2d))
    assert (within.weight.numel(), across.weight.numel()) == (9 * 6, 6 * 10)
    x = torch.randn(1, 6, 8, 9)
    full = nn.Conv2d(6, 10, 3, padding=2, dilation=2, bias=False)  # the product of the two
    full.weight.data = across.weight * within.weight.transpose(0, 1)
    torch.testing.assert_close(across(within(x)), full(x), rtol=1e-4, atol=1e-5)
    was = nn.BatchNorm2d(8)
    nn.init.normal_(was.weight)
    nn.init.normal_(was.bias)
    norm = to_group_norm(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(was)))[1][0]
    assert isinstance(norm, nn.GroupNorm) and norm.num_groups == 2 and norm.weight.requires_grad
    assert torch.equal(norm.weight, was.weight) and torch.equal(norm.bias, was.bias)
