"""The exercises of lesson 1: labels, reading, aligning, counting and scoring them."""

from __future__ import annotations

from seglib.exercises import judges01 as judges
from seglib.exercises import scores01 as scores
from seglib.exercises import shrink01 as shrink
from seglib.exercises import solutions01 as solutions
from seglib.exercises.kit import Lesson
from seglib.exercises.judges01 import six_pairs

__all__ = ["LESSON", "six_pairs", "summary"]

LESSON = Lesson(
    "01",
    outcomes=(
        "say what classification, boxes, semantic, instance and panoptic labels keep of a scene",
        "read masks from disk as labels, and recognise the usual misreadings by their values",
        "keep an image and its mask aligned through augmentation and resizing",
        "compute IoU and class shares by hand and in code, with void left out",
        "say what a guess without a network scores, and why accuracy hides what mIoU shows",
    ),
)

labellings = LESSON.add(
    name="labellings",
    title="Which labelling can answer?",
    kind="interpret",
    outcome=0,
    judge=judges.labellings,
    variable="labellings",
    answer={question: right for question, (right, _) in judges.LABELLINGS.items()},
    hints=(
        "Look at the figure: of which panels alone could you answer?",
        "Six cars were one region in one of the labellings. Road was in two of them only.",
    ),
)

read_labels = LESSON.add(
    name="read_labels",
    title="Read a mask as labels",
    kind="implement",
    outcome=1,
    judge=judges.read_labels,
    answer=solutions.read_labels,
    hints=(
        "Image.open(path) alone does not convert; .mode says what is in the file.",
        "P is a palette PNG, L a grey one; raise ValueError for other modes, and for a JPEG.",
    ),
)

misread = LESSON.add(
    name="misread",
    title="What do the values say?",
    kind="interpret",
    outcome=1,
    judge=judges.misread,
    answer=dict(judges.MISREAD),
    variable="misread",
    hints=(
        "Fractions, or whole numbers? As many values as there may be classes?",
        "Labels may leave numbers out: a picture need not show every class.",
    ),
)

misaligned = LESSON.add(
    name="misaligned",
    title="Find the misaligned pair",
    kind="interpret",
    outcome=2,
    judge=judges.misaligned,
    answer=("D", "crop"),
    variable="misaligned",
    hints=(
        "Look at what is thin and upright: poles, and the sides of cars.",
        "A border without class and other colours are as they should be.",
    ),
)

resize_pair = LESSON.add(
    name="resize_pair",
    title="Mend the misaligned resize_pair",
    kind="debug",
    outcome=2,
    judge=shrink.resize_pair,
    answer=solutions.resize_pair,
    hints=(
        "The flip is innocent: measure the offset without it. It only changes the side.",
        "cv2.INTER_NEAREST reads the top-left source pixel of each cell. OpenCV has a second "
        "nearest rule, INTER_NEAREST_EXACT; seglib has resize_mask.",
    ),
)

by_hand = LESSON.add(
    name="by_hand",
    title="Three IoUs by hand",
    kind="predict",
    outcome=3,
    judge=scores.iou_by_hand,
    variable="by_hand",
    answer={name: round(value, 3) for name, value in scores.BY_HAND.items()},
    hints=(
        "The pixel without a class is not counted, whatever was predicted there.",
        "Intersection: the number on the diagonal. Union: its row plus its column, minus it.",
    ),
)

iou = LESSON.add(
    name="iou",
    title="IoU in code",
    kind="implement",
    outcome=3,
    judge=scores.iou,
    answer=solutions.iou,
    hints=(
        "Two counts for each class, over all label maps: both, and at least one of the two.",
        "Only pixels with truth != 255. What is 0 / 0 for a class that is nowhere? "
        '(np.errstate(invalid="ignore") silences NumPy\'s warning.)',
    ),
)

shares = LESSON.add(
    name="shares",
    title="Class shares that respect void",
    kind="implement",
    outcome=3,
    judge=scores.shares,
    answer=solutions.shares,
    hints=(
        "Add up the pixels of all masks, then divide once.",
        "np.bincount(mask.ravel(), minlength=256) counts void as well, at 255.",
    ),
)

road = LESSON.add(
    name="road",
    title="The mIoU of road everywhere",
    kind="predict",
    outcome=4,
    judge=scores.road,
    answer=0.026,
    variable="road",
    hints=(
        "If everything is called road, what is the intersection with the true road? The union?",
        "The other ten classes are in the truth and never predicted: their IoU is 0, and counts.",
    ),
)

poles = LESSON.add(
    name="poles",
    title="What would all poles bring?",
    kind="predict",
    outcome=4,
    judge=scores.poles,
    answer=scores.POLES,
    variable="poles",
    hints=(
        "Accuracy: what share of the labelled pixels goes from wrong to right?",
        "mIoU: Pole's IoU goes from 0 to 1. How many IoUs are in the mean?",
    ),
)

summary = LESSON.summary
