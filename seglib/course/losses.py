"""What lesson 3 trains on and draws: slices with small lesions, their scores, recorded runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from seglib.course.records import interval, paired_difference, prediction, read_record, values
from seglib.data import RenderedScans, make_loader
from seglib.transforms import eval_transform, train_transform

SIZE = 64
SPLITS = {"train": range(160), "dev": range(3000, 3040), "test": range(2000, 2040)}
SLICE = 5  # of those to test on: a lesion in the middle, shown from 32×32 pixels
COLOURS = ("#d55e00", "#0072b2", "#009e73")
RARE = ("Pole", "SignSymbol", "Pedestrian", "Bicyclist", "Fence")


@cache
def _rendered(share: float, split: str) -> Any:
    look: dict[str, Any] = {"lesion": True, "lesion_size": share / 100, "contrast": 3.0}
    data: Any = RenderedScans(SPLITS[split], SIZE, SIZE, **look)
    data.read = cache(data.read)  # each slice is rendered once
    return data


def slices(share: float, split: str, augment: bool = False) -> Any:
    """Scans of 64×64 that all have a lesion of `share` per cent of the pixels (class 1)."""
    data = copy(_rendered(share, split))
    data.transform = eval_transform(SIZE, SIZE)
    if augment:
        data.transform = train_transform(SIZE, SIZE, zoom=(1, 1), stretch=1, colour=0)
    return data


@torch.no_grad()
def lesion_chances(model: nn.Module, data: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A model's probability of lesion, whether it has the largest one, and the truth: (N, H, W)."""
    images, masks = zip(*(data[i] for i in range(len(data))), strict=True)
    model.eval()
    logits = model(torch.stack(images).to(next(model.parameters()).device)).cpu()
    return logits.softmax(1)[:, 1], logits.argmax(1) == 1, torch.stack(masks) == 1


def found(model: nn.Module, data: Any) -> dict[str, Any]:
    """Recall and precision of the lesion, its mean probability on lesions and elsewhere."""
    chance, called, lesion = lesion_chances(model, data)
    hits = (called & lesion).sum().item()
    return {
        "recall": hits / lesion.sum().item(),
        "precision": hits / called.sum().item() if called.any() else math.nan,
        "on lesions": chance[lesion].mean().item(),
        "elsewhere": chance[~lesion].mean().item(),
        "chance": chance.numpy(),
    }


