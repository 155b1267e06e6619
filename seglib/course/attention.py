"""What lesson 7 draws and measures: far views, attention, its memory, patches, SegFormer."""

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.course.charts import draw_intervals
from seglib.course.labels import show_row
from seglib.course.records import (
    interval,
    label_map,
    paired_difference,
    prediction,
    read_record,
    values,
)
from seglib.course.transformers import CAR, NEAREST, NearestScenes, vehicles
from seglib.data import Streets, make_loader
from seglib.data.colours import STREET_CLASSES, STREET_PALETTE
from seglib.losses import CombinedLoss
from seglib.metrics import ConfusionMatrix
from seglib.metrics.scores import Interval
from seglib.plotting import colorize
from seglib.training import fit
from seglib.transforms import eval_transform, train_transform

POLE = STREET_CLASSES.index("Pole")
SIZE = 72, 96
FIELDS = {"3 convolutions": 41, "9 convolutions": 89}  # pixels that an output sees
NETS = {"SegFormer": "#d55e00", "DeepLabV3+": "#0072b2", "U-Net": "#009e73"}
IMAGES = 60, 240, 960
FAR = {
    "3 convolutions": "#777777",
    "9 convolutions": "#0072b2",
    "U-Net": "#009e73",
    "attention": "#d55e00",
}


def show_task(scenes: NearestScenes, shown: Sequence[int], field: int = 41) -> None:
    """Scenes with a square of `field` pixels around the nearest vehicle's centre, and the truth."""
    panels = {}
    for i in shown:
        picture, reach = scenes.images[i].copy(), field // 2
        row, column = np.argwhere(scenes.instances[i] == 1).mean(0).round().astype(int)
        low, high = ((int(column + r), int(row + r)) for r in (-reach, reach))
        panels["a scene" + " " * i] = cv2.rectangle(picture, low, high, (255, 230, 0))
        truth = vehicles(scenes.images[i], scenes.instances[i], scenes.labels[i])
        panels["which vehicle is nearest" + " " * i] = truth
    show_row(panels)


def show_answers(
    scenes: NearestScenes,
    shown: Sequence[int],
    arms: Sequence[str] = ("3 convolutions", "attention"),
) -> None:
    """For each scene the truth, and what networks of seed 0 answered, as recorded."""
    record, panels = read_record("07_transformers"), dict[str, Any]()
    for i in shown:
        image, instances = scenes.images[i], scenes.instances[i]
        panels["truth" + " " * len(panels)] = vehicles(image, instances, scenes.labels[i])
        for arm in arms:
            maps = values(record, "far", arm, lambda run: run.get("maps"))[0]
            name = f"{arm} ({FIELDS[arm]} pixels)" if arm in FIELDS else arm
            panels[name + " " * len(panels)] = vehicles(image, instances, label_map(maps[str(i)]))
    show_row(panels, columns=1 + len(arms))


def draw_far() -> None:
    """Of each network in FAR the share of test scenes that are exactly right, by distance.

    All scenes first, then by the distance between the nearest vehicle and the second.
    """
    record = read_record("07_transformers")
    _, axis = plt.subplots(figsize=(7.6, 3.2), dpi=96, layout="constrained")
    counts: dict[str, int] = {}
    for k, (arm, colour) in enumerate(FAR.items()):
        runs = list(values(record, "far", arm, lambda run: run["test"]).values())
        rows = [interval([run["exact"] for run in runs])]
        for apart, part in runs[0]["by_distance"].items():
            counts[apart] = part["scenes"]
            rows.append(interval([run["by_distance"][apart]["exact"] for run in runs]))
        places, means = np.arange(4) + 0.12 * (k - 1.5), [100 * row.value for row in rows]
        reach = [100 * (row.high - row.value) for row in rows]
        axis.errorbar(places, means, reach, fmt="o", capsize=3, color=colour, label=arm)
    names = ["all", *(f"{apart} pixels" for apart in counts)]
    numbers = [sum(counts.values()), *counts.values()]
    both = zip(names, numbers, strict=True)
    axis.set_xticks(range(4), [f"{name}\n({number} scenes)" for name, number in both])
    axis.set(ylabel="scenes exactly right (%)", ylim=(0, 100))
    axis.legend(frameon=False, ncols=4, loc="upper center", fontsize=9)
    plt.show()


