"""How the answers of lesson 1 about labels, files and alignment are judged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seglib.exercises.kit import NotYet, call, show

VOID = 255


def exactly(found: Any, shape: tuple[int, ...], given: str, what: str) -> np.ndarray:
    """The reader's result as an array of this shape, else `NotYet`."""
    try:
        array = np.asarray(found.numpy() if hasattr(found, "numpy") else found)
    except Exception:
        array = np.array(None)
    if array.dtype.kind not in "uifb":
        raise NotYet(f"on {given} you returned {show(found)}, expected {what}")
    if array.shape != shape:
        raise NotYet(f"on {given} you returned {show(array)}, expected {what} of shape {shape}")
    return array


def recognise(found: Any, mistakes: dict[str, Any], tolerance: float = 1e-6) -> str:
    """What is wrong with `found`: the first of the mistakes that gives the same numbers."""
    for hint, value in mistakes.items():
        shape = np.shape(value)
        if np.shape(found) == shape and np.allclose(found, value, atol=tolerance, equal_nan=True):
            return hint
    return ""


def rounded(values: Any) -> str:
    return "[" + ", ".join("nan" if np.isnan(v) else f"{v:.3f}" for v in np.ravel(values)) + "]"


# ---------------------------------------------------------------- 1: which labelling says what

_NAMES = {"c": "classification", "b": "boxes", "s": "semantic", "i": "instance", "p": "panoptic"}
LABELLINGS = {  # question: the letters, and why a letter is wrong or missing
    "how many cars": (
        "bip",
        {
            "c": "the class names of an image say that there is a car, not how many",
            "s": "cars that touch are one region in a semantic mask; ours had six cars in one",
            "-b": "one box an object: boxes can be counted",
        },
    ),
    "which pixels are road": (
        "sp",
        {
            "b": "road gets no box, and a box would not be a mask",
            "i": "instance masks hold things that one can count; road is stuff, it has no number",
            "-s": "one class for every pixel: that is the semantic mask",
            "-p": "panoptic labels hold the semantic mask: panoptic // 1000",
        },
    ),
    "which pixels are this one car": (
        "ip",
        {
            "b": "a box also holds pixels of what is behind and around the car",
            "s": "the semantic mask says that a pixel is car, not of which car it is",
            "-p": "panoptic labels number the things as well: panoptic % 1000",
        },
    ),
}


