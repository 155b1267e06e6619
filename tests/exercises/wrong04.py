"""Typical wrong answers to lesson 4: (what a reader would type, a fragment of what they hear)."""

from __future__ import annotations

PRELUDE = """
from itertools import combinations
import cv2
import numpy as np
import torch
from seglib.exercises import lesson04 as ex

def miou(matrix):
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    return (hits[union > 0] / union[union > 0]).mean()

frames = ex.driving_log()
truth, spacing = ex.lesion()
"""

# ---------------------------------------------------------------- parts of a Matrix

_MATRIX = """
class Matrix:
    def __init__(self, num_classes, ignore_index=255):
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = np.zeros((num_classes, num_classes), {dtype})
        {start}

    def update(self, prediction, target):
        n = self.num_classes
        {update}

    def iou(self):
        hits = np.diag(self.counts)
        truth, predicted = self.counts.sum(1), self.counts.sum(0)
        union = truth + predicted - hits
        {iou}
"""
_READ = ("prediction, target = np.asarray(prediction), np.asarray(target)",)
_VALID = (
    *_READ,
    "valid = target != self.ignore_index",
    "prediction, target = prediction[valid], target[valid]",
)
_LONG = (*_VALID, "prediction, target = prediction.astype(np.int64), target.astype(np.int64)")
_RANGE = (
    "for labels in (prediction, target):",
    "    if ((labels < 0) | (labels >= n)).any():",
    "        raise ValueError(f'labels are 0 to {n - 1}')",
)
_COUNT = "counts = np.bincount(target * n + prediction, minlength=n * n).reshape(n, n)"
_GOOD = (*_LONG, *_RANGE, _COUNT)
_ADD, _IOU = "self.counts += counts", ("return hits / union",)


def _matrix(
    *update: str, iou: tuple[str, ...] = _IOU, start: str = "pass", dtype: str = "np.int64"
) -> str:
    indent = "\n        "
    return _MATRIX.format(
        update=indent.join(update), iou=indent.join(iou), start=start, dtype=dtype
    )


def _scored(*iou: str) -> str:
    return _matrix(*_GOOD, _ADD, iou=iou)


# ---------------------------------------------------------------- parts of the others


def _guess(pooled: float, left_out: float, one: float) -> str:
    return (
        f'guess = {{"pooled": {pooled}, "per image, absent left out": {left_out}, '
        f'"per image, absent counts 1": {one}}}'
    )


def _split(*body: str) -> str:
    return "def split(frames):\n    " + "\n    ".join(body)


def _by_drive(drives: str, end: str = "train, val") -> str:
    return _split(
        f"val = [i for i, f in enumerate(frames) if f.drive in {drives}]",
        "train = [i for i in range(len(frames)) if i not in set(val)]",
        f"return {end}",
    )


_NEAR = """
def split(frames):
    train, val = [], []
    for drive in sorted({{f.drive for f in frames}}):
        own = [i for i, f in enumerate(frames) if f.drive == drive]
        cut = int(len(own) * {share})
        train += own[:cut{buffer}]
        val += own[cut:]
    return train, val
"""
# One drive is cut, with a buffer of `left` frames.
_CUT = """
def split(frames):
    own = [i for i, f in enumerate(frames) if f.drive == "D"]
    rest = [i for i, f in enumerate(frames) if f.drive != "D"]
    return rest + own[:{left}], own[10:]
"""

_GROUPED = (
    "names = sorted(set(groups))",
    "sums = np.stack([sum(m for m, g in zip(matrices, groups) if g == name) for name in names])",
)
_FRAMES = ("sums = matrices",)
_SUM, _FIRST_MIOU = "miou(sums[drawn].sum(0))", "np.mean(each[drawn])"
_MIDDLE = "return np.percentile(scores, [2.5, 97.5])"
_SD = "return np.mean(scores) - np.std(scores), np.mean(scores) + np.std(scores)"
_90 = "return np.percentile(scores, [5, 95])"


