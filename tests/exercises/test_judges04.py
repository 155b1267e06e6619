"""Lesson 4: what the judges suppose, and answers that they must not refuse or misread."""

import pytest
import wrong04

from seglib.exercises import lesson04 as ex


@pytest.mark.parametrize("drives", [{"B"}, "D", ["b", "C"], ("C", "D")], ids=str)
def test_every_fair_choice_of_drives_is_right(drives):
    assert ex.drives.judged(drives).state == "correct"


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
