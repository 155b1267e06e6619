"""The exercises of lesson 5: what DeepLab sees, and what of a trained network is to learn on."""

from __future__ import annotations

from seglib.exercises import choose05, freeze05, heads05, sight05, solutions05
from seglib.exercises.kit import Lesson

__all__ = ["LESSON", "choose", "field", "freeze", "rates", "replace_head", "summary", "taps"]

LESSON = Lesson(
    "05",
    outcomes=(
        "predict what a dilated convolution sees: receptive field and valid taps",
        "choose output stride and ASPP rates for an image size, and tell DeepLabv3 from v3+",
        "load pretrained weights, replace the head, and check that what should move moves",
        "freeze a part of a network so that its BatchNorm rests, too",
        "decide from measurements whether to pretrain, and what to fine-tune",
    ),
)
summary = LESSON.summary

field = LESSON.add(
    name="field",
    title="What three layers see",
    kind="predict",
    outcome=0,
    judge=sight05.field,
    variable="guess",
    answer=dict(sight05.FIELD),
    hints=(
        "One pixel of the output sees the three taps of the last layer, along one side. What do "
        "the outer two of them see of the layer before?",
        "A 3×3 convolution of rate r widens the field by r steps at both sides: 1 + 2·1 for the "
        "first of them.",
        "A step is one pixel of the image, until a stride: behind a stride of 2 it is two.",
    ),
)

taps = LESSON.add(
    name="taps",
    title="Taps inside the map",
    kind="implement",
    outcome=0,
    judge=sight05.taps,
    answer=solutions05.taps,
    hints=(
        "Think of rows first. The middle row of taps is inside at every position. The row above "
        "reads from `rate` rows higher up: at how many of the height positions is that inside?",
        "At height − rate of them, or at none if the rate is larger: on average 1 + 2 · max(0, "
        "height − rate) / height of the three rows are inside.",
        "A tap is inside if its row and its column are, and these do not depend on each other: the "
        "means multiply.",
    ),
)

rates = LESSON.add(
    name="rates",
    title="Rates for a map",
    kind="design",
    outcome=1,
    judge=sight05.rates,
    answer=solutions05.rates,
    hints=(
        "How large is the map on which ASPP stands? 101 rows at output stride 8 are 13: a stride "
        "rounds up, -(-height // output_stride).",
        "taps(h, w, rate) falls as the rate grows. The largest rate is the last with 3 or more.",
        "The two others lie between 1 and the largest; a third and two thirds of it will do.",
    ),
)

replace_head = LESSON.add(
    name="replace_head",
    title="A head for other classes",
    kind="implement",
    outcome=2,
    judge=heads05.replace_head,
    answer=solutions05.replace_head,
    hints=(
        "print(model.decoder[-1]): which of its numbers may change, and which must not?",
        "Layers of an nn.Sequential can be assigned: model.decoder[-1] = nn.Conv2d(…).",
        "The old layer knows how many channels come in: old.in_channels.",
    ),
)

freeze = LESSON.add(
    name="freeze",
    title="Freeze for good",
    kind="debug",
    outcome=3,
    judge=freeze05.freeze,
    answer=solutions05.freeze,
    hints=(
        "model.train() calls train() of every child, and so on downwards. Which call undoes your "
        "eval()?",
        "An attribute of an object hides its class's method: after part.train = f, model.train() "
        "calls f.",
        "Let the train of each part in module.modules() do nothing and return the part: "
        "part.train = lambda mode=True, part=part: part.",
        "Parameters need requires_grad=False besides; torch.no_grad() would cut off what lies "
        "before the module as well.",
    ),
)

choose = LESSON.add(
    name="choose",
    title="What to do with 24 images",
    kind="interpret",
    outcome=4,
    judge=choose05.choose,
    variable="choice",
    answer=dict(choose05.CHOICE),
    hints=(
        "By night: the column of 24 scenes in the first table. Overlapping intervals do not "
        "decide: look at the differences seed by seed.",
        "By night and by day: for each arm the mean of its score by night and of what it keeps by "
        "day, from the table on forgetting. Zero-shot forgets nothing.",
        "Slices: does the interval of the difference at 800 images contain zero?",
    ),
)
