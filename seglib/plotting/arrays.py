"""From labels to colours, and the checks that every picture begins with. NumPy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

VOID_COLOUR = (25, 23, 27)  # as in seglib.data.colours: nearly black
RIGHT, WRONG, VOID = 0, 1, 2  # the values of an error map
# Violet is far from every colour of the course: red errors would look like pedestrians.
ERROR_COLOURS = np.array([(238, 238, 240), (120, 0, 255), (158, 158, 162)], np.uint8)


def colorize(
    mask: ArrayLike,
    palette: ArrayLike,
    ignore_index: int = 255,
    void_colour: Sequence[int] = VOID_COLOUR,
) -> NDArray[np.uint8]:
    """Paint every label in its colour: integer (H, W) -> uint8 (H, W, 3).

    `palette` is uint8 (C, 3); pixels with `ignore_index` get `void_colour`. Raises ValueError for
    labels that the palette has no colour for.

    >>> colorize([[1, 255]], [(0, 0, 0), (250, 140, 20)]).tolist()
    [[[250, 140, 20], [25, 23, 27]]]
    """
    colours = as_palette(palette)
    labels = as_mask(mask, len(colours), ignore_index)
    void = labels == ignore_index
    painted = colours[np.where(void, 0, labels)]  # (H, W, 3)
    painted[void] = void_colour
    return painted


def error_map(
    truth: ArrayLike, prediction: ArrayLike, ignore_index: int = 255
) -> tuple[NDArray[np.uint8], float]:
    """Compare two label maps (H, W): uint8 map of 0 right, 1 wrong, 2 void, and the wrong share.

    Void is where the *truth* is void; the share counts the other pixels only and is NaN where
    there are none. Raises ValueError when the sizes differ.

    >>> map, share = error_map([[0, 1, 255, 1]], [[0, 0, 0, 1]])
    >>> map.tolist(), round(share, 3)
    ([[0, 1, 2, 0]], 0.333)
    """
    expected, found = as_mask(truth, name="truth"), as_mask(prediction, name="prediction")
    if expected.shape != found.shape:
        raise ValueError(
            f"found a prediction of {size(found)} and a truth of {size(expected)}, expected equal "
            "sizes; predict at the photo's own size, or resize the logits before the argmax"
        )
    errors = np.where(expected != found, WRONG, RIGHT).astype(np.uint8)
    errors[expected == ignore_index] = VOID
    counted = int((errors != VOID).sum())
    return errors, float((errors == WRONG).sum() / counted) if counted else float("nan")


def paint_errors(errors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour an error map: (H, W) of 0, 1, 2 -> uint8 (H, W, 3)."""
    return ERROR_COLOURS[errors]


def as_mask(
    mask: Any, num_classes: int | None = None, ignore_index: int = 255, name: str = "mask"
) -> NDArray[Any]:
    """A label map as integers (H, W), checked; with `num_classes` also its labels."""
    labels = to_numpy(mask)
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    if labels.ndim != 2 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"found a {name} of shape {labels.shape} and type {labels.dtype}, expected integer "
            "labels (H, W); of logits (C, H, W) pass logits.argmax(0)"
        )
    if num_classes is not None:
        bad = labels[((labels < 0) | (labels >= num_classes)) & (labels != ignore_index)]
        if bad.size:
            raise ValueError(
                f"found label {bad[0]} at {(bad == bad[0]).sum()} pixels of the {name}, expected "
                f"0–{num_classes - 1} ({num_classes} classes) or ignore_index {ignore_index}; "
                "remap the label, pass a longer palette, or pass ignore_index="
            )
    return labels


def as_palette(palette: ArrayLike, classes: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """Check a palette (C, 3) of 0…255, and that it has one colour for each of `classes`."""
    colours = to_numpy(palette)
    whole = np.issubdtype(colours.dtype, np.integer)
    if colours.ndim != 2 or colours.shape[1] != 3 or not len(colours) or not whole:
        raise ValueError(
            f"found a palette of shape {colours.shape} and type {colours.dtype}, expected integers "
            "0–255 (classes, 3); seglib.data.colours.default_palette(n) makes one"
        )
    if colours.min() < 0 or colours.max() > 255:
        raise ValueError(
            f"found palette values {colours.min()} to {colours.max()}, expected integers 0–255"
        )
    if classes is not None and len(classes) != len(colours):
        raise ValueError(
            f"found {len(classes)} class names and {len(colours)} colours, expected as many; "
            "pass the data set's own .classes and .palette"
        )
    return colours.astype(np.uint8)


def as_pair(
    image: Any, mask: Any, num_classes: int, ignore_index: int
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Check an image, uint8 (H, W, 3), and its mask, and that they cover the same pixels."""
    photo = np.ascontiguousarray(to_numpy(image))
    labels = as_mask(mask, num_classes, ignore_index)
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(
            f"found an image of shape {photo.shape} and type {photo.dtype}, expected uint8 "
            "(H, W, 3) RGB; show the photo as it was before it was normalised, ds.read(i)[0]"
        )
    if photo.shape[:2] != labels.shape:
        raise ValueError(
            f"found an image of {size(photo)} and a mask of {size(labels)}, expected equal sizes; "
            "resize both in one call of the transform"
        )
    return photo, labels


def to_numpy(array: Any) -> NDArray[Any]:
    """View a tensor on any device, or anything like an array, as NumPy."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def size(array: NDArray[Any]) -> str:
    """Height × width, for messages."""
    return f"{array.shape[0]}×{array.shape[1]}"
