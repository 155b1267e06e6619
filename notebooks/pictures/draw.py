"""Draw the title pictures of the lessons: python notebooks/pictures/draw.py [01 …]"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from seglib.data import Streets
from seglib.plotting import show_predictions
from seglib.transforms import resize_mask

HERE = Path(__file__).parent
LIMIT = 150_000                                        # bytes of a picture


def lesson_01():
    """A street of val, its labels, the guess of the location prior, and where that is wrong."""
    train, val = Streets("train"), Streets("val")
    masks = np.stack([resize_mask(train.read_mask(i), *train.SIZE) for i in range(len(train))])
    counts = np.stack([(masks == label).sum(axis=0) for label in range(train.num_classes)])
    image, mask = val.read(17)
    return show_predictions([image], [mask], [counts.argmax(axis=0)], val.classes, val.palette,
                            width=12, title="One street, its labels, and what a guess by position "
                            "gets wrong")                                          # fmt: skip


def main() -> None:
    lessons = {name[-2:]: draw for name, draw in globals().items() if name.startswith("lesson_")}
    for number in sys.argv[1:] or lessons:
        target = HERE / f"{number}.png"
        lessons[number]().savefig(target, dpi=80)
        size = target.stat().st_size
        if size > LIMIT:
            raise SystemExit(f"{target.name} has {size:,} bytes, more than {LIMIT:,}")
        print(f"{target.name}: {size:,} bytes")


if __name__ == "__main__":
    main()
