"""What do labels that lie half a pixel off cost a network?

    python experiments/01_half_pixel.py               # 20 minutes; two processes share the work
    python experiments/01_half_pixel.py --table       # what the record says

The 240 scenes of Streets train, rendered at 360×480 and reduced to 96×128: photos by area; masks
by the pixel at the centre, or by OpenCV's INTER_NEAREST, which reads the top-left pixel of each
cell. A U-Net (base 8) learns from one or the other; both are tested with centred masks of the 60
scenes of Streets test. Void dropped, one confusion matrix, the last epoch's weights.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from functools import cache
from typing import Any

import arms
import cv2
import nets
import numpy as np
from arms import RENDERING, TRAINING, InMemory, scores_on
from records import Job, Part, main, summary_table

from seglib.data import RenderedStreets
from seglib.models.unet import UNet
from seglib.transforms import eval_transform, resize_image, resize_mask

ARMS = ("centred", "OpenCV nearest")
SEEDS = {"train": range(240), "test": range(2000, 2060), "dev": range(3000, 3060)}


@cache
def scenes(split: str, arm: str, height: int, width: int) -> InMemory:
    """Scenes of 360×480 reduced to (height, width), masks as `arm` says."""
    images, large, like = rendered(split, height, width)
    if arm == "centred":
        masks = [resize_mask(mask, height, width) for mask in large]
    else:
        masks = [
            cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) for mask in large
        ]
    return InMemory(images, np.stack(masks), like)


@cache
def rendered(split: str, height: int, width: int) -> tuple[Any, ...]:
    data = RenderedStreets(SEEDS[split], 360, 480)
    pairs = [data.read(i) for i in range(len(data))]
    images = np.stack([resize_image(image, height, width) for image, _ in pairs])
    return images, [mask for _, mask in pairs], data


def learn(arm: str, settings: dict[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    data = scenes("train", arm, settings["height"], settings["width"])
    data.transform = arms.augmentation(settings)
    model, budget = nets.train_net(UNet, data, settings, seed)
    return model, {"lr": settings["lr"], **budget}


def centred(split: str, settings: dict[str, Any]) -> InMemory:
    size = settings["height"], settings["width"]
    data = scenes(split, "centred", *size)
    data.transform = eval_transform(*size)
    return data


def tuning(job: Job) -> None:
    for arm in ARMS:
        for lr in job.settings["rates"]:
            job.once(
                f"{arm}, lr {lr}",
                job.settings["tuning_seed"],
                tune,
                arm,
                {**job.settings, "lr": lr},
            )


def tune(arm: str, settings: dict[str, Any]) -> dict[str, Any]:
    model, budget = learn(arm, settings, settings["tuning_seed"])
    return {**budget, "dev": scores_on(model, centred("dev", settings))}


def compare(job: Job) -> None:
    runs = job.record.read()["parts"]["tuning"]["runs"]
    for arm in ARMS:
        found = [run for run in runs if run["arm"].startswith(f"{arm}, lr ")]
        if len(found) < len(job.settings["rates"]):
            raise ValueError(f"{arm}: its learning rate is not tuned yet; run the part tuning")
        lr = max(found, key=lambda run: run["dev"]["miou"])["lr"]
        for seed in job.seeds:
            job.once(arm, seed, measure, arm, {**job.settings, "lr": lr}, seed)


def measure(arm: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    model, budget = learn(arm, settings, seed)
    return {**budget, "test": scores_on(model, centred("test", settings))}


SETTINGS = {
    "height": 96,
    "width": 128,
    "batch_size": 4,
    "weight_decay": 0.01,
    "class_weights": "enet",
    "base_channels": 8,
    "flip": 0.5,
    "zoom": [1.0, 1.0],
    "stretch": 1.0,
    "colour": 0.0,
    "rates": [1e-3, 2e-3, 4e-3, 8e-3],
    "tuning_seed": 100,
}
CODE = (*TRAINING, *RENDERING, "train_net", "SEEDS scenes rendered learn centred")

PARTS = {
    "tuning": Part(tuning, (*CODE, "tuning tune"), {**SETTINGS, "images": 1000}),
    "arms": Part(compare, (*CODE, "compare measure"), {**SETTINGS, "images": 3000}, seeds=5),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, summary_table)
