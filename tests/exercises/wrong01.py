"""Typical wrong answers to the exercises of lesson 1: source, and a part of what they hear."""

PRELUDE = """
import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from seglib.data import read_mask
from seglib.transforms import resize_mask
"""


def _labellings(cars, road, one):
    return (
        f'labellings = {{"how many cars": {cars!r}, "which pixels are road": {road!r}, '
        f'"which pixels are this one car": {one!r}}}'
    )


def _read(*lines):
    return "\n    ".join(["def read_labels(path):", *lines])


_REFUSE = (
    'if Image.open(path).mode not in ("P", "L") or path.suffix == ".jpg":',
    '    raise ValueError("no labels")',
)


def _resize(image, mask, end="return (image[:, ::-1], mask[:, ::-1]) if flip else (image, mask)"):
    return f"""
def resize_pair(image, mask, height, width, flip):
    image = {image}
    mask = {mask}
    {end}
"""


_AREA = "cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)"
_EXACT = "cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)"


_JOIN = """truths = np.concatenate([truth.ravel() for truth in truths])
    predictions = np.concatenate([prediction.ravel() for prediction in predictions])"""


def _iou(line, valid="truths != 255", empty="np.nan"):
    return f"""
def iou(predictions, truths, num_classes):
    {_JOIN}
    valid, found = {valid}, []
    for k in range(num_classes):
        p, t = (predictions == k) & valid, (truths == k) & valid
        with np.errstate(all="ignore"):
            value = {line}
        found.append(value if (p | t).any() else {empty})
    return np.array(found)
"""


_RIGHT = "(p & t).sum() / (p | t).sum()"


def _shares(*lines):
    return "\n    ".join(["def shares(masks, num_classes):", *lines])


def _misread(*letters):
    values = (
        "[0, 38, 75, 113]",
        "[0.0, 0.0039, 0.0078, 1.0]",
        "[0, 1, 2, 3, 254, 255]",
        "[0, 3, 4, 5, 255]",
    )
    return f"misread = {dict(zip(values, letters, strict=True))!r}"