def draw_race(curves: Mapping[str, Sequence[dict[str, Any]]], data: Any, steps: int) -> Figure:
    """Recall after every `steps` steps, and each network's probability of lesion on slice 5."""
    figure = plt.figure(figsize=(10.4, 2.6), dpi=90, layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 2.7))
    axis, epochs = halves[0].subplots(), len(next(iter(curves.values())))
    every = -(-epochs // 6)  # at most six maps
    axes = halves[1].subplots(len(curves), epochs // every + 1)
    image, mask = data.read(SLICE)
    for row, ((name, rows), colour) in enumerate(zip(curves.items(), COLOURS, strict=False)):
        seen = steps * np.arange(1, epochs + 1)
        label = f"{name}: {rows[-1]['recall']:.2f}"
        axis.plot(seen, [one["recall"] for one in rows], "o-", color=colour, label=label)
        for place, one in enumerate(rows[every - 1 :: every], 1):
            panel = axes[row, place]
            drawn = panel.imshow(one["chance"][SLICE], cmap="magma", vmin=0, vmax=0.3)
            if row == 0:
                panel.set_title(f"step {steps * every * place}", fontsize=10)
        axes[row, 1].set_ylabel(name, fontsize=10, color=colour)
    axes[0, 0].imshow(image)
    axes[0, 0].set_title("scan", fontsize=10)
    for panel in (axes[0, 0], *axes[:, 1:].flat):
        panel.contour(mask == 1, [0.5], colors="#56b4e9", linewidths=1.4)
        panel.set(xticks=[], yticks=[], xlim=(6, 38), ylim=(43, 11))
    axes[1, 0].axis("off")
    bar = axes[1, 0].inset_axes((0.05, 0.45, 0.9, 0.16))
    figure.colorbar(drawn, cax=bar, orientation="horizontal", ticks=[0, 0.3], extend="max")
    bar.set_title("probability\nof lesion", fontsize=10)
    axis.set(xlabel="training step", ylabel="recall (test)", ylim=(-0.03, 1.03))
    axis.set_xticks(seen[every :: 2 * every])
    axis.legend(frameon=False, fontsize=10, loc="upper left", borderpad=0, handlelength=1.2)
    plt.close(figure)
    return figure


def draw_threshold(chance: Tensor, lesion: Tensor, data: Any, threshold: float) -> Figure:
    """Recall, precision and IoU by threshold, and what one calls lesion on scan 8 of `data`."""
    steps = np.geomspace(0.005, 0.95, 60)
    hits = np.array([(chance[lesion] >= step).sum().item() for step in steps])
    areas = np.array([(chance >= step).sum().item() or np.nan for step in steps])
    over, there = chance >= threshold, lesion.sum().item()
    iou = (over & lesion).sum().item() / (over | lesion).sum().item()
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), dpi=90, layout="constrained")
    axes[0].semilogx(steps, hits / there, color="#009e73", label="recall")
    axes[0].semilogx(steps, hits / areas, color="#cc79a7", label="precision")
    axes[0].semilogx(steps, hits / (np.nan_to_num(areas) + there - hits), "k-", label="IoU")
    axes[0].axvline(threshold, color="0.4", linestyle="--")
    axes[0].set(xlabel="threshold", ylabel="recall, precision, IoU", ylim=(-0.03, 1.03))
    axes[0].legend(frameon=False, fontsize=10)
    axes[1].imshow(data.read(8)[0])
    axes[1].contour(lesion[8].numpy(), [0.5], colors="#56b4e9", linewidths=1.5)
    if over[8].any():
        axes[1].contour(over[8].numpy(), [0.5], colors="#f0e442", linewidths=1.5)
    row, column = lesion[8].nonzero().float().mean(0).tolist()
    axes[1].set(xlim=(column - 16, column + 16), ylim=(row + 16, row - 16), xticks=[], yticks=[])
    axes[0].set_title("cross-entropy, any threshold", fontsize=10)
    axes[1].set_title(f"threshold {threshold:.2f}: IoU {iou:.2f}", fontsize=10)
    plt.close(figure)
    return figure


