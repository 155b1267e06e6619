"""What lesson 2 draws: a U-Net with its sizes, a training as it runs, and the recorded arms."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from seglib.course.charts import draw_intervals
from seglib.course.records import interval, paired_difference, prediction, read_record, values
from seglib.data.colours import STREET_CLASSES
from seglib.metrics import ConfusionMatrix
from seglib.metrics.scores import Interval
from seglib.models import create_model
from seglib.plotting import colorize, legend

PAIRS = ("U-Net", "no skips"), ("U-Net", "encoder only"), ("encoder only", "no skips")
ARMS = {
    "U-Net": "U-Net, 240 images, flips",
    "no skips": "U-Net without skips, 240 images, flips",
    "encoder only": "encoder only, 240 images, flips",
}
COLOURS = {"U-Net": "#0072b2", "no skips": "#d55e00", "encoder only": "#555555"}


def by_seed(arm: str, name: str = "miou", split: str = "test", part: str = "arms") -> Any:
    """{seed: score} of a recorded arm: its mIoU, or the IoU of the class `name`."""

    def score(run: Any) -> float:
        return float(run[split]["miou"] if name == "miou" else run[split]["iou"][name])

    return values(read_record("02_unet"), part, ARMS.get(arm, arm), score)


def mean(arm: str, name: str = "miou", split: str = "test", part: str = "arms") -> Interval:
    """The mean over the seeds of a recorded arm, with its 95 % interval."""
    return interval(list(by_seed(arm, name, split, part).values()))


def gap(first: str, second: str, name: str = "miou", split: str = "test") -> Interval:
    """The paired difference of two arms in mIoU, or in the IoU of a class."""
    return paired_difference(by_seed(first, name, split), by_seed(second, name, split))


def assert_like_recorded(miou: float, profile: str = "lite") -> None:
    """Print what the recorded live runs score on val; check that the reader's is one of them."""
    recorded = list(by_seed("U-Net", split="val", part="live").values())
    print(
        f"{len(recorded)} recorded seeds, val mIoU: mean {interval(recorded)}, "
        f"from {min(recorded):.2f} to {max(recorded):.2f}"
    )
    expected = prediction(recorded)
    assert profile == "full" or expected.low < miou < expected.high, f"{miou} is not in {expected}"


def through_cells(mask: Tensor, cell: int, num_classes: int = 11) -> Tensor:
    """A label map (H, W) of what cells of `cell`×`cell` pixels know: the fraction of each class.

    The fractions are enlarged bilinearly, and the largest wins; void (255) counts for no class.
    Cells fill the map: 72 rows hold 72 // 16 = 4 cells, each 18 pixels high.
    """
    one_hot = F.one_hot(mask.where(mask != 255, 0), num_classes) * (mask != 255)[..., None]
    size = mask.shape[0] // cell, mask.shape[1] // cell
    known = F.adaptive_avg_pool2d(one_hot.permute(2, 0, 1)[None].float(), size)
    return F.interpolate(known, mask.shape, mode="bilinear")[0].argmax(0)


def draw_curve(axis: Axes, x: Sequence[Any], rows: Sequence[Interval], **style: Any) -> None:
    """A line through means, with a band for their intervals."""
    (line,) = axis.plot(x, [row.value for row in rows], **style)
    low, high = [row.low for row in rows], [row.high for row in rows]
    axis.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def draw_arms(left: Axes, right: Axes) -> None:
    """Test mIoU of the three networks, and what the skips add to the IoU of each class."""
    draw_intervals(left, {arm: mean(arm) for arm in ARMS})
    draw_intervals(right, {name: gap("U-Net", "no skips", name) for name in STREET_CLASSES})
    left.set(xlabel="test mIoU", xlim=(0, 0.55))
    right.set(xlabel="U-Net − no skips: difference in test IoU, seed by seed")
    right.axvline(0, color="black", linewidth=0.8)


