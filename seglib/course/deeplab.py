"""What lesson 5 draws and trains on: taps, street scenes at night, the record of four starts."""

from copy import copy
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from seglib.course.records import read_record, values
from seglib.data import RenderedStreets, Streets
from seglib.engine.normalisation import normalisation
from seglib.models.deeplab import valid_taps
from seglib.transforms import eval_transform, train_transform

SIZE = 96, 128
NIGHTS = {"train": range(20_000, 20_024), "dev": range(3000, 3020), "test": Streets.SEEDS["test"]}
TASKS = {"at night, 24 scenes": ("night", "{}")} | {
    f"CamVid, {n} frames": ("small", f"{{}}, {n} frames") for n in (20, 60, 367)
}  # part of the record, and its arms


@cache
def _rendered(split: str) -> Any:
    data: Any = Streets("test") if split == "day" else RenderedStreets(NIGHTS[split], light="night")
    data.read = cache(data.read)  # each scene is rendered once
    return data


def scenes(split: str, model: Any, augment: bool = False) -> Any:
    """Street scenes at 96×128 for `model`: normalised as its backbone expects.

    "train" (24), "dev" (20) and "test" (60) are at night, "day" is Streets test.
    """
    data, (mean, std) = copy(_rendered(split)), normalisation(model)
    data.transform = eval_transform(*SIZE, mean, std)
    if augment:
        data.transform = train_transform(*SIZE, zoom=(0.9, 1.6), colour=0.2, mean=mean, std=std)
    return data


def by_seed(task: str, start: str) -> dict[int, float]:
    """{seed: test mIoU} of a start on one of TASKS, as recorded."""
    part, arm = TASKS[task]
    record = read_record("05_real")
    return values(record, part, arm.format(start), lambda run: run["test"]["miou"])


def draw_taps(axis: Axes, pixels: int, rate: int, stride: int = 16) -> None:
    """Draw the map at 1/`stride` of an image of `pixels`², and the taps of its middle position."""
    size = -(-pixels // stride)
    middle, steps = size // 2, (-rate, 0, rate)
    axis.add_patch(plt.Rectangle((-0.5, -0.5), size, size, facecolor="#e8f1f8", edgecolor="#333"))
    for row, column in ((middle + i, middle + j) for i in steps for j in steps):
        inside = 0 <= row < size and 0 <= column < size
        marker, colour = ("s", "#0072b2") if inside else ("x", "#d55e00")
        axis.plot(column, row, marker, color=colour, markersize=6)
    reach = max(size / 2, rate) + 2
    limits = {"xlim": (middle - reach, middle + reach), "ylim": (middle + reach, middle - reach)}
    axis.set(**limits, xticks=[], yticks=[], aspect="equal")
    valid = f"mean over positions: {valid_taps(size, size, rate):.1f} of 9"
    axis.set_title(f"{pixels} pixels, map {size}×{size}\n{valid}", fontsize=9)
