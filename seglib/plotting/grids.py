"""Legends, and a grid of photos, masks, predictions and errors."""

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

from seglib.plotting import arrays
from seglib.plotting.overlay import place_labels


def legend(
    target: Axes | Figure | SubFigure,
    classes: Sequence[str],
    palette: ArrayLike,
    present: Iterable[int] | None = None,
    *,
    void: bool = False,
) -> Legend:
    """Add a legend of class colours beside an Axes or below a Figure.

    `present` holds the labels to list (default: all; others raise ValueError), `void` adds void.
    """
    colours = arrays.as_palette(palette, classes)
    labels = list(range(len(classes))) if present is None else sorted({int(i) for i in present})
    if labels and (labels[0] < 0 or labels[-1] >= len(classes)):
        raise ValueError(
            f"found labels {labels[0]}–{labels[-1]} in present, expected 0–{len(classes) - 1}; "
            "leave void out and pass void=True"
        )
    keys = [_key(colours[label], classes[label]) for label in labels]
    return _add_legend(target, [*keys, _key(arrays.VOID_COLOUR, "void")] if void else keys)


def show_predictions(
    images: Sequence[Any],
    truths: Sequence[Any],
    predictions: Sequence[Any],
    classes: Sequence[str],
    palette: ArrayLike,
    *,
    ignore_index: int = 255,
    width: float = 11.0,
    title: str | None = None,
) -> Figure:
    """Show photo, truth, prediction and errors, one image a row; `width` is in inches.

    Errors are violet, right pixels light, void pixels grey and not counted; above each error map
    stands the share of wrong pixels, and above the figure, unless `title` is given, their range.
    """
    colours, rows = arrays.as_palette(palette, classes), len(images)
    if not rows or len(truths) != rows or len(predictions) != rows:
        raise ValueError(
            f"found {rows} images, {len(truths)} truths and {len(predictions)} predictions, "
            "expected lists of equal length, with one at least"
        )
    height = rows * (width / 4 * np.shape(truths[0])[0] / np.shape(truths[0])[1] + 0.04)
    size = (width, height + 0.22 * rows + 0.95)  # a title over each row, one over all, the legend
    figure, axes = plt.subplots(rows, 4, figsize=size, squeeze=False, layout="compressed")
    plt.close(figure)
    panels: list[tuple[Axes, NDArray[Any]]] = []  # where a mask is shown
    shares = []
    for i, row in enumerate(axes):
        photo, truth = arrays.as_pair(images[i], truths[i], len(classes), ignore_index)
        prediction = arrays.as_mask(predictions[i], len(classes), ignore_index, name="prediction")
        errors, share = arrays.error_map(truth, prediction, ignore_index)
        shares.append(share)
        row[0].imshow(photo)
        for axis, mask in ((row[1], truth), (row[2], prediction)):
            axis.imshow(arrays.colorize(mask, colours, ignore_index), interpolation="nearest")
            panels.append((axis, mask))
        row[3].imshow(arrays.paint_errors(errors), interpolation="nearest")
        last = "no labelled pixel" if np.isnan(share) else f"errors: {100 * share:.1f} % of pixels"
        for axis, text in zip(row, ("photo", "truth", "prediction", last), strict=True):
            axis.set(xticks=[], yticks=[], frame_on=False)
            axis.set_title(text if i == 0 or axis is row[3] else "", fontsize=9)
    found = {int(label) for _, mask in panels for label in np.unique(mask)}
    keys = [_key(colours[label], classes[label]) for label in sorted(found - {ignore_index})]
    keys += [_key(arrays.VOID_COLOUR, "void")] if ignore_index in found else []
    right, wrong, void = arrays.ERROR_COLOURS
    keys += [_key(wrong, "wrong"), _key(right, "right")]
    keys += [_key(void, "not counted")] if ignore_index in found else []
    _add_legend(figure, keys)
    title = _error_finding(shares) if title is None else title
    figure.suptitle(title, fontsize=11, fontweight="bold")
    figure.draw_without_rendering()  # settles the layout, to which the names are fitted
    for axis, mask in panels:
        _write_names(axis, mask, classes, colours, ignore_index)
    return figure


def _error_finding(shares: Sequence[float]) -> str:
    """Say in one line how wrong the predictions are."""
    known = [100 * share for share in shares if not np.isnan(share)]
    if not known:
        return "No labelled pixel to compare with"
    if len(known) == 1 or f"{min(known):.1f}" == f"{max(known):.1f}":
        return f"{known[0]:.1f} % of the labelled pixels are wrong"
    return f"{min(known):.1f} to {max(known):.1f} % of the labelled pixels are wrong"


def _write_names(
    axis: Axes,
    mask: NDArray[Any],
    classes: Sequence[str],
    colours: NDArray[np.uint8],
    ignore_index: int,
) -> None:
    """Write class names as real text on a finished panel, fitted to the size it has now."""
    pixels_per_point = mask.shape[1] / (axis.get_window_extent().width * 72 / axis.figure.dpi)
    size = 8.0 * pixels_per_point  # of 8 points, or smaller where a name must
    for label in place_labels(mask, classes, ignore_index=ignore_index, font_size=size):
        x0, y0, x1, y1 = label.box
        height = label.font_size / pixels_per_point
        dark = tuple(colours[label.index] / 4 / 255)
        text = axis.text((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, label.text, color="white")
        text.set(fontsize=height, fontweight="bold", fontfamily="DejaVu Sans")
        text.set(ha="center", va="center_baseline", in_layout=False)
        text.set_path_effects([withStroke(linewidth=height / 4, foreground=dark)])


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
    per_row = max(1, int(float(target.bbox.width / target.dpi) / (0.5 + 0.085 * longest)))
    rows = max(1, -(-len(keys) // per_row))
    columns = max(1, -(-len(keys) // rows))
    return target.legend(loc="outside lower center", ncols=columns, **style)