def draw_rings(left: Axes, right: Axes) -> None:
    """Wrong test pixels by their distance to a border, and how many fewer the U-Net has."""
    names, record = ["1", "2", "3–4", "5–8", "≥ 9"], read_record("02_unet")
    rings: dict[str, list[dict[int, float]]] = {}
    for name, arm in ARMS.items():
        runs = values(record, "arms", arm, lambda run: run["border_errors"])
        rings[name] = [{seed: 100 * run[i] for seed, run in runs.items()} for i in range(5)]
        rows = [interval(list(ring.values())) for ring in rings[name]]
        draw_curve(left, names, rows, color=COLOURS[name], marker="o", label=name)
    pairs = zip(names, rings["encoder only"], rings["U-Net"], strict=True)
    draw_intervals(right, {name: paired_difference(first, second) for name, first, second in pairs})
    left.set(xlabel="distance to the nearest border (pixels)", ylabel="wrong pixels (%)", ylim=0)
    right.set(ylabel="distance (pixels)", xlabel="encoder only − U-Net (points, seed by seed)")
    left.legend(frameon=False)


def draw_sizes(axis: Axes, counts: Sequence[int], split: str = "test") -> None:
    """mIoU on training images and on `split`, against the number of training images."""
    arms = [f"U-Net, {n} images, flips" for n in counts]
    lines = ("seen", "#d55e00", "training images"), (split, "#0072b2", split)
    for part, colour, name in lines:
        rows = [mean(arm, split=part) for arm in arms]
        draw_curve(axis, counts, rows, color=colour, marker="o", label=name)
    axis.set(xscale="log", xlabel="training images", ylabel="mIoU", ylim=(0, 1))
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.minorticks_off()
    axis.legend(frameon=False)


def draw_augmentation(axis: Axes, counts: Sequence[int]) -> None:
    """What two kinds of augmentation add to val mIoU, for each number of training images."""
    kinds = {"flips": "flips", "zoom and colour": "flips, zoom, colour"}
    rows = {
        f"{n} images, {name}": gap(
            f"U-Net, {n} images, {kind}", f"U-Net, {n} images, none", split="val"
        )
        for n in counts
        for kind, name in kinds.items()
    }
    draw_intervals(axis, rows)
    axis.set(xlabel="augmented − none: val mIoU, seed by seed")
    axis.axvline(0, color="black", linewidth=0.8)


def overfit(images: Tensor, target: Tensor, loss: nn.Module, steps: int = 60) -> list[float]:
    """Train a U-Net on one batch: its fraction of correct pixels at each step."""
    torch.manual_seed(0)
    net = create_model("unet", 11, base_channels=8).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-2)
    correct = []
    for _ in range(steps):
        logits = net(images)
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
        matrix = ConfusionMatrix(11)
        matrix.update(logits.argmax(1), target)
        correct.append(matrix.compute().pixel_accuracy)
    return correct


def draw_overfit(curves: Mapping[str, Sequence[float]]) -> Figure:
    """The fraction of correct pixels at each step of `overfit`, one line for each name."""
    figure, axis = plt.subplots(figsize=(6.4, 2.6), dpi=80, layout="constrained")
    for name, correct in curves.items():
        axis.plot(range(1, len(correct) + 1), correct, label=name)
    axis.set(xlabel="step", ylabel="fraction of correct pixels", ylim=(0, 1))
    axis.legend(frameon=False)
    return figure


