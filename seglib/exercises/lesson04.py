"""The exercises of lesson 4: what a score is, how sure it is, and what it is worth."""

# mypy: allow-untyped-defs

from __future__ import annotations

import operator
from copy import deepcopy
from functools import cache, partial
from itertools import combinations, pairwise
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


def _refuse(start: str, *checks: Any) -> None:
    """Raise `NotYet` for the first check that is wrong: a truth value, a hint, and so on."""
    for wrong, hint in zip(checks[::2], checks[1::2], strict=True):
        if wrong:
            raise NotYet(f"{start}{hint}")


def _table(*flat: Any) -> list[tuple[str, Any]]:
    """A hint, what makes the mistake, and so on."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def _array(found: Any) -> np.ndarray:
    """The reader's numbers as an array; of anything else, one without numbers."""
    try:
        array = np.asarray(found.numpy() if hasattr(found, "numpy") else found)
    except Exception:
        return np.array(None)
    return array if array.dtype.kind in "uifb" else np.array(None)


def _every(judge: Any, cases: Any) -> Any:
    """A judge of the notebook's case and of others; its praise is that of the first."""

    def judged(answer: Any) -> str:
        said, *_ = [judge(answer, *case) for case in cases]
        return said

    return judged


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


def _fed(answer: Any, given: str, _: str, look: Any, batches: Any, *settings: int) -> Any:
    """What a Matrix that has seen the batches shows to `look`; what update raised, as text."""
    if not isinstance(answer, type):
        raise NotYet(f"expected the class Matrix itself, found {show(answer)}")
    made = call(answer, *(settings or (5,)), given="Matrix(num_classes, ignore_index)")
    for batch in batches:
        handed = deepcopy(batch)
        try:
            with np.errstate(all="ignore"):
                made.update(*handed)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        for name, old, new in zip(("prediction", "target"), batch, handed, strict=True):
            if not np.array_equal(np.asarray(old), np.asarray(new)):
                raise NotYet(
                    f"on {given}, update changes the {name} that it gets: whoever uses it next "
                    "finds other labels. Select pixels, or work on a copy"
                )
    return look(made, given)


def _told(made: Any, given: str, name: str, classes: int = 5) -> np.ndarray:
    """`counts` or `iou()` of the reader's Matrix as an array."""

    def ask() -> Any:
        with np.errstate(all="ignore"):
            return made.iou() if name == "iou" else getattr(made, name)

    ask.__name__ = name
    found = call(ask, given=given)
    shape = (classes,) if name == "iou" else (classes, classes)
    if _array(found).shape != shape:
        raise NotYet(f"on {given}, {name} is {show(found)}, expected an array of shape {shape}")
    return _array(found)


_counts, _iou = partial(_told, name="counts"), partial(_told, name="iou")


def _most(made: Any, _: str) -> int:
    """How many items the largest attribute has."""
    parts = [p for p in getattr(made, "__dict__", {}).values() if hasattr(p, "__len__")]
    sizes = (int(np.prod(p.shape)) if hasattr(p, "shape") else len(p) for p in parts)
    return max(sizes, default=0)


def _pixel(made: Any, given: str) -> str:
    """Where a pixel was counted that comes with one each of 1, 2, 3 and 4."""
    cell = np.argwhere(_counts(made, given) - np.diag([0, 1, 1, 1, 1]))
    if len(cell):
        return f"the pixel counted as truth {cell[0][0]}, prediction {cell[0][1]}"
    return "the pixel dropped without a word"


def _step(cases: Any, *mistakes: Any, **settings: Any) -> kit.function:
    """One thing that is asked. A case: its name, what is looked at, batches, settings; mistakes: a
    hint, the change in the text of Matrix that makes it, and so on.
    """

    def agree(found: Any, value: Any) -> bool:  # an error is like an error
        texts = isinstance(found, str) + isinstance(value, str)
        return texts == 2 or (texts == 0 and kit.NEARLY(found, value))

    def shown(value: Any) -> str:
        return value if isinstance(value, str) else str(np.round(value, 3).tolist())

    common = {"read": lambda found, given: found, "run": _fed, "agree": agree, "shown": shown}
    given = lambda name, *_: name  # noqa: E731
    rows = kit.edits(Matrix, *[(hint, *change) for hint, change in _table(*mistakes)])
    return kit.function(cases, Matrix, rows, given, **{**common, **settings})


