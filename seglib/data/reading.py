"""From one file to one array: a photograph as RGB, a mask as labels.

Other readers go wrong without a word: a palette PNG that is converted to grey gives brightnesses
instead of labels. Here a mask is read as labels, or it is an error that says what to do.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

from seglib.data.colours import check_palette
from seglib.data.pairing import jpeg_masks, some

# What Pillow raises for damaged files, depending on the format and on where the damage is.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError)


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture as it is meant to be seen: uint8 (H, W, 3), RGB.

    The orientation that cameras note in EXIF is applied. Grey becomes three equal channels, 16
    bits are scaled to 8 (not clipped), and what is transparent is laid over black.

    Raises FileNotFoundError, and ValueError if the file is damaged or holds fractions.
    """
    picture = _open(Path(path))
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey, kind = np.asarray(picture), "floating-point " if picture.mode == "F" else ""
        if kind or grey.min() < 0 or grey.max() > 65535:
            raise ValueError(
                f"image {path} has {kind}values from {grey.min()} to {grey.max()}, but 8 or 16 "
                "bits (0–65535) are expected; scale it to 0–255 and save it as an 8-bit PNG"
            )
        grey = (grey.astype(np.int64) * 255 + 32767) // 65535  # 65535 → 255, rounded
        return np.stack([grey.astype(np.uint8)] * 3, axis=-1)
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        # Dropping the alpha channel instead would show colours that were never meant to be seen.
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return np.array(picture.convert("RGB"))


def read_mask(
    path: str | Path,
    classes: Sequence[str] | None = None,
    ignore_index: int = 255,
    palette: ArrayLike | None = None,
    label_map: Mapping[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Read a mask as labels: uint8 (H, W).

    A palette PNG gives its indices; a grey mask of 1, 8, 16 or 32 bits its values. A coloured
    mask needs `palette` (K, 3), whose row k is the colour of label k, to be met exactly.
    `label_map` then renames labels, all at once: {255: 1} or {11: 255}. With `classes`, every
    label must be below their number, or `ignore_index`.

    Raises FileNotFoundError, and ValueError for what cannot be labels: damage, fractions, JPEG, …
    """
    path = Path(path)
    raw = labels = _labels_in_file(path, classes, palette)
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


def _open(path: Path) -> Image.Image:
    """Decode the whole file and turn it upright; every kind of damage is one ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; expected a picture there, check the path")
    try:
        with Image.open(path) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            upright.format = picture.format
            return upright
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large to be read safely: {error}; cut it up") from error
    except _DAMAGED as error:
        raise ValueError(
            f"cannot read {path} ({path.stat().st_size} bytes): {error or type(error).__name__}; "
            "expected a whole picture file, replace it or remove it with its partner"
        ) from error


def _labels_in_file(
    path: Path, classes: Sequence[str] | None, palette: ArrayLike | None
) -> NDArray[Any]:
    """The labels (H, W) as the file has them, of any integer type."""
    picture = _open(path)
    mode = picture.mode
    if picture.format == "JPEG":  # (by its content: a name may lie)
        raise ValueError(jpeg_masks([path]))
    if mode == "F":
        raise ValueError(
            f"mask {path.name} has floating-point pixels, but labels are whole numbers; if they "
            "are, save them as uint8: Image.fromarray(labels.astype('uint8'))"
        )
    if mode in ("1", "P", "L") or mode.startswith("I"):
        return np.array(picture, np.uint8 if mode == "1" else None)
    if mode in ("LA", "PA", "RGBA"):
        holes = np.count_nonzero(np.asarray(picture.getchannel("A")) != 255)
        if holes:
            raise ValueError(
                f"mask {path.name} is transparent at {holes} pixels, but a mask needs one label "
                "for each; save it without transparency"
            )
        if mode != "RGBA":
            return np.array(picture.getchannel(0))
    rgb = np.asarray(picture.convert("RGB"))
    if palette is not None:
        return _labels_of_colours(path, rgb, classes, check_palette(palette))
    remedy = "pass palette=…, the (C, 3) colours of the classes in label order"
    if (rgb == rgb[..., :1]).all():
        remedy = (
            "its three equal channels may be labels or brightnesses; if labels, keep one: "
            "Image.fromarray(np.asarray(Image.open(path))[..., 0])"
        )
    raise ValueError(
        f"mask {path.name} is a colour picture, but one number per pixel is expected; {remedy}"
    )


def _labels_of_colours(
    path: Path, rgb: NDArray[np.uint8], classes: Sequence[str] | None, colours: NDArray[np.uint8]
) -> NDArray[Any]:
    """Labels (H, W) of the colours (H, W, 3): row numbers of `colours`, met exactly."""
    one_number = np.array([1 << 16, 1 << 8, 1])  # for each colour
    codes, table = rgb.astype(np.int64) @ one_number, colours.astype(np.int64) @ one_number
    order = np.argsort(table)
    labels = order[np.searchsorted(table[order], codes).clip(max=len(table) - 1)]
    unknown = codes[table[labels] != codes]
    if unknown.size:
        found, counts = np.unique(unknown, return_counts=True)
        code = int(found[counts.argmax()])
        colour = (code >> 16, code >> 8 & 255, code & 255)
        nearest = int(((colours.astype(int) - colour) ** 2).sum(axis=1).argmin())
        name = f" {classes[nearest]}" if classes and nearest < len(classes) else ""
        raise ValueError(
            f"mask {path.name} has colour {colour} at {counts.max()} pixels, which is not in the "
            f"palette ({len(found)} such colours at {counts.sum()} pixels); the nearest is label "
            f"{nearest}{name} {tuple(colours[nearest].tolist())}; correct the palette, or save "
            "the mask again without JPEG, blur or smooth edges"
        )
    return labels


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
