"""Renders the data sets that the course carries, from the seeds in seglib/data/sets.py.

    python data/render.py                   # both, into this folder
    python data/render.py scans --out DIR   # one, into DIR/scans
    python data/render.py all --check       # renders again, writes nothing, names what differs

A split is written beside the old one and takes its place when it is whole. Masks come out the same
on every machine; photos may differ in the last bit where rounding does.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # works without an installation, too

from seglib.data import Scans, Streets  # noqa: E402
from seglib.util.progress import progress  # noqa: E402

SETS: dict[str, type[Streets | Scans]] = {"streets": Streets, "scans": Scans}
VOID = 255
JPEG = {"quality": 93, "subsampling": 0}  # 4:4:4: colours as sharp as brightness
# What other viewers show a mask in. The course draws with the palettes of seglib/data/colours.py,
# which may change; the files keep their bytes, because records name them by their digest.
FILE_COLOURS = {
    "streets": "96ccf4 cf7a67 fbe744 6f638b ebd7c2 3b783a f98d14 b09d47 1c3eb4 ce0f32 e447c9",
    "scans": "627492 40e0be d62846",
}
FILE_VOID = (25, 23, 27)


def main(arguments: list[str] | None = None) -> int:
    """Render or check; returns 0, or 1 where a check finds a difference."""
    summary, _, usage = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=usage, formatter_class=raw)
    parser.add_argument("set", nargs="?", default="all", choices=[*SETS, "all"])
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write the sets into")
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args(arguments)
    differences = []
    for name in SETS if options.set == "all" else [options.set]:
        dataset, folder = SETS[name], options.out / name
        if options.check:
            differences += check(dataset, options.out)
            continue
        for split in dataset.splits:
            write_split(dataset, split, folder / split)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{name} is in {folder}: {size / 1e6:.2f} MB")
    if options.check:
        print("\n".join(differences) or "all masks and tables are as rendered")
    return 1 if differences else 0


def write_split(dataset: type[Streets | Scans], split: str, target: Path) -> None:
    """Render a split into a folder beside `target`, and put it in its place when it is whole."""
    new, old = (target.with_name(f".{split}.{os.getpid()}.{end}") for end in ("part", "old"))
    try:
        for part in ("images", "masks"):
            (new / part).mkdir(parents=True)
        rows = []
        for seed in progress(dataset.source.seeds[split], desc=f"{dataset.name} {split}"):
            image, mask, row = dataset.render(seed)
            rows.append({"file": f"{seed:04}{dataset.source.suffix}", "seed": seed, **row})
            save_image(image, new / "images" / rows[-1]["file"])
            save_mask(mask, dataset, new / "masks" / f"{seed:04}.png")
        with open(new / dataset.source.table, "w", newline="", encoding="utf-8") as handle:
            table = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    finally:
        if old.exists() and not target.exists():  # interrupted between the two
            os.replace(old, target)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def save_image(image: np.ndarray, path: Path) -> None:
    """Write a photo (H, W, 3) as its suffix says; three equal channels become one."""
    if path.suffix == ".jpg":
        Image.fromarray(image).save(path, **JPEG)
    else:
        grey = bool((image == image[..., :1]).all())
        Image.fromarray(image[..., 0] if grey else image).save(path, optimize=True)


def save_mask(mask: np.ndarray, dataset: type[Streets | Scans], path: Path) -> None:
    """Write labels (H, W) as a palette PNG: viewers show colours, readers get the labels."""
    named = np.frombuffer(bytes.fromhex(FILE_COLOURS[dataset.name]), np.uint8).reshape(-1, 3)
    colours = named
    if (mask == VOID).any():
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(named)] = named
        colours[VOID] = FILE_VOID
    picture = Image.fromarray(mask)
    picture.putpalette(colours.tobytes())  # turns grey into palette indices, unchanged
    picture.save(path, optimize=True)


def check(dataset: type[Streets | Scans], out: Path) -> list[str]:
    """A line for each mask, and for each value of a table, that is not what its seed renders."""
    found = []
    for split in dataset.splits:
        try:
            stored = dataset(split, root=out)
        except (FileNotFoundError, ValueError) as error:
            return [str(error)]
        with open(stored.root / split / dataset.source.table, encoding="utf-8") as handle:
            table = list(csv.DictReader(handle))
        for i, seed in enumerate(progress(stored.seeds, desc=f"{dataset.name} {split}")):
            _, mask, row = dataset.render(seed)
            name = f"{dataset.name}/{split}/{stored.files[i][1].name}"
            if differing := differences(mask, stored.read_mask(i)):
                found.append(f"{name}: {differing} pixels differ")
            found += [
                f"{name}: {column} is {table[i][column]}, but {value} is rendered"
                for column, value in row.items()
                if table[i][column] != str(value)
            ]
    return found


def differences(one: np.ndarray, other: np.ndarray) -> Any:
    """How many pixels differ; all of them where the sizes do."""
    return int((one != other).sum()) if one.shape == other.shape else one.size


if __name__ == "__main__":
    sys.exit(main())
