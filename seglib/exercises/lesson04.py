"""The exercises of lesson 4: what a score is, how sure it is, and what it is worth."""

# mypy: allow-untyped-defs

from __future__ import annotations

import operator
from copy import deepcopy
from functools import cache, partial
from typing import Any

import cv2
import numpy as np
import torch

from seglib.exercises import kit
from seglib.exercises.kit import NotYet, call, show
from seglib.exercises.material04 import hidden_lesions, lesion

LESSON = kit.Lesson(
    "04",
    outcomes=(
        "accumulate a confusion matrix over batches, and read it",
        "name the definition behind an mIoU, and say what another one would give",
        "split data by group, with every class in both parts",
        "give a score with an interval whose unit is the group",
        "score a mask by the measurement or the decision that it serves",
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


# ---------------------------------------------------------------- a confusion matrix over batches


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
    """`counts` or `iou()` of the reader's Matrix: its last 5 classes, or what else it is."""
    found = made.iou() if name == "iou()" else made.counts
    shape = (classes,) if name == "iou()" else (classes, classes)
    fits = _array(found).shape == shape
    return _array(found)[(slice(-5, None),) * len(shape)] if fits else f"{show(found)} as {name}"


def _most(made: Any) -> int:
    """How many items the largest attribute has."""
    parts = [p for p in getattr(made, "__dict__", {}).values() if hasattr(p, "__len__")]
    return max((int(np.prod(p.shape)) if hasattr(p, "shape") else len(p) for p in parts), default=0)


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
_TENSORS = [tuple(map(torch.from_numpy, b)) for b in _batches((2, 6, 8), (6, 8), (11,), seed=5)]
_BYTES = [tuple(part.astype(np.uint8) for part in _batches((99,), seed=3, first=15)[0])]
_ON_VOID = [(np.where(t == 255, t, p), t) for p, t in _BYTES]
_VALID, _ADD = "target) != self.ignore_index", "self.counts +="
_LONG, _CHECK = "), np.int64", "assert prediction.max() < 20; valid ="
_KEEP = "self.old = [*getattr(self, 'old', []), self.counts * 1]; self.counts +="
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
        [(f"{_THREE}, counts is right, but iou()", _iou, _MAPS)],
        otherwise="iou() was complete: leave it as it is",
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
        [("one batch, dtype of counts", lambda made: str(_counts(made).dtype), _MAPS[:1])],
        ("it counts to 16,777,216 only: adding 1 changes nothing", _LONG, "), np.float32"),
        ("counts are whole numbers: use int64", _LONG, ")"),
        ("it ends at 2,147,483,647 pixels, a thousand photos", _LONG, "), np.int32"),
        agree=operator.eq,
    ),
    _step(
        [("40 batches, the size of your object's largest attribute", _most, _MAPS[:1] * 40)],
        ("it grows with every batch: keep none, all scores follow from counts", _ADD, _KEEP),
        agree=lambda found, value: (found < 40) == (value < 40),
        praise="it reads arrays and tensors, leaves void out, and gives nan for an absent class",
    ),
)

matrix = LESSON.add(
    ("matrix", "A confusion matrix over batches", "implement", 0),
    judge=kit.in_turn(_STEPS),
    answer=Matrix,
    hints=(
        "np.asarray(…) reads tensors; valid = target != self.ignore_index; compute in int64.",
        "np.bincount(truth * C + prediction, minlength=C * C).reshape(C, C) counts the pairs.",
    ),
)


# ---------------------------------------------------------------- two means

MEANS = {"pooled": 0.571, "per image, absent left out": 0.631}
_READ = [
    (0.599, "that is micro: all classes' hits over all unions. In mIoU all classes weigh the same"),
    (0.494, "that is the mean per image with 0 for the absent class, a third definition"),
    (0.661, "that is the mean per image with 1 for the absent class, a third definition"),
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
    ("means", "Two means of two images", "predict", 1),
    judge=kit.numbers(
        MEANS,
        {key: [row for row in _READ if row[0] != right] for key, right in MEANS.items()},
        f"one prediction, two mIoUs: {MEANS}",
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
        "In the second image class 2 is absent: its mean is that of two classes.",
    ),
)


# ---------------------------------------------------------------- drives for validation


LOG = {"A": (34, 0), "B": (22, 7), "C": (12, 0), "D": (30, 7), "E": (22, 0)}  # frames, cyclists


def _val_drives(answer: Any) -> str:
    """Whether validation on these drives of the log is fair."""
    names = {str(name).strip().upper() for name in answer} if np.iterable(answer) else set()
    if not names or names - set(LOG):
        raise NotYet(
            f"expected some of the drives A to E, such as {{'A', 'E'}}; found {show(answer)}"
        )
    frames, riders = (sum(LOG[name][i] for name in names) for i in (0, 1))
    share = frames / sum(row[0] for row in LOG.values())
    mistakes = {
        "Then val has no cyclist: the IoU of Bicyclist cannot be measured": not riders,
        "Then train has no cyclist: the network cannot learn the class": riders == 14,
        "Expected 15 to 35 %: count frames, drives differ in length": not 0.15 <= share <= 0.35,
    }
    _refuse(f"val has {frames} of 120 frames, {share:.0%}. ", mistakes)
    return f"val has {share:.0%} of the frames, both parts have cyclists, and no drive is in both"


