"""What does a score depend on, besides the network: the epoch, the sample, the images' groups?

    python experiments/04_metrics.py                  # all parts, 15 minutes in two processes
    python experiments/04_metrics.py sampling         # one of them
    python experiments/04_metrics.py --table          # what the record says

checkpoint  validation loss, validation mIoU and test mIoU after every epoch, with 60 and with 240
            images of Streets train; seed 0 keeps its labels of test
sampling    one network on 960 scenes, and on 120 drives of eight frames: how far apart are the
            mIoUs of samples, how wide are bootstrap intervals by frame and by drive, and how often
            do they hold the mIoU of all
scans       a network on Scans: lesions found, and their areas in mm²; seed 0 keeps its labels

A U-Net (base 8), flips, cross-entropy (with Dice on Scans). No arms are compared, so no rate is
tuned here: 4e-3 is what experiment 02 chose for this network. A drive is a wide scene of which a
window moves from left to right: neighbouring frames share most of what they show.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from functools import cache
from typing import Any

import arms
import nets
import numpy as np
import torch
from arms import LOOP, OVERLAP, RENDERING, InMemory
from arms import UNET as UNET_CODE
from numpy.typing import NDArray
from records import Job, Part, main, summary_table
from torch import Tensor
from watched import logits_on, scores_of, stacked, train_unet

from seglib.data import RenderedStreets, Scans, Streets
from seglib.data.render import render_scene
from seglib.losses import CombinedLoss, CrossEntropyLoss
from seglib.metrics import ConfusionMatrix, Scores
from seglib.transforms import eval_transform

FLIPS = {"flip": 0.5, "zoom": [1.0, 1.0], "stretch": 1.0, "colour": 0.0}
IMAGES = (60, 240)
FIRST_SCENE = 30_000  # seeds that nothing else uses
FIRST_DRIVE = 40_000


@cache
def streets(split: str, height: int, width: int) -> InMemory:
    flips = arms.augmentation({**FLIPS, "height": height, "width": width})
    return InMemory.copy_of(
        Streets(split), flips if split == "train" else eval_transform(height, width)
    )


def train_on(images: int, settings: dict[str, Any], seed: int, watch: Any = None) -> Any:
    """A U-Net trained on some images of Streets, drawn by the seed."""
    data = streets("train", settings["height"], settings["width"])
    order = np.random.default_rng(seed).permutation(len(data))[:images]
    part = InMemory(data.images[order], data.masks[order], data, data.transform)
    return train_unet(part, CrossEntropyLoss(), settings, seed, watch)


# ---------------------------------------------------------------- checkpoint


def checkpoint(job: Job) -> None:
    for images in IMAGES:
        for seed in job.seeds:
            job.once(f"{images} images", seed, watch_epochs, images, job.settings, seed)


def watch_epochs(images: int, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    val, test = (
        stacked(streets(split, settings["height"], settings["width"])) for split in ("val", "test")
    )
    classes = streets("val", settings["height"], settings["width"]).classes

    def watch(model: torch.nn.Module) -> dict[str, Any]:
        found = {name: logits_on(model, part[0]) for name, part in (("val", val), ("test", test))}
        return {
            "val_loss": round(CrossEntropyLoss()(found["val"], val[1]).item(), 4),
            "val_miou": scores_of(found["val"], val[1], classes)["miou"],
            "test_miou": scores_of(found["test"], test[1], classes)["miou"],
        }

    model, budget = train_on(images, settings, seed, watch)
    logits = logits_on(model, test[0])
    result = {**budget, "test": scores_of(logits, test[1], classes)}
    if seed == 0:
        labels = logits.argmax(1).numpy().astype(np.uint8)
        result["maps"] = {str(i): nets.as_text(found) for i, found in enumerate(labels)}
    return result


# ---------------------------------------------------------------- sampling


def sampling(job: Job) -> None:
    settings = job.settings
    trained = cache(lambda: train_on(IMAGES[-1], settings, 0))
    job.once("scenes", 0, sample_scenes, trained, settings)
    job.once("drives", 0, sample_drives, trained, settings)


def sample_scenes(trained: Any, settings: dict[str, Any]) -> dict[str, Any]:
    model, budget = trained()
    scenes = RenderedStreets(range(FIRST_SCENE, FIRST_SCENE + settings["scenes"]), 144, 192)
    plain = eval_transform(settings["height"], settings["width"])
    matrices = matrices_of(model, InMemory.copy_of(scenes, plain))
    rows = [
        row
        for size in settings["sizes"]
        for row in [how_sure(matrices[:, None], size, settings, {"frame"})]
    ]
    return {**budget, "whole": round(miou(matrices.sum(0)), 4), "samples": rows}


def sample_drives(trained: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Frames of 144×192 from a window that moves over scenes of 144×`wide`."""
    model, budget = trained()
    plain = eval_transform(settings["height"], settings["width"])
    images, masks = [], []
    for seed in range(FIRST_DRIVE, FIRST_DRIVE + settings["drives"]):
        scene = render_scene(seed, 144, settings["wide"])
        for left in np.linspace(0, settings["wide"] - 192, settings["frames"]).round().astype(int):
            images.append(scene.image[:, left : left + 192])
            masks.append(scene.semantic[:, left : left + 192])
    data = InMemory(np.stack(images), np.stack(masks), Streets("test"), plain)
    matrices = matrices_of(model, data)
    by_drive = matrices.reshape(settings["drives"], settings["frames"], *matrices.shape[1:])
    rows = [how_sure(by_drive, size, settings, {"frame", "drive"}) for size in settings["groups"]]
    return {**budget, "whole": round(miou(matrices.sum(0)), 4), "samples": rows}


