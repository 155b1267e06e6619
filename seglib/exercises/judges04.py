"""How the answers of lesson 4 about means and intervals are judged."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any

import numpy as np

from seglib.exercises.kit import NotYet, call, number, show
from seglib.exercises.judges01 import exactly

# ---------------------------------------------------------------- three means

MEANS = {"pooled": 0.571, "per image, absent left out": 0.631, "per image, absent counts 1": 0.661}
_POOLED, _LEFT_OUT, _ONE = MEANS
_OTHERS = {  # of [[1, 0, 1], [0, 3, 0], [0, 3, 2]], [[4, 0, 0], [1, 5, 0], …]
    0.494: "that is the mean per image with 0 for the absent class, a third definition: nobody "
    "could get class 2 right where there is none",
    0.550: "that averages each class over the images first, and then the classes. Per image, each "
    "image gets one mean, and then comes the mean of the two",
    0.711: "that is Dice from the pooled counts; IoU divides by row + column − diagonal",
    0.755: "that is Dice per image with absent left out; IoU divides by row + column − diagonal",
    0.772: "that is Dice per image with absent as 1; IoU divides by row + column − diagonal",
    0.750: "15 of 20 pixels are right: that is the accuracy",
    0.600: "that is micro: all classes' hits (15) over all unions (25). Here each class has its "
    "own IoU first",
    0.593: "that is the mean over the five pairs of image and class. Per image, each image has one "
    "mean, and both weigh the same",
    0.5981: "that weights each class by its share of the truth; in mIoU all classes weigh the same",
    0.707: "that is the mean recall, diagonal / row; the union also holds what was predicted "
    "wrongly",
    0.742: "that is the mean precision, diagonal / column; the union also holds what was missed",
    0.444: "that is the first image alone",
    0.817: "that is the second image alone, with absent left out",
    0.878: "that is the second image alone, with absent as 1",
}
_HOW = {
    _POOLED: "add the two matrices, then 5/7, 8/12 and 2/6: a class's pixels count alike, wherever "
    "they are",
    _LEFT_OUT: "one mean for each image, over three classes and over two, then the mean of both",
    _ONE: "as before, but the second image's mean is over three IoUs, and the third is 1",
}


def means(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(MEANS):
        raise NotYet(f"expected a dict with the keys {list(MEANS)}, found {show(answer)}")
    given = [number(answer[key], f"the mean {key!r}", low=0) for key in MEANS]
    if max(given) > 1:
        raise NotYet(f"found {max(given):g}; scores here are fractions from 0 to 1")
    rights = list(MEANS.values())
    if np.allclose(given, rights, atol=0.007):
        return "one prediction, three mIoUs: " + ", ".join(
            f"{value:.3f} ({key})" for key, value in MEANS.items()
        )
    if any(np.allclose(given, order, atol=0.007) for order in permutations(rights)):
        wrong = next(
            key for key, value in zip(MEANS, given, strict=True) if abs(value - MEANS[key]) > 0.007
        )
        raise NotYet(
            f"these are the three numbers, but swapped: {wrong!r} is not "
            f"{number(answer[wrong], wrong):.3f}. {_sentence(_HOW[wrong])}"
        )
    for (key, right), value in zip(MEANS.items(), given, strict=True):
        if abs(value - right) > 0.007:
            raise NotYet(f"{key}: {value:.3f} is not it. {_which_mean(key, value)}")
    raise AssertionError("one of them differs")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _which_mean(key: str, value: float) -> str:
    """What a wrong value is."""
    for other, right in MEANS.items():
        if other != key and abs(value - right) <= 0.0051:
            return f"That is the mean {other!r}. Here: {_HOW[key]}"
    nearest = min(_OTHERS, key=lambda known: abs(known - value))
    if abs(nearest - value) <= 0.0051:
        return _sentence(_OTHERS[nearest])
    return f"How it goes: {_HOW[key]}"


# ---------------------------------------------------------------- an interval

SEEDS, DRAWS = range(16), 500
UNIT = "you draw frames, expected groups: frames of one drive are nearly one observation"
MEAN = (
    "you average the frames' own mIoUs, expected the mIoU of their matrices' sum: a frame "
    "without a rare class hides its errors"
)
SPREAD = "mean ± one standard deviation holds about 68 % of the draws, expected the middle 95 %"
NINETY = "the 5th and 95th percentile hold 90 % of the draws, expected the middle 95 %"
ONCE = (
    "a group that is drawn twice must count twice; np.isin (or a set) counts it once, and the "
    "draws differ too little"
)

_TOO_MANY = (
    "each draw holds as many groups as there are frames, expected as many as there are "
    "groups: more than you have make it too narrow"
)

Pair = tuple[float, float]


@cache
def _drives() -> tuple[np.ndarray, list[str]]:
    """Matrices of the frames of 12 drives that differ in length, errors and rare class."""
    rng, matrices, groups = np.random.default_rng(12), [], []
    for drive in range(12):
        hard = drive % 3 == 0
        errors = (0.05, 0.45)[hard] + rng.uniform(0, 0.15)
        for _ in range(rng.integers(4, 10)):
            pixels = rng.multinomial(400, [0.65, 0.35, 0.0])
            if rng.random() < (0.5, 1.0)[hard]:
                pixels[2] = rng.integers(5, 40)
            wrong = np.array([errors / 2, errors, min(0.9, 1.6 * errors)])
            rows = [
                rng.multinomial(n, np.insert([e / 2, e / 2], k, 1 - e))
                for k, (n, e) in enumerate(zip(pixels, wrong, strict=True))
            ]
            matrices.append(np.array(rows, np.int64))
            groups.append(f"drive {'ABCDEFGHIJKL'[drive]}")
    order = rng.permutation(len(groups))
    return np.stack(matrices)[order], [groups[i] for i in order]


def _miou(matrices: np.ndarray) -> np.ndarray:
    """mIoU of matrices (…, C, C), absent classes left out."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    union = matrices.sum(-1) + matrices.sum(-2) - hits
    ious = np.where(union > 0, hits / np.maximum(union, 1), np.nan)
    return np.nanmean(ious, axis=-1)


