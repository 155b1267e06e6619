"""What the commands of the command line do; each takes the parsed options, returns an exit code."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from seglib.data import SegmentationDataset


def doctor(options: argparse.Namespace) -> int:
    from seglib.course import doctor

    return 0 if doctor().ok else 1


def download(options: argparse.Namespace) -> int:
    from seglib.data import DATASETS
    from seglib.data.download import download
    from seglib.data.embedded import EmbeddedDataset

    dataset = DATASETS.get(options.data)
    if dataset is not None and issubclass(dataset, EmbeddedDataset):
        folder = dataset("train", root=options.root).root
        print(f"{options.data} comes with the course: it is complete in {folder}")
    else:
        print(f"{options.data} is complete in {download(options.data, options.root)}")
    return 0


def check(options: argparse.Namespace) -> int:
    if options.images or options.masks:
        if not (options.images and options.masks and options.classes):
            raise ValueError("to check a folder, give --images DIR --masks DIR --classes a,b,…")
        folders = Path(options.images), Path(options.masks)
        dataset: Any = open_folder(options, *folders, incomplete=True)
    elif options.data == "folder":
        dataset = open_folder(options, *split_folders(options, options.split), incomplete=True)
    else:
        dataset = open_dataset(options)
    report = dataset.check()
    print(report.table())
    return 0 if report.ok else 1


def train(options: argparse.Namespace) -> int:
    from seglib.train_command import train

    return train(options)


def evaluate(options: argparse.Namespace) -> int:
    import torch

    from seglib.checkpoints import load_checkpoint, make_folder
    from seglib.data import make_loader
    from seglib.paths import written_beside
    from seglib.training import evaluate
    from seglib.transforms import eval_transform

    checkpoint = load_checkpoint(options.checkpoint, device=device_of(options.device))
    data = checkpoint.data
    if data.size is None:
        raise ValueError(f"{options.checkpoint} does not say at which size it was trained")
    transform = eval_transform(*data.size, data.mean, data.std)
    options.classes = options.classes or ",".join(data.classes)
    dataset = open_dataset(options, transform=transform)
    if data.classes and tuple(dataset.classes) != data.classes:
        raise ValueError(
            f"{options.checkpoint} was trained for {len(data.classes)} classes "
            f"({', '.join(data.classes)}), but {options.data} has {dataset.num_classes} "
            f"({', '.join(dataset.classes)}); choose the data set that it was trained for"
        )
    parts: dict[str, Any] = {"all": dataset}
    if options.per_group:
        for group in sorted(set(dataset.groups)):
            members = [i for i, name in enumerate(dataset.groups) if name == group]
            parts[group] = torch.utils.data.Subset(cast(Any, dataset), members)
    found = {}
    for name, part in parts.items():
        scores = evaluate(checkpoint.model, make_loader(part, options.batch_size))
        print(
            f"{options.data} {options.split} at {data.size[0]}×{data.size[1]}, "
            f"{name} ({len(part)} images): mIoU {scores.miou:.4f}\n{scores.table()}\n"
        )
        found[name] = {"images": len(part), **scores.as_dict()}
    if options.json:
        make_folder(Path(options.json).parent)
        with written_beside(options.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def predict(options: argparse.Namespace) -> int:
    import numpy as np
    from PIL import Image

    from seglib.checkpoints import load_checkpoint, make_folder
    from seglib.data import read_image
    from seglib.data.palettes import default_palette
    from seglib.inference import predict
    from seglib.paths import written_beside
    from seglib.plotting import overlay
    from seglib.progress import progress

    checkpoint = load_checkpoint(options.checkpoint, device=device_of(options.device))
    data, out = checkpoint.data, Path(options.out)
    files = _image_files(options.images)
    make_folder(out)
    names, palette = data.classes, np.asarray(data.palette, dtype=np.uint8)
    if not names:  # trained on a data set without names
        count = int(cast(Any, checkpoint.model).num_classes)
        names = tuple(f"class {i}" for i in range(count))
        palette = default_palette(len(names))
    for path in progress(files, desc="predict", unit="photo"):
        image = read_image(path)
        labels = predict(checkpoint.model, image, data.size, data.mean, data.std)
        picture = Image.fromarray(
            overlay(image, labels, palette, alpha=options.alpha, classes=names)
        )
        label_map = Image.fromarray(labels, mode="P")
        label_map.putpalette(palette.tobytes())
        for kind, content in (("overlay", picture), ("labels", label_map)):
            with written_beside(out / f"{path.stem}_{kind}.png") as temporary:
                content.save(temporary, format="PNG")
    print(f"{len(files)} photo(s) labelled; overlays and label maps in {out}")
    return 0


def exercises(options: argparse.Namespace) -> int:
    from seglib.exercises import table

    print(table())
    return 0


def open_dataset(
    options: Any, split: str | None = None, transform: Any = None
) -> SegmentationDataset:
    """The data set that `options` (flags or settings) name; "folder" reads ROOT/SPLIT.

    Uses .data, .root, .classes, .label_map, .palette, .cache where there is one, and .split unless
    `split` is given.
    """
    from seglib.data import DATASETS
    from seglib.messages import did_you_mean

    split = split or options.split
    more = {"transform": transform, "cache": getattr(options, "cache", False)}
    if options.data == "folder":
        return open_folder(options, *split_folders(options, split), **more)
    if options.data not in DATASETS:
        known = [*DATASETS, "folder"]
        hint = did_you_mean(options.data, known)
        raise ValueError(f"there is no data set {options.data!r}{hint}")
    return DATASETS[options.data](split, root=options.root or None, **more)


def split_folders(options: Any, split: str) -> tuple[Path, Path]:
    """ROOT/SPLIT/images and ROOT/SPLIT/masks."""
    if not options.root or not options.classes:
        raise ValueError("data folder needs --root DIR and --classes name0,name1,…")
    base = Path(options.root) / split
    return base / "images", base / "masks"


def open_folder(options: Any, images: Path, masks: Path, **more: Any) -> SegmentationDataset:
    """The reader's own pairs, with the .classes, .label_map and .palette of `options`."""
    from seglib.data import FolderDataset
    from seglib.data.palettes import read_palette

    label_map = read_label_map(_names(options.label_map))
    palette = read_palette(options.palette)
    return FolderDataset(
        images, masks, _names(options.classes), label_map=label_map, palette=palette, **more
    )


