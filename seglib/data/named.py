"""Data sets with a name and splits: what the embedded and the public ones share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from seglib import paths
from seglib.data.base import SegmentationDataset, Transform
from seglib.messages import did_you_mean

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
