"""What lesson 7 draws and measures of instances: regions, overlaps, the record of masks."""

from collections.abc import Mapping
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from seglib.course.labels import show_row
from seglib.course.records import interval, read_record, values
from seglib.course.transformers import CAR
from seglib.data.colours import STREET_PALETTE
from seglib.plotting import colorize

MASKS = "per pixel", "masks, one for each class", "masks, with instances"


def print_masks() -> None:
    """The recorded test mIoU of three ways to label, and PQ of things by two ways to instances."""
    record = read_record("07_transformers")
    print(f"{'':<28} {'mIoU':<20} PQ: {'regions':<20} queries")
    for arm in MASKS:
        runs = list(values(record, "masks", arm, lambda run: run["test"]).values())
        found = [[run["miou"] for run in runs], [run["components"]["things"][0] for run in runs]]
        if "queries" in runs[0]:
            found.append([run["panoptic"]["things"][0] for run in runs])
        miou, *quality = (str(interval(part)) for part in found)
        print(f"{arm:<28} {miou}     {' '.join(quality)}")


def blobs(semantic: NDArray[Any], number: int = CAR) -> NDArray[np.int64]:
    """Instance numbers as a semantic map gives them: connected components of a class."""
    return np.asarray(label(semantic == number)[0], np.int64)


def overlaps(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """The IoU of each instance of one map (rows) with each of the other (columns); 0 is none."""
    masks = [[part == i for i in np.unique(part[part > 0])] for part in (first, second)]
    pairs = [[(a & b).sum() / (a | b).sum() for b in masks[1]] for a in masks[0]]
    return np.array(pairs, float).reshape(len(masks[0]), len(masks[1]))


def show_instances(scene: Any, maps: Mapping[str, NDArray[Any]]) -> None:
    """A scene, its semantic map, and maps of instance numbers {title: (H, W)}, with the numbers."""
    panels = {"scene": scene.image, "semantic": colorize(scene.semantic, STREET_PALETTE)}
    shades = plt.get_cmap("tab20")(range(20))[:, :3] * 255
    colours = np.vstack([[225, 225, 228], shades]).astype(np.uint8)
    for name, numbers in maps.items():
        present = np.unique(numbers[numbers > 0])
        places = np.searchsorted(present, numbers) + 1  # 1, 2, … whatever the numbers are
        picture = colours[np.where(numbers > 0, (places - 1) % 20 + 1, 0)].copy()
        for place, number in enumerate(present, start=1):
            rows, columns = np.nonzero(numbers == number)
            middle = int(np.median(columns)) - 4, int(np.median(rows)) + 5
            for colour, thick in (((255,) * 3, 3), ((0,) * 3, 1)):
                cv2.putText(picture, str(place), middle, 0, 0.45, colour, thick)
        panels[name] = picture
    show_row(panels)
