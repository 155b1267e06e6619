"""How lesson 5's exercise on what to fine-tune is judged: by the recorded runs themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seglib.course.records import interval, paired_difference, read_record, values
from seglib.exercises.kit import NotYet, show

ARMS = {
    "z": "zero-shot",
    "s": "from scratch",
    "f": "from scratch, five times the images",
    "h": "head only",
    "a": "all weights",
    "b": "all weights, backbone slower",
    "n": "all weights, BatchNorm frozen",
}
NIGHT, BOTH, SLICES = "by night", "by night and by day", "slices"
CHOICE = {NIGHT: "a", BOTH: "h", SLICES: "a"}
ENOUGH = 0.015  # a lead that counts
_WHY = {
    "z": "the checkpoint as it is has never seen a night",
    "s": "800 images are few for weights that start at random",
    "f": "five times the images make up for a part of the checkpoint only",
    "b": "by day this arm has lost most of the four that start from the checkpoint",
}  # (of those that can be wrong)


def choose(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(CHOICE):
        raise NotYet(f"expected a dict with the keys {list(CHOICE)}, found {show(answer)}")
    letters = {key: _letter(key, answer[key]) for key in CHOICE}
    return "; ".join(
        [*(_among_arms(key, letters[key]) for key in (NIGHT, BOTH)), _on_slices(letters[SLICES])]
    )


def _letter(key: str, answer: Any) -> str:
    allowed = ["s", "a", "?"] if key == SLICES else list(ARMS)
    letter = answer.strip().lower() if isinstance(answer, str) else ""
    if letter not in allowed:
        raise NotYet(f"for {key!r} expected one of {' '.join(allowed)}, found {show(answer)}")
    return letter


def scores(key: str) -> dict[str, dict[int, float]]:
    """Of each arm with 24 scenes, the mIoU that the question is about, by seed."""
    record, found = read_record("05_pretraining"), {}
    for letter, arm in ARMS.items():
        name = arm if letter == "z" else f"24 scenes, {arm}"
        night, day = (values(record, "night", name, _reader(split)) for split in ("test", "day"))
        found[letter] = (
            night if key == NIGHT else {seed: (night[seed] + day[seed]) / 2 for seed in night}
        )
    seeds = found["a"]
    found["z"] = dict.fromkeys(seeds, next(iter(found["z"].values())))  # needs no seed
    return found


def _reader(split: str) -> Callable[[dict[str, Any]], float]:
    return lambda run: float(run[split]["miou"])


def _among_arms(key: str, letter: str) -> str:
    found = scores(key)
    best = max(found, key=lambda one: interval(list(found[one].values())).value)
    mean = {one: interval(list(found[one].values())).value for one in found}
    if letter != best:
        gap = paired_difference(found[best], found[letter])
        if gap.value >= ENOUGH and gap.low > 0:
            why = f": {_WHY[letter]}" if letter in _WHY else ""
            raise NotYet(
                f"{key}: {ARMS[letter]} has {mean[letter]:.3f}, and another arm is better by "
                f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]{why}"
                + (". Look at both tables" if key == BOTH else "")
            )
    return f"{key}: {ARMS[letter]}, {mean[letter]:.3f}; no arm is better by {ENOUGH}"


def _on_slices(letter: str) -> str:
    record = read_record("05_pretraining")
    each = [
        values(record, "scans", arm, lambda run: run["test"]["miou"])
        for arm in ("all weights", "from scratch")
    ]
    gap = paired_difference(*each)
    right = "a" if gap.low > 0 else "s" if gap.high < 0 else "?"
    said = f"the checkpoint's start differs by {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
    if letter != right:
        hint = {
            "?": "the interval contains zero, so that these seeds do not tell",
            "s": "the interval lies below zero",
            "a": "the interval lies above zero",
        }[right]
        raise NotYet(f"slices: you chose {letter!r}, but {said}: {hint}")
    return f"slices: {said}"
