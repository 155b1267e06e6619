"""Training curves and class shares. Every title states what the figure shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from seglib.plotting.arrays import as_palette, to_numpy

_TRAIN, _VAL = "#4c566a", "#c2410c"
_HATCH: dict[str, Any] = {"facecolor": "0.96", "edgecolor": "0.88", "hatch": "////", "linewidth": 0}


def plot_history(rows: Sequence[Mapping[str, Any]], *, title: str | None = None) -> Figure:
    """Draw losses and validation mIoU over the epochs, and mark the best epoch.

    Each row is one epoch: a dict with any of `epoch`, `train_loss`, `val_loss`, `val_miou`; other
    keys are ignored, missing and NaN values leave gaps. Best is the highest mIoU, or else the
    lowest validation loss. Raises ValueError when there is nothing to draw.
    """
    columns = {
        key: np.array([np.nan if row.get(key) is None else float(row[key]) for row in rows])
        for key in ("train_loss", "val_loss", "val_miou")
    }
    columns = {key: values for key, values in columns.items() if np.isfinite(values).any()}
    if not columns:
        names = sorted({key for row in rows for key in row})
        raise ValueError(
            f"found {len(rows)} rows with the keys {names}, expected numbers under train_loss, "
            "val_loss or val_miou; pass the rows of a history after at least one epoch"
        )
    epochs = np.array([row.get("epoch", i + 1) for i, row in enumerate(rows)])
    panels = [
        (name, [key for key in keys if key in columns])
        for name, keys in (("loss", ("train_loss", "val_loss")), ("mIoU", ("val_miou",)))
        if columns.keys() & {*keys}
    ]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(9.0, 3.3), squeeze=False, layout="constrained"
    )
    plt.close(figure)
    best, finding = _best_epoch(columns, epochs)
    for axis, (name, keys) in zip(axes.flat, panels, strict=True):
        for key in keys:
            colour, label = (_TRAIN, "training") if key == "train_loss" else (_VAL, "validation")
            few = "o" if len(rows) <= 30 else None
            axis.plot(epochs, columns[key], color=colour, label=label, marker=few, ms=3)
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if best:
            key, index = best
            axis.axvline(epochs[index], color="0.5", linewidth=1, linestyle="--", zorder=0)
            if key in keys:
                star = {"color": _VAL, "ms": 13, "mec": "white", "zorder": 5}
                axis.plot(epochs[index], columns[key][index], "*", **star)
    if "val_loss" in columns and "train_loss" in columns:
        axes.flat[0].legend(frameon=False)
    figure.suptitle(finding if title is None else title, fontsize=11, fontweight="bold")
    return figure


def _best_epoch(
    columns: Mapping[str, NDArray[np.float64]], epochs: NDArray[Any]
) -> tuple[tuple[str, int] | None, str]:
    """By which key and in which row an epoch is best, and a line that says so."""
    lowest = int(np.nanargmin(columns["val_loss"])) if "val_loss" in columns else None
    if "val_miou" in columns:
        highest = int(np.nanargmax(columns["val_miou"]))
        value = columns["val_miou"][highest]
        finding = f"Best validation mIoU: {value:.3f} in epoch {epochs[highest]}"
        if lowest not in (None, highest):
            finding += f"; lowest validation loss: epoch {epochs[lowest]}"
        return ("val_miou", highest), finding
    if lowest is None:
        return None, "Training loss only: no validation to choose an epoch by"
    value = columns["val_loss"][lowest]
    return ("val_loss", lowest), f"Lowest validation loss: {value:.3f} in epoch {epochs[lowest]}"


def plot_class_shares(
    shares: ArrayLike,
    classes: Sequence[str],
    palette: ArrayLike,
    *,
    log: bool = False,
    width: float = 8.0,
    title: str | None = None,
) -> Figure:
    """Draw how much of all labelled pixels each class covers: fractions (C,), the largest on top.

    NaN and 0 mark absent classes: hatched, with "–". `log=True` shows rare classes.
    """
    fractions = to_numpy(shares).astype(np.float64).ravel()
    colours = as_palette(palette, classes) / 255
    known = np.nan_to_num(fractions)
    if fractions.shape != (len(classes),) or known.min() < 0 or known.sum() > 1.001:
        raise ValueError(
            f"found {fractions.size} shares with the sum {known.sum():.4g}, expected one fraction "
            f"for each of {len(classes)} classes, at most 1 in all; divide counts by their sum"
        )
    order = np.argsort(-known, kind="stable")
    figure, axis = plt.subplots(figsize=(width, 0.9 + 0.3 * len(classes)), layout="constrained")
    plt.close(figure)
    present = known[known > 0]
    log = log and present.size > 0
    left = 10.0 ** np.floor(np.log10(present.min()) - 0.3) if log else 0.0
    right = present.max(initial=1e-3)
    axis.set_xlim(left, right * (3 if log else 1.12))
    if log:
        axis.set_xscale("log")
    for row, label in enumerate(order):
        _draw_share(axis, row, float(known[label]), colours[label], left)
    axis.set_yticks(range(len(classes)), [classes[label] for label in order])
    axis.set_ylim(len(classes) - 0.4, -0.6)
    axis.set_xlabel("share of labelled pixels" + (" (logarithmic)" if log else ""))
    axis.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    title = _share_finding(known, classes) if title is None else title
    figure.suptitle(title, fontsize=11, fontweight="bold")
    return figure


def _draw_share(
    axis: Axes, row: int, share: float, colour: NDArray[np.float64], left: float
) -> None:
    """Draw one class: a bar, a dot on a logarithmic axis (`left` > 0), or hatching for none."""
    if share == 0:
        axis.axhspan(row - 0.4, row + 0.4, **_HATCH)
    elif left:  # a bar's length would mean nothing here
        axis.hlines(row, left, share, color="0.85", linewidth=1)
        axis.plot(share, row, "o", color=colour, ms=11, mec="0.4", mew=0.5)
    else:
        axis.barh(row, share, color=colour, edgecolor="0.4", linewidth=0.5)
    percent = 100 * share
    digits = f"{percent:.0f}" if percent >= 9.95 else f"{percent:.2g}"  # 31, 4.2, 0.35
    text, offset = f"{digits} %" if share else "–", (9 if left else 5, 0)
    style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 9}
    axis.annotate(text, (share or left, row), offset, **style)


def _share_finding(known: NDArray[np.float64], classes: Sequence[str]) -> str:
    """Compare the largest class with the smallest that occurs."""
    present = np.flatnonzero(known)
    if not present.size:
        return "No class occurs"
    large, small = int(known.argmax()), int(present[known[present].argmin()])
    if large == small:
        return f"Only {classes[large]} occurs"
    ratio = known[large] / known[small]
    times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
    return f"{classes[large]} covers {times} times as many pixels as {classes[small]}"
