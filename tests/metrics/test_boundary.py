"""Boundary IoU and F1 against brute force over all pairs of pixels, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.metrics.boundary import BoundaryCounts, band


def steps_to(mask):
    """Steps (eight neighbours) from each pixel to the nearest pixel of a mask; inf without one."""
    places = np.argwhere(mask)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    if not len(places):
        return np.full(mask.shape, np.inf)
    return np.min([np.maximum(abs(y - r), abs(x - c)) for r, c in places], axis=0)


def band_by_pairs(mask, void, distance):
    """The mask's pixels within `distance` steps of what is neither it nor void; edge counts."""
    outside = np.pad(~(mask | void), distance, constant_values=True)
    near = steps_to(outside)[distance:-distance, distance:-distance] <= distance
    return mask & near & ~void


def scores_by_pairs(prediction, truth, classes, distance):
    counts = np.zeros((classes, 6))
    for p, t in zip(prediction, truth, strict=True):
        void = t == 255
        for k in range(classes):
            mine, theirs = (band_by_pairs(m == k, void, distance) for m in (p, t))
            my_line, their_line = (band_by_pairs(m == k, void, 1) for m in (p, t))
            counts[k] += [
                (mine & theirs).sum(),
                (mine | theirs).sum(),
                my_line.sum(),
                (my_line & (steps_to(their_line) <= distance)).sum(),
                their_line.sum(),
                (their_line & (steps_to(my_line) <= distance)).sum(),
            ]
    return counts


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), distance=st.integers(1, 3), void=st.floats(0, 0.3))
def test_counts_are_those_of_all_pairs(seed, distance, void):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (2, 4, 5)).repeat(2, 1).repeat(2, 2)
    prediction = np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, 3, truth.shape))
    truth[rng.random(truth.shape) < void] = 255
    counts = BoundaryCounts(3, distance)
    counts.update(prediction, torch.from_numpy(truth))
    np.testing.assert_array_equal(counts.counts, scores_by_pairs(prediction, truth, 3, distance))


def test_a_square_that_is_shifted_by_one_by_hand():
    """A 4×4 square in 10×10, one pixel to the right: rings of twelve pixels, six shared."""
    truth = np.zeros((10, 10), np.int64)
    truth[3:7, 3:7] = 1
    prediction = np.roll(truth, 1, axis=1)
    counts = BoundaryCounts(2, distance=1)
    counts.update(prediction, truth)
    scores = counts.compute()
    assert scores.iou[1] == pytest.approx(6 / 18)  # top and bottom rows share 3 each
    assert scores.f1[1] == 1  # every border pixel is one step away
    assert scores.precision[1] == scores.recall[1] == 1


def test_the_band_of_a_mask():
    mask = np.zeros((7, 7), bool)
    mask[1:6, 1:6] = True
    assert band(mask, 1).sum() == 16 and band(mask, 2).sum() == 24 and band(mask, 3).sum() == 25
    assert band(np.ones((4, 4), bool), 1).sum() == 12  # the picture's edge is a border


def test_perfect_absent_missed_and_invented():
    truth = np.zeros((1, 12, 12), np.int64)
    truth[0, 2:6, 2:6] = 1
    perfect = BoundaryCounts(4, 2)
    perfect.update(truth, truth)
    np.testing.assert_array_equal(perfect.compute().iou, [1, 1, np.nan, np.nan])
    assert perfect.compute().miou == perfect.compute().mean_f1 == 1
    prediction = np.where(truth == 1, 2, truth)  # 1 is missed, 2 is invented
    counts = BoundaryCounts(4, 2)
    counts.update(prediction, truth)
    np.testing.assert_array_equal(counts.compute().iou, [1, 0, 0, np.nan])
    np.testing.assert_array_equal(counts.compute().f1, [1, 0, 0, np.nan])


def test_void_is_no_border_and_counts_nowhere():
    truth = np.zeros((1, 12, 12), np.int64)
    truth[0, :, 6:] = 255
    prediction = truth.copy()
    prediction[0, :, 6:] = np.random.default_rng(0).integers(0, 2, (12, 6))
    counts = BoundaryCounts(2, 1)
    counts.update(prediction, truth)
    assert counts.compute().iou[0] == 1 and np.isnan(counts.compute().iou[1])
    assert counts.counts[0, 2] == 6 + 6 + 10  # three edges of the picture, not void's


def test_the_usual_distance_is_two_per_cent_of_the_diagonal():
    truth = np.zeros((300, 400), np.int64)  # diagonal 500
    truth[100:200, 100:300] = 1
    usual, ten = BoundaryCounts(2), BoundaryCounts(2, 10)
    for counts in (usual, ten):
        counts.update(np.roll(truth, 4, axis=0), truth)
    np.testing.assert_array_equal(usual.counts, ten.counts)


@pytest.mark.parametrize(
    "prediction, truth, message",
    [
        (np.zeros((3, 4), int), np.zeros((4, 3), int), "equal shape"),
        (np.zeros((3, 4)), np.zeros((3, 4), int), "integer labels"),
        (np.full((3, 4), 2), np.zeros((3, 4), int), "the prediction has label 2 at 12 pixels"),
        (np.zeros((3, 4), int), np.full((3, 4), 7), "the target has label 7 at 12 pixels"),
    ],
)
def test_what_cannot_be_counted(prediction, truth, message):
    with pytest.raises(ValueError, match=message):
        BoundaryCounts(2).update(prediction, truth)


def test_settings_from_one_up():
    for options in ({"num_classes": 0}, {"num_classes": 2, "distance": 0}):
        with pytest.raises(ValueError, match="from 1 up"):
            BoundaryCounts(**options)
