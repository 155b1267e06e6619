"""Curves, confusion matrices and class shares. Every title states what the figure shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from seglib.plotting.arrays import as_palette, to_numpy

_TRAIN, _VAL = "#4c566a", "#c2410c"
_HATCH: dict[str, Any] = {"facecolor": "0.96", "edgecolor": "0.88", "hatch": "////", "linewidth": 0}
_NORMALISED = {
    "truth": "share of the true class's pixels",
    "prediction": "share of the predicted class's pixels",
    "none": "pixels",
}


def plot_history(
    rows: Sequence[Mapping[str, Any]], *, width: float = 9.0, title: str | None = None
) -> Figure:
    """Draw losses and validation mIoU over the epochs, and mark the best epoch.

    Each row is one epoch: a dict with any of `epoch`, `train_loss`, `val_loss`, `val_miou`; other
    keys are ignored, missing and NaN values leave gaps. Best is the highest mIoU, or else the
    lowest validation loss. Raises ValueError when there is nothing to draw.
    """
    keys = [key for key in ("train_loss", "val_loss", "val_miou") if _finite(rows, key).any()]
    if not keys:
        names = sorted({key for row in rows for key in row})
        raise ValueError(
            f"found {len(rows)} rows with the keys {names}, expected numbers under train_loss, "
            "val_loss or val_miou; pass the rows of a history after at least one epoch"
        )
    epochs = np.array([row.get("epoch", i + 1) for i, row in enumerate(rows)])
    panels = [
        keys_of for keys_of in (("train_loss", "val_loss"), ("val_miou",)) if {*keys_of} & {*keys}
    ]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(width, 3.3), squeeze=False, layout="constrained"
    )
    plt.close(figure)
    for axis, panel in zip(axes.flat, panels, strict=True):
        for key in panel:
            if key in keys:
                colour = _TRAIN if key == "train_loss" else _VAL
                label = "training" if key == "train_loss" else "validation"
                few = "o" if len(rows) <= 30 else None
                axis.plot(epochs, _column(rows, key), color=colour, label=label, marker=few, ms=3)
        axis.set(xlabel="epoch", ylabel="mIoU" if panel == ("val_miou",) else "loss")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    finding = _mark_best(list(axes.flat), panels, rows, keys, epochs)
    if "val_loss" in keys and "train_loss" in keys:
        axes.flat[0].legend(frameon=False)
    figure.suptitle(finding if title is None else title, fontsize=11, fontweight="bold")
    return figure


def _mark_best(
    axes: Sequence[Axes],
    panels: Sequence[Sequence[str]],
    rows: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    epochs: NDArray[Any],
) -> str:
    """Mark the best epoch on the axes and say in one line which it is."""
    best = {}
    for key, pick in (("val_miou", np.nanargmax), ("val_loss", np.nanargmin)):
        if key in keys:
            best[key] = int(pick(_column(rows, key)))
    if not best:
        return "Training loss only: no validation to choose an epoch by"
    deciding = next(iter(best))
    chosen = best[deciding]
    value = _column(rows, deciding)[chosen]
    for axis, panel in zip(axes, panels, strict=True):
        axis.axvline(epochs[chosen], color="0.5", linewidth=1, linestyle="--", zorder=0)
        if deciding in panel:
            axis.plot(epochs[chosen], value, "*", color=_VAL, ms=13, mec="white", zorder=5)
    if deciding == "val_loss":
        return f"Lowest validation loss: {value:.3f} in epoch {epochs[chosen]}"
    finding = f"Best validation mIoU: {value:.3f} in epoch {epochs[chosen]}"
    if best.get("val_loss", chosen) != chosen:
        finding += f"; lowest validation loss: epoch {epochs[best['val_loss']]}"
    return finding


def plot_confusion_matrix(
    matrix: ArrayLike,
    classes: Sequence[str],
    normalize: str = "truth",
    *,
    width: float = 8.0,
    title: str | None = None,
) -> Figure:
    """Draw a confusion matrix (C, C), true classes down, predicted classes across.

    `normalize` is "truth" (rows sum to 100 %), "prediction" (columns do) or "none" (pixel counts).
    A class without a single pixel in the sum is hatched and shows "–".
    """
    counts = to_numpy(matrix).astype(np.float64)
    n = len(classes)
    if counts.shape != (n, n) or not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError(
            f"found a matrix of shape {counts.shape}, expected pixel counts ({n}, {n}), none "
            f"negative, for {n} classes; pass the ConfusionMatrix's counts and its class names"
        )
    if normalize not in _NORMALISED:
        raise ValueError(f"found normalize={normalize!r}, expected one of {list(_NORMALISED)}")
    shares = _normalised(counts, normalize)

    figure, axis = plt.subplots(figsize=(width, 0.82 * width), layout="constrained")
    plt.close(figure)
    top = 1.0 if normalize != "none" else max(float(counts.max()), 1.0)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=top, interpolation="nearest")
    _write_cells(axis, shares, counts, normalize == "none")
    axis.set_xticks(range(n), classes, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(n), classes)
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.tick_params(length=0)
    bar = figure.colorbar(image, ax=axis, shrink=0.7, pad=0.02, label=_NORMALISED[normalize])
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(_short if normalize == "none" else _ticks)
    finding = _confusion_finding(counts, classes)
    figure.suptitle(finding if title is None else title, fontsize=11, fontweight="bold")
    return figure


def _normalised(counts: NDArray[np.float64], normalize: str) -> NDArray[np.float64]:
    """Divide by row or column sums; NaN where the sum is zero."""
    if normalize == "none":
        return counts
    total = counts.sum(axis=1 if normalize == "truth" else 0, keepdims=True)
    return np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)


def _write_cells(
    axis: Axes, shares: NDArray[np.float64], counts: NDArray[np.float64], as_counts: bool
) -> None:
    """Write a number into each cell, or a hatched "–" where there is none."""
    n = len(shares)
    size = min(10.0, 110 / n)
    threshold = 0.55 * (np.nanmax(counts) if as_counts else 1.0)
    for (i, j), share in np.ndenumerate(shares):
        if np.isnan(share):
            axis.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, **_HATCH))
            axis.text(j, i, "–", ha="center", va="center", fontsize=size, color="0.2")
            continue
        text = _short(share) if as_counts else _percent(share)
        colour = "white" if share > threshold else ("0.6" if share == 0 else "0.15")
        axis.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)


def _confusion_finding(counts: NDArray[np.float64], classes: Sequence[str]) -> str:
    """Name the pair of classes with the greatest share of confused true pixels."""
    rates = _normalised(counts, "truth")
    np.fill_diagonal(rates, np.nan)
    if not np.nansum(rates):
        return "No pixel is confused" if counts.sum() else "No pixel was counted"
    truth, predicted = divmod(int(np.nanargmax(rates)), len(classes))
    rate = _percent(rates[truth, predicted])
    truth_name, predicted_name = classes[truth], classes[predicted]
    return f"Most confused: {rate} % of {truth_name} pixels are taken for {predicted_name}"


def plot_class_shares(
    shares: ArrayLike,
    classes: Sequence[str],
    palette: ArrayLike,
    *,
    log: bool = False,
    sort: bool = True,
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
    order = np.argsort(-known, kind="stable") if sort else np.arange(len(classes))
    figure, axis = plt.subplots(figsize=(width, 0.9 + 0.3 * len(classes)), layout="constrained")
    plt.close(figure)
    present = known[known > 0]
    left = 10.0 ** np.floor(np.log10(present.min()) - 0.3) if log and present.size else 0.0
    right = present.max(initial=1e-3)
    axis.set_xlim(left, right * (3 if log else 1.12))
    if log:
        axis.set_xscale("log")
    for row, label in enumerate(order):
        _draw_share(axis, row, float(known[label]), colours[label], left)
    axis.set_yticks(range(len(classes)), [classes[label] for label in order])
    axis.set_ylim(len(classes) - 0.4, -0.6)
    axis.set_xlabel("share of labelled pixels" + (" (logarithmic)" if log else ""))
    axis.xaxis.set_major_formatter(_ticks)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    finding = _share_finding(known, classes)
    figure.suptitle(finding if title is None else title, fontsize=11, fontweight="bold")
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
    text = f"{_precise(share)} %" if share else "–"
    offset = (9 if left else 5, 0)
    axis.annotate(
        text, (share or left, row), offset, textcoords="offset points", va="center", fontsize=9
    )


def _share_finding(known: NDArray[np.float64], classes: Sequence[str]) -> str:
    """Compare the largest class with the smallest that occurs."""
    present = np.flatnonzero(known)
    if not present.size:
        return "No class occurs"
    large = present[known[present].argmax()]
    small = present[known[present].argmin()]
    if large == small:
        return f"Only {classes[large]} occurs"
    ratio = known[large] / known[small]
    times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
    return f"{classes[large]} covers {times} times as many pixels as {classes[small]}"


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    """One key of all rows, NaN where it is missing or None."""
    values = (row.get(key) for row in rows)
    return np.array([np.nan if value is None else float(value) for value in values])


def _finite(rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.bool_]:
    return np.isfinite(_column(rows, key))


def _percent(share: float) -> str:
    """A share as a whole percentage that does not hide small ones: 0, <1, 31, >99, 100."""
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"


def _precise(share: float) -> str:
    """A percentage with two significant digits: 31, 4.2, 0.35."""
    percent = 100 * share
    return f"{percent:.0f}" if percent >= 9.95 else f"{percent:.2g}"


def _ticks(share: float, _position: float = 0) -> str:
    return f"{100 * share:g} %"


def _short(count: float, _position: float = 0) -> str:
    """A count in at most four letters: 950, 12k, 1.2M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            scaled = count / unit
            return f"{scaled:.1f}{letter}" if scaled < 9.95 else f"{scaled:.0f}{letter}"
    return f"{count:.0f}"
