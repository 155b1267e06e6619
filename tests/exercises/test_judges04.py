"""Lesson 4: answers that only a closer look tells from a right one."""

import numpy as np
import pytest

from seglib.exercises import judges04, matrix04, size04
from seglib.exercises.kit import NotYet
from seglib.metrics.scores import Scores


def bootstrap(unit, count):
    """An interval drawn by `unit`, with `count(groups)` units in a draw."""

    def interval(matrices, groups, draws=500, seed=0):
        names = list(range(len(groups))) if unit == "frame" else sorted(set(groups))
        owners = np.arange(len(groups)) if unit == "frame" else np.asarray(groups)
        sums = [matrices[owners == name].sum(0) for name in names]
        rng = np.random.default_rng(seed)
        drawn = [rng.integers(len(names), size=count(groups)) for _ in range(draws)]
        scores = [Scores(sum(sums[i] for i in row)).miou for row in drawn]
        return np.percentile(scores, [2.5, 97.5])

    return interval


def test_as_many_frames_as_there_are_groups_are_frames_all_the_same():
    with pytest.raises(NotYet, match="you draw frames, expected groups"):
        judges04.interval(bootstrap("frame", lambda groups: len(set(groups))))
    assert "drawn by frame it would be" in judges04.interval(
        bootstrap("group", lambda groups: len(set(groups)))
    )


def test_an_empty_batch_is_fed_to_a_matrix(monkeypatch):
    class Breaks:
        def __init__(self, num_classes, ignore_index=255):
            self.counts = np.zeros((num_classes, num_classes), np.int64)

        def update(self, prediction, target):
            np.max(prediction[target != 255])

    with pytest.raises(NotYet, match="without any valid pixel"):
        matrix04._all_void(Breaks)


@pytest.mark.parametrize(
    ("scenes", "drives", "says"),
    [
        (300, 40, None),
        (374, 49, None),
        (180, 40, "need more"),
        (1200, 40, "± 0.5 points"),
        (75, 40, "± 2 points"),
        (40, 40, "near the answer for drives"),
        (300, 320, "counts frames"),
        (300, 10, "± 2 points"),
    ],
)
def test_the_number_of_images_by_hand(monkeypatch, scenes, drives, says):
    """Widths c / √n with 300 scenes and 40 drives for a width of 0.02."""
    rows = {"scenes": 300, "drives": 40}
    monkeypatch.setattr(
        size04, "recorded", lambda unit: {n: 0.02 * (rows[unit] / n) ** 0.5 for n in (60, 240)}
    )
    answer = {"scenes": scenes, "drives": drives}
    if says is None:
        assert size04.size(answer) == (
            "about 300 scenes or 40 drives, that is 320 frames: "
            "neighbours in a drive count for little"
        )
    else:
        with pytest.raises(NotYet, match=says):
            size04.size(answer)
