"""Reading records, and intervals against hand computations and published tables."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from seglib.course import records
from seglib.course.records import interval, paired_difference, prediction, read_record, values

# Two-sided 95 % points of Student's t, as in every printed table (e.g. NIST/SEMATECH e-Handbook of
# Statistical Methods, section 1.3.6.7.2, column 0.975): degrees of freedom -> t
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 19: 2.093, 30: 2.042}


@pytest.mark.parametrize("freedom", TABLE)
def test_an_interval_has_the_t_value_of_the_tables(freedom):
    # n values alternately at −1 and 1 (and one at 0, if n is odd), about 0.7
    n = freedom + 1
    numbers = [0.7 + (-1) ** i for i in range(n - n % 2)] + [0.7] * (n % 2)
    reach = TABLE[freedom] * math.sqrt((n - n % 2) / freedom) / math.sqrt(n)
    assert interval(numbers) == pytest.approx((0.7, 0.7 - reach, 0.7 + reach, n), abs=2e-4 * reach)


def test_an_interval_and_a_prediction_by_hand():
    # mean 3, squared deviations 4 + 1 + 0 + 1 + 4 = 10, s² = 10/4, s/√5 = √0.5 = 0.70711,
    # t(0.975, 4) = 2.776445: 3 ± 1.96324
    found = interval([1, 2, 3, 4, 5])
    assert found == pytest.approx((3, 1.03676, 4.96324, 5), abs=1e-5)
    assert str(found) == "3.000 [1.037, 4.963]"
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5, 3)
    for numbers in ([], [0.5], 0.5, [[0.1, 0.2]]):
        with pytest.raises(ValueError, match="expected one for each of two or more seeds"):
            interval(numbers)
    # √(1 + 1/5) = 1.095445, t(0.9995, 4) = 8.610302 (printed tables): ± 4.808944 and ± 14.913481
    narrow, wide = prediction([1, 2, 3, 4, 5], coverage=0.95), prediction([5, 3, 1, 2, 4])
    assert narrow == pytest.approx((3, 3 - 4.808944, 3 + 4.808944, 5), abs=1e-5)
    assert wide == pytest.approx((3, 3 - 14.913481, 3 + 14.913481, 5), abs=1e-5)
    assert all(type(value) is float for value in (*found[:3], *wide[:3]))


def test_intervals_hold_the_mean_and_predictions_one_more_run_as_often_as_they_say():
    runs = np.random.default_rng(0).normal(0.5, 0.1, (4000, 6))
    means = [interval(row[:5]) for row in runs]
    assert 0.935 < np.mean([one.low <= 0.5 <= one.high for one in means]) < 0.965
    found = [prediction(row[:5], coverage=0.9) for row in runs]
    held = np.mean([one.low <= row[5] <= one.high for one, row in zip(found, runs, strict=True)])
    assert 0.885 < held < 0.915  # 0.9 ± three standard errors


def test_a_paired_difference_by_hand():
    # differences by seed: 0.01, 0.02, 0.03, 0.02: mean 0.02, squared deviations 2e-4, s² = 2e-4/3,
    # s/√4 = 0.0040825, t(0.975, 3) = 3.18245: ± 0.012992
    second = {0: 0.40, 1: 0.50, 2: 0.30, 3: 0.45}
    first = {3: 0.47, 2: 0.33, 1: 0.52, 0: 0.41}  # in whatever order
    found = paired_difference(first, second)
    assert found == pytest.approx((0.02, 0.007008, 0.032992, 4), abs=1e-6)
    with pytest.raises(ValueError, match=r"found seeds \[0, 1, 2, 3\] and \[0, 2\]"):
        paired_difference(first, {0: 1.0, 2: 1.0})


RUNS = [
    {"arm": "U-Net", "seed": 2, "test": {"miou": 0.5}},
    {"arm": "U-Net", "seed": 0, "test": {"miou": 0.4}},
    {"arm": "encoder only", "seed": 0, "test": {"miou": 0.3}},
]
RECORD = {"parts": {"arms": {"runs": RUNS}}}


def test_a_record_and_the_values_of_an_arm_by_seed(tmp_path, monkeypatch):
    (tmp_path / "02_unet.json").write_text(json.dumps(RECORD))
    monkeypatch.setattr(records, "records_folder", lambda: tmp_path)
    assert read_record("02_unet") == RECORD
    found = values(RECORD, "arms", "U-Net", lambda run: run["test"]["miou"])
    assert found == {0: 0.4, 2: 0.5} and list(found) == [0, 2]
    with pytest.raises(FileNotFoundError, match=r"no record '02_unt' in .*did you mean '02_unet'"):
        read_record("02_unt")
    with pytest.raises(ValueError, match=r"part 'arms' has no arm 'UNet'.*did you mean 'U-Net'"):
        values(RECORD, "arms", "UNet", dict)


def test_records_are_those_of_the_checkout_or_of_the_wheel(monkeypatch):
    assert records.records_folder().parts[-2:] == ("results", "experiments")
    assert read_record("00_data")["experiment"] == "00_data"
    monkeypatch.setattr(records, "checkout", lambda: None)
    assert records.records_folder().parts[-3:] == ("seglib", "_data", "experiments")
    with pytest.raises(FileNotFoundError, match="there is no record '02_unet' in"):
        read_record("02_unet")


def test_a_label_map_comes_back_from_its_text():
    labels = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(labels).save(stream, "PNG")
    found = records.label_map(base64.b64encode(stream.getvalue()).decode())
    assert found.dtype == np.uint8 and np.array_equal(found, labels)