_THREE, _MAPS = "3 int64 maps of 5 classes", _batches((2, 6, 8), (1, 6, 8), (3, 5, 9), seed=2)
_TENSORS = [tuple(map(torch.from_numpy, b)) for b in _batches((2, 6, 8), (6, 8), (11,), seed=5)]
_BYTES = [tuple(part.astype(np.uint8) for part in _batches((99,), seed=3, first=15)[0])]
_VALID, _ADD, _IOU = "target) != self.ignore_index", "self.counts += ", "return hits / union"
_NO_VOID = f"valid = np.asarray({_VALID}"
_AS = "target = np.where(np.asarray(target) == 255, {}, target)\n        valid = target >= 0"
_EACH = (  # counts as they are, and the IoU of each batch
    _ADD,
    "counts = ",
    "(n, n)\n",
    "(n, n)\n        self.counts += counts\n"
    "        union = counts.sum(0) + counts.sum(1) - np.diag(counts)\n"
    "        self.each = [*getattr(self, 'each', []), np.diag(counts) / union]\n",
    _IOU,
    "return np.mean(self.each, axis=0)",
)
_STEPS = (
    _step(
        [("a new Matrix", lambda made, given: _counts(type(made)(5), given), _MAPS)],
        agree=lambda found, value: isinstance(found, str) or not found.any(),  # errors: later
        otherwise="it starts with the counts of those before it: set counts in __init__",
    ),
    _step(
        [
            (f"{_THREE} and void", _counts, _MAPS),
            (f"{_THREE}", _counts, [(p, np.where(t == 255, 1, t)) for p, t in _MAPS]),
        ],
        "without void pixels it runs. 255 is no row of the matrix: take void out first",
        (_VALID, "target) >= 0"),
        "rows and columns are swapped: rows are the truth. IoU does not notice, recall does",
        ("target * n + prediction", "prediction * n + target"),
        "that is the last batch alone: add, +=; the mean of each batch's IoU is another number",
        (_ADD, "self.counts = "),
        "counts is still all zeros: update must add to self.counts",
        (_ADD, "counts = "),
        "void pixels are counted as class 0: they have no class at all",
        (_NO_VOID, _AS.format("0")),
        "void pixels are counted as the last class: they have no class at all",
        (_NO_VOID, _AS.format("4")),
        "those are shares, expected counts of pixels: shares of two batches do not add up",
        (_ADD, "self.counts = self.counts + 1 / len(target) * "),
    ),
    _step(
        [
            (
                f"{_THREE} and void, with right counts, two calls of iou() for classes 0 to 2",
                lambda *made: np.stack([_iou(*made)[:3], _iou(*made)[:3]]),
                _MAPS,
            )
        ],
        "that is the mean of each batch's IoU: add up counts, and divide once at the end",
        _EACH,
        "looking at a score must not change the counts",
        (_IOU, "return (hits / union, self.counts.fill(0))[0]"),
        "that is Dice; IoU divides by the union",
        (_IOU, "return 2 * hits / (union + hits)"),
        "the union counts the intersection twice: subtract it once",
        (_IOU, "return hits / (union + hits)"),
        "that is the recall, a share of the truth's pixels",
        (_IOU, "return hits / self.counts.sum(1)"),
        "that is the precision, a share of the predicted pixels",
        (_IOU, "return hits / self.counts.sum(0)"),
        otherwise="intersection: the diagonal; union: row sum + column sum − diagonal",
    ),
    _step(
        [
            (f"{_THREE} and void (3 is nowhere, 4 only predicted), iou()", _iou, _MAPS),
            ("a new Matrix without any update, iou()", _iou, []),
        ],
        "a class that is nowhere has no IoU: 0 / 0 is nan, and 0 would pull every mean down",
        (_IOU, "return np.nan_to_num(hits / union)"),
        "a class that is nowhere has no IoU: 0 / 0 is nan, and 1 would be a gift",
        (_IOU, "return np.nan_to_num(hits / union, nan=1.0)"),
        "a class that is only predicted has IoU 0: with nan, false alarms would cost nothing",
        (_IOU, "return np.where(self.counts.sum(1) > 0, hits / union, np.nan)"),
    ),
    _step(
        [
            (f"uint8 labels up to 19{what}", lambda *m: _counts(*m, classes=20)[-5:, -5:], maps, 20)
            for what, maps in (
                (", prediction 255 on void", [(np.where(t == 255, t, p), t) for p, t in _BYTES]),
                ("", _BYTES),
            )
        ],
        "what is predicted on void must not matter: take these pixels out of both arrays first",
        ("valid = ", "assert np.max(prediction, initial=0) < 20\n        valid = "),
        "truth · 20 + prediction goes over 255 and starts at 0 again in uint8; use int64",
        (".astype(np.int64)", ""),
    ),
    _step(
        [("int64 tensors of shapes (2, 6, 8), (6, 8) and (11,)", _counts, _TENSORS)],
        otherwise="it is right on arrays; np.asarray(…) reads arrays and tensors of any shape",
    ),
    _step(
        [("labels whose void is 99", _counts, _batches((6, 8), seed=6, void=99), 5, 99)],
        "is 255 written into update? Whoever makes a Matrix chooses its ignore_index",
        (_VALID, "target) != 255"),
    ),
    _step(
        [
            ("one batch, dtype of counts", lambda *made: str(_counts(*made).dtype), _MAPS[:1]),
            ("one batch, dtype of iou()", lambda *made: str(_iou(*made).dtype), _MAPS[:1]),
        ],
        "it counts to 16,777,216 only, a few dozen photos: adding 1 to that changes nothing",
        ("num_classes), np.int64", "num_classes), np.float32"),
        "counts are whole numbers; int64 says so",
        ("num_classes), np.int64", "num_classes)"),
        "it ends at 2,147,483,647 pixels, a thousand photos of two million",
        ("num_classes), np.int64", "num_classes), np.int32"),
        agree=operator.eq,
    ),
    _step(
        [("40 batches, the size of your object's largest attribute", _most, _MAPS[:1] * 40)],
        "it streams nothing. counts has 25 numbers, and all scores follow from them: keep no batch",
        (_ADD, "self.all = getattr(self, 'all', []) + [target]\n        self.counts += "),
        agree=lambda found, value: (found < 40) == (value < 40),
        shown=str,
    ),
    _step(
        [("a batch that is all void", _counts, [(np.zeros(9, int), np.full(9, 255))])],
        "reductions such as max fail on nothing",
        ("n = self.num", "target.max()\n        n = self.num"),
    ),
    _step(
        [
            (f"a {what}", _pixel, [(np.array([p, 1, 2, 3, 4]), np.array([t, 1, 2, 3, 4]))])
            for t, p, what in (
                (0, 5, "prediction that is no class (5, truth 0)"),
                (1, -1, "prediction that is no class (-1, truth 1)"),
                (4, 255, "prediction that is void (255, truth 4)"),
                (7, 2, "truth that is no class (7, prediction 2)"),
                (-1, 3, "truth that is no class (-1, prediction 3)"),
            )
        ],
        agree=lambda found, value: found.startswith("ValueError"),
        shown=lambda text: text.split(":")[0],
        otherwise="all scores are right, but a matrix that is silent here hides a wrong mapping",
        praise="arrays and tensors, void and absent classes; labels that are no class are refused",
    ),
)

