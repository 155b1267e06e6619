"""The slices: the same from the same seed, as the knobs say, and not to be solved by grey alone."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score

from seglib.data import Scans
from seglib.data.render.scan import render_scan
from seglib.data.render.scanner import BLACK, WHITE, Tissue, picture


def share(seed: int, **knobs: Any) -> float:
    """The lesion's fraction of the pixels."""
    return float((render_scan(seed, **knobs).semantic == 1).mean())


def test_types_and_shapes() -> None:
    scan = render_scan(3, 48, 80)
    assert scan.image.shape == (48, 80, 3) and scan.image.dtype == np.uint8
    assert scan.semantic.shape == (48, 80) and scan.semantic.dtype == np.uint8
    assert (scan.image == scan.image[..., :1]).all() and set(np.unique(scan.semantic)) <= {0, 1, 2}


def test_a_seed_gives_the_same_slice_and_another_seed_another_one() -> None:
    one, again, other = render_scan(7), render_scan(7), render_scan(8)
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.semantic, again.semantic)
    assert one.spacing == again.spacing
    assert (one.image != other.image).mean() > 0.5


def test_no_global_generator_is_touched() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand(2)[1]  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    np.random.rand()  # noqa: NPY002
    render_scan(1, 32, 32)
    assert np.random.rand() == expected  # noqa: NPY002


def test_a_seed_is_the_same_anatomy_at_every_size() -> None:
    for seed in range(12):
        small, large = render_scan(seed, 64, 96), render_scan(seed, 256, 384)
        assert np.allclose(np.multiply(large.spacing, 4), small.spacing)
        reduced = large.semantic[2::4, 2::4]
        assert (reduced != small.semantic).mean() < 0.02  # borders only
        assert {*np.unique(reduced)} == {*np.unique(small.semantic)}


def test_the_spacing_is_that_of_a_machine_with_two_probes() -> None:
    depths, breadths = set(), set()
    for seed in range(120):
        row, column = render_scan(seed, 32, 64).spacing
        depths.add(round(row * 32, 6))
        breadths.add(round(column * 64, 6))
    assert depths == {30, 35, 40, 45, 50, 55, 60} and breadths == {38, 50}


@pytest.mark.slow
def test_lesions_are_of_their_usual_size_and_one_in_five_is_missing() -> None:
    masks = [render_scan(seed, 96, 96).semantic for seed in range(5000, 5400)]
    shares = np.array([(mask == 1).mean() for mask in masks])
    there = shares > 0
    assert shares[there].min() >= 0.01 and shares[there].max() <= 0.04
    assert abs(there.mean() - 0.8) < 3 * math.sqrt(0.8 * 0.2 / 400)
    vessels = np.mean([(mask == 2).any() for mask in masks])
    assert abs(vessels - 0.8) < 3 * math.sqrt(0.8 * 0.2 / 400)


@pytest.mark.parametrize("size, tolerance", [(0.001, 0.2), (0.01, 0.05), (0.1, 0.02)])
@pytest.mark.parametrize("shape", [(128, 128), (96, 192)])
def test_the_lesion_has_the_size_that_is_asked_for(
    size: float, tolerance: float, shape: tuple[int, int]
) -> None:
    for seed in range(30):
        found = share(seed, height=shape[0], width=shape[1], lesion_size=size, lesion=True)
        assert abs(found / size - 1) <= tolerance, (seed, found)


def test_the_lesion_is_one_piece_within_the_frame_and_clear_of_vessels() -> None:
    for seed in range(60):
        scan, healthy = render_scan(seed, lesion=True), render_scan(seed, lesion=False)
        lesion = (scan.semantic == 1).astype(np.uint8)
        assert cv2.connectedComponents(lesion)[0] == 2  # with the background
        assert not lesion[[0, -1]].any() and not lesion[:, [0, -1]].any()
        assert not (healthy.semantic == 1).any()
        vessel = healthy.semantic == 2
        assert lesion[vessel].sum() <= 0.02 * vessel.sum()


def test_lesion_can_be_forced_and_forbidden() -> None:
    shares = [share(seed) for seed in range(30)]
    without, with_one = shares.index(0), int(np.argmax(shares))
    assert share(without, lesion=True) > 0.01
    assert shares[with_one] > 0.01 and share(with_one, lesion=False) == 0


def test_without_contrast_the_lesion_leaves_no_trace() -> None:
    for seed in range(10):
        invisible = render_scan(seed, lesion=True, contrast=0)
        np.testing.assert_array_equal(invisible.image, render_scan(seed, lesion=False).image)
        np.testing.assert_array_equal(
            invisible.semantic, render_scan(seed, lesion=True, contrast=2).semantic
        )


