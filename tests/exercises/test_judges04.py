"""Lesson 4: what the judges suppose, and answers that they must not refuse or misread."""

import numpy as np
import pytest
import wrong04

from seglib.course.records import read_record, values
from seglib.exercises import lesson04 as ex


def test_the_number_of_images_is_that_of_the_record():
    """By rows from 60 scenes and 24 drives on; the linear mistake lies outside the tolerance."""
    for unit, key, least in (("scenes", "frame_width", 60), ("drives", "drive_width", 24)):
        rows = values(read_record("04_metrics"), "sampling", unit, lambda run: run["samples"])[0]
        widths = {row["size"]: row[key] for row in rows if row["size"] >= least}
        scale = np.mean([width * n**0.5 for n, width in widths.items()])
        assert ex.size.judge.right[unit] == pytest.approx((scale / 0.02) ** 2, abs=0.1)
        for n, width in widths.items():  # the printed digits, too
            for read in (width, round(width, 3)):
                right = {"scenes": 90, "drives": 90, unit: n * (read / 0.02) ** 2}
                assert ex.size.judged(right).state == "correct"
                wrong = ex.size.judged(right | {unit: n * read / 0.02})
                assert "scales the number with the width" in wrong.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "says"), [(wrong04._SUMS, "correct"), ("sums = matrices", "One draw")]
)
def test_an_interval_that_cannot_do_with_one_draw(unit, says):
    """It is judged by its ends alone, and hears no cause that they do not tell."""
    end = "__import__('statistics').quantiles(scores, n=40)[::38]"
    names = {}
    exec(wrong04.PRELUDE + wrong04._interval(unit, end=end), names)
    assert says in str(ex.bootstrap.judged(names["interval"]))
