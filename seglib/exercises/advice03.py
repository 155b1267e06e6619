"""Lesson 3's exercise on what a record of nine losses supports."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from seglib.course.records import paired_difference, read_record, values
from seglib.exercises.kit import NotYet, show

RARE = ("Pole", "SignSymbol", "Pedestrian", "Bicyclist", "Fence")
BASE, WEIGHTED = "cross-entropy", "cross-entropy, median weights"
RATES = (0.002, 0.005, 0.0125)
STATEMENTS = {
    "a": "Dice scored higher than cross-entropy, and five seeds suffice to say so.",
    "b": "The focal loss scored higher than cross-entropy, and five seeds suffice to say so.",
    "c": "With the lowest rate for all, the losses would have had the same order on dev.",
    "d": "With median weights more of the rare classes was found, and fewer pixels in all were "
    "right.",
    "e": "On another data set, too, Dice would score higher than cross-entropy.",
}
SUPPORTED = {"a": True, "b": False, "c": False, "d": True, "e": False}


def _miou(run: dict[str, Any]) -> float:
    return float(run["test"]["miou"])


def _recall(run: dict[str, Any]) -> float:
    return float(np.mean([run["test"]["recall"][name] for name in RARE]))


def _accuracy(run: dict[str, Any]) -> float:
    return float(run["test"]["accuracy"])


def _reason(statement: str) -> str:
    """What the record says to a statement."""
    record = read_record("03_losses")
    if statement in "ab":
        loss = {"a": "Dice", "b": "focal"}[statement]
        gap = paired_difference(
            values(record, "streets", loss, _miou), values(record, "streets", BASE, _miou)
        )
        side = "lies above" if gap.low > 0 else "lies below" if gap.high < 0 else "contains"
        return f"{loss} minus {BASE} is {gap} on test: the interval {side} zero"
    if statement == "c":
        arms = dict.fromkeys(run["arm"] for run in record["parts"]["streets"]["runs"])
        dev = {
            arm: [
                next(
                    iter(
                        values(
                            record,
                            "tuning_streets",
                            f"{arm}, lr {rate}",
                            lambda run: run["dev"]["miou"],
                        ).values()
                    )
                )
                for rate in RATES
            ]
            for arm in arms
        }
        best, low = ({arm: pick(dev[arm]) for arm in arms} for pick in (max, lambda row: row[0]))
        ahead, behind = max(
            permutations(arms, 2),
            key=lambda pair: min(best[pair[0]] - best[pair[1]], low[pair[1]] - low[pair[0]]),
        )
        return (
            f"with the best rate of each, {ahead} has {best[ahead]:.3f} on dev and {behind} "
            f"{best[behind]:.3f}; with {RATES[0]:g} for both it is {low[ahead]:.3f} and "
            f"{low[behind]:.3f}"
        )
    if statement == "d":
        found = [
            [
                np.mean(list(values(record, "streets", loss, read).values()))
                for loss in (BASE, WEIGHTED)
            ]
            for read in (_recall, _accuracy)
        ]
        return "the table says recall {:.2f} → {:.2f}, accuracy {:.2f} → {:.2f}".format(
            *found[0], *found[1]
        )
    return (
        "the record holds for Streets, this net and this budget; what another data set would "
        "say, it cannot know"
    )


def advice(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(STATEMENTS):
        raise NotYet(f"expected a dict with the keys {', '.join(STATEMENTS)}, found {show(answer)}")
    for statement, said in answer.items():
        if not isinstance(said, (bool, np.bool_)):
            raise NotYet(f"for {statement} expected True or False, found {show(said)}")
    wrong = [statement for statement in STATEMENTS if answer[statement] != SUPPORTED[statement]]
    if wrong:
        first = wrong[0]
        verdict = "is supported" if SUPPORTED[first] else "is not supported"
        raise NotYet(
            f"{len(STATEMENTS) - len(wrong)} of 5 are right; {first} {verdict}: {_reason(first)}"
        )
    return "; ".join(f"{statement}: {_reason(statement)}" for statement in "abcd")
