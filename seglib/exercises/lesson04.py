"""The exercises of lesson 4: what a score is, how sure it is, and what it is worth."""

# mypy: allow-untyped-defs

from __future__ import annotations

import operator
from copy import deepcopy
from functools import cache, partial
from itertools import combinations
from typing import Any

import cv2
import numpy as np
import torch

from seglib.exercises import kit
from seglib.exercises.kit import NotYet, call, show
from seglib.exercises.material04 import Frame, driving_log, hidden_lesions, hidden_log, lesion

LESSON = kit.Lesson(
    "04",
    outcomes=(
        "accumulate a confusion matrix over batches, and derive the scores from it",
        "name the definition behind a mIoU, and say what another one would give",
        "split data by group, and say how far validation is from training",
        "give a score with an interval whose unit is the group, and say how many images it takes",
        "say what a mask is worth for the measurement or the decision that it serves",
    ),
)
summary = LESSON.summary


def _refuse(start: str, mistakes: dict[str, Any]) -> None:
    """Raise `NotYet` with the first hint that holds."""
    for hint, holds in mistakes.items():
        if holds:
            raise NotYet(f"{start}{hint}")


def _array(found: Any) -> np.ndarray:
    """The reader's numbers as an array; of anything else, one without any."""
    try:
        array = np.asarray(found.numpy() if hasattr(found, "numpy") else found)
    except Exception:
        return np.array(None)
    return array if array.dtype.kind in "uifb" else np.array(None)


# ---------------------------------------------------------------- a matrix that streams


class Matrix:
    """A confusion matrix over any number of batches: rows truth, columns prediction."""

    def __init__(self, num_classes, ignore_index=255):
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def update(self, prediction, target):
        valid = np.asarray(target) != self.ignore_index
        target = np.asarray(target)[valid].astype(np.int64)
        prediction = np.asarray(prediction)[valid].astype(np.int64)
        n = self.num_classes
        for labels in (prediction, target):
            outside = labels[(labels < 0) | (labels >= n)]
            if len(outside):
                raise ValueError(f"found label {outside[0]}, expected 0 to {n - 1}")
        self.counts += np.bincount(target * n + prediction, minlength=n * n).reshape(n, n)

    def iou(self):
        hits = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        with np.errstate(invalid="ignore"):  # 0 / 0 is nan: an absent class
            return hits / union


def _batches(*shapes, seed, first=0, void=255):
    """(prediction, target) by shape: classes first … first + 2, first + 4 only predicted, void."""
    rng, found = np.random.default_rng(seed), []
    for n, shape in enumerate(shapes):
        truth = first + rng.choice(3, shape, p=[0.2, 0.5, 0.3] if n % 2 else [0.6, 0.3, 0.1])
        noise = first + rng.choice([0, 1, 2, 4], shape, p=[0.5, 0.1, 0.3, 0.1])
        prediction = np.where(rng.random(shape) < (0.8, 0.5)[n % 2], truth, noise)
        found.append((prediction, np.where(rng.random(shape) < 0.2, void, truth)))
    return found


@np.errstate(all="ignore")
def _fed(answer: Any, given: str, _: str, look: Any, batches: Any, *settings: int) -> Any:
    """What a Matrix that has seen the batches shows to `look`; what went wrong, as text."""
    if not isinstance(answer, type):
        raise NotYet(f"expected the class Matrix itself, found {show(answer)}")
    made = call(answer, *(settings or (5,)), given="Matrix(num_classes, ignore_index)")
    try:
        for batch in batches:
            made.update(*(handed := deepcopy(batch)))
            for name, old, new in zip(("prediction", "target"), batch, handed, strict=True):
                if not np.array_equal(np.asarray(old), np.asarray(new)):
                    raise NotYet(f"on {given}, update changes the {name} that it gets: copy it")
        return look(made, *settings[:1])
    except NotYet:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _told(made: Any, classes: int = 5, *, name: str) -> Any:
    """`counts` or `iou()` (asked twice) of the reader's Matrix: its last 5 classes, or a text."""
    found = (made.iou(), made.iou())[1] if name == "iou()" else made.counts
    shape = (classes,) if name == "iou()" else (classes, classes)
    fits = _array(found).shape == shape
    return _array(found)[(slice(-5, None),) * len(shape)] if fits else f"{show(found)} as {name}"


