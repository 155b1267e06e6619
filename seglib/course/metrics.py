"""What lesson 4 scores and draws: recorded predictions, CamVid's drives, intervals, lesions."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seglib.course.records import label_map, read_record, values
from seglib.data import Scans, Streets
from seglib.metrics import Scores
from seglib.transforms import resize_mask

TRAIN, VAL, TEST = "#56b4e9", "#d55e00", "#555555"
# CamVid's usual split, from its file names: colour, drive, its first and last labelled frame
DRIVES = [(TRAIN, "0001TP", 6690, 8520), (TEST, "0001TP", 8550, 10380)]
DRIVES += [(TRAIN, "0006R0", 930, 3930), (TRAIN, "0016E5", 390, 2400)]
DRIVES += [(TRAIN, "0016E5", 4350, 7920), (VAL, "0016E5", 7959, 8159)]
DRIVES += [(TRAIN, "0016E5", 8190, 8640), (TEST, "Seq05VD", 0, 5100)]
Maps = NDArray[np.uint8]


def _kept(part: str, arm: str) -> Maps:
    """The label maps (N, H, W) that an arm's first run keeps."""
    maps = values(read_record("04_metrics"), part, arm, lambda run: run.get("maps"))[0]
    return np.stack([label_map(maps[str(i)]) for i in range(len(maps))])


def street_predictions(images: int = 240) -> tuple[Maps, Maps]:
    """(truths, predictions), uint8 (60, 72, 96): a U-Net trained on so many scenes, on test."""
    test = Streets("test")
    truths = [resize_mask(test.read_mask(i), 72, 96) for i in range(len(test))]
    return np.stack(truths), _kept("checkpoint", f"{images} images")


def scan_predictions() -> tuple[Maps, Maps, NDArray[np.float64]]:
    """(truths, predictions, mm): a U-Net on 40 test slices, (40, 128, 128); spacing (40, 2)."""
    scans = Scans("test")
    truths = [scans.read_mask(i) for i in range(len(scans))]
    return np.stack(truths), _kept("scans", "Scans U-Net"), scans.spacing


def seed_scores() -> list[float]:
    """The test mIoU of each recorded training on 240 scenes, in ascending order."""
    runs = values(read_record("04_metrics"), "checkpoint", "240 images", lambda run: run["watched"])
    return sorted(round(rows[-1]["test_miou"], 3) for rows in runs.values())


def without_small(lesion: NDArray[np.bool_], pixel: float, smallest: float) -> NDArray[np.bool_]:
    """A mask (H, W) without the regions below `smallest` mm²; `pixel` is the area of a pixel."""
    _, regions, found, _ = cv2.connectedComponentsWithStats(lesion.astype(np.uint8))
    return lesion & (found[:, cv2.CC_STAT_AREA] * pixel >= smallest)[regions]


def draw_confusion(scores: Scores) -> Figure:
    """The confusion matrix, each row divided by its sum, in per cent."""
    share = 100 * scores.matrix / scores.matrix.sum(1, keepdims=True).clip(1)
    figure, axis = plt.subplots(figsize=(7.4, 5.2), dpi=90, layout="constrained")
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 60 else "black" if value >= 0.5 else "0.7"
        axis.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=10)
    places = range(len(share))
    axis.set_xticks(places, scores.classes, rotation=40, ha="right", fontsize=10)
    axis.set_yticks(places, scores.classes, fontsize=10)
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.set_title("Where the pixels of each class went (% of the row)", fontsize=11)
    plt.close(figure)
    return figure


