"""The exercises of lesson 6: half precision, loss scaling, AMP loops, accumulated gradients."""

from __future__ import annotations

from seglib.exercises import (
    accumulate06,
    dice06,
    formats06,
    loops06,
    scaler06,
    solutions06,
    steps06,
)
from seglib.exercises.kit import Lesson
from seglib.exercises.formats06 import gradients
from seglib.exercises.loops06 import causes, loop
from seglib.exercises.steps06 import step_parts

__all__ = [
    "LESSON",
    "accumulate",
    "causes",
    "formats",
    "gradients",
    "half_loss",
    "loop",
    "loops",
    "scaler",
    "speedup",
    "step_parts",
    "summary",
    "underflow",
]

LESSON = Lesson(
    "06",
    outcomes=(
        "read a number format: what it rounds away, what overflows and what vanishes",
        "explain loss scaling, and follow the scaler through an overflow",
        "keep in float32 what must stay there",
        "turn a training loop into an AMP loop, and find the fault in one",
        "find where a step's time goes, and accumulate gradients that equal those of one big batch",
    ),
)
summary = LESSON.summary

formats = LESSON.add(
    name="formats",
    title="Six numbers in half precision",
    kind="predict",
    outcome=0,
    judge=formats06.formats,
    variable="guess",
    answer=dict(formats06.FORMATS),
    hints=(
        "float16 has 5 bits of exponent and 11 significant bits, bfloat16 has 8 and 8. Which of "
        "the two kinds of bits runs out in each of the six?",
        "With 11 significant bits, neighbours are 1 apart from 1024 to 2048 and 2 apart from 2048 "
        "to 4096. The nearer neighbour is stored; between two, the one whose last bit is 0.",
        "float16 ends at 65504, and beside 0 its first number is 2^-24 ≈ 6e-8. bfloat16 goes from "
        "about 1e-38 to 3e38.",
    ),
)

underflow = LESSON.add(
    name="underflow",
    title="Which gradients are lost?",
    kind="predict",
    outcome=1,
    judge=formats06.underflow,
    variable="vanishes",
    answer=dict(formats06.VANISHES),
    hints=(
        "The smallest number of float16 above 0 is 2^-24 = 5.96e-8. A cast rounds to the nearer of "
        "two neighbours: up to where is 0 the nearer one?",
        "Up to its half, 2.98e-8. With a scale, multiply first and compare then.",
        "65504 is the largest number. Divide it by 2**24: gradients above that overflow.",
    ),
)

scaler = LESSON.add(
    name="scaler",
    title="The scaler's bookkeeping",
    kind="implement",
    outcome=1,
    judge=scaler06.scaler,
    answer=solutions06.step,
    hints=(
        "There are three cases: an overflow, a good step that completes the run, and any other "
        "good step.",
        "An overflow: half the scale, a count of 0, no step. Return from there.",
        "Else count this step first. If the count is growth_interval now, the scale doubles and "
        "the count starts again at 0.",
    ),
)

half_loss = LESSON.add(
    name="half_loss",
    title="A loss that breaks in half",
    kind="debug",
    outcome=2,
    judge=dice06.half_loss,
    answer=solutions06.dice,
    hints=(
        "Print p.sum() and torch.tensor(1e-8, dtype=p.dtype) for a map of 360×480 in float16.",
        "A sum of more than 65504 is inf in float16, and 1e-8 is 0. A cast after that mends "
        "neither.",
        "Let all arithmetic be in float32: which is the first line that computes something?",
    ),
)

loops = LESSON.add(
    name="loops",
    title="Five AMP loops",
    kind="debug",
    outcome=3,
    judge=loops06.loops,
    variable="faults",
    answer=dict(loops06.FAULTS),
    hints=(
        "Put the sound loop beside each and go line by line: scale, backward, unscale_, clip, "
        "step, update. What is missing, what stands elsewhere?",
        "scaler.scale(value) returns the scaled loss; it does not change value. unscale_ divides "
        "the gradients by the scale once, and step does so if nobody has.",
        "Which loops do something else than the sound one when a gradient overflows? Two of them.",
        "In D, ask what the gradients hold when the fourth batch's step comes.",
    ),
)

speedup = LESSON.add(
    name="speedup",
    title="What a remedy gains",
    kind="predict",
    outcome=4,
    judge=steps06.speedup,
    variable="factors",
    answer={name: round(value, 2) for name, value in steps06.FACTORS.items()},
    hints=(
        "The factor is old time / new time, of the whole step. How long does it take with the "
        "remedy?",
        "Sixteen bits: 60 + 10 + 18 + 4 = 92 ms are left of 120.",
        "For two remedies at once, change both parts and add up again.",
    ),
)

accumulate = LESSON.add(
    name="accumulate",
    title="One big batch in parts",
    kind="implement",
    outcome=4,
    judge=accumulate06.accumulate,
    answer=solutions06.accumulate,
    hints=(
        "The big batch's loss is a sum over all valid pixels, divided by their number. Which part "
        "of that sum is one batch's mean?",
        "loss(…) · (valid pixels of the batch) is the batch's sum. Divide it by the valid pixels "
        "of all batches, which you can count before the loop.",
        "Call backward in the loop: gradients add up by themselves, and the graph is freed.",
    ),
)