def matrices_of(model: torch.nn.Module, data: InMemory) -> NDArray[np.int64]:
    """The confusion matrix of each image, (N, C, C)."""
    found = ConfusionMatrix(data.num_classes, per_image=True)
    for first in range(0, len(data), 120):
        part = [data[i] for i in range(first, min(first + 120, len(data)))]
        images, target = (torch.stack(kind) for kind in zip(*part, strict=True))
        found.update(logits_on(model, images), target)
    return torch.stack(found.images).numpy()


def miou(matrix: NDArray[np.int64]) -> float:
    return Scores(matrix).miou


def how_sure(
    matrices: NDArray[np.int64], size: int, settings: dict[str, Any], units: set[str]
) -> dict[str, Any]:
    """Samples of `size` of the groups, matrices (groups, frames, C, C), drawn with replacement:
    their mIoUs' middle 95 %, and by unit of the bootstrap its width and how often it holds the
    mIoU of all."""
    rng = np.random.default_rng(size)
    whole, frames = miou(matrices.sum((0, 1))), matrices.shape[1]
    values, found = [], {unit: [] for unit in sorted(units)}
    for _ in range(settings["samples"]):
        part = matrices[rng.integers(0, len(matrices), size)]
        flat = part.reshape(-1, *part.shape[2:])
        values.append(miou(flat.sum(0)))
        for unit, intervals in found.items():
            groups = None if unit == "frame" else np.repeat(np.arange(size), frames).tolist()
            scores = Scores(flat.sum(0), (), flat)
            intervals.append(scores.interval(groups=groups, draws=settings["draws"]))
    low, high = np.percentile(values, [2.5, 97.5])
    return {
        "size": size,
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        **{
            f"{unit}_width": round(float(np.mean([i.high - i.low for i in rows])), 4)
            for unit, rows in found.items()
        },
        **{
            f"{unit}_holds": round(float(np.mean([i.low <= whole <= i.high for i in rows])), 3)
            for unit, rows in found.items()
        },
    }


# ---------------------------------------------------------------- scans


def scans(job: Job) -> None:
    for seed in job.seeds:
        job.once("Scans U-Net", seed, measure_lesions, job.settings, seed)


def measure_lesions(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The area of the lesion in each test slice, true and predicted, in mm²."""
    size = settings["height"], settings["width"]
    flips = arms.augmentation({**FLIPS, "height": size[0], "width": size[1]})
    data = InMemory.copy_of(Scans("train"), flips)
    model, budget = train_unet(data, CombinedLoss(), settings, seed)
    test = Scans("test", transform=eval_transform(*size))
    images, target = stacked(test)
    logits = logits_on(model, images)
    labels = logits.argmax(1)
    areas = {
        name: [round(value, 2) for value in (area(maps, test.spacing)).tolist()]
        for name, maps in (("true", target), ("predicted", labels))
    }
    result = {**budget, "test": scores_of(logits, target, test.classes), "areas": areas}
    if seed == 0:
        result["maps"] = {
            str(i): nets.as_text(found) for i, found in enumerate(labels.numpy().astype(np.uint8))
        }
    return result


def area(labels: Tensor, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    return (labels == 1).sum((1, 2)).numpy() * spacing.prod(axis=1)


# ---------------------------------------------------------------- settings

UNET = {
    "height": 72,
    "width": 96,
    "batch_size": 4,
    "weight_decay": 0.01,
    "base_channels": 8,
    "lr": 4e-3,
    "schedule": "constant",
    "images": 3600,
}
CODE = (
    LOOP,
    UNET_CODE,
    "CrossEntropyLoss InMemory augmentation",
    "train_unet logits_on scores_of FLIPS",
)
ON_STREETS = (*CODE, "data/streets", "IMAGES streets train_on")
PARTS = {
    "checkpoint": Part(checkpoint, (*ON_STREETS, "checkpoint watch_epochs"), UNET, seeds=5),
    "sampling": Part(
        sampling,
        (
            *ON_STREETS,
            *RENDERING,
            "FIRST_SCENE FIRST_DRIVE sample_scenes sample_drives matrices_of how_sure",
        ),
        {
            **UNET,
            "scenes": 960,
            "drives": 120,
            "frames": 8,
            "wide": 256,
            "samples": 200,
            "draws": 400,
            "sizes": [15, 30, 60, 120, 240, 480],
            "groups": [6, 12, 24, 48],
        },
    ),
    "scans": Part(
        scans,
        (*CODE, "data/scans", OVERLAP, "CombinedLoss", "measure_lesions area"),
        {**UNET, "height": 128, "width": 128, "schedule": "onecycle", "images": 3200},
        seeds=5,
    ),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, summary_table)
