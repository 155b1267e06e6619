"""Real photographs, and masks of ours for two of them.

The pictures lie in scikit-image's wheel and are read there by their path, without a download.

The masks ("cat", "coffee"), whose vertices are in `photo_masks.json`, were drawn by hand on the
enlarged photo: within 1 px where an edge is sharp and within 2 px where it is blurred (fur, the
shaded edge of the saucer). Void are a belt along the outlines and what nobody can tell.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seglib.course.polygons import VOID, polygon_mask
from seglib.data.colours import default_palette
from seglib.data.reading import read_image
from seglib.util.suggest import did_you_mean

# name: the file, what it shows and whose it is
PHOTOS = {
    "cat": ("chelsea.png", "Chelsea the cat, by Stéfan van der Walt; CC0"),
    "coffee": ("coffee.png", "an espresso of Pikolo Espresso Bar, by Rachel Michetti; CC0"),
    "coins": ("coins.png", "Greek coins from Pompeii, Brooklyn Museum; no known restrictions"),
    "cell": ("cell.png", "a cell, by Müller et al., doi:10.1364/OE.26.010729; CC0"),
    "retina": ("retina.jpg", "a retina, by Mikael Häggström, doi:10.15347/wjm/2014.008; CC0"),
    "astronaut": ("astronaut.png", "Eileen Collins, NASA; public domain"),
}


class PhotoMask(NamedTuple):
    """Labels uint8 (H, W) with 255 for void, class names, palette uint8 (C, 3)."""

    mask: NDArray[np.uint8]
    classes: tuple[str, ...]
    palette: NDArray[np.uint8]


def photo(name: str) -> NDArray[np.uint8]:
    """Read one of `PHOTOS`: uint8 (H, W, 3), RGB; grey ones have three equal channels.

    Raises ValueError for an unknown name, and what says how to install scikit-image anew.
    """
    if name not in PHOTOS:
        raise ValueError(f"unknown photo {name!r}{did_you_mean(name, PHOTOS)}")
    # skimage.data takes a second to import, and with `pooch` installed it might download
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        install = "python -m pip install scikit-image"
        raise ImportError(f"the photos' scikit-image is not installed; install it: {install}")
    path = Path(package.submodule_search_locations[0]) / "data" / PHOTOS[name][0]
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}, where scikit-image keeps this photo; install its wheel again: "
            "python -m pip install --force-reinstall --no-deps scikit-image"
        )
    return read_image(path)


def photo_mask(name: str, border: float | None = None) -> PhotoMask:
    """Our mask of "cat" (background, cat, eye, nose) or "coffee" (background, saucer, cup, …).

    Pixels up to `border` px from another class are void: by default, as exact as the outlines are,
    2 px where cat meets background and 1 px elsewhere.
    """
    drawn = json.loads(Path(__file__).with_name("photo_masks.json").read_text(encoding="utf-8"))
    if name not in drawn:
        raise ValueError(f"found no mask of ours for {name!r}{did_you_mean(name, drawn)}")
    if border is not None and not 0 <= border <= 20:
        raise ValueError(f"found border {border}, expected 0 to 20 px, or None for ours")
    record = drawn[name]
    classes = tuple(record["classes"])
    labels = {"void": VOID} | {word: label for label, word in enumerate(classes)}
    polygons = [(labels[p["label"]], p["points"]) for p in record["polygons"]]
    mask = polygon_mask(polygons, record["height"], record["width"])
    widths = np.array(record["border"] if border is None else [border] * len(classes), float)
    return PhotoMask(_with_border(mask, widths), classes, default_palette(len(classes)))


def _with_border(mask: NDArray[np.uint8], widths: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Make void what is near another class: up to the smaller of both classes' widths (C,), px."""
    height, width = mask.shape
    reach = np.append(widths, np.zeros(256 - len(widths)))[mask]  # (H, W), 0 for void
    result = mask.copy()
    r = int(widths.max())
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            here = np.s_[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
            there = np.s_[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
            near = np.hypot(dy, dx) <= np.minimum(reach[here], reach[there])
            result[here][near & (mask[here] != mask[there])] = VOID
    return result


def redraw(picture: NDArray[Any], window: int, stride: int = 16, numbers: int = 8) -> NDArray[Any]:
    """A picture drawn from `numbers` for each patch: its principal components in this picture.

    Patches of `window`² pixels lie `stride` apart; where they overlap they are blended.
    """
    edge = (window - stride) // 2
    x = np.pad(picture / 255, ((edge, edge), (edge, edge), (0, 0)), mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(x, (window, window), axis=(0, 1))
    patches = views[::stride, ::stride]  # (rows, columns, 3, window, window)
    flat = patches.reshape(-1, 3 * window**2)
    centred = flat - flat.mean(0)
    main = np.linalg.eigh(centred @ centred.T)[1][:, -numbers:]  # their left singular vectors
    drawn = (main @ (main.T @ centred) + flat.mean(0)).reshape(patches.shape)
    weight = np.hanning(window + 2)[1:-1] if edge else np.ones(window)
    total, weights = np.zeros_like(x), np.zeros((*x.shape[:2], 1))
    for i, j in np.ndindex(*drawn.shape[:2]):
        here = np.s_[i * stride : i * stride + window, j * stride : j * stride + window]
        total[here] += drawn[i, j].transpose(1, 2, 0) * np.outer(weight, weight)[..., None]
        weights[here] += np.outer(weight, weight)[..., None]
    height, width = picture.shape[:2]
    return np.clip(total / weights, 0, 1)[edge : edge + height, edge : edge + width]
