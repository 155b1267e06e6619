"""The exercises of lesson 4: what a score is, how sure it is, and what it is worth."""

from __future__ import annotations

from seglib.exercises import drives04, judges04, lesion04, matrix04, size04, solutions04
from seglib.exercises.kit import Lesson
from seglib.exercises.drives04 import Frame, driving_log
from seglib.exercises.lesion04 import lesion

__all__ = [
    "LESSON",
    "Frame",
    "bootstrap",
    "driving_log",
    "lesion",
    "matrix",
    "means",
    "size",
    "split",
    "summary",
    "two_masks",
]

LESSON = Lesson(
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

matrix = LESSON.add(
    name="matrix",
    title="A confusion matrix that streams",
    kind="implement",
    outcome=0,
    judge=matrix04.matrix,
    answer=solutions04.Matrix,
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

means = LESSON.add(
    name="means",
    title="Three means of two images",
    kind="predict",
    outcome=1,
    judge=judges04.means,
    variable="guess",
    answer=dict(judges04.MEANS),
    hints=(
        "IoU of a class: diagonal / (row sum + column sum − diagonal).",
        "Pooled: add the two matrices first. Per image: a mean for each, then the mean of both.",
        "In the second image class 2 has neither row nor column: leave it out and divide by two, "
        "or take it as 1 and divide by three.",
    ),
)

split = LESSON.add(
    name="split",
    title="Split a log of drives",
    kind="design",
    outcome=2,
    judge=drives04.split,
    answer=solutions04.split,
    hints=(
        "A drive is the group: if it is whole in one part, there is no gap to measure.",
        "In which drives do bicyclists ride? One of them must go to val, one must stay in train.",
        "For any log: try the choices of drives (itertools.combinations) and take the first that "
        "has the right share and all classes in both parts.",
    ),
)

bootstrap = LESSON.add(
    name="bootstrap",
    title="Mend an interval",
    kind="debug",
    outcome=3,
    judge=judges04.interval,
    answer=solutions04.interval,
    hints=(
        "Three things are wrong: what is drawn, what is averaged, and which ends are returned.",
        "Add up the matrices of each group first. Then a draw is as many groups as there are, with "
        "replacement: rng.integers(len(sums), size=len(sums)).",
        "The score of a draw is the mIoU of one matrix, the sum. The middle 95 % lie between the "
        "2.5th and the 97.5th percentile.",
    ),
)

size = LESSON.add(
    name="size",
    title="How many images?",
    kind="interpret",
    outcome=3,
    judge=size04.size,
    variable="size_needed",
    answer=dict(size04.SIZE),
    hints=(
        "Start from a line of the table: its number of scenes n and the mean width w of an "
        "interval.",
        "The width goes with 1 / √n, so n · (w / 0.02)² of them give a width of 0.02.",
    ),
)

two_masks = LESSON.add(
    name="two_masks",
    title="Equal Dice, opposite decisions",
    kind="design",
    outcome=4,
    judge=lesion04.two_masks,
    answer=solutions04.masks,
    hints=(
        "A pixel has spacing[0] · spacing[1] mm². How many pixels are 100 mm², and how many has "
        "the truth?",
        "Dice of a mask that lacks k of n pixels: 2(n − k) / (2n − k). Of one with m pixels too "
        "many: 2n / (2n + m). When are they equal?",
        "They are equal for m = n·k / (n − k). Choose k so that n − k and n + m lie on two sides "
        "of the limit; the truth of another lesion may lie below it.",
    ),
)
