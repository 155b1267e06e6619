"""`python -m seglib convert`: outlines of LabelMe, CVAT (images 1.1) and COCO become masks.

These tools count from the corner of the top left pixel, `polygon_mask` from its centre.
"""

import argparse
import importlib
import json
import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglib.course.polygons import VOID, polygon_mask
from seglib.data.colours import check_classes
from seglib.data.pairing import some
from seglib.util.files import atomic_write
from seglib.util.suggest import did_you_mean

VOID_NAMES = ("void", "ignore", "unlabeled", "unlabelled")
KINDS = 'LabelMe ("shapes"), COCO ("annotations", "images") or CVAT for images 1.1 (XML)'


class Outlined(NamedTuple):
    """What a file says of a picture: labels with corners (N, 2) or, bool, with a mask (H, W)."""

    source: Path
    names: list[str]  # of all classes, where the file lists them
    picture: str
    height: int
    width: int
    shapes: list[tuple[str, NDArray[Any]]]  # later ones cover earlier ones


def convert(options: argparse.Namespace) -> int:
    """Write NAME_mask.png beside each picture, or into --out; nothing is replaced unasked."""
    path = Path(options.path).expanduser()
    root = path if path.is_dir() else path.parent
    files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in (".json", ".xml")]
    found = [each for file in (files if path.is_dir() else [path]) for each in read_outlines(file)]
    if not found:
        raise ValueError(
            f"found no outlines in {path} ({some(files) or 'no JSON or XML'}); expected {KINDS}"
        )
    declared = [name for each in found for name in each.names]
    used = {name for each in found for name, _ in each.shapes}
    classes = options.classes or ["background", *declared, *sorted(used)]
    if not options.classes:
        classes = [name for name in dict.fromkeys(classes) if name not in VOID_NAMES]
    labels = dict.fromkeys(VOID_NAMES, VOID) | {n: i for i, n in enumerate(check_classes(classes))}
    if unknown := sorted(used - labels.keys()):
        raise ValueError(
            f"found the label {unknown[0]!r}, no class{did_you_mean(unknown[0], classes)}"
        )
    pictures = defaultdict(list)
    for p in Path(options.images or root).expanduser().rglob("*"):
        pictures[p.name].append(p)
    masks: dict[Path, Outlined] = {}
    for each in found:
        image = find_picture(each, pictures)
        folder = Path(options.out).expanduser() if options.out else image.parent
        mask = folder / f"{image.stem}_mask.png"
        if mask in masks or (mask.exists() and not options.overwrite):
            why = "would be written twice" if mask in masks else "is there already"
            raise ValueError(f"{mask} {why}; pass another --out DIR, or --overwrite to replace it")
        masks[mask] = each
    for mask, each in masks.items():
        pixels = draw(each, labels)
        mask.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(mask) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
    names = ",".join(f'"{name}"' if "," in name else name for name in classes)
    print(f"{len(masks)} masks, as {next(iter(masks))}; --classes {shlex.quote(names)}")
    return 0


def draw(each: Outlined, labels: dict[str, int]) -> NDArray[np.uint8]:
    """The label map (H, W): 0 outside all shapes, and where one is too small to hold a centre."""
    mask = np.zeros((each.height, each.width), np.uint8)
    for name, shape in each.shapes:
        try:
            inside = shape if shape.dtype == bool else polygon_mask([(1, shape - 0.5)], *mask.shape)
        except ValueError as error:
            if "covers no pixel" not in str(error):
                raise ValueError(f"{each.source}, {each.picture}, {name!r}: {error}") from None
        else:
            mask[inside > 0] = labels[name]
    return mask


def find_picture(each: Outlined, pictures: dict[str, list[Path]]) -> Path:
    """The file of the picture: where the outlines say or, if it is one, that of its name."""
    said = Path(each.picture.replace("\\", "/"))
    found = [each.source.parent / said]
    if not found[0].is_file():
        found = pictures.get(said.name, [])
    if len(found) != 1:
        where = f"({some([str(p) for p in found])})" if found else "in its folder and those below"
        raise FileNotFoundError(
            f"{each.source} is about {said}, found {len(found)} times {where}; pass --images DIR"
        )
    with Image.open(found[0]) as picture:
        turned = picture.getexif().get(0x0112, 1) >= 5
        size = picture.size if turned else picture.size[::-1]
    if size != (each.height, each.width):
        raise ValueError(
            f"{found[0]} is {size[0]}×{size[1]} (height × width), but {each.source} has outlines "
            f"for {each.height}×{each.width}; export them again for this picture"
        )
    return found[0]


