"""What lesson 1 draws and measures: rows of pictures, moved outlines, five answers to one scene."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from seglib.data import Streets
from seglib.data.colours import STREET_CLASSES, STREET_PALETTE
from seglib.metrics import ConfusionMatrix, Scores
from seglib.plotting import VOID_COLOUR, colorize, legend
from seglib.plotting.arrays import ERROR_COLOURS, RIGHT, WRONG
from seglib.transforms import cut_window, resize_image, resize_mask

COLOURS = {"cat": "#0072b2", "eyes": "#009e73", "nose": "#d55e00"}
VOID, DPI = 255, 96  # at 96 dots an inch, 10 pt are 10 pt on most screens


def show_row(
    panels: Mapping[str, Any],
    title: str = "",
    width: float = 9.6,
    columns: int = 0,
    key: bool = False,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Show {title: picture} side by side, in rows of `columns`; masks are never blurred.

    `key` adds the colours of the street classes below, and `more` others: {name: colour}.
    """
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    shape = np.shape(next(iter(panels.values())))
    height = (
        rows * (width / columns * shape[0] / shape[1] + 0.3)
        + (0.4 if title else 0)
        + (0.6 if key else 0)
    )
    size: dict[str, Any] = {"figsize": (width, height), "dpi": DPI}
    figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained", **size)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, picture) in zip(axes.flat, panels.items(), strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(name, fontsize=10)
    figure.suptitle(title, fontsize=11, fontweight="bold")
    if key:
        names, colours = [*STREET_CLASSES, *more], [*STREET_PALETTE, *more.values()]
        legend(figure, names, colours, void=True)
    plt.show()


def show_difference(masks: Mapping[str, Any], title: str) -> None:
    """Show two street masks {name: mask} and where their labels differ; void is black in all."""
    one, other = masks.values()
    picture = ERROR_COLOURS[np.where(one == other, RIGHT, WRONG)]
    picture[(one == VOID) | (other == VOID)] = VOID_COLOUR
    panels = {name: colorize(mask, STREET_PALETTE) for name, mask in masks.items()}
    more = {"labels differ": ERROR_COLOURS[WRONG]}
    show_row(panels | {"where they differ": picture}, title, key=True, more=more)


def show_outline(photo: Any, outline: Any, mine: Any = None, ours: Any = None) -> None:
    """Show an outline of (x, y) corners on its photo, and where its mask differs from ours."""
    both = mine is not None
    size: dict[str, Any] = {"figsize": (9, 3.2) if both else (5.0, 3.4), "dpi": DPI}
    _, axes = plt.subplots(1, 1 + both, squeeze=False, layout="constrained", **size)
    left, right = axes[0, 0], axes[0, -1]
    left.imshow(photo)
    left.plot(*zip(*outline, outline[0], strict=True), "o-", color="yellow", ms=4, lw=1.5)
    left.set(xlabel="x in pixels", ylabel="y in pixels", xticks=range(0, 451, 50), ylim=(300, 0))
    left.grid(alpha=0.35)
    if not both:
        plt.show()
        return
    left.set_title("your outline", fontsize=10)
    picture = np.array([(238, 238, 240), (150, 150, 155)], np.uint8)[np.minimum(ours, 1)]
    picture[mine != ours], picture[ours == VOID] = ERROR_COLOURS[WRONG], VOID_COLOUR
    right.imshow(picture, interpolation="nearest")
    right.set_title("our cat (grey), void (black), where you differ (violet)", fontsize=10)
    right.axis("off")
    plt.show()


def plot_moved(photo: Any, regions: Mapping[str, Any], curves: Any, pixels: int) -> None:
    """Draw the outlines of {name: mask}, moved, on the photo, and curves {name: {pixels: IoU}}."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), dpi=DPI, layout="constrained")
    left.imshow(photo)
    left.axis("off")
    for name, region in regions.items():
        left.contour(
            move_outline(region, pixels), levels=[0.5], colors=[COLOURS[name]], linewidths=2
        )
        moves, values = zip(*sorted(curves[name].items()), strict=True)
        right.plot(moves, values, color=COLOURS[name], linewidth=1.5)
        right.plot(pixels, curves[name][pixels], "o", color=COLOURS[name])
        end = {"textcoords": "offset points", "va": "center", "color": COLOURS[name]}
        right.annotate(name, (moves[-1], values[-1]), (6, 0), fontsize=10, **end)
    right.axvline(pixels, color="0.6", linewidth=1, zorder=0)
    right.set(xlabel="pixels that the outline moves outwards", ylabel="IoU", ylim=(0, 1.03))
    right.set_xlim(min(moves) - 0.3, max(moves) + 1.5)
    right.grid(alpha=0.3)
    plt.show()


def move_outline(region: Any, pixels: int) -> NDArray[Any]:
    """The region (0 and 1) with its outline `pixels` further out; negative: further in."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(pixels) + 1,) * 2)
    return np.asarray((cv2.dilate if pixels > 0 else cv2.erode)(region, disc))