def draw_attention(scenes: NearestScenes, i: int, vehicle: int, weights: Tensor) -> None:
    """Scene `i` with the token in the middle of a vehicle (1: the nearest), and where it looks.

    `weights` (heads, h·w, h·w) of a map of a quarter of the size are enlarged bilinearly, and each
    head is drawn up to its own maximum.
    """
    image, where = scenes.images[i], np.argwhere(scenes.instances[i] == vehicle)
    size = image.shape[0] // 4, image.shape[1] // 4
    middle = where.mean(0) if len(where) else np.array(image.shape[:2]) / 2
    row, column = (middle / 4).astype(int)
    maps = weights[:, row * size[1] + column].unflatten(-1, size)  # (heads, h, w)
    large = F.interpolate(maps[None], image.shape[:2], mode="bilinear")[0]
    grey = image.mean(2) / 2 + 110
    _, axes = plt.subplots(1, 1 + len(large), figsize=(9.4, 1.75), dpi=96, layout="constrained")
    for k, axis in enumerate(axes):
        axis.imshow(image if k == 0 else grey, cmap="gray", vmin=0, vmax=255)
        if k > 0:
            colour = np.full_like(image, NEAREST)
            axis.imshow(colour, alpha=(large[k - 1] / large[k - 1].max()).numpy())
        axis.plot(4 * column + 1.5, 4 * row + 1.5, "o", color="#56b4e9", mec="black", ms=6)
        axis.set_title(f"head {k}" if k else "the query", fontsize=10)
        axis.axis("off")
    plt.show()


