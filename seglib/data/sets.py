"""The sets with a name: Streets and Scans come with the course, CamVid and Ultrasound are fetched.

What makes a folder the whole of one is in `sources`; scenes without files are in `rendered`.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglib.data import colours
from seglib.data.dataset import SegmentationDataset, Transform
from seglib.data.download import download as fetch
from seglib.data.pairing import pair_files, some
from seglib.data.sources import CAMVID, ULTRASOUND, Published, Rendering
from seglib.util import paths
from seglib.util.suggest import did_you_mean

Pair = tuple[Path, Path]
Rendered = tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]


class NamedDataset(SegmentationDataset):
    """One split of a data set that is found by its name: in `root`, or where `paths` looks.

    `download=True` fetches it where it is published and not here yet. Raises ValueError for an
    unknown split, FileNotFoundError where the set is not complete.
    """

    source: ClassVar[Rendering | Published]
    name: ClassVar[str]  # of the folder, and on the command line
    title: ClassVar[str]  # in messages
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    _classes: ClassVar[tuple[str, ...]]
    _palette: ClassVar[NDArray[np.uint8]]
    _label_map: ClassVar[dict[int, int]] = {}

    def __init_subclass__(cls) -> None:
        cls.name, cls.title = cls.source.title.lower(), cls.source.title

    def __init__(
        self,
        split: str,
        root: paths.Root = None,
        transform: Transform | None = None,
        *,
        download: bool = False,
        cache: float | str | None = None,
    ) -> None:
        if split not in self.splits:
            hint = did_you_mean(split, self.splits)
            raise ValueError(f"{self.title} has no split {split!r}{hint}")
        folder = self.find(root)
        if folder is None and download and isinstance(self.source, Published):
            folder = fetch(self.name, root)
        if folder is None:
            looked = [base / self.name for base in paths.data_roots(root)]
            looked += [] if root is None else [Path(root).expanduser()]
            found = [f"  {place}: {'; '.join(self.source.shortfalls(place))}\n" for place in looked]
            raise FileNotFoundError(
                f"{self.title} is complete in none of the places looked at:\n{''.join(found)}"
                f"To fix it, {self.remedy()}, pass root=… (the folder that holds {self.name}/), "
                "or set SEGLIB_DATA."
            )
        self.split, self.root = split, folder
        files = self._select(split)
        groups = [self._group(image) for image, _ in files]
        super().__init__(
            files, self._classes, 255, self._palette, groups, self._label_map, transform, cache
        )
        self._mask_colours = None  # the files hold labels, whatever their colours

    def _select(self, split: str) -> list[Pair]:
        """The pairs of the split, sorted by name."""
        raise NotImplementedError

    @staticmethod
    def _group(image: Path) -> str:
        """The group of an image: by default one of its own."""
        return image.stem

    @classmethod
    def find(cls, root: paths.Root = None) -> Path | None:
        """The folder of the complete data set in the first root that has it, or None."""
        return paths.find_dataset(cls.name, lambda folder: not cls.source.shortfalls(folder), root)

    @classmethod
    def remedy(cls) -> str:
        """How one comes by the data set, in the imperative."""
        return cls.source.remedy


class Streets(NamedDataset):
    """360 street scenes by day, 144×192, with the 11 classes of CamVid.

    Splits: "train" (240), "val" (60) and "test" (60). Every scene is rendered, and its labels are
    exact; void, 255, is what no class describes. Other light, other sizes and as many scenes as
    you like: `seglib.data.RenderedStreets`. A further attribute: `seeds`.
    """

    SEEDS: ClassVar = {"train": range(240), "val": range(1000, 1060), "test": range(2000, 2060)}
    source: ClassVar[Rendering] = Rendering("Streets", SEEDS, ".jpg", "scenes.csv")
    _classes, _palette = colours.STREET_CLASSES, colours.STREET_PALETTE

    def _select(self, split: str) -> list[Pair]:
        self.seeds = tuple(self.source.seeds[split])
        return self.source.pairs(self.root, split)

    @classmethod
    def render(cls, seed: int) -> Rendered:
        """Make the pair of `seed` anew: image, mask, and its further columns of the table."""
        from seglib.data.render import render_scene

        scene = render_scene(seed, light="day")
        return scene.image, scene.semantic, {"light": "day"}


class Scans(NamedDataset):
    """240 slices that look like ultrasound, 128×128: background, lesion, vessel.

    Splits: "train" (160), "val" (40) and "test" (40). A lesion takes 1 to 4 % of its slice, and
    one slice in five has none; fat and muscles are as dark. All slices are rendered: good to
    learn on, without any medical worth. Further attributes: `seeds`, and `spacing`, float64
    (N, 2): the mm per row and per column of each slice, for areas in mm².
    """

    SEEDS: ClassVar = {"train": range(160), "val": range(1000, 1040), "test": range(2000, 2040)}
    source: ClassVar[Rendering] = Rendering("Scans", SEEDS, ".png", "scans.csv")
    _classes, _palette = colours.SCAN_CLASSES, colours.SCAN_PALETTE

    def _select(self, split: str) -> list[Pair]:
        self.seeds = tuple(self.source.seeds[split])
        table = self.root / split / self.source.table
        try:
            numbers = np.loadtxt(table, delimiter=",", skiprows=1, usecols=(1, 2, 3), ndmin=2)
        except ValueError as error:
            raise ValueError(f"cannot read {table} ({error}); {self.remedy()}") from None
        if numbers[:, 0].tolist() != list(self.seeds):
            raise ValueError(f"{table} has not the seeds of {split!r} in order; {self.remedy()}")
        self.spacing = numbers[:, 1:]
        return self.source.pairs(self.root, split)

    @classmethod
    def render(cls, seed: int) -> Rendered:
        from seglib.data.render import render_scan

        scan = render_scan(seed)
        row, column = scan.spacing
        return scan.image, scan.semantic, {"mm_per_row": row, "mm_per_column": column}


class CamVid(NamedDataset):
    """CamVid: 701 frames of four drives through Cambridge, 360×480, 11 classes.

    Splits: "train" (367), "val" (101) and "test" (233) as published by the authors of SegNet;
    "dev" (101: the drive 0006R0) and "fit" (266: the rest of train). Choose on "dev", report on
    "test": "val" is a few seconds of a drive that is also in train, so it looks too good. Groups
    are drives; of test, only Seq05VD (171 frames) is new, the others go on where train ends.

    The files' label 11, void, becomes 255. CC BY-NC 4.0: download it, do not pass it on.
    """

    source, attribution = CAMVID, CAMVID.attribution
    splits = ("train", "val", "test", "dev", "fit")
    _classes, _palette = colours.STREET_CLASSES, colours.STREET_PALETTE
    _label_map: ClassVar = {11: 255}

    def _select(self, split: str) -> list[Pair]:
        folder = "train" if split in ("dev", "fit") else split
        files = _pairs(self.root / folder, self.root / f"{folder}annot")
        if folder == split:
            return files
        return [pair for pair in files if (self._group(pair[0]) == "0006R0") == (split == "dev")]

    @staticmethod
    def _group(image: Path) -> str:
        """The drive: 0006R0_f00930.png → 0006R0."""
        return image.stem.split("_")[0]


class Ultrasound(NamedDataset):
    """Ultrasound pictures of nerves and vessels: 244 images of three sizes, 3 classes.

    Splits: "trainval" (204) and "test" (40) as published, which leak: many frames occur twice, at
    other sizes, and 8 test pictures have a copy in trainval. Hence two splits of ours, without
    any copy of a test picture: "val" (32) has the file numbers 0100–0125 and their copies, "train"
    (163) the rest. Choose on "val", report on "test". A group is a set of copies (by correlation:
    0.58 and more; below 0.42 between groups); patients are not published.

    CC BY 4.0: name the authors (`attribution`) where you show pictures.
    """

    source, attribution = ULTRASOUND, ULTRASOUND.attribution
    splits = ("train", "val", "test", "trainval")
    _classes, _palette = colours.ULTRASOUND_CLASSES, colours.ULTRASOUND_PALETTE

    def _select(self, split: str) -> list[Pair]:
        test = _pairs(self.root / "test" / "images", self.root / "test" / "masks")
        if split == "test":
            return test
        files = _pairs(self.root / "images", self.root / "masks")
        if split == "trainval":
            return files
        tested = {self._group(image) for image, _ in test}
        held_out = {self._group(image) for image, _ in files if "0100" <= image.stem <= "0125"}
        kept = [pair for pair in files if self._group(pair[0]) not in tested]
        return [p for p in kept if (self._group(p[0]) in held_out) == (split == "val")]

    @staticmethod
    def _group(image: Path) -> str:
        return _FRAME.get(image.stem, image.stem)


# Numbers of pictures that show the same frame (or, for the last three, nearly the same).
_COPIES = (
    *((2, 47), (3, 50), (4, 54), (6, 56), (7, 61), (9, 65), (10, 67), (11, 68), (12, 73), (13, 80)),
    *((14, 83), (15, 87), (17, 91), (18, 99), (21, 104), (22, 105), (23, 109), (24, 112)),
    *((25, 116), (27, 118), (28, 120), (29, 125), (33, 140), (34, 143), (35, 144), (36, 146)),
    *((37, 147), (38, 151), (39, 153), (43, 77), (55, 58), (79, 81, 114), (113, 131), (127, 145)),
)
_FRAME = {f"{number:04}": f"{copies[0]:04}" for copies in _COPIES for number in copies}


def _pairs(images: Path, masks: Path) -> list[Pair]:
    """Images and masks of equal names, sorted; ValueError if a name has no partner."""
    pairs, problems = pair_files(images, masks)
    if problems:
        remedy = "delete the data set's folder and download it again"
        raise ValueError(f"in {images} and {masks} {some(problems)}; {remedy}")
    return pairs


DATASETS: dict[str, type[NamedDataset]] = {  # by the name on the command line
    dataset.name: dataset for dataset in (Streets, Scans, CamVid, Ultrasound)
}
