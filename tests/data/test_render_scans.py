"""The slices: the same from the same seed, as the knobs say, and not to be solved by grey alone."""

import math

import cv2
import numpy as np
import pytest

from seglib.data import Scans
from seglib.data.render.scan import render_scan
from seglib.data.render.scanner import BLACK, WHITE, Tissue, picture


def share(seed, **knobs):
    """The lesion's fraction of the pixels."""
    return float((render_scan(seed, **knobs).semantic == 1).mean())


def test_a_seed_is_the_same_anatomy_at_every_size():
    for seed in range(12):
        small, large = render_scan(seed, 64, 96), render_scan(seed, 256, 384)
        assert small.image.shape == (64, 96, 3) and small.image.dtype == np.uint8
        assert (small.image == small.image[..., :1]).all()
        assert (small.image != render_scan(seed + 1, 64, 96).image).mean() > 0.5
        assert np.allclose(np.multiply(large.spacing, 4), small.spacing)
        reduced = large.semantic[2::4, 2::4]
        assert (reduced != small.semantic).mean() < 0.02  # borders only
        assert {*np.unique(reduced)} == {*np.unique(small.semantic)}


@pytest.mark.parametrize("size, tolerance", [(0.001, 0.2), (0.01, 0.05), (0.1, 0.02)])
@pytest.mark.parametrize("shape", [(128, 128), (96, 192)])
def test_the_lesion_has_the_size_that_is_asked_for(size, tolerance, shape):
    for seed in range(30):
        found = share(seed, height=shape[0], width=shape[1], lesion_size=size, lesion=True)
        assert abs(found / size - 1) <= tolerance, (seed, found)


def test_the_lesion_is_one_piece_within_the_frame_and_clear_of_vessels_which_are_dark():
    dark = []
    for seed in range(60):
        scan, healthy = render_scan(seed, lesion=True), render_scan(seed, lesion=False)
        lesion = (scan.semantic == 1).astype(np.uint8)
        assert cv2.connectedComponents(lesion)[0] == 2  # with the background
        assert not lesion[[0, -1]].any() and not lesion[:, [0, -1]].any()
        assert not (healthy.semantic == 1).any()
        vessel = healthy.semantic == 2
        assert lesion[vessel].sum() <= 0.02 * vessel.sum()
        if vessel.any():
            grey = healthy.image[..., 0].astype(float)
            dark.append(grey[vessel].mean() / grey[~vessel].mean())
    assert np.mean(dark) < 0.6

    # a lesion comes by chance; it can be forced as well, and forbidden
    shares = [share(seed) for seed in range(30)]
    without, with_one = shares.index(0), int(np.argmax(shares))
    assert share(without, lesion=True) > 0.01
    assert shares[with_one] > 0.01 and share(with_one, lesion=False) == 0


def test_contrast_darkens_the_lesion_step_by_step_and_without_it_there_is_no_trace():
    scans = [[render_scan(s, lesion=True, contrast=c) for s in range(20)] for c in (0, 0.5, 1, 2)]
    greys = [np.mean([s.image[s.semantic == 1].mean() for s in of_one]) for of_one in scans]
    assert np.all(np.diff(greys) < -5)
    for seed, (invisible, dark) in enumerate(zip(scans[0], scans[3], strict=True)):
        np.testing.assert_array_equal(invisible.image, render_scan(seed, lesion=False).image)
        np.testing.assert_array_equal(invisible.semantic, dark.semantic)


def test_speckle_is_that_of_two_views_and_its_knob_scales_it():
    """The mean of two Rayleigh-distributed views deviates, in dB, by 10/ln 10 · √ψ′(2)."""

    def deviation(speckle):
        tissue = Tissue(96, 2048, 40, 800)  # broad, with pixels as large as the beam
        tissue.echo -= 10
        grey = picture(tissue, np.random.RandomState(4), speckle).astype(float)
        return float(grey.std(axis=1).mean()) * (WHITE - BLACK) / 255

    expected = 10 / math.log(10) * math.sqrt(math.pi**2 / 6 - 1)
    assert deviation(1) == pytest.approx(expected, rel=0.03)
    assert deviation(0.5) == pytest.approx(expected / 2, rel=0.03)
    assert deviation(0) < 0.02


def test_bad_knobs():
    for name, value, message in (
        ("seed", -1, "0 to 4294967295; every whole number"),
        ("height", 16, "32 to 4096; render it at such a size"),
        ("width", 31, "32 to"),
        ("lesion_size", 2, "0.001 to 0.1; pass a fraction of"),
        ("lesion_size", 0, "0.001 to 0.1"),
        ("contrast", -0.5, "0 to 5; pass 1 for the usual"),
        ("speckle", math.nan, "0 to 5; pass 1 for the usual"),
    ):
        with pytest.raises(ValueError, match=f"^found {name} = {value}, expected {message}"):
            render_scan(**{"seed": 0, name: value})


def test_no_interval_of_greys_is_the_lesion():
    """All of them, on the very pixels that are scored: a regression on grey is one of them."""
    images, masks = zip(*(pair for pair in Scans("test")), strict=True)
    greys, labels = np.stack(images)[..., 0].ravel(), np.stack(masks).ravel()
    low, high = np.triu_indices(257, 1)

    def within(values):
        up_to = np.append(0, np.bincount(values, minlength=256).cumsum())
        return up_to[high] - up_to[low]

    hits, chosen = within(greys[labels == 1]), within(greys)
    best = (hits / (chosen + (labels == 1).sum() - hits)).max()
    assert 0.02 < best <= 0.1