def read_label_map(pairs: tuple[str, ...]) -> dict[int, int]:
    """`("255:1", "7:255")` as {255: 1, 7: 255}."""
    try:
        return {int(old): int(new) for old, new in (pair.split(":") for pair in pairs)}
    except ValueError:
        raise ValueError(
            f"found label_map {','.join(pairs)!r}, expected pairs FILE_LABEL:LABEL such as 255:1"
        ) from None


def device_of(name: str) -> Any:
    """The torch.device called `name`; "auto" takes the best one."""
    import torch

    from seglib.course import best_device

    if name == "auto":
        return best_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ValueError(
            f"cannot compute on {name!r}, expected auto, cpu, cuda or mps; try --device cpu "
            f"({reason})"
        ) from None
    return device


def _names(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """A comma-separated list, unless it is a tuple already."""
    if isinstance(text, tuple):
        return text
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _image_files(places: list[str]) -> list[Path]:
    """The image files among files and folders; ValueError if two would write the same output."""
    from seglib.data.files import IMAGE_SUFFIXES

    files: dict[str, Path] = {}
    for place in map(Path, places):
        inside = [place]
        if place.is_dir():
            inside = sorted(p for p in place.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise FileNotFoundError(f"{place} holds no image ({', '.join(IMAGE_SUFFIXES)})")
        for path in inside:
            if path.stem in files:
                raise ValueError(
                    f"{files[path.stem]} and {path} would both become {path.stem}_overlay.png; "
                    "label them in two calls with different --out"
                )
            files[path.stem] = path
    return list(files.values())
