"""The exercises of lesson 2, A U-Net from scratch."""

from __future__ import annotations

from seglib.exercises import judges02, smallnet02, solutions02
from seglib.exercises.kit import Lesson
from seglib.exercises.judges02 import error_panels

__all__ = [
    "LESSON",
    "advice",
    "error_maps",
    "error_panels",
    "parameters",
    "small_net",
    "summary",
    "train_steps",
    "up",
]

LESSON = Lesson(
    "02",
    outcomes=(
        "follow a tensor's shape through an encoder and a decoder, and count the parameters of a "
        "block before you run it",
        "build a U-Net from its blocks, for images of any size, and prove it equal to the "
        "library's",
        "find out why a network does not learn, with a single batch",
        "say from a picture of errors what the skips bring, and what they do not",
        "judge from recorded runs what more images and augmentation are worth",
    ),
)
summary = LESSON.summary

parameters = LESSON.add(
    name="parameters",
    title="Parameters of a block",
    kind="predict",
    outcome=0,
    judge=judges02.parameters,
    variable="guess",
    answer=824,
    hints=(
        "A 3×3 convolution has in × out × 9 weights; with bias=False nothing else.",
        "BatchNorm2d(8) learns a scale and a shift for each of its 8 channels.",
    ),
)

up = LESSON.add(
    name="up",
    title="Up for odd sizes",
    kind="implement",
    outcome=1,
    judge=judges02.up,
    answer=solutions02.Up,
    hints=(
        "Three steps: enlarge x, make it as large as the skip, join both along the channels and "
        "convolve.",
        "F.pad(x, (left, right, top, bottom)) adds columns and rows; how many are missing?",
        "Pooling drops the last row of an odd size: it is missing at the bottom and at the right. "
        'F.pad(…, mode="replicate") repeats the last one.',
    ),
)

train_steps = LESSON.add(
    name="train_steps",
    title="Repair a training loop",
    kind="debug",
    outcome=2,
    judge=judges02.train_steps,
    answer=solutions02.train_steps,
    hints=(
        "Three things are wrong: one stops the loop with an error, two only spoil the result.",
        "Which dtype does cross-entropy want for class numbers? Which mode does BatchNorm need to "
        "learn? What does backward() do to a gradient that is there already?",
    ),
)

error_maps = LESSON.add(
    name="error_maps",
    title="Which net has no skips?",
    kind="interpret",
    outcome=3,
    judge=judges02.error_maps,
    variable="letter",
    answer="B",
    hints=(
        "Without skips the decoder draws everything from 4×6 cells: which edges can it draw?",
        "Errors on one side of an object and errors on both sides have different causes.",
    ),
)

advice = LESSON.add(
    name="advice",
    title="What does the record advise?",
    kind="interpret",
    outcome=4,
    judge=judges02.advice,
    variable="advice",
    answer=dict(judges02.ADVICE),
    hints=(
        "Compare test mIoU, not the gain over a baseline: the two tables have different ones.",
        "Where is a gap between what was seen and test, and where is none?",
    ),
)

small_net = LESSON.add(
    name="small_net",
    title="A net of your own",
    kind="design",
    outcome=1,
    judge=smallnet02.small_net,
    answer=solutions02.build,
    hints=(
        "Start from UNet(num_classes, base_channels=…, depth=…) and count its parameters.",
        "Most parameters are at the bottom: a U-Net with one level less is four times smaller.",
    ),
)