def _scores(unit: str, mean: str, drawn: int = 0) -> np.ndarray:
    """Scores of 20,000 bootstrap draws, each of `drawn` units (default: as many as there are)."""
    matrices, groups = _drives()
    names = sorted(set(groups)) if unit == "group" else list(range(len(groups)))
    member = np.array(
        [[group == name for group in groups] for name in names]
        if unit == "group"
        else np.eye(len(groups)),
        float,
    )
    times = (
        np.random.default_rng(1)
        .multinomial(drawn or len(names), [1 / len(names)] * len(names), size=20_000)
        .astype(float)
    )
    if mean == "pooled":
        return _miou(np.tensordot(times, np.tensordot(member, matrices, axes=1), axes=1))
    if mean == "frame":
        weights = times @ member
        return weights @ _miou(matrices) / weights.sum(1)
    each = _miou(np.tensordot(member, matrices, axes=1))
    return times @ each / times.sum(1)


def _ends(scores: np.ndarray, kind: str) -> Pair:
    if kind == "spread":
        return scores.mean() - scores.std(), scores.mean() + scores.std()
    percent = {"95": (2.5, 97.5), "90": (5, 95), "low": (0.025, 0.975)}[kind]
    low, high = np.percentile(scores.reshape(-1, DRAWS), percent, axis=1).mean(axis=1)
    return float(low), float(high)


@cache
def _mistakes() -> list[tuple[str, Pair, float]]:
    """(what is wrong, the interval that comes of it, the spread of its draws); first the truth."""
    found = []
    for unit, unit_fault in (("group", ""), ("frame", UNIT)):
        for mean, mean_fault in (("pooled", ""), ("frame", MEAN)):
            scores = _scores(unit, mean)
            for ends, ends_fault in (("95", ""), ("spread", SPREAD), ("90", NINETY)):
                faults = [fault for fault in (unit_fault, mean_fault, ends_fault) if fault]
                found.append(("; and ".join(faults), _ends(scores, ends), scores.std()))
    count, groups = len(_drives()[1]), len(set(_drives()[1]))
    single, many = _scores("group", "pooled", 1), _scores("group", "pooled", count)
    right, per_group = _scores("group", "pooled"), _scores("group", "group")
    found += [
        (
            f"each draw holds one group only, expected as many as there are, {groups}: your interval "
            "is that of a test set of one drive",
            _ends(single, "95"),
            single.std(),
        ),
        (_TOO_MANY, _ends(many, "95"), many.std()),
        (
            "you average the groups' own mIoUs, expected the mIoU of their matrices' sum",
            _ends(per_group, "95"),
            per_group.std(),
        ),
        (
            "np.percentile counts to 100: 0.025 and 0.975 are both among the smallest draws; take "
            "2.5 and 97.5",
            _ends(right, "low"),
            right.std(),
        ),
    ]
    return found


