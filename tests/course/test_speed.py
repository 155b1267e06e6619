"""What lesson 6 times and draws."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from seglib.course import speed
from seglib.exercises.lesson06 import step
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


def test_formats_and_stuck_weights_are_shown(capsys):
    formats = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    speed.print_formats(formats)
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1:3] for row in rows[1:]] == [["8", "23"], ["5", "10"], ["8", "7"]]
    assert rows[2].split()[3:] == ["65504", "6.0e-08", "9.8e-04"]
    axis = plt.figure().add_subplot()
    speed.draw_stuck(axis, lambda update, dtype: torch.finfo(dtype).eps > 2 * update, formats)
    lost = [float(np.mean(line.get_ydata())) for line in axis.lines]
    assert lost[0] == 0 < lost[1] < lost[2] < 100
    plt.close("all")


def test_a_rule_is_replayed_and_a_fall_of_the_scale_is_marked():
    scales = [2.0**n for n in (16, 17, 17, 16, 16, 17, 17, 16)]
    assert speed.replay(step, scales, 2) == scales
    assert speed.replay(step, scales, 3) != scales
    top, bottom = plt.subplots(2)[1]
    speed.draw_training([top, bottom], {"float32": ([1] * 8, []), "float16": ([1] * 8, scales)})
    assert len(top.lines) == 2 and list(bottom.lines[1].get_xdata()) == [4, 8]
    assert [text.get_text() for text in bottom.get_yticklabels()] == ["65,536", "131,072"]
    plt.close("all")


def test_recorded_differences_and_speeds_are_drawn():
    figure, axes = plt.subplots(1, 2)
    speed.draw_amp(axes)
    assert [len(line.get_xdata()) for line in axes[1].lines].count(5) == 2  # a dot for each seed
    assert len(speed.amp_runs("float32")) == 5
    speed.draw_gpu(figure.add_subplot(), "U-Net")
    heights = [bar.get_height() for bar in figure.axes[2].patches]
    assert heights == pytest.approx([39.65, 115.3, 158.3, 167.6, 172.3, 297.8, 311.8])
    plt.close(figure)
