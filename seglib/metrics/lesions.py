"""How good a mask is to a clinician: distances in millimetres, lesions found, areas compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from seglib.metrics.scores import ratio

Floats = NDArray[np.float64]
Spacing = Sequence[float]


def hausdorff(
    prediction: Any, target: Any, spacing: Spacing, *, percentile: float = 95.0, ignore: Any = None
) -> float:
    """The Hausdorff distance in millimetres between the borders of two binary masks.

    Each border pixel has a distance to the other mask's border. Each direction gives a percentile
    (interpolated), and the larger one counts: 95 is HD95, as in MONAI, 100 the plain distance
    (Huttenlocher et al., 1993, doi:10.1109/34.232073). Tools that pool both directions differ.

    Masks are bool or 0/1, (H, W) or (D, H, W), NumPy or CPU tensors; `spacing` is mm per pixel
    along each axis; else ValueError. A mask's border is its pixels with a neighbour (of 4; of 6 in
    3-D) outside it or the picture. Where `ignore` is true (void), both masks are emptied first, so
    that they share the border of the cut. Both empty: NaN, nothing to measure, left out of means.
    One empty: `inf`, the worst value; report how many, and a median. (With a percentile MONAI 1.6
    has NaN there, too; Metrics Reloaded, arXiv:2206.01653, a worst value, and 0 for both empty.)

    >>> hausdorff(np.eye(1, 9, k=2), np.eye(1, 9, k=6), (1.0, 0.5))  # four pixels of half a mm
    2.0
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"found percentile={percentile}, expected above 0 and up to 100")
    both_ways = border_distances(prediction, target, spacing, ignore)
    if not all(map(len, both_ways)):
        return float("inf") if any(map(len, both_ways)) else float("nan")
    return max(float(np.percentile(away, percentile)) for away in both_ways)


def surface_dice(
    prediction: Any, target: Any, spacing: Spacing, *, tolerance: float, ignore: Any = None
) -> float:
    """The share of both borders that lies within `tolerance` millimetres of the other border.

    Normalized surface Dice (Nikolov et al., 2018, arXiv:1809.04430) by counts of border pixels, as
    MONAI's with use_subvoxels=False. A distance equal to the tolerance, up to rounding (10⁻⁶ of
    it), is within. Masks, `spacing`, `ignore` and errors as in `hausdorff`; the border that is
    shared around `ignore` flatters. One mask empty: 0. Both empty: NaN, as in MONAI.
    """
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"found tolerance={tolerance}, expected millimetres, 0 or more")
    away = np.concatenate(border_distances(prediction, target, spacing, ignore))
    return float(ratio((away <= tolerance * (1 + 1e-6)).sum(), len(away)))


@dataclass(frozen=True)
class LesionCounts:
    """What became of the lesions of any number of images; `sum(counts, LesionCounts())`."""

    lesions: int = 0
    found: int = 0
    false_positives: int = 0
    images: int = 0

    def __add__(self, other: LesionCounts) -> LesionCounts:
        return LesionCounts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def sensitivity(self) -> float:
        """Found lesions / lesions; NaN if there are none."""
        return float(ratio(self.found, self.lesions))

    @property
    def precision(self) -> float:
        """Found lesions / (found lesions + false positives); NaN if there are neither."""
        return float(ratio(self.found, self.found + self.false_positives))

    @property
    def false_positives_per_image(self) -> float:
        """False positives / images; NaN without images."""
        return float(ratio(self.false_positives, self.images))


