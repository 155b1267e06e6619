"""Which mask belongs to which image: by the names of their files, which stay closed."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from seglib.data.pictures import expanded

JPEG_SUFFIXES = (".jpg", ".jpeg")
IMAGE_SUFFIXES = (*JPEG_SUFFIXES, ".png", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
MASK_NAME = re.compile(
    "^(?:masks?|gt|labels?|seg)[_-]|[ ._-](?:masks?|gt|labels?|seg(?:mentation)?|L"
    "|gt(?:Fine|Coarse)_label(?:Train)?Ids)$"
)
_IMAGE_NAME = re.compile("^(?:image|img)[_-]|[ ._-](?:leftImg8bit|image|img|rgb)$")


def pair_files(
    image_dir: str | Path, mask_dir: str | Path
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pair images and masks of the same stem (img_001.jpg with img_001.png), sorted by stem.

    Where that fails, words such as _mask do not count (img_001.jpg with img_001_mask.png).
    Hidden files and other kinds are passed over. Returns the pairs, and what is wrong with other
    files. Raises FileNotFoundError for no or an empty folder, ValueError for the same one twice.
    """
    image_dir, mask_dir = expanded(image_dir), expanded(mask_dir)
    if image_dir.resolve() == mask_dir.resolve():
        raise ValueError(
            f"images and masks are both to be read from {image_dir}; expected two folders: move "
            "the masks to one of their own"
        )
    problems: list[str] = []
    images = _by_stem(image_dir, "image", IMAGE_SUFFIXES, problems)
    masks = _by_stem(mask_dir, "mask", MASK_SUFFIXES, problems)
    pairs = [(images.pop(stem), masks.pop(stem)) for stem in sorted(images.keys() & masks.keys())]
    alike: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for i, stem in [(0, stem) for stem in images] + [(1, stem) for stem in masks]:
        alike[bare_name(stem)][i].append(stem)
    for image, mask in alike.values():
        if len(image) == len(mask) == 1:
            pairs.append((images.pop(image[0]), masks.pop(mask[0])))
    for these, what, folder in (images, "a mask", mask_dir), (masks, "an image", image_dir):
        unread = {p.stem: f" ({p.name} is of a kind that is not read)" for p in folder.iterdir()}
        for stem in sorted(these):
            name = f"{these[stem].name} is without {what} of the same name"
            problems.append(name + unread.get(stem, ""))
    return sorted(pairs, key=lambda pair: pair[0].stem), problems


def bare_name(stem: str) -> str:
    """A name without what tells its kind: a_mask and a_leftImg8bit are both a."""
    return _IMAGE_NAME.sub("", MASK_NAME.sub("", stem)) or stem


def lossy_masks(paths: Sequence[Path], kind: str = "JPEG") -> str:
    """The message for masks whose compression, `kind`, is not exact."""
    lost = f"{kind} changes pixel values, so labels are lost"
    remedy = "export the masks again as PNG from where they were drawn"
    return f"found {kind} masks ({some(paths)}), but {lost}; {remedy}"


def some(items: Sequence[Any], most: int = 5) -> str:
    """The first few of `items` for a message, paths by their name: "a, b and 3 more"."""
    names = [item.name if isinstance(item, Path) else str(item) for item in items[:most]]
    return ", ".join(names) + (f" and {len(items) - most} more" if len(items) > most else "")


def _by_stem(
    folder: Path, kind: str, suffixes: tuple[str, ...], problems: list[str]
) -> dict[str, Path]:
    """The folder's files of these suffixes by stem."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; expected the {kind}s there, check the path")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    jpegs = [path for path in files if path.suffix.lower() in JPEG_SUFFIXES]
    if kind == "mask" and jpegs:
        problems.append(lossy_masks(jpegs))
    stems: dict[str, Path] = {}
    for path in (path for path in files if path.suffix.lower() in suffixes):
        stem = unicodedata.normalize("NFC", path.stem)  # macOS splits é in two, others do not
        if stem in stems:
            both = f"both {stems[stem].name} and {path.name}"
            problems.append(f"found {both} in {folder}; remove or rename one")
        stems[stem] = path
    if not stems:
        kinds = Counter(path.suffix.lower() or "no suffix" for path in files)
        inside = [f"folder {path.name}" for path in sorted(folder.iterdir()) if path.is_dir()]
        there = some([*(f"{n} {suffix}" for suffix, n in kinds.items()), *inside]) or "nothing"
        remedy = "convert them, or check the path"
        if inside:  # as Cityscapes has them
            remedy = (
                "name that folder, or the whole set's by --root DIR --layout auto (from_layout)"
            )
        missing = (
            f"found no {kind}s in {folder} (it holds {there}); expected files ending in "
            f"{' '.join(suffixes)}: {remedy}"
        )
        raise FileNotFoundError("; ".join([*problems, missing]))
    return stems


def sizes_differ(
    image_path: Path, mask_path: Path, image_size: tuple[int, ...], mask_size: tuple[int, ...]
) -> str:
    """The message for a pair of different sizes; it knows the usual culprit."""
    with Image.open(expanded(image_path)) as picture:
        orientation = picture.getexif().get(0x0112, 1)  # 1: upright
    remedy = "expected equal sizes: export the mask at the image's size"
    if orientation >= 5 and image_size == mask_size[::-1]:
        remedy = (
            f"the photo's EXIF orientation {orientation} turns it by a quarter: turn the mask as "
            "well, or save the photo without EXIF"
        )
    return (
        f"image {image_path.name} is {image_size[0]}×{image_size[1]} (height × width), but mask "
        f"{mask_path.name} is {mask_size[0]}×{mask_size[1]}; {remedy}"
    )