def _most(made: Any) -> int:
    """How many items the largest attribute has."""
    parts = [p for p in getattr(made, "__dict__", {}).values() if hasattr(p, "__len__")]
    return max((int(np.prod(p.shape)) if hasattr(p, "shape") else len(p) for p in parts), default=0)


def _pixel(made: Any) -> str:
    """Where a pixel was counted that comes with one each of 1, 2, 3 and 4."""
    for truth, prediction in np.argwhere(_counts(made) - np.diag([0, 1, 1, 1, 1])):
        return f"the pixel counted as truth {truth}, prediction {prediction}"
    return "the pixel dropped without a word"


def _step(cases: Any, *mistakes: Any, **settings: Any) -> kit.function:
    """One thing asked: cases (name, look, batches, settings), mistakes (hint, edits of Matrix)."""
    return kit.function(cases, Matrix, kit.edits(Matrix, *mistakes), **{**_PLAIN, **settings})


_PLAIN: dict[str, Any] = {
    "given": lambda name, *_: name,
    "run": _fed,
    "read": lambda found, _: found,
    "agree": lambda a, b: type(a) is type(b) and (type(a) is str or kit.NEARLY(a, b)),
    "shown": lambda value: value if isinstance(value, str) else str(np.round(value, 3).tolist()),
}
_counts, _iou = partial(_told, name="counts"), partial(_told, name="iou()")
_THREE, _MAPS = "3 int64 maps of 5 classes", _batches((2, 6, 8), (1, 6, 8), (3, 5, 9), seed=2)
_CLEAN = [(p, np.where(t == 255, 1, t)) for p, t in _MAPS]
_FEW = [(np.minimum(p, 2), t) for p, t in _MAPS]
_TENSORS = [tuple(map(torch.from_numpy, b)) for b in _batches((2, 6, 8), (6, 8), (11,), seed=5)]
_BYTES = [tuple(part.astype(np.uint8) for part in _batches((99,), seed=3, first=15)[0])]
_ON_VOID = [(np.where(t == 255, t, p), t) for p, t in _BYTES]
_VALID, _ADD, _IOU = "target) != self.ignore_index", "self.counts +=", "hits / union"
_LONG, _CHECK = "), np.int64", "assert prediction.max() < 20; valid ="
_KEEP = "self.old = [*getattr(self, 'old', []), self.counts * 1]; self.counts +="
_EACH = (  # the mean of the batches' own IoUs
    "np.mean([np.diag(c) / (c.sum(0) + c.sum(1) - np.diag(c)) for c in "
    "np.diff([*self.old, self.counts], axis=0)], axis=0)"
)
_STEPS = (
    _step(
        [("a new Matrix", lambda made: _counts(type(made)(5)), _MAPS)],
        agree=lambda found, value: isinstance(found, str) or not found.any(),  # errors: later
        otherwise="it starts with the counts of those before it: set counts in __init__",
    ),
    _step(
        [(f"{_THREE} and void", _counts, _MAPS), (_THREE, _counts, _CLEAN)],
        ("without void pixels it runs: 255 is no class, take void out", _VALID, "target) >= 0"),
        ("rows and columns are swapped: the truth is in the rows", "(n, n)", "(n, n).T"),
        ("that is the last batch alone: add up; the mean of each batch's IoU differs", "+=", "="),
        ("counts is still all zeros: update must add to self.counts", _ADD, "counts ="),
        ("void is counted as class 0: leave it out", _VALID, "target := target % 255) >= 0"),
        ("void is counted as the last class", _VALID, "target := target.clip(0, 4)) >= 0"),
        ("those are shares, expected pixel counts", "+=", "= self.counts + 1 / len(target) *"),
    ),
    _step(
        [("3 maps of 3 classes and void, counts is right, but iou(), called twice", _iou, _FEW, 3)],
        ("that is the mean of each batch's IoU: divide once, at the end", _ADD, _KEEP, _IOU, _EACH),
        ("iou() changes the counts", _IOU, "(hits / union, self.counts.fill(0))[0]"),
        ("that is Dice; IoU divides by the union", _IOU, "2 * hits / (union + hits)"),
        ("the union holds the hits twice: subtract it once", _IOU, "hits / (union + hits)"),
        ("that is the recall; IoU divides by the union", _IOU, "hits / self.counts.sum(1)"),
        ("that is the precision; IoU divides by the union", _IOU, "hits / self.counts.sum(0)"),
        otherwise="intersection: the diagonal; union: row sum + column sum − diagonal",
    ),
    _step(
        [
            (f"{_THREE}, 3 absent, 4 only predicted", _iou, _MAPS),
            ("iou() without update", _iou, []),
        ],
        ("absent is nan: 0 would pull every mean down", _IOU, "np.nan_to_num(hits / union)"),
        ("absent is nan: 1 would be a gift", _IOU, "np.nan_to_num(hits / union, nan=1.0)"),
        ("with nan here, false alarms would cost nothing", _IOU, "hits / union + 0 / (hits > 0)"),
    ),
    _step(
        [
            ("uint8 labels up to 19, prediction 255 on void", _counts, _ON_VOID, 20),
            ("uint8 labels up to 19", _counts, _BYTES, 20),
            ("labels whose void is 99", _counts, _batches((6, 8), seed=6, void=99), 5, 99),
            ("int64 tensors of shapes (2, 6, 8), (6, 8) and (11,)", _counts, _TENSORS),
            ("a batch that is all void", _counts, [(np.zeros(9, int), np.full(9, 255))]),
        ],
        ("what is predicted on void must not matter: take void out of both", "valid =", _CHECK),
        ("truth · 20 + prediction goes over 255 in uint8: use int64", ".astype(np.int64)", ""),
        ("is 255 written into update? Use self.ignore_index", "!= self.ignore_index", "!= 255"),
        ("it is right on arrays; np.asarray(…) reads tensors, too", "np.asarray(", "("),
        ("reductions such as max fail on nothing", "n = self.num", "target.max(); n = self.num"),
    ),
    _step(
        [
            ("one batch, dtype of counts", lambda made: str(_counts(made).dtype), _MAPS[:1]),
            ("one batch, dtype of iou()", lambda made: str(_iou(made).dtype), _MAPS[:1]),
        ],
        ("it counts to 16,777,216 only: adding 1 changes nothing", _LONG, "), np.float32"),
        ("counts are whole numbers: use int64", _LONG, ")"),
        ("it ends at 2,147,483,647 pixels, a thousand photos", _LONG, "), np.int32"),
        agree=operator.eq,
    ),
    _step(
        [("40 batches, the size of your object's largest attribute", _most, _MAPS[:1] * 40)],
        ("it streams nothing: keep no batch, all scores follow from counts", _ADD, _KEEP),
        agree=lambda found, value: (found < 40) == (value < 40),
    ),
    _step(
        [
            (f"truth {t}, prediction {p}", _pixel, [[np.array([x, 1, 2, 3, 4]) for x in (p, t)]])
            for t, p in ((0, 5), (1, -1), (4, 255), (7, 2), (-1, 3))
        ],
        agree=lambda found, value: found.startswith("ValueError"),
        shown=lambda text: text.split(":")[0],
        otherwise="one of the two labels is no class (0 to 4): silence would hide a wrong mapping",
        praise="arrays and tensors, void and absent classes; labels that are no class are refused",
    ),
)

