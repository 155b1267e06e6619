"""Public sets that torchvision reads as well, behind our interface: VOC, Pet, Cityscapes and SBD.

Their files are read in the layout in which they are published; labels are the files' numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglib.data.layouts import CITYSCAPES_IDS
from seglib.data.pairing import some
from seglib.data.sets import NamedDataset, Pair
from seglib.util import paths

_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
# Label k's bits 0, 1, 2 are the highest of R, G, B, its bits 3, 4, 5 the next ones
_VOC_COLOURS = np.array(
    [[128 * (k >> c & 1) + 64 * (k >> c + 3 & 1) for c in range(3)] for k in range(21)], np.uint8
)
_CITY = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)
_CITY_COLOURS = (
    "804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 "
    "4682b4 dc143c ff0000 00008e 000046 003c64 005064 0000e6 770b20"
)


@dataclass(frozen=True)
class Elsewhere:
    """A set that its authors publish; `parts` is what its folder must hold."""

    title: str
    parts: tuple[str, ...]
    home: str
    inside: tuple[str, ...] = ()  # where archives put that folder

    @property
    def remedy(self) -> str:
        return f"fetch it from {self.home} and unpack it"

    def shortfalls(self, folder: Path) -> list[str]:
        """What `folder` lacks of the set."""
        missing = [part for part in self.parts if not (folder / part).exists()]
        return [f"lacks {some(missing)}"] if missing else []


class ForeignDataset(NamedDataset):
    """A split of a set of other people, found by its files in `root` or in a folder of its name."""

    source: ClassVar[Any] = Elsewhere("another", (), "")

    def __init__(self, split: str, root: paths.Root = None, *more: Any, **options: Any) -> None:
        super().__init__(split, root, *more, **options)
        self._mask_colours = None  # the files hold numbers; our colours are for drawing

    @classmethod
    def find(cls, root: paths.Root = None) -> Path | None:
        bases = [base / name for base in paths.data_roots(root) for name in (cls.name, ".")]
        places = [base / inside for base in bases for inside in (".", *cls.source.inside)]
        return next((p.resolve() for p in places if not cls.source.shortfalls(p)), None)

    def _listed(self, path: Path, images: str, masks: str, suffix: str = ".png") -> list[Pair]:
        """The pairs whose names begin the lines of the list at `path`."""
        if not path.is_file():
            raise FileNotFoundError(f"no list {path}; expected one name a line, {self.remedy()}")
        lines = path.read_text(encoding="utf-8").splitlines()
        names = [line.split()[0] for line in lines if line.strip() and line[0] != "#"]
        jpegs, others = self.root / images, self.root / masks
        return sorted((jpegs / f"{name}.jpg", others / f"{name}{suffix}") for name in names)


class VOC(ForeignDataset):
    """Pascal VOC 2012: 20 kinds of things and background; what is hard to tell is void.

    Splits: "train" (1,464), "val" (1,449), "trainval". Every photo is its own group.
    """

    source = Elsewhere(
        "VOC",
        ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"),
        "https://host.robots.ox.ac.uk/pascal/VOC/voc2012",
        ("VOC2012", "VOCdevkit/VOC2012"),
    )
    splits = ("train", "val", "trainval")
    _classes, _palette = _VOC, _VOC_COLOURS

    def _select(self, split: str) -> list[Pair]:
        lists = self.root / "ImageSets" / "Segmentation"
        return self._listed(lists / f"{split}.txt", "JPEGImages", "SegmentationClass")


class SBD(ForeignDataset):
    """Semantic Boundaries: VOC's classes on 11,355 of its photos of 2011, without void.

    Splits: "train" (8,498), "val" (2,857), and "train_noval" (5,623: none of VOC 2012's val) where
    that list was fetched. To test on VOC's val, train on "train_noval": "train" has a part of it.
    """

    source = Elsewhere(
        "SBD",
        ("img", "cls", "train.txt", "val.txt"),
        "http://home.bharathh.info/pubs/codes/SBD/download.html",
        ("benchmark_RELEASE/dataset", "dataset"),
    )
    splits = ("train", "val", "train_noval")
    _classes, _palette = _VOC, _VOC_COLOURS

    def _select(self, split: str) -> list[Pair]:
        return self._listed(self.root / f"{split}.txt", "img", "cls", ".mat")

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        from scipy.io import loadmat

        path = self._pair(index)[1]
        try:
            mask = loadmat(path)["GTcls"][0]["Segmentation"][0]
            if mask.dtype == np.uint8 and mask.ndim == 2 and mask.max() < len(_VOC):
                return np.asarray(mask, np.uint8)
            error = f"an array {mask.shape} {mask.dtype} up to {mask.max()}"
        except Exception as found:  # whatever scipy meets in damaged files
            error = str(found)
        raise ValueError(f"cannot read labels 0–20 of {path} ({error}); unpack SBD again")


class Pet(ForeignDataset):
    """Oxford-IIIT Pet: 7,349 photos of cats and dogs, "pet" (0) against "background" (1).

    The trimaps' third value, a belt that its authors call "not classified", is void. Splits:
    "trainval" (3,680) and "test" (3,669) as published; "val" is ours, every fifth photo of
    trainval, of all breeds alike, and "train" the rest. Every photo is its own group.
    """

    source = Elsewhere(
        "Pet",
        ("images", "annotations/trimaps", "annotations/trainval.txt"),
        "https://www.robots.ox.ac.uk/~vgg/data/pets",
        ("oxford-iiit-pet",),
    )
    splits = ("train", "val", "test", "trainval")
    _classes, _palette = ("pet", "background"), np.array([(230, 159, 0), (0, 114, 178)], np.uint8)
    _label_map: ClassVar = {1: 0, 2: 1, 3: 255}

    def _select(self, split: str) -> list[Pair]:
        name = "test" if split == "test" else "trainval"
        lists = self.root / "annotations"
        files = self._listed(lists / f"{name}.txt", "images", "annotations/trimaps")
        if split == name:
            return files
        return [pair for i, pair in enumerate(files) if (i % 5 == 4) == (split == "val")]


class Cityscapes(ForeignDataset):
    """Cityscapes, fine masks: street scenes of 50 cities, 1024×2048, 19 classes and void.

    Splits: "train" (2,975) and "val" (500); the labels of "test" are not public. A group is a city.
    """

    source = Elsewhere(
        "Cityscapes", ("leftImg8bit", "gtFine"), "https://www.cityscapes-dataset.com"
    )
    splits = ("train", "val")
    _classes = _CITY
    _palette = np.frombuffer(bytes.fromhex(_CITY_COLOURS), np.uint8).reshape(-1, 3)
    _label_map: ClassVar = dict.fromkeys(range(34), 255) | {
        number: label for label, number in enumerate(CITYSCAPES_IDS)
    }

    def _select(self, split: str) -> list[Pair]:
        base, end = self.root / "gtFine" / split, "_leftImg8bit.png"
        images = sorted((self.root / "leftImg8bit" / split).glob(f"*/*{end}"))
        if not images:
            raise FileNotFoundError(f"no CITY/*{end} in {self.root}/leftImg8bit/{split}")
        masks = [f"{i.parent.name}/{i.name.removesuffix(end)}_gtFine_labelIds.png" for i in images]
        return [(image, base / mask) for image, mask in zip(images, masks, strict=True)]

    @staticmethod
    def _group(image: Path) -> str:
        return image.parent.name


FOREIGN: dict[str, type[ForeignDataset]] = {each.name: each for each in (VOC, SBD, Pet, Cityscapes)}
