"""Public data sets: CamVid (streets) and Ultrasound (nerves, vessels), fetched when asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from seglib.data.base import Transform
from seglib.data.download import download as fetch
from seglib.data.named import NamedDataset, Root
from seglib.data.palettes import (
    STREET_CLASSES,
    STREET_PALETTE,
    ULTRASOUND_CLASSES,
    ULTRASOUND_PALETTE,
)
from seglib.data.sources import SOURCES, shortfalls


class PublicDataset(NamedDataset):
    """What the public data sets share: a source from which `download=True` fetches them."""

    def __init__(
        self,
        split: str,
        root: Root = None,
        transform: Transform | None = None,
        download: bool = False,
        cache: bool | int | float | str | None = False,
    ) -> None:
        ask = partial(fetch, self.name, root) if download else None
        super().__init__(split, root, transform, fetch=ask, cache=cache)

    @classmethod
    def shortfalls(cls, folder: Path) -> list[str]:
        """What `folder` lacks to be the whole data set; empty if nothing: quick."""
        return shortfalls(folder, SOURCES[cls.name])

    @classmethod
    def remedy(cls) -> str:
        """The command that fetches the data set, its size and its licence."""
        megabytes = SOURCES[cls.name].total_bytes / 1e6
        return f"run `python -m seglib download {cls.name}` ({megabytes:.0f} MB, {cls.licence})"


class CamVid(PublicDataset):
    """CamVid: 701 frames of four drives through Cambridge, 360×480, 11 classes.

    Splits: "train" (367), "val" (101) and "test" (233) as published by the authors of SegNet;
    "dev" (101: the drive 0006R0) and "fit" (266: the rest of train). Groups are drives.

    Choose on "dev", report on "test". "val" is a few consecutive seconds of a drive that is also
    in train, so it looks too good, and 62 frames of "test" go on where a drive of train ends; only
    drive Seq05VD (171 frames) is new.

    The files' label 11, void, becomes 255. CC BY-NC 4.0: download it, do not pass it on.
    Raises ValueError for an unknown split, FileNotFoundError where the data are not complete.
    """

    name, title = "camvid", SOURCES["camvid"].title
    splits = ("train", "val", "test", "dev", "fit")
    licence = SOURCES["camvid"].licence
    attribution = SOURCES["camvid"].attribution
    _classes, _palette = STREET_CLASSES, STREET_PALETTE
    _label_map = {11: 255}  # noqa: RUF012

    def _select(self, split: str) -> list[tuple[Path, Path]]:
        folder = "train" if split in ("dev", "fit") else split
        files = _pairs(self.root / folder, self.root / f"{folder}annot")
        if split in ("dev", "fit"):
            dev = split == "dev"
            files = [pair for pair in files if (self._group(pair[0]) == "0006R0") == dev]
        return files

    @staticmethod
    def _group(image: Path) -> str:
        """The drive: 0006R0_f00930.png → 0006R0."""
        return image.stem.split("_")[0]


class Ultrasound(PublicDataset):
    """Ultrasound pictures of nerves and vessels: 244 images of three sizes, 3 classes.

    Splits: "trainval" (204) and "test" (40) as published. The authors name no validation images,
    and their split leaks: most of the pictures 0000–0039 (512×512, grey) are frames that occur
    a second time among 0040–0153 with other sizes, and 8 test pictures have such a copy in
    trainval. Hence two splits of ours: "val" (32) has the file numbers 0100–0125 and the copies of
    these, "train" (163) the rest of trainval, and neither has a copy of a test picture (9 images
    are in "trainval" only). Train on "train", choose on "val", report on "test".

    A group is a set of copies, named after the lowest number. The copies were found by comparing
    all pairs of pictures (correlation of the fine structure, aligned): 0.58 and more links two,
    no pair in different groups reaches 0.42. Which pictures are of one patient is not published:
    groups, and intervals made from them, know of copies only.

    CC BY 4.0: name the authors (`attribution`) where you show pictures.
    Raises ValueError for an unknown split, FileNotFoundError where the data are not complete.
    """

    name, title = "ultrasound", SOURCES["ultrasound"].title
    splits = ("train", "val", "test", "trainval")
    licence = SOURCES["ultrasound"].licence
    attribution = SOURCES["ultrasound"].attribution
    _classes, _palette = ULTRASOUND_CLASSES, ULTRASOUND_PALETTE

    def _select(self, split: str) -> list[tuple[Path, Path]]:
        test = _pairs(self.root / "test" / "images", self.root / "test" / "masks")
        if split == "test":
            return test
        files = _pairs(self.root / "images", self.root / "masks")
        if split == "trainval":
            return files
        tested = {self._group(image) for image, _ in test}
        held_out = {self._group(image) for image, _ in files if "0100" <= image.stem <= "0125"}
        return [
            (image, mask)
            for image, mask in files
            if (group := self._group(image)) not in tested
            and (group in held_out) == (split == "val")
        ]

    @staticmethod
    def _group(image: Path) -> str:
        """The lowest number that shows the same frame."""
        return _FRAME.get(image.stem, image.stem)


# Numbers of pictures that show the same frame (or, for the last three, nearly the same).
_COPIES = (
    *((2, 47), (3, 50), (4, 54), (6, 56), (7, 61), (9, 65), (10, 67), (11, 68), (12, 73)),
    *((13, 80), (14, 83), (15, 87), (17, 91), (18, 99), (21, 104), (22, 105), (23, 109)),
    *((24, 112), (25, 116), (27, 118), (28, 120), (29, 125), (33, 140), (34, 143), (35, 144)),
    *((36, 146), (37, 147), (38, 151), (39, 153), (43, 77), (55, 58)),
    *((79, 81, 114), (113, 131), (127, 145)),
)
_FRAME = {f"{number:04}": f"{copies[0]:04}" for copies in _COPIES for number in copies}


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Images and masks of equal names, sorted; FileNotFoundError if a name has no partner."""
    names = {path.name for path in images.glob("*.png")}
    alone = names ^ {path.name for path in masks.glob("*.png")}
    if alone:
        raise FileNotFoundError(
            f"{images} and {masks} should hold the same names, but {len(alone)} are in one only, "
            f"such as {min(alone)}; delete the data set's folder and download it again"
        )
    return [(images / name, masks / name) for name in sorted(names)]
