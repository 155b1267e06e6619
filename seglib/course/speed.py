"""What lesson 6 shows: formats, the parts of a step as they are timed, a scale, and records."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from seglib.course.charts import draw_intervals
from seglib.course.records import paired_difference, read_record, values
from seglib.losses import CrossEntropyLoss

PARTS = {"data": "#999999", "forward": "#0072b2", "backward": "#d55e00", "optimiser": "#009e73"}
FORMATS = "float32", "TF32", "bfloat16", "float16"
COLOURS = {"float32": "#777777", "float16": "#d55e00", "bfloat16": "#0072b2"}
LAYOUTS = {"": ("#56b4e9", "channels first"), ", channels_last": ("#0072b2", "channels last")}


def print_formats(formats: Mapping[str, torch.dtype]) -> None:
    """Bits, range and the gap above 1 of each format, as a table."""
    print("format    exponent  fraction  largest     smallest   gap above 1")
    for name, dtype in formats.items():
        info = torch.finfo(dtype)
        fraction = round(-math.log2(info.eps))
        bits = f"{info.bits - 1 - fraction:8}  {fraction:8}"
        ends = f"{info.max:<10.5g}  {info.smallest_normal * info.eps:8.1e}"
        print(f"{name:<8}  {bits}  {ends}  {info.eps:12.1e}")


def draw_stuck(axis: Axes, stuck: Callable[..., float], formats: Mapping[str, Any]) -> None:
    """`stuck(update, dtype)`, a fraction of weights, for updates from 1e-6 to 0.1."""
    updates = np.logspace(-6, -1, 101)
    for name, dtype in formats.items():
        lost = [100 * stuck(update, dtype) for update in updates]
        axis.semilogx(updates, lost, color=COLOURS[name], label=name)
    axis.set(xlabel="size of the update", ylabel="weights that do not change (%)")
    axis.legend(frameon=False)


def anatomy(
    model: nn.Module, batches: Any, clock: Callable[[], float], dtype: torch.dtype | None = None
) -> NDArray[np.float64]:
    """Seconds of data, forward (autocast to `dtype`), backward and optimiser, (steps, 4)."""
    device = next(model.parameters()).device
    optimizer, rows, source = torch.optim.AdamW(model.parameters(), lr=1e-3), [], iter(batches)
    for _ in range(len(batches)):
        marks = [clock()]
        images, target = (part.to(device) for part in next(source))
        marks.append(clock())
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits = model(images)
        loss = CrossEntropyLoss()(logits.float(), target)
        marks.append(clock())
        optimizer.zero_grad()
        loss.backward()
        marks.append(clock())
        optimizer.step()
        rows.append(np.diff([*marks, clock()]))
    return np.array(rows)


class LiveBars:
    """A step of each kind as a stacked bar of its parts, redrawn whenever one is added."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds, self.parts = list(kinds), dict[str, NDArray[Any]]()
        self.handle: Any = None

    def add(self, kind: str, seconds: NDArray[Any]) -> None:
        """`seconds`: of data, forward, backward and optimiser, (4,)."""
        self.parts[kind] = seconds
        if self.handle is None:
            self.handle = display(self.draw(), display_id=True)
        else:
            self.handle.update(self.draw())

    def draw(self) -> Figure:
        """The bars timed so far, from the top."""
        size = (8, 0.5 * len(self.kinds) + 1.3)
        figure, axis = plt.subplots(figsize=size, dpi=90, layout="constrained")
        for kind, seconds in self.parts.items():
            left, row = 0.0, -self.kinds.index(kind)
            for name, ms in zip(PARTS, 1000 * seconds, strict=True):
                axis.barh(row, ms, 0.7, left, color=PARTS[name], label=name if row == 0 else None)
                left += ms
            axis.text(left, row, f" {left:.0f} ms", va="center", fontsize=10)
        axis.set_yticks([-row for row in range(len(self.kinds))], self.kinds, fontsize=10)
        limits = (0.5 - len(self.kinds), 0.5)
        axis.set(xlabel="milliseconds of one training step", ylim=limits, xmargin=0.12)
        axis.spines[["top", "right"]].set_visible(False)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=4)
        plt.close(figure)
        return figure