def draw_unet(model: nn.Module, height: int, width: int) -> Figure:
    """A U-Net with encoder, ups and head, and the sizes of its feature maps on one image."""
    net: Any = model
    sizes: list[str] = []

    def note(part: Any, _: Any, out: Tensor) -> None:
        count = out.shape[1]
        name = f"{count} + {count} → {count}" if part in net.ups else f"{count} channels"
        sizes.append(f"{name}\n{out.shape[2]}×{out.shape[3]}")

    hooks = [part.register_forward_hook(note) for part in (*net.encoder, *net.ups, net.head)]
    with torch.inference_mode():
        net.eval()(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    depth = len(net.ups)
    figure, axis = plt.subplots(figsize=(9.6, 0.9 * depth + 1.5), dpi=80, layout="constrained")

    def box(x: float, level: float, text: str, colour: str) -> None:
        style = {"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "#333333"}
        axis.text(x, -level, text, ha="center", va="center", fontsize=10, bbox=style)

    def arrow(start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6})

    for level in range(depth):
        right = 2 * depth - level
        arrow((level + 0.67, -level), (right - 0.75, -level), "#0072b2")
        arrow((level + 0.3, -level - 0.28), (level + 0.7, -level - 0.72), "#d55e00")
        arrow((right - 0.7, -level - 0.72), (right - 0.3, -level - 0.28), "#009e73")
        box(right, level, sizes[2 * depth - level], "#e5f3ec")
    for level in range(depth + 1):
        box(level, level, sizes[level], "#e8f1f8")
    box(-1.4, 0, f"image\n{height}×{width}", "white")
    box(2 * depth + 1.6, 0, "logits\n" + sizes[-1], "white")
    arrow((-0.95, 0), (-0.55, 0), "#333333")
    arrow((2 * depth + 0.55, 0), (2 * depth + 0.88, 0), "#333333")
    names = {"skip connection": "#0072b2", "max pooling, then a block": "#d55e00"}
    names |= {"up-convolution, then join and block": "#009e73"}
    names |= {"block (left), 1×1 convolution (right)": "#333333"}
    for name, colour in names.items():
        axis.plot([], [], color=colour, linewidth=2, label=name)
    axis.legend(loc="lower left", frameon=False, fontsize=10)
    axis.set(xlim=(-2.1, 2 * depth + 2.3), ylim=(-depth - 0.5, 0.5))
    axis.axis("off")
    plt.close(figure)
    return figure


class Live:
    """A learning curve and predictions, redrawn after each epoch: `fit(on_epoch=Live(…))`."""

    def __init__(self, data: Any, shown: Sequence[int], epochs: int) -> None:
        self.data, self.shown, self.epochs = data, shown, epochs
        self.kept = np.unique(np.geomspace(1, epochs, min(epochs, 4)).round().astype(int)).tolist()
        self.rows: list[Any] = []
        self.labels: dict[tuple[int, int], Any] = {}
        self.handle: Any = None

    def __call__(self, model: nn.Module, row: Mapping[str, float]) -> None:
        self.rows.append(row)
        if (epoch := len(self.rows)) in self.kept:
            device = next(model.parameters()).device
            for i in self.shown:
                with torch.inference_mode():
                    logits = model(self.data[i][0][None].to(device))
                self.labels[i, epoch] = logits.argmax(1)[0].cpu().numpy()
        if self.handle is None:
            self.handle = display(self.draw(), display_id=True)
        else:
            self.handle.update(self.draw())

    def draw(self) -> Figure:
        """The figure as far as the training has got."""
        figure = plt.figure(figsize=(10, 5.4), dpi=80, layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.9))
        above, below = parts
        curves = ("train_loss", "training loss"), ("val_miou", "mIoU on val")
        for axis, (key, name) in zip(above.subplots(1, 2), curves, strict=True):
            reached = [row[key] for row in self.rows]
            axis.plot(range(1, len(reached) + 1), reached, "o-", color="#0072b2")
            limits = {"xlim": (0.5, self.epochs + 0.5), "ylim": (0, 1.1 * max(reached))}
            axis.set(xlabel="epoch", ylabel=name, **limits)
        axes = below.subplots(len(self.shown), len(self.kept) + 2, squeeze=False)
        for row, i in zip(axes, self.shown, strict=True):
            image, mask = self.data.read(i)
            paint = {"photo": image, "labels": colorize(mask, self.data.palette)}
            for epoch in self.kept:
                if (labels := self.labels.get((i, epoch))) is not None:
                    paint[f"epoch {epoch}"] = colorize(labels, self.data.palette)
            for axis in row:
                axis.axis("off")
            for axis, (title, picture) in zip(row, paint.items(), strict=False):
                axis.imshow(picture, interpolation="nearest")
                if i == self.shown[0]:
                    axis.set_title(title, fontsize=10)
        legend(below, self.data.classes, self.data.palette, void=True)
        plt.close(figure)
        return figure
