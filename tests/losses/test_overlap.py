"""Dice, Tversky, Lovász and sums of losses: definitions restated, and published numbers."""

import itertools

import numpy as np
import properties
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.cli.train import create_loss
from seglib.losses import CombinedLoss, CrossEntropyLoss, FocalLoss
from seglib.losses.overlap import DiceLoss, LovaszSoftmaxLoss, TverskyLoss, largest_first

SEED, APART, VOID = st.integers(0, 10_000), st.booleans(), st.floats(0, 1)


def softmax(logits):
    """(N, C, H, W) as float64 NumPy probabilities of (N, H·W, C)."""
    z = logits.double().numpy()
    z = np.exp(z - z.max(axis=1, keepdims=True))
    p = z / z.sum(axis=1, keepdims=True)
    return np.moveaxis(p.reshape(*p.shape[:2], -1), 1, 2)


def case(seed, shape=(2, 3, 4, 5), void=0.2):
    return properties.case(seed, void, shape)


# ---------------------------------------------------------------- Dice and Tversky


def tversky_by_loops(logits, target, alpha, beta, smooth, images_apart, weight):
    """The definition, class by class, in NumPy and float64."""
    p, t = softmax(logits), target.flatten(1).numpy()
    groups = [[i] for i in range(len(p))] if images_apart else [list(range(len(p)))]
    found = []
    for group in groups:
        chance = np.concatenate([p[i] for i in group])
        truth = np.concatenate([t[i] for i in group])
        chance, truth = chance[truth != 255], truth[truth != 255]
        terms, masses = [], []
        for k in range(p.shape[2]):
            own = truth == k
            if own.any():
                tp, fp, fn = chance[own, k].sum(), chance[~own, k].sum(), (1 - chance[own, k]).sum()
                terms.append(1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth))
                masses.append(weight[k])
        if terms:
            found.append(np.average(terms, weights=masses))
    return np.mean(found) if found else 0.0


@settings(max_examples=60, deadline=None)
@given(SEED, st.floats(0.05, 2), st.floats(0.05, 2), st.sampled_from([0.0, 1.0]), APART, VOID)
def test_tversky_is_its_definition(seed, alpha, beta, smooth, apart, void):
    logits, target = case(seed, void=void)
    weight = torch.tensor([1.0, 0.5, 2.0])
    loss = TverskyLoss(alpha, beta, weight, over="image" if apart else "batch", smooth=smooth)
    by_hand = tversky_by_loops(logits, target, alpha, beta, smooth, apart, weight.numpy())
    assert loss.double()(logits.double(), target).item() == pytest.approx(by_hand, abs=1e-9)


def test_dice_is_tversky_with_halves_and_jaccard_with_ones():
    logits, target = case(1)
    torch.testing.assert_close(DiceLoss()(logits, target), TverskyLoss(0.5, 0.5)(logits, target))
    jaccard = TverskyLoss(1, 1, weight=torch.tensor([1.0, 0, 0]))(logits, target).item()
    dice = DiceLoss(weight=torch.tensor([1.0, 0, 0]))(logits, target).item()
    index = 1 - dice
    assert 1 - jaccard == pytest.approx(index / (2 - index), abs=1e-6)


def test_monais_published_case_with_a_softmax():
    logits = torch.tensor([[[-1.0, 0, 1], [1, 0, -1]], [[0.0, 0, 0], [0, 0, 0]]])[:, :, None]
    target = torch.tensor([[[1, 0, 0]], [[1, 1, 0]]])
    loss = DiceLoss(over="image", smooth=0.5e-4)
    assert loss(logits, target).item() == pytest.approx(0.383713, abs=1e-5)


# ---------------------------------------------------------------- Lovász


def lovasz_by_permutation(errors, truth):
    """Berman et al., equations 8 and 9: the sorted errors times the growth of the set loss."""
    order = np.argsort(-errors, kind="stable")
    wrong, before, total = set(), 0.0, 0.0
    members = set(np.flatnonzero(truth))
    for i in order:
        wrong.add(i)
        union = members | wrong  # what is wrong joins the union …
        loss = 1 - len(members - wrong) / len(union)  # … and leaves the intersection
        total, before = total + errors[i] * (loss - before), loss
    return total


