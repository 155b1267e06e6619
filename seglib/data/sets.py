"""The data sets of the course: Streets and Scans come with it, CamVid and Ultrasound are fetched."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglib.data.dataset import SegmentationDataset, Transform
from seglib.data.download import download as fetch
from seglib.data.palettes import (
    SCAN_CLASSES,
    SCAN_PALETTE,
    STREET_CLASSES,
    STREET_PALETTE,
    ULTRASOUND_CLASSES,
    ULTRASOUND_PALETTE,
)
from seglib.data.sources import SOURCES, shortfalls
from seglib.util import paths
from seglib.util.suggest import did_you_mean

Root = str | os.PathLike[str] | None


class NamedDataset(SegmentationDataset):
    """One split of a data set that is found by its name: in `root`, or where `paths` looks.

    Subclasses say what they are called, what a complete folder holds (`shortfalls`), and how one
    comes by it (`remedy`).
    """

    name: ClassVar[str]  # of the folder, and on the command line
    title: ClassVar[str]  # in messages
    splits: ClassVar[tuple[str, ...]]
    licence: ClassVar[str]
    attribution: ClassVar[str]
    _classes: ClassVar[tuple[str, ...]]
    _palette: ClassVar[NDArray[np.uint8]]
    _label_map: ClassVar[dict[int, int]] = {}

    def __init__(
        self,
        split: str,
        root: Root = None,
        transform: Transform | None = None,
        *,
        fetch: Callable[[], Path] | None = None,
        cache: bool | int | float | str | None = False,
    ) -> None:
        """`fetch` is called for the folder where there is none yet.

        Raises ValueError for an unknown split, FileNotFoundError where the set is not complete.
        """
        if split not in self.splits:
            hint = did_you_mean(split, self.splits)
            raise ValueError(f"{self.title} has no split {split!r}{hint}")
        self.split, self.root = split, self._locate(root, fetch)
        files = self._select(split)
        super().__init__(
            files,
            self._classes,
            palette=self._palette,
            groups=[self._group(image) for image, _ in files],
            label_map=self._label_map,
            transform=transform,
            cache=cache,
        )

    @classmethod
    def shortfalls(cls, folder: Path) -> list[str]:
        """What `folder` lacks to be the whole data set; empty if nothing: quick."""
        raise NotImplementedError

    @classmethod
    def remedy(cls) -> str:
        """How one comes by the data set: what follows "to mend it,"."""
        raise NotImplementedError

    def _select(self, split: str) -> list[tuple[Path, Path]]:
        """The pairs of the split, sorted by name."""
        raise NotImplementedError

    @staticmethod
    def _group(image: Path) -> str:
        """The group that an image belongs to."""
        raise NotImplementedError

    @classmethod
    def find(cls, root: Root = None) -> Path | None:
        """The folder of the complete data set in the first root that has it, or None."""
        return paths.find_dataset(cls.name, lambda folder: not cls.shortfalls(folder), root)

    @classmethod
    def _locate(cls, root: Root, fetch: Callable[[], Path] | None = None) -> Path:
        """The folder of the complete data set, fetched if need be; errors name the remedies."""
        folder = cls.find(root)
        if folder is None and fetch is not None:
            folder = fetch()
        if folder is not None:
            return folder
        looked = [base / cls.name for base in paths.data_roots(root)]
        if root is not None:
            looked.append(Path(root).expanduser())
        found = "\n".join(f"  {place}: {'; '.join(cls.shortfalls(place))}" for place in looked)
        raise FileNotFoundError(
            f"{cls.title} is complete in none of the places looked at:\n{found}\n"
            f"To mend it, {cls.remedy()}, pass root=… (the folder that holds {cls.name}/), or set "
            "SEGLIB_DATA."
        )


Rendered = tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]


class EmbeddedDataset(NamedDataset):
    """What the embedded data sets share: seeds, a table for each split, and how they are made.

    Attributes besides those of every data set: `seeds`, the seed of each image, and `table`, the
    split's table by column. `SEEDS` has the seeds of all splits, for whoever renders more to train
    on: leave these out.
    """

    SEEDS: ClassVar[Mapping[str, range]]
    SIZE: ClassVar[tuple[int, int]]  # height, width
    TABLE: ClassVar[str]  # file name of a split's table
    COLUMNS: ClassVar[Mapping[str, type]]  # of the table, "file" and "seed" first
    SUFFIX: ClassVar[str]  # of the images; masks are PNG

    splits = ("train", "val", "test")
    licence = "CC BY 4.0"

    def __init__(
        self,
        split: str,
        root: Root = None,
        transform: Transform | None = None,
        cache: bool | int | float | str | None = False,
    ) -> None:
        super().__init__(split, root, transform, cache=cache)
        self.seeds = tuple(self.SEEDS[split])

    @classmethod
    def render(cls, seed: int) -> Rendered:
        """Make the pair of `seed` anew: image, mask, and its further columns of the table."""
        raise NotImplementedError

    @classmethod
    def shortfalls(cls, folder: Path) -> list[str]:
        """What `folder` lacks to be the whole data set; empty if nothing: quick."""
        if not folder.is_dir():
            return ["no such folder"]
        return [
            f"{part}/ lacks {len(missing)} of {len(wanted)} files, such as {min(missing)}"
            for part, wanted in cls._parts()
            if (missing := wanted - {path.name for path in (folder / part).glob("*")})
        ]

    @classmethod
    def remedy(cls) -> str:
        """The command that renders the data set."""
        return (
            f"run `python data/render.py {cls.name}` in the course's folder (--out FOLDER writes "
            "elsewhere) or install the package again"
        )

    @classmethod
    def _parts(cls) -> Iterator[tuple[str, set[str]]]:
        """Every folder of the data set, and the names of the files that are needed there."""
        for split, seeds in cls.SEEDS.items():
            yield f"{split}/images", {f"{seed:04}{cls.SUFFIX}" for seed in seeds}
            yield f"{split}/masks", {f"{seed:04}.png" for seed in seeds}
            yield split, {cls.TABLE}

    def _select(self, split: str) -> list[tuple[Path, Path]]:
        folder = self.root / split
        self.table = read_table(folder / self.TABLE, self.COLUMNS, self.SEEDS[split], self.remedy())
        names = ((f"{seed:04}{self.SUFFIX}", f"{seed:04}.png") for seed in self.SEEDS[split])
        return [(folder / "images" / image, folder / "masks" / mask) for image, mask in names]

    @staticmethod
    def _group(image: Path) -> str:
        """Every scene is a group of its own; its name is the seed."""
        return image.stem


def read_table(
    path: Path, columns: Mapping[str, type], seeds: range, remedy: str
) -> dict[str, list[Any]]:
    """The columns of a split's table by name, each with a value for each of `seeds`, in order.

    Raises ValueError for other columns, other seeds, and values that are missing or not of their
    type.
    """
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            rows = list(reader)
        if list(reader.fieldnames or ()) != list(columns):
            raise ValueError(f"its columns are {', '.join(reader.fieldnames or ())}")
        for line, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise ValueError(f"line {line} has another number of values")
        table = {name: [kind(row[name]) for row in rows] for name, kind in columns.items()}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"cannot read {path} ({type(error).__name__}: {error}); expected the columns "
            f"{', '.join(columns)}; {remedy}"
        ) from None
    if table["seed"] != list(seeds):
        raise ValueError(
            f"{path} has {len(rows)} lines whose seeds are not {seeds.start} to {seeds.stop - 1} "
            f"in this order, as expected; {remedy}"
        )
    return table


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


class Streets(EmbeddedDataset):
    """360 street scenes by day, 144×192, with the 11 classes of CamVid.

    Splits: "train" (240), "val" (60) and "test" (60). Every scene is rendered, and its labels are
    exact; void, 255, is what no class describes. Other light, other sizes and as many scenes as
    you like: `seglib.data.RenderedStreets`.

    Attributes besides those of every data set: `seeds`.
    Raises ValueError for an unknown split, FileNotFoundError where the data are not complete.
    """

    name, title = "streets", "Streets"
    attribution = "Streets: rendered for Every Pixel"
    SEEDS = {"train": range(240), "val": range(1000, 1060), "test": range(2000, 2060)}  # noqa: RUF012
    SIZE = (144, 192)
    TABLE = "scenes.csv"
    COLUMNS = {"file": str, "seed": int, "light": str}  # noqa: RUF012
    SUFFIX = ".jpg"
    LIGHT = "day"
    _classes, _palette = STREET_CLASSES, STREET_PALETTE

    @classmethod
    def render(cls, seed: int) -> Rendered:
        """Make the pair of `seed` anew: image, mask, and its further columns of the table."""
        from seglib.data.render import render_scene

        scene = render_scene(seed, *cls.SIZE, light=cls.LIGHT)
        return scene.image, scene.semantic, {"light": cls.LIGHT}


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
