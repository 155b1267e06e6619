"""What lesson 3 trains on and draws belongs to its record."""

import torch
from torch import nn

from seglib.course import losses


def test_slices_scores_and_figures():
    data = losses.slices(0.3, "test")
    assert all(10 <= (data.read(i)[1] == 1).sum() <= 14 for i in range(len(data)))
    torch.manual_seed(0)
    said = losses.found(nn.Conv2d(3, 3, 1), data)
    assert 0 <= said["recall"] <= 1 and said["chance"].shape == (40, 64, 64)
    steps, rows = losses.recorded("race", "lesions of 0.3 %, Dice", "recall")
    assert steps == [40, 80, 120, 160, 200, 240] and rows.shape == (20, 6)
    assert losses.half_found("race", "lesions of 0.3 %, Dice")[:2] == ["120", "200"]
    figure = losses.draw_race({"a": [said] * 2, "b": [said] * 2}, data, steps=40)
    assert len(figure.axes) == 7 and len(losses.streets_figure().axes) == 3
    drawn = losses.gradient_figure({str(n): nn.CrossEntropyLoss() for n in range(6)}).axes[2]
    assert "upward" in drawn.get_title()
