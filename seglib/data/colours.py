"""Names of classes and one colour for each, the same in every lesson.

Masks that are pictures of such colours are read in `reading`, and drawn in `seglib.plotting`.

The street colours come from a search. It started from a blue sky, green trees and so on, and moved
them until every pair was far enough apart by CIEDE2000, void and the violet of errors included: by
at least 19 as most people see them, and by 12.6 for readers without red or green cones (simulated
as by Machado and others, 2009) or without blue ones (Brettel and others, 1997). 1 is just visible.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_STREET = {
    "Sky": (146, 204, 246),  # light blue
    "Building": (130, 91, 85),  # brown
    "Pole": (255, 237, 74),  # yellow
    "Road": (111, 99, 139),  # violet-grey
    "Pavement": (206, 203, 204),  # light grey
    "Tree": (79, 145, 77),  # leaf green
    "SignSymbol": (255, 146, 6),  # orange
    "Fence": (194, 176, 123),  # khaki
    "Car": (0, 44, 146),  # dark blue
    "Pedestrian": (187, 0, 16),  # red
    "Bicyclist": (195, 108, 198),  # orchid
}
STREET_CLASSES, STREET_PALETTE = tuple(_STREET), np.array([*_STREET.values()], np.uint8)
_SLATE, _YELLOW, _TURQUOISE, _RED = (106, 125, 154), (255, 214, 64), (64, 224, 190), (214, 40, 70)
ULTRASOUND_CLASSES = ("background", "nerve", "vessel")
ULTRASOUND_PALETTE = np.array([_SLATE, _YELLOW, _RED], np.uint8)  # anatomists draw nerves yellow
SCAN_CLASSES = ("background", "lesion", "vessel")
SCAN_PALETTE = np.array([_SLATE, _TURQUOISE, _RED], np.uint8)  # far from the red and all greys
VOID_COLOUR = (25, 23, 27)  # nearly black: pixels that nobody labelled

_COLOUR = re.compile(  # "R G B name", "R,G,B", or CVAT's "name:R,G,B::", but not four numbers
    r"((?P<before>[^:]+):)?(?P<R>\d+)[\s,;]+(?P<G>\d+)[\s,;]+(?P<B>\d+)"
    r"(?!\d|[\s,;]+\d+([\s,;]|$))[\s,;:]*(?P<after>.*)"
)
_FIRST_COLOURS = (  # after Okabe and Ito (2008), chosen to survive colour blindness
    *((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167)),
    *((240, 228, 66), (86, 180, 233), (178, 52, 22)),
)


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple; ValueError unless there are 1 to 255, each of its own."""
    if isinstance(classes, str):
        raise ValueError(f"classes is the string {classes!r}; pass a list of names: [{classes!r}]")
    names = tuple(classes)
    if not 1 <= len(names) <= 255:
        raise ValueError(f"found {len(names)} classes, expected 1 to 255; merge some (label_map)")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"class {twice[0]!r} is listed twice; every class needs its own name")
    return names


def check_palette(palette: ArrayLike) -> NDArray[np.uint8]:
    """The palette as uint8 (K, 3); ValueError for another shape, range, or a colour twice."""
    try:
        colours = np.asarray(palette)
    except ValueError:  # rows of several lengths
        raise ValueError(
            "palette has rows of several lengths; expected three numbers: R, G, B"
        ) from None
    if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) == 0:
        raise ValueError(f"palette has shape {colours.shape}, but (C, 3) is expected: RGB rows")
    if colours.dtype.kind not in "iu" or colours.min() < 0 or colours.max() > 255:
        raise ValueError("palette must hold whole numbers 0–255; multiply fractions by 255")
    twice = [colour for colour, n in Counter(map(tuple, colours.tolist())).items() if n > 1]
    if twice:
        raise ValueError(f"palette has colour {twice[0]} twice; every label needs its own colour")
    return colours.astype(np.uint8)


