"""Lesson 4's predictions and figures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from seglib.course import metrics
from seglib.metrics import ConfusionMatrix
from seglib.metrics.lesions import LesionCounts


@pytest.mark.parametrize(
    ("read", "shape"),
    [(metrics.street_predictions, (60, 72, 96)), (metrics.scan_predictions, (40, 128, 128))],
)
def test_recorded_predictions_belong_to_their_truths(read, shape):
    truths, predictions, *_ = read()
    assert truths.shape == predictions.shape == shape
    assert (truths == predictions)[truths != 255].mean() > 0.8


def test_the_seeds_are_in_order_and_the_kept_maps_are_one_of_them():
    assert metrics.seed_scores() == [0.331, 0.349, 0.352, 0.362, 0.373]


def test_small_regions_go():
    mask = np.zeros((9, 9), bool)
    mask[:2, :2], mask[4:7, 4:7], mask[7, 7] = True, True, True  # 4 pixels; 10, across a corner
    for smallest, left in ((0, 14), (2, 14), (2.5, 10), (5, 10), (5.5, 0)):
        assert metrics.without_small(mask, 0.5, smallest).sum() == left
    assert mask.sum() == 14


def test_the_stretches_are_those_of_the_split():
    """Train and test: a frame a second; val: fifteen. Their numbers are CamVid's."""
    frames = {}
    for colour, _, first, last in metrics.DRIVES:
        step = 2 if colour == metrics.VAL else 30
        frames[colour] = frames.get(colour, 0) + (last - first) // step + 1
    assert [frames[c] for c in (metrics.TRAIN, metrics.VAL, metrics.TEST)] == [367, 101, 233]


def test_figures():
    scores = ConfusionMatrix(3)
    scores.update(np.array([0, 1, 1]), np.array([0, 1, 0]))
    curve, mask = [LesionCounts(2, 2, 1, 3), LesionCounts(2, 1, 0, 3)], np.eye(4) > 0
    drawn = [
        (metrics.draw_confusion(scores.compute(("a", "b", "c"))), "50"),
        (metrics.draw_definitions({"one": {"x": 0.2}, "two": {"y": 0.4, "z": 0.6}}), "0.400"),
        (metrics.draw_drives(), "Seq05VD"),
        (metrics.draw_coverage(), "single scenes, drawn by scene"),
        (metrics.draw_limit(curve, 1.0, np.zeros((4, 4, 3)), mask, ~mask), "regions from 1 mm²"),
    ]
    for figure, text in drawn:
        figure.draw_without_rendering()
        assert text in [artist.get_text() for artist in figure.findobj(Text)]
    assert not plt.get_fignums()