def count_lesions(
    prediction: Any,
    target: Any,
    *,
    min_overlap: float = 0.0,
    ignore: Any = None,
    connectivity: int = 2,
) -> LesionCounts:
    """Counts the lesions of one image, those found, and false positives.

    A lesion is a connected component of the target (`connectivity` 2: eight neighbours, 1: four),
    found if predicted pixels cover more than the share `min_overlap` of it (0: any pixel). A
    component of the prediction without a pixel in a found lesion is a false positive. So one blob
    over two lesions finds both; two blobs on one lesion are no false positives; a blob on a lesion
    that stays unfound is one; what a blob covers beyond its lesion does not matter. Masks (H, W),
    `ignore` (under which a lesion may vanish or fall apart) and errors as in `hausdorff`.
    """
    if not 0 <= min_overlap < 1 or connectivity not in (1, 2):
        raise ValueError(f"found {min_overlap=}, {connectivity=}; expected 0 ≤ share < 1; 1 or 2")
    predicted, true = masks_of(prediction, target, ignore)
    neighbours = ndimage.generate_binary_structure(2, connectivity)
    (blobs, n_blobs), (lesions, n) = (ndimage.label(m, neighbours) for m in (predicted, true))
    size, covered = (np.bincount(lesions[m], minlength=n + 1)[1:] for m in (true, predicted))
    is_found = np.append(False, covered / size > min_overlap)  # label 0 is no lesion
    hits = np.unique(blobs[predicted & is_found[lesions]])
    return LesionCounts(n, int(is_found.sum()), n_blobs - len(hits), images=1)


class BlandAltman(NamedTuple):
    """Mean difference, limits of agreement, and what to plot: float64 (N,) each."""

    bias: float
    low: float
    high: float
    mean: Floats
    difference: Floats


def bland_altman(measured: Any, reference: Any) -> BlandAltman:
    """How well two measurements agree (Bland & Altman, 1986, doi:10.1016/S0140-6736(86)90837-8).

    Takes N ≥ 2 finite numbers each, of one unit; else ValueError. `difference` is measured −
    reference, `bias` its mean; `low` and `high`, bias ± 1.96 standard deviations (N − 1), hold
    about 95 % of the differences if they are normal and alike for every `mean`: plot them.

    >>> [round(value, 2) for value in bland_altman([11, 22, 33], [10, 20, 30])[:3]]
    [2.0, 0.04, 3.96]
    """
    mine, theirs = np.asarray(measured, np.float64), np.asarray(reference, np.float64)
    if mine.ndim != 1 or mine.shape != theirs.shape or len(mine) < 2:
        raise ValueError(f"found {mine.shape} and {theirs.shape}, expected numbers (N,), N ≥ 2")
    if bad := int((~np.isfinite([mine, theirs]).all(0)).sum()):
        raise ValueError(f"found {bad} pairs with NaN or ∞, expected numbers; leave them out")
    difference = mine - theirs
    bias, reach = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    return BlandAltman(bias, bias - reach, bias + reach, (mine + theirs) / 2, difference)


def masks_of(prediction: Any, target: Any, ignore: Any, most: int = 2) -> list[NDArray[np.bool_]]:
    """Both masks as bool, empty where `ignore` is true; ValueError if they are none or unlike."""
    void = np.zeros(np.shape(target), bool) if ignore is None else np.asarray(ignore)
    given = {"prediction": np.asarray(prediction), "target": np.asarray(target), "ignore": void}
    shapes = {name: mask.shape for name, mask in given.items()}
    if len(set(shapes.values())) > 1 or not 2 <= void.ndim <= most:
        expected = "(H, W)" if most == 2 else "(H, W) or (D, H, W)"
        raise ValueError(f"found {shapes}, expected equal shapes {expected}, image by image")
    for name, mask in given.items():
        if (bad := (mask != 0) & (mask != 1)).any():
            found = f"the {name} has value {mask[bad][0]} at {int(bad.sum())} pixels"
            raise ValueError(f"{found}, expected 0 and 1; make a mask: labels == 1, scores > 0.5")
    return [given[name].astype(bool) & (void == 0) for name in ("prediction", "target")]


def border_distances(prediction: Any, target: Any, spacing: Spacing, ignore: Any) -> list[Floats]:
    """From each border pixel of a mask to the other's border in mm, `inf` without; and back."""
    masks, step = masks_of(prediction, target, ignore, most=3), np.asarray(spacing, np.float64)
    if step.shape != ((axes := masks[0].ndim),) or not (np.isfinite(step) & (step > 0)).all():
        raise ValueError(f"found {spacing=}, expected {axes} positive numbers, mm for each axis")
    mine, theirs = (np.argwhere(mask & ~ndimage.binary_erosion(mask)) * step for mask in masks)
    return [KDTree(theirs).query(mine)[0], KDTree(mine).query(theirs)[0]]
