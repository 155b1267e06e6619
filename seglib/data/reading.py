"""From one file to one array: a photograph as RGB, a mask as labels.

Other readers go wrong without a word: a palette PNG that is converted to grey gives brightnesses
instead of labels. Here a mask is read as labels, or it is an error that says what to do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from seglib.data.colours import check_palette, labels_of_colours
from seglib.data.pairing import lossy_masks, some
from seglib.data.pictures import expanded, open_picture


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture as it is meant to be seen: uint8 (H, W, 3), RGB.

    The orientation that cameras note in EXIF is applied. Grey becomes three equal channels, 16
    bits are scaled to 8 (not clipped), and what is transparent is laid over black.

    Raises FileNotFoundError, and ValueError if the file is damaged, or holds fractions, 12 bits in
    16, more than 4 bands or several pages.
    """
    path = expanded(path)
    picture, deep, _ = open_picture(path)
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey, kind = np.asarray(picture), "floating-point " if picture.mode == "F" else ""
        if kind or grey.min() < 0 or grey.max() > 65535:
            raise ValueError(
                f"image {path} has {kind}values from {grey.min()} to {grey.max()}, but 8 or 16 "
                "bits (0–65535) are expected; scale it to 0–255 and save it as an 8-bit PNG"
            )
        _check_depth(path, int(grey.max()))
        grey = (grey.astype(np.int64) * 255 + 32767) // 65535  # 65535 → 255, rounded
        return np.stack([grey.astype(np.uint8)] * 3, axis=-1)
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        # Dropping the alpha channel instead would show colours that were never meant to be seen.
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    image = np.array(picture.convert("RGB"))
    if deep:
        _check_depth(path, 256 * int(image.max()) | 255)  # (the lower 8 bits are not known)
    return image


def _check_depth(path: Path, most: int) -> None:
    """ValueError for values of 16 bits that use 12 or fewer, as of many scanners and cameras."""
    if 0 < most < 4096:
        raise ValueError(
            f"image {path} has 16 bits a value, but none is above {most}: it holds 12 bits "
            "or fewer and would come out nearly black; scale it to 0–65535, or to 0–255 and 8 bits"
        )


def read_mask(
    path: str | Path,
    classes: Sequence[str] | None = None,
    ignore_index: int = 255,
    palette: ArrayLike | None = None,
    label_map: Mapping[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Read a mask as labels: uint8 (H, W).

    A palette PNG gives its indices; a grey mask of 1, 8, 16 or 32 bits its values. A coloured
    mask needs `palette` (K, 3), whose row k is the colour of label k, to be met exactly. Where
    there is one, the colours of palette PNGs decide as well, and greys that are in the palette.
    `label_map` then renames labels, all at once: {255: 1} or {11: 255}. With `classes`, every
    label must be below their number, or `ignore_index`.

    Raises FileNotFoundError, and ValueError for what cannot be labels: damage, fractions, JPEG, …
    """
    path = expanded(path)
    raw = labels = _labels_in_file(path, classes, ignore_index, palette)
    if label_map and max(map(abs, (*label_map, *label_map.values()))) >= 2**31:
        raise ValueError(f"found label_map = {dict(label_map)}, expected labels below 2^31")
    if label_map:
        labels = raw.astype(np.int64)
        for old, new in label_map.items():
            labels[raw == old] = new
    limit = 256 if classes is None else len(classes)
    # `labels >= limit` alone would promote uint8 on every pixel; the extremes usually suffice.
    if labels.size and (labels.min() < 0 or labels.max() >= limit):
        wrong = labels[((labels < 0) | (labels >= limit)) & (labels != ignore_index)]
        if wrong.size:
            raise ValueError(_out_of_range(path, wrong, classes, ignore_index))
    return labels.astype(np.uint8)


def _labels_in_file(
    path: Path, classes: Sequence[str] | None, void: int, palette: ArrayLike | None
) -> NDArray[Any]:
    """The labels (H, W) as the file has them, of any integer type."""
    picture, deep, lossy = open_picture(path)
    mode = picture.mode
    if lossy:  # (by its content: a name may lie)
        raise ValueError(lossy_masks([path], lossy))
    if mode == "F":
        raise ValueError(
            f"mask {path.name} has floating-point pixels, but labels are whole numbers; if they "
            "are, save them as uint8: Image.fromarray(labels.astype('uint8'))"
        )
    if mode in ("LA", "PA", "RGBA"):
        holes = np.count_nonzero(np.asarray(picture.getchannel("A")) != 255)
        if holes:
            raise ValueError(
                f"mask {path.name} is transparent at {holes} pixels, but a mask needs one label "
                "for each; save it without transparency"
            )
    grey, numbers = mode[0] in "1LI", None  # (LA and I;16 as well)
    if grey or mode in ("P", "PA"):
        channel = picture.getchannel(0) if mode in ("LA", "PA") else picture
        numbers = np.array(channel, np.uint8 if mode == "1" else None)
        if palette is None:
            return numbers
    elif deep or mode not in ("RGB", "RGBA"):
        found = "colours of 16 bits" if deep else f"{mode} colours"
        raise ValueError(f"mask {path.name} has {found}; save it as RGB with 8 bits")
    deeper = numbers if mode[0] == "I" else None
    rgb = np.asarray(picture.convert("RGB")) if deeper is None else np.stack([deeper] * 3, axis=-1)
    if palette is not None:
        colours = check_palette(palette)
        return labels_of_colours(path.name, rgb, colours, classes, void, numbers, grey)
    remedy = "pass palette=…, the (C, 3) colours of the classes in label order"
    if (rgb == rgb[..., :1]).all():
        remedy = (
            "its three equal channels may be labels or brightnesses; if labels, keep one: "
            "Image.fromarray(np.asarray(Image.open(path))[..., 0])"
        )
    raise ValueError(
        f"mask {path.name} is a colour picture, but one number per pixel is expected; {remedy}"
    )


def _out_of_range(
    path: Path, wrong: NDArray[Any], classes: Sequence[str] | None, ignore_index: int
) -> str:
    """The message for labels that no class has."""
    found, counts = np.unique(wrong, return_counts=True)
    more = f" (and labels {some(found[1:].tolist())})" if len(found) > 1 else ""
    known = "uint8 holds 0–255"
    if classes is not None:
        known = f"the data set has {len(classes)} classes (0–{len(classes) - 1})"
    return (
        f"mask {path.name} has label {found[0]} at {counts[0]} pixels{more}, but {known} and "
        f"ignore_index {ignore_index}; remap it (label_map={{{found[0]}: …}}) or pass classes=…"
    )