def read_outlines(path: Path) -> list[Outlined]:
    """What a file of one of the three kinds has; of other JSON and XML, nothing."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; expected {KINDS}")
    try:
        if path.suffix.lower() == ".xml":
            return list(_cvat(path, ElementTree.fromstring(path.read_bytes())))
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(data, dict):
            return []
        if "shapes" in data and "imagePath" in data:
            return [_labelme(path, data)]
        return list(_coco(path, data)) if {"annotations", "images"} <= data.keys() else []
    except (ValueError, LookupError, TypeError, AttributeError, ElementTree.ParseError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot read outlines from {path} ({reason}); export it again") from None


def _corners(kind: str, points: NDArray[Any], label: str) -> NDArray[Any]:
    """The corners (N, 2) of a shape that is given by `points`."""
    if kind == "polygon":
        return points
    (x0, y0), (x1, y1) = points[:2] if len(points) > 1 else [(0, 0)] * 2
    if kind in ("rectangle", "box"):
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind == "circle":  # its centre and a point on it
        angles = np.linspace(0, 2 * np.pi, 361)[:-1, None]
        return points[0] + np.hypot(x1 - x0, y1 - y0) * np.hstack([np.cos(angles), np.sin(angles)])
    raise ValueError(f"{label!r} is of the kind {kind}, not polygon, rectangle or circle")


def _labelme(path: Path, data: dict[str, Any]) -> Outlined:
    shapes = []
    for shape in data["shapes"]:
        points = np.array(shape["points"], float).reshape(-1, 2)
        kind = shape.get("shape_type") or "polygon"
        shapes.append((shape["label"], _corners(kind, points, shape["label"])))
    return Outlined(path, [], data["imagePath"], data["imageHeight"], data["imageWidth"], shapes)


def _coco(path: Path, data: dict[str, Any]) -> Iterator[Outlined]:
    names = {each["id"]: each["name"] for each in data["categories"]}
    shapes = defaultdict(list)
    for each in data["annotations"]:
        parts = each.get("segmentation")
        if not parts:
            raise ValueError(f"annotation {each['id']} has a box at most, no outline")
        for part in [parts] if isinstance(parts, dict) else parts:
            shape = (
                _rle(part) if isinstance(part, dict) else np.reshape(part, (-1, 2)).astype(float)
            )
            shapes[each["image_id"]].append((names[each["category_id"]], shape))
    for image in data["images"]:
        size = image["height"], image["width"]
        declared = [names[number] for number in sorted(names)]
        yield Outlined(path, declared, image["file_name"], *size, shapes[image["id"]])


def _rle(part: dict[str, Any]) -> NDArray[np.bool_]:
    """COCO's run lengths, column by column, as a mask (H, W)."""
    counts, (height, width) = part["counts"], part["size"]
    if isinstance(counts, list):
        return (np.repeat(np.arange(len(counts)) % 2, counts) > 0).reshape(width, height).T
    try:
        mask = importlib.import_module("pycocotools.mask")
    except ImportError:
        raise ValueError(
            "it has compressed run lengths, which need pycocotools: pip install pycocotools"
        ) from None
    return np.asarray(mask.decode({"size": part["size"], "counts": counts.encode()}), bool)


def _cvat(path: Path, root: ElementTree.Element) -> Iterator[Outlined]:
    if root.find("track") is not None:
        raise ValueError("it is CVAT for video; export the task as CVAT for images 1.1")
    names = [str(name.text) for name in root.findall("meta//label/name")]
    for image in root.findall("image"):
        height, width = int(image.attrib["height"]), int(image.attrib["width"])
        shapes: list[tuple[str, NDArray[Any]]] = []
        for each in sorted(image, key=lambda each: int(each.get("z_order", 0))):
            a = each.attrib
            if each.tag == "mask":  # run lengths, row by row, in a box
                counts = [int(n) for n in a["rle"].split(",")]
                top, left, h, w = (int(a[key]) for key in ("top", "left", "height", "width"))
                shape = np.zeros((height, width), bool)
                runs = np.repeat(np.arange(len(counts)) % 2, counts) > 0
                shape[top : top + h, left : left + w] = runs.reshape(h, w)
            elif each.tag not in ("tag", "attribute"):
                text = a.get("points") or "{xtl},{ytl};{xbr},{ybr}".format_map(defaultdict(int, a))
                points = np.array([pair.split(",") for pair in text.split(";")], float)
                shape = _corners(each.tag, points, a["label"])
            else:
                continue
            shapes.append((a["label"], shape))
        yield Outlined(path, names, image.attrib["name"], height, width, shapes)
