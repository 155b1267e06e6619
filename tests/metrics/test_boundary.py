"""Boundary IoU and F1, distances to borders and errors by distance, against all pairs of pixels."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.metrics.boundary import BoundaryCounts, band, border_distance, error_by_distance


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
            near_theirs, near_mine = (steps_to(m) <= distance for m in (their_line, my_line))
            bands = (mine & theirs, mine | theirs)
            lines = (my_line, my_line & near_theirs, their_line, their_line & near_mine)
            counts[k] += [pixels.sum() for pixels in bands + lines]
    return counts


def counted(prediction, truth, classes, distance=None):
    counts = BoundaryCounts(classes, distance)
    counts.update(prediction, truth)
    return counts


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), distance=st.integers(1, 3), void=st.floats(0, 0.3))
def test_counts_are_those_of_all_pairs(seed, distance, void):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (2, 4, 5)).repeat(2, 1).repeat(2, 2)
    prediction = np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, 3, truth.shape))
    truth[rng.random(truth.shape) < void] = 255
    found = counted(prediction, torch.from_numpy(truth), 3, distance).counts
    np.testing.assert_array_equal(found, scores_by_pairs(prediction, truth, 3, distance))


def test_a_square_that_is_shifted_by_one_by_hand_and_bands():
    """A 4×4 square in 10×10, one pixel to the right: rings of twelve pixels, six shared."""
    truth = np.zeros((10, 10), np.int64)
    truth[3:7, 3:7] = 1
    scores = counted(np.roll(truth, 1, axis=1), truth, 2, distance=1).compute()
    assert scores.iou[1] == pytest.approx(6 / 18)  # top and bottom rows share 3 each
    assert scores.f1[1] == 1  # every border pixel is one step away
    mask = np.zeros((7, 7), bool)
    mask[1:6, 1:6] = True
    assert [band(mask, distance).sum() for distance in (1, 2, 3)] == [16, 24, 25]
    assert band(np.ones((4, 4), bool), 1).sum() == 12  # the picture's edge is a border
    # the usual distance is two per cent of the diagonal, here of 500
    truth = truth.repeat(30, 0).repeat(40, 1)
    usual, ten = (counted(np.roll(truth, 4, axis=0), truth, 2, d) for d in (None, 10))
    np.testing.assert_array_equal(usual.counts, ten.counts)


def test_perfect_absent_missed_and_invented_and_void():
    truth = np.zeros((1, 12, 12), np.int64)
    truth[0, 2:6, 2:6] = 1
    perfect = counted(truth, truth, 4, 2).compute()
    np.testing.assert_array_equal(perfect.iou, [1, 1, np.nan, np.nan])
    assert perfect.miou == perfect.mean_f1 == 1
    scores = counted(np.where(truth == 1, 2, truth), truth, 4, 2).compute()
    for found in (scores.iou, scores.f1):  # 1 is missed, 2 is invented
        np.testing.assert_array_equal(found, [1, 0, 0, np.nan])
    truth[0], truth[0, :, 6:] = 0, 255  # void is no border and counts nowhere
    prediction = truth.copy()
    prediction[0, :, 6:] = np.random.default_rng(0).integers(0, 2, (12, 6))
    counts = counted(prediction, truth, 2, 1)
    np.testing.assert_array_equal(counts.compute().iou, [1, np.nan])
    assert counts.counts[0, 2] == 6 + 6 + 10  # three edges of the picture, not void's


def test_what_cannot_be_counted():
    zeros = np.zeros((3, 4), int)
    for prediction, truth, message in (
        (zeros, zeros.T, "equal shape"),
        (zeros / 1, zeros, "integer labels"),
        (zeros + 2, zeros, "the prediction has label 2 at 12 pixels"),
        (zeros, zeros + 7, "the target has label 7 at 12 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            counted(prediction, truth, 2)
    for options in ((0,), (2, 0)):  # classes, distance
        with pytest.raises(ValueError, match="from 1 up"):
            BoundaryCounts(*options)


def by_all_pairs(mask, void=255):
    """For each pixel the nearest one of another class, by trying them all."""
    pixels = list(np.ndindex(mask.shape))
    found = np.full(mask.shape, np.nan)
    for at in pixels:
        if mask[at] != void:
            others = [p for p in pixels if mask[p] not in (void, mask[at])]
            found[at] = min((math.dist(at, other) for other in others), default=math.inf)
    return found


def random_mask(seed, dtype=np.uint8, void=255):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 14, 2)
    coarse = rng.choice([0, 0, 1, 2, 7, void], size=(height // 3 + 1, width // 3 + 1))
    mask = np.kron(coarse, np.ones((3, 3), int))[:height, :width].astype(dtype)
    speckle = rng.random(mask.shape) < 0.05
    mask[speckle] = rng.choice([0, 1, void], size=speckle.sum())
    return mask


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(("dtype", "void"), [(np.uint8, 255), (np.int64, 9), (np.uint16, 9)])
def test_distances_are_those_of_all_pairs(seed, dtype, void):
    mask = random_mask(seed, dtype, void)
    before = mask.copy()
    found = border_distance(mask, void)
    assert found.dtype == np.float32 and found.shape == mask.shape
    np.testing.assert_allclose(found, by_all_pairs(mask, void), rtol=1e-5)
    assert np.array_equal(mask, before)


def test_distances_by_hand_a_large_one_and_what_is_no_mask():
    for mask, expected in (
        ([[0, 0, 0, 255, 1]] * 2, [[4, 3, 2, np.nan, 2]] * 2),  # void between: it is further off
        ([[0, 0], [0, 3]], [[2**0.5, 1], [1, 1]]),
        ([[0, 255, 0]], [[np.inf, np.nan, np.inf]]),  # void is no class and makes no border
        ([[255, 255]], [[np.nan, np.nan]]),
    ):
        np.testing.assert_allclose(border_distance(np.array(mask, np.uint8)), expected)
    mask = np.zeros((150, 200), np.uint8)
    mask[149, 199] = 1
    assert border_distance(mask)[0, 0] == pytest.approx(math.hypot(149, 199), rel=1e-6)
    for other in (mask / 1, mask == 1, mask[None], mask[0]):  # floats, bool, axes
        with pytest.raises(ValueError, match=r"found a mask of shape .* expected integer labels"):
            border_distance(other)


def test_rings_by_hand():
    # distances:          4  3  2  1 | 1  2
    truth = np.array([[0, 0, 0, 0, 1, 1], [255] * 6], np.uint8)
    wrong = np.array([[1, 0, 1, 1, 0, 1], [0] * 6], np.uint8)
    # [1, 2): two pixels, both wrong; [2, 3): two, one wrong; [3, inf]: two, one wrong
    assert error_by_distance([wrong], [truth], (1, 2, 3, np.inf)).tolist() == [1, 0.5, 0.5]
    # the last ring may end: [2, 4) holds the distances 2, 2, 3
    assert error_by_distance([wrong], [truth], (2, 4)).tolist() == pytest.approx([1 / 3])
    assert error_by_distance([truth], [truth], (1, 2, 9)).tolist() == [0, 0]
    # an empty ring is NaN, and void counts nowhere
    truth = np.array([[0, 1, 255]], np.uint8)
    found = error_by_distance([np.array([[0, 1, 1]])], [truth], (1, 2, 5, np.inf))
    np.testing.assert_array_equal(found, [0, np.nan, np.nan])
    assert np.isnan(error_by_distance([], [], (1, 2))).all()


@pytest.mark.parametrize("seed", range(8))
def test_rings_are_those_of_all_pairs_over_all_maps_together(seed):
    rng = np.random.default_rng(seed)
    truths = [random_mask(100 * seed + i) for i in range(3)]
    guesses = [rng.integers(0, 3, truth.shape) for truth in truths]
    distances = np.concatenate([by_all_pairs(truth).ravel() for truth in truths])
    wrong = np.concatenate([(g != t).ravel() for g, t in zip(guesses, truths, strict=True)])
    expected = []
    for low, high in itertools.pairwise((1, 2, 3, 5, 9, np.inf)):
        ring = (low <= distances) & ((distances < high) | (high == np.inf))
        expected.append(wrong[ring].mean() if ring.any() else np.nan)
    found = error_by_distance(guesses, truths)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected)
    with pytest.raises(ValueError, match="found 1 predictions for 3 truths"):
        error_by_distance(guesses[:1], truths)
    with pytest.raises(ValueError, match=r"found a prediction of \(2, 3\) for a truth of \(2, 2\)"):
        error_by_distance([np.zeros((2, 3), int)], [np.zeros((2, 2), int)])


def test_counts_add_up():
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 3, (2, 4, 9, 11))
    whole, first, second = (BoundaryCounts(3) for _ in range(3))
    whole.update(prediction, truth)
    first.update(prediction[:1], truth[:1])
    second.update(prediction[1:], truth[1:])
    kept = first.counts.copy()
    assert ((first + second).counts == whole.counts).all() and (first.counts == kept).all()
    with pytest.raises(ValueError, match=r"'distance': None.*'distance': 2.*only equal ones add"):
        first + BoundaryCounts(3, distance=2)