drives = LESSON.add(
    ("drives", "Choose the drives for validation", "interpret", 2),
    judge=_val_drives,
    variable="val_drives",
    answer={"B"},
    hints=(
        "Cyclists appear in two drives: one must go to val, the other must stay in train.",
        "15 to 35 % of 120 frames are 18 to 42 frames.",
    ),
)


# ---------------------------------------------------------------- an interval by group


def miou(matrix):
    """Mean IoU of a matrix (or many), absent classes left out."""
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
        """Each way with the right ends and with ± one deviation; the right way with all ends."""
        kinds = [(w, e) for w in range(len(_WAYS)) for e in range(2 if w else len(_ENDS)) if w or e]
        return [(partial(_interval, *kind), _faults(*kind)) for kind in kinds]


bootstrap = LESSON.add(
    ("bootstrap", "Fix an interval", "debug", 3),
    judge=_Bootstrap(),
    answer=interval,
    hints=(
        "Draw groups instead of frames, and do not average: score the sum of the drawn matrices.",
        "Add up each group's matrices; a draw is sums[rng.integers(len(sums), size=len(sums))].",
        "A draw's score is the mIoU of its sum; 95 % lie between the percentiles 2.5 and 97.5.",
    ),
)


# ---------------------------------------------------------------- two masks of a lesion


def resized(truth, pixels):
    """The mask with so many pixels: a rim is taken off the truth, or added to it."""
    outside = cv2.distanceTransform((~truth).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(truth.astype(np.uint8), cv2.DIST_L2, 5)
    order = np.argsort(outside - inside, axis=None, kind="stable")  # from the core outwards
    mask = np.zeros_like(truth)
    mask.flat[order[:pixels]] = True
    return mask


def twin(truth, smaller):
    pixels, missing = int(truth.sum()), int((truth & ~smaller).sum())
    return resized(truth, pixels + round(pixels * missing / (pixels - missing)))


def _smaller(truth: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Below 100 mm² by so much that every mask of about its Dice, if larger, is above."""
    pixels, limit = int(truth.sum()), 100 / (spacing[0] * spacing[1])
    return resized(truth, int(min(limit, 2 * pixels - limit)) - 2)


def _two_masks(answer: Any, which: str, truth: np.ndarray, spacing: tuple[float, float]) -> str:
    given = {"truth": truth, "smaller": _smaller(truth, spacing)}
    found = call(answer, *(handed := deepcopy(list(given.values()))), given=which)
    for (name, mask), copy in zip(given.items(), handed, strict=True):
        if not np.array_equal(copy, mask):
            raise NotYet(f"on {which}, twin changes {name}, which it gets: work on {name}.copy()")
    mask = _array(found)
    if mask.shape != truth.shape or not np.isin(mask, (0, 1)).all():
        raise NotYet(f"on {which}, found {show(found)}, expected a bool array {truth.shape}")
    report, dices, areas = [], [], []
    for name, one in (*given.items(), ("yours", mask.astype(bool))):
        areas.append(round(float(one.sum()) * spacing[0] * spacing[1], 6))  # 500 · 0.2 is 100
        dices.append(2 * (one & truth).sum() / (one.sum() + truth.sum()))
        decision = "operate" if areas[-1] >= 100 else "wait"
        report.append(f"{name} Dice {dices[-1]:.3f}, {areas[-1]:.1f} mm², {decision}")
    mistakes = {
        "That is the mask that was given": np.array_equal(mask, given["smaller"]),
        "That is the truth: its Dice is 1": np.array_equal(mask, truth),
        "Moving a mask does not change its area: add a rim to the truth": areas[2] == areas[1],
        "The decision is the same: the other mask must be larger than the truth": areas[2] < 100,
        f"The Dices differ by {(gap := abs(dices[2] - dices[1])):.3f}, allowed are 0.005": gap
        > 0.005,
    }
    _refuse(f"on {which}: {'; '.join(report)}. ", mistakes)
    return "; ".join(report)


_LESIONS = [("the lesion", *lesion()), *hidden_lesions()]

two_masks = LESSON.add(
    ("two_masks", "Equal Dice, opposite decisions", "implement", 4),
    judge=lambda answer: [_two_masks(answer, *case) for case in _LESIONS][0],  # noqa: RUF015
    answer=twin,
    hints=(
        "How many pixels does smaller lack? Add a rim to the truth: resized(truth, more pixels).",
        "Dice with k of n pixels missing: 2(n − k) / (2n − k); with m too many: 2n / (2n + m).",
    ),
)