matrix = LESSON.add(
    name="matrix",
    title="A confusion matrix that streams",
    kind="implement",
    outcome=0,
    judge=kit.in_turn(_STEPS),
    answer=Matrix,
    hints=(
        "valid = target != self.ignore_index selects the pixels that count, in both arrays. "
        "np.asarray(…) reads tensors, too; .astype(np.int64) before you compute with labels.",
        "truth · C + prediction is a number from 0 to C·C − 1 for each pair: "
        "np.bincount(…, minlength=C * C).reshape(C, C) counts the pairs of a batch.",
        "IoU: hits on the diagonal, union = row sum + column sum − hits. With float division "
        '0 / 0 is nan by itself (np.errstate(invalid="ignore") silences the warning).',
        "bincount does not notice a prediction of C in row 0: it lands in row 1. Check the range "
        "of the valid pixels first.",
    ),
)


# ---------------------------------------------------------------- three means

MEANS = {"pooled": 0.571, "per image, absent left out": 0.631, "per image, absent counts 1": 0.661}
_HOW = {
    "pooled": "add the two matrices, then 5/7, 8/12 and 2/6: a pixel counts alike in either image",
    "per image, absent left out": "one mean for each image, over three classes and over two",
    "per image, absent counts 1": "the second image's mean is over three IoUs, and the third is 1",
}
_LARGE = (
    "large classes weigh more: that is micro: all classes' hits (15) over all unions (25), or each "
    "class weighted by its share of the truth. In mIoU all classes weigh the same"
)
_OTHER_MEANS = [
    (0.600, _LARGE),
    (0.598, _LARGE),
    (0.494, "that is the mean per image with 0 for the absent class, a third definition"),
    (0.550, "that averages each class over the images first. Per image, each image has one mean"),
    (0.711, "that is Dice from the pooled counts; IoU divides by row + column − diagonal"),
    (0.755, "that is Dice per image with absent left out; IoU divides by the union"),
    (0.772, "that is Dice per image with absent as 1; IoU divides by the union"),
    (0.750, "15 of 20 pixels are right: that is the accuracy"),
    (0.593, "that is the mean over the five pairs of image and class; both images weigh the same"),
    (0.707, "that is the mean recall, diagonal / row; the union also holds false positives"),
    (0.742, "that is the mean precision, diagonal / column; the union also holds what was missed"),
    (0.444, "that is the first image alone"),
    (0.817, "that is the second image alone, with absent left out"),
    (0.878, "that is the second image alone, with absent as 1"),
]