matrix = LESSON.add(
    ("matrix", "A confusion matrix that streams", "implement", 0),
    judge=kit.in_turn(_STEPS),
    answer=Matrix,
    hints=(
        "np.asarray(…) reads tensors; valid = target != self.ignore_index; compute in int64.",
        "np.bincount(truth * C + prediction, minlength=C * C).reshape(C, C), after a range check.",
        "IoU: hits on the diagonal, union = row sum + column sum − hits; 0 / 0 is nan by itself.",
    ),
)


# ---------------------------------------------------------------- three means

MEANS = {"pooled": 0.571, "per image, absent left out": 0.631, "per image, absent counts 1": 0.661}
_READ = [
    (0.599, "that is micro: all classes' hits over all unions. In mIoU all classes weigh the same"),
    (0.494, "that is the mean per image with 0 for the absent class, a third definition"),
    (0.550, "that averages each class over the images first; per image, each image has one mean"),
    (0.711, "that is Dice from the pooled counts; IoU divides by the union"),
    (0.755, "that is Dice per image with absent left out; IoU divides by the union"),
    (0.772, "that is Dice per image with absent as 1; IoU divides by the union"),
    (0.750, "15 of 20 pixels are right: that is the accuracy"),
    (0.593, "that is the mean over the five pairs of image and class; both images weigh the same"),
    (0.444, "that is the first image alone"),
    (0.817, "that is the second image alone"),
    *((mean, f"that is the mean {key!r}: are two swapped?") for key, mean in MEANS.items()),
]

