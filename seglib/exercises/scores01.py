"""How the answers of lesson 1 about shares and scores are judged."""

from __future__ import annotations

from typing import Any

import numpy as np

from seglib.exercises.kit import NotYet, call, number, show
from seglib.exercises.judges01 import VOID, exactly, recognise, rounded

# ---------------------------------------------------------------- IoU by hand

BY_HAND = {"road": 4 / 6, "car": 3 / 6, "sky": 5 / 6}


def iou_by_hand(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(BY_HAND):
        raise NotYet(f"expected a dict with the keys {list(BY_HAND)}, found {show(answer)}")
    values = [number(answer[name], f"the IoU of {name}") for name in BY_HAND]
    if max(values) > 1:
        raise NotYet(f"found {max(values):g}; an IoU is a fraction from 0 to 1, as in 5 / 6")
    hits, truth, predicted = np.array([4, 3, 5]), np.array([5, 4, 6]), np.array([5, 5, 5])
    mistakes = {
        "the intersection was counted twice in the union: take it off once": hits
        / (truth + predicted),
        "the pixel whose truth is void counts in your union of car: leave it out": [
            4 / 6,
            3 / 7,
            5 / 6,
        ],
        "that is twice the intersection over the sum of both areas, Dice; for IoU divide by the "
        "union": 2 * hits / (truth + predicted),
        "you divided by the pixels of the truth: that is the recall; the union also holds what "
        "was predicted wrongly": hits / truth,
        "you divided by the predicted pixels: that is the precision; the union also holds what "
        "was missed": hits / predicted,
        "you divided by all 15 labelled pixels: the union is that of one class only": hits / 15,
        "that is one number for all; IoU is wanted class by class": [np.mean(values)] * 3,
    }
    hint = recognise(values, mistakes, tolerance=0.006)
    for (name, right), value in zip(BY_HAND.items(), values, strict=True):
        if abs(value - right) > 0.007:
            hint = hint or "row sum plus column sum minus the number on the diagonal is the union"
            raise NotYet(f"{name} {value:.3f} is not it: {hint}")
    return "4/6, 3/6 and 5/6; their mean, the mIoU, is 0.667, while 12 of 15 pixels are right"


# ---------------------------------------------------------------- IoU in code


def iou(function: Any) -> str:
    classes = 5  # 3 is absent, 4 only predicted
    predictions, truths = label_maps(((6, 8), (6, 8), (5, 9)), seed=3)
    truths[2][truths[2] == 2] = 0  # an image without class 2
    given = "two lists of 3 label maps, 6×8, 6×8 and 5×9, with 5 classes and void"
    found = _tried(function, predictions, truths, classes, given)
    right = _ratio(*_counts(predictions, truths, classes))
    if np.ndim(found) == 0:
        value = number(found, "the IoU of five classes")
        raise NotYet(
            f"on {given} you returned the single number {value:.3f}, expected one for "
            "each class; accuracy and mIoU are single numbers, IoU is per class"
        )
    array = exactly(found, (classes,), given, "an array with the IoU of each class")
    if np.allclose(array, right, atol=1e-4, equal_nan=True):
        return _iou_of_many(function)
    hint = recognise(array, _iou_mistakes(predictions, truths, classes), tolerance=1e-4)
    hint = hint or "intersection and union are counts of pixels over all label maps together"
    raise NotYet(f"on {given} you returned {rounded(array)}, expected {rounded(right)}: {hint}")


def label_maps(sizes: Any, seed: int, first: int = 0) -> tuple[list[Any], list[Any]]:
    """Predictions and truths of these sizes, uint8: `first` to first + 2 in the truth, and void."""
    rng, predictions, truths = np.random.default_rng(seed), [], []
    for size in sizes:
        truth = rng.choice([0, 1, 2, VOID], size, p=[0.5, 0.2, 0.1, 0.2])
        noise = rng.choice([0, 1, 2, 4], size, p=[0.4, 0.3, 0.2, 0.1])
        prediction = np.where(rng.random(size) < 0.6, truth % VOID, noise)
        truths.append(np.where(truth == VOID, VOID, truth + first).astype(np.uint8))
        predictions.append((prediction + first).astype(np.uint8))
    return predictions, truths


def _tried(function: Any, predictions: Any, truths: Any, classes: int, given: str) -> Any:
    """What the reader's function returns; `NotYet` if it raises or changes the maps."""
    before = [array.copy() for array in (*predictions, *truths)]
    found = call(function, predictions, truths, classes, given=given)
    now = (*predictions, *truths)
    if not all(np.array_equal(a, b) for a, b in zip(before, now, strict=True)):
        raise NotYet("your function changes the label maps that it gets; work on a copy")
    return found


def _iou_of_many(function: Any) -> str:
    """A second case, with labels whose products do not fit into uint8."""
    predictions, truths = label_maps(((7, 9),), seed=4, first=20)
    given = "one label map of 7×9 with 30 classes"
    array = exactly(_tried(function, predictions, truths, 30, given), (30,), given, "an array")
    if not np.allclose(array, _ratio(*_counts(predictions, truths, 30)), atol=1e-4, equal_nan=True):
        raise NotYet(
            f"right with 5 classes, wrong on {given}: the maps are uint8, and a product "
            "such as truth * num_classes goes over 255; make them int64 first"
        )
    return "maps of several sizes, an absent class and one that is only predicted"


def _counts(predictions: Any, truths: Any, classes: int, void: bool = False) -> tuple[Any, ...]:
    """Hits, pixels of the truth and of the prediction by class; `void` counts void pixels, too."""
    truths = np.concatenate([np.ravel(truth) for truth in truths])
    predictions = np.concatenate([np.ravel(prediction) for prediction in predictions])
    valid = (truths != VOID) | void
    labels = range(classes)
    return tuple(
        np.array([part.sum() for part in parts], float)
        for parts in (
            [(predictions == k) & (truths == k) for k in labels],
            [truths == k for k in labels],
            [(predictions == k) & valid for k in labels],
        )
    )


def _ratio(hits: Any, truth: Any, predicted: Any, empty: float = np.nan) -> np.ndarray:
    union = truth + predicted - hits
    return np.divide(hits, union, out=np.full(len(hits), empty), where=union > 0)


def _iou_mistakes(predictions: Any, truths: Any, classes: int) -> dict[str, Any]:
    hits, truth, predicted = _counts(predictions, truths, classes)
    images = np.array(
        [
            _ratio(*_counts([prediction], [truth], classes))
            for prediction, truth in zip(predictions, truths, strict=True)
        ]
    )
    with np.errstate(all="ignore"):
        twice, dice = hits / (truth + predicted), 2 * hits / (truth + predicted)
        recall, precision = hits / truth, hits / predicted
        known = ~np.isnan(images)
        per_image = np.nansum(images, axis=0) / known.sum(axis=0)
    mistakes = {
        "an absent class has no IoU: 0 / 0 is nan, and 0 would pull the mean down": _ratio(
            hits, truth, predicted, 0.0
        ),
        "an absent class has no IoU: 0 / 0 is nan, and 1 would be a gift": _ratio(
            hits, truth, predicted, 1.0
        ),
        "predictions at void pixels count in your union; use only pixels with truth != 255": _ratio(
            *_counts(predictions, truths, classes, void=True)
        ),
        "the union counts the intersection twice: subtract it once": twice,
        "that is Dice, 2·both / (one + other); IoU divides by the union": dice,
        "that is the recall, a share of the truth's pixels": recall,
        "that is the precision, a share of the predicted pixels": precision,
        "that is the mean of each image's IoU; add up the pixels of all images first": per_image,
    }
    both = {
        f"{name}; and 0 / 0 must be nan": np.nan_to_num(np.asarray(value, float))
        for name, value in mistakes.items()
    }
    return mistakes | both


# ---------------------------------------------------------------- class shares


def shares(function: Any) -> str:
    rng = np.random.default_rng(5)
    masks = [
        rng.choice([0, 1, 2, VOID], size, p=p).astype(np.uint8)
        for size, p in (
            ((4, 6), [0.5, 0.2, 0.2, 0.1]),
            ((8, 8), [0.2, 0.1, 0.1, 0.6]),
            ((5, 3), [0.8, 0.2, 0.0, 0.0]),
        )
    ]
    given = "3 masks of different sizes with 4 classes, one of them absent, and void"
    try:
        found = call(function, [mask.copy() for mask in masks], 4, given=given)
    except NotYet as reason:
        of_256 = "; void is 255, so np.bincount makes 256 bins" if "(256,)" in str(reason) else ""
        raise NotYet(f"{reason}{of_256}") from None
    counts = np.array([np.bincount(mask.ravel(), minlength=256) for mask in masks], float)
    pixels, void = counts[:, :4], counts[:, VOID]
    total = pixels.sum(axis=0)
    everything = total.sum() + void.sum()
    right = total / total.sum()
    if np.shape(found) == (4,) and np.allclose(np.asarray(found, float), right, atol=1e-6):
        return "the shares of the labelled pixels sum to 1"
    with_void = np.append(total, void.sum())
    mistakes = {
        "they do not sum to 1: void pixels stand in the denominator": total / everything,
        "void is no class: leave it out of the counts and out of their sum": with_void / everything,
        "there is one share too many, that of void": with_void / total.sum(),
        "that is the mean of each mask's shares; a mask with few labelled pixels would weigh as "
        "much as a large one: add up the pixels first": (
            pixels / pixels.sum(axis=1, keepdims=True)
        ).mean(axis=0),
        "those are counts: divide by their sum": total,
        "those are per cent; expected fractions that sum to 1": 100 * right,
        "that is the share of masks that contain the class, not of the pixels": (pixels > 0).mean(
            axis=0
        ),
        "the absent class is missing: np.unique leaves it out, np.bincount(…, minlength=…) does "
        "not": right[:3],
        "np.bincount counts up to label 255; keep the first num_classes": np.bincount(
            np.concatenate([mask.ravel() for mask in masks]), minlength=256
        )
        / everything,
    }
    try:
        array = np.asarray(found, float)
    except (TypeError, ValueError):
        raise NotYet(f"on {given} you returned {show(found)}, expected an array") from None
    hint = recognise(array, mistakes) or "pixels of the class / pixels of all classes"
    said = rounded(array) if array.size < 12 else show(array)
    raise NotYet(f"on {given} you returned {said}, expected {rounded(right)}: {hint}")


# ---------------------------------------------------------------- road everywhere


def road(answer: Any) -> str:
    value = number(answer, "an mIoU", low=0)
    if 1 < value <= 100:
        raise NotYet(f"{value:g} is not a fraction; scores here are fractions from 0 to 1")
    if 0.022 <= value <= 0.031:
        return "Streets val: 0.0259, road's IoU 0.284 divided by 11"
    if 0.25 <= value <= 0.33:
        hint = (
            "that is about road's share of the pixels: the accuracy, and road's own IoU. Ten "
            "more classes are in the truth, each with IoU 0, and the mean is over all 11"
        )
    elif 0.12 <= value <= 0.165:
        hint = "that is road's IoU shared by two; there are 11 classes, not road and the rest"
    elif value == 0:
        hint = "road is right wherever the truth is road, so its own IoU is not 0"
    elif 0.08 <= value <= 0.1:
        hint = "1/11 would need an IoU of 1 for road; its union is every pixel of the picture"
    else:
        hint = (
            "work out road's IoU (intersection: the road pixels; union: all pixels), then the "
            "mean over 11 classes"
        )
    raise NotYet(f"{value:g} is not it: {hint}")


# ---------------------------------------------------------------- poles found

POLES = (0.012, 0.092)  # gain of accuracy and mIoU, of the location prior on Streets val


def poles(answer: Any) -> str:
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise NotYet(
            f"expected two numbers, (gain of accuracy, gain of mIoU), found {show(answer)}"
        )
    accuracy = number(answer[0], "the gain of accuracy")
    miou = number(answer[1], "the gain of mIoU")
    if 0.009 <= accuracy <= 0.016 and 0.08 <= miou <= 0.1:
        return "accuracy rises by 0.012, the poles' share; mIoU by 0.092, about 1/11"
    if 0.009 <= miou <= 0.016 and 0.08 <= accuracy <= 0.1:
        hint = "you have swapped the two: which of them counts pixels, which counts classes?"
    elif max(accuracy, miou) > 1:
        hint = "scores here are fractions from 0 to 1, and so are their differences"
    elif not 0.009 <= accuracy <= 0.016:
        hint = (
            "accuracy counts pixels: the poles have 1.2 % of them, all wrong before and all "
            "right after"
        )
    elif miou <= 0.03:
        hint = (
            "mIoU counts classes: Pole's IoU goes from 0 to 1, and what does one of eleven "
            "IoUs bring the mean?"
        )
    else:
        hint = "Pole's IoU goes from 0 to 1 and is one of eleven in the mean"
    raise NotYet(f"({accuracy:g}, {miou:g}) is not it: {hint}")
