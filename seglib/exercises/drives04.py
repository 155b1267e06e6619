"""Lesson 4's log of drives, and how a split of it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from seglib.exercises.kit import NotYet, call, show

GAP, SHARE, LEFT_OUT = 60.0, (0.15, 0.35), 0.20
STEP = 4.0  # seconds from frame to frame
RARE = "Bicyclist"


@dataclass(frozen=True)
class Frame:
    """One frame of a log: its drive, its time since the drive began, and the classes it shows."""

    drive: str
    second: float
    classes: frozenset[str]

    def __repr__(self) -> str:
        """With the classes in order, so that a notebook prints the same in each run."""
        return f"Frame({self.drive!r}, {self.second:g} s, {', '.join(sorted(self.classes))})"


def driving_log() -> list[Frame]:
    """120 frames of five drives, every four seconds one."""
    lengths = {"A": 34, "B": 22, "C": 12, "D": 30, "E": 22}
    return _log(lengths, {"B": (8, 15), "D": (19, 26)}, seed=4)


def _hidden_log() -> list[Frame]:
    lengths = {"south": 40, "bridge": 24, "park": 16, "tunnel": 18, "harbour": 26}
    return _log(lengths, {"bridge": (3, 9), "park": (4, 8), "harbour": (15, 22)}, seed=6)


def _log(lengths: dict[str, int], rare: dict[str, tuple[int, int]], seed: int) -> list[Frame]:
    """Frames in order; `rare` says where bicyclists ride, from one frame of a drive to another."""
    rng = np.random.default_rng(seed)
    always = ["Building", "Car", "Pavement", "Road", "Sky", "Tree"]
    often = ["Fence", "Pedestrian", "Pole", "SignSymbol"]
    frames = []
    for drive, length in lengths.items():
        low, high = rare.get(drive, (0, 0))
        for i in range(length):
            seen = [name for name in often if rng.random() < 0.6]
            frames.append(
                Frame(drive, i * STEP, frozenset(always + seen + [RARE] * (low <= i < high)))
            )
    return frames


def split(answer: Any) -> str:
    frames, hidden = driving_log(), _hidden_log()
    said = _judge(answer, frames, f"the log of {len(frames)} frames")
    try:
        _judge(answer, hidden, f"another log, {len(hidden)} frames of other drives")
    except NotYet as reason:
        raise NotYet(
            f"right on the notebook's log, but {reason}. Are indices or names of drives "
            "written into your function?"
        ) from None
    return said


def _judge(answer: Any, frames: list[Frame], which: str) -> str:
    found = call(answer, list(frames), given=which)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise NotYet(
            f"on {which}, expected two lists of indices, `return train, val`; found {show(found)}"
        )
    train, val = (
        _indices(part, len(frames), f"on {which}, {name}")
        for part, name in zip(found, ("train", "val"), strict=True)
    )
    both = sorted(set(train) & set(val))
    if both:
        raise NotYet(
            f"on {which}, {len(both)} frames are in train and in val, frame {both[0]} "
            "for one: the network would be tested on what it has learnt"
        )
    share, gone = len(val) / len(frames), 1 - (len(train) + len(val)) / len(frames)
    gap, drive = _smallest_gap(frames, train, val)
    where = f"smallest gap {gap:.1f} s, in drive {drive}" if drive else "no drive is in both parts"
    found_out = f"on {which}, val has {share:.0%} of the frames; {where}"
    if share > 0.5 and SHARE[0] <= len(train) / len(frames) <= SHARE[1]:
        raise NotYet(f"{found_out}. train and val are swapped: expected `return train, val`")
    if gone > LEFT_OUT:
        raise NotYet(
            f"{found_out}. {gone:.0%} of the frames are in neither part, allowed are "
            f"{LEFT_OUT:.0%}: each cut through a drive costs a minute of frames, so cut "
            "few drives or none"
        )
    if not SHARE[0] <= share <= SHARE[1]:
        hint = (
            "that is too little to measure with"
            if share < SHARE[0]
            else "what val takes, train cannot learn from"
        )
        raise NotYet(
            f"{found_out}. Expected {SHARE[0]:.0%} to {SHARE[1]:.0%}: {hint}. Drives "
            "differ in length, so count frames"
        )
    if gap < GAP:
        raise NotYet(f"{found_out}. {_why_so_near(frames, train, val, gap)}")
    for name, part in (("train", train), ("val", val)):
        seen = set().union(*(frames[i].classes for i in part))
        for label in sorted(set().union(*(frame.classes for frame in frames)) - seen):
            drives = sorted({frame.drive for frame in frames if label in frame.classes})
            then = "its IoU cannot be measured" if name == "val" else "no network can learn it"
            raise NotYet(
                f"{found_out}. But {name} has no {label}: {then}. Frames with {label} are "
                f"in the drives {', '.join(drives)}; both parts need some"
            )
    return f"val has {share:.0%} of the frames; {where}; all classes are in both"


def _indices(part: Any, count: int, what: str) -> list[int]:
    """One part of a split as a list of indices, else `NotYet`."""
    try:
        items = list(part)
        array = np.asarray(items)
    except Exception:
        items, array = [], np.array(None)
    if any(isinstance(item, Frame) for item in items):
        raise NotYet(
            f"{what} holds frames, expected their indices: [i for i, frame in "
            "enumerate(frames) if …]"
        )
    if array.ndim == 1 and array.dtype.kind == "b":
        raise NotYet(
            f"{what} holds True and False, expected indices: np.flatnonzero(…) turns one "
            "into the other"
        )
    if array.ndim == 1 and not len(array):
        raise NotYet(f"{what} is empty")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise NotYet(f"{what} is {show(part)}, expected a list of indices")
    if array.min() < 0 or array.max() >= count:
        wrong = array.min() if array.min() < 0 else array.max()
        raise NotYet(f"{what} has the index {wrong}, but there are frames 0 to {count - 1}")
    if len(set(array.tolist())) < len(array):
        raise NotYet(
            f"{what} has {len(array)} indices, but only {len(set(array.tolist()))} "
            "different ones: a frame must not count twice"
        )
    return sorted(array.tolist())


def _smallest_gap(frames: list[Frame], train: list[int], val: list[int]) -> tuple[float, str]:
    """The seconds between a val frame and the nearest train frame of its drive, and the drive."""
    gaps = [
        (abs(frames[i].second - frames[j].second), frames[i].drive)
        for i in val
        for j in train
        if frames[i].drive == frames[j].drive
    ]
    return min(gaps, default=(np.inf, ""))


def _why_so_near(frames: list[Frame], train: list[int], val: list[int], gap: float) -> str:
    """What kind of split has val frames so near to train frames."""
    switches = []
    for drive in {frames[i].drive for i in val} & {frames[i].drive for i in train}:
        row = [i in set(val) for i in sorted(train + val) if frames[i].drive == drive]
        switches.append(sum(a != b for a, b in pairwise(row)))
    steps = {b - a for a, b in pairwise(val)}
    if max(switches) > 2 and len(steps) == 1:
        step = min(steps)
        return (
            f"You take every {step}th frame: each has train frames on both sides that show the "
            "same street. Choose whole drives"
        )
    if max(switches) > 2:
        return (
            "You choose frame by frame: almost every val frame has a train frame beside it "
            "that shows the same street. The group is the drive: choose whole drives"
        )
    if gap > STEP:
        return (
            f"There is a buffer at the cut, but a short one: expected {GAP:.0f} s or more, "
            f"{GAP / STEP:.0f} steps of {STEP:.0f} s"
        )
    cuts = "one drive" if len(switches) == 1 else f"{len(switches)} drives"
    return (
        f"You cut {cuts} in two, and at the cut neighbours are in different parts. Keep drives "
        f"whole, or leave out {GAP:.0f} s at a cut; {LEFT_OUT:.0%} of all frames may be left "
        "out"
    )
