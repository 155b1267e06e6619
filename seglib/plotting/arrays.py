"""From labels to colours, and the checks that every picture begins with. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

VOID_COLOUR = (25, 23, 27)  # as in seglib.data.palettes: nearly black
RIGHT, WRONG, VOID = 0, 1, 2  # the values of an error map

Colour = Sequence[int]


def colorize(
    mask: ArrayLike, palette: ArrayLike, ignore_index: int = 255, void_colour: Colour = VOID_COLOUR
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


def as_image(
    image: Any, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> NDArray[np.uint8]:
    """Turn what a data set or a transform yields into uint8 (H, W, 3).

    Takes uint8 or float, (H, W, 3), (3, H, W), or grey (H, W); floats are undone with `mean` and
    `std` where these are given and must then lie in 0…1. Raises ValueError for anything else.
    """
    array = to_numpy(image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = np.moveaxis(array, 0, 2)  # (H, W, channels)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.size == 0:
        raise ValueError(
            f"found an image of shape {np.shape(image)}, expected (H, W, 3), (3, H, W) or (H, W); "
            "pass one image of a batch, as in images[0]"
        )
    if array.dtype != np.uint8:
        array = _undo_normalisation(array, mean, std)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _undo_normalisation(
    array: NDArray[Any], mean: Sequence[float] | None, std: Sequence[float] | None
) -> NDArray[np.uint8]:
    """Bring a float image (H, W, channels) back to uint8."""
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"found an image of type {array.dtype}, expected uint8, or floats in 0…1; "
            "convert it with image.astype('uint8')"
        )
    if (mean is None) != (std is None):
        raise ValueError("found only one of mean and std, expected both or neither; pass both")
    if mean is not None and std is not None:
        array = array * np.asarray(std) + np.asarray(mean)
    low, high = float(array.min()), float(array.max())
    if not (low >= -0.02 and high <= 1.02):  # NaN fails too
        raise ValueError(
            f"found float image values from {low:.3g} to {high:.3g}, expected 0 to 1; pass the "
            "mean= and std= that the transform normalised it with"
        )
    return np.round(array.clip(0, 1) * 255).astype(np.uint8)


def as_mask(
    mask: Any, num_classes: int | None = None, ignore_index: int = 255, name: str = "mask"
) -> NDArray[Any]:
    """Check a label map and return it as an integer array (H, W).

    With `num_classes`, every label has to be 0…num_classes-1 or `ignore_index`.
    """
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
            label = bad.flat[0]
            raise ValueError(
                f"found label {label} at {(bad == label).sum()} pixels of the {name}, expected "
                f"0–{num_classes - 1} ({num_classes} classes) or ignore_index {ignore_index}; "
                "remap the label, pass a longer palette, or pass ignore_index="
            )
    return labels


def as_palette(palette: ArrayLike, classes: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """Check a palette (C, 3) of 0…255, and that it has one colour for each of `classes`."""
    colours = to_numpy(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or not len(colours):
        raise ValueError(
            f"found a palette of shape {colours.shape}, expected (classes, 3); "
            "seglib.data.palettes.default_palette(n) makes one"
        )
    if not np.issubdtype(colours.dtype, np.integer) or colours.min() < 0 or colours.max() > 255:
        raise ValueError(
            f"found palette values {colours.min():.3g} to {colours.max():.3g} of type "
            f"{colours.dtype}, expected integers 0–255; multiply fractions by 255 and round"
        )
    if classes is not None and len(classes) != len(colours):
        raise ValueError(
            f"found {len(classes)} class names and {len(colours)} colours, expected as many; "
            "pass the data set's own .classes and .palette"
        )
    return colours.astype(np.uint8)


def as_pair(
    image: Any, mask: Any, num_classes: int, ignore_index: int, **normalisation: Any
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Check an image and its mask, and that they cover the same pixels."""
    photo, labels = as_image(image, **normalisation), as_mask(mask, num_classes, ignore_index)
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
