"""Wrong answers to the exercises of lesson 1, beside those that their judges' tables imply."""

PRELUDE = """
import cv2
import numpy as np
from PIL import Image
from torchvision.transforms.functional import to_tensor
"""


def _labellings(cars, road, one):
    return (
        f'labellings = {{"how many cars": {cars!r}, "which pixels are road": {road!r}, '
        f'"which pixels are this one car": {one!r}}}'
    )


def _misread(*letters):
    values = (
        "[0, 38, 75, 113]; [0.0, 0.0039, 0.0078, 1.0]; [0, 1, 2, 3, 254, 255]; [0, 3, 4, 5, 255]"
    )
    return f"misread = {dict(zip(values.split('; '), letters, strict=True))!r}"


def _function(head, *lines):
    return "\n    ".join([f"def {head}:", *lines])


def _read(refuse, result="labels"):
    return _function(
        "read_labels(path)",
        "picture = Image.open(path)",
        "labels = np.array(picture)",
        f"if {refuse}:",
        '    raise ValueError("no labels")',
        f"return {result}",
    )


_MODE = 'picture.mode not in ("P", "L")'
_RIGHT = f'picture.format == "JPEG" or {_MODE}'


def _resize(image, mask, end="return (image[:, ::-1], mask[:, ::-1]) if flip else (image, mask)"):
    return _function(
        "resize_pair(image, mask, height, width, flip)", f"image = {image}", f"mask = {mask}", end
    )


def _cv2(name, rule, size="(width, height)"):
    return f"cv2.resize({name}, {size}, interpolation=cv2.INTER_{rule})"


_AREA, _EXACT = _cv2("image", "AREA"), _cv2("mask", "NEAREST_EXACT")


def _rolled(by):
    return _cv2(f"np.roll(mask, {by}, (0, 1))", "NEAREST")


def _iou(value, before="pass"):
    return _function(
        "iou(predictions, truths, num_classes)",
        before,
        "prediction = np.concatenate([p.ravel() for p in predictions])",
        "truth = np.concatenate([t.ravel() for t in truths])",
        "found = []",
        "for k in range(num_classes):",
        "    p, t = (prediction == k) & (truth != 255), truth == k",
        "    both, either = (p & t).sum(), (p | t).sum()",
        f"    found.append({value})",
        "return np.array(found)",
    )


_VALUE = "both / either if either else np.nan"
_SUM = "pixels = sum(np.bincount(m.ravel(), minlength=256)[:num_classes] for m in masks)"


def _shares(*lines):
    return _function("shares(masks, num_classes)", *lines)


