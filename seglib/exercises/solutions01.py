"""Solutions to the exercises of lesson 1, as they would stand in the notebook."""

# mypy: allow-untyped-defs

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image


def read_labels(path):
    """Read a mask as labels: uint8 (H, W); ValueError where the file holds none."""
    picture = Image.open(path)
    if picture.format == "JPEG" or picture.mode not in ("P", "L"):
        raise ValueError(f"found {picture.format} of mode {picture.mode}, expected a PNG, P or L")
    return np.array(picture)  # of a palette PNG: the indices


def resize_pair(image, mask, height, width, flip):
    """Shrink image and mask together, and mirror both if `flip`."""
    size = (width, height)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return (image[:, ::-1], mask[:, ::-1]) if flip else (image, mask)


def iou(predictions, truths, num_classes):
    """IoU of each class over all label maps together: (num_classes,), NaN where absent."""
    hits, union = np.zeros(num_classes), np.zeros(num_classes)
    for prediction, truth in zip(predictions, truths, strict=True):
        valid = truth != 255
        for label in range(num_classes):
            found, there = (prediction == label) & valid, truth == label
            hits[label] += (found & there).sum()
            union[label] += (found | there).sum()
    return np.divide(hits, union, out=np.full(num_classes, np.nan), where=union > 0)


def shares(masks, num_classes):
    """The share of all labelled pixels that each class has: (num_classes,)."""
    pixels = np.zeros(num_classes)
    for mask in masks:
        pixels += np.bincount(mask.ravel(), minlength=256)[:num_classes]  # void is 255
    return pixels / pixels.sum()