means = LESSON.add(
    ("means", "Three means of two images", "predict", 1),
    judge=kit.numbers(
        MEANS,
        {key: [row for row in _READ if row[0] != right] for key, right in MEANS.items()},
        f"one prediction, three mIoUs: {MEANS}",
        low=0,
        high=1,
        tolerance=0.007,  # two digits suffice
        otherwise="pooled: add the two matrices; per image: one mean for each, then their mean",
    ),
    variable="guess",
    answer=dict(MEANS),
    hints=(
        "IoU of a class: diagonal / (row sum + column sum − diagonal).",
        "Pooled: add the two matrices first. Per image: a mean for each, then the mean of both.",
        "In the second image class 2 is absent: divide by two, or take it as 1 and divide by 3.",
    ),
)


# ---------------------------------------------------------------- a split by drive


def split(frames):
    """(train, val): indices of whole drives, the first choice that has all classes in both."""
    drives = sorted({frame.drive for frame in frames})
    classes = set().union(*(frame.classes for frame in frames))
    for count in range(1, len(drives)):
        for chosen in combinations(drives, count):
            parts = [], []
            for i, frame in enumerate(frames):
                parts[frame.drive in chosen].append(i)
            complete = all(
                set().union(*(frames[i].classes for i in part)) == classes for part in parts
            )
            if complete and 0.15 <= len(parts[1]) / len(frames) <= 0.35:
                return parts
    raise ValueError("no choice of whole drives will do")


def _one_split(answer: Any, which: str, frames: list[Frame]) -> str:
    found = call(answer, list(frames), given=which)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise NotYet(f"on {which}, expected two lists of indices; found {show(found)}")
    count, drive = len(frames), [frame.drive for frame in frames]
    train = _indices(f"on {which}, train", found[0], count)
    val = _indices(f"on {which}, val", found[1], count)
    share, both, gone = len(val) / count, {*train} & {*val}, 1 - len({*train, *val}) / count
    pairs = [(frames[i], frames[j]) for i in val for j in train if drive[i] == drive[j]]
    gap, cut = min(((abs(a.second - b.second), a.drive) for a, b in pairs), default=(np.inf, ""))
    where = f"smallest gap {gap:.1f} s, in drive {cut}" if cut else "no drive is in both parts"
    every = set().union(*(frame.classes for frame in frames))
    seen = [set().union(*(frames[i].classes for i in part)) for part in (train, val)]
    not_train, not_val = (", ".join(sorted(every - some)) for some in seen)
    mistakes = {
        f"{len(both)} frames are in train and in val: the network has seen them": both,
        "train and val are swapped": share > 0.5 and 0.15 <= len(train) / count <= 0.35,
        f"{gone:.0%} of the frames are in neither part, allowed are 20%": gone > 0.2,
        "Expected 15% to 35%: count frames, drives differ in length": not 0.15 <= share <= 0.35,
        _why_so_near(drive, train, val, gap): gap < 60,
        f"But train has no {not_train}: no network can learn it": not_train,
        f"But val has no {not_val}: its IoU cannot be measured": not_val,
    }
    _refuse(f"on {which}, val has {share:.0%} of the frames; {where}. ", mistakes)
    return f"val has {share:.0%} of the frames; {where}; all classes are in both"


def _indices(name: str, part: Any, count: int) -> list[int]:
    """One part of a split as a list of indices, else `NotYet`."""
    array = _array(list(part) if np.iterable(part) else part)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise NotYet(f"{name} is {show(part)}, expected a list of indices")
    indices = sorted(array.tolist())
    mistakes = {
        f"indices outside frames 0 to {count - 1}": not 0 <= indices[0] <= indices[-1] < count,
        "an index twice: a frame must not count twice": len({*indices}) < len(indices),
    }
    _refuse(f"{name} has ", mistakes)
    return indices


