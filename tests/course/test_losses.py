"""What lesson 3 trains on and draws belongs to its record."""

import numpy as np
import torch
from torch import nn

from seglib.course import losses


def test_slices_scores_and_figures():
    data = losses.slices(0.3, "test")
    assert len(losses.slices(0.3, "train", augment=True)) == 160 and len(data) == 40
    assert all(10 <= (data.read(i)[1] == 1).sum() <= 14 for i in range(40))
    torch.manual_seed(0)
    said = losses.found(nn.Conv2d(3, 3, 1), data)
    assert 0 <= said["recall"] <= 1 and said["chance"].shape == (40, 64, 64)
    steps, rows = losses.recorded("race", "lesions of 0.3 %, Dice", "recall")
    assert steps == [40, 80, 120, 160, 200, 240] and rows.shape == (20, 6)
    halves = losses.half_found("race", "lesions of 0.3 %, Dice")
    assert [half == "–" for half in halves] == (rows.max(1) < 0.5).tolist()
    figure = losses.draw_race({"a": [said] * 2, "b": [said] * 2}, data, steps=40)
    assert len(figure.axes) == 7 and len(losses.streets_figure().axes) == 3
    drawn = losses.gradient_figure({str(n): nn.CrossEntropyLoss() for n in range(6)}).axes[2]
    assert np.abs(drawn.images[0].get_array()).max() == 1 and "upward" in drawn.get_title()
