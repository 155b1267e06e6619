"""The exercises of lesson 3, Losses."""

from __future__ import annotations

from seglib.exercises import advice03, curves03, dice03, judges03, ownloss03, solutions03
from seglib.exercises.kit import Lesson
from seglib.exercises.curves03 import curves_figure

__all__ = [
    "LESSON",
    "advice",
    "by_hand",
    "curves",
    "curves_figure",
    "faults",
    "own_loss",
    "soft_dice",
    "summary",
]

LESSON = Lesson(
    "03",
    outcomes=(
        "compute cross-entropy by hand, and say where and how hard it pushes",
        "write a soft Dice loss that leaves void out, and say where its gradient differs from "
        "cross-entropy's",
        "tell from a record whether a network ignores a rare class or starts later, and what "
        "weights and overlap losses change",
        "find the fault in a loss function with a test that fails",
        "choose a loss by paired differences over seeds, after tuning its learning rate",
    ),
)
summary = LESSON.summary

by_hand = LESSON.add(
    name="by_hand",
    title="Cross-entropy of four pixels",
    kind="predict",
    outcome=0,
    judge=judges03.by_hand,
    variable="guess",
    answer=0.4013,
    hints=(
        "e to the power of ln 3 is 3 and e⁰ is 1: what share does the truth get at pixel a?",
        "−ln of the three shares, added up: by how many pixels do you divide?",
    ),
)

curves = LESSON.add(
    name="curves",
    title="Which run is which?",
    kind="interpret",
    outcome=2,
    judge=curves03.curves,
    variable="runs",
    answer=dict(curves03.RUNS),
    hints=(
        "Start with the run whose lesions are large: which panel looks like an easy task?",
        "Weights make a missed lesion pixel dear and a false alarm cheap: which curve is high at "
        "once, and which one pays for it?",
    ),
)

soft_dice = LESSON.add(
    name="soft_dice",
    title="Soft Dice that leaves void out",
    kind="implement",
    outcome=1,
    judge=dice03.soft_dice,
    answer=solutions03.soft_dice,
    hints=(
        "valid = target != 255 is (N, H, W). logits.softmax(1).movedim(1, 3)[valid] has a row of "
        "class probabilities for each valid pixel.",
        "F.one_hot(target[valid], classes) has a row for each valid pixel, too: now all three sums "
        "are sums over rows.",
        "A class is present if its Σ g is above 0. With no class present: what is the sum of no "
        "losses, and what do you divide it by?",
    ),
)

advice = LESSON.add(
    name="advice",
    title="What does the record support?",
    kind="interpret",
    outcome=4,
    judge=advice03.advice,
    variable="supported",
    answer=dict(advice03.SUPPORTED),
    hints=(
        "A difference is shown if its interval does not contain zero.",
        "c: read the column 0.002 of the second table from top to bottom. Who is first?",
        "e: which data do the tables speak of?",
    ),
)

own_loss = LESSON.add(
    name="own_loss",
    title="A loss of your own",
    kind="design",
    outcome=4,
    judge=ownloss03.own_loss,
    answer=solutions03.build_loss,
    hints=(
        "Only one pixel in a hundred is lesion. Which losses pulled on such a class from the "
        "start?",
        "Cross-entropy has a gradient everywhere, Dice counts both errors: CombinedLoss() adds "
        "them up.",
        "Try three learning rates on slices of your own before you ask the check.",
    ),
)

faults = LESSON.add(
    name="faults",
    title="Five losses, five faults",
    kind="debug",
    outcome=3,
    judge=judges03.faults,
    variable="faults",
    answer=dict(judges03.RIGHT),
    hints=(
        "Each line of ask tests one thing: which line of which loss cannot be right?",
        "Right logits must give 0, whatever is void and whatever is absent; unsure ones must give "
        "the same with and without void.",
        "Three faults on the list occur nowhere: the lines with void only, with one wrong pixel "
        "and in float16 rule them out.",
    ),
)
