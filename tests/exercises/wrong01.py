"""Wrong answers to the exercises of lesson 1, beside those that their judges' tables imply."""

from answers import code

PRELUDE = """
import cv2
import numpy as np
from PIL import Image
from torchvision.transforms.functional import to_tensor
from seglib.exercises import lesson01 as ex
"""


def _labellings(*three):
    questions = "how many cars", "which pixels are road", "which pixels are this one car"
    return f"labellings = {dict(zip(questions, three, strict=True))}"


def _read(refuse, result="labels"):
    return code(
        "def read_labels(path):",
        "picture = Image.open(path)",
        "labels = np.array(picture)",
        f"if {refuse}:",
        '    raise ValueError("no labels")',
        f"return {result}",
    )


_MODE = 'picture.mode not in ("P", "L")'
_RIGHT = f'picture.format == "JPEG" or {_MODE}'


def _resize(image, mask, end="return (image[:, ::-1], mask[:, ::-1]) if flip else (image, mask)"):
    head = "def resize_pair(image, mask, height, width, flip):"
    return code(head, f"image = {image}", f"mask = {mask}", end)


def _cv2(name, rule):
    return f"cv2.resize({name}, (width, height), interpolation=cv2.INTER_{rule})"


_AREA, _EXACT = _cv2("image", "AREA"), _cv2("mask", "NEAREST_EXACT")


def _rolled(by):
    return _cv2(f"np.roll(mask, {by}, (0, 1))", "NEAREST")


def _iou(*lines, value="both / either if either else np.nan", end="np.array(found)"):
    return code(
        "def iou(predictions, truths, num_classes):",
        "p, t = (np.concatenate([x.ravel() for x in maps]) for maps in (predictions, truths))",
        *lines,
        "found = []",
        "for k in range(num_classes):",
        "    one, two = (p == k) & (t != 255), t == k",
        "    both, either = (one & two).sum(), (one | two).sum()",
        f"    found.append({value})",
        f"return {end}",
    )


_SHARES = "def shares(masks, num_classes):"
_SUM = "pixels = sum(np.bincount(m.ravel(), minlength=256)[:num_classes] for m in masks)"

WRONG = {
    "labellings": {
        "one region in a semantic mask": _labellings("bsip", "sp", "ip"),
        "not how many or where": _labellings("bip", "csip", "ip"),
        "behind and around the car": _labellings("bip", "sp", ["b", "i", "p"]),
        "left out instance: it has a mask with a number": _labellings("b, p", "sp", "ip"),
        "some of the letters": _labellings("bip", "panoptic", "ip"),
    },
    "read_labels": {
        "the labels 0 to 149 and 255": _read(f"{_RIGHT} or len(np.unique(labels)) > 10"),
        "on a JPEG whose name ends in .png": _read('path.suffix == ".jpg" or ' + _MODE),
        "on a grey PNG that holds the labels 0, 1, 2": _read('picture.mode != "P"'),
        "on an RGBA PNG of": _read('picture.mode == "RGB" or picture.format == "JPEG"'),
        "expected an array": _read(_RIGHT, "picture"),
        "found int64 of shape (20, 30)": _read(_RIGHT, "labels.astype(np.int64)"),
        "raised TypeError: no labels, exp": _read(_RIGHT).replace("ValueError", "TypeError"),
    },
    "misread": {
        "almost 255": "misread = {**ex.misread.answer, '[0, 1, 2, 3, 254, 255]': 'a'}",
        "one of a, b, c, d": "misread = {**ex.misread.answer, '[0, 3, 4, 5, 255]': 'jpeg'}",
    },
    "misaligned": {
        "expected 2 values": 'misaligned = "D"',
        "one of colour, crop, flip, padding": 'misaligned = ("D", "rotation")',
    },
    "resize_pair": {
        "only the mask's line needs fixing": _resize(_cv2("image", "NEAREST_EXACT"), _EXACT),
        "shifted the wrong way": _resize(_AREA, _rolled(2)),
        "too far": _resize(_AREA, f"np.roll({_cv2('mask', 'NEAREST')}, (-1, -1), (0, 1))"),
        "and cells differ in size": _resize(_AREA, _rolled(-2)),
        "one direction is right": _resize(_AREA, _rolled("(-2, 0)")),
        "somewhere else": _resize(_AREA, f"np.roll({_EXACT}, 9, 1)"),
        "labels [3, 4, 5], ": _resize(_AREA, _cv2("mask", "AREA")),
        "label 5 covers": _resize(_AREA, f"cv2.erode({_EXACT}, np.ones((3, 3), np.uint8))"),
        "expected an array of shape (96, 128)": _resize(_AREA, "mask"),
        "expected (image, mask)": _resize(_AREA, _EXACT, "return image"),
    },
    "by_hand": {
        "a number from 0 to 1": 'by_hand = {"road": 67, "car": 50, "sky": 83}',
        "IoU of sky: 0.9 is not it": 'by_hand = {"road": 4 / 6, "car": 3 / 6, "sky": 0.9}',
    },
    "iou": {
        "a class only predicted has IoU 0": _iou(value="both / either if two.any() else np.nan"),
        "become class 0": _iou("t = np.where(t == 255, 0, t)"),
        "one number for each class": _iou(end="np.nanmean(found)"),
        "work on a copy": _iou("truths[0][truths[0] == 255] = 0"),
        "goes over 255": _iou(
            "codes = t * np.uint8(num_classes) + p",
            "t, p = np.where(t == 255, 255, codes // num_classes), codes % num_classes",
        ),
    },
    "shares": {
        "0, not nan": code(_SHARES, _SUM, "return np.where(pixels, pixels / pixels.sum(), np.nan)"),
        "class 0": code(
            _SHARES, "masks = [m % 255 for m in masks]", _SUM, "return pixels / sum(pixels)"
        ),
        "makes 256 bins": code(
            _SHARES,
            "n = np.zeros(num_classes)",
            "for m in masks:",
            "    n += np.bincount(m.ravel())",
        ),
    },
    "road": {"divided by ten": "road = 0.03", "work out road's IoU": "road = 0.5"},
    "poles": {
        "accuracy counts pixels": "poles = (0.09, 0.09)",
        "one of eleven in the mean": "poles = (0.012, 0.5)",
    },
}
