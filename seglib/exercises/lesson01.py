"""The exercises of lesson 1: labels, reading, aligning, counting and scoring them."""

# mypy: allow-untyped-defs
from __future__ import annotations

import tempfile
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from seglib.exercises import kit
from seglib.exercises.kit import NotYet, call, show
from seglib.exercises.material01 import VOID, Pair, discs, label_maps, masks_on_disk, six_pairs

__all__ = ["LESSON", "six_pairs", "summary"]

LESSON = kit.Lesson(
    "01",
    outcomes=(
        "say what classification, boxes, semantic, instance and panoptic labels keep of a scene",
        "read masks from disk as labels, and recognise the usual misreadings by their values",
        "keep an image and its mask aligned through augmentation and resizing",
        "compute IoU and class shares by hand and in code, with void left out",
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

# ---------------------------------------------------------------- 1: which labelling says what
NAMES = {"c": "classification", "b": "boxes", "s": "semantic", "i": "instance", "p": "panoptic"}
CARS, ROAD, ONE_CAR = "how many cars", "which pixels are road", "which pixels are this one car"
LABELLINGS = {CARS: "bip", ROAD: "sp", ONE_CAR: "ip"}
WHY: dict[Any, str] = {  # why a labelling can answer, or cannot
    "c": "a list of class names says that something is there, not how many or where",
    **dict.fromkeys("ip", "it has a mask with a number for every thing"),
    (CARS, "b"): "one box for each object, and boxes can be counted",
    (CARS, "s"): "cars that touch are one region in a semantic mask; ours had six cars in one",
    (ROAD, "b"): "road gets no box, and a box would not be a mask",
    (ROAD, "s"): "one class for every pixel is the semantic mask",
    (ROAD, "i"): "instance masks hold what can be counted; road is stuff, it has no number",
    (ROAD, "p"): "panoptic labels hold the semantic mask, panoptic // 1000",
    (ONE_CAR, "b"): "a box also holds pixels of what is behind and around the car",
    (ONE_CAR, "s"): "the semantic mask says that a pixel is car, not which car it belongs to",
    (ONE_CAR, "p"): "panoptic labels number the things as well, panoptic % 1000",
}


def _labellings(answer: Any) -> str:
    for question, text in kit.filled_in(answer, LABELLINGS).items():
        said = set(str(text).lower()) - set(" ,;+-[](){}'\"")
        if not said or said - set(NAMES):
            raise NotYet(f"{question}? Expected some of the letters c b s i p, found {show(text)}")
        for letter in sorted(said ^ set(LABELLINGS[question])):
            what = "chose" if letter in said else "left out"
            why = WHY.get((question, letter)) or WHY[letter]
            raise NotYet(f"{question}? You {what} {NAMES[letter]}: {why}")
    return "boxes and instances count things, semantic masks name pixels, panoptic labels do both"


_add(
    ("labellings", "Which labelling can answer?", "interpret", 0),
    _labellings,
    LABELLINGS,
    "Look at the figure: of which panels alone could you answer?",
    "Six cars were one region in one of the labellings. Road was in two of them only.",
)


# ---------------------------------------------------------------- 2: reading a mask
def read_labels(path):
    """Read a mask as labels: uint8 (H, W); ValueError where the file holds none."""
    picture = Image.open(path)
    if picture.format == "JPEG" or picture.mode not in ("P", "L"):
        raise ValueError(f"found {picture.format} of mode {picture.mode}, expected a PNG, P or L")
    return np.array(picture)  # of a palette PNG: the indices


MASKS, REFUSED = masks_on_disk(), "a ValueError"


def _read(read: Any, given: str, kind: str) -> Any:
    """What comes of a file with labels; of one without, in words."""
    picture, name, written = MASKS[kind]
    with tempfile.TemporaryDirectory() as folder:
        picture.save(path := Path(folder) / name, format=written)
        if "labels" in kind:
            return call(read, path, given=given, clues={"": "this file does hold labels"})
        try:
            return show(call(read, path, given=given))
        except NotYet as reason:
            return REFUSED if "raised ValueError" in str(reason) else str(reason).split(", ", 1)[-1]


_files = partial(kit.function, right=read_labels, given=str, run=_read)
AS, TO = "np.array(picture)", "np.array(picture.convert({}))"
READS_LABELS = _files(
    [(kind,) for kind in list(MASKS)[:3]],
    mistakes=kit.edits(
        read_labels,
        ("those are brightnesses of the palette's colours; do not convert", AS, TO.format('"L"')),
        ('convert("RGB") looks up the colours; keep the indices', AS, TO.format('"RGB"')),
        ("those are colours, in the order blue, green, red", AS, "cv2.imread(str(path))"),
        ("ToTensor divides by 255", AS, "np.array(picture) / np.float32(255)"),
        ("rows and columns are swapped", AS, "np.array(picture).T"),
    ),
    read=numeric,
    agree=lambda found, value: np.array_equal(found, value) and found.dtype == value.dtype,
    shown=lambda x: f"{x.dtype} of shape {x.shape} with the values {np.unique(x)[:4].tolist()}",
)
REFUSES_OTHERS = _files(
    [(kind,) for kind in list(MASKS)[3:]],
    mistakes=kit.edits(
        read_labels,
        ("look at .mode and .format", "raise ValueError", "str"),
        ("a JPEG of labels has mode L; look at .format", 'picture.format == "JPEG" or ', ""),
        ("a name may lie; look at .format", 'picture.format == "JPEG"', 'path.suffix == ".jpg"'),
        ("colours are no labels; look at .mode", ' or picture.mode not in ("P", "L")', ""),
    ),
    praise="palette and grey PNGs give labels, colours and JPEG give an error",
    read=lambda words, given: words,
    agree=lambda found, value: all((x in found) == (x in value) for x in (REFUSED, "raised")),
    shown=str,
    otherwise="there are no labels in it",
)
_add(
    ("read_labels", "Read a mask as labels", "implement", 1),
    kit.in_turn((READS_LABELS, REFUSES_OTHERS)),
    read_labels,
    "Image.open(path) alone does not convert; .mode says what is in the file.",
    "P is a palette PNG, L a grey one; raise ValueError for other modes, and for a JPEG.",
)

# ---------------------------------------------------------------- 3 and 4: to look at
MISREAD = {  # values: the right letter, and what there is to see
    "[0, 38, 75, 113]": ("b", "few whole numbers, far apart: brightnesses of four colours"),
    "[0.0, 0.0039, 0.0078, 1.0]": ("d", "fractions: 1 / 255 is 0.0039"),
    "[0, 1, 2, 3, 254, 255]": ("c", "254 is not void and no class: it is almost 255"),
    "[0, 3, 4, 5, 255]": ("a", "small whole numbers and 255: labels may leave numbers out"),
}
_add(
    ("misread", "What do the values say?", "interpret", 1),
    kit.letters(
        {values: right for values, (right, _) in MISREAD.items()},
        {x: {k: why for k in "abcd" if k != right} for x, (right, why) in MISREAD.items()},
        "values betray a misreading: print np.unique of every mask that is new to you",
    ),
    {values: right for values, (right, _) in MISREAD.items()},
    "Fractions, or whole numbers? As many values as there may be classes?",
    "Labels may leave numbers out: a picture need not show every class.",
)

PAIRS = {
    "A": "photo and mask are both mirrored; follow the rims of cars and poles",
    "B": "other colours do not move anything, and a mask must not follow them",
    "C": "the black border was added to the photo, and the mask calls it void, as it should",
    **dict.fromkeys("EF", "photo and mask are cut out at the same place; follow the rims"),
}
CAUSES = {
    "flip": "things would then be on opposite sides, not a little beside each other",
    "colour": "that moves nothing; here the rims are off",
    "padding": "no border was added to D; the photo fills the frame",
}
_add(
    ("misaligned", "Find the misaligned pair", "interpret", 2),
    kit.letters(
        ("D", "crop"),
        {0: PAIRS, 1: CAUSES},
        "in D the mask is cut out five pixels further right than the photo",
        what=("the pair", "the cause").__getitem__,
    ),
    ("D", "crop"),
    "Look at what is thin and upright: poles, and the sides of cars.",
    "A border without class and other colours are as they should be.",
)


# ---------------------------------------------------------------- 5: shrinking a pair
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
        "averages and thresholds invent labels; copy one pixel's": set(np.unique(found[1]))
        != {3, 5},
        "average the image (cv2.INTER_AREA); only the mask's line needs fixing": not apart < 3,
        "label 5 covers too many or too few pixels": abs(one.sum() / two.sum() - 1) > 0.06,
        "the discs lie somewhere else": (one & two).sum() < 0.7 * two.sum(),
        "INTER_NEAREST leaves the discs nearer: the mask was shifted the wrong way": high > 0.6,
        "INTER_NEAREST leaves them on the other side: the mask was shifted too far": low < -0.1,
        "one direction is right, the other is not": low <= 0.1 < high,
        "INTER_NEAREST is half a cell off, and cells differ in size": high > 0.1,
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
        "the discs lie where they are in the photo, within 0.10 px",
        read=_pair,
        agree=lambda found, value: not _difference(found, value),
        shown=_shown,
        otherwise="" if flip else _difference,
    )


CELL = "the image averages its whole cell; which pixel of it does your mask read?"
MENDED = _resizing(False, (CELL, "_EXACT", ""), ("mirror only if flip=True", "if flip", "if True"))
FLIPPED = _resizing(
    True,
    ("nothing is mirrored", "if flip", "if False"),
    ("the photo is mirrored, the mask is not", "mask[:, ::-1]", "mask"),
    ("the mask is mirrored, the photo is not", "image[:, ::-1]", "image"),
    ("the pair stands on its head; mirror the columns, image[:, ::-1]", "[:, ::-1]", "[::-1]"),
    ("the pair also stands on its head; mirror the columns only", "[:, ", "[::-1, "),
    ("red and blue are swapped", "image[:, ::-1]", "image[:, ::-1, ::-1]"),
)
_add(
    ("resize_pair", "Mend the misaligned resize_pair", "debug", 2),
    kit.in_turn((MENDED, FLIPPED)),
    resize_pair,
    "Measure the offset without the flip, which only changes its side.",
    "INTER_NEAREST reads each cell's top-left pixel; INTER_NEAREST_EXACT and resize_mask do not.",
)

# ---------------------------------------------------------------- 6: IoU by hand
BY_HAND = {"road": 4 / 6, "car": 3 / 6, "sky": 5 / 6}
WRONG_BY_HAND = [
    (4 / 10, 3 / 9, 5 / 11, "the intersection was counted twice in the union"),
    (8 / 10, 6 / 9, 10 / 11, "that is Dice; for IoU divide by the union"),
    (4 / 5, 3 / 4, 5 / 6, "that is the recall; divide by the union"),
    (4 / 5, 3 / 5, 5 / 5, "that is the precision; divide by the union"),
    (4 / 15, 3 / 15, 5 / 15, "you divided by all 15 labelled pixels, not by a union"),
    *((x, x, x, "that is one number for all; give the IoU of each class") for x in (2 / 3, 0.8)),
]
_add(
    ("by_hand", "Three IoUs by hand", "predict", 3),
    _fractions(
        BY_HAND,
        {"car": [(3 / 7, "the pixel whose truth is void counts in your union; leave it out")]},
        "4/6, 3/6 and 5/6; their mean, the mIoU, is 0.667, while 12 of 15 pixels are right",
        what=lambda name: f"the IoU of {name}",
        tolerance=0.007,  # two decimals will do
        otherwise="row sum plus column sum minus the number on the diagonal is the union",
        wholes=[(dict(zip(BY_HAND, row[:3], strict=True)), row[3]) for row in WRONG_BY_HAND],
    ),
    {"road": 0.667, "car": 0.5, "sky": 0.833},
    "The pixel without a class is not counted, whatever was predicted there.",
    "Intersection: the number on the diagonal. Union: its row plus its column, minus it.",
)


# ---------------------------------------------------------------- 7 and 8: IoU and shares in code
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


def shares(masks, num_classes):
    """The share of all labelled pixels that each class has: (num_classes,)."""
    pixels = np.zeros(num_classes)
    for mask in masks:
        pixels += np.bincount(mask.ravel(), minlength=256)[:num_classes]  # void is 255
    return pixels / pixels.sum()


def _left_alone(count: Any, given: str, *case: Any) -> Any:
    """What the reader's function returns; `NotYet` if it changes the label maps."""
    copies = deepcopy(case)
    found = call(count, *copies, given=given, clues={"(256,)": "void is 255 and makes 256 bins"})
    if not all(all(map(np.array_equal, *maps)) for maps in zip(case[:-1], copies, strict=False)):
        raise NotYet("your function changes the label maps that it gets; work on a copy")
    return found


_counting = partial(
    kit.function,
    given=lambda *case: f"label maps of 6×8, 6×8 and 5×9 with {case[-1]} classes and void",
    run=_left_alone,
    read=numeric,
    agree=kit.close(1e-4),
    shown=lambda x: show(x) if np.size(x) > 40 else str(np.round(np.float64(x), 3).tolist()),
)
_iou, _shares = iou, shares  # in the end these names mean the exercises
HITS, UNION, VALID = "(found & there)", "(found | there).sum()", "valid = truth != 255"
SUM, IN_TRUTH = "(found.sum() + there.sum())", "_shares(truths, num_classes) > 0"
EACH = "np.ma.masked_invalid([*map(_iou, zip(predictions), zip(truths), [num_classes] * 3)])"
PER_IMAGE = "that is the mean of each image's IoU; add up the pixels of all images first"
WRONG_IOU = kit.edits(
    iou,
    ("0 / 0 of an absent class is nan; 0 would pull the mean down", "np.nan", "0.0"),
    ("0 / 0 of an absent class is nan; 1 would be a gift", "np.nan", "1.0"),
    ("a class only predicted has IoU 0, not nan", "union > 0", IN_TRUTH),
    ("predictions at void pixels count in your union", " & valid", ""),
    ("void has become class 0; leave it out", VALID, "truth, valid = truth % 255, True"),
    ("the union counts the intersection twice: subtract it once", UNION, SUM),
    ("that is Dice; IoU divides by the union", HITS, "2 * (found & there)", UNION, SUM),
    ("that is the recall, a share of the truth's pixels", UNION, "there.sum()"),
    ("that is the precision, a share of the predicted pixels", UNION, "found.sum()"),
    (PER_IMAGE, "return", f"return {EACH}.mean(0).filled(np.nan)  #"),  # comments out the rest
)
GUESSES, TRUTHS = label_maps()
MORE = [[np.where(x == VOID, x, x + 20) for x in maps] for maps in (GUESSES, TRUTHS)]
PER_CLASS = "one number for each class, whether the truth has it or not"
UINT8 = "right with 5 classes; a uint8 product such as truth * num_classes goes over 255"
_add(
    ("iou", "IoU in code", "implement", 3),
    _counting(
        [(GUESSES, TRUTHS, 5), (*MORE, 30)],
        iou,
        WRONG_IOU,
        praise="maps of several sizes, an absent class and one that is only predicted",
        otherwise=lambda x, y: PER_CLASS if x.shape != y.shape else UINT8 if len(x) == 30 else "",
    ),
    iou,
    "Count two things for each class over all label maps: pixels in both, pixels in either.",
    "Only pixels with truth != 255. What is 0 / 0 for a class that is nowhere?",
    'np.errstate(invalid="ignore") silences the warning about 0 / 0.',
)

OVER, ZEROS, BINS = "pixels / pixels.sum()", "np.zeros(num_classes", "[:num_classes]"
MEAN = "np.mean([_shares([mask], num_classes){} for mask in masks], axis=0)"
WRONG_SHARES = kit.edits(
    shares,
    ("void pixels stand in the denominator", OVER, "pixels / sum(mask.size for mask in masks)"),
    ("void is no class: leave it out", ZEROS, f"{ZEROS}+1", BINS, "[[*range(num_classes), 255]]"),
    ("void has become class 0; leave it out", "mask.ravel()", "mask.ravel() % 255"),
    ("that is the mean of each mask's shares", OVER, MEAN.format("")),
    ("that is the share of masks that contain the class", OVER, MEAN.format(" > 0")),
    ("those are counts: divide by their sum", OVER, "pixels"),
    ("those are per cent, expected fractions", OVER, f"100 * {OVER}"),
    ("an absent class has the share 0, not nan", OVER, f"np.where(pixels, {OVER}, np.nan)"),
    ("an absent class is 0: np.unique leaves it out", "return pixels", "return pixels[pixels > 0]"),
    ("np.bincount goes up to 255; keep the first num_classes", ZEROS, "np.zeros(256", BINS, ""),
)
_add(
    ("shares", "Class shares that respect void", "implement", 3),
    _counting(
        [(TRUTHS, 4)],
        shares,
        WRONG_SHARES,
        praise="the shares of the labelled pixels sum to 1",
        otherwise="pixels of the class / pixels of all classes",
    ),
    shares,
    "Add up the pixels of all masks, then divide once.",
    "np.bincount(mask.ravel(), minlength=256) counts void as well, at 255.",
)

# ---------------------------------------------------------------- 9 and 10: what guesses score
WRONG_ROAD = [
    (0.298, "that is road's own IoU, and the accuracy; the mean is over all 11 classes"),
    (0.0298, "that is road's IoU divided by ten; the mean is over eleven classes"),
    (0.149, "that is road's IoU divided by two; there are 11 classes, not road and the rest"),
    (0, "road is right wherever the truth is road, so its own IoU is not 0"),
    (1 / 11, "that would need an IoU of 1 for road; its union is every pixel of the picture"),
]
_add(
    ("road", "The mIoU of road everywhere", "predict", 4),
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
    "If everything is called road, what is the intersection with the true road? The union?",
    "The other ten classes are in the truth and never predicted: their IoU is 0, and counts.",
)

POLES = (0.012, 0.092)  # gain of accuracy and mIoU, of the location prior on Streets val
GAINS = (
    "accuracy counts pixels: the poles have 1.2 % of them, all wrong before and all right after",
    "Pole's IoU goes from 0 to 1 and is one of eleven in the mean",
)
_add(
    ("poles", "What would all poles bring?", "predict", 4),
    _fractions(
        POLES,
        {1: [(0.012, "mIoU counts classes: what does one of eleven IoUs bring the mean?")]},
        "accuracy rises by 0.012, the poles' share; mIoU by 0.092, about 1/11",
        what=("the gain of accuracy", "the gain of mIoU").__getitem__,
        tolerance=0.003,
        otherwise=lambda place, _: GAINS[place],
        wholes=[(POLES[::-1], "you have swapped the two: which counts pixels, which classes?")],
    ),
    POLES,
    "Accuracy: what share of the labelled pixels goes from wrong to right?",
    "mIoU: Pole's IoU goes from 0 to 1. How many IoUs are in the mean?",
)

summary = LESSON.summary
globals().update(LESSON.exercises)  # from here on a name is the exercise, no longer its solution
