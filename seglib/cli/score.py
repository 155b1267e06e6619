"""The commands that use a trained network: evaluate and predict."""

import argparse
import glob
import json
import sys
from pathlib import Path
from typing import Any

from seglib.cli.data import device_of, name_data, open_dataset
from seglib.cli.settings import convert

OUTPUTS = ("overlay", "labels")  # X_overlay.png, X_labels.png


def evaluate(options: argparse.Namespace) -> int:
    from seglib.data import make_loader
    from seglib.engine.checkpoints import load_checkpoint, make_folder
    from seglib.training import evaluate
    from seglib.transforms import eval_transform
    from seglib.util.files import atomic_write

    checkpoint = load_checkpoint(options.checkpoint, device=device_of(options.device))
    data = checkpoint.data
    if data.size is None:
        text = "does not say at which size it was trained; score it by seglib.training.evaluate"
        raise ValueError(f"{options.checkpoint} {text}")
    transform = eval_transform(*data.size, *normalisation(options, data))
    name_data(options, split="test")
    if options.data == "folder":
        as_trained(options, data)
    dataset = open_dataset(options, transform=transform)
    if data.classes and tuple(dataset.classes) != data.classes:
        raise ValueError(
            f"{options.checkpoint} was trained for {len(data.classes)} classes "
            f"({', '.join(data.classes)}), but {options.data} has {dataset.num_classes} "
            f"({', '.join(dataset.classes)}); choose the data set that it was trained for"
        )
    loader = make_loader(dataset, convert("batch_size", options.batch_size, int))
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


def as_trained(options: argparse.Namespace, data: Any) -> None:
    """What `options` leave open of how masks are read: as in training, by the checkpoint."""
    options.classes = options.classes or data.classes
    if data.label_map and not options.label_map:
        options.label_map = tuple(f"{old}:{new}" for old, new in data.label_map.items())
        told = ",".join(options.label_map)
        print(f"label_map {told}, as in training (--label_map none: without)")
    if data.mask_palette and not options.palette:
        options.palette = data.mask_palette
        print("masks are read by their colours, as in training (--palette none: by their numbers)")


def normalisation(options: argparse.Namespace, data: Any) -> list[tuple[float, ...]]:
    """Mean and standard deviation of R, G, B: from the flags, or else from the checkpoint."""
    found = {}
    for name in ("mean", "std"):
        given = getattr(options, name)
        found[name] = convert(name, given, tuple[float, ...]) if given else getattr(data, name)
        if found[name] is None:
            raise ValueError(
                f"{options.checkpoint} does not know the {name} that its images were normalised "
                "with, as its transform was none of ours; give --mean R,G,B and --std R,G,B: 0,0,0 "
                "and 1,1,1 where they were only divided by 255"
            )
        if len(found[name]) != 3 or min(found["std"] if name == "std" else (1,)) <= 0:
            raise ValueError(f"found {name} = {found[name]}, expected R,G,B (std: above 0)")
    return list(found.values())


def predict(options: argparse.Namespace) -> int:
    from seglib.data import read_image
    from seglib.engine.checkpoints import load_checkpoint, make_folder
    from seglib.inference import enlarged_argmax, photo_logits
    from seglib.util.progress import progress

    alpha = convert("alpha", options.alpha, float)
    checkpoint = load_checkpoint(options.checkpoint, device=device_of(options.device))
    data, out = checkpoint.data, Path(options.out)
    files, failures = image_files(options.images), []
    mean, std = normalisation(options, data)
    make_folder(out)
    for path in (bar := progress(files, desc="predict", unit="photo")):
        try:
            image = read_image(path)
            logits = photo_logits(checkpoint.model, image, data.size, mean, std)
            labels = enlarged_argmax(logits, image.shape[:2]).cpu().numpy()
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            failures.append(f"{error}" if path.name in str(error) else f"{path}: {error}")
        else:
            write_pictures(out / path.stem, image, labels, checkpoint, alpha)
            sure = float(logits.softmax(1).amax(1).mean())
            found = shares(labels, class_names(checkpoint))
            bar.write(f"{path.name}: {found} · mean confidence {sure:.2f}")
    for text in [*failures[:10], f"{len(failures) - 10} more"][: len(failures)]:
        print(f"seglib predict: {text}", file=sys.stderr)
    done = f"{len(files) - len(failures)} of {len(files)}" if failures else f"{len(files)}"
    print(f"{done} photo(s) labelled; overlays and label maps in {out}")
    return 1 if failures else 0


