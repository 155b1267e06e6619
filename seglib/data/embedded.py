"""Data sets that come with the course: rendered from known seeds, so that anyone can remake them.

    streets/{train,val,test}/images/0000.jpg  masks/0000.png  scenes.csv
    scans/{train,val,test}/images/0000.png    masks/0000.png  scans.csv

A file's name is its seed, and no seed is in two splits. The table of a split has a line for each
image: file, seed, and what is known of it besides. `python data/render.py` writes all of it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seglib.data.base import Transform
from seglib.data.named import NamedDataset, Root

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
