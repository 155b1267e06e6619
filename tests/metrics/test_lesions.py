"""Distances, surface Dice, lesions and limits of agreement: by hand, by all pairs, and MONAI's."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.measure import label
from skimage.metrics import hausdorff_distance

from seglib.metrics.lesions import LesionCounts, bland_altman, count_lesions, hausdorff
from seglib.metrics.lesions import surface_dice as surface


def border_of(mask):
    """The pixels that lack a neighbour; beyond the picture is nothing."""
    framed, axes = np.pad(mask, 1), range(mask.ndim)
    within = np.all([np.roll(framed, s, axis) for axis in axes for s in (1, -1)], axis=0)
    return (framed & ~within)[(slice(1, -1),) * mask.ndim]


def random_masks(rng, axes):
    shape, spacing = rng.integers(2, 12, axes), rng.choice([0.3, 0.5, 0.7, 1.0, 2.5], axes)
    fields = [ndimage.gaussian_filter(rng.random(shape), rng.uniform(0, 2)) for _ in "ab"]
    masks = [field >= np.quantile(field, rng.choice([0.05, 0.5, 0.9, 1])) for field in fields]
    return *masks, spacing.tolist()


@pytest.mark.parametrize("seed", range(40))
def test_distances_are_those_of_all_pairs(seed):
    mine, theirs, spacing = random_masks(rng := np.random.default_rng(seed), axes=2 + seed % 2)
    a, b = (np.argwhere(border_of(mask)) * np.array(spacing) for mask in (mine, theirs))
    pairs, percentile = np.sqrt(((a[:, None] - b) ** 2).sum(-1)), rng.uniform(1, 100)
    expected = max(np.percentile(pairs.min(axis), percentile) for axis in (0, 1))
    assert hausdorff(mine, theirs, spacing, percentile=percentile) == pytest.approx(expected)
    away = np.concatenate([pairs.min(0), pairs.min(1)])
    for tolerance in (0, spacing[0], 2 * spacing[-1], 1.1):
        expected = np.mean((away < tolerance) | np.isclose(away, tolerance))
        assert surface(mine, theirs, spacing, tolerance=tolerance) == pytest.approx(expected)
    plain = hausdorff(mine, theirs, [1] * mine.ndim, percentile=100)
    assert plain == pytest.approx(hausdorff_distance(border_of(mine), border_of(theirs)))


def test_a_square_that_is_shifted_by_hand():
    """A 4×4 square, two pixels of 0.5 mm to the right: 4 distances each of 0, 0.5 and 1 mm."""
    truth = torch.zeros(8, 12, dtype=torch.uint8)
    truth[2:6, 2:6] = 1
    moved, spacing = truth.roll(2, 1), (3.0, 0.5)
    for a, b, mm in ((moved, truth, spacing), (truth.T, moved.T, spacing[::-1])):
        found = [hausdorff(a, b, mm, percentile=p) for p in (100, 95, 70, 50, 1)]
        assert found == pytest.approx([1, 1, 0.85, 0.5, 0])  # 70: seven tenths from 0.5 to 1
        shares = [surface(a, b, mm, tolerance=t) for t in (0, 0.499, 0.5, 1)]
        assert shares == pytest.approx([4 / 12, 4 / 12, 8 / 12, 1])


def test_single_pixels_edges_sizes_and_rounding():
    one = np.eye(5, 7, k=3) * (np.arange(5) == 2)[:, None]  # at (2, 5)
    whole = hausdorff(one, np.ones((5, 7)), (0.5, 1), percentile=100)  # edges are borders
    assert hausdorff(one, one, (1, 1)) == 0 and whole == pytest.approx(math.hypot(1, 5))
    for step, pixels in ((0.1, 3), (0.1, 7), (0.3, 6), (0.7, 3)):  # 0.1 · 3 > 0.3 in floats
        a, b, reach = np.eye(1, 9), np.eye(1, 9, k=pixels), float(f"{step * pixels:.1f}")
        assert surface(a, b, (1, step), tolerance=reach) == 1
        assert surface(a, b, (1, step), tolerance=0.99 * reach) == 0
    large = np.zeros((2, 3000, 3000), bool)
    large[0, 5, 5] = large[1, 2405, 1805] = True
    assert hausdorff(*large, (1, 1)) == 3000


def test_empty_masks():
    empty, full = np.zeros((4, 6), bool), np.eye(4, 6)
    for a, b, far, share in ((empty, full, math.inf, 0), (empty, empty, math.nan, math.nan)):
        for pair in ((a, b), (b, a)):
            found = [hausdorff(*pair, (1, 1), percentile=p) for p in (50, 95, 100)]
            found.append(surface(*pair, (1, 1), tolerance=9))
            assert found == pytest.approx([far] * 3 + [share], nan_ok=True)


# Ellipses: the shape, and of each mask the centre, weights, and the largest weighted square
OVAL = (30, 24), ((14, 11), (1, 3), 90), ((17, 12), (2, 1), 75)
EDGE = (20, 20), ((0, 5), (1, 1), 40), ((9, 9), (4, 1), 110)
BODY = (10, 14, 12), ((4, 6, 6), (4, 1, 2), 26), ((5, 8, 5), (3, 2, 1), 22)
MONAI_1_6_1 = [  # spacing, Hausdorff distances at percentiles 50, 95 and 100; tolerance, Dice
    (OVAL, (0.7, 1.25), (2.47193, 5.00244, 5.1923), 1.5, 0.45),
    (EDGE, (2.5, 0.5), (8.70747, 20.0515, 20.1556), 2.0, 0.267606),
    (BODY, (2.5, 0.8, 0.8), (1.13137, 3.0476, 3.46554), 2.0, 0.683333),
]


def agrees(masks, mm, distances, tolerance, share):
    found = [hausdorff(*masks, mm, percentile=p) for p in (50, 95, 100)]
    found.append(surface(*masks, mm, tolerance=tolerance))
    return found == pytest.approx([*distances, share], rel=1e-5)


def test_what_monai_said():
    for (shape, *ellipses), *said in MONAI_1_6_1:
        places = np.moveaxis(np.indices(shape), 0, -1)
        assert agrees([((places - at) ** 2 * w).sum(-1) <= r for at, w, r in ellipses], *said)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_monai_says_of_random_masks():
    monai, rng = pytest.importorskip("monai.metrics"), np.random.default_rng(0)
    far, share = monai.compute_hausdorff_distance, monai.compute_surface_dice
    for n in range(200):
        *masks, mm = random_masks(rng, 2 + n % 2)
        maps = [torch.from_numpy(mask)[None, None].float() for mask in masks]
        said = [far(*maps, True, percentile=p, spacing=mm).item() for p in (50, 95, 100)]
        for t in (0.0, mm[0], 1.1):
            assert agrees(masks, mm, said, t, share(*maps, [t], True, spacing=mm).item())


def rows(text):
    return np.array([list(map(int, row)) for row in text.split()])


def test_what_is_ignored_is_in_neither_mask():
    truth, guess = rows("111000000 111000110"), rows("111110000 111111000")
    void, hole = rows("001111100 001111100"), rows("010000000 010000000")
    assert hausdorff(guess, truth, (1, 1), percentile=100, ignore=void) == 6  # columns 7 and 1
    assert surface(guess, truth, (1, 1), tolerance=0, ignore=void) == pytest.approx(8 / 9)
    for mask, counts in ((void, (2, 1, 0, 1)), (truth == 1, (0, 0, 1, 1)), (hole, (3, 2, 0, 1))):
        assert count_lesions(guess, truth, ignore=mask) == LesionCounts(*counts)


TWO = "110000000 110001111 000000000"
GUESSES = [  # for these two lesions of four pixels: min_overlap, lesions found, false positives
    ("100000000 000000000 000000000", 0, 1, 0),  # one pixel is enough
    ("000000000 011111000 000000000", 0, 2, 0),  # one blob over both
    ("000000000 000001010 000000000", 0, 1, 0),  # two blobs on one
    ("000000000 000010000 111000000", 0, 0, 2),  # beside them
    ("000000000 110001110 000000000", 0.5, 1, 1),  # a half is not more than a half
    ("000000000 000001101 000000000", 0.5, 1, 0),  # two blobs together
    ("111111111 111111111 111111111", 0.99, 2, 0),  # size does not matter
]


def test_lesions_by_hand():
    for guess, least, found, false in GUESSES:
        counts = count_lesions(torch.from_numpy(rows(guess)), rows(TWO), min_overlap=least)
        assert counts == LesionCounts(2, found, false, images=1), guess


@pytest.mark.parametrize("seed", range(40))
def test_lesions_one_by_one(seed):
    masks = np.random.default_rng(seed).random((2, 9, 11)) < 0.35
    least, near = seed / 80, 1 + seed % 2
    maps = [label(mask, connectivity=near) for mask in masks]
    blobs, lesions = ([parts == k for k in range(1, parts.max() + 1)] for parts in maps)
    found = [one for one in lesions if (one & masks[0]).sum() / one.sum() > least]
    false = sum(not any((blob & one).any() for one in found) for blob in blobs)
    counts = count_lesions(*masks, min_overlap=least, connectivity=near)
    assert counts == LesionCounts(len(lesions), len(found), false, 1)


def test_counts_add_up_and_rates_without_lesions():
    a, b, none = LesionCounts(4, 3, 1, 1), LesionCounts(0, 0, 1, 1), LesionCounts()
    total = sum([a, b], none)
    assert total == LesionCounts(4, 3, 2, 2) and b.precision == 0
    assert (total.sensitivity, total.precision, total.false_positives_per_image) == (0.75, 0.6, 1)
    assert np.isnan([b.sensitivity, none.precision, none.false_positives_per_image]).all()


def test_limits_of_agreement_by_hand():
    found = bland_altman([11, 22, 33, 40], np.array([10, 20, 30, 40]))
    assert found.difference.tolist() == [1, 2, 3, 0] and found.mean.tolist() == [10.5, 21, 31.5, 40]
    reach = 1.96 * math.sqrt((0.25 + 0.25 + 2.25 + 2.25) / 3)
    assert found[:3] == pytest.approx((1.5, 1.5 - reach, 1.5 + reach))


ONE = np.eye(4)
WRONG = {
    r"'target': \(3, 4\).*shapes \(H, W\) or": lambda: hausdorff(ONE, ONE[:3], (1, 1)),
    r"'ignore': \(2, 4\)": lambda: surface(ONE, ONE, (1, 1), tolerance=1, ignore=ONE[:2]),
    r"shapes \(H, W\), image by image": lambda: count_lesions(ONE[None], ONE[None]),
    "prediction has value 7.0 at 4 pixels.* == 1": lambda: count_lesions(7 * ONE, ONE),
    r"spacing=\(1, 0\), expected 2 positive": lambda: hausdorff(ONE, ONE, (1, 0)),
    "percentile=101": lambda: hausdorff(ONE, ONE, (1, 1), percentile=101),
    "tolerance=-1": lambda: surface(ONE, ONE, (1, 1), tolerance=-1),
    "min_overlap=1, connectivity=2": lambda: count_lesions(ONE, ONE, min_overlap=1),
    r"\(1,\) and \(1,\), expected numbers": lambda: bland_altman([1], [2]),
    "1 pairs with NaN": lambda: bland_altman([1, math.inf], [1, math.inf]),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_said(said):
    with pytest.raises(ValueError, match=said):
        WRONG[said]()