means = LESSON.add(
    name="means",
    title="Three means of two images",
    kind="predict",
    outcome=1,
    judge=kit.numbers(
        MEANS,
        {
            key: _OTHER_MEANS
            + [(MEANS[o], f"that is the mean {o!r}. Here: {_HOW[key]}") for o in MEANS if o != key]
            for key in MEANS
        },
        "one prediction, three mIoUs: 0.571 (pooled), 0.631 (per image, absent left out), 0.661 "
        "(per image, absent counts 1)",
        low=0,
        high=1,
        tolerance=0.007,  # two digits suffice
        otherwise=lambda key, found: f"how it goes: {_HOW[key]}",
    ),
    variable="guess",
    answer=dict(MEANS),
    hints=(
        "IoU of a class: diagonal / (row sum + column sum − diagonal).",
        "Pooled: add the two matrices first. Per image: a mean for each, then the mean of both.",
        "In the second image class 2 has neither row nor column: leave it out and divide by two, "
        "or take it as 1 and divide by three.",
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
    train = _indices(found[0], count, f"on {which}, train ")
    val = _indices(found[1], count, f"on {which}, val ")
    share, both, gone = len(val) / count, {*train} & {*val}, 1 - len({*train, *val}) / count
    pairs = [(frames[i], frames[j]) for i in val for j in train if drive[i] == drive[j]]
    gap, cut = min(((abs(a.second - b.second), a.drive) for a, b in pairs), default=(np.inf, ""))
    where = f"smallest gap {gap:.1f} s, in drive {cut}" if cut else "no drive is in both parts"
    cost = "too little to measure with" if share < 0.15 else "train needs the rest"
    missing = []
    for name, part in (("train", train), ("val", val)):
        seen = set().union(*(frames[i].classes for i in part))
        then = "its IoU cannot be measured" if name == "val" else "no network can learn it"
        for label in sorted(set().union(*(frame.classes for frame in frames)) - seen):
            drives = ", ".join(sorted({one.drive for one in frames if label in one.classes}))
            missing.append(f"But {name} has no {label}: {then}. It is in the drives {drives}")
    _refuse(
        f"on {which}, val has {share:.0%} of the frames; {where}. ",
        both,
        f"{len(both)} frames are in train and in val: the network has seen them",
        share > 0.5 and 0.15 <= len(train) / count <= 0.35,
        "train and val are swapped: expected `return train, val`",
        gone > 0.2,
        f"{gone:.0%} of the frames are in neither part, allowed are 20%: cut few drives or none",
        not 0.15 <= share <= 0.35,
        f"Expected 15% to 35%: {cost}. Drives differ in length, so count frames",
        gap < 60,
        _why_so_near(drive, train, val, gap),
        missing,
        missing and missing[0],
    )
    return f"val has {share:.0%} of the frames; {where}; all classes are in both"


def _indices(part: Any, count: int, start: str) -> list[int]:
    """One part of a split as a list of indices, else `NotYet`."""
    try:
        items = list(part)
    except Exception:
        items = [part]
    array = _array(items)
    whole = array.ndim == 1 and array.dtype.kind in "iu"
    outside = array[(array < 0) | (array >= count)].tolist() if whole else []
    _refuse(
        start,
        any(isinstance(item, Frame) for item in items),
        "holds frames, expected their indices: [i for i, frame in enumerate(frames) if …]",
        array.dtype.kind == "b",
        "holds True and False, expected indices: see np.flatnonzero",
        array.shape == (0,),
        "is empty",
        not whole,
        f"is {show(part)}, expected a list of indices",
        outside,
        f"has the index {outside[:1]}, but there are frames 0 to {count - 1}",
        whole and len({*array.tolist()}) < len(array),
        "has some indices more than once: a frame must not count twice",
    )
    return sorted(array.tolist())


def _why_so_near(drive: list[str], train: list[int], val: list[int], gap: float) -> str:
    """What kind of split has val frames so near to train frames."""
    switches = []  # how often the part changes in a drive that is in both
    for name in {drive[i] for i in val} & {drive[i] for i in train}:
        row = [i in val for i in sorted(train + val) if drive[i] == name]
        switches.append(sum(a != b for a, b in pairwise(row)))
    steps = {b - a for a, b in pairwise(val)}
    if max(switches, default=0) > 2:
        every = len(steps) == 1
        how = f"You take every {min(steps)}th frame" if every else "You choose frame by frame"
        return f"{how}: train frames beside it show the same street. Choose whole drives"
    if gap > 4:  # seconds from frame to frame
        return "There is a buffer at the cut, but a short one: expected 60 s or more"
    cuts = "one drive" if len(switches) == 1 else f"{len(switches)} drives"
    return f"You cut {cuts} in two. Keep drives whole, or leave out 60 s at a cut"


_LOGS = [
    ("the log of 120 frames", driving_log()),
    ("another log (right on the notebook's: is a drive written into your function?)", hidden_log()),
]

split = LESSON.add(  # type: ignore[assignment]
    name="split",
    title="Split a log of drives",
    kind="design",
    outcome=2,
    judge=_every(_one_split, _LOGS),
    answer=split,
    hints=(
        "A drive is the group: if it is whole in one part, there is no gap to measure.",
        "In which drives do bicyclists ride? One of them must go to val, one must stay in train.",
        "For any log: try the choices of drives (itertools.combinations) and take the first that "
        "has the right share and all classes in both parts.",
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


_LOG, _SMALL = (4, 5, 6, 8, 9, 10) * 2, (1, 2, 3)  # frames of each drive


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


def _mean(times: Any, g: Any, each: Any) -> Any:
    """The mean of what each whole group has."""
    drawn = times @ g.T / g.sum(1)
    return drawn @ each / drawn.sum(1)


_DRAWS = _table(
    "",
    _draw,
    "you draw frames, expected groups: frames of one drive are nearly one observation",
    lambda rng, g, n: _draw(rng, np.eye(g.shape[1]), n),
    "you draw frames, as many as there are groups, expected groups",
    lambda rng, g, n: _draw(rng, np.eye(g.shape[1]), n, len(g)),
    "a group that is drawn twice must count twice; np.isin (or a set) counts it once",
    lambda rng, g, n: np.minimum(_draw(rng, g, n), 1),
    "each draw holds as many groups as there are frames, expected as many as there are groups",
    lambda rng, g, n: _draw(rng, g, n, g.shape[1]),
    "each draw holds one group only, expected as many as there are",
    lambda rng, g, n: _draw(rng, g, n, 1),
    "you draw groups and then frames inside them, expected groups with all their frames",
    _inside,
    "you draw one frame of each drawn group, expected the sum of all its frames",
    lambda rng, g, n: _inside(rng, g, n, 1),
    "you take the first frame of each group, expected the sum of all its frames",
    lambda rng, g, n: _draw(rng, g * (g.cumsum(1) == 1), n),
    "you take the last frame of each group, expected the sum of all its frames",
    lambda rng, g, n: _draw(rng, g * (g[:, ::-1].cumsum(1)[:, ::-1] == 1), n),
    "you cut the frames into equal pieces, expected the groups by their names",
    lambda rng, g, n: _draw(rng, np.eye(g.shape[1]).reshape(len(g), -1, g.shape[1]).sum(1), n),
)
_SCORES = _table(
    "",
    lambda times, m, g: miou(np.tensordot(times, m, 1)),
    "you average the frames' own mIoUs, expected the mIoU of their matrices' sum: a frame without "
    "a rare class hides its errors",
    lambda times, m, g: times @ miou(m) / times.sum(1),
    "you average the groups' own mIoUs, so that a short drive weighs as much as a long one; "
    "expected the mIoU of the sum",
    lambda times, m, g: _mean(times, g, miou(np.tensordot(g, m, 1))),
    "you average the frames' own mIoUs in each drive and then the drives; expected the mIoU of the "
    "sum",
    lambda times, m, g: _mean(times, g, g @ miou(m) / g.sum(1)),
    "you divide each group's matrix by its size, so that a short drive weighs as much as a long "
    "one; expected sums of counts",
    lambda times, m, g: miou(np.tensordot(times / (g.sum(1) @ g), m, 1)),
)
_ENDS = _table(  # of scores (n, draws)
    "",
    lambda s: np.percentile(s, (2.5, 97.5), axis=1),
    "mean ± one standard deviation holds about 68 % of the draws, expected the middle 95 %",
    lambda s: s.mean(1) + [[-1], [1]] * s.std(1),
    "the 5th and 95th percentile hold 90 % of the draws, expected the middle 95 %",
    lambda s: np.percentile(s, (5, 95), axis=1),
    "np.percentile counts to 100: take 2.5 and 97.5",
    lambda s: np.percentile(s, (0.025, 0.975), axis=1),
    "far too narrow: the spread of the draws is the answer, do not divide it by √draws",
    lambda s: s.mean(1) + [[-1.96], [1.96]] * s.std(1) / s.shape[1] ** 0.5,
)
_WAYS = [(d, s) for d in _DRAWS for s in (_SCORES if d is _DRAWS[0] else _SCORES[:2])]
_RIGHT, _BY_FRAME = 0, len(_SCORES)


def _by(way: int, matrices: np.ndarray, groups: list[str], draws: int, seed: int) -> np.ndarray:
    """The scores of some draws."""
    g = np.array([[group == name for group in groups] for name in sorted({*groups})], float)
    (_, draw), (_, score) = _WAYS[way]
    return score(draw(np.random.default_rng(seed), g, draws), matrices, g)


@cache
def _many(way: int, lengths: tuple[int, ...]) -> np.ndarray:
    return _by(way, *_drives(lengths), draws=20_000, seed=1)


def _ends(way: int) -> np.ndarray:
    """Low and high of each kind of ends."""
    return np.array([e(_many(way, _LOG).reshape(-1, 500)).mean(1) for _, e in _ENDS])


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
    """The judge of intervals. Single draws from six frames have few results, and tell exactly what
    is drawn and scored; the ends are told by their place, on 84 frames.
    """

    def __call__(self, answer: Any) -> str:
        found = np.array([_tried(answer, _LOG, 500, seed) for seed in range(16)])
        again, (low, high) = _tried(answer, _LOG, 500, 0), found.mean(0)
        try:
            single = np.array([_tried(answer, _SMALL, 1, seed) for seed in range(256)])
        except NotYet:  # not every right answer can do with one draw
            single = found
        known = np.allclose(*single.T)
        way = _way(single[:, 0]) if known else _RIGHT
        ends, spread, right = _ends(max(way, 0)), _many(max(way, 0), _LOG).std(), _ends(_RIGHT)[0]
        # 16 · 500 draws tell an end to 0.03 spreads, and the ends of 95 % and 90 % are 0.3 apart.
        far = abs(ends - (low, high)).max(1) / spread
        faults = [fault for fault, _ in (*_WAYS[way], _ENDS[far.argmin()])]
        faults = faults if far.min() < 0.25 else faults[:2]
        constant = (found == found[0]).all() and (single == single[0]).all()
        ratio = (high - low) / (right[1] - right[0])
        said = (
            f"on 84 matrices of 12 drives, your interval is [{low:.3f}, {high:.3f}] (mean of 16 "
            f"seeds), expected [{right[0]:.3f}, {right[1]:.3f}]"
        )
        _refuse(
            f"{said}: ",
            (found[0] != again).any(),
            "two calls with seed=0 give two: draw with np.random.default_rng(seed)",
            low > high,
            "the lower end comes first",
            constant and ratio < 1e-9,
            "it has no width: every draw holds the same groups. Draw with replacement",
            constant,
            "it is the same with every seed: pass seed to the generator",
            known and way >= 0 and any(faults),
            "; and ".join(filter(None, faults)),
            known and way == _RIGHT and far[0] > 0.15,
            f"each draw is right, but its width is {ratio:.0%} of that: take the 2.5th and the "
            "97.5th percentile",
            way < 0 or far[0] > 0.15,
            f"its width is {ratio:.0%} of that. One draw: as many groups as there are, with "
            "replacement, the sum of all their matrices, one mIoU. Then the percentiles",
        )
        by_frame = _ends(_BY_FRAME)[0]
        return f"{said}; drawn by frame it would be [{by_frame[0]:.3f}, {by_frame[1]:.3f}]"

    def wrong_answers(self) -> list[tuple[Any, str]]:
        """Each way with the right ends and with the colleague's; the right way with all ends."""

        def wrong(way: int, end: int) -> Any:
            def interval(matrices, groups, draws=500, seed=0):
                return _ENDS[end][1](_by(way, matrices, groups, draws, seed)[None])[:, 0]

            faults = (fault for fault, _ in (*_WAYS[way], _ENDS[end]))
            return interval, "; and ".join(filter(None, faults))

        ways = range(len(_WAYS))
        return [wrong(w, e) for w in ways for e in range(2 if w else len(_ENDS)) if w or e]


bootstrap = LESSON.add(
    name="bootstrap",
    title="Mend an interval",
    kind="debug",
    outcome=3,
    judge=_Bootstrap(),
    answer=interval,
    hints=(
        "Three things are wrong: what is drawn, what is averaged, and which ends are returned.",
        "Add up the matrices of each group first. Then a draw is as many groups as there are, with "
        "replacement: rng.integers(len(sums), size=len(sums)).",
        "The score of a draw is the mIoU of one matrix, the sum. The middle 95 % lie between the "
        "2.5th and the 97.5th percentile.",
    ),
)


# ---------------------------------------------------------------- how many images

_NEEDED = 90.7  # of both, by the record: the mean of width · √size, divided by 0.02 and squared
_LINEAR = (
    "that scales the number with the width. The width shrinks with the square root: for half the "
    "width you need four times as many"
)
_READINGS = [
    (4 * _NEEDED, "that gives ± 0.5 points; 0.02 from end to end is ± 1 point"),
    (_NEEDED / 4, "that gives ± 2 points: 0.02 is the whole width, not a half"),
]

size = LESSON.add(
    name="size",
    title="How many images?",
    kind="interpret",
    outcome=3,
    judge=kit.numbers(
        {"scenes": _NEEDED, "drives": _NEEDED},
        {
            "scenes": _READINGS + [(linear, _LINEAR) for linear in (72.3, 105, 148, 211)],
            "drives": _READINGS
            + [(8 * _NEEDED, "that counts frames, expected drives of eight frames each")]
            + [(linear, _LINEAR) for linear in (46.8, 65.8)],
        },
        "about 90 scenes or 91 drives, that is 728 frames: neighbours in a drive count for little",
        low=0,
        tolerance=0.125,  # the linear mistake gives 105: 0.16 too many
        distance=lambda found, value: abs(found / value - 1),
        otherwise="from a row of the table with n of them and a width w: n · (w / 0.02)²",
    ),
    variable="size_needed",
    answer={"scenes": 90, "drives": 90},
    hints=(
        "Start from a line of the table: its number of scenes n and the mean width w of an "
        "interval.",
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
    handed, given = truth.copy(), f"on {which}"
    found = call(answer, handed, spacing, given=which)
    pair = isinstance(found, (tuple, list)) and len(found) == 2
    arrays = list(map(_array, found)) if pair else []
    wrong = [array for array in arrays if array.shape != truth.shape]
    others = [array for array in arrays if not np.isin(array, (0, 1)).all()]
    _refuse(
        f"{given}, ",
        not np.array_equal(handed, truth),
        "masks changes the truth that it gets: work on truth.copy()",
        not pair,
        f"expected two masks, `return first, second`; found {show(found)}",
        wrong,
        f"a mask is {show(wrong and wrong[0])}, expected a bool array of shape {truth.shape}",
        others,
        f"a mask holds values up to {others and others[0].max()}, expected True and False",
    )
    first, second = (array.astype(bool) for array in arrays)
    report, dices, operate, (down, across) = [], [], [], spacing
    for name, mask in (("first", first), ("second", second), ("truth", truth)):
        area = round(float(mask.sum()) * down * across, 6)  # 500 · 0.2 is 100
        dices.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
        operate.append(area >= 100)
        decision = "operate" if operate[-1] else "wait"
        report.append(f"{name} Dice {dices[-1]:.3f}, {area:.1f} mm², {decision}")
    few, many = sorted((int(first.sum()), int(second.sum())))
    same, gap = operate[0] == operate[1], abs(dices[0] - dices[1])
    _refuse(
        f"{given}: {'; '.join(report)}. ",
        same and few < 100 <= many,
        f"You compare {few} and {many} pixels with 100; the rule speaks of mm², and a pixel has "
        f"{down} · {across} = {down * across:.2g} of them",
        min(dices) < 0.85,
        "A Dice is below 0.85: change less; the border of the decision is a few pixels away",
        same and any(few * step**2 < 100 <= many * step**2 for step in spacing),
        f"The pixels are not square: {down} mm is the step down, {across} mm the step across",
        same and np.array_equal(first, second),
        "Both masks are the same; one must be larger than 100 mm², the other smaller",
        same and few == many,
        "Both have the same area: moving a mask costs Dice and changes no area",
        same,
        "Both lead to the same decision: which side of 100 mm² is missing?",
        gap > 0.005 and max(dices[:2]) == 1,
        f"The Dices differ by {gap:.3f}: one is the truth itself. Spoil it, too",
        gap > 0.005,
        f"The Dices differ by {gap:.3f}, allowed are 0.005: change the worse one less",
    )
    return "; ".join(report)


_LESIONS = [("the lesion", *lesion())] + [
    (f"another lesion (right on the notebook's), of {area} mm², spacing {case[1]} mm", *case)
    for area, case in hidden_lesions().items()
]

two_masks = LESSON.add(
    name="two_masks",
    title="Equal Dice, opposite decisions",
    kind="design",
    outcome=4,
    judge=_every(_two_masks, _LESIONS),
    answer=masks,
    hints=(
        "A pixel has spacing[0] · spacing[1] mm². How many pixels are 100 mm², and how many has "
        "the truth?",
        "Dice of a mask that lacks k of n pixels: 2(n − k) / (2n − k). Of one with m pixels too "
        "many: 2n / (2n + m). When are they equal?",
        "They are equal for m = n·k / (n − k). Choose k so that n − k and n + m lie on two sides "
        "of the limit; the truth of another lesion may lie below it.",
    ),
)