@settings(max_examples=60, deadline=None)
@given(SEED, APART, VOID)
def test_lovasz_is_its_definition(seed, apart, void):
    logits, target = case(seed, shape=(2, 3, 2, 3), void=void)
    p, t = softmax(logits), target.flatten(1).numpy()
    parts = [(p[i], t[i]) for i in range(2)] if apart else [(np.concatenate(p), np.concatenate(t))]
    found = []
    for chance, truth in parts:
        chance, truth = chance[truth != 255], truth[truth != 255]
        classes = [
            lovasz_by_permutation(np.abs((truth == k) - chance[:, k]), truth == k)
            for k in np.unique(truth)
        ]
        if classes:
            found.append(np.mean(classes))
    by_hand = np.mean(found) if found else 0.0
    loss = LovaszSoftmaxLoss(over="image" if apart else "batch")
    # the steps of twelve pixels are float32, each rounded by up to 2⁻²⁴
    assert loss(logits.double(), target).item() == pytest.approx(by_hand, abs=12 * 2**-24)


@given(st.lists(st.floats(0, 1, width=32), max_size=200))
def test_the_order_of_errors(values):
    errors = torch.tensor(values, dtype=torch.float32)
    order = largest_first(errors)
    assert sorted(order.tolist()) == list(range(len(values)))
    assert errors[order].tolist() == sorted(values, reverse=True)


def test_lovasz_of_hard_answers_is_one_minus_iou():
    """At the corners of the cube the closure equals the set function: all 16 answers."""
    truth = torch.tensor([[[1, 1, 0, 0]]])
    for answer in itertools.product((0, 1), repeat=4):
        labels = torch.tensor(answer).reshape(1, 1, 1, 4)
        logits = torch.cat([1 - labels, labels], 1) * 80.0
        ious = []
        for k in (0, 1):
            a, b = labels[0, 0, 0] == k, truth[0, 0] == k
            ious.append((a & b).sum().item() / (a | b).sum().item())
        expected = 1 - np.mean(ious)
        assert LovaszSoftmaxLoss()(logits, truth).item() == pytest.approx(expected, abs=1e-6)


# ---------------------------------------------------------------- sums, and losses by name


def test_combined_is_the_weighted_sum():
    logits, target = case(5)
    loss = CombinedLoss({CrossEntropyLoss(): 0.5, LovaszSoftmaxLoss(): 2.0})
    parts = [0.5 * CrossEntropyLoss()(logits, target), 2 * LovaszSoftmaxLoss()(logits, target)]
    torch.testing.assert_close(loss(logits, target), sum(parts))
    torch.testing.assert_close(loss.parts(logits, target), parts)


def test_settings_that_make_no_loss():
    for make, message in (
        (lambda: FocalLoss(-1), "gamma"),
        (lambda: TverskyLoss(0, 0), "alpha"),
        (lambda: DiceLoss(over="images"), "'batch' or 'image'"),
        (lambda: LovaszSoftmaxLoss(over="x"), "'batch' or 'image'"),
        (lambda: DiceLoss(torch.tensor([1.0, -1])), "≥ 0 a class"),
        (lambda: CombinedLoss({}), "no loss"),
        (lambda: CombinedLoss({DiceLoss(): 1, FocalLoss(ignore_index=0): 1}), "different labels"),
        (lambda: create_loss("cross-entropy+dise"), "no loss 'dise'.*dice"),
        (lambda: create_loss("dice", label_smoothing=0.1), "only cross-entropy has it"),
        (lambda: DiceLoss(torch.ones(2))(*case(0)), "2 class weights for 3"),
        (lambda: LovaszSoftmaxLoss(torch.ones(2))(*case(0)), "2 class weights for 3"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_a_loss_by_name():
    weight = torch.tensor([1.0, 2.0, 3.0])
    kinds = CrossEntropyLoss, FocalLoss, DiceLoss, TverskyLoss, LovaszSoftmaxLoss
    names = "cross-entropy", "focal", "dice", "tversky", "lovasz"
    for name, kind in zip(names, kinds, strict=True):
        loss = create_loss(name, weight)
        assert type(loss) is kind and torch.equal(loss.weight, weight)
    logits, target = case(6)
    parts = CrossEntropyLoss(label_smoothing=0.1)(logits, target) + DiceLoss()(logits, target)
    loss = create_loss("cross-entropy+dice", label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, target), parts)
