"""Wrong answers to the exercises of lesson 4, beside those that their judges' tables imply."""

from answers import code

PRELUDE = """
import cv2
import numpy as np
from seglib.exercises import lesson04 as ex

def miou(matrix):
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    return (hits[union > 0] / union[union > 0]).mean()

resized = ex.resized
"""


_LONG = (
    "prediction, target = np.asarray(prediction), np.asarray(target)",
    "valid = target != self.ignore_index",
    "prediction, target = prediction[valid].astype(int), target[valid].astype(int)",
)
_COUNT = "self.counts += np.bincount(n * target + prediction, minlength=n * n).reshape(n, n)"
_GOOD = (*_LONG, _COUNT)


def _matrix(*update, iou="hits / union", start="pass"):
    return code(
        "class Matrix:",
        "def __init__(self, num_classes, ignore_index=255):",
        "    self.num_classes, self.ignore_index = num_classes, ignore_index",
        "    self.counts = np.zeros((num_classes, num_classes), np.int64)",
        f"    {start}",
        "def update(self, prediction, target):",
        "    n = self.num_classes",
        *(f"    {line}" for line in update),
        "def iou(self):",
        "    hits = np.diag(self.counts)",
        "    union = self.counts.sum(0) + self.counts.sum(1) - hits",
        f"    return {iou}\n",
    )


_MIDDLE = "np.percentile(scores, [2.5, 97.5])"
_SUMS = "sums = np.stack([matrices[groups == name].sum(0) for name in names])"
_BY_SUMS = "miou(sums[rng.integers(len(sums), size=len(sums))].sum(0))"


def _interval(*units, score=_BY_SUMS, end=_MIDDLE, seed="seed"):
    return code(
        "def interval(matrices, groups, draws=500, seed=0):",
        f"rng, groups = np.random.default_rng({seed}), np.array(groups)",
        "names = sorted(set(groups))",
        *units,
        f"scores = [{score} for _ in range(draws)]",
        f"return {end}",
    )


def _inside(pick):
    """Groups are drawn, and `pick` chooses from the frames of each, `own`."""
    return _interval(
        "def draw():",
        "    own = [np.flatnonzero(groups == name) for name in rng.choice(names, len(names))]",
        f"    return np.concatenate([{pick} for own in own])",
        score="miou(matrices[draw()].sum(0))",
    )


def _twin(*lines):
    return code("def twin(truth, smaller):", *lines)


WRONG = {
    "matrix": {
        "iou() was complete": _matrix(*_GOOD, iou="np.nanmean(hits / union)"),
        "update changes the target": _matrix("target[target == self.ignore_index] = 0", *_GOOD),
        "starts with the counts of those before it": _matrix(
            *_GOOD, start="self.counts = Matrix.all.setdefault(num_classes, self.counts)"
        )
        + "Matrix.all = {}",
        "has no attribute 'counts'": _matrix(*_GOOD, "self.total = self.__dict__.pop('counts')"),
        "shape (4, 5) and dtype int64": _matrix(*_LONG, "self.counts = np.zeros((4, 5), int)"),
        "expected the class Matrix itself": "def Matrix(num_classes):\n    return num_classes",
    },
    "means": {
        "that is the mean 'per image, absent": "guess = {**ex.means.answer, 'pooled': 0.631}",
        "add the two matrices": "guess = {**ex.means.answer, 'pooled': 0.2}",
    },
    "drives": {
        "val has no cyclist": "val_drives = {'E'}",
        "train has no cyclist": "val_drives = 'B', 'D', 'A'",
        "44 of 120 frames, 37%. Expected 15 to 35 %": "val_drives = ['B', 'e']",
        "some of the drives A to E": "val_drives = {'B', 'F'}",
        "found 0.2": "val_drives = 0.2",
    },
    "bootstrap": {
        "you draw groups and then frames inside them": _inside("rng.choice(own, len(own))"),
        "you draw one frame of each drawn group": _inside("rng.choice(own, 1)"),
        "you average the groups' own mIoUs": _interval(
            _SUMS, score="np.mean([miou(s) for s in rng.choice(sums, len(sums))])"
        ),
        "you average mIoUs by drive, then the drives": _interval(
            "each = [np.mean([miou(m) for m in matrices[groups == name]]) for name in names]",
            score="np.mean(rng.choice(each, len(each)))",
        ),
        "you cut the frames into equal pieces": _interval(
            "sums = np.stack([p.sum(0) for p in np.array_split(matrices, len(names))])"
        ),
        "it has no width": _interval(_SUMS, score="miou(sums[rng.permutation(len(sums))].sum(0))"),
        "each draw is right, but its width is": _interval(_SUMS, end="min(scores), max(scores)"),
        "One draw: as many groups as there are": _interval(
            _SUMS, score=_BY_SUMS.replace("size=len(sums)", "size=len(sums) - 1")
        ),
        "two calls with seed=0": _interval(_SUMS, seed=""),
        "the same with every seed": _interval(_SUMS, seed="0"),
        "two numbers (low, high)": _interval(_SUMS, end="np.mean(scores)"),
        "interval changes the matrices": _interval("matrices[1:] += matrices[:-1]", _SUMS),
    },
    "two_masks": {
        "That is the mask that was given": _twin("return smaller"),
        "That is the truth": _twin("return truth"),
        "Moving a mask": _twin("return np.roll(smaller, 2, 0)"),
        "The decision is the same": _twin("return resized(truth, int(smaller.sum()) - 1)"),
        "The Dices differ by": _twin("return resized(truth, int(truth.sum()) + 100)"),
        "twin changes truth": _twin("truth[:40] = False", "return truth"),
        "twin changes smaller": _twin("smaller[40:] = True", "return smaller"),
        "shape (50, 96) and dtype bool, expected a bool": _twin("return truth[:50]"),
        "dtype int64, expected a bool array": _twin("return truth * 255"),
        "on another lesion (right on the notebook's)": _twin("return resized(truth, 543)"),
    },
}