WRONG: dict[str, list[tuple[str, str]]] = {
    "labellings": [
        (_labellings("bsip", "sp", "ip"), "one region in a semantic mask"),
        (_labellings("bip", "csip", "ip"), "not how many or where"),
        (_labellings("bip", "sp", ["b", "i", "p"]), "behind and around the car"),
        (_labellings("b, p", "sp", "ip"), "left out instance: it has a mask with a number"),
        (_labellings("bip", "panoptic", "ip"), "some of the letters"),
    ],
    "read_labels": [
        (_read(f"{_RIGHT} or len(np.unique(labels)) > 10"), "holds the labels 0 to 149 and 255"),
        (_read('path.suffix == ".jpg" or ' + _MODE), "on a JPEG whose name ends in .png"),
        (_read('picture.mode != "P"'), "on a grey PNG that holds the labels 0, 1, 2"),
        (_read('picture.mode == "RGB" or picture.format == "JPEG"'), "on an RGBA PNG of colours"),
        (_read(_RIGHT, "cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)"), "brightnesses"),
        (_read(_RIGHT, "to_tensor(labels)[0]"), "ToTensor divides by 255"),
        (_read(_RIGHT, "picture"), "expected an array"),
        (_read(_RIGHT, "labels.astype(np.int64)"), "found int64 of shape (20, 30)"),
        (_read(_RIGHT).replace("ValueError", "TypeError"), "raised TypeError: no labels, expected"),
        (_read(_RIGHT).replace("return labels", "labels"), "is the `return` missing"),
    ],
    "misread": [
        (_misread("d", "d", "c", "a"), "brightnesses of four colours"),
        (_misread("b", "d", "a", "a"), "almost 255"),
        (_misread("b", "d", "c", "jpeg"), "one of a, b, c, d"),
    ],
    "misaligned": [
        ('misaligned = ("A", "flip")', "are both mirrored"),
        ('misaligned = "D"', "expected 2 values"),
        ('misaligned = ("D", "rotation")', "one of colour, crop, flip, padding"),
    ],
    "resize_pair": [
        (_resize(_AREA, _cv2("mask", "NEAREST")), "which pixel of it does your mask read"),
        (_resize(_cv2("image", "NEAREST_EXACT"), _EXACT), "only the mask's line needs fixing"),
        (_resize(_AREA, _rolled(2)), "shifted the wrong way"),
        (_resize(_AREA, f"np.roll({_cv2('mask', 'NEAREST')}, (-1, -1), (0, 1))"), "too far"),
        (_resize(_AREA, _rolled(-2)), "and cells differ in size"),
        (_resize(_AREA, _rolled("(-2, 0)")), "one direction is right"),
        (_resize(_AREA, f"np.roll({_EXACT}, 9, 1)"), "somewhere else"),
        (_resize(_AREA, _cv2("mask", "AREA")), "labels [3, 4, 5], "),
        (_resize(_AREA, f"cv2.erode({_EXACT}, np.ones((3, 3), np.uint8))"), "label 5 covers"),
        (_resize(_AREA, _EXACT, "return image, mask"), "nothing is mirrored"),
        (_resize(_AREA, "mask"), "expected an array of shape (96, 128)"),
        (_resize(_AREA, _EXACT, "return image"), "expected (image, mask)"),
    ],
    "by_hand": [
        ('by_hand = {"road": 0.8, "car": 0.75, "sky": 0.83}', "that is the recall"),
        ('by_hand = {"road": 67, "car": 50, "sky": 83}', "a number from 0 to 1"),
        ('by_hand = {"road": 4 / 6, "car": 3 / 6, "sky": 0.9}', "IoU of sky: 0.9 is not it"),
    ],
    "iou": [
        (_iou("both / either if t.any() else np.nan"), "a class only predicted has IoU 0"),
        (_iou(_VALUE, "truths = [np.where(t == 255, 0, t) for t in truths]"), "become class 0"),
        (_iou("both / max(either, 1)"), "would pull the mean down"),
        (_iou("(both + 1e-6) / (either + 1e-6)"), "would be a gift"),
        (_iou(_VALUE).replace("np.array(found)", "np.nanmean(found)"), "one number for each class"),
        (_iou("k", "truths[0][truths[0] == 255] = 0"), "work on a copy"),
        (
            _function(
                "iou(predictions, truths, num_classes)",
                "pairs = np.zeros((num_classes, num_classes))",
                "for p, t in zip(predictions, truths):",
                "    codes = p[t != 255] * np.uint8(num_classes) + t[t != 255]",
                "    pairs += np.bincount(codes, minlength=num_classes**2).reshape(pairs.shape)",
                "hits = pairs.diagonal()",
                "with np.errstate(all='ignore'):",
                "    return hits / (pairs.sum(0) + pairs.sum(1) - hits)",
            ),
            "goes over 255",
        ),
    ],
    "shares": [
        (_shares(_SUM, "return np.where(pixels, pixels / pixels.sum(), np.nan)"), "0, not nan"),
        (
            _shares("masks = [m % 255 for m in masks]", _SUM, "return pixels / sum(pixels)"),
            "class 0",
        ),
        (
            _shares(
                "n = np.zeros(num_classes)", "for m in masks:", "    n += np.bincount(m.ravel())"
            ),
            "makes 256 bins",
        ),
    ],
    "road": [
        ("road = 0.03", "divided by ten"),
        ("road = 0.3", "the mean is over all 11"),
        ("road = 0.5", "work out road's IoU"),
    ],
    "poles": [
        ("poles = (0.09, 0.01)", "you have swapped the two"),
        ("poles = (0.09, 0.09)", "accuracy counts pixels"),
        ("poles = (1.2, 9.2)", "a number from 0 to 1"),
        ("poles = (0.012, 0.5)", "one of eleven in the mean"),
        ("poles = 0.012", "expected 2 values"),
    ],
}
