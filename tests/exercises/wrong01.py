"""Wrong answers to the exercises of lesson 1, beside those that their judges' tables imply."""

from answers import code

PRELUDE = """
import cv2
import numpy as np
from seglib.exercises import lesson01 as ex
"""


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


WRONG = {
    "misread": {
        "JPEG changed some 255s": (
            "misread = {**ex.misread.answer, '[0, 1, 2, 3, 4, 5, 250, 252, 255]': 'a'}"
        ),
        "one of a, b, c, d": "misread = {**ex.misread.answer, '[0, 3, 4, 5, 255]': 'jpeg'}",
    },
    "resize_pair": {
        "only the mask's line needs fixing": _resize(_cv2("image", "NEAREST_EXACT"), _EXACT),
        "shifted the mask the wrong way": _resize(_AREA, _rolled(2)),
        "too far": _resize(_AREA, f"np.roll({_cv2('mask', 'NEAREST')}, (-1, -1), (0, 1))"),
        "depends on the reduction": _resize(_AREA, _rolled(-2)),
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
        "that is only predicted has IoU 0": _iou(value="both / either if two.any() else np.nan"),
        "become class 0": _iou("t = np.where(t == 255, 0, t)"),
        "return one number for each class": _iou(end="np.nanmean(found)"),
        "work on a copy": _iou("truths[0][truths[0] == 255] = 0"),
        "wraps around at 256": _iou(
            "codes = t * np.uint8(num_classes) + p",
            "t, p = np.where(t == 255, 255, codes // num_classes), codes % num_classes",
        ),
    },
    "road": {"divided by ten": "road = 0.03", "work out road's IoU": "road = 0.5"},
}