def _why_so_near(drive: list[str], train: list[int], val: list[int], gap: float) -> str:
    """What kind of split has val frames so near to train frames."""
    both = {drive[i] for i in val} & {drive[i] for i in train}
    parts = [[i in val for i in sorted(train + val) if drive[i] == name] for name in both]
    if any(np.diff(part).sum() > 2 for part in parts):  # how often the part changes
        steps = {*np.diff(val)}
        how = f"take every {min(steps)}th frame" if len(steps) == 1 else "choose frame by frame"
        return f"You {how}: train frames beside it show the same street. Choose whole drives"
    if gap > 4:  # seconds from frame to frame
        return "There is a buffer at the cut, but a short one: expected 60 s or more"
    cuts = "one drive" if len(both) == 1 else f"{len(both)} drives"
    return f"You cut {cuts} in two. Keep drives whole, or leave out 60 s at a cut"


_LOGS = [
    ("the log of 120 frames", driving_log()),
    ("another log (right on the notebook's: is a drive written into your function?)", hidden_log()),
]

split = LESSON.add(  # type: ignore[assignment]
    ("split", "Split a log of drives", "design", 2),
    judge=lambda answer: [_one_split(answer, *case) for case in _LOGS][0],  # noqa: RUF015
    answer=split,
    hints=(
        "A drive is the group: if it is whole in one part, there is no gap to measure.",
        "In which drives do bicyclists ride? One of them must go to val, one must stay in train.",
        "Try the choices of drives (itertools.combinations); take the first that will do.",
    ),
)


# ---------------------------------------------------------------- an interval by group


def miou(matrix):
    """Mean IoU of a matrix (or many), absent classes left out. (The notebook has its own.)"""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        return np.nanmean(hits / (matrix.sum(-1) + matrix.sum(-2) - hits), axis=-1)


def interval(matrices, groups, draws=500, seed=0):
    rng = np.random.default_rng(seed)
    names = sorted(set(groups))
    sums = np.stack([matrices[np.array(groups) == name].sum(0) for name in names])
    scores = []
    for _ in range(draws):
        drawn = rng.integers(len(sums), size=len(sums))
        scores.append(miou(sums[drawn].sum(0)))
    low, high = np.percentile(scores, [2.5, 97.5])
    return low, high


