"""What lesson 5 draws and trains on: taps, street scenes at night, the record of four starts."""

from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from seglib.course.charts import draw_intervals
from seglib.course.records import interval, paired_difference, prediction, read_record, values
from seglib.data import RenderedStreets, Streets, make_loader
from seglib.engine.normalisation import normalisation
from seglib.inference import photo_logits, predict
from seglib.losses import CombinedLoss
from seglib.metrics.scores import Interval
from seglib.models.deeplab import valid_taps
from seglib.plotting import colorize
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform, train_transform

SIZE = 96, 128
NIGHTS = {"train": range(20_000, 20_024), "dev": range(3000, 3020), "test": Streets.SEEDS["test"]}
TASKS = {"at night, 24 scenes": ("night", "{}")} | {
    f"CamVid, {n} frames": ("small", f"{{}}, {n} frames") for n in (20, 60, 367)
}  # part of the record, and its arms
STARTS = {
    "from scratch": "#777777",
    "rendered streets": "#d55e00",
    "ImageNet": "#0072b2",
    "ImageNet, then rendered streets": "#009e73",
}  # colours
LIVE = {
    "daytime checkpoint": ("05_pretraining", "all weights"),
    "ImageNet": ("05_real", "ImageNet"),
}
PARTS = "backbone", "aspp", "low", "decoder.0", "decoder.1", "decoder.2"  # of a DeepLabv3+


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


def print_gaps(first: str, second: str) -> None:
    """Print the paired difference of two STARTS on each of TASKS, with its 95 % interval."""
    print(f"{first} − {second}")
    for task in TASKS:
        print(f"{task:<20} {paired_difference(by_seed(task, first), by_seed(task, second))}")


def one_more_run(start: str) -> Interval:
    """Where the test mIoU of 99.9 % of live runs from a start falls, by the recorded ones."""
    record, arm = LIVE[start]
    found = values(read_record(record), "live", arm, lambda run: run["test"]["miou"])
    return prediction([*found.values()])


def train_on_nights(
    model: nn.Module, epochs: int, lr: float, backbone_lr: float
) -> tuple[list[float], float]:
    """Train on the 24 night scenes: the mIoU on dev after each epoch, and on test at the end."""
    train = make_loader(scenes("train", model, augment=True), 8, shuffle=True)
    dev, test = (make_loader(scenes(split, model), 20) for split in ("dev", "test"))
    how: Any = {"lr": lr, "backbone_lr": backbone_lr, "loss": CombinedLoss(), "clip": 1.0}
    history = fit(model, train, dev, epochs=epochs, **how)
    return [row["val_miou"] for row in history.rows], evaluate(model, test).miou


def with_predictions(model: nn.Module, pictures: Mapping[str, Any]) -> dict[str, Any]:
    """Each picture, then its label map, titled with the mean of the largest softmax value."""
    panels: dict[str, Any] = {}
    for name, picture in pictures.items():
        how = (144, 192), *normalisation(model)
        sure = photo_logits(model, picture, *how).softmax(1).amax(1).mean().item()
        labels = colorize(predict(model, picture, *how), Streets("test").palette)
        panels |= {name: picture, f"{name}: prediction,\nmean confidence {sure:.2f}": labels}
    return panels


def direction_colours(features: Tensor) -> NDArray[Any]:
    """The three main directions of a feature map (1, C, h, w) as an RGB picture (h, w, 3)."""
    rows = features[0].flatten(1).T.double()
    rows = rows - rows.mean(0)
    _, _, directions = torch.linalg.svd(rows, full_matrices=False)
    picture = (rows @ directions[:3].T).reshape(*features.shape[2:], 3)
    low, high = picture.quantile(0.02), picture.quantile(0.98)
    colours: NDArray[Any] = ((picture - low) / (high - low)).clamp(0, 1).numpy()
    return colours