def labellings(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(LABELLINGS):
        raise NotYet(f"expected a dict with the keys {list(LABELLINGS)}, found {show(answer)}")
    for question, (right, why) in LABELLINGS.items():
        said = "".join(map(str, answer[question])).lower()
        letters = "".join(letter for letter in said if letter not in " ,;+-")
        if not letters or set(letters) - set(_NAMES):
            raise NotYet(
                f"for {question!r} expected some of the letters {' '.join(_NAMES)}, as in "
                f'"cb"; found {show(answer[question])}'
            )
        for letter in (x for x in letters if x not in right):
            raise NotYet(f"{question}? You chose {_NAMES[letter]} among others: {why[letter]}")
        for letter in (x for x in right if x not in letters):
            reason = why.get(f"-{letter}", "it has a mask with a number for every thing")
            raise NotYet(f"{question}? You left out {_NAMES[letter]}: {reason}")
    return "boxes and instances count things, semantic masks name pixels, panoptic labels do both"


# ---------------------------------------------------------------- 2: reading a mask


def read_labels(read: Any) -> str:
    rng = np.random.default_rng(7)
    truth = rng.choice([0, 1, 2, 255], (20, 30), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    colours = np.zeros((256, 3), np.uint8)
    colours[[1, 2, 255]] = (128, 0, 0), (0, 128, 0), (224, 224, 192)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        palette = Image.fromarray(truth)
        palette.putpalette(colours.ravel().tolist())
        palette.save(path / "palette.png")
        Image.fromarray(truth).save(path / "grey.png")
        Image.fromarray(colours[truth]).save(path / "colours.png")
        Image.fromarray(colours[truth]).convert("RGBA").save(path / "alpha.png")
        Image.fromarray(truth).save(path / "grey.jpg")
        Image.fromarray(truth).save(path / "named.png", format="JPEG")
        for name, kind in (("palette.png", "a palette PNG"), ("grey.png", "a grey PNG")):
            given = f"{kind} with the labels 0, 1, 2 and 255"
            try:
                found = call(read, path / name, given=given)
            except NotYet as reason:
                refused = " raised ValueError" in str(reason)
                raise NotYet(
                    f"{reason}; this file does hold labels" if refused else str(reason)
                ) from None
            _judge_labels_read(found, truth, colours, given)
        for name, kind in (
            ("colours.png", "an RGB PNG of colours"),
            ("grey.jpg", "a JPEG"),
            ("alpha.png", "an RGBA PNG of colours"),
            ("named.png", "a JPEG whose name ends in .png"),
        ):
            try:
                found = read(path / name)
            except ValueError:
                continue
            except Exception as error:
                raise NotYet(
                    f"on {kind} your function raised {type(error).__name__}, expected a "
                    "ValueError that says what was found"
                ) from None
            raise NotYet(
                f"on {kind} you returned {show(found)}, expected a ValueError: there are "
                "no labels in it, and silence is how such files get into a training set. "
                "Look at the picture's .mode and .format"
            )
    return "palette and grey PNGs give labels, colours and JPEG give an error"


def _judge_labels_read(found: Any, truth: Any, colours: Any, given: str) -> None:
    if isinstance(found, Image.Image):
        raise NotYet(f"on {given} you returned a PIL picture, expected an array: np.array(…) of it")
    if np.shape(found) == (*truth.shape, 3):
        what = np.asarray(found)
        swapped = not np.array_equal(what, colours[truth]) and len(np.unique(what)) > 1
        raise NotYet(
            f"on {given} you returned three numbers a pixel, expected one of shape {truth.shape}: "
            + (
                "these are colours, in OpenCV's order blue, green, red"
                if swapped
                else 'convert("RGB") looks the colours up'
            )
            + ". The label is the palette index, which PIL gives without any conversion"
        )
    array = exactly(found, truth.shape, given, "labels")
    values = sorted(np.unique(array).tolist())
    if array.dtype.kind == "f":
        raise NotYet(
            f"on {given} you returned {array.dtype} with the values {values[:4]}, "
            "expected uint8 labels: ToTensor is made for photos and divides by 255"
        )
    if not np.array_equal(array, truth):
        hint = (
            'those are the brightnesses of the palette\'s colours, as .convert("L") and '
            "OpenCV's grey flag give them: do not convert"
            if {38, 75} & set(values)
            else "compare where they differ; is an axis swapped, or a label renamed?"
        )
        raise NotYet(
            f"on {given} you returned the values {values[:6]}, expected "
            f"{np.unique(truth).tolist()}: {hint}"
        )
    if array.dtype != np.uint8:
        raise NotYet(f"on {given} the labels are right but {array.dtype}, expected uint8")


# ---------------------------------------------------------------- 3: the misaligned pair

_CAUSES = {
    "flip": "only one of the two is mirrored",
    "crop": "photo and mask are cut out at different places",
    "colour": "colours are changed in the photo only",
    "padding": "the border beyond the photo has no class",
}
_THEN = {
    "flip": "then things would stand left in one and right in the other, not a little beside",
    "colour": "that moves nothing, and here rims lie beside their things",
    "padding": "but no border was added to D: the photo fills the frame",
}
_PAIRS = {
    "A": "photo and mask are both mirrored",
    "B": "other colours do not move anything: a mask must not follow them",
    "C": "the black border was added to the photo, and the mask calls it void, as it should",
    "D": "it is the one",
    "E": "photo and mask are cut out at the same place",
    "F": "photo and mask are both mirrored and cut out at the same place",
}


def six_pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Six augmented scenes (image, mask), 120×160, called A to F; one is misaligned."""
    from seglib.data import Streets
    from seglib.transforms import cut_window, resize_image

    streets = Streets("val")
    pairs = [streets.read(i) for i in (1, 4, 10, 3, 17, 8)]

    def cut(pair: Any, top: int, left: int, down: int = 0, right: int = 0) -> tuple[Any, Any]:
        image, mask = pair
        return (
            cut_window(image, (top, left, 120, 160), 0),
            cut_window(mask, (top + down, left + right, 120, 160), VOID),
        )

    a, b, c, d, e, f = pairs
    warm = np.clip(resize_image(b[0], 144, 192) * [1.25, 1.0, 0.7] + [20, 5, 0], 0, 255)
    a, f = [(image[:, ::-1].copy(), mask[:, ::-1].copy()) for image, mask in (a, f)]
    return [
        cut(a, 12, 16),
        cut((warm.astype(np.uint8), b[1]), 12, 16),
        cut(c, -12, 20),
        cut(d, 10, 20, 0, 5),
        cut(e, 4, 4),
        cut(f, 20, 30),
    ]


def misaligned(answer: Any) -> str:
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise NotYet(f'expected a letter and a cause, as in ("A", "flip"), found {show(answer)}')
    letter, cause = (str(part).strip() for part in answer)
    if letter.upper() not in _PAIRS or cause.lower() not in _CAUSES:
        raise NotYet(
            f"expected a letter A to F and one of {', '.join(_CAUSES)}, found "
            f"{show(letter)} and {show(cause)}"
        )
    if letter.upper() != "D":
        raise NotYet(
            f"you chose {letter.upper()}, but there {_PAIRS[letter.upper()]}; follow the "
            "rims of cars and poles: in which picture do all lie on one side of them?"
        )
    if cause.lower() != "crop":
        cause = cause.lower()
        raise NotYet(f"D is right, but you say that {_CAUSES[cause]}; {_THEN[cause]}")
    return "in D the mask is cut out five pixels further right than the photo"


# ---------------------------------------------------------------- 4: what values say

MISREAD = {
    "[0, 38, 75, 113]": "b",
    "[0.0, 0.0039, 0.0078, 1.0]": "d",
    "[0, 1, 2, 3, 254, 255]": "c",
    "[0, 3, 4, 5, 255]": "a",
}
_READ = {
    "a": "read as labels: nothing to complain about",
    "b": "a palette's colours turned into brightness",
    "c": "saved as JPEG once",
    "d": "through ToTensor",
}
_VALUES = {
    "[0, 38, 75, 113]": "whole numbers, few of them, and no labels of four classes: "
    "brightnesses of four colours",
    "[0.0, 0.0039, 0.0078, 1.0]": "fractions: 1 / 255 is 0.0039",
    "[0, 1, 2, 3, 254, 255]": "254 is not void and no class: it is almost 255",
    "[0, 3, 4, 5, 255]": "small whole numbers and 255: labels may leave numbers out",
}


def misread(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(MISREAD):
        raise NotYet(f"expected a dict with the keys {list(MISREAD)}, found {show(answer)}")
    for values, right in MISREAD.items():
        letter = str(answer[values]).strip().lower()
        if letter not in _READ:
            raise NotYet(f"for {values} expected a letter from a to d, found {show(letter)}")
        if letter != right:
            raise NotYet(f"{values} · you say: {_READ[letter]}. Look again: {_VALUES[values]}")
    return "values betray a misreading: print np.unique of every mask that is new to you"