def replay(step: Callable[..., Any], scales: Sequence[float], growth_interval: int) -> list[float]:
    """The scales by a rule `step`, which meets an overflow wherever the real scale fell."""
    scale, good, found = 2.0**16, 0, []
    for before, after in pairwise([scale, *scales]):
        scale, good, _ = step(scale, good, after < before, growth_interval)
        found.append(scale)
    return found


def draw_training(axes: Sequence[Axes], trained: Mapping[str, Any]) -> None:
    """{format: (losses, scales)}: the losses, and float16's scale, with a cross at each fall."""
    scale = np.asarray(trained["float16"][1], float)
    steps, fell = np.arange(1, len(scale) + 1), np.flatnonzero(np.diff(scale) < 0) + 1
    for name, (losses, _) in trained.items():
        axes[0].plot(steps, losses, color=COLOURS[name], label=name)
    axes[1].step(steps, scale, where="post", color="black")
    axes[1].plot(steps[fell], scale[fell - 1], "x", color="#d55e00", label="gradients overflow")
    axes[1].set_yscale("log", base=2)
    ticks = 2 ** np.arange(np.log2(scale.min()), np.log2(scale.max()) + 1)
    axes[1].set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes[0].set(ylabel="loss")
    axes[1].set(xlabel="step", ylabel="scale of float16")
    axes[0].legend(frameon=False, loc="upper right")
    axes[1].legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))


def draw_paired(axis: Axes, pairs: Mapping[str, tuple[dict[int, float], dict[int, float]]]) -> None:
    """`second − first` for {name: (second, first)}: a dot per seed, the mean and its interval."""
    draw_intervals(axis, {name: paired_difference(*two) for name, two in pairs.items()})
    axis.axvline(0, color="black", linewidth=0.8)
    for row, (second, first) in enumerate(pairs.values()):
        dots = [second[seed] - first[seed] for seed in first]
        axis.plot(dots, [-row + 0.18] * len(dots), "o", color="#999999", markersize=5)


def amp_runs(way: str, last_loss: bool = False) -> dict[int, float]:
    """{seed: test mIoU, or the training loss of the last epoch} of an arm of 06_amp."""
    scores = values(read_record("06_amp"), "arms", way, lambda run: run["test"]["miou"])
    losses = values(read_record("06_amp"), "arms", way, lambda run: list(run["curve"].values())[-1])
    return losses if last_loss else scores


def draw_amp(axes: Sequence[Axes]) -> None:
    """bfloat16 autocast, and all in bfloat16, beside float32: test mIoU and training loss."""
    ways = {"bfloat16 autocast": "bfloat16, mixed", "all in bfloat16": "weights in bfloat16"}
    for axis, last in zip(axes, (False, True), strict=True):
        base = amp_runs("float32", last)
        draw_paired(axis, {name: (amp_runs(way, last), base) for name, way in ways.items()})
    axes[0].set_xlabel("difference in test mIoU from float32")
    axes[1].set_xlabel("difference in the last training loss from float32")


def draw_gpu(axis: Axes, net: str) -> None:
    """Recorded images a second by format and layout, for "U-Net" or "DeepLab"; gaps: no time."""
    found = read_record("gpu_day")["stages"]["speed_precision"]["rows"]
    rows = {row["contender"]: row for row in found if row["case"].startswith(net)}
    for (layout, (colour, name)), side in zip(LAYOUTS.items(), (-0.2, 0.2), strict=True):
        there = [(i + side, rows[f + layout]) for i, f in enumerate(FORMATS) if f + layout in rows]
        places, heights = zip(*((x, row["images_per_second"]) for x, row in there), strict=True)
        bars = axis.bar(places, heights, 0.38, color=colour, label=name)
        axis.bar_label(bars, fmt="%.0f", fontsize=9)
    axis.set_xticks(range(4), FORMATS, fontsize=10)
    axis.set(ylabel="training images per second", xlim=(-0.6, 3.6), ymargin=0.12)
    axis.legend(frameon=False, loc="upper left")
    axis.spines[["top", "right"]].set_visible(False)
