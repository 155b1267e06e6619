"""What do skips, augmentation and more images bring a small U-Net on Streets?

    python experiments/02_unet.py                     # all parts, 70 minutes in two processes
    python experiments/02_unet.py tuning live         # some of them
    python experiments/02_unet.py --table             # what the record says

tuning  each arm's learning rate: three of them, a third of the budget, scored on other scenes (dev)
edges   one rate more where the best was the lowest or the highest of the three
arms    the networks, numbers of images and augmentations below: 1,500 steps of four images each
live    the network that the lesson trains itself: 360 steps

Networks: a U-Net (base 8), the same with zeros for skips, its encoder with a bilinear enlargement.
Images: 15 … 240 of Streets train (drawn by the seed, the same for all arms) and 960 more rendered
ones. Augmentation: none, flips, or flips with zoom, stretch and colour. Several processes may run
this at once and share the work: one thread each (OMP_NUM_THREADS=1) is fastest.

Streets at 72×96, void dropped, one confusion matrix over the split, the last epoch's weights.
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
from arms import RENDERING, TRAINING, InMemory, scores_on
from records import Job, Part, main, summary_table

from seglib.data import RenderedStreets, Streets
from seglib.models.unet import UNet
from seglib.transforms import eval_transform

NETS = {"U-Net": UNet, "U-Net without skips": nets.WithoutSkips, "encoder only": nets.EncoderOnly}
AUGMENTATION = {
    "none": {"flip": 0.0, "zoom": [1.0, 1.0], "stretch": 1.0, "colour": 0.0},
    "flips": {"flip": 0.5, "zoom": [1.0, 1.0], "stretch": 1.0, "colour": 0.0},
    "zoom and colour": {"flip": 0.5, "zoom": [0.8, 2.0], "stretch": 1.2, "colour": 0.3},
}
# (network, images, augmentation); what is needed most comes first
ARMS = [
    ("U-Net", 240, "flips"),
    ("U-Net without skips", 240, "flips"),
    ("encoder only", 240, "flips"),
    ("U-Net", 15, "flips"),
    ("U-Net", 60, "flips"),
    ("U-Net", 960, "flips"),
    ("U-Net", 15, "none"),
    ("U-Net", 240, "none"),
    ("U-Net", 15, "zoom and colour"),
    ("U-Net", 240, "zoom and colour"),
    ("U-Net", 30, "flips"),
    ("U-Net", 120, "flips"),
]
BEYOND = {("U-Net", 240, "zoom and colour"): 1e-3, ("U-Net without skips", 240, "flips"): 1.6e-2}


@cache
def splits(height: int, width: int) -> dict[str, Any]:
    plain = eval_transform(height, width)
    dev = RenderedStreets(range(3000, 3060), 144, 192)
    return {
        "train": InMemory.copy_of(Streets("train")),
        "dev": InMemory.copy_of(dev, plain),
        "val": InMemory.copy_of(Streets("val"), plain),
        "test": InMemory.copy_of(Streets("test"), plain),
    }


def chosen(images: int, seed: int, settings: dict[str, Any]) -> InMemory:
    """The images to learn from: a smaller number is part of the larger one with the same seed."""
    source = splits(settings["height"], settings["width"])["train"]
    order = np.random.default_rng(seed).permutation(len(source))[:images]
    if images > len(source):
        more = {"first_seed": 10_000, "scenes": images, "scene_size": [144, 192], "light": "day"}
        source, order = arms.rendered_streets(more, None), np.arange(images)
    return InMemory(source.images[order], source.masks[order], source)


def train_arm(arm: tuple[str, int, str], settings: dict[str, Any], seed: int) -> tuple[Any, ...]:
    net, images, augmentation = arm
    settings = {**settings, **AUGMENTATION[augmentation]}
    data = chosen(images, seed, settings)
    data.transform = arms.augmentation(settings)
    model, budget = nets.train_net(NETS[net], data, settings, seed)
    return model, data, {"lr": settings["lr"], **budget}


def label(arm: tuple[str, int, str]) -> str:
    return f"{arm[0]}, {arm[1]} images, {arm[2]}"


# ---------------------------------------------------------------- parts


def tuning(job: Job) -> None:
    for arm in ARMS:
        if arm[1] in (15, 240):
            for lr in job.settings["rates"]:
                job.once(
                    f"{label(arm)}, lr {lr}",
                    job.settings["tuning_seed"],
                    tune,
                    arm,
                    {**job.settings, "lr": lr},
                )


def edges(job: Job) -> None:
    """Where the best of the three rates was the lowest or highest: one beyond it."""
    for arm, lr in BEYOND.items():
        job.once(
            f"{label(arm)}, lr {lr}",
            job.settings["tuning_seed"],
            tune,
            arm,
            {**job.settings, "lr": lr},
        )


def tune(arm: tuple[str, int, str], settings: dict[str, Any]) -> dict[str, Any]:
    model, _, budget = train_arm(arm, settings, settings["tuning_seed"])
    data = splits(settings["height"], settings["width"])["dev"]
    return {**budget, "dev": scores_on(model, data)}


def rate(job: Job, arm: tuple[str, int, str]) -> float:
    """The learning rate that won on dev; sizes in between take the nearer one's."""
    near = 15 if arm[1] < 60 else 240
    start = label((arm[0], near, arm[2])) + ", lr "
    runs = job.record.read()["parts"]["tuning"]["runs"]
    found = [run for run in runs if run["arm"].startswith(start)]
    if len(found) < len(job.settings["rates"]):
        raise ValueError(f"{label(arm)}: its learning rate is not tuned yet; run the part tuning")
    return float(max(found, key=lambda run: run["dev"]["miou"])["lr"])