def draw_taps(axis: Axes, pixels: int, rate: int, stride: int = 16) -> None:
    """Draw the map at 1/`stride` of an image of `pixels`², and the taps of its middle position.

    The shade of a position says how many of a kernel's taps meet the map when it is centred there.
    """
    size = -(-pixels // stride)
    middle, steps = size // 2, (-rate, 0, rate)
    ones = torch.ones(1, 1, size, size), torch.ones(1, 1, 3, 3)
    counts = F.conv2d(*ones, padding=rate, dilation=rate)[0, 0].numpy()
    axis.imshow(counts, cmap="Blues", vmin=0, vmax=14)
    for row, column in ((middle + i, middle + j) for i in steps for j in steps):
        inside = 0 <= row < size and 0 <= column < size
        marker, colour = ("o", "black") if inside else ("x", "#d55e00")
        axis.plot(column, row, marker, color=colour, markersize=5)
    reach = max(size / 2, rate) + 2
    limits = {"xlim": (middle - reach, middle + reach), "ylim": (middle + reach, middle - reach)}
    axis.set(**limits, xticks=[], yticks=[], aspect="equal")
    valid = f"on average {valid_taps(size, size, rate):.1f} of 9"
    axis.set_title(f"{pixels} pixels, map {size}×{size}\n{valid}", fontsize=10)


def what_moves(model: nn.Module, optimizer: Any) -> None:
    """Train for three steps on the night scenes, and print which parts have changed."""
    before = deepcopy(model.state_dict())
    for images, target in make_loader(scenes("train", model, augment=True), 8, shuffle=True):
        model.train()
        optimizer.zero_grad()
        CombinedLoss()(model(images), target).backward()
        optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    for part in PARTS:
        inside = {key for key in moved if key.startswith(part)}
        learns = any(key.endswith(("weight", "bias")) for key in inside)
        drifts = any("running" in key for key in inside)
        print(f"{part:<10} weights {'moved' if learns else 'fixed'}", end="")
        print(", statistics moved" * drifts)


def draw_race(curves: Mapping[str, Sequence[float]]) -> Figure:
    """The mIoU of some starts on other night scenes, after each epoch of 24 images."""
    figure, axis = plt.subplots(figsize=(6, 3.2), dpi=90, layout="constrained")
    for (name, curve), colour in zip(curves.items(), ("#d55e00", "#0072b2"), strict=False):
        seen = 24 * np.arange(1, len(curve) + 1)
        axis.plot(seen, curve, marker="o", color=colour)
        place: Any = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(name, (seen[-1], curve[-1]), color=colour, **place)
    axis.set(xlabel="images seen", ylabel="mIoU on 20 other night scenes")
    axis.set(xlim=(0, 1.5 * seen[-1]), ylim=(0, 1.15 * max(map(max, curves.values()))))
    return figure


def draw_starts() -> Figure:
    """The recorded test mIoU of the four STARTS on each of TASKS, with 95 % intervals."""
    figure, axis = plt.subplots(figsize=(8, 3.6), dpi=90, layout="constrained")
    for k, (start, colour) in enumerate(STARTS.items()):
        rows = [interval(list(by_seed(task, start).values())) for task in TASKS]
        means, reach = zip(*((row.value, row.high - row.value) for row in rows), strict=True)
        places = np.arange(len(TASKS)) + 0.12 * (k - 1.5)
        axis.errorbar(places, means, reach, fmt="o", capsize=3, color=colour, label=start)
    axis.set(ylabel="test mIoU", ylim=(0, None))
    axis.set_xticks(range(len(TASKS)), [task.replace(", ", "\n") for task in TASKS])
    axis.legend(frameon=False, fontsize=10, ncols=2, loc="lower center")
    return figure


def draw_gaps(pairs: Sequence[tuple[str, str]]) -> Figure:
    """Paired differences of two STARTS on each of TASKS, seed by seed, one panel for each pair."""
    figure, axes = plt.subplots(
        1, len(pairs), figsize=(9.6, 3), dpi=90, sharey=True, sharex=True, layout="constrained"
    )
    for axis, (first, second) in zip(axes, pairs, strict=True):
        found = {task: (by_seed(task, first), by_seed(task, second)) for task in TASKS}
        gaps = {task: paired_difference(*two) for task, two in found.items()}
        draw_intervals(axis, gaps, STARTS[first], numbers=True)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(f"{first}\n− {second}", fontsize=10)
        axis.set(xlabel="difference in mIoU")
    return figure
