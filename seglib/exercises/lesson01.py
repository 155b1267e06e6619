"""The exercises of lesson 1: reading, aligning and scoring labels."""

# mypy: allow-untyped-defs
from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image

from seglib.exercises import kit
from seglib.exercises.kit import NotYet, call, show
from seglib.exercises.material01 import VOID, Pair, discs, label_maps

__all__ = ["LESSON", "summary"]

LESSON = kit.Lesson(
    "01",
    outcomes=(
        "read masks from disk as labels, and recognise the usual misreadings by their values",
        "keep an image and its mask aligned through augmentation and resizing",
        "compute IoU (intersection over union) by hand and in code, with void left out",
        "say what a guess without a network scores, and why accuracy hides what mIoU shows",
    ),
)


def _add(about: tuple[str, str, str, int], judge: Any, answer: Any, *hints: str) -> None:
    """An exercise of this lesson; `about` is its name, title, kind and outcome."""
    settings = dict(zip(("name", "title", "kind", "outcome"), about, strict=True))
    variable = "" if callable(answer) else about[0]
    LESSON.add(**settings, judge=judge, answer=answer, hints=hints, variable=variable)


def numeric(found: Any, given: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The reader's result as an array of numbers, else `NotYet`."""
    try:
        array = np.asarray(None if isinstance(found, Image.Image) else found)
    except Exception:  # a ragged list, a tensor that needs a gradient
        array = np.asarray(None)
    if array.dtype.kind not in "uifb" or shape not in (None, array.shape):
        what = f"an array of shape {shape}" if shape else "an array of numbers"
        raise NotYet(f"on {given}: found {show(found)}, expected {what}")
    return array


_fractions = partial(kit.numbers, low=0, high=1)

# ---------------------------------------------------------------- 1: values that show a misreading
MISREAD = {  # values: the right letter, and what there is to see
    "[0, 29, 76, 150]": ("b", "few whole numbers, far apart: brightnesses of four colours"),
    "[0.0, 0.0118, 0.0196, 1.0]": ("d", "fractions: 3 / 255 is 0.0118"),
    "[0, 1, 2, 3, 4, 5, 250, 252, 255]": ("c", "JPEG changed some 255s to 250 and 252: no classes"),
    "[0, 3, 4, 5, 255]": ("a", "small whole numbers and 255: labels may skip numbers"),
}
_add(
    ("misread", "What do the values say?", "interpret", 0),
    kit.letters(
        {values: right for values, (right, _) in MISREAD.items()},
        {x: {k: why for k in "abcd" if k != right} for x, (right, why) in MISREAD.items()},
        "the values show a misreading: print np.unique of every mask that is new to you",
    ),
    {values: right for values, (right, _) in MISREAD.items()},
    "Fractions, or whole numbers? Are there more values than classes?",
    "Labels may skip numbers: a picture need not show every class.",
)


# ---------------------------------------------------------------- 2: shrinking a pair
def resize_pair(image, mask, height, width, flip):
    """Shrink image and mask together, and mirror both if `flip`."""
    size = (width, height)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return (image[:, ::-1], mask[:, ::-1]) if flip else (image, mask)


def _pair(found: Any, given: str) -> Pair:
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise NotYet(f"on {given}: found {show(found)}, expected (image, mask)")
    size = (96, 128) if "height=96" in given else (40, 54)
    return numeric(found[0], given, (*size, 3)), numeric(found[1], given, size)


def _difference(found: Pair, value: Pair) -> str:
    """In what two pairs differ, if they do: in the mask's labels, the image, the discs (5)."""
    apart = np.abs(found[0] - value[0].astype(float)).mean()  # ways to average: 2; shifted: 4
    one, two = (mask == 5 for mask in (found[1], value[1]))
    soft, right = (cv2.GaussianBlur(x.astype(np.float32), (0, 0), 1) for x in (one, two))
    slopes = np.stack([slope.ravel() for slope in np.gradient(right)], axis=1)
    # how far down and right of their place the discs lie, for small shifts
    low, high = sorted(np.linalg.lstsq(slopes, (right - soft).ravel(), rcond=None)[0])
    differs = {
        "averages and thresholds invent labels; copy the label of one pixel": set(
            np.unique(found[1])
        )
        != {3, 5},
        "average the image (cv2.INTER_AREA); only the mask's line needs fixing": not apart < 3,
        "label 5 covers too many or too few pixels": abs(one.sum() / two.sum() - 1) > 0.06,
        "the discs are somewhere else": (one & two).sum() < 0.7 * two.sum(),
        "further off than with INTER_NEAREST: you shifted the mask the wrong way": high > 0.6,
        "off on the other side: you shifted the mask too far": low < -0.1,
        "one direction is right, the other is not": low <= 0.1 < high,
        "INTER_NEAREST is off by half a cell, and the size of a cell depends on the reduction": high
        > 0.1,
    }
    return next((hint for hint, wrong in differs.items() if wrong), "")


def _shown(pair: Pair) -> str:
    first, place = np.round(pair[0][0, 0]).astype(int), np.argwhere(pair[1] == 5)
    row, column = place.mean(axis=0) if len(place) else (np.nan, np.nan)
    labels = f"labels {np.unique(pair[1])[:5].tolist()}, {len(place)} pixels of 5"
    return f"an image that begins {first}, {labels} around ({row:.2f}, {column:.2f})"


def _resizing(flip: bool, *mistakes: tuple[str, ...]) -> kit.function:
    return kit.function(
        [(*discs(), *size, flip) for size in ((96, 128), (40, 54))],  # no one shift fits both
        resize_pair,
        kit.edits(resize_pair, *mistakes),
        lambda *case: f"discs in 360×480, height={case[2]}, width={case[3]}, flip={case[4]}",
        "the discs are where the photo has them, within 0.10 px",
        read=_pair,
        agree=lambda found, value: not _difference(found, value),
        shown=_shown,
        otherwise="" if flip else _difference,
    )


CELL = "the image averages its whole cell; which pixel of the cell does your mask read?"
FIXED = _resizing(False, (CELL, "_EXACT", ""), ("mirror only if flip=True", "if flip", "if True"))
FLIPPED = _resizing(
    True,
    ("nothing is mirrored", "if flip", "if False"),
    ("the photo is mirrored, the mask is not", "mask[:, ::-1]", "mask"),
    ("the mask is mirrored, the photo is not", "image[:, ::-1]", "image"),
    ("the pair is upside down; mirror the columns, image[:, ::-1]", "[:, ::-1]", "[::-1]"),
    ("the pair is also upside down; mirror the columns only", "[:, ", "[::-1, "),
    ("red and blue are swapped", "image[:, ::-1]", "image[:, ::-1, ::-1]"),
)
_add(
    ("resize_pair", "Fix the misaligned resize_pair", "debug", 1),
    kit.in_turn((FIXED, FLIPPED)),
    resize_pair,
    "Measure the offset without the flip, which only changes the side.",
    "INTER_NEAREST reads each cell's first pixel. Which should it read? OpenCV has a flag.",
)

# ---------------------------------------------------------------- 3: IoU by hand
BY_HAND = {"road": 4 / 6, "car": 3 / 6, "sky": 5 / 6}
WRONG_BY_HAND = [
    (4 / 10, 3 / 9, 5 / 11, "the intersection was counted twice in the union"),
    (8 / 10, 6 / 9, 10 / 11, "that is Dice; for IoU divide by the union"),
    (4 / 5, 3 / 4, 5 / 6, "that is the recall; divide by the union"),
    (4 / 5, 3 / 5, 5 / 5, "that is the precision; divide by the union"),
    (4 / 15, 3 / 15, 5 / 15, "you divided by all 15 labelled pixels, not by a union"),
    *((x, x, x, "that is one number for all classes; give the IoU of each") for x in (2 / 3, 0.8)),
]
_add(
    ("by_hand", "Three IoUs by hand", "predict", 2),
    _fractions(
        BY_HAND,
        {
            "car": [
                (3 / 7, "the pixel that is void in the truth counts in your union; leave it out")
            ]
        },
        "4/6, 3/6 and 5/6; their mean, the mIoU, is 0.667, while 12 of 15 pixels are correct",
        what=lambda name: f"the IoU of {name}",
        tolerance=0.007,  # two decimals will do
        otherwise="the union is the row sum plus the column sum minus the number on the diagonal",
        wholes=[(dict(zip(BY_HAND, row[:3], strict=True)), row[3]) for row in WRONG_BY_HAND],
    ),
    {"road": 0.667, "car": 0.5, "sky": 0.833},
    "The void pixel is not counted, whatever was predicted there.",
    "Intersection: the number on the diagonal. Union: its row sum plus its column sum, minus it.",
)


# ---------------------------------------------------------------- 4: IoU in code
def iou(predictions, truths, num_classes):
    """IoU of each class over all label maps together: (num_classes,), NaN where absent."""
    hits, union = np.zeros(num_classes), np.zeros(num_classes)
    for prediction, truth in zip(predictions, truths, strict=True):
        valid = truth != 255
        for label in range(num_classes):
            found, there = (prediction == label) & valid, truth == label
            hits[label] += (found & there).sum()
            union[label] += (found | there).sum()
    return np.divide(hits, union, out=np.full(num_classes, np.nan), where=union > 0)


def _left_alone(count: Any, given: str, *case: Any) -> Any:
    """What the reader's function returns; `NotYet` if it changes the label maps."""
    copies = deepcopy(case)
    found = call(
        count, *copies, given=given, clues={"(256,)": "void is 255, so bincount returns 256 bins"}
    )
    if not all(all(map(np.array_equal, *maps)) for maps in zip(case[:-1], copies, strict=False)):
        raise NotYet("your function changes the label maps it is given; work on a copy")
    return found


_counting = partial(
    kit.function,
    given=lambda *case: f"label maps of 6×8, 6×8 and 5×9 with {case[-1]} classes and void",
    run=_left_alone,
    read=numeric,
    agree=kit.close(1e-4),
    shown=lambda x: show(x) if np.size(x) > 40 else str(np.round(np.float64(x), 3).tolist()),
)
_iou = iou  # in the end this name means the exercise
HITS, UNION, VALID = "(found & there)", "(found | there).sum()", "valid = truth != 255"
SUM = "(found.sum() + there.sum())"
IN_TRUTH = "np.array([any((t == k).any() for t in truths) for k in range(num_classes)])"
EACH = "np.ma.masked_invalid([*map(_iou, zip(predictions), zip(truths), [num_classes] * 3)])"
PER_IMAGE = "that is the mean of the images' IoUs, another metric; here, add up all pixels first"
WRONG_IOU = kit.edits(
    iou,
    ("0 / 0 of an absent class is nan; 0 would pull the mean down", "np.nan", "0.0"),
    ("0 / 0 of an absent class is nan; 1 would raise the mean for nothing", "np.nan", "1.0"),
    ("a class that is only predicted has IoU 0, not nan", "union > 0", IN_TRUTH),
    ("predictions at void pixels count in your union", " & valid", ""),
    ("void has become class 0; leave it out", VALID, "truth, valid = truth % 255, True"),
    ("your union counts the intersection twice; subtract it once", UNION, SUM),
    ("that is Dice; IoU divides by the union", HITS, "2 * (found & there)", UNION, SUM),
    ("that is the recall, a fraction of the true pixels", UNION, "there.sum()"),
    ("that is the precision, a fraction of the predicted pixels", UNION, "found.sum()"),
    (PER_IMAGE, "return", f"return {EACH}.mean(0).filled(np.nan)  #"),  # comments out the rest
)
GUESSES, TRUTHS = label_maps()
MORE = [[np.where(x == VOID, x, x + 20) for x in maps] for maps in (GUESSES, TRUTHS)]
PER_CLASS = "return one number for each class, whether the truth has it or not"
UINT8 = "correct with 5 classes; a uint8 product such as truth * num_classes wraps around at 256"
_add(
    ("iou", "IoU in code", "implement", 2),
    _counting(
        [(GUESSES, TRUTHS, 5), (*MORE, 30)],
        iou,
        WRONG_IOU,
        praise="also with maps of several sizes, an absent class and one that is only predicted",
        otherwise=lambda x, y: PER_CLASS if x.shape != y.shape else UINT8 if len(x) == 30 else "",
    ),
    iou,
    "For each class, count two numbers over all label maps: pixels in both, pixels in either.",
    "Count only pixels with truth != 255. What is 0 / 0 for a class that occurs nowhere?",
    'np.errstate(invalid="ignore") silences the warning about 0 / 0.',
)

# ---------------------------------------------------------------- 5: what a guess scores
WRONG_ROAD = [
    (0.298, "that is road's own IoU, and the accuracy; the mean is over all 11 classes"),
    (0.0298, "that is road's IoU divided by ten; the mean is over eleven classes"),
    (0.149, "that is road's IoU divided by two; there are eleven classes, not road and the rest"),
    (0, "the guess is correct wherever the truth is road, so road's own IoU is not 0"),
    (1 / 11, "that would take an IoU of 1 for road, but its union is every labelled pixel"),
]
_add(
    ("road", "The mIoU of road everywhere", "predict", 3),
    _fractions(
        0.026,
        {None: WRONG_ROAD},
        "Streets val: 0.0259, road's IoU 0.284 divided by 11",
        what=lambda _: "the mIoU",
        tolerance=0.08,  # of the value: the shares of train and val differ by 5 per cent
        distance=lambda found, value: abs(found - value) / max(value, 1e-9),
        otherwise="work out road's IoU (its pixels / all pixels), then the mean over 11 classes",
    ),
    0.026,
    "If every pixel is called road, what is the intersection with the true road? And the union?",
    "The other ten classes are in the truth and never predicted: their IoU is 0 and counts.",
)

summary = LESSON.summary
globals().update(LESSON.exercises)  # from here on a name is the exercise, no longer its solution