def kept_mib(side: int, reduction: int) -> float:
    """MiB that plain attention keeps for the backward pass: an image of `side`², map at 1/4."""
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    counts = (side // 4) ** 2, (side // 4 // reduction) ** 2  # queries, keys
    query, key, value = (torch.randn(counts[i], 32, requires_grad=True) for i in (0, 1, 1))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _ = (query @ key.T / 32**0.5).softmax(-1) @ value
    return sum(found.values()) / 2**20


def time_ratio(first: int, second: int) -> float:
    """How many times as long PyTorch's attention takes for an image of `second`² as of `first`²."""
    best = []
    for side in (first, second):
        query, key, value = torch.randn(3, 1, 1, (side // 4) ** 2, 32)
        spent = []
        for _ in range(3):
            start = time.perf_counter()
            F.scaled_dot_product_attention(query, key, value)
            spent.append(time.perf_counter() - start)
        best.append(min(spent))
    return best[1] / best[0]


def draw_memory(curves: Mapping[int, Mapping[int, float]]) -> None:
    """{reduction: {side of the image: MiB}} on logarithmic axes."""
    _, axis = plt.subplots(figsize=(6, 3.2), dpi=96, layout="constrained")
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(curves)))
    for (reduction, curve), shade in zip(curves.items(), shades, strict=True):
        axis.plot(*zip(*curve.items(), strict=True), "o-", color=shade, label=str(reduction))
    axis.set(xscale="log", yscale="log", xlabel="side of the image (pixels)", ylabel="MiB")
    axis.set_xticks([64, 128, 256, 512], ["64", "128", "256", "512"])
    axis.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(title="reduction", frameon=False)
    plt.show()


@cache
def _kept(split: str) -> Any:
    data: Any = Streets(split, transform=eval_transform(*SIZE))
    data.read = cache(data.read)
    return data


def streets(split: str) -> tuple[Tensor, Tensor]:
    """All images (N, 3, 72, 96) and labels (N, 72, 96) of a split of Streets."""
    images, labels = zip(*(_kept(split)[i] for i in range(len(_kept(split)))), strict=True)
    return torch.stack(images), torch.stack(labels)


def train_on_streets(model: nn.Module, epochs: int, lr: float = 1e-3, seed: int = 0) -> list[float]:
    """Train on the 240 scenes of Streets: the mIoU on val after each epoch."""
    train = Streets("train", transform=train_transform(*SIZE, zoom=(0.9, 1.6), colour=0.2))
    loaders = make_loader(train, 8, shuffle=True, seed=seed), make_loader(_kept("val"), 20)
    how: Any = {"loss": CombinedLoss(), "clip": 1.0, "seed": seed}
    history = fit(model, *loaders, epochs=epochs, lr=lr, **how)
    return [row["val_miou"] for row in history.rows]


def live() -> Interval:
    """Where 99.9 % of trainings with four epochs end, by the recorded ones (val mIoU)."""
    record = read_record("07_transformers")
    found = values(record, "live", "SegFormer", lambda run: run["val_miou"][-1])
    return prediction([*found.values()])


def draw_training(curve: Sequence[float]) -> None:
    """The mIoU on val after each epoch, and where a training with four epochs is expected."""
    _, axis = plt.subplots(figsize=(5, 2.8), dpi=96, layout="constrained")
    axis.plot(range(1, len(curve) + 1), curve, "o-", color=NETS["SegFormer"])
    axis.axhspan(live().low, live().high, color="0.9", zorder=0)
    axis.set(xlabel="epoch", ylabel="mIoU on val", ylim=(0, 1.2 * live().high))
    axis.set_xticks(range(1, len(curve) + 1))
    plt.show()


@torch.inference_mode()
def small_logits(model: Any, images: Tensor) -> Tensor:
    """The logits of a SegFormer before it enlarges them: (N, C, H/4, W/4)."""
    found: list[Tensor] = []
    handle = model.classifier.register_forward_hook(lambda *call: found.append(call[2]))
    for part in images.split(20):
        model.eval()(part)
    handle.remove()
    return torch.cat(found)


def print_orders(labels: Any, model: Any) -> float:
    """What an early argmax costs on Streets val; what the fix, `labels`, gains on perfect scores.

    Of a SegFormer's logits, and of perfect scores: of each place the true fraction of each class.
    """
    images, truth = streets("val")
    one_hot = F.one_hot(truth.where(truth != 255, 0), 11) * (truth != 255)[..., None]
    perfect = F.avg_pool2d(one_hot.permute(0, 3, 1, 2).float(), 4)  # (60, 11, 18, 24)
    gains: list[float] = []
    for name, logits in {"SegFormer": small_logits(model, images), "perfect": perfect}.items():
        early = F.interpolate(logits.argmax(1)[:, None].float(), truth.shape[1:])[:, 0].long()
        orders = {"argmax first": early, "enlarge first": labels(logits, truth.shape[1:])}
        for order, found in orders.items():
            matrix = ConfusionMatrix(11)
            matrix.update(found, truth)
            scores = matrix.compute()
            gains.append(scores.miou)
            classes = f"car {scores.iou[CAR]:.2f}, pole {scores.iou[POLE]:.2f}"
            print(f"{name:<9} {order:<13} mIoU {scores.miou:.3f}, {classes}")
    return gains[3] - gains[2]


def show_early(model: Any, shown: Sequence[int] = (8, 20)) -> None:
    """Scenes of Streets val with truth, and labels from an argmax at a quarter of the size."""
    images, truth = streets("val")
    labels = small_logits(model, images[list(shown)]).argmax(1).numpy()
    panels: dict[str, Any] = {}
    for i, small in zip(shown, labels, strict=True):
        found = {"scene": _kept("val").read(i)[0], "truth": colorize(truth[i], STREET_PALETTE)}
        found["argmax first"] = colorize(np.kron(small, np.ones((4, 4), int)), STREET_PALETTE)
        panels |= {name + " " * len(panels): picture for name, picture in found.items()}
    show_row(panels, columns=3, key=True)


def by_seed(net: str, images: int = 960, part: str = "images") -> dict[int, float]:
    """{seed: test mIoU} of one of NETS, as recorded."""
    record, arm = read_record("07_transformers"), f"{net}, {images} images"
    return values(record, part, arm, lambda run: run["test"]["miou"])


def gap(first: str, second: str, images: int = 960, part: str = "images") -> Interval:
    """The paired difference of two NETS in test mIoU."""
    return paired_difference(by_seed(first, images, part), by_seed(second, images, part))


def draw_networks() -> None:
    """The recorded test mIoU of NETS by the number of images, and SegFormer's lead."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.2), dpi=90, layout="constrained")
    for k, (net, colour) in enumerate(NETS.items()):
        rows = [interval(list(by_seed(net, images).values())) for images in IMAGES]
        places, means = np.arange(3) + 0.08 * (k - 1), [row.value for row in rows]
        reach = [row.high - row.value for row in rows]
        left.errorbar(places, means, reach, fmt="o-", capsize=3, color=colour, label=net)
    left.set_xticks(range(3), [str(images) for images in IMAGES])
    left.set(xlabel="training images", ylabel="test mIoU", ylim=(0, 0.65))
    left.legend(frameon=False, loc="lower right")
    pairs = [(net, images) for net in list(NETS)[1:] for images in IMAGES]
    gaps = {f"{n}, {images} images": gap("SegFormer", n, images) for n, images in pairs}
    draw_intervals(right, gaps, NETS["SegFormer"])
    right.axvline(0, color="black", linewidth=0.8)
    right.set(xlabel="SegFormer − the other: test mIoU, seed by seed")
    plt.show()
