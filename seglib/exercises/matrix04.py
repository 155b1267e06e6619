"""How lesson 4's exercise of a confusion matrix that streams is judged."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from seglib.exercises.kit import NotYet, call, show
from seglib.exercises.counting04 import (
    CLASSES,
    MANY,
    VOID,
    Batches,
    counts_of,
    fed,
    flat,
    histogram,
    iou_of,
    make_batches,
    true_counts,
    true_iou,
)
from seglib.exercises.judges01 import recognise, rounded

AVERAGED = (
    "iou() is the mean of each batch's IoU: another number for every batch size. Keep one "
    "matrix for all batches: add up counts, divide once at the end"
)


def matrix(answer: Any) -> str:
    if not isinstance(answer, type):
        raise NotYet(f"expected the class Matrix itself, found {show(answer)}")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _first_batches(answer)
        _new_ones(answer)
        _bytes(answer)
        _tensors(answer)
        _other_void(answer)
        _types(answer)
        _states(answer)
        _streams(answer)
        _all_void(answer)
        _out_of_range(answer)
    return (
        "arrays and tensors, void and absent classes; it keeps "
        "C·C numbers however many pixels come, and refuses labels that are no class"
    )


# ---------------------------------------------------------------- values


def _first_batches(answer: Any) -> None:
    batches = make_batches(((2, 6, 8), (1, 6, 8), (3, 5, 9)), seed=2)
    given = "3 batches of int64 label maps with 5 classes and void"
    try:
        made = fed(answer, CLASSES, batches, given)
    except NotYet as reason:
        if " raised " not in str(reason):
            raise
        clean = [(p, np.where(t == VOID, 0, t)) for p, t in batches]
        fed(answer, CLASSES, clean, "3 batches of int64 label maps without void")
        raise NotYet(
            f"{reason}; without void pixels it runs. Their label 255 is no row of the "
            "matrix: take them out before you count"
        ) from None
    _judge_counts(answer, made, batches, given)
    right = true_iou(batches, CLASSES)
    found = iou_of(made, CLASSES, given)
    if np.allclose(found, right, atol=1e-6, equal_nan=True):
        return
    if _is_mean_over_batches(found, batches):
        raise NotYet(f"on {given}, counts is right, but {AVERAGED}")
    hint = recognise(found, _iou_mistakes(batches)) or (
        "intersection: the diagonal; union: row sum plus column sum minus the diagonal"
    )
    raise NotYet(
        f"on {given}, counts is right, but iou() is {rounded(found)}, expected "
        f"{rounded(right)} (class 3 is nowhere, class 4 only predicted): {hint}"
    )


def _judge_counts(answer: Any, made: Any, batches: Batches, given: str) -> None:
    right = true_counts(batches, CLASSES)
    found = counts_of(made, CLASSES, given)
    if np.array_equal(found, right):
        return
    try:
        averaged = _is_mean_over_batches(iou_of(made, CLASSES, given), batches)
    except NotYet:
        averaged = False
    if averaged:
        raise NotYet(f"on {given}, {AVERAGED}")
    if not found.any():
        _streams(answer)
        raise NotYet(f"on {given}, counts is still all zeros: update must add to self.counts")
    prediction, target = flat(batches)
    mistakes = {
        "rows and columns are swapped: rows are the truth. IoU does not notice, recall and "
        "precision change places": right.T,
        "that is the last batch alone: each update overwrites the counts; add, +=": true_counts(
            batches[-1:], CLASSES
        ),
        "void pixels are counted as class 0: they have no class at all": histogram(
            prediction, np.where(target == VOID, 0, target), CLASSES
        ),
        "void pixels are counted as the last class: they have no class at all": histogram(
            prediction, np.minimum(target, CLASSES - 1), CLASSES
        ),
        "those are shares, expected counts of pixels: shares of two batches cannot be added": right
        / right.sum(),
    }
    row = int(np.flatnonzero((found != right).any(axis=1))[0])
    hint = recognise(found, mistakes) or (
        f"the truth has {right.sum()} valid pixels, you count {found.sum():g}"
    )
    raise NotYet(
        f"on {given}, the row of class {row} in counts is "
        f"[{', '.join(f'{value:g}' for value in found[row])}], expected "
        f"{right[row].tolist()}: {hint}"
    )


def _is_mean_over_batches(found: np.ndarray, batches: Batches) -> bool:
    each = np.array([true_iou([batch], CLASSES) for batch in batches])
    means = (
        np.nanmean(each, axis=0),
        each.mean(axis=0),
        np.nan_to_num(each).mean(axis=0),
        np.nan_to_num(each, nan=1.0).mean(axis=0),
    )
    return any(
        np.allclose(found, mean, atol=1e-6, equal_nan=True)
        or np.allclose(found, np.nan_to_num(mean), atol=1e-6)
        for mean in means
    )


def _iou_mistakes(batches: Batches) -> dict[str, Any]:
    right, counts = true_iou(batches, CLASSES), true_counts(batches, CLASSES)
    hits, truth, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    mistakes = {
        "the class that is nowhere has no IoU: 0 / 0 is nan, and 0 would pull every mean down": np.nan_to_num(
            right
        ),
        "the class that is nowhere has no IoU: 0 / 0 is nan, and 1 would be a gift": np.nan_to_num(
            right, nan=1.0
        ),
        "the class that is only predicted has a union: its IoU is 0, not nan. Left out, false "
        "alarms would cost nothing": np.where(truth > 0, right, np.nan),
        "the class that is only predicted has a union: its IoU is 0, not 1": np.where(
            truth > 0, right, 1.0
        ),
        "the union counts the intersection twice: subtract it once": hits / (truth + predicted),
        "that is Dice, 2·both / (row + column); IoU divides by the union": 2
        * hits
        / (truth + predicted),
        "that is the recall, a share of the truth's pixels": hits / truth,
        "that is the precision, a share of the predicted pixels": hits / predicted,
    }
    filled = {
        f"{hint}; and 0 / 0 must be nan": np.nan_to_num(values) for hint, values in mistakes.items()
    }
    return mistakes | filled


# ---------------------------------------------------------------- kinds of labels


def _bytes(answer: Any) -> None:
    batches = [
        (p.astype(np.uint8), t.astype(np.uint8))
        for p, t in make_batches(((7, 9), (2, 4, 5)), seed=3, first=15, below=(0, 3, VOID))
    ]
    given = "uint8 label maps with 20 classes, and 255 in the prediction where the truth is void"
    try:
        made = fed(answer, MANY, batches, given)
    except NotYet as reason:
        tame = [(np.minimum(p, MANY - 1), t) for p, t in batches]
        try:
            fed(answer, MANY, tame, given)
        except NotYet:
            raise reason from None
        raise NotYet(
            f"{reason}; whatever is predicted where the truth is void must not matter: "
            "take these pixels out of both arrays first"
        ) from None
    found, right = counts_of(made, MANY, given), true_counts(batches, MANY)
    if np.array_equal(found, right):
        return
    p, t = (part.astype(np.int64) for part in flat(batches))
    p, t = p[t != VOID], t[t != VOID]
    wrapped = [
        np.bincount(cells, minlength=MANY**2)[: MANY**2].reshape(MANY, MANY)
        for cells in ((t * MANY + p) & 255, ((t * MANY) & 255) + p)
    ]
    row = int(np.flatnonzero(right.sum(1))[0])
    hint = (
        "truth · 20 + prediction goes over 255 and starts at 0 again in uint8; make the labels "
        "int64 first"
        if any(np.array_equal(found, cells) for cells in wrapped)
        else "is something computed in uint8, or is a label dropped?"
    )
    raise NotYet(
        f"right on int64, wrong on {given}: class {row} has {right[row].sum()} valid "
        f"pixels, you count {found[row].sum():g}: {hint}"
    )


def _tensors(answer: Any) -> None:
    batches = [
        (torch.from_numpy(p), torch.from_numpy(t))
        for p, t in make_batches(((2, 6, 8), (6, 8), (11,)), seed=5)
    ]
    given = "int64 tensors of shapes (2, 6, 8), (6, 8) and (11,)"
    try:
        found = counts_of(fed(answer, CLASSES, batches, given), CLASSES, given)
    except NotYet as reason:
        raise NotYet(
            f"right on arrays, but {reason}; np.asarray(…) reads arrays and tensors, of "
            "any number of axes"
        ) from None
    if not np.array_equal(found, true_counts(batches, CLASSES)):
        raise NotYet(f"right on arrays, but on {given} counts is wrong; np.asarray(…) reads both")


def _other_void(answer: Any) -> None:
    batches = [(p, np.where(t == VOID, 99, t)) for p, t in make_batches(((6, 8),), seed=6)]
    given = "labels whose void is 99, with Matrix(5, 99)"
    hint = "is 255 written into update? Whoever makes a Matrix chooses its ignore_index"
    try:
        found = counts_of(fed(answer, CLASSES, batches, given, 99), CLASSES, given)
    except NotYet as reason:
        raise NotYet(f"{reason}; {hint}") from None
    if not np.array_equal(found, true_counts(batches, CLASSES, 99)):
        raise NotYet(f"on {given}, counts is wrong: {hint}")


# ---------------------------------------------------------------- what it keeps


def _types(answer: Any) -> None:
    batches = make_batches(((2, 6, 8),), seed=7)
    made = fed(answer, CLASSES, batches, "one batch")
    dtype = counts_of(made, CLASSES, "one batch").dtype
    reasons = {
        "float32": "it counts to 16,777,216, and adding 1 to that changes nothing: a class has "
        "more pixels after a few dozen photos",
        "float64": "counts are whole numbers; int64 says so",
        "int32": "it ends at 2,147,483,647 pixels, a thousand photos of two million",
    }
    if dtype != np.int64:
        raise NotYet(
            f"counts is right but {dtype}, expected int64: "
            f"{reasons.get(str(dtype), 'it must hold billions of pixels')}"
        )
    dtype = iou_of(made, CLASSES, "one batch").dtype
    if dtype != np.float64:
        raise NotYet(f"iou() is right but {dtype}, expected float64")


def _new_ones(answer: Any) -> None:
    made = call(answer, CLASSES, given="Matrix(5)")
    if counts_of(made, CLASSES, "a new Matrix").any():
        raise NotYet(
            "a new Matrix starts with the counts of those before it: counts must belong "
            "to the object (set in __init__), not to the class"
        )
    fresh = iou_of(made, CLASSES, "a new Matrix without any update")
    if not np.isnan(fresh).all():
        raise NotYet(
            f"on a new Matrix without any update, iou() is {rounded(fresh)}, expected "
            "nan for each class: nothing is known yet"
        )


def _states(answer: Any) -> None:
    batches = make_batches(((6, 8), (6, 8)), seed=8)
    made = fed(answer, CLASSES, batches, "two batches")
    before = iou_of(made, CLASSES, "two batches")
    again = iou_of(made, CLASSES, "a second call of iou()")
    if not np.array_equal(before, again, equal_nan=True):
        raise NotYet(
            f"iou() called twice is {rounded(before)}, then {rounded(again)}: looking at "
            "a score must not change the counts"
        )


def _all_void(answer: Any) -> None:
    void = np.zeros((1, 3, 4), np.uint8), np.full((1, 3, 4), VOID, np.uint8)
    given = "a batch without any valid pixel (reductions such as max fail on nothing)"
    made = fed(answer, CLASSES, [void], given)
    if counts_of(made, CLASSES, given).any():
        raise NotYet("a batch without any valid pixel must change nothing")


def _streams(answer: Any) -> None:
    batches = make_batches([(2, 24, 24)] * 40, seed=9)
    made = fed(answer, CLASSES, batches, "40 batches of 2 × 24 × 24 pixels")
    pixels, held = sum(target.size for _, target in batches), _size(getattr(made, "__dict__", {}))
    if held > 50 * CLASSES**2:
        raise NotYet(
            f"after 40 batches of {pixels:,} pixels together, your object holds {held:,} "
            f"numbers; it streams nothing. counts has {CLASSES**2}, and all scores follow "
            "from them: add each batch to it, and keep no batch"
        )


def _size(value: Any, depth: int = 0) -> int:
    """How many numbers an object holds in arrays, tensors, lists and dicts."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return int(np.prod(value.shape))
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)) and depth < 4:
        return sum(_size(item, depth + 1) for item in value)
    return 1


