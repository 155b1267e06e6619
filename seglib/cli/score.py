"""The commands that use a trained network: evaluate and predict."""

import argparse
import json
from pathlib import Path
from typing import Any

from seglib.cli.data import device_of, open_dataset


def evaluate(options: argparse.Namespace) -> int:
    from seglib.data import make_loader
    from seglib.engine.checkpoints import load_checkpoint, make_folder
    from seglib.training import evaluate
    from seglib.transforms import eval_transform
    from seglib.util.files import atomic_write

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
    loader = make_loader(dataset, options.batch_size)
    whole = evaluate(checkpoint.model, loader, per_image=options.per_group)
    parts = {"all": whole, **(whole.by_group(dataset.groups) if options.per_group else {})}
    found = {}
    for name, scores in parts.items():
        images = len(dataset) if name == "all" else dataset.groups.count(name)
        where = f"{options.data} {options.split} at {data.size[0]}×{data.size[1]}"
        print(f"{where}, {name} ({images} images): mIoU {scores.miou:.4f}\n{scores.table()}\n")
        found[name] = {"images": images, **scores.as_dict()}
    if options.json:
        make_folder(Path(options.json).parent)
        with atomic_write(options.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def predict(options: argparse.Namespace) -> int:
    import numpy as np
    from PIL import Image

    from seglib.data import read_image
    from seglib.data.colours import default_palette
    from seglib.engine.checkpoints import load_checkpoint, make_folder
    from seglib.inference import predict
    from seglib.plotting import overlay
    from seglib.util.files import atomic_write
    from seglib.util.progress import progress

    checkpoint = load_checkpoint(options.checkpoint, device=device_of(options.device))
    model: Any = checkpoint.model
    data, out = checkpoint.data, Path(options.out)
    files = _image_files(options.images)
    make_folder(out)
    names, palette = data.classes, np.asarray(data.palette, dtype=np.uint8)
    if not names:  # trained on a data set without names
        names = tuple(f"class {i}" for i in range(model.num_classes))
        palette = default_palette(len(names))
    for path in progress(files, desc="predict", unit="photo"):
        image = read_image(path)
        labels = predict(model, image, data.size, data.mean, data.std)
        shown = overlay(image, labels, palette, alpha=options.alpha, classes=names)
        label_map = Image.fromarray(labels, mode="P")
        label_map.putpalette(palette.tobytes())
        for kind, content in (("overlay", Image.fromarray(shown)), ("labels", label_map)):
            with atomic_write(out / f"{path.stem}_{kind}.png") as temporary:
                content.save(temporary, format="PNG")
    print(f"{len(files)} photo(s) labelled; overlays and label maps in {out}")
    return 0


def _image_files(places: list[str]) -> list[Path]:
    """The image files among files and folders; ValueError if two would write the same output."""
    from seglib.data.pairing import IMAGE_SUFFIXES

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
