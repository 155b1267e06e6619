"""Data sets of image–mask pairs: what all of them share, and the one for a folder of your own.

Reading a file is in `reading`, pairing names in `pairing`; the sets with a name are in `sets`.
"""

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seglib.data.cache import make_cache
from seglib.data.colours import check_classes, check_palette, default_palette
from seglib.data.composed import composed
from seglib.data.loader import SampleKey
from seglib.data.pairing import pair_files, sizes_differ, some
from seglib.data.reading import read_image, read_mask
from seglib.data.splits import read_split
from seglib.data.statistics import Report, check

Transform = Callable[..., Any]


class SegmentationDataset:
    """Pairs of an image file and a mask file, with the names and colours of the classes.

    `ds[i]` gives (image uint8 (H, W, 3), mask uint8 (H, W)), or `transform(image, mask)` if there
    is one. `ds[SampleKey(seed, epoch, i)]`, which the loader asks for, hands the key's seed to a
    transform that has a parameter `seed`, so that augmentation depends on nothing else; so it does
    in an `A.Compose` of albumentations.

    With `cache` the decoded pairs stay in memory (see `cache.make_cache`): "all", a size such as
    "2GB", or "auto". Files that change meanwhile are not read anew.

    Attributes: classes, num_classes, palette (C, 3) uint8, ignore_index, files[i] -> (image path,
    mask path), groups[i] (what must not be split: a drive, a patient), label_map, transform.
    """

    problems: Sequence[str] = ()  # that the names of the files have, for `check`

    def __init__(
        self,
        files: Sequence[tuple[Path, Path]],
        classes: Sequence[str],
        ignore_index: int = 255,
        palette: ArrayLike | None = None,
        groups: Sequence[str] | None = None,
        label_map: Mapping[int, int] | None = None,
        transform: Transform | None = None,
        cache: float | str | None = None,
    ) -> None:
        self.classes = check_classes(classes)
        self.num_classes = len(self.classes)
        if not 0 <= operator.index(ignore_index) <= 255:
            raise ValueError(f"ignore_index is {ignore_index}, but a mask holds 0–255; pass 255")
        self.ignore_index = int(ignore_index)
        # Colours that the caller names are also the key to coloured masks; ours never are.
        named = self._mask_colours = None if palette is None else check_palette(palette)
        colours = default_palette(self.num_classes) if named is None else named
        if len(colours) < self.num_classes:
            raise ValueError(
                f"palette has {len(colours)} colours, but there are {self.num_classes} classes: "
                "one row (R, G, B) for each"
            )
        self.palette = colours[: self.num_classes]
        self.label_map = dict(label_map or {})
        self.files = tuple(files)
        self.groups = tuple([image.stem for image, _ in files] if groups is None else groups)
        if len(self.groups) != len(self.files):
            raise ValueError(f"found {len(self.groups)} groups for {len(self.files)} images")
        self.transform = transform
        self._cache = make_cache(self.files, cache)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int | SampleKey) -> Any:
        image, mask = self.read(operator.index(index))
        if self.transform is None:
            return image, mask
        if hasattr(self.transform, "set_random_seed"):
            return composed(self.transform, image, mask, index)
        if isinstance(index, SampleKey) and "seed" in inspect.signature(self.transform).parameters:
            return self.transform(image, mask, seed=index.derived_seed())
        return self.transform(image, mask)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Read pair `index` without the transform: uint8 (H, W, 3) and uint8 (H, W).

        Raises ValueError for a damaged file, labels out of range, or two sizes.
        """
        self._pair(index)  # IndexError beyond the end
        if self._cache is None:
            return self._read_files(index)
        return self._cache.pair(index % len(self), self._read_files)

    def _read_files(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image, mask = read_image(self._pair(index)[0]), self.read_mask(index)
        if image.shape[:2] != mask.shape:
            raise ValueError(sizes_differ(*self._pair(index), image.shape[:2], mask.shape))
        return image, mask

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """Read the mask of pair `index` alone: uint8 (H, W), labels checked."""
        path, colours = self._pair(index)[1], self._mask_colours
        return read_mask(path, self.classes, self.ignore_index, colours, self.label_map)

    def check(self, progress: bool = True) -> Report:
        """Read every pair, and report all problems and how often each class occurs."""
        return check(self, progress=progress)

    def _pair(self, index: int) -> tuple[Path, Path]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index}, but the data set has {len(self)} images")
        return self.files[index]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {self.num_classes} classes)"


class FolderDataset(SegmentationDataset):
    """Your own images and masks: two folders, paired by name (img_001.jpg with img_001.png).

    Masks hold one label per pixel, 0…C−1 in the order of `classes`, or `ignore_index` for void;
    `label_map` renames other numbers ({255: 1} for masks of 0 and 255). Coloured masks are read
    through `palette`: row k is the colour of label k, and rows beyond the classes may be sent to
    void by `label_map`. Every image is its own group unless `group(stem)` says otherwise.

    Only names are looked at here: call `.check()` once to read everything. `incomplete=True` leaves
    files without a partner (else a ValueError) to the report of `.check()`.
    """

    layout = ""  # what `from_layout` has recognised

    def __init__(
        self,
        image_dir: str | Path,
        mask_dir: str | Path,
        classes: Sequence[str],
        ignore_index: int = 255,
        palette: ArrayLike | None = None,
        transform: Transform | None = None,
        *,
        label_map: Mapping[int, int] | None = None,
        group: Callable[[str], str] | None = None,
        incomplete: bool = False,
        cache: float | str | None = None,
    ) -> None:
        files, self.problems = pair_files(image_dir, mask_dir)
        if self.problems and not incomplete:
            raise ValueError(
                f"found in {image_dir} and {mask_dir}: {some(self.problems)}; expected pairs of "
                "the same name up to the suffix, such as img_001.jpg and img_001.png"
            )
        groups = None if group is None else [str(group(image.stem)) for image, _ in files]
        super().__init__(files, classes, ignore_index, palette, groups, label_map, transform, cache)

    @classmethod
    def from_layout(
        cls,
        root: str | Path,
        split: str,
        classes: Sequence[str],
        layout: str = "auto",
        **options: Any,
    ) -> "FolderDataset":
        """One split of a folder as others lay it out: VOC, Cityscapes, lists, one folder, …

        The attribute `layout` says what was recognised. For the options see `splits.read_split`;
        all others are those of the class.
        """
        dataset = cls.__new__(cls)
        how, dataset.problems, dataset.layout = read_split(root, split, classes, layout, options)
        SegmentationDataset.__init__(dataset, classes=classes, **how)
        return dataset
