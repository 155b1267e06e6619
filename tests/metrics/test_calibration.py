"""Reliability curves by hand, against scikit-learn, and of a forecaster that tells the truth."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from seglib.metrics.calibration import CalibrationCounts


def counted(chance, truth, bins=15, batches=1):
    """The curve of two classes whose softmax gives class 1 the `chance`."""
    counts = CalibrationCounts(bins)
    for part in np.array_split(np.arange(len(chance)), batches):
        one = torch.logit(torch.as_tensor(np.asarray(chance)[part], dtype=torch.float64))
        logits = torch.stack([torch.zeros_like(one), one])[None, :, None].float()
        counts.update(logits, torch.as_tensor(np.asarray(truth)[part])[None, None])
    return counts.compute()


def test_four_pixels_by_hand():
    """Confidence 0.9 right, 0.9 wrong, 0.7 right, void."""
    found = counted([0.9001, 0.9001, 0.7001, 0.6], [1, 0, 1, 255], bins=10)
    assert found.pixels.tolist() == [0] * 7 + [1, 0, 2]
    assert found.accuracy[9] == 0.5 and found.accuracy[7] == 1 and np.isnan(found.accuracy[0])
    assert found.ece == pytest.approx((2 * 0.4001 + 0.2999) / 3, abs=1e-6)


def test_the_curve_is_scikit_learns():
    """Where class 1 is more likely, its chance is the confidence; batches do not matter."""
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.501, 0.999, 5000)
    truth = (rng.random(5000) < chance**2).astype(int)
    found = counted(chance, truth, batches=7)
    ours = np.stack([found.accuracy, found.confidence])[:, found.pixels > 0]
    np.testing.assert_allclose(ours, calibration_curve(truth, chance, n_bins=15), atol=1e-6)
    chance = rng.uniform(0.5, 1, 400_000)  # an honest forecaster has no error
    assert counted(chance, (rng.random(len(chance)) < chance).astype(int)).ece < 0.005


def test_no_pixel_has_no_error_and_bad_input_is_told():
    assert np.isnan(counted([0.5, 0.7], [255, 255]).ece)
    with pytest.raises(ValueError, match="expected"):
        CalibrationCounts().update(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="bins"):
        CalibrationCounts(0)


def test_counts_add_up_and_what_is_no_label_or_no_number_is_refused():
    torch.manual_seed(0)
    logits, target = torch.randn(4, 3, 5, 6), torch.randint(0, 3, (4, 5, 6))
    target[0, 0] = 255
    whole, first, second = (CalibrationCounts(5) for _ in range(3))
    whole.update(logits, target)
    first.update(logits[:1], target[:1])
    second.update(logits[1:], target[1:])
    found, expected = (first + second).compute(), whole.compute()
    assert (found.pixels == expected.pixels).all() and found.pixels.sum() == 4 * 30 - 6
    np.testing.assert_allclose(found.confidence, expected.confidence)
    assert found.ece == pytest.approx(expected.ece)
    with pytest.raises(ValueError, match=r"'bins': 5.*'bins': 4.*only equal ones add"):
        first + CalibrationCounts(4)
    for label in (3, -1, 254):
        target[1, 2, 3] = label
        with pytest.raises(ValueError, match=rf"target has label {label} at 1 pixels.*0 to 2"):
            whole.update(logits, target)
    target[1, 2, 3], logits[1, 0, 2, 3] = 2, torch.nan
    with pytest.raises(ValueError, match=r"NaN or .* in the logits of 1 pixels"):
        whole.update(logits, target)
