"""Do rendered days help with real streets, when few of these are labelled?

    python experiments/05_real.py --root ../shared/datasets      # an hour and a half, in two
    python experiments/05_real.py small                          # some of the parts
    python experiments/05_real.py --table                        # what the record says

tuning  the learning rate of each arm, for each number of CamVid frames, at 96×128: trained on the
        split fit, scored on the drive dev
edges   the next rate up for the arms whose best one was the highest of the three
small   20, 60 and 367 frames of train at 96×128, output stride 16: from scratch, and from the
        checkpoint that the course carries, which has seen rendered scenes only; also without any
        training on CamVid (zero-shot)
longer  from scratch with three times the images seen, at the same rates: 20 and 367 frames, 96×128
large   the same as small at 180×240 and output stride 8, where ASPP's rates are twice as large,
        with the learning rates of 96×128

Test mIoU, void dropped, one confusion matrix, with the bootstrap interval over the two drives of
test and the mIoU of each. A seed decides which frames are taken (the same for both arms), the
head and the order; the last epoch's weights count. Without CamVid nothing is measured.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from functools import cache
from typing import Any

import arms
import finetuning
import numpy as np
import torch
from arms import InMemory
from records import Job, Part, main, summary_table

from seglib.data import CamVid
from seglib.transforms import eval_transform, resize_image, resize_mask

FRAMES = (20, 60, 367)
ARMS: dict[str, dict[str, Any]] = {"from scratch": {}, "from the checkpoint": {"pretrained": True}}
AT_THE_EDGE = (*((frames, "from scratch") for frames in FRAMES), (20, "from the checkpoint"))

# ---------------------------------------------------------------- data


@cache
def reduced(data: Any, height: int, width: int) -> InMemory:
    """All of a split, reduced to the height and width once."""
    pairs = [data.read(i) for i in range(len(data))]
    return InMemory(
        np.stack([resize_image(image, height, width) for image, _ in pairs]),
        np.stack([resize_mask(mask, height, width) for _, mask in pairs]),
        data,
    )


def chosen(data: InMemory, frames: int, seed: int, settings: dict[str, Any]) -> InMemory:
    """Some frames of `data`, with augmentation: of a seed, the fewer are among the more."""
    order = np.random.default_rng(seed).permutation(len(data))[:frames]
    augmentation = arms.augmentation({**AUGMENTATION, **settings})
    return InMemory(data.images[order], data.masks[order], data, augmentation)


def scored_on(data: Any, settings: dict[str, Any]) -> InMemory:
    size = settings["height"], settings["width"]
    small = reduced(data, *size)
    return InMemory(small.images, small.masks, small, eval_transform(*size))


# ---------------------------------------------------------------- parts


def label(frames: int, arm: str) -> str:
    return f"{frames} frames, {arm}"


def tuning(job: Job) -> None:
    data, dev = job.open(CamVid, "fit"), job.open(CamVid, "dev")
    if data is None:
        return
    for frames in FRAMES:
        for arm, how in ARMS.items():
            for lr in job.settings["rates"]:
                job.once(
                    f"{label(frames, arm)}, lr {lr:g}",
                    job.settings["tuning_seed"],
                    tune,
                    data,
                    dev,
                    frames,
                    how,
                    {**job.settings, "lr": lr},
                )


def edges(job: Job) -> None:
    data, dev = job.open(CamVid, "fit"), job.open(CamVid, "dev")
    if data is None:
        return
    for frames, arm in AT_THE_EDGE:
        lr = job.settings["rate"]
        job.once(
            f"{label(frames, arm)}, lr {lr:g}",
            job.settings["tuning_seed"],
            tune,
            data,
            dev,
            frames,
            ARMS[arm],
            {**job.settings, "lr": lr},
        )


def tune(
    data: Any, dev: Any, frames: int, how: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    seed = settings["tuning_seed"]
    model, budget = trained(data, frames, how, settings, seed)
    return {**budget, "dev": finetuning.score(model, scored_on(dev, settings))}


def trained(
    data: Any, frames: int, how: dict[str, Any], settings: dict[str, Any], seed: int
) -> tuple[torch.nn.Module, dict[str, Any]]:
    kept = reduced(data, round(1.5 * settings["height"]), round(1.5 * settings["width"]))
    subset = chosen(kept, frames, seed, settings)
    model = network(how.get("pretrained", False), seed, settings)
    return model, finetuning.train(model, subset, settings, seed, how)


def network(pretrained: bool, seed: int, settings: dict[str, Any]) -> torch.nn.Module:
    return finetuning.build(
        11,
        pretrained,
        seed,
        output_stride=settings["output_stride"],
        atrous_rates=tuple(settings["atrous_rates"]),
    )


def rate(job: Job, frames: int, arm: str) -> float:
    """The learning rate that won on dev at 96×128."""
    runs = job.record.read()["parts"].get("tuning", {"runs": []})["runs"]
    found = [run for run in runs if run["arm"].startswith(f"{label(frames, arm)}, lr ")]
    if len(found) < len(job.settings["rates"]):
        raise ValueError(f"{label(frames, arm)} is not tuned yet; run the part tuning")
    return float(max(found, key=lambda run: run["dev"]["miou"])["lr"])


def compare(job: Job) -> None:
    data, test = job.open(CamVid, "train"), job.open(CamVid, "test")
    if data is None:
        return
    job.once("zero-shot", 0, zero_shot, test, job.settings)
    for seed in job.seeds:
        for frames in FRAMES:
            for arm, how in ARMS.items():
                settings = {**job.settings, "lr": rate(job, frames, arm)}
                job.once(label(frames, arm), seed, measure, data, test, frames, how, settings, seed)


def longer(job: Job) -> None:
    data, test = job.open(CamVid, "train"), job.open(CamVid, "test")
    if data is None:
        return
    for seed in job.seeds:
        for frames in (20, 367):
            settings = {**job.settings, "lr": rate(job, frames, "from scratch")}
            job.once(
                label(frames, "from scratch"), seed, measure, data, test, frames, {}, settings, seed
            )


def zero_shot(test: Any, settings: dict[str, Any]) -> dict[str, Any]:
    model = network(True, 0, settings)
    return {"test": finetuning.score(model, scored_on(test, settings), test.groups)}


def measure(
    data: Any, test: Any, frames: int, how: dict[str, Any], settings: dict[str, Any], seed: int
) -> dict[str, Any]:
    model, budget = trained(data, frames, how, settings, seed)
    return {**budget, "test": finetuning.score(model, scored_on(test, settings), test.groups)}


# ---------------------------------------------------------------- settings

AUGMENTATION = {"zoom": [0.9, 2.0], "stretch": 1.2, "flip": 0.5, "colour": 0.3}
NET = {"batch_size": 8, "weight_decay": 0.01, "rates": [3e-4, 1e-3, 3e-3], "tuning_seed": 100}
SMALL = {
    **NET,
    "height": 96,
    "width": 128,
    "output_stride": 16,
    "atrous_rates": [1, 2, 3],
    "images": 2400,
}
LARGE = {
    **NET,
    "height": 180,
    "width": 240,
    "output_stride": 8,
    "atrous_rates": [2, 4, 6],
    "images": 1200,
}
CODE = (
    *finetuning.CODE,
    "CamVid",
    "AUGMENTATION FRAMES ARMS reduced chosen scored_on label trained network",
)
MEASURED = (*CODE, "rate compare zero_shot measure")

PARTS = {
    "tuning": Part(tuning, (*CODE, "tuning tune"), SMALL),
    "edges": Part(edges, (*CODE, "AT_THE_EDGE edges tune"), {**SMALL, "rates": [], "rate": 1e-2}),
    "small": Part(compare, MEASURED, SMALL, seeds=3),
    "longer": Part(longer, (*CODE, "rate measure longer"), {**SMALL, "images": 7200}, seeds=3),
    "large": Part(compare, MEASURED, LARGE, seeds=3),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, summary_table)