def draw_definitions(causes: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars of {cause: {definition: value}}, grouped by cause."""
    figure, axis = plt.subplots(figsize=(8.4, 4.4), dpi=90, layout="constrained")
    colours = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#777777")
    names, rows = list[str](), list[float]()
    for colour, (cause, found) in zip(colours, causes.items(), strict=False):
        own = [(rows[-1] + 1.7 if rows else 0.0) + i for i in range(len(found))]
        bars = axis.barh(own, list(found.values()), color=colour, height=0.75, label=cause)
        axis.bar_label(bars, fmt="%.3f", padding=3, fontsize=10)
        rows, names = rows + own, names + list(found)
    axis.set_yticks(rows, names, fontsize=10)
    axis.invert_yaxis()
    points = [value for found in causes.values() for value in found.values()]
    axis.set(xlabel="“mIoU”", xlim=(0, 1))
    axis.set_title(f"One prediction: from {min(points):.2f} to {max(points):.2f}", fontsize=11)
    axis.legend(frameon=False, fontsize=10, title="what differs", loc="upper right")
    plt.close(figure)
    return figure


def draw_drives() -> Figure:
    """CamVid's four drives, and which stretch is training, validation and test."""
    figure, axis = plt.subplots(figsize=(9, 2.5), dpi=90, layout="constrained")
    for colour, drive, first, last in reversed(DRIVES):
        start = min(part[2] for part in DRIVES if part[1] == drive)
        axis.barh(drive, (last - first) / 30, left=(first - start) / 30, color=colour, height=0.6)
    for name, colour in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        axis.barh(DRIVES[0][1], 0, color=colour, label=name)
    axis.legend(ncol=3, frameon=False, loc="upper right", fontsize=10)
    axis.set_xlabel("seconds since the drive's first labelled frame")
    plt.close(figure)
    return figure


def draw_coverage() -> Figure:
    """How often recorded bootstrap intervals contain the true mIoU, by the unit that is drawn."""
    figure, axis = plt.subplots(figsize=(8, 3.2), dpi=90, layout="constrained")
    record, sizes = read_record("04_metrics"), (15, 30, 60, 120, 240, 480)
    for part, frames, unit, look, label in (
        ("scenes", 1, "frame", "o-#009e73", "single scenes, drawn by scene"),
        ("drives", 8, "drive", "D-#0072b2", "drives of 8 frames, drawn by drive"),
        ("drives", 8, "frame", "s-#d55e00", "drives of 8 frames, drawn by frame"),
    ):
        rows = values(record, "sampling", part, lambda run: run["samples"])[0]
        holds = np.array([100 * row[f"{unit}_holds"] for row in rows])
        reach = 1.96 * np.sqrt(holds * (100 - holds) / 200)  # 200 samples each
        images = [frames * row["size"] for row in rows]
        axis.errorbar(images, holds, reach, fmt=look[:2], color=look[2:], capsize=3, label=label)
    axis.axhline(95, color="#777777", linewidth=1, label="promised: 95 %")
    axis.set_xscale("log")
    axis.set_xticks(sizes, map(str, sizes))
    axis.minorticks_off()
    axis.set(xlabel="images in the sample", ylabel="contain the truth (%)", ylim=(0, 103))
    axis.legend(frameon=False, loc="lower right", fontsize=10, ncols=2)
    plt.close(figure)
    return figure


def draw_limit(curve: Sequence[Any], smallest: float, scan: Any, truth: Any, kept: Any) -> Figure:
    """Lesions found and false positives by the smallest region kept (0, 1, … mm²), and a scan."""
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3), dpi=90, layout="constrained")
    found, false = ([getattr(c, key) for c in curve] for key in ("found", "false_positives"))
    names = f"lesions found, of {curve[0].lesions}", f"false positives in {curve[0].images} slices"
    for axis, row, name in zip(axes, (found, false), names, strict=False):
        axis.step(range(len(curve)), row, color="#0072b2", where="post")
        axis.axvline(smallest, color="0.4", linestyle="--")
        axis.set(xlabel="smallest region kept (mm²)", ylabel=name, ylim=(0, max(row) + 1))
    axes[2].imshow(scan)
    for mask, colour, width, name in ((truth, TRAIN, 4, "truth"), (kept, VAL, 1.5, "kept")):
        if mask.any():
            axes[2].contour(mask, [0.5], colors=colour, linewidths=width)
        axes[2].plot([], color=colour, linewidth=width, label=name)
    axes[2].set(xticks=[], yticks=[], title=f"regions from {smallest:g} mm²")
    axes[2].legend(fontsize=10, loc="lower left")
    plt.close(figure)
    return figure