# ---------------------------------------------------------------- labels that are no class


def _out_of_range(answer: Any) -> None:
    rest = np.array([[0, 1, 2], [3, 4, 4]])
    for truth, predicted in ((0, 5), (1, -1), (4, VOID), (7, 2), (-1, 3)):
        prediction, target = rest.copy(), rest.copy()
        prediction[0, 0], target[0, 0] = predicted, truth
        given = (
            f"a truth of {truth}, no class and not void,"
            if truth in (7, -1)
            else f"a prediction of {predicted} where the truth is class {truth}"
        )
        made = call(answer, CLASSES, given="Matrix(5)")
        try:
            made.update(prediction, target)
        except ValueError:
            continue
        except Exception as error:
            raise NotYet(
                f"{given} raises {type(error).__name__} from somewhere inside, expected a "
                "ValueError that names the label"
            ) from None
        extra = counts_of(made, CLASSES, given) - histogram(
            rest.ravel()[1:], rest.ravel()[1:], CLASSES
        )
        cell = np.argwhere(extra)
        what = (
            f"was counted as truth {cell[0][0]}, prediction {cell[0][1]}"
            if len(cell)
            else "was dropped without a word"
        )
        raise NotYet(
            f"all scores are right, but {given} {what}; expected a ValueError. A matrix "
            "that is silent here gives a plausible score to a wrong label mapping"
        )
