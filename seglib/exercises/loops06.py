"""How lesson 6's exercise on five AMP loops is judged, and what shows them."""

from __future__ import annotations

import inspect
from typing import Any

from seglib.exercises import faulty06
from seglib.exercises.kit import NotYet, show

FAULTS = {"A": "clip", "B": "step", "C": "scale", "D": "zero", "E": "skip"}
CAUSES = {
    "scale": "the gradients are those of the loss without the scale",
    "clip": "the gradients are clipped while the scale is still in them",
    "step": "the optimiser steps by itself, whatever the scaler has found",
    "zero": "gradients are set to zero that are still to count",
    "skip": "a batch is passed over, and the scaler never hears of its overflow",
    "new": "each batch begins with a new scaler, which has learned nothing",
    "inside": "backward runs inside autocast",
    "schedule": "the learning rate also falls where a step was skipped",
}
SYMPTOMS = {
    "A": "with SGD and a scale of 65536, no step is longer than 1/65536 of the learning rate. The "
    "weights all but stand still, and a smaller scale moves them more",
    "B": "it trains as long as nothing overflows. With the first overflow the weights are NaN, "
    "where a sound loop leaves them as they are and halves the scale",
    "C": "with SGD and a scale of 65536, the weights move 65536 times less than in a sound loop; "
    "with a scale of 1 it trains well",
    "D": "its weights are the same whatever the first three of each four batches hold",
    "E": "once a batch overflows, the scale stays as it is for good: if all overflow, no weight "
    "ever moves, where a sound loop halves the scale until they no longer do",
}


def source(letter: str) -> str:
    """The text of a loop. ValueError for a letter that is none."""
    if letter not in FAULTS:
        raise ValueError(f"found {letter!r}, expected one of {', '.join(FAULTS)}")
    return inspect.getsource(getattr(faulty06, f"loop_{letter.lower()}")).rstrip()


def loop(letter: str) -> None:
    """Print one of the five loops, "A" to "E"."""
    print(source(letter))


def causes() -> None:
    """Print the eight causes to choose from."""
    for name, text in CAUSES.items():
        print(f"{name:<8}  {text}")


def _not_so(letter: str, choice: str) -> str:
    """Why a loop's fault is not the one that was chosen."""
    text = source(letter)
    clips, clipped = "clip_grad_norm_" in text, "its gradients are clipped where unscale_ has "
    return {
        "scale": "backward runs on what scaler.scale(value) returns, as it should",
        "clip": f"{clipped}taken the scale out" if clips else "nothing is clipped in it",
        "step": "scaler.step(optimizer) is there, and skips what has overflowed",
        "zero": "each batch has its own step, so zero_grad belongs at the top",
        "skip": "no batch is passed over by an if; look at what zero_grad wipes"
        if letter == "D"
        else "no batch is passed over: each one's overflow reaches the scaler",
        "new": "the scaler comes from outside, one for all batches",
        "inside": "only the forward pass and the loss stand inside autocast",
        "schedule": "there is no schedule in it",
    }[choice]


def loops(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(FAULTS):
        raise NotYet(f"expected a dict with the keys {', '.join(FAULTS)}, found {show(answer)}")
    for letter in FAULTS:
        if not isinstance(answer[letter], str) or answer[letter] not in CAUSES:
            raise NotYet(
                f"for {letter} expected one of {', '.join(CAUSES)}, found {show(answer[letter])}"
            )
    wrong = [letter for letter in FAULTS if answer[letter] != FAULTS[letter]]
    if wrong:
        letter, choice = wrong[0], answer[wrong[0]]
        raise NotYet(
            f"{len(FAULTS) - len(wrong)} of {len(FAULTS)} are right. {letter} is not "
            f"{choice!r}: {_not_so(letter, choice)}. What happens in it: "
            f"{SYMPTOMS[letter]}"
        )
    return (
        "B ends in NaN at its first overflow. The others end without a sign: with SGD A and C "
        "hardly move, D learns from every fourth batch, and E stands still once every batch "
        "overflows"
    )
