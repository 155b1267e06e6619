"""Grids of photos, masks, predictions and errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from seglib.plotting.arrays import (
    RIGHT,
    VOID,
    VOID_COLOUR,
    WRONG,
    as_mask,
    as_pair,
    as_palette,
    colorize,
    error_map,
)
from seglib.plotting.overlay import overlay, place_labels

# Violet is far from every colour of the course (ΔE 57): red errors would look like pedestrians.
_ERROR_COLOURS = {RIGHT: (238, 238, 240), WRONG: (120, 0, 255), VOID: (158, 158, 162)}


_NAME_POINTS = 8.0  # the size of class names on a panel


_Panel = tuple[Axes, NDArray[Any]]  # where a mask is shown


def legend(
    target: Axes | Figure | SubFigure,
    classes: Sequence[str],
    palette: ArrayLike,
    present: Iterable[int] | None = None,
    *,
    void: bool = False,
) -> Legend:
    """Add a legend of class colours beside an Axes or below a Figure.

    `present` holds the labels to list (default: all); `void=True` adds void. Raises ValueError for
    a label without a name.
    """
    colours = as_palette(palette, classes)
    labels = list(range(len(classes))) if present is None else sorted({int(i) for i in present})
    if labels and (labels[0] < 0 or labels[-1] >= len(classes)):
        raise ValueError(
            f"found labels {labels[0]}–{labels[-1]} in present, expected 0–{len(classes) - 1}; "
            "leave void out and pass void=True"
        )
    keys = [_key(colours[label], classes[label]) for label in labels]
    if void:
        keys.append(_key(VOID_COLOUR, "void"))
    return _add_legend(target, keys)


def show_samples(
    samples: Iterable[tuple[Any, Any]],
    classes: Sequence[str],
    palette: ArrayLike,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 3,
    alpha: float = 0.6,
    names: bool = True,
    ignore_index: int = 255,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: float = 10.0,
    title: str | None = None,
) -> Figure:
    """Show (image, mask) pairs: each photo, and below it the mask laid over it.

    Any iterable of pairs will do, such as `[ds[i] for i in (0, 7, 21)]`. `width` is in inches.
    Without a `title`, the figure says how many of the classes occur.
    """
    colours = as_palette(palette, classes)
    pairs = [
        as_pair(image, mask, len(classes), ignore_index, mean=mean, std=std)
        for image, mask in samples
    ]
    _check_counts("samples", len(pairs), titles=titles)
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, axes = _grid(2 * rows, columns, pairs[0][1].shape, width, titles=rows)
    panels: list[_Panel] = []
    for i, (photo, mask) in enumerate(pairs):
        above, below = (
            axes[2 * (i // columns), i % columns],
            axes[2 * (i // columns) + 1, i % columns],
        )
        above.imshow(photo)
        above.set_title(titles[i] if titles else f"sample {i}", fontsize=9)
        laid = overlay(photo, mask, colours, alpha, ignore_index=ignore_index)
        below.imshow(laid, interpolation="nearest")
        panels.append((below, mask))
    present, void = _present((mask for _, mask in pairs), ignore_index)
    legend(figure, classes, colours, present, void=void)
    where = "this sample" if len(pairs) == 1 else f"these {len(pairs)} samples"
    _set_title(figure, title, f"{len(present)} of {len(classes)} classes occur in {where}")
    if names:
        _write_names(figure, panels, classes, colours, ignore_index)
    return figure


def show_predictions(
    images: Sequence[Any],
    truths: Sequence[Any],
    predictions: Sequence[Any],
    classes: Sequence[str],
    palette: ArrayLike,
    titles: Sequence[str] | None = None,
    *,
    names: bool = True,
    ignore_index: int = 255,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: float = 11.0,
    title: str | None = None,
) -> Figure:
    """Show photo, truth, prediction and errors, one image a row; `titles` name the rows.

    Errors are violet, right pixels light, void pixels grey and not counted; above each error map
    stands the share of wrong pixels, and above the figure, unless `title` is given, their range.
    """
    colours = as_palette(palette, classes)
    _check_counts("images", len(images), truths=truths, predictions=predictions, titles=titles)
    figure, axes = _grid(len(images), 4, np.shape(truths[0]), width, titles=len(images))
    panels: list[_Panel] = []
    shares = []
    for i, (row, truth, prediction) in enumerate(zip(axes, truths, predictions, strict=True)):
        photo, truth = as_pair(images[i], truth, len(classes), ignore_index, mean=mean, std=std)
        prediction = as_mask(prediction, len(classes), ignore_index, name="prediction")
        errors, share = error_map(truth, prediction, ignore_index)
        row[0].imshow(photo)
        for axis, mask in ((row[1], truth), (row[2], prediction)):
            axis.imshow(colorize(mask, colours, ignore_index), interpolation="nearest")
            panels.append((axis, mask))
        row[3].imshow(paint_errors(errors), interpolation="nearest")
        for axis, text in zip(row, ("photo", "truth", "prediction", _wrong(share)), strict=True):
            axis.set_title(text if i == 0 or axis is row[3] else "", fontsize=9)
        row[0].set_ylabel(titles[i] if titles else "", fontsize=9)
        shares.append(share)
    present, void = _present((mask for _, mask in panels), ignore_index)
    keys = [_key(colours[label], classes[label]) for label in present]
    keys += [_key(VOID_COLOUR, "void")] if void else []
    keys += [_key(_ERROR_COLOURS[WRONG], "wrong"), _key(_ERROR_COLOURS[RIGHT], "right")]
    keys += [_key(_ERROR_COLOURS[VOID], "not counted")] if void else []
    _add_legend(figure, keys)
    _set_title(figure, title, _error_finding(shares))
    if names:
        _write_names(figure, panels, classes, colours, ignore_index)
    return figure


def paint_errors(errors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour an error map: (H, W) of 0, 1, 2 -> uint8 (H, W, 3)."""
    return np.array([_ERROR_COLOURS[kind] for kind in (RIGHT, WRONG, VOID)], np.uint8)[errors]


