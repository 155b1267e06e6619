"""How lesson 1's exercise of shrinking an image with its mask is judged."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from seglib.exercises.kit import NotYet, call, show
from seglib.exercises.judges01 import exactly

COLOURS = {3: (40, 60, 90), 4: (200, 180, 60), 5: (250, 90, 160)}  # label: colour in the photo


def scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A photo 360×480 and its mask: a disc (label 5) in the upper left, a thing above it (4)."""
    y, x = np.mgrid[:360, :480]
    row, column, radius = rng.uniform(90, 150), rng.uniform(80, 180), rng.uniform(30, 45)
    mask = np.full((360, 480), 3, np.uint8)
    mask[:40, 300:420] = 4
    mask[np.hypot(y - row, x - column) < radius] = 5
    image = np.zeros((360, 480, 3), np.uint8)
    for label, colour in COLOURS.items():
        image[mask == label] = colour
    return image, mask


def shrink(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """How much of each small pixel each of the labels 3, 4, 5 covers: (3, height, width)."""
    return np.array(
        [
            cv2.resize(
                (mask == label).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
            )
            for label in COLOURS
        ]
    )


def centre(weights: np.ndarray) -> np.ndarray:
    """The centre of gravity (row, column) of an array (H, W)."""
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(y * weights).sum(), (x * weights).sum()]) / max(weights.sum(), 1e-9)


def resize_pair(resize: Any) -> str:
    for height, width, flip in ((96, 128, False), (96, 128, True), (72, 96, True)):
        rng, offsets = np.random.default_rng(0), []
        given = f"a disc in 360×480, height={height}, width={width}, flip={flip}"
        for _ in range(20):
            image, mask = scene(rng)
            before = image.copy(), mask.copy()
            result = call(resize, image, mask, height, width, flip, given=given)
            if not (np.array_equal(image, before[0]) and np.array_equal(mask, before[1])):
                raise NotYet(f"on {given} you change the arrays that you get; work on copies")
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise NotYet(f"on {given} you returned {show(result)}, expected (image, mask)")
            small = exactly(result[0], (height, width, 3), given, "an image")
            labels = exactly(result[1], (height, width), given, "a mask")
            cover = shrink(mask, height, width)
            photo = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            _judge_photo(small, photo, labels, cover, flip, given)
            there = cover[..., ::-1] if flip else cover
            _judge_labels(labels, there, flip, given)
            offsets.append(centre(labels == 5) - centre(there[2]))
        down, right = np.mean(offsets, axis=0)
        if max(abs(down), abs(right)) > 0.10:
            side, above = "right" if right > 0 else "left", "below" if down > 0 else "above"
            raise NotYet(
                f"on {given} the disc in your mask lies {abs(right):.2f} px {side} of the "
                f"disc in your image and {abs(down):.2f} px {above} it, on average over "
                "20 discs (allowed: 0.10). The photo averages its whole cell; which pixel "
                "of the cell does your mask read?"
            )
    return "the discs lie where they are in the photo, within 0.10 px"


def _judge_photo(
    small: np.ndarray,
    photo: np.ndarray,
    labels: np.ndarray,
    cover: np.ndarray,
    flip: bool,
    given: str,
) -> None:
    """The photo must be the averaged one, mirrored if asked for; else say what it is."""
    if len(np.unique(small.reshape(-1, 3), axis=0)) <= len(COLOURS):
        raise NotYet(
            f"on {given} your photo has only the {len(COLOURS)} colours of the original: "
            "it was not averaged but picked, which leaves jagged edges; mend the mask's "
            "line"
        )
    same = lambda other: np.abs(small.astype(float) - other).mean() < 4  # noqa: E731
    if same(photo[:, ::-1] if flip else photo):
        return
    mirrored = centre(labels == 5)[1] > small.shape[1] / 2
    if same(photo) or same(photo[:, ::-1]):
        photo_mirrored = same(photo[:, ::-1])
        if photo_mirrored == mirrored:
            what = "nothing is mirrored" if flip else "both are mirrored"
            raise NotYet(f"on {given} {what}; with flip=True mirror both, with flip=False none")
        one, other = ("photo", "mask") if photo_mirrored else ("mask", "photo")
        raise NotYet(f"on {given} the {one} is mirrored, the {other} is not")
    if same(photo[..., ::-1]) or same(photo[:, ::-1, ::-1]):
        raise NotYet(
            f"on {given} red and blue are swapped in your photo: mirror the columns, "
            "image[:, ::-1], and leave the channels alone"
        )
    if same(photo[::-1]) or same(photo[::-1, ::-1]):
        raise NotYet(
            f"on {given} your photo stands on its head: mirror the columns, "
            "image[:, ::-1], not the rows"
        )
    raise NotYet(
        f"on {given} your photo differs from the averaged one "
        f"{'and mirrored ' if flip else ''}(cv2.INTER_AREA) by "
        f"{np.abs(small.astype(float) - photo).mean():.0f} of 255 in the mean"
    )


def _judge_labels(labels: np.ndarray, cover: np.ndarray, flip: bool, given: str) -> None:
    """Only labels that are there, and each pixel's label covers a part of it."""
    strange = sorted(set(np.unique(labels).tolist()) - set(COLOURS))
    if strange:
        raise NotYet(
            f"on {given} your mask has the labels {strange[:6]}, which are not in the "
            f"original ({', '.join(map(str, COLOURS))}): averages and thresholds invent "
            "classes; each pixel has to take one label that is there"
        )
    if np.array_equal(labels, labels[:, ::-1]) or not (labels == 5).any():
        raise NotYet(f"on {given} the disc is missing from your mask")
    mirrored = np.argmax(cover, axis=0)[:, ::-1] + 3
    if (labels == mirrored).mean() > 0.97:
        one, other = ("photo", "mask") if flip else ("mask", "photo")
        raise NotYet(f"on {given} the {one} is mirrored, the {other} is not")
    covered = np.take_along_axis(cover, labels[None].astype(int) - 3, axis=0)[0]
    wrong = covered == 0
    far = wrong & (cover[1] == 0) & (labels == 4)
    if far.any():
        raise NotYet(
            f"on {given} your mask has label 4 on the rim of the disc, between 3 and 5: "
            "that is their average, not a label that is there"
        )
    if wrong.mean() > 0.03:
        raise NotYet(
            f"on {given} {wrong.sum()} pixels of your mask have a label that is nowhere "
            "in their part of the photo: is it mirrored, or turned, like the photo?"
        )
    areas = np.array([(labels == k).sum() for k in COLOURS]), cover.sum(axis=(1, 2))
    label, (found, right) = max(
        zip(COLOURS, np.transpose(areas), strict=True),
        key=lambda pair: abs(np.log((pair[1][0] + 1) / (pair[1][1] + 1))),
    )
    if abs(np.log((found + 1) / (right + 1))) > 0.08:
        raise NotYet(
            f"on {given} label {label} covers {found:.0f} pixels of your mask and "
            f"{right:.0f} of the original at that size: take the label at the middle of "
            "each cell, no more and no less"
        )