def compare(job: Job) -> None:
    for arm in ARMS:
        for seed in job.seeds:
            settings = {**job.settings, "lr": rate(job, arm)}
            job.once(label(arm), seed, measure, arm, settings, seed)


def live(job: Job) -> None:
    arm = ARMS[0]
    for seed in job.seeds:
        settings = {**job.settings, "lr": rate(job, arm)}
        job.once(label(arm), seed, measure, arm, settings, seed)


def measure(arm: tuple[str, int, str], settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Scores on what was seen (60 images at most), val and test; errors by distance; maps."""
    model, data, budget = train_arm(arm, settings, seed)
    found = splits(settings["height"], settings["width"])
    seen = InMemory(data.images[:60], data.masks[:60], data, found["test"].transform)
    result = {
        **budget,
        "seen": scores_on(model, seen),
        "val": scores_on(model, found["val"]),
        "test": scores_on(model, found["test"]),
        "border_errors": nets.border_errors(model, found["test"], settings["rings"]),
    }
    if seed == 0:
        maps = nets.label_maps(model, found["test"], settings["shown"])
        result["maps"] = {
            str(i): nets.as_text(labels) for i, labels in zip(settings["shown"], maps, strict=True)
        }
    return result


# ---------------------------------------------------------------- settings

UNET = {
    "height": 72,
    "width": 96,
    "batch_size": 4,
    "weight_decay": 0.01,
    "class_weights": "enet",
    "base_channels": 8,
}
RATES = {"rates": [2e-3, 4e-3, 8e-3], "tuning_seed": 100}
KEPT = {**RATES, "rings": [1, 2, 3, 5, 9, 1e9], "shown": [3, 8, 20]}
CODE = (
    *TRAINING,
    "WithoutSkips EncoderOnly train_net",
    "NETS AUGMENTATION ARMS splits chosen train_arm label",
    "data/streets",
    *RENDERING,
)
MEASURED = (
    *CODE,
    "rate measure",
    "border_distance error_by_distance",
    "label_maps border_errors as_text",
)

PARTS = {
    "tuning": Part(tuning, (*CODE, "tuning tune"), {**UNET, **RATES, "images": 2000}),
    "edges": Part(
        edges, (*CODE, "BEYOND edges tune"), {**UNET, "tuning_seed": 100, "images": 2000}
    ),
    "live": Part(live, MEASURED, {**UNET, **KEPT, "images": 1440}, seeds=20),
    "arms": Part(compare, MEASURED, {**UNET, **KEPT, "images": 6000}, seeds=5),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, summary_table)
