"""Reliability curves by hand, against scikit-learn, and of a forecaster that tells the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from seglib.metrics.calibration import CalibrationCounts


def binary(chance, truth):
    """Logits (1, 2, 1, P) whose softmax gives class 1 the chance, and the target (1, 1, P)."""
    chance = torch.as_tensor(chance, dtype=torch.float64)
    logits = torch.stack([torch.zeros_like(chance), torch.logit(chance)])[None, :, None]
    return logits.float(), torch.as_tensor(truth)[None, None]


def test_four_pixels_by_hand():
    """Confidence 0.9 right, 0.9 wrong, 0.7 right, void."""
    counts = CalibrationCounts(bins=10)
    counts.update(*binary([0.9001, 0.9001, 0.7001, 0.6], [1, 0, 1, 255]))
    found = counts.compute()
    assert found.pixels.tolist() == [0] * 7 + [1, 0, 2]
    assert found.accuracy[9] == 0.5 and found.accuracy[7] == 1 and np.isnan(found.accuracy[0])
    assert found.ece == pytest.approx((2 * 0.4001 + 0.2999) / 3, abs=1e-6)
    assert found.edges.tolist() == pytest.approx(np.arange(11) / 10)


def test_the_curve_is_scikit_learns():
    """Where class 1 is more likely, its chance is the confidence."""
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.501, 0.999, 5000)
    truth = (rng.random(5000) < chance**2).astype(int)
    counts = CalibrationCounts(bins=15)
    for part in np.array_split(np.arange(5000), 7):  # batches do not matter
        counts.update(*binary(chance[part], truth[part]))
    found = counts.compute()
    accuracy, confidence = calibration_curve(truth, chance, n_bins=15)
    full = found.pixels > 0
    np.testing.assert_allclose(found.accuracy[full], accuracy, atol=1e-6)
    np.testing.assert_allclose(found.confidence[full], confidence, atol=1e-6)


def test_an_honest_forecaster_has_no_error():
    rng = np.random.default_rng(1)
    chance = rng.uniform(0.5, 1, 400_000)
    counts = CalibrationCounts()
    counts.update(*binary(chance, (rng.random(len(chance)) < chance).astype(int)))
    assert counts.compute().ece < 0.005


def test_no_pixel_has_no_error_and_bad_input_is_told():
    counts = CalibrationCounts()
    counts.update(torch.zeros(1, 2, 3, 3), torch.full((1, 3, 3), 255))
    assert np.isnan(counts.compute().ece)
    with pytest.raises(ValueError, match="expected"):
        counts.update(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="bins"):
        CalibrationCounts(0)