@cache
def _drives(lengths: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """Matrices of the frames of drives that differ in length, errors and rare class, shuffled."""
    rng, matrices = np.random.default_rng(12), []
    drives = [i for i, length in enumerate(lengths) for _ in range(length)]
    rng.shuffle(drives)
    errors = [(0.6, 0.1, 0.15)[i % 3] + rng.uniform(0, 0.15) for i in range(len(lengths))]
    for i in drives:
        rare = 0.08 * (i % 3 == 0 or rng.random() < 0.5)  # some frames have none
        truth, error = np.array([0.6, 0.4 - rare, rare]), errors[i] * np.array([0.5, 1, 1.5])
        cells = np.outer(truth * error, [1 / 3] * 3) + np.diag(truth * (1 - error))
        matrices.append(rng.multinomial(400, cells.ravel()).reshape(3, 3))
    return np.array(matrices), [f"drive {'ABCDEFGHIJKL'[i]}" for i in drives]


# A draw says how often each frame is in it, n draws as an array (n, frames); g is the groups as
# rows of 0 and 1 (group, frame). A score is that of each draw, for matrices m.
def _draw(rng: Any, units: Any, n: int, size: int = 0) -> np.ndarray:
    """`size` of the units with replacement, by default as many as there are."""
    return rng.multinomial(size or len(units), [1 / len(units)] * len(units), n) @ units


def _inside(rng: Any, g: np.ndarray, n: int, size: int = 0) -> Any:
    """Groups, and inside each `size` frames, by default as many as it has."""
    times = (_draw(rng, np.eye(len(g)), n) * (size or g.sum(1))).astype(int)
    return sum(rng.multinomial(k, row / row.sum()) for k, row in zip(times.T, g, strict=True))


def _mean(weights: Any, each: Any) -> Any:
    return weights @ each / weights.sum(1)


def _pooled(weights: Any, m: Any) -> Any:
    return miou(np.tensordot(weights, m, 1))


_DRAWS = [
    ("", _draw),
    ("you draw frames, expected groups", lambda rng, g, n: _draw(rng, np.eye(g.shape[1]), n)),
    ("a group drawn twice must count twice", lambda rng, g, n: np.minimum(_draw(rng, g, n), 1)),
    ("you draw as many groups as there are frames", lambda r, g, n: _draw(r, g, n, g.shape[1])),
    ("you draw one group only, expected as many as there are", lambda r, g, n: _draw(r, g, n, 1)),
    ("you draw groups and then frames inside them, expected groups with all frames", _inside),
    ("you draw one frame of each drawn group, expected all", lambda r, g, n: _inside(r, g, n, 1)),
    ("you take a group's first frame", lambda r, g, n: _draw(r, g * (g.cumsum(1) == 1), n)),
    ("you take a group's last frame", lambda r, g, n: _draw(r, g * (g @ np.tri(len(g.T)) == 1), n)),
    (
        "you cut the frames into equal pieces, expected the groups by their names",
        lambda r, g, n: _draw(r, np.eye(len(g)).repeat(g.shape[1] // len(g), 1), n),
    ),
]
_SCORES = [  # h is g, each row divided by its sum
    ("", lambda t, m, h: _pooled(t, m)),
    ("you average the frames' own mIoUs, expected the sum's", lambda t, m, h: _mean(t, miou(m))),
    ("you average the groups' own mIoUs", lambda t, m, h: _mean(t @ h.T, _pooled(h, m))),
    ("you average mIoUs by drive, then the drives", lambda t, m, h: _mean(t @ h.T, h @ miou(m))),
    ("you divide each group's matrix by its size", lambda t, m, h: _pooled(t * h.sum(0), m)),
]
_ENDS: Any = [  # of scores (n, draws)
    ("", lambda s: np.percentile(s, (2.5, 97.5), axis=1)),
    ("mean ± one standard deviation holds 68 %", lambda s: s.mean(1) + [[-1], [1]] * s.std(1)),
    ("percentiles 5 and 95 hold 90 % of the draws", lambda s: np.percentile(s, (5, 95), axis=1)),
    ("np.percentile counts to 100", lambda s: np.percentile(s, (0.025, 0.975), axis=1)),
    ("far too narrow: you divide by √draws", lambda s: s.mean(1) + [[-0.088], [0.088]] * s.std(1)),
]
_WAYS = [(d, s) for d in _DRAWS for s in (_SCORES if d is _DRAWS[0] else _SCORES[:2])]
_LOG, _SMALL = (4, 5, 6, 8, 9, 10) * 2, (1, 2, 3)  # frames of each drive
_RIGHT, _BY_FRAME, _SPAN = 0, len(_SCORES), "[{:.3f}, {:.3f}]".format


def _by(way: int, matrices: np.ndarray, groups: list[str], draws: int, seed: int) -> np.ndarray:
    g = np.array([[group == name for group in groups] for name in sorted({*groups})], float)
    (_, draw), (_, score) = _WAYS[way]
    times = draw(np.random.default_rng(seed), g, draws)
    return score(times, matrices, g / g.sum(1, keepdims=True))


@cache
def _many(way: int, lengths: tuple[int, ...]) -> np.ndarray:
    return _by(way, *_drives(lengths), draws=20_000, seed=1)


def _ends(way: int) -> np.ndarray:
    return np.array([e(_many(way, _LOG).reshape(-1, 500)).mean(1) for _, e in _ENDS])


def _faults(way: int, end: int) -> str:
    return "; and ".join(fault for fault, _ in (*_WAYS[way], _ENDS[end]) if fault)


def _interval(way: int, end: int, *case: Any) -> np.ndarray:
    return _ENDS[end][1](_by(way, *case)[None])[:, 0]


def _tried(answer: Any, lengths: tuple[int, ...], draws: int, seed: int) -> np.ndarray:
    matrices, groups = _drives(lengths)
    given, handed = f"{len(groups)} matrices of {len(lengths)} drives", matrices.copy()
    found = call(answer, handed, list(groups), draws, seed, given=given)
    if not np.array_equal(handed, matrices):
        raise NotYet(f"on {given}, interval changes the matrices that it gets: += adds in place")
    if _array(found).shape != (2,) or not np.isfinite(_array(found)).all():
        raise NotYet(f"on {given}, expected two numbers (low, high), found {show(found)}")
    return _array(found)


def _way(single: np.ndarray) -> int:
    """Which way of drawing and scoring makes these scores of single draws the likeliest, or -1."""
    fits = []
    for way in range(len(_WAYS)):
        known = np.sort(_many(way, _SMALL))
        both = np.concatenate([single, known])
        low, high = (np.searchsorted(known, both + step) for step in (-1e-6, 1e-6))
        likely = np.log(np.maximum(high - low, 0.1) / len(known))
        seen, usual = likely[: len(single)].mean(), likely[len(single) :]
        plausible = abs(seen - usual.mean()) < 5 * usual.std() / len(single) ** 0.5 + 0.02
        fits.append(seen if plausible else -np.inf)
    return int(np.argmax(fits)) if max(fits) > -np.inf else -1


class _Bootstrap:
    """Single draws from six frames tell what is drawn and scored; 84 frames tell the ends."""

    def __call__(self, answer: Any) -> str:
        found = np.array([_tried(answer, _LOG, 500, seed) for seed in range(16)])
        again, (low, high) = _tried(answer, _LOG, 500, 0), found.mean(0)
        try:
            single = np.array([_tried(answer, _SMALL, 1, seed) for seed in range(256)])
        except NotYet:  # not every right answer can do with one draw
            single = found
        known = np.allclose(*single.T)
        way = _way(single[:, 0]) if known else _RIGHT
        # 16 · 500 draws tell an end to 0.03 spreads, and the ends of 95 % and 90 % are 0.3 apart.
        far = abs(_ends(max(way, 0)) - (low, high)).max(1) / _many(max(way, 0), _LOG).std()
        off = way < 0 or far[0] > 0.15
        faults = _faults(way, int(far.argmin()) if far.min() < 0.25 else 0)
        constant = (found == found[0]).all() and (single == single[0]).all()
        right, by_frame = _ends(_RIGHT)[0], _ends(_BY_FRAME)[0]
        wide = f"its width is {(high - low) / (right[1] - right[0]):.0%}"
        said = f"on 84 matrices of 12 drives: found {_SPAN(low, high)}, expected {_SPAN(*right)}"
        mistakes = {
            "two calls with seed=0 differ: seed a generator with it": any(found[0] != again),
            "the lower end comes first": low > high,
            "it has no width: draw with replacement": constant and high - low < 1e-9,
            "it is the same with every seed: pass seed to the generator": constant,
            faults: known and way >= 0 and faults,
            f"each draw is right, but {wide}: return the percentiles 2.5 and 97.5": off
            and known
            and way == 0,
            f"{wide}. One draw: as many groups as there are, with replacement, summed": off,
        }
        _refuse(f"{said}: ", mistakes)
        return f"{said}; drawn by frame it would be {_SPAN(*by_frame)}"

    def wrong_answers(self) -> list[tuple[Any, str]]:
        """Each way with the right ends and with the colleague's; the right way with all ends."""
        kinds = [(w, e) for w in range(len(_WAYS)) for e in range(2 if w else len(_ENDS)) if w or e]
        return [(partial(_interval, *kind), _faults(*kind)) for kind in kinds]


bootstrap = LESSON.add(
    ("bootstrap", "Mend an interval", "debug", 3),
    judge=_Bootstrap(),
    answer=interval,
    hints=(
        "Three things are wrong: what is drawn, what is averaged, and which ends are returned.",
        "Add up each group's matrices; a draw is sums[rng.integers(len(sums), size=len(sums))].",
        "A draw's score is the mIoU of its sum; 95 % lie between the percentiles 2.5 and 97.5.",
    ),
)


# ---------------------------------------------------------------- how many images

_NEEDED = 90.7  # of both, by the record: the mean of width · √size, divided by 0.02 and squared
_LINEAR = "that scales the number with the width; half the width takes four times as many, not two"
_SPANS = [
    (4 * _NEEDED, "that gives ± 0.5 points; 0.02 from end to end is ± 1 point"),
    (_NEEDED / 4, "that gives ± 2 points: 0.02 is the whole width, not a half"),
]
_FRAMES = (8 * _NEEDED, "that counts frames, expected drives of eight frames each")

size = LESSON.add(
    ("size", "How many images?", "interpret", 3),
    judge=kit.numbers(
        {"scenes": _NEEDED, "drives": _NEEDED},
        {
            "scenes": [*_SPANS, *((n, _LINEAR) for n in (72.3, 105, 148, 211))],
            "drives": [*_SPANS, _FRAMES, (46.8, _LINEAR), (65.8, _LINEAR)],
        },
        "about 90 scenes or 91 drives, that is 728 frames: neighbours in a drive count for little",
        tolerance=0.125,  # the linear mistake gives 105: 0.16 too many
        distance=lambda found, value: abs(found / value - 1),
        otherwise="from a row of the table with n of them and a width w: n · (w / 0.02)²",
    ),
    variable="size_needed",
    answer={"scenes": 90, "drives": 90},
    hints=(
        "Start from a line of the table: its number of scenes n and the mean width w.",
        "The width goes with 1 / √n, so n · (w / 0.02)² of them give a width of 0.02.",
    ),
)


# ---------------------------------------------------------------- two masks of a lesion


def masks(truth, spacing):
    """The lesion with a rim taken off, and with one added, of equal Dice."""
    outside = cv2.distanceTransform((~truth).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
    order = np.argsort(outside - inside, axis=None, kind="stable")  # from the core outwards
    pixels = int(truth.sum())
    limit = 100 / (spacing[0] * spacing[1])  # pixels of 100 mm²
    fewer = int(abs(pixels - limit)) + 2
    more = round(pixels * fewer / (pixels - fewer))  # then the Dices are equal
    first, second = np.zeros_like(truth), np.zeros_like(truth)
    first.flat[order[: pixels - fewer]] = True
    second.flat[order[: pixels + more]] = True
    return first, second


def _two_masks(answer: Any, which: str, truth: np.ndarray, spacing: tuple[float, float]) -> str:
    found = call(answer, handed := truth.copy(), spacing, given=which)
    if not np.array_equal(handed, truth):
        raise NotYet(f"on {which}, masks changes the truth that it gets: work on truth.copy()")
    pair = list(map(_array, found)) if isinstance(found, (tuple, list)) else []
    fits = [mask.shape == truth.shape and np.isin(mask, (0, 1)).all() for mask in pair]
    if len(fits) != 2 or not all(fits):
        what = " and ".join(map(show, pair)) or show(found)
        raise NotYet(f"on {which}, found {what}, expected two bool arrays of shape {truth.shape}")
    first, second = (mask.astype(bool) for mask in pair)
    report, dices, operate, (down, across) = [], [], [], spacing
    for name, mask in (("first", first), ("second", second), ("truth", truth)):
        area = round(float(mask.sum()) * down * across, 6)  # 500 · 0.2 is 100
        dices.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
        operate.append(area >= 100)
        decision = "operate" if area >= 100 else "wait"
        report.append(f"{name} Dice {dices[-1]:.3f}, {area:.1f} mm², {decision}")
    few, many = sorted((int(first.sum()), int(second.sum())))
    same, gap = operate[0] == operate[1], abs(dices[0] - dices[1])
    square = any(few * step**2 < 100 <= many * step**2 for step in spacing)
    mistakes = {
        "You count pixels; the rule speaks of mm²": same and few < 100 <= many,
        "A Dice is below 0.85: change less; a few pixels decide": min(dices) < 0.85,
        f"The pixels are not square: {down} mm down, {across} mm across": same and square,
        "Both masks are the same; one must be smaller": same and np.array_equal(first, second),
        "Both have the same area: moving a mask does not change it": same and few == many,
        "Both lead to the same decision: which side of 100 mm² is missing?": same,
        f"The Dices differ by {gap:.3f}: one is the truth itself": gap > 0.005 and 1 in dices[:2],
        f"The Dices differ by {gap:.3f}, allowed are 0.005": gap > 0.005,
    }
    _refuse(f"on {which}: {'; '.join(report)}. ", mistakes)
    return "; ".join(report)


_LESIONS = [("the lesion", *lesion()), *hidden_lesions()]

two_masks = LESSON.add(
    ("two_masks", "Equal Dice, opposite decisions", "design", 4),
    judge=lambda answer: [_two_masks(answer, *case) for case in _LESIONS][0],  # noqa: RUF015
    answer=masks,
    hints=(
        "A pixel has spacing[0] · spacing[1] mm². How many pixels are 100 mm², and the truth?",
        "Dice with k of n pixels missing: 2(n − k) / (2n − k); with m too many: 2n / (2n + m).",
        "Equal for m = n·k / (n − k): choose k so that n − k and n + m lie on two sides of 100 mm²",
    ),
)