def _interval(
    *units: str,
    score: str = _SUM,
    end: str = _MIDDLE,
    seed: str = "seed",
    draw: str = "rng.integers(len(sums), size=len(sums))",
) -> str:
    lines = [
        "def interval(matrices, groups, draws=500, seed=0):",
        f"    rng = np.random.default_rng({seed})",
        "    scores = []",
        *(f"    {line}" for line in units),
        "    each = [miou(matrix) for matrix in matrices]",
        "    each = np.array(each)",
        "    for _ in range(draws):",
        f"        drawn = {draw}",
        f"        scores.append({score})",
        f"    {end}",
    ]
    return "\n".join(lines)


_AS_SHOWN = """
def interval(matrices, groups, draws=500, seed=0):
    rng = np.random.default_rng(seed)
    each = np.array([miou(matrix) for matrix in matrices])
    scores = []
    for _ in range(draws):
        drawn = rng.integers(len(each), size=len(each))
        scores.append(each[drawn].mean())
    return np.mean(scores) - np.std(scores), np.mean(scores) + np.std(scores)
"""

_ISIN = """
def interval(matrices, groups, draws=500, seed=0):
    rng, names = np.random.default_rng(seed), sorted(set(groups))
    scores = []
    for _ in range(draws):
        drawn = rng.choice(names, len(names))
        scores.append(miou(matrices[np.isin(groups, drawn)].sum(0)))
    return np.percentile(scores, [2.5, 97.5])
"""

# Frames' own scores, of groups drawn.
_OF_GROUPS = (
    "np.mean([each[i] for k in drawn for i in range(len(groups)) if groups[i] == names[k]])"
)

_RIM = """
def masks(truth, spacing):
    outside = cv2.distanceTransform((~truth).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
    order = np.argsort(outside - inside, axis=None, kind="stable")
    n = int(truth.sum())
    first, second = np.zeros_like(truth), np.zeros_like(truth)
    {body}
    first.flat[order[:fewer]] = True
    second.flat[order[:more]] = True
    return first, second
"""


def _masks(*body: str) -> str:
    return "def masks(truth, spacing):\n    " + "\n    ".join(body)