def class_names(checkpoint: Any) -> tuple[str, ...]:
    """The classes' names; "class 0", … where the data set had none."""
    count = int(checkpoint.model.num_classes)
    return checkpoint.data.classes or tuple(f"class {i}" for i in range(count))


def shares(labels: Any, names: tuple[str, ...], most: int = 4) -> str:
    """The classes in a label map by their share of it, the largest first, `most` of them named.

    >>> shares([[0, 1], [1, 1]], ("road", "sky", "tree"))
    'sky 75 %, road 25 %'
    """
    import numpy as np

    share = np.bincount(np.ravel(labels), minlength=len(names)) / np.size(labels)
    order = np.argsort(-share, kind="stable")[: np.count_nonzero(share)]
    found = [(names[i], share[i]) for i in order[:most]]
    if len(rest := order[most:]):
        found.append((f"{len(rest)} more", share[rest].sum()))
    return ", ".join(f"{name} {100 * part:.0f} %" for name, part in found)


def write_pictures(path: Path, image: Any, labels: Any, checkpoint: Any, alpha: float) -> None:
    """PATH_overlay.png and PATH_labels.png, whose palette has the colours of the classes."""
    import numpy as np
    from PIL import Image

    from seglib.data.colours import STREET_CLASSES, STREET_PALETTE, default_palette
    from seglib.plotting import overlay
    from seglib.util.files import atomic_write

    data, count = checkpoint.data, int(checkpoint.model.num_classes)
    palette = np.asarray(data.palette or default_palette(count), dtype=np.uint8)
    if data.classes == STREET_CLASSES and not data.mask_palette:  # (it may hold earlier colours)
        palette = STREET_PALETTE
    shown = overlay(image, labels, palette, alpha=alpha, classes=class_names(checkpoint))
    label_map = Image.fromarray(labels, mode="P")
    label_map.putpalette(palette.tobytes())
    for kind, content in zip(OUTPUTS, (Image.fromarray(shown), label_map), strict=True):
        with atomic_write(path.with_name(f"{path.name}_{kind}.png")) as temporary:
            content.save(temporary, format="PNG")


def image_files(places: list[str]) -> list[Path]:
    """The image files among files, folders and patterns, each once, without pictures of ours.

    Hidden files of folders are passed over, and X_overlay.png beside X. Raises ValueError for a
    URL, and if two files would write the same output.
    """
    files: dict[str, Path] = {}
    for path in [path for place in places for path in expanded(place)]:
        other = files.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise ValueError(
                f"{other} and {path} would both become {path.stem}_overlay.png; "
                "label them in two calls with different --out"
            )
    ours = {p.with_name(f"{s}_{kind}.png") for s, p in files.items() for kind in OUTPUTS}
    return [path for path in files.values() if path not in ours]


def expanded(place: str) -> list[Path]:
    """The image files that `place` means: itself, a folder's, or those that fit a pattern."""
    from seglib.data.pairing import IMAGE_SUFFIXES

    path, suffixes = Path(place), (*IMAGE_SUFFIXES, ".heic", ".heif", ".avif")
    if "://" in place:
        raise ValueError(f"found the URL {place}; download it first, and give the file's path")
    if path.is_dir():
        inside = sorted(path.iterdir())
    elif not path.exists() and glob.has_magic(place):
        inside = sorted(map(Path, glob.glob(place, recursive=True)))
    else:
        return [path]
    found = [p for p in inside if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if not found:
        raise FileNotFoundError(
            f"{place} holds no image ({', '.join(IMAGE_SUFFIXES)}); check the path, and name "
            "subfolders one by one or as 'DIR/**/*.jpg'"
        )
    return found