def labels_of_colours(
    name: str,
    rgb: NDArray[Any],
    palette: NDArray[np.uint8],
    classes: Sequence[str] | None = None,
    void: int = 255,
    numbers: NDArray[Any] | None = None,
    grey: bool = False,
) -> NDArray[Any]:
    """Labels (H, W) of the mask `name`: for each colour (H, W, 3) the equal row of the palette.

    An indexed or grey mask has `numbers` (H, W), too. They are the labels only where no colour
    says otherwise: greys that are not in the palette, and the index of void.
    """
    one_number = np.array([1 << 16, 1 << 8, 1])  # for each colour
    codes, table = rgb.astype(np.int64) @ one_number, palette.astype(np.int64) @ one_number
    order = np.argsort(table)
    labels = order[np.searchsorted(table[order], codes).clip(max=len(table) - 1)]
    unknown, remedy = table[labels] != codes, "correct the palette"
    if numbers is not None:
        if not unknown.any() and len(np.unique(numbers)) == len(np.unique(labels)):
            return labels
        fits = np.where(unknown, grey | (numbers == void), numbers == labels)
        if fits.all():
            return numbers
        remedy += ", or leave it out if the numbers in the file are its labels"
        if (fits | ~unknown).all():
            number, label = numbers[~fits][0], labels[~fits][0]
            raise ValueError(
                f"mask {name} has the number {number} where it has the colour of label {label} "
                f"{tuple(palette[label].tolist())}, so that one of them is wrong; {remedy}"
            )
        unknown &= ~fits
    if unknown.any():
        found, counts = np.unique(rgb[unknown], axis=0, return_counts=True)
        colour = found[counts.argmax()].astype(int)
        nearest = int(((palette.astype(int) - colour) ** 2).sum(axis=1).argmin())
        label = f"{nearest} {classes[nearest]}" if classes and nearest < len(classes) else nearest
        raise ValueError(
            f"mask {name} has colour {tuple(colour.tolist())} at {counts.max()} pixels, which is "
            f"not in the palette ({len(found)} such colours at {counts.sum()} pixels); the nearest "
            f"is label {label} {tuple(palette[nearest].tolist())}; {remedy}, or save the mask "
            "again without JPEG, blur or smooth edges"
        )
    return labels


def read_palette(path: str | Path | None, classes: Sequence[str] = ()) -> list[list[int]] | None:
    """The colours of labels 0, 1, … from a text file; None without a path.

    A line is "R G B", "R,G,B" or, from CVAT, "name:R,G,B::"; a name may follow, # is a comment.
    Raises ValueError for other lines, and where names are those of `classes` in another order.
    """
    if not path:
        return None
    palette: list[list[int]] = []
    try:
        text = Path(os.path.expanduser(path)).read_text(encoding="utf-8-sig")  # (with or without)
        for line in (line.strip() for line in text.splitlines()):
            if not line or line.startswith("#"):
                continue
            parts = _COLOUR.fullmatch(line)
            if parts is None:
                raise ValueError(f"found {line!r}")
            name, label = parts["before"] or parts["after"], len(palette)
            if name in classes and name not in classes[label : label + 1]:
                where = [*classes].index(name)
                raise ValueError(f"{name!r} is label {label} there, but {where} in the classes")
            palette.append([int(parts[colour]) for colour in "RGB"])
        if not palette:
            raise ValueError("it has none")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot read colours from {path} ({error}); expected lines like 128 64 128 road, in "
            "the order of the classes"
        ) from None
    return palette


def default_palette(n: int) -> NDArray[np.uint8]:
    """Choose `n` distinct colours, the first ones well apart: uint8 (n, 3).

    Seven fixed colours, then always the colour farthest in CIELAB from all chosen before, from
    white and from `VOID_COLOUR`. No randomness: `default_palette(5)` begins `default_palette(9)`.
    Raises ValueError unless 1 <= n <= 255 (label 255 is void).

    >>> default_palette(2).tolist()
    [[0, 114, 178], [230, 159, 0]]
    """
    if not 1 <= n <= 255:
        raise ValueError(f"found n = {n}, expected 1 to 255: pass the number of classes")
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    candidates_lab = _lab(candidates)  # (4096, 3)
    chosen = [np.array(colour, np.uint8) for colour in _FIRST_COLOURS]
    taken = _lab(np.array([(255, 255, 255), VOID_COLOUR, *_FIRST_COLOURS], np.uint8))
    gap = np.linalg.norm(candidates_lab[:, None] - taken, axis=2).min(axis=1)  # (4096,)
    while len(chosen) < n:
        farthest = int(gap.argmax())
        chosen.append(candidates[farthest])
        gap = np.minimum(gap, np.linalg.norm(candidates_lab - candidates_lab[farthest], axis=1))
    return np.stack(chosen[:n])


def _lab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert sRGB (..., 3) uint8 to CIELAB under daylight (D65), float64 of the same shape."""
    rgb = colours / 255.0
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    rows = (0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)
    to_xyz = np.array(rows)
    t = linear @ to_xyz.T / to_xyz.sum(axis=1)  # white becomes 1, 1, 1
    x, y, z = np.moveaxis(np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