def interval(answer: Any) -> str:
    matrices, groups = _drives()
    given = f"{len(groups)} matrices of {len(set(groups))} drives"
    found = np.array([_tried(answer, matrices, groups, seed, given) for seed in SEEDS])
    if not np.array_equal(found[0], _tried(answer, matrices, groups, SEEDS[0], given)):
        raise NotYet(
            f"on {given}, two calls with seed=0 give two intervals: draw with "
            "np.random.default_rng(seed), so that a number can be had again"
        )
    (low, high), constant = found.mean(0), (found == found[0]).all()
    said = f"on {given}, your interval is [{low:.3f}, {high:.3f}] (mean of {len(found)} seeds)"
    right = _mistakes()[0][1]
    expected = f"expected [{right[0]:.3f}, {right[1]:.3f}]"
    if low > high:
        raise NotYet(f"{said}, {expected}: the lower end comes first")
    if high - low < 1e-9:
        raise NotYet(
            f"{said}, {expected}. It has no width: every draw holds the same groups. Draw "
            "with replacement, so that some come twice and others not at all"
        )

    def far(interval: Pair, spread: float) -> float:
        return max(abs(low - interval[0]), abs(high - interval[1])) / spread

    fault, near, width = min(_mistakes(), key=lambda row: far(row[1], row[2]))
    if far(near, width) < 0.25:
        if fault in ("", UNIT, _TOO_MANY) and _draws_frames(answer):
            fault = UNIT
        elif fault == UNIT:  # as narrow as too many groups
            fault = _TOO_MANY
        if fault == NINETY and _counts_once(answer):  # a set of groups, and a narrower interval
            fault = ONCE
        if fault:
            raise NotYet(f"{said}, {expected}: {fault}")
        if constant:
            raise NotYet(f"{said}, but it is the same with every seed: pass seed to the generator")
        frames = _ends(_scores("frame", "pooled"), "95")
        return (
            f"[{low:.3f}, {high:.3f}] on {given}; drawn by frame it would be "
            f"[{frames[0]:.3f}, {frames[1]:.3f}]"
        )
    ratio = (high - low) / (right[1] - right[0])
    if ratio < 0.1:
        hint = (
            "it is far too narrow: the spread of the draws is the answer already, do not "
            "divide it by the root of their number"
        )
    elif 0.9 < ratio < 1.1:
        hint = (
            "as wide, and in another place: mean ± 1.96 standard deviations, or percentiles "
            "reversed around the score, are intervals of another kind; expected the 2.5th and "
            "the 97.5th percentile of the draws"
        )
    else:
        hint = (
            f"its width is {ratio:.0%} of that. One draw: as many groups as there are, with "
            "replacement; the sum of all their matrices; one mIoU"
        )
    raise NotYet(f"{said}, {expected}: {hint}")


def _counts_once(answer: Any) -> bool:
    """Whether a group that is drawn twice counts once: with three groups, no draw is 2·A + B."""
    frames = np.array([[[90, 10], [0, 1]], [[1, 0], [60, 40]], [[5, 5], [30, 60]]])
    twice = [_miou(2 * frames[i] + frames[j]) for i in range(3) for j in range(3) if i != j]
    seen = []
    for seed in range(40):
        found = exactly(
            call(answer, frames.copy(), [*"ABC"], 1, seed, given="three groups"),
            (2,),
            "three groups",
            "two numbers (low, high)",
        )
        seen.append(float(found[0]))
    return not np.isclose(np.subtract.outer(seen, twice), 0, atol=1e-9).any()


def _draws_frames(answer: Any) -> bool:
    """Whether it has a width where the frames differ and the groups do not."""
    frames = np.array([[[9, 1, 0], [0, 5, 5], [2, 0, 8]], [[3, 7, 0], [4, 6, 0], [0, 9, 1]]])
    low, high = _tried(answer, np.concatenate([frames] * 6), [*"AABBCCDDEEFF"], 0, "12 matrices")
    return high - low > 1e-9


def _tried(answer: Any, matrices: Any, groups: list[str], seed: int, given: str) -> np.ndarray:
    handed = matrices.copy()
    result = call(answer, handed, list(groups), DRAWS, seed, given=given)
    if not np.array_equal(handed, matrices):
        raise NotYet(f"on {given}, interval changes the matrices that it gets: += adds in place")
    found = exactly(result, (2,), given, "two numbers (low, high)").astype(float)
    if not np.isfinite(found).all():
        raise NotYet(f"on {given}, your interval is {found.tolist()}, expected two finite numbers")
    return found
