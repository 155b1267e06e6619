"""The commands that look at data, and how options name a data set or a device."""

import argparse
from pathlib import Path
from typing import Any

from seglib.cli.settings import convert as converted
from seglib.cli.settings import data_named


def doctor(options: argparse.Namespace) -> int:
    from seglib.course.doctor import doctor

    return 0 if doctor().ok else 1


def download(options: argparse.Namespace) -> int:
    from seglib.data import DATASETS
    from seglib.data.download import download
    from seglib.data.sources import Rendering

    dataset = DATASETS.get(options.data)
    if dataset is not None and isinstance(dataset.source, Rendering):
        folder = dataset("train", root=options.root).root
        print(f"{options.data} comes with the course: it is complete in {folder}")
    else:
        print(f"{options.data} is complete in {download(options.data, options.root)}")
    return 0


def convert(options: argparse.Namespace) -> int:
    from seglib.cli.convert import convert

    options.classes = converted("classes", options.classes, tuple[str, ...])
    return convert(options)


def check(options: argparse.Namespace) -> int:
    if options.images or options.masks:
        if not (options.images and options.masks and options.classes):
            raise ValueError("to check a folder, give --images DIR --masks DIR --classes a,b,…")
        if any((options.root, options.split, options.layout, options.data not in (None, "folder"))):
            told = "--root, --split, --layout or --data"
            raise ValueError(f"--images and --masks need no {told}; leave it out")
        options.data = "folder"
    name_data(options, split="train")
    if options.images:
        dataset = open_folder(options, options.images, options.masks, incomplete=True)
    else:
        dataset = open_dataset(options, incomplete=True)
    report = dataset.check()
    print(report.table())
    return 0 if report.ok else 1


def exercises(options: argparse.Namespace) -> int:
    from seglib.exercises import progress, table
    from seglib.util.paths import checkout

    course = checkout()
    print(table(progress.load(course / "workbook" / progress.FILE if course else None)))
    return 0


def name_data(options: argparse.Namespace, split: str) -> None:
    """Put values in the place of texts and of what was not given."""
    options.split = options.split or split
    options.data = data_named(options.data, options.root, options.split, options.layout)
    for name in ("classes", "label_map"):
        setattr(options, name, converted(name, getattr(options, name), tuple[str, ...]))
    if options.val_share is not None:
        options.val_share = converted("val_share", options.val_share, float)


def open_dataset(
    options: Any, split: str | None = None, transform: Any = None, incomplete: bool = False
) -> Any:
    """The data set that `options` (flags or settings) name; "folder" reads ROOT/SPLIT."""
    from seglib.data import DATASETS
    from seglib.data.foreign import FOREIGN
    from seglib.util.suggest import did_you_mean

    split = options.split if split is None else split
    cache = getattr(options, "cache", None)
    more = {"transform": transform, "cache": None if cache == "device" else cache}
    if options.data == "folder":
        return open_folder(options, *split_folders(options, split), incomplete=incomplete, **more)
    known = DATASETS | FOREIGN
    if options.data not in known:
        hint = did_you_mean(options.data, [*known, "folder"])
        raise ValueError(f"there is no data set {options.data!r}{hint}")
    own = "classes", "label_map", "palette", "layout", "val_share"
    if unused := [key for key in own if getattr(options, key)]:
        raise ValueError(
            f"found --{unused[0]}, but {options.data} brings its own; leave it out, or give --data "
            "folder and --root DIR for images and masks of yours"
        )
    return known[options.data](split, root=options.root, **more)


def split_folders(options: Any, split: str) -> tuple[Path, str | Path]:
    """ROOT/SPLIT/images and ROOT/SPLIT/masks; with a layout, ROOT and SPLIT."""
    if not options.root or not options.classes:
        raise ValueError("data folder needs --root DIR and --classes name0,name1,…")
    if options.layout:
        return Path(options.root), split
    if options.val_share is not None:
        raise ValueError("found --val_share, which needs --layout auto (or a layout's name)")
    base = Path(options.root) / split
    return base / "images", base / "masks"


def open_folder(options: Any, images: str | Path, masks: str | Path, **more: Any) -> Any:
    """The reader's own pairs, with the .classes, .label_map and .palette of `options`.

    With a layout, `images` is ROOT and `masks` a split, and what is recognised is said.
    """
    from seglib.data import FolderDataset
    from seglib.data.colours import read_palette

    palette = None if options.palette == "none" else options.palette
    palette = read_palette(palette, options.classes) if isinstance(palette, str) else palette
    label_map = read_label_map(options.label_map)
    more |= {"label_map": label_map, "palette": palette}
    if not options.layout:
        return FolderDataset(images, masks, options.classes, **more)
    more |= {"layout": options.layout, "val_share": options.val_share}
    more["label_map"] = label_map or None  # (else it is the layout's)
    dataset = FolderDataset.from_layout(images, str(masks), options.classes, **more)
    print(f"{masks}: {dataset.layout}")
    return dataset


def read_label_map(pairs: tuple[str, ...]) -> dict[int, int]:
    """`("255:1", "7:255")` as {255: 1, 7: 255}; `("none",)` as none."""
    try:
        found = [(int(old), int(new)) for old, new in (pair.split(":") for pair in pairs)]
    except ValueError:
        found = []
    if len(dict(found)) != len(pairs) and pairs != ("none",):
        raise ValueError(
            f"found label_map {','.join(pairs)!r}, expected pairs FILE_LABEL:LABEL such as 255:1, "
            "none twice"
        )
    return dict(found)


def device_of(name: str) -> Any:
    """The torch.device called `name`; "auto" takes the best one."""
    import torch

    from seglib.course.setup import best_device

    if name == "auto":
        return best_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ValueError(
            f"cannot compute on {name!r} ({reason}); expected --device auto, cpu, cuda or mps"
        ) from None
    return device
