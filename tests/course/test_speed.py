"""What lesson 6 times and draws."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from seglib.course import speed
from seglib.models import create_model


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_step_has_four_parts_between_readings_of_the_clock(dtype):
    ticks = itertools.count()
    model = create_model("unet", 11, base_channels=4, depth=1)
    before = model.head.weight.detach().clone()
    batch = torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long)
    parts = speed.anatomy(model, [batch] * 2, lambda: float(next(ticks)), dtype)
    assert np.array_equal(parts, np.ones((2, 4))) and next(ticks) == 10
    assert not torch.equal(model.head.weight, before) and model.head.weight.dtype == torch.float32


def test_bars_are_drawn_as_they_come(monkeypatch):
    shown = []
    monkeypatch.setattr(speed, "display", lambda figure, display_id: shown.append(figure))
    bars = speed.LiveBars(["slow", "fast"])
    bars.add("slow", np.array([0.1, 0.2, 0.3, 0.4]))
    [axis] = shown[0].axes
    assert [round(bar.get_width()) for bar in axis.patches] == [100, 200, 300, 400]
    assert axis.texts[0].get_text() == " 1000 ms" and len(bars.draw().axes[0].patches) == 4


def test_a_fall_of_the_scale_is_marked():
    axis = plt.figure().add_subplot()
    speed.draw_scale(axis, [4.0, 8.0, 8.0, 4.0, 8.0, 4.0])
    assert list(axis.lines[1].get_xdata()) == [4, 6] and list(axis.lines[1].get_ydata()) == [8, 8]
    plt.close("all")


def test_recorded_differences_and_speeds_are_drawn():
    figure, axes = plt.subplots(1, 2)
    speed.draw_amp(axes)
    assert len(axes[1].lines[0].get_xdata()) == len(speed.amp_runs("float32")) == 5
    speed.draw_gpu(figure.add_subplot(), "U-Net")
    heights = [bar.get_height() for bar in figure.axes[2].patches]
    assert heights == pytest.approx([39.65, 115.3, 158.3, 167.6, 172.3, 297.8, 311.8])
    plt.close(figure)