def assert_as_recorded(key: str, curves: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Print the recorded races at step 240, and assert that the live one is where they expect it.

    Keys: recall, or ratio (of cross-entropy's probability on lesions to that elsewhere). A race of
    another length is not compared.
    """
    for name in curves if key == "recall" else ("cross-entropy",):
        last, found = curves[name][-1], list(race_ends(name, "recall").values())
        live, low, high = last["recall"], prediction(found).low, math.inf
        text = f"{min(found):.2f} to {max(found):.2f}, mean {np.mean(found):.2f}"
        if key == "ratio":
            inside, outside = (race_ends(name, one) for one in ("probability", "elsewhere"))
            found = [inside[seed] / outside[seed] for seed in inside]
            expected = prediction(np.log(found).tolist())
            live, low, high = last["on lesions"] / last["elsewhere"], *np.exp(expected[1:3])
            text = f"{min(found):.0f} to {max(found):.0f}"
        assert len(curves[name]) != 6 or low < live < high, (name, key, live, low, high)
        print(f"{name:<14} {key} at step 240, {len(found)} recorded runs: {text}")


def dev_iou(loss: nn.Module, lr: float, seeds: Sequence[int] = (0, 1), epochs: int = 6) -> str:
    """Lesion IoU on dev of the small U-Net, trained with a loss on lesions of 1 %, by seed."""
    from seglib.models import UNet
    from seglib.training import evaluate, fit

    train, dev, ious = slices(1, "train", augment=True), slices(1, "dev"), []
    for seed in seeds:
        torch.manual_seed(seed)
        model, loader = UNet(3, base_channels=8), make_loader(train, 4, shuffle=True, seed=seed)
        how: Any = {"schedule": "constant", "seed": seed, "ema": 0.96}
        fit(model, loader, epochs=epochs, lr=lr, loss=loss, **how)
        ious.append(f"{evaluate(model, make_loader(dev, 10)).iou[1]:.2f}")
    return f"{type(loss).__name__}, learning rate {lr:g}: lesion IoU on dev {' and '.join(ious)}"


def race_ends(name: str, key: str) -> dict[int, float]:
    """By seed, what a loss reached in the recorded race at step 240; keys as in `recorded`."""
    return _race(name, lambda run: run["watched"][-1][key])


def race_tuned(name: str, key: str = "iou") -> dict[int, float]:
    """By seed, the same at the threshold that was best on dev; keys: iou, threshold."""
    return _race(name, lambda run: run["thresholds"]["best on dev"][key])


def _race(name: str, read: Callable[[Any], float]) -> dict[int, float]:
    return values(read_record("03_losses"), "race", f"lesions of 0.3 %, {name}", read)


def over_seeds(numbers: Mapping[int, float]) -> str:
    """Mean and 95 % interval, and how many seeds have 0; if most, no interval describes them."""
    found = list(numbers.values())
    zeros = f"0 in {found.count(0)} of {len(found)} seeds"
    if found.count(0) > len(found) / 2:
        return f"{np.mean(found):.3f} ({zeros}, at most {max(found):.2f})"
    return f"{interval(found)}, {zeros}" if 0 in found else str(interval(found))


def print_races(*names: str, minus: Sequence[tuple[str, str]], tuned: bool = False) -> None:
    """Print IoU of the lesion in the recorded races, and differences paired by seed.

    `tuned` adds the IoU at thresholds chosen on dev, and compares those.
    """
    if names:
        print(f"IoU of the lesion on test, {len(race_ends(names[0], 'iou'))} recorded runs")
    for name in names:
        more = f"; threshold chosen on dev {over_seeds(race_tuned(name))}" if tuned else ""
        print(f"{name}: argmax {over_seeds(race_ends(name, 'iou'))}{more}")
    for two in minus:
        gap = paired_difference(*(race_tuned(x) if tuned else race_ends(x, "iou") for x in two))
        print(f"({two[0]}) − ({two[1]}){', both with thresholds' if tuned else ''}: {gap}")


def recorded(part: str, arm: str, key: str) -> tuple[list[int], NDArray[np.float64]]:
    """Steps, and a row for each seed of what was watched in a recorded arm; NaN where nothing is.

    Keys: recall, precision, iou (of the lesion), probability (on lesions), elsewhere.
    """
    runs = values(read_record("03_losses"), part, arm, lambda run: run["watched"])
    rows = [[step[key] for step in watched] for watched in runs.values()]
    return [step["step"] for step in next(iter(runs.values()))], np.array(rows, float)


def half_found(part: str, arm: str) -> list[str]:
    """For each seed the first step with a recall of at least 0.5, "–" if there is none."""
    steps, rows = recorded(part, arm, "recall")
    return [
        str(next((s for s, r in zip(steps, row, strict=True) if r >= 0.5), "–")) for row in rows
    ]


def draw_starts(arms: Mapping[str, tuple[str, str]]) -> Figure:
    """Recall of the lesion in recorded runs, a panel for each {title: (part, arm)}."""
    look: dict[str, Any] = {"sharex": True, "sharey": True, "layout": "constrained", "dpi": 90}
    figure, axes = plt.subplots(1, len(arms), figsize=(10, 2.8), **look)
    for axis, (title, (part, arm)) in zip(axes, arms.items(), strict=True):
        steps, rows = recorded(part, arm, "recall")
        axis.plot(steps, rows.T, linewidth=1.2)
        axis.set(title=title, xlabel="training step", ylim=(-0.03, 1.03))
    axes[0].set_ylabel("recall (test)")
    plt.close(figure)
    return figure


def late_means(arm: str) -> dict[str, dict[int, float]]:
    """An arm's recall, precision (NaN left out) and IoU, by seed: means over steps 840 to 1,000."""
    found = {}
    for key in ("recall", "precision", "iou"):
        rows = recorded("lesions", arm, key)[1][:, -5:]
        found[key] = {n: float(np.nanmean(r)) for n, r in enumerate(rows) if not np.isnan(r).all()}
    return found


def print_late(arm: str) -> None:
    """Print the recall and precision of `late_means`."""
    late = late_means(arm)
    called, seeds = list(late["precision"].values()), len(late["recall"])
    print(
        f"{arm.split(', ', 1)[1]}: recall {over_seeds(late['recall'])}, mean precision "
        f"{np.mean(called):.2f} ({len(called)} of {seeds} seeds call any pixel lesion)"
    )


def gradient_figure(losses: Mapping[str, nn.Module], shift: float = 6.0) -> Figure:
    """How each loss changes the lesion's logits of a blurred disc that lies `shift` px too far."""
    truth = torch.from_numpy(_rendered(4.0, "test").read(0)[1] == 1)
    grid = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    middle = truth.nonzero().float().mean(0) + torch.tensor([0, shift])
    away = torch.hypot(grid[0] - middle[0], grid[1] - middle[1])
    lesion = (1.2 * ((truth.sum() / math.pi).sqrt() - away)).clamp(min=-5)
    figure, axes = plt.subplots(2, 4, figsize=(10, 4.4), dpi=90, layout="constrained")
    axes[0, 0].imshow(truth.numpy(), cmap="gray")
    axes[0, 1].imshow(lesion.sigmoid().numpy(), cmap="gray", vmin=0, vmax=1)
    titles = ["truth", "predicted probability"]
    for axis, (name, loss) in zip(axes.flat[2:], losses.items(), strict=True):
        x = torch.stack([torch.zeros_like(lesion), lesion])[None].requires_grad_()
        loss(x, truth.long()[None]).backward()
        change = -x.grad[0, 1]  # type: ignore[index]
        axis.imshow((change / change.abs().max()).numpy(), cmap="RdBu", vmin=-1, vmax=1)
        titles.append(f"{name}\n{change.clamp(min=0).sum() / change.abs().sum():.0%} upward")
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.contour(truth.numpy(), [0.5], colors="#009e73", linewidths=0.9)
        axis.set(xlim=(15, 60), ylim=(32, 0), xticks=[], yticks=[])
    plt.close(figure)
    return figure


def streets_figure() -> Figure:
    """Nine losses on Streets after 720 steps: gain in mIoU, recall of rare classes, accuracy."""
    record, base = read_record("03_losses"), "cross-entropy"
    arms = list(dict.fromkeys(run["arm"] for run in record["parts"]["streets"]["runs"]))[::-1]
    reads = {
        "mIoU minus cross-entropy's": lambda test: test["miou"],
        "recall, mean of five rare classes": lambda test: float(
            np.mean([test["recall"][name] for name in RARE])
        ),
        "pixel accuracy": lambda test: test["accuracy"],
    }
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), dpi=90, sharey=True, layout="constrained")
    for axis, (title, read) in zip(axes, reads.items(), strict=True):
        found = [values(record, "streets", arm, lambda run, f=read: f(run["test"])) for arm in arms]
        for row, one in enumerate(found):
            shown = interval(list(one.values()))
            if axis is axes[0] and arms[row] != base:
                shown = paired_difference(one, found[arms.index(base)])
            if axis is not axes[0] or arms[row] != base:
                reach = shown.high - shown.value
                axis.errorbar(shown.value, row, xerr=reach, fmt="o", capsize=3, color="#0072b2")
        axis.set_xlabel(title, fontsize=10)
        axis.grid(axis="x", color="0.9")
    axes[0].axvline(0, color="black", linewidth=0.8)
    axes[0].set_yticks(range(len(arms)), arms, fontsize=10)
    plt.close(figure)
    return figure