def boxes(semantic: Any, instance: Any, smallest: int = 1) -> list[tuple[int, ...]]:
    """Of each thing: number, class, left, top, right, bottom, its own pixels."""
    found = []
    for number in range(1, int(instance.max()) + 1):
        rows, columns = np.nonzero(instance == number)
        if len(rows) >= smallest:
            ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            found.append((number, int(semantic[rows[0], columns[0]]), *map(int, ends), len(rows)))
    return found


def five_answers(scene: Any, close_up: int) -> None:
    """Draw a scene's names, boxes and three kinds of masks; then class `close_up`, enlarged."""
    semantic, instance = scene.semantic, scene.instance
    shade = np.random.default_rng(2).uniform(0.6, 1.75, instance.max() + 1)[instance][..., None]
    flat, thing = colorize(semantic, STREET_PALETTE), instance[..., None] > 0
    white = np.clip(shade - 1, 0, 1)  # a shade above 1 is mixed with white
    numbered = (flat * np.minimum(shade, 1) * (1 - white) + 255 * white).astype(np.uint8)
    instances, panoptic = np.where(thing, numbered, 225), np.where(thing, numbered, flat)
    rows, columns = np.nonzero(semantic == close_up)
    part = np.s_[rows.min() - 2 : rows.max() + 3, columns.min() - 2 : columns.max() + 3]
    panels = {
        "classification: names, no place": np.full_like(flat, 240),
        "detection: a box for each thing": scene.image,
        "semantic: a class for each pixel": flat,
        "instance: a mask for each thing": instances,
        "panoptic: both": panoptic,
        f"instance, enlarged: {STREET_CLASSES[close_up]}": instances[part],
    }
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 6.1), dpi=DPI, layout="constrained")
    for axis, (title, picture) in zip(axes.flat, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    names = [name for label, name in enumerate(STREET_CLASSES) if (semantic == label).any()]
    axes[0, 0].text(160, 120, "\n".join(names), ha="center", va="center", fontsize=10)
    for _, label, left, top, right, bottom, _ in boxes(semantic, instance):
        colour = {"edgecolor": STREET_PALETTE[label] / 255, "fill": False, "linewidth": 1.6}
        axes[0, 1].add_patch(Rectangle((left, top), right - left, bottom - top, **colour))
    legend(figure, STREET_CLASSES, STREET_PALETTE, void=True)
    plt.show()


def area_majority(mask: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Shrink a street mask: each output pixel gets the label that covers most of its area."""
    values = np.array([*range(len(STREET_CLASSES)), VOID], np.uint8)
    maps = [(mask == value).astype(np.float32) for value in values]
    cover = [cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA) for x in maps]
    return np.asarray(values[np.argmax(cover, axis=0)])


def score_masks(predictions: Iterable[Any], truths: Iterable[Any]) -> Scores:
    """Scores of street masks, pooled over all pairs; void in either mask does not count."""
    matrix = ConfusionMatrix(len(STREET_CLASSES))
    for prediction, truth in zip(predictions, truths, strict=True):
        void = prediction == VOID
        matrix.update(np.where(void, 0, prediction), np.where(void, VOID, truth))
    return matrix.compute(STREET_CLASSES)


def six_pairs() -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Six augmented scenes (image, mask), 120×160; in the fourth, the mask is 5 px off."""
    streets, pairs = Streets("val"), []
    places = {1: (12, 16), 4: (12, 16), 10: (-12, 20), 3: (10, 20), 17: (4, 4), 8: (20, 30)}
    for scene, (top, left) in places.items():
        image, mask = streets.read(scene)
        if scene in (1, 8):
            image, mask = image[:, ::-1], mask[:, ::-1]
        if scene == 4:
            image = np.clip(image * [1.25, 1.0, 0.7] + [20, 5, 0], 0, 255).astype(np.uint8)
        off = 5 * (scene == 3)
        pairs.append(
            (
                cut_window(image, (top, left, 120, 160), 0),
                cut_window(mask, (top, left + off, 120, 160), VOID),
            )
        )
    return pairs


def disc_offset(shrink: Callable[[Any], Any], height: int = 96, width: int = 128) -> NDArray[Any]:
    """How far (down, right) `shrink` moves masks of discs, in output pixels: the mean of twenty.

    A disc on 360×480 pixels is averaged over each output pixel, as a photo is, and its mask is
    shrunk; the offset is the difference of the two centres.
    """
    rng, offsets = np.random.default_rng(0), []
    y, x = np.mgrid[:360, :480]
    for _ in range(20):
        inside = np.hypot(y - rng.uniform(80, 280), x - rng.uniform(80, 400)) < rng.uniform(30, 50)
        photo = cv2.resize(inside * np.float32(1), (width, height), interpolation=cv2.INTER_AREA)
        offsets.append(_centre(shrink(inside.astype(np.uint8))) - _centre(photo))
    return np.mean(offsets, axis=0) + 0.0


def _centre(weights: Any) -> NDArray[Any]:
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(y * weights).sum(), (x * weights).sum()]) / weights.sum()


def small_arrays(dataset: Any, height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """All images (N, height, width, 3) and masks (N, height, width) of a data set, made smaller."""
    pairs = [dataset.read(i) for i in range(len(dataset))]
    images = np.stack([resize_image(image, height, width) for image, _ in pairs])
    return images, np.stack([resize_mask(mask, height, width) for _, mask in pairs])
