"""Cross-entropy, focal loss and class weights against hand computations and PyTorch."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from properties import case

from seglib.data import CamVid, class_statistics
from seglib.losses import CrossEntropyLoss, FocalLoss, class_weights

WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.0])


def test_two_pixels_by_hand():
    logits = torch.tensor([[[[0.0, 1.0]], [[0.0, 3.0]]]])  # (1, 2, 1, 2)
    by_hand = (math.log(2) + math.log(1 + math.exp(2))) / 2  # truth: class 0 twice
    value = CrossEntropyLoss()(logits, torch.zeros(1, 1, 2, dtype=torch.int64))
    assert value.item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_pytorch_where_there_are_valid_pixels(weight, smoothing):
    logits, target = case()
    options = {"label_smoothing": smoothing, "ignore_index": 255}
    theirs = F.cross_entropy(logits, target, weight, **options)
    torch.testing.assert_close(CrossEntropyLoss(weight, **options)(logits, target), theirs)
    if not smoothing:  # focal loss without focus is cross-entropy
        torch.testing.assert_close(FocalLoss(0, weight)(logits, target), theirs)


def test_focal_by_hand():
    """p of the truth 0.9 and 0.25, γ 2: the easy pixel counts a hundredth of itself."""
    chance = torch.tensor([0.9, 0.25])
    logits = torch.stack([(1 - chance).log(), chance.log()])[None, :, None]
    by_hand = -(0.1**2 * math.log(0.9) + 0.75**2 * math.log(0.25)) / 2
    target = torch.ones(1, 1, 2, dtype=torch.int64)
    assert FocalLoss(2)(logits, target).item() == pytest.approx(by_hand, rel=1e-5)


# Ten images; the 600 pixels of class 0 lie in all of them, class 3 nowhere
COUNTS = SimpleNamespace(pixels=[600, 300, 100, 0], images=[10, 5, 1, 0], total_images=10)
COUNTS.image_pixels = [1000, 500, 100, 0]
EFFECTIVE = [1 / 6.5132156, 1 / 4.0951, 1.0]  # the effective number of n: (1 − 0.9ⁿ) / 0.1


def test_class_weights_by_hand():
    for method, expected in (
        ("median", [1.0, 1.0, 0.6, 0]),  # frequencies .6, .6, 1; their median is .6
        ("enet", [1 / math.log(1.02 + p) for p in (0.6, 0.3, 0.1, 0)]),
        ("dabnet", [1 / math.log(1.10 + p) for p in (0.6, 0.3, 0.1, 0)]),
        ("inverse", [1 / 3, 2 / 3, 2.0, 0]),
        ("effective", [*(x * 3 / sum(EFFECTIVE) for x in EFFECTIVE), 0]),
    ):
        torch.testing.assert_close(class_weights(COUNTS, method), torch.tensor(expected))


@pytest.mark.data
def test_median_frequency_weights_of_camvid_as_measured_elsewhere(datasets):
    weights = class_weights(class_statistics(CamVid("train", root=datasets)), "median")
    assert weights[7].item() == pytest.approx(1.98, abs=0.01)  # Fence
    assert weights[10].item() == pytest.approx(8.8, abs=0.05)  # Bicyclist
