"""Draw the title pictures of the lessons: python notebooks/pictures/draw.py [01 …]"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from seglib.data import Streets
from seglib.plotting import colorize, legend, show_predictions
from seglib.records import label_map, read_record, values
from seglib.transforms import resize_mask

HERE = Path(__file__).parent
LIMIT = 150_000                                        # bytes of a picture


def lesson_01():
    """A street of val, its labels, the guess of the location prior, and where that is wrong."""
    train, val = Streets("train"), Streets("val")
    masks = np.stack([resize_mask(train.read_mask(i), *train.SIZE) for i in range(len(train))])
    counts = np.stack([(masks == label).sum(axis=0) for label in range(train.num_classes)])
    image, mask = val.read(17)
    image = image // 24 * 24 + 12                      # fewer colours make a smaller file
    return show_predictions([image], [mask], [counts.argmax(axis=0)], val.classes, val.palette,
                            width=12, title="One street, its labels, and what a guess by position "
                            "gets wrong")                                          # fmt: skip


def lesson_02():
    """A street of test, its labels, and two recorded predictions: without skips and with."""
    record, test = read_record("02_unet"), Streets("test")
    image, mask = test.read(8)
    panels = {"photo": image, "truth": colorize(resize_mask(mask, 72, 96), test.palette)}
    for name in ("U-Net without skips", "U-Net"):
        kept = values(record, "arms", f"{name}, 240 images, flips", lambda run: run.get("maps"))[0]
        panels[name] = colorize(label_map(kept["8"]), test.palette)
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.1), layout="constrained")
    for axis, (title, picture) in zip(axes, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    present = set(np.unique(mask)) - {255}
    legend(figure, test.classes, test.palette, present, void=True)
    return figure


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
