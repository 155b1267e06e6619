"""The figure of lesson 2 that a reader judges: four recorded error maps."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

PANELS = {
    "A": "U-Net, 15 images, flips",
    "B": "U-Net without skips, 240 images, flips",
    "C": "U-Net, 240 images, flips",
    "D": "U-Net, 240 images, flips",  # moved by three pixels
}


def error_panels() -> Figure:
    """Photo, labels, and four error maps by letter; the predictions of D are shifted."""
    import matplotlib.pyplot as plt

    from seglib.course.records import label_map, read_record, values
    from seglib.data import Streets
    from seglib.plotting import colorize, error_map, legend, paint_errors
    from seglib.transforms import resize_mask

    record, streets = read_record("02_unet"), Streets("test")
    image, mask = streets.read(3)
    truth = resize_mask(mask, 72, 96)
    panels = {"photo": image, "labels": colorize(truth, streets.palette)}
    for letter, arm in PANELS.items():
        labels = label_map(values(record, "arms", arm, lambda run: run.get("maps"))[0]["3"])
        if letter == "D":
            labels = np.pad(labels, ((3, 0), (3, 0)), mode="edge")[:72, :96]
        errors, share = error_map(truth, labels)
        panels[f"{letter}: {share:.0%} wrong"] = paint_errors(errors)
    figure, axes = plt.subplots(2, 3, figsize=(8.5, 5.2), layout="constrained")
    plt.close(figure)
    for axis, (title, picture) in zip(axes.flat, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    legend(figure, streets.classes, streets.palette, void=True)
    figure.suptitle("Four predictions of one scene: wrong pixels violet, void grey", fontsize=11)
    return figure
