"""Distances to borders and errors by distance, against all pairs of pixels and hand counts."""

import itertools
import math

import numpy as np
import pytest

from seglib.metrics.boundary import border_distance, error_by_distance


def by_all_pairs(mask, void=255):
    """For each pixel the nearest one of another class, by trying them all."""
    pixels = [(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1])]
    found = np.full(mask.shape, np.nan)
    for y, x in pixels:
        if mask[y, x] != void:
            others = [
                math.dist((y, x), other)
                for other in pixels
                if mask[other] not in (void, mask[y, x])
            ]
            found[y, x] = min(others, default=math.inf)
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
def test_distances_are_those_of_all_pairs(seed):
    mask = random_mask(seed)
    found = border_distance(mask)
    assert found.dtype == np.float32 and found.shape == mask.shape
    np.testing.assert_allclose(found, by_all_pairs(mask), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16, bool])
def test_every_integer_type_and_void_label(dtype):
    if dtype is bool:
        with pytest.raises(ValueError, match="integer labels"):
            border_distance(np.zeros((2, 2), bool))
        return
    for seed in range(4):
        mask = random_mask(seed, dtype, void=9)
        np.testing.assert_allclose(border_distance(mask, 9), by_all_pairs(mask, 9), rtol=1e-5)


def test_a_large_distance_is_exact():
    mask = np.zeros((150, 200), np.uint8)
    mask[149, 199] = 1
    assert border_distance(mask)[0, 0] == pytest.approx(math.hypot(149, 199), rel=1e-6)


def test_distances_by_hand():
    mask = np.array([[0, 0, 0, 255, 1], [0, 0, 0, 255, 1]], np.uint8)
    nan = np.nan  # void between: the border is further off
    np.testing.assert_array_equal(border_distance(mask), [[4, 3, 2, nan, 2]] * 2)
    corner = np.array([[0, 0], [0, 3]], np.uint8)
    np.testing.assert_allclose(border_distance(corner), [[2**0.5, 1], [1, 1]])


def test_void_is_no_class_and_makes_no_border():
    mask = np.array([[0, 255, 0]], np.uint8)
    np.testing.assert_array_equal(border_distance(mask), [[np.inf, np.nan, np.inf]])
    assert np.isnan(border_distance(np.full((2, 3), 255, np.uint8))).all()
    assert np.isinf(border_distance(np.zeros((2, 3), np.uint8))).all()


def test_the_mask_stays_as_it_was():
    mask = random_mask(3)
    before = mask.copy()
    border_distance(mask)
    assert np.array_equal(mask, before)


@pytest.mark.parametrize(
    "mask",
    [np.zeros((2, 2)), np.zeros((1, 2, 2), int), np.zeros(4, int)],
    ids=["floats", "three axes", "one axis"],
)
def test_what_is_no_mask(mask):
    with pytest.raises(ValueError, match=r"found a mask of shape .* expected integer labels"):
        border_distance(mask)


# ---------------------------------------------------------------- errors in rings


def test_rings_by_hand():
    # distances:          4  3  2  1 | 1  2
    truth = np.array([[0, 0, 0, 0, 1, 1], [255] * 6], np.uint8)
    wrong = np.array([[1, 0, 1, 1, 0, 1], [0] * 6], np.uint8)
    # [1, 2): two pixels, both wrong; [2, 3): two, one wrong; [3, inf]: two, one wrong
    assert error_by_distance([wrong], [truth], (1, 2, 3, np.inf)).tolist() == [1, 0.5, 0.5]
    # the last ring may end: [2, 4) holds the distances 2, 2, 3
    assert error_by_distance([wrong], [truth], (2, 4)).tolist() == pytest.approx([1 / 3])
    assert error_by_distance([truth], [truth], (1, 2, 9)).tolist() == [0, 0]


def test_rings_are_counted_over_all_maps_together():
    one = np.array([[0, 1]], np.uint8)  # two pixels at distance 1
    three = np.array([[0, 1, 0, 1]], np.uint8)  # four
    none = np.zeros((1, 2), np.uint8)  # no border: infinitely far
    found = error_by_distance([1 - one, three, 1 - none], [one, three, none], (1, 2, np.inf))
    assert found.tolist() == pytest.approx([2 / 6, 1])


def test_an_empty_ring_is_nan_and_void_counts_nowhere():
    truth = np.array([[0, 1, 255]], np.uint8)
    found = error_by_distance([np.array([[0, 1, 1]])], [truth], (1, 2, 5, np.inf))
    assert found[0] == 0 and np.isnan(found[1:]).all()
    assert np.isnan(error_by_distance([], [], (1, 2))).all()


@pytest.mark.parametrize("seed", range(8))
def test_rings_are_those_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    truths = [random_mask(100 * seed + i) for i in range(3)]
    guesses = [rng.integers(0, 3, truth.shape) for truth in truths]
    edges = (1, 2, 3, 5, 9, np.inf)
    expected = []
    for low, high in itertools.pairwise(edges):
        wrong = total = 0
        for guess, truth in zip(guesses, truths, strict=True):
            for at, distance in np.ndenumerate(by_all_pairs(truth)):
                if low <= distance < high or distance == high == np.inf:
                    total += 1
                    wrong += guess[at] != truth[at]
        expected.append(wrong / total if total else np.nan)
    found = error_by_distance(guesses, truths)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected)


def test_maps_that_do_not_fit():
    maps = [np.zeros((2, 2), np.uint8)] * 2
    with pytest.raises(ValueError, match="found 1 predictions for 2 truths"):
        error_by_distance(maps[:1], maps)
    with pytest.raises(ValueError, match=r"found a prediction of \(2, 3\) for a truth of \(2, 2\)"):
        error_by_distance([np.zeros((2, 3), np.uint8)], maps[:1])
