"""Scans: rendered slices that look like ultrasound, with lesions and vessels."""

from __future__ import annotations

import numpy as np

from seglib.data.base import Transform
from seglib.data.embedded import EmbeddedDataset, Rendered
from seglib.data.named import Root
from seglib.data.palettes import SCAN_CLASSES, SCAN_PALETTE


class Scans(EmbeddedDataset):
    """240 slices that look like ultrasound, 128×128: background, lesion, vessel.

    Splits: "train" (160), "val" (40) and "test" (40). A lesion takes 1 to 4 % of its slice, and
    one slice in five has none; grey alone does not tell it, because lobules of fat and muscles
    are as dark. All slices are rendered (`seglib.data.render.scan`): good to learn on, without
    any medical worth.

    Attributes besides those of every data set: `seeds`, and `spacing`, float64 (N, 2): the mm per
    row and per column of each slice, which differ, so that areas in mm² can be had.

    Raises ValueError for an unknown split, FileNotFoundError where the data are not complete.
    """

    name, title = "scans", "Scans"
    attribution = "Scans: rendered for Every Pixel"
    SEEDS = {"train": range(160), "val": range(1000, 1040), "test": range(2000, 2040)}  # noqa: RUF012
    SIZE = (128, 128)
    TABLE = "scans.csv"
    COLUMNS = {"file": str, "seed": int, "mm_per_row": float, "mm_per_column": float}  # noqa: RUF012
    SUFFIX = ".png"
    _classes, _palette = SCAN_CLASSES, SCAN_PALETTE

    def __init__(
        self,
        split: str,
        root: Root = None,
        transform: Transform | None = None,
        cache: bool | int | float | str | None = False,
    ) -> None:
        super().__init__(split, root, transform, cache)
        self.spacing = np.array([self.table["mm_per_row"], self.table["mm_per_column"]]).T

    @classmethod
    def render(cls, seed: int) -> Rendered:
        """Make the pair of `seed` anew: image, mask, and its further columns of the table."""
        from seglib.data.render.scan import render_scan

        scan = render_scan(seed, *cls.SIZE)
        row, column = scan.spacing
        return scan.image, scan.semantic, {"mm_per_row": row, "mm_per_column": column}