WRONG: dict[str, list[tuple[str, str]]] = {
    "matrix": [
        (
            _matrix(
                *_LONG,
                "if prediction.max() >= n or target.max() >= n or prediction.min() < 0:",
                "    raise ValueError('labels')",
                _COUNT,
                _ADD,
            ),
            "reductions such as max fail",
        ),
        (
            _matrix(
                *_LONG,
                "if ((prediction < 0) | (prediction >= n) | (target >= n)).any():",
                "    raise ValueError('labels')",
                "target = target % n",
                _COUNT,
                _ADD,
            ),
            "a truth of -1, no class and not void,",
        ),
        (
            _matrix(
                *_LONG,
                *_RANGE,
                "counts = np.bincount(prediction * n + target, minlength=n * n).reshape(n, n)",
                _ADD,
            ),
            "rows and columns are swapped",
        ),
        (
            _matrix(
                *_READ, "prediction, target = prediction.ravel(), target.ravel()", _COUNT, _ADD
            ),
            "without void pixels it runs",
        ),
        (
            _matrix(
                *_READ,
                "target = np.where(target == 255, 0, target).ravel()",
                "prediction = prediction.ravel()",
                _COUNT,
                _ADD,
            ),
            "counted as class 0",
        ),
        (
            _matrix(
                *_READ,
                "target = target.clip(0, n - 1).ravel()",
                "prediction = prediction.ravel()",
                _COUNT,
                _ADD,
            ),
            "counted as the last class",
        ),
        (_matrix(*_GOOD, "self.counts = counts"), "the last batch alone"),
        (
            _matrix(
                *_GOOD,
                "self.counts = counts",
                "union = counts.sum(0) + counts.sum(1) - np.diag(counts)",
                "self.all.append(np.diag(counts) / union)",
                start="self.all = []",
                iou=("return np.nanmean(self.all, axis=0)",),
            ),
            "the mean of each batch's IoU",
        ),
        (
            _matrix(
                *_GOOD,
                _ADD,
                "union = counts.sum(0) + counts.sum(1) - np.diag(counts)",
                "self.all.append(np.nan_to_num(np.diag(counts) / union))",
                start="self.all = []",
                iou=("return np.mean(self.all, axis=0)",),
            ),
            "counts is right, but iou() is the",
        ),
        (_matrix(*_VALID, _COUNT, _ADD), "goes over 255"),
        (_matrix(*_GOOD, _ADD, dtype="np.float32"), "16,777,216"),
        (_matrix(*_GOOD, _ADD, dtype="np.float64"), "counts are whole numbers"),
        (_matrix(*_GOOD, _ADD, dtype="np.int32"), "2,147,483,647"),
        (_scored("return np.nan_to_num(hits / union)"), "0 would pull every mean down"),
        (_scored("return np.where(union > 0, hits / union, 1.0)"), "1 would be a gift"),
        (_scored("return np.where(truth > 0, hits / union, np.nan)"), "false alarms would cost"),
        (_scored("return 2 * hits / (truth + predicted)"), "that is Dice"),
        (_scored("return hits / truth"), "that is the recall"),
        (_scored("return hits / predicted"), "that is the precision"),
        (_scored("return hits / (truth + predicted)"), "subtract it once"),
        (_scored("return np.nanmean(hits / union)"), "expected one number a class"),
        (_scored("return (hits / union).astype(np.float32)"), "but float32, expected float64"),
        (_scored("found = hits / union", "self.counts[:] = 0", "return found"), "called twice"),
        (_scored("hits / union"), "iou returned None"),
        (
            _matrix(*_GOOD, _ADD, "self.seen.append((prediction, target))", start="self.seen = []"),
            "it streams nothing",
        ),
        (_matrix(*_GOOD), "still all zeros"),
        (
            _matrix(*_READ, "target[target == self.ignore_index] = 0", *_LONG, _COUNT, _ADD),
            "update changes the target",
        ),
        (
            _matrix(
                "valid = target != self.ignore_index",
                "prediction = prediction[valid].astype(np.int64)",
                "target = target[valid].astype(np.int64)",
                _COUNT,
                _ADD,
            ),
            "right on arrays",
        ),
        (
            _matrix(
                *_READ,
                "valid = target != 255",
                "target, prediction = target[valid].astype(int), prediction[valid].astype(int)",
                _COUNT,
                _ADD,
            ),
            "is 255 written into update",
        ),
        (
            _matrix(
                *_READ,
                "if prediction.max() >= n:",
                "    raise ValueError('label out of range')",
                *_LONG,
                _COUNT,
                _ADD,
            ),
            "must not matter",
        ),
        (_matrix(*_LONG, _COUNT, _ADD), "was counted as truth 1, prediction 0"),
        (_matrix(*_LONG, "np.add.at(self.counts, (target, prediction), 1)"), "raises IndexError"),
        (
            _matrix(
                *_LONG,
                "if ((prediction < 0) | (prediction >= n)).any():",
                "    raise ValueError('prediction')",
                "prediction, target = prediction[target < n], target[target < n]",
                _COUNT,
                _ADD,
            ),
            "was dropped without a word",
        ),
        (
            _matrix(
                *_LONG,
                "known = (prediction >= 0) & (prediction < n)",
                "prediction, target = prediction[known], target[known]",
                _COUNT,
                _ADD,
            ),
            "a prediction of 5 where the truth is class 0 was dropped",
        ),
        (
            _matrix(
                *_GOOD,
                _ADD,
                start="self.counts = Matrix.shared.setdefault(num_classes, self.counts)",
            )
            + "Matrix.shared = {}\n",
            "starts with the counts of those before it",
        ),
        (
            _matrix(
                *_GOOD, "self.total += counts", start="self.total = self.__dict__.pop('counts')"
            ),
            "has no attribute `counts`",
        ),
        (_matrix(*_GOOD, "self.counts = counts[1:]"), "expected an array of shape (5, 5)"),
        (_matrix(*_GOOD, "self.counts = self.counts + counts / counts.sum()"), "you count 3"),
        ("def Matrix(num_classes):\n    return num_classes", "expected the class Matrix itself"),
    ],
    "means": [
        (_guess(0.600, 0.631, 0.661), "is micro: all classes"),
        (_guess(0.571, 0.593, 0.661), "mean over the five pairs"),
        (_guess(0.661, 0.631, 0.571), "swapped"),
        (_guess(0.711, 0.755, 0.772), "Dice from the pooled counts"),
        (_guess(0.571, 0.755, 0.772), "Dice per image with absent left out"),
        (_guess(0.75, 0.631, 0.661), "15 of 20 pixels are right"),
        (_guess(0.598, 0.631, 0.661), "all classes weigh the same"),
        (_guess(0.571, 0.494, 0.661), "with 0 for the absent class"),
        (_guess(0.571, 0.550, 0.661), "averages each class over the images first"),
        (_guess(0.631, 0.631, 0.661), "That is the mean 'per image, absent left out'"),
        (_guess(0.571, 0.631, 0.631), "the third is 1"),
        (_guess(0.571, 0.444, 0.661), "the first image alone"),
        (_guess(0.571, 0.817, 0.661), "the second image alone"),
        (_guess(57.1, 63.1, 66.1), "fractions from 0 to 1"),
        (_guess(0.2, 0.3, 0.4), "add the two matrices"),
        ("guess = 0.571", "expected a dict with the keys"),
    ],
    "split": [
        (
            _split(
                "order = np.random.default_rng(0).permutation(len(frames)).tolist()",
                "return order[24:], order[:24]",
            ),
            "You choose frame by frame",
        ),
        (
            _split(
                "return [i for i in range(len(frames)) if i % 5], list(range(0, len(frames), 5))"
            ),
            "You take every 5th frame",
        ),
        (_NEAR.format(share=0.8, buffer=""), "You cut 5 drives in two"),
        (_NEAR.format(share=0.8, buffer=" - 4"), "a short one"),
        (_NEAR.format(share=0.8, buffer=" - 16"), "are in neither part"),
        (
            _split(
                "cut = int(0.8 * len(frames))",
                "n = len(frames)",
                "return list(range(cut)), list(range(cut, n))",
            ),
            "You cut one drive in two",
        ),
        (_CUT.format(left=9), "There is a buffer at the cut"),
        (_by_drive('{"E"}'), "val has no Bicyclist"),
        (_by_drive('{"B", "D"}'), "what val takes, train cannot learn from"),
        (_by_drive('{"C"}'), "too little to measure with"),
        (_by_drive('{"B"}'), "right on the notebook's log"),
        (
            _split("return list(range(34)) + list(range(56, 120)), list(range(34, 56))"),
            "Are indices or names of drives",
        ),
        (_by_drive('{"B"}', end="val, train"), "train and val are swapped"),
        (_by_drive('{"B"}', end="val"), "expected two lists of indices"),
        (
            _by_drive(
                '{"B"}', end="[i in train for i in range(120)], [i in val for i in range(120)]"
            ),
            "True and False, expected indices",
        ),
        (
            _by_drive('{"B"}', end="[frames[i] for i in train], [frames[i] for i in val]"),
            "expected their indices",
        ),
        (_by_drive('{"B"}', end="list(range(120)), val"), "are in train and in val"),
        (_by_drive('{"B"}', end="train, val + val"), "must not count twice"),
        (_by_drive('{"B"}', end="train, [i + 90 for i in val]"), "frames 0 to 119"),
        (_by_drive('{"F"}'), "val is empty"),
    ],
    "bootstrap": [
        (_ISIN, "a group that is drawn twice must count twice"),
        (
            _AS_SHOWN,
            "you draw frames, expected groups: frames of one drive are nearly one observation; and "
            "you average the frames' own mIoUs, expected the mIoU of their matrices' sum: a frame "
            "without a rare class hides its errors; and mean ± one standard deviation",
        ),
        (_interval(*_FRAMES), "you draw frames"),
        (_interval(*_FRAMES, end=_SD), "observation; and mean ± one standard deviation"),
        (_interval(*_FRAMES, score=_FIRST_MIOU), "observation; and you average"),
        (_interval(*_GROUPED, score=_OF_GROUPS), "you average the frames' own mIoUs"),
        (_interval(*_GROUPED, score=_OF_GROUPS, end=_SD), "hides its errors; and mean ±"),
        (_interval(*_GROUPED, end=_SD), "about 68 % of the draws"),
        (_interval(*_GROUPED, end=_90), "hold 90 % of the draws"),
        (
            _interval(*_GROUPED, score="np.mean([miou(sums[k]) for k in drawn])"),
            "you average the groups' own mIoUs",
        ),
        (_interval(*_GROUPED, draw="rng.permutation(len(sums))"), "It has no width"),
        (_interval(*_GROUPED, draw="rng.integers(len(sums), size=1)"), "one group only"),
        (
            _interval(*_GROUPED, draw="rng.integers(len(sums), size=len(matrices))"),
            "as many groups as there are frames",
        ),
        (
            _interval(*_GROUPED, end="return np.percentile(scores, [0.025, 0.975])"),
            "np.percentile counts to 100",
        ),
        (
            _interval(
                *_GROUPED,
                end="return np.mean(scores) + np.array([-1.96, 1.96])"
                " * np.std(scores) / draws**0.5",
            ),
            "far too narrow",
        ),
        (_interval(*_GROUPED, end="return min(scores), max(scores)"), "its width is"),
        (_interval(*_GROUPED, seed=""), "two calls with seed=0"),
        (_interval(*_GROUPED, seed="0"), "the same with every seed"),
        (_interval(*_GROUPED, end="return np.percentile(scores, [97.5, 2.5])"), "comes first"),
        (_interval(*_GROUPED, end="np.percentile(scores, [2.5, 97.5])"), "returned None"),
        (_interval(*_GROUPED, end="return np.mean(scores)"), "two numbers (low, high)"),
    ],
    "size": [
        ('size_needed = {"scenes": 360, "drives": 90}', "± 0.5 points"),
        ('size_needed = {"scenes": 22, "drives": 90}', "± 2 points"),
        ('size_needed = {"scenes": 150, "drives": 90}', "scales the number with the width"),
        ('size_needed = {"scenes": 90, "drives": 720}', "counts frames"),
        ('size_needed = {"scenes": 1000, "drives": 90}', "you need fewer than 1000"),
        ('size_needed = {"scenes": "many", "drives": 90}', "expected a number for scenes"),
        ("size_needed = 90", "expected a dict"),
    ],
    "two_masks": [
        (_RIM.format(body="fewer, more = 98, 102"), "the rule speaks of mm²"),
        (_RIM.format(body="fewer, more = n - 30, n + 100"), "Dices differ by"),
        (_RIM.format(body="fewer, more = n - 30, n"), "one is the truth itself"),
        (_RIM.format(body="fewer, more = n - 200, n + 320"), "A Dice is below 0.85"),
        (_RIM.format(body="fewer, more = 620, 630"), "pixels are not square: 0.4 mm"),
        (_RIM.format(body="fewer, more = n + 8, n + 10"), "which side of 100 mm² is missing"),
        (
            _masks("return np.roll(truth, 2, 0), np.roll(truth, 2, 1)"),
            "moving a mask costs Dice and changes no area",
        ),
        (_masks("return truth, truth"), "Both masks are the same"),
        (_masks("truth[:40] = False", "return truth, truth"), "changes the truth"),
        (_masks("return truth[:50], truth[:50]"), "expected a bool array of the truth's shape"),
        (_masks("return truth * 255, truth * 255"), "expected True and False"),
        (_masks("return truth"), "expected two masks"),
        (
            _RIM.format(body="fewer, more = n - 25, n + 26"),
            "right on the notebook's lesion, but on another lesion, of 108.0 mm²",
        ),
    ],
}