def _wrong(share: float) -> str:
    return "no labelled pixel" if np.isnan(share) else f"errors: {100 * share:.1f} % of pixels"


def _error_finding(shares: Sequence[float]) -> str:
    """Say in one line how wrong the predictions are."""
    known = [100 * share for share in shares if not np.isnan(share)]
    if not known:
        return "No labelled pixel to compare with"
    if len(known) == 1 or f"{min(known):.1f}" == f"{max(known):.1f}":
        return f"{known[0]:.1f} % of the labelled pixels are wrong"
    return f"{min(known):.1f} to {max(known):.1f} % of the labelled pixels are wrong"


def _present(masks: Iterable[NDArray[Any]], ignore_index: int) -> tuple[list[int], bool]:
    """Labels that occur in any of the masks, and whether void does."""
    found = {int(label) for mask in masks for label in np.unique(mask)}
    return sorted(found - {ignore_index}), ignore_index in found


def _write_names(
    figure: Figure,
    panels: Sequence[_Panel],
    classes: Sequence[str],
    colours: NDArray[np.uint8],
    ignore_index: int,
) -> None:
    """Write class names as real text on finished panels, fitted to the size they have now."""
    figure.draw_without_rendering()  # settles the layout
    for axis, mask in panels:
        points = axis.get_window_extent().width * 72 / figure.dpi
        pixels_per_point = mask.shape[1] / points
        size = _NAME_POINTS * pixels_per_point
        for label in place_labels(mask, classes, ignore_index=ignore_index, font_size=size):
            x0, y0, x1, y1 = label.box
            height = label.font_size / pixels_per_point
            dark = tuple(colours[label.index] / 4 / 255)
            text = axis.text((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, label.text, color="white")
            text.set(fontsize=height, fontweight="bold", fontfamily="DejaVu Sans")
            text.set(ha="center", va="center_baseline", in_layout=False)
            text.set_path_effects([withStroke(linewidth=height / 4, foreground=dark)])


def _grid(
    rows: int, columns: int, shape: tuple[int, ...], width: float, titles: int
) -> tuple[Figure, NDArray[Any]]:
    """Make a figure of bare panels in the proportions of `shape`; `titles` rows will have one."""
    panel = width / columns * shape[0] / shape[1]
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, rows * (panel + 0.04) + 0.22 * titles + 0.95),
        squeeze=False,
        layout="compressed",
    )
    plt.close(figure)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    return figure, axes


def _key(colour: Sequence[int] | NDArray[np.uint8], text: str) -> Patch:
    red, green, blue = (float(value) / 255 for value in colour)
    return Patch(facecolor=(red, green, blue), edgecolor="0.4", linewidth=0.5, label=text)


def _add_legend(target: Axes | Figure | SubFigure, keys: list[Patch]) -> Legend:
    """Beside an Axes in one column, below a Figure in rows of equal length."""
    style: dict[str, Any] = {"handles": keys, "fontsize": 9, "frameon": False}
    style |= {"handlelength": 1.2, "handleheight": 1.0}
    if isinstance(target, Axes):
        return target.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), **style)
    longest = max((len(str(key.get_label())) for key in keys), default=1)
    per_row = max(1, int(_inches(target) / (0.5 + 0.085 * longest)))
    rows = max(1, -(-len(keys) // per_row))
    columns = max(1, -(-len(keys) // rows))
    return target.legend(loc="outside lower center", ncols=columns, **style)


def _inches(figure: Figure | SubFigure) -> float:
    """The width of a Figure or SubFigure."""
    return float(figure.bbox.width / figure.dpi)


def _check_counts(what: str, count: int, **others: Sequence[Any] | None) -> None:
    """Raise ValueError unless there is something to show and every list is as long."""
    if not count:
        raise ValueError(f"found no {what}, expected at least one; pass a list of them")
    for name, values in others.items():
        if values is not None and len(values) != count:
            raise ValueError(
                f"found {len(values)} {name} for {count} {what}, expected one each; "
                f"pass lists of equal length"
            )


def _set_title(figure: Figure, title: str | None, finding: str) -> None:
    figure.suptitle(finding if title is None else title, fontsize=11, fontweight="bold")