def test_contrast_darkens_the_lesion_step_by_step() -> None:
    greys = []
    for contrast in (0, 0.5, 1, 2):
        scans = [render_scan(seed, lesion=True, contrast=contrast) for seed in range(20)]
        greys.append(np.mean([scan.image[scan.semantic == 1].mean() for scan in scans]))
    assert np.all(np.diff(greys) < -5)


def test_vessels_are_dark_and_leave_a_bright_trail() -> None:
    dark, trail = [], []
    for seed in range(60):
        scan = render_scan(seed, lesion=False)
        vessel = scan.semantic == 2
        grey = scan.image[..., 0].astype(float)
        if vessel.any():
            dark.append(grey[vessel].mean() / grey[~vessel].mean())
            rows = np.flatnonzero(vessel.any(axis=1))
            columns = vessel.any(axis=0)
            below = slice(rows.max() + 6, rows.max() + 20)
            if columns.mean() < 0.5 and grey[below].size:
                trail.append(grey[below][:, columns].mean() - grey[below][:, ~columns].mean())
    assert np.mean(dark) < 0.6
    assert np.mean(trail) > 5


def test_speckle_is_that_of_two_views_and_its_knob_scales_it() -> None:
    """The mean of two Rayleigh-distributed views deviates, in dB, by 10/ln 10 · √ψ′(2)."""

    def deviation(speckle: float) -> float:
        tissue = Tissue(96, 2048, 40, 800)  # broad, with pixels as large as the beam
        tissue.echo -= 10
        random = np.random.RandomState(4)
        grey = picture(tissue, random, speckle).astype(float)
        return float(grey.std(axis=1).mean()) * (WHITE - BLACK) / 255

    expected = 10 / math.log(10) * math.sqrt(math.pi**2 / 6 - 1)
    assert deviation(1) == pytest.approx(expected, rel=0.03)
    assert deviation(0.5) == pytest.approx(expected / 2, rel=0.03)
    assert deviation(0) < 0.02


def test_speckle_is_finer_along_the_sound_and_widens_with_depth() -> None:
    tissue = Tissue(400, 400, 40, 40)
    tissue.echo -= 10
    grey = picture(tissue, np.random.RandomState(0), 1.0).astype(float)
    grey -= grey.mean(axis=1, keepdims=True)

    def likeness(rows: slice, down: int, across: int) -> float:
        part = grey[rows]
        one = part[: len(part) - down, : 400 - across]
        return float(np.corrcoef(one.ravel(), part[down:, across:].ravel())[0, 1])

    near, far = slice(0, 120), slice(280, 400)
    assert likeness(near, 0, 3) > likeness(near, 3, 0) + 0.1
    assert likeness(far, 0, 5) > likeness(near, 0, 5) + 0.1


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"seed": -1}, "found seed = -1, expected 0 to 4294967295; every whole number"),
        ({"height": 16}, "found height = 16, expected 32 to 4096; render it at such a size"),
        ({"width": 31}, "found width = 31, expected 32 to"),
        ({"lesion_size": 2}, "found lesion_size = 2, expected 0.001 to 0.1; pass a fraction of"),
        ({"lesion_size": 0}, "found lesion_size = 0, expected 0.001 to 0.1"),
        ({"contrast": -0.5}, "found contrast = -0.5, expected 0 to 5; pass 1 for the usual"),
        ({"speckle": math.nan}, "found speckle = nan, expected 0 to 5; pass 1 for the usual"),
    ],
)
def test_bad_knobs(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        render_scan(**{"seed": 0, **knobs})
    assert str(caught.value).startswith(message)


def greys_and_labels(dataset: Scans) -> tuple[np.ndarray, np.ndarray]:
    """Of all pixels of a split: uint8 (P,) and uint8 (P,)."""
    images, masks = zip(*(dataset[i] for i in range(len(dataset))), strict=True)
    return np.stack(images)[..., 0].ravel(), np.stack(masks).ravel()


@pytest.mark.parametrize("weights", [None, "balanced"])
def test_logistic_regression_on_grey_does_not_find_the_lesion(weights: str | None) -> None:
    (x, y), (x_test, y_test) = greys_and_labels(Scans("train")), greys_and_labels(Scans("test"))
    model = LogisticRegression(class_weight=weights).fit(x[::11, None] / 255, y[::11])
    predicted = model.predict(x_test[:, None] / 255)
    assert jaccard_score(y_test == 1, predicted == 1) <= 0.1


def test_no_interval_of_greys_is_the_lesion() -> None:
    """All of them, tried on the very pixels that are scored."""
    greys, labels = greys_and_labels(Scans("test"))
    low, high = np.triu_indices(257, 1)

    def within(values: np.ndarray) -> np.ndarray:
        up_to = np.append(0, np.bincount(values, minlength=256).cumsum())
        return up_to[high] - up_to[low]

    hits, chosen = within(greys[labels == 1]), within(greys)
    best = (hits / (chosen + (labels == 1).sum() - hits)).max()
    assert 0.02 < best <= 0.1
