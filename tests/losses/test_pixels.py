"""Cross-entropy against hand computations and PyTorch's own definition.

What holds for every loss is in test_loss_properties.py.
"""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from seglib.losses import CrossEntropyLoss, class_weights


def case(seed=0, shape=(2, 4, 5, 6), void=0.3):
    generator = torch.Generator().manual_seed(seed)
    n, c, h, w = shape
    logits = torch.randn(shape, generator=generator)
    target = torch.randint(0, c, (n, h, w), generator=generator)
    target[torch.rand((n, h, w), generator=generator) < void] = 255
    return logits, target


def test_two_pixels_by_hand():
    logits = torch.tensor([[[[0.0, 1.0]], [[0.0, 3.0]]]])  # (1, 2, 1, 2)
    by_hand = (math.log(2) + math.log(1 + math.exp(2))) / 2  # truth: class 0 twice
    value = CrossEntropyLoss()(logits, torch.zeros(1, 1, 2, dtype=torch.int64))
    assert value.item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_pytorch_where_there_are_valid_pixels(weighted, smoothing):
    logits, target = case()
    weight = torch.tensor([0.5, 2.0, 1.0, 0.0]) if weighted else None
    ours = CrossEntropyLoss(weight, label_smoothing=smoothing)(logits, target)
    theirs = F.cross_entropy(logits, target, weight, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


def test_gradient_matches_finite_differences():
    logits, target = case(shape=(1, 3, 2, 3))
    valid = target != 255
    weight = torch.tensor([1.0, 2.0, 0.5])
    x = logits.clone().requires_grad_()
    CrossEntropyLoss(weight)(x, target).backward()

    def reference(z):  # the definition, in float64
        log_p = z.double() - z.double().logsumexp(1, keepdim=True)
        w = weight.double()[target.where(valid, 0)] * valid
        picked = log_p.gather(1, target.where(valid, 0)[:, None])[:, 0]
        return -(w * picked).sum() / w.sum()

    step, flat = 1e-5, logits.double().flatten()
    for i in range(flat.numel()):
        up, down = flat.clone(), flat.clone()
        up[i] += step
        down[i] -= step
        slope = (reference(up.view_as(logits)) - reference(down.view_as(logits))) / (2 * step)
        assert x.grad.flatten()[i].item() == pytest.approx(slope.item(), abs=1e-6)


def test_one_valid_pixel():
    target = torch.full((1, 2, 2), 255)
    target[0, 1, 1] = 2
    assert CrossEntropyLoss()(torch.zeros(1, 4, 2, 2), target).item() == pytest.approx(math.log(4))


def test_inverse_and_effective_weights_by_hand():
    """Of 10 images; the effective number of n is (1 − 0.9ⁿ) / 0.1: 6.513, 4.095, 1."""
    counts = SimpleNamespace(pixels=[60, 30, 10, 0], images=[10, 5, 1, 0], total_images=10)
    inverse = torch.tensor([1 / 3, 2 / 3, 2.0, 0])
    torch.testing.assert_close(class_weights(counts, "inverse"), inverse)
    raw = torch.tensor([1 / 6.5132156, 1 / 4.0951, 1.0])
    effective = torch.cat([raw / raw.mean(), torch.zeros(1)])
    torch.testing.assert_close(class_weights(counts, "effective"), effective)


def test_class_weights_by_hand():
    # three images of 100 valid pixels: class 1 is in two of them, class 2 in one, class 3 nowhere
    counts = SimpleNamespace(pixels=[240, 40, 20, 0], image_pixels=[300, 200, 100, 0])
    # frequencies .8, .2, .2: their median is .2
    torch.testing.assert_close(class_weights(counts, "median"), torch.tensor([0.25, 1.0, 1.0, 0.0]))
    by_hand = [1 / math.log(1.02 + p) for p in (240 / 300, 40 / 300, 20 / 300, 0)]
    torch.testing.assert_close(class_weights(counts, "enet"), torch.tensor(by_hand))


@pytest.mark.data
def test_median_frequency_weights_of_camvid_as_measured_elsewhere(datasets):
    from seglib.data import CamVid, class_statistics

    weights = class_weights(class_statistics(CamVid("train", root=datasets)), "median")
    assert weights[7].item() == pytest.approx(1.98, abs=0.01)  # Fence
    assert weights[10].item() == pytest.approx(8.8, abs=0.05)  # Bicyclist


def test_means_of_batches_weighted_by_denominators_are_the_mean_of_all():
    logits, target = case(shape=(4, 3, 5, 6))
    target[0] = 255
    for weight in (None, torch.tensor([0.2, 3.0, 1.0])):
        loss = CrossEntropyLoss(weight)
        parts = [
            (loss(x, t), loss.denominator(t))
            for x, t in zip(logits.split(1), target.split(1), strict=True)
        ]
        merged = sum(value * mass for value, mass in parts) / sum(mass for _, mass in parts)
        torch.testing.assert_close(merged, loss(logits, target))