WRONG: dict[str, list[tuple[str, str]]] = {
    "labellings": [
        (_labellings("bsip", "sp", "ip"), "one region in a semantic mask"),
        (_labellings("bip", "sip", "ip"), "road is stuff"),
        (_labellings("bip", "sp", "bip"), "behind and around the car"),
        (_labellings("bip", "sp", "i"), "panoptic labels number the things as well"),
        (_labellings("cbip", "sp", "ip"), "not how many"),
        (_labellings("bip", "panoptic", "ip"), "some of the letters"),
        ('labellings = {"how many cars": "b"}', "expected a dict with the keys"),
    ],
    "read_labels": [
        (_read('return np.array(Image.open(path).convert("L"))'), "brightnesses"),
        (_read('return np.array(Image.open(path).convert("RGB"))'), 'convert("RGB")'),
        (_read("return cv2.imread(str(path))"), "blue, green, red"),
        (_read("return np.array(Image.open(path))"), "RGB PNG of colours"),
        (
            _read(
                'if Image.open(path).mode not in ("P", "L"):',
                '    raise ValueError("colours")',
                "return np.array(Image.open(path))",
            ),
            "on a JPEG you returned",
        ),
        (
            _read(
                'if path.suffix in (".jpg", ".jpeg") or Image.open(path).mode not in ("P", "L"):',
                '    raise ValueError("no labels")',
                "return np.array(Image.open(path))",
            ),
            "a JPEG whose name ends in .png",
        ),
        (
            _read(
                'if Image.open(path).mode != "P":',
                '    raise ValueError("no palette")',
                "return np.array(Image.open(path))",
            ),
            "this file does hold labels",
        ),
        (_read("return to_tensor(np.array(Image.open(path)))[0]"), "divides by 255"),
        (_read("return Image.open(path)"), "expected an array"),
        (_read(*_REFUSE, "return np.array(Image.open(path)).T"), "of shape (20, 30)"),
        (_read(*_REFUSE, "return np.array(Image.open(path)).astype(int)"), "expected uint8"),
        (_read("labels = np.array(Image.open(path))"), "is the `return` missing"),
    ],
    "misaligned": [
        ('misaligned = ("C", "padding")', "mask calls it void"),
        ('misaligned = ("B", "colour")', "a mask must not follow them"),
        ('misaligned = ("A", "flip")', "are both mirrored; follow the rims"),
        ('misaligned = ("D", "flip")', "a little beside"),
        ('misaligned = ("D", "padding")', "no border was added"),
        ('misaligned = "D"', "expected a letter and a cause"),
        ('misaligned = ("D", "rotation")', "one of flip, crop"),
    ],
    "resize_pair": [
        (
            _resize(_AREA, "cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)"),
            "px right of the disc in your image and",
        ),
        (
            _resize(_AREA, "cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)"),
            "that is their average",
        ),
        (
            _resize(_AREA, "(cv2.resize(mask * 1.0, (width, height)) > 0.5).astype(np.uint8)"),
            "not in the original (3, 4, 5)",
        ),
        (
            _resize(_AREA, _EXACT, "return (image[:, ::-1], mask) if flip else (image, mask)"),
            "the photo is mirrored, the mask is not",
        ),
        (_resize(_AREA, _EXACT, "return image, mask"), "nothing is mirrored"),
        (
            _resize(
                "cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)",
                "cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)",
            ),
            "only the 3 colours",
        ),
        (
            _resize(
                "cv2.resize(image, (height, width), interpolation=cv2.INTER_AREA)",
                "cv2.resize(mask, (height, width), interpolation=cv2.INTER_NEAREST_EXACT)",
            ),
            "expected an image of shape (96, 128, 3)",
        ),
        (_resize(_AREA, _EXACT, "return image"), "expected (image, mask)"),
        (
            _resize(
                _AREA,
                _EXACT,
                "return (image[::-1, ::-1], mask[::-1, ::-1]) if flip else (image, mask)",
            ),
            "stands on its head",
        ),
        (
            _resize(
                _AREA,
                _EXACT,
                "return (image[:, ::-1, ::-1], mask[:, ::-1]) if flip else (image, mask)",
            ),
            "red and blue are swapped",
        ),
        (_resize(_AREA, "cv2.erode(" + _EXACT + ", np.ones((3, 3), np.uint8))"), "label 5 covers"),
    ],
    "misread": [
        (_misread("d", "d", "c", "a"), "brightnesses of four colours"),
        (_misread("b", "a", "c", "a"), "1 / 255 is 0.0039"),
        (_misread("b", "d", "a", "a"), "almost 255"),
        (_misread("b", "d", "c", "b"), "may leave numbers out"),
        (_misread("b", "d", "c", "jpeg"), "a letter from a to d"),
    ],
    "by_hand": [
        ('by_hand = {"road": 4 / 10, "car": 3 / 9, "sky": 5 / 11}', "counted twice in the union"),
        ('by_hand = {"road": 4 / 6, "car": 3 / 7, "sky": 5 / 6}', "truth is void"),
        ('by_hand = {"road": 4 / 5, "car": 3 / 4, "sky": 5 / 6}', "that is the recall"),
        ('by_hand = {"road": 8 / 10, "car": 6 / 9, "sky": 10 / 11}', "Dice"),
        ('by_hand = {"road": 4 / 5, "car": 3 / 5, "sky": 1}', "precision"),
        ('by_hand = {"road": 4 / 15, "car": 3 / 15, "sky": 5 / 15}', "all 15 labelled pixels"),
        ('by_hand = {"road": 0.8, "car": 0.8, "sky": 0.8}', "one number for all"),
        ('by_hand = {"road": 67, "car": 50, "sky": 83}', "a fraction from 0 to 1"),
        ('by_hand = {"road": 4 / 6, "car": 3 / 6, "sky": 0.9}', "sky 0.900 is not it"),
    ],
    "iou": [
        (_iou("(p & t).sum() / (p.sum() + t.sum())"), "subtract it once"),
        (_iou(_RIGHT, valid="truths >= 0"), "predictions at void pixels"),
        (_iou(_RIGHT, empty="0.0"), "would pull the mean down"),
        (_iou(_RIGHT, empty="1.0"), "would be a gift"),
        (_iou("(p & t).sum() / t.sum()"), "that is the recall"),
        (_iou("(p & t).sum() / p.sum()"), "that is the precision"),
        (_iou("2 * (p & t).sum() / (p.sum() + t.sum())"), "that is Dice"),
        (
            """
def iou(predictions, truths, num_classes):
    def one(prediction, truth):
        valid, found = truth != 255, []
        for k in range(num_classes):
            p, t = (prediction == k) & valid, (truth == k) & valid
            found.append((p & t).sum() / (p | t).sum() if (p | t).any() else np.nan)
        return found
    each = np.array([one(*pair) for pair in zip(predictions, truths)])
    known = ~np.isnan(each)
    return np.where(known, each, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
""",
            "mean of each image's IoU",
        ),
        (
            f"""
def iou(predictions, truths, num_classes):
    {_JOIN}
    return (predictions == truths)[truths != 255].mean()
""",
            "single number",
        ),
        (
            """
def iou(predictions, truths, num_classes):
    valid = truths != 255
    return np.zeros(num_classes)
""",
            "expected [0",
        ),
        (
            f"""
def iou(predictions, truths, num_classes):
    {_JOIN}
    valid = truths != 255
    pairs = np.bincount(truths[valid] * np.uint8(num_classes) + predictions[valid],
                        minlength=num_classes**2)[:num_classes**2].reshape(num_classes, -1)
    hits = np.diag(pairs)
    with np.errstate(all="ignore"):
        return hits / (pairs.sum(0) + pairs.sum(1) - hits)
""",
            "goes over 255",
        ),
        (
            f"""
def iou(predictions, truths, num_classes):
    {_JOIN}
    found = []
    for k in np.unique(truths[truths != 255]):
        p, t = (predictions == k) & (truths != 255), truths == k
        found.append((p & t).sum() / (p | t).sum())
    return np.array(found)
""",
            "of shape (5,)",
        ),
        (
            """
def iou(predictions, truths, num_classes):
    for truth in truths:
        truth[truth == 255] = 0
    return np.zeros(num_classes)
""",
            "work on a copy",
        ),
    ],
    "shares": [
        (
            _shares(
                "pixels = sum(np.bincount(m.ravel(), minlength=256)[:num_classes] for m in masks)",
                "return pixels / sum(m.size for m in masks)",
            ),
            "void pixels stand in the denominator",
        ),
        (
            _shares(
                "pixels = sum(np.bincount(m.ravel(), minlength=256) for m in masks)",
                "pixels = np.append(pixels[:num_classes], pixels[255])",
                "return pixels / pixels.sum()",
            ),
            "void is no class",
        ),
        (
            _shares(
                "counts = [np.bincount(m.ravel(), minlength=256)[:num_classes] for m in masks]",
                "return np.mean([c / c.sum() for c in counts], axis=0)",
            ),
            "mean of each mask's",
        ),
        (
            _shares(
                "return sum(np.bincount(m.ravel(), minlength=256)[:num_classes] for m in masks)"
            ),
            "those are counts",
        ),
        (
            _shares(
                "pixels = sum(np.bincount(m.ravel(), minlength=256) for m in masks)",
                "return pixels / pixels.sum()",
            ),
            "keep the first num_classes",
        ),
        (
            _shares(
                "every = np.concatenate([m.ravel() for m in masks])",
                "_, counts = np.unique(every[every != 255], return_counts=True)",
                "return counts / counts.sum()",
            ),
            "np.unique leaves it out",
        ),
        (
            _shares(
                "pixels = np.zeros(num_classes)",
                "for mask in masks:",
                "    pixels += np.bincount(mask.ravel())",
                "return pixels / pixels.sum()",
            ),
            "makes 256 bins",
        ),
        (
            _shares("return np.mean([[(m == k).any() for k in range(4)] for m in masks], axis=0)"),
            "share of masks that contain the class",
        ),
        (
            _shares(
                "pixels = sum(np.bincount(m.ravel(), minlength=256)[:num_classes] for m in masks)",
                "return 100 * pixels / pixels.sum()",
            ),
            "per cent",
        ),
    ],
    "road": [
        ("road = 0.298", "the mean is over all 11"),
        ("road = 0.284 / 2", "not road and the rest"),
        ("road = 2.7", "not a fraction"),
        ("road = 0", "its own IoU is not 0"),
        ("road = 1 / 11", "would need an IoU of 1"),
        ("road = 0.5", "work out road's IoU"),
        ('road = "small"', "expected a number"),
    ],
    "poles": [
        ("poles = (0.092, 0.012)", "you have swapped the two"),
        ("poles = (0.012, 0.012)", "mIoU counts classes"),
        ("poles = (0.09, 0.09)", "accuracy counts pixels"),
        ("poles = (1.2, 9.2)", "fractions from 0 to 1"),
        ("poles = (0.012, 0.5)", "one of eleven in the mean"),
        ("poles = 0.012", "expected two numbers"),
    ],
}
