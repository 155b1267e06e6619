"""Which loss finds small lesions, and which scores best on streets?

    python experiments/03_losses.py                   # all parts, an hour in two processes
    python experiments/03_losses.py tuning lesions    # some of them
    python experiments/03_losses.py --table           # what the record says

tuning   each arm's learning rate: three of them at the full budget, scored on other images (dev)
lesions  slices of 64×64 with a lesion of 4, 1, 0.3 or 0.1 % of the pixels, 1,000 steps of four
         at a constant rate: what of the lesions is found after every 40 steps; at 1 % also
         Tversky losses, at the learning rate of Dice
longer   cross-entropy on lesions of 0.1 % for 3,000 steps, at two rates: does it start at all?
streets  nine losses on Streets at 72×96, 720 steps of four, one-cycle
race     what the lesson trains itself: lesions of 0.3 %, 240 steps, one rate (that of both tuned
         arms, 0.005): cross-entropy, Dice, their sum, and cross-entropy whose last layer starts
         at the logarithms of the class frequencies

A U-Net (base 8) each time, flips, the last epoch's weights; void dropped, one confusion matrix
over the split. Lesions stand out (contrast 3), so that how rare they are decides and not how hard
to see. Several processes may run this at once: one thread each (OMP_NUM_THREADS=1) is fastest.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from functools import cache
from typing import Any

import arms
import torch
from arms import LOOP, OVERLAP, RENDERED_SLICES, RENDERING, UNET, InMemory
from records import Job, Part, main, summary_table
from watched import borders_of, calibration_of, logits_on, scores_of, stacked, train_unet

from seglib.data import RenderedScans, RenderedStreets, Streets, class_statistics, make_loader
from seglib.losses import (
    CombinedLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszSoftmaxLoss,
    TverskyLoss,
    class_weights,
)
from seglib.models.unet import UNet
from seglib.training import fit
from seglib.transforms import eval_transform

FLIPS = {"flip": 0.5, "zoom": [1.0, 1.0], "stretch": 1.0, "colour": 0.0}
SHARES = (4.0, 1.0, 0.3, 0.1)  # per cent of the pixels
SEEDS = {"train": range(160), "dev": range(3000, 3040), "test": range(2000, 2040)}
LOSSES = {
    "cross-entropy": lambda data: CrossEntropyLoss(),
    "cross-entropy, median weights": lambda data: weighted(data, "median"),
    "cross-entropy, ENet weights": lambda data: weighted(data, "enet"),
    "focal": lambda data: FocalLoss(gamma=2.0),
    "Dice": lambda data: DiceLoss(),
    "Tversky 0.3/0.7": lambda data: TverskyLoss(0.3, 0.7),
    "Lovász": lambda data: LovaszSoftmaxLoss(),
    "cross-entropy + Dice": lambda data: CombinedLoss(),
    "cross-entropy + Lovász": lambda data: CombinedLoss(
        {CrossEntropyLoss(): 1.0, LovaszSoftmaxLoss(): 1.0}
    ),
}
ON_LESIONS = ("cross-entropy", "cross-entropy, median weights", "Dice")
TRADE = {
    "Tversky 0.1/0.9": (0.1, 0.9),
    "Tversky 0.3/0.7": (0.3, 0.7),
    "Tversky 0.7/0.3": (0.7, 0.3),
    "Tversky 0.9/0.1": (0.9, 0.1),
}
TRADE_SHARE = 1.0
RACE = {  # whether the last layer's bias starts at the logarithms of the class frequencies
    "cross-entropy": False,
    "Dice": False,
    "cross-entropy + Dice": False,
    "cross-entropy, prior bias": True,
}


def weighted(data: Any, method: str) -> CrossEntropyLoss:
    return CrossEntropyLoss(class_weights(class_statistics(data), method))


# ---------------------------------------------------------------- data


@cache
def scans(split: str, share: float, height: int, width: int, contrast: float) -> InMemory:
    """Slices that all have a lesion of `share` per cent."""
    slices = RenderedScans(
        SEEDS[split], height, width, lesion_size=share / 100, lesion=True, contrast=contrast
    )
    transform = (
        arms.augmentation({**FLIPS, "height": height, "width": width})
        if split == "train"
        else eval_transform(height, width)
    )
    return InMemory.copy_of(slices, transform)


@cache
def streets(split: str, height: int, width: int) -> InMemory:
    if split == "train":
        flips = arms.augmentation({**FLIPS, "height": height, "width": width})
        return InMemory.copy_of(Streets("train"), flips)
    dev = RenderedStreets(SEEDS["dev"], 144, 192)
    return InMemory.copy_of(
        dev if split == "dev" else Streets(split), eval_transform(height, width)
    )


def on_lesions(arm: tuple[str, float], split: str, settings: dict[str, Any]) -> InMemory:
    return scans(split, arm[1], settings["height"], settings["width"], settings["contrast"])


def label(arm: tuple[str, float]) -> str:
    return f"lesions of {arm[1]:g} %, {arm[0]}"


# ---------------------------------------------------------------- parts


def tuning_lesions(job: Job) -> None:
    for share in SHARES:
        for loss in ON_LESIONS:
            for lr in job.settings["rates"]:
                job.once(
                    f"{label((loss, share))}, lr {lr}",
                    job.settings["tuning_seed"],
                    tune_lesions,
                    (loss, share),
                    {**job.settings, "lr": lr},
                )


def tune_lesions(arm: tuple[str, float], settings: dict[str, Any]) -> dict[str, Any]:
    data, dev = on_lesions(arm, "train", settings), on_lesions(arm, "dev", settings)
    model, budget = train_unet(data, LOSSES[arm[0]](data), settings, settings["tuning_seed"])
    images, target = stacked(dev)
    return {**budget, "dev": scores_of(logits_on(model, images), target, dev.classes)}


def tuning_streets(job: Job) -> None:
    for loss in LOSSES:
        for lr in job.settings["rates"]:
            job.once(
                f"{loss}, lr {lr}",
                job.settings["tuning_seed"],
                tune_streets,
                loss,
                {**job.settings, "lr": lr},
            )


def tune_streets(loss: str, settings: dict[str, Any]) -> dict[str, Any]:
    size = settings["height"], settings["width"]
    data, dev = streets("train", *size), streets("dev", *size)
    model, budget = train_unet(data, LOSSES[loss](data), settings, settings["tuning_seed"])
    images, target = stacked(dev)
    return {**budget, "dev": scores_of(logits_on(model, images), target, dev.classes)}


def rate(job: Job, part: str, arm: str) -> float:
    """The learning rate that won on dev."""
    runs = job.record.read()["parts"][part]["runs"]
    found = [run for run in runs if run["arm"].startswith(f"{arm}, lr ")]
    if len(found) < len(job.settings["rates"]):
        raise ValueError(f"{arm}: its learning rate is not tuned yet; run the part {part}")
    return float(max(found, key=lambda run: run["dev"]["miou"])["lr"])


def lesions(job: Job) -> None:
    for seed in job.seeds:
        for share in SHARES:
            for loss in ON_LESIONS:
                lr = rate(job, "tuning_lesions", label((loss, share)))
                job.once(
                    label((loss, share)),
                    seed,
                    watch_lesions,
                    (loss, share),
                    {**job.settings, "lr": lr},
                    seed,
                )
        for loss in TRADE:
            lr = rate(job, "tuning_lesions", label(("Dice", TRADE_SHARE)))
            job.once(
                label((loss, TRADE_SHARE)),
                seed,
                watch_lesions,
                (loss, TRADE_SHARE),
                {**job.settings, "lr": lr},
                seed,
            )


def longer(job: Job) -> None:
    arm = ("cross-entropy", SHARES[-1])
    for seed in job.seeds:
        for lr in job.settings["rates"]:
            job.once(
                f"{label(arm)}, lr {lr}", seed, watch_lesions, arm, {**job.settings, "lr": lr}, seed
            )


def watch_lesions(arm: tuple[str, float], settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """What is found of the test lesions after every epoch, and how probable they are there."""
    data, test = on_lesions(arm, "train", settings), on_lesions(arm, "test", settings)
    images, target = stacked(test)
    lesion = target == 1

    def watch(model: torch.nn.Module) -> dict[str, Any]:
        logits = logits_on(model, images)
        found = scores_of(logits, target, test.classes)
        probability = logits.softmax(1)[:, 1]
        return {
            "recall": found["recall"]["lesion"],
            "precision": found["precision"]["lesion"],
            "iou": found["iou"]["lesion"],
            "probability": round(probability[lesion].mean().item(), 4),
            "elsewhere": round(probability[~lesion].mean().item(), 5),
        }

    loss = TverskyLoss(*TRADE[arm[0]]) if arm[0] in TRADE else LOSSES[arm[0]](data)
    model, budget = train_unet(data, loss, settings, seed, watch)
    return {**budget, "test": scores_of(logits_on(model, images), target, test.classes)}


def race(job: Job) -> None:
    for seed in job.seeds:
        for arm in RACE:
            job.once(label((arm, job.settings["share"])), seed, run_race, arm, job.settings, seed)


def run_race(arm: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """What is found of the test lesions after every epoch, as in `watch_lesions`.

    And in the end, if a pixel is called lesion from some probability on: the threshold with the
    highest IoU on dev, and what it finds on test.
    """
    data, test = (
        on_lesions((arm, settings["share"]), split, settings) for split in ("train", "test")
    )
    (images, target), watched = stacked(test), []
    lesion = target == 1
    loader = make_loader(data, settings["batch_size"], shuffle=True, seed=seed)
    torch.manual_seed(seed)
    model = UNet(data.num_classes, base_channels=settings["base_channels"])
    if RACE[arm]:
        pixels = torch.tensor(class_statistics(data).pixels, dtype=torch.float64)
        model.head.bias.data = (pixels / pixels.sum()).log().float()

    def watch(model: torch.nn.Module, row: dict[str, float]) -> None:
        logits = logits_on(model, images)
        found = scores_of(logits, target, test.classes)
        chance = logits.softmax(1)[:, 1]
        watched.append(
            {
                "step": int(row["epoch"]) * len(loader),
                **{key: found[key]["lesion"] for key in ("recall", "precision", "iou")},
                "probability": round(chance[lesion].mean().item(), 4),
                "elsewhere": round(chance[~lesion].mean().item(), 5),
            }
        )

    epochs = settings["images"] // (len(loader) * settings["batch_size"])
    history = fit(
        model,
        loader,
        epochs=epochs,
        lr=settings["lr"],
        loss=LOSSES[arm.removesuffix(", prior bias")](data),
        weight_decay=settings["weight_decay"],
        schedule=settings["schedule"],
        seed=seed,
        on_epoch=watch,
    )
    tried = [n / 100 for n in range(1, 100)]
    dev_images, dev = stacked(on_lesions((arm, settings["share"]), "dev", settings))
    on_dev = logits_on(model, dev_images).softmax(1)[:, 1]
    best = max(tried, key=lambda t: from_threshold(on_dev, dev == 1, t)["iou"])
    chance = logits_on(model, images).softmax(1)[:, 1]
    return {
        "epochs": epochs,
        "images_seen": settings["images"],
        "lr": settings["lr"],
        "curve": [round(row["train_loss"], 4) for row in history.rows],
        "watched": watched,
        "thresholds": {
            name: {"threshold": t, **from_threshold(chance, lesion, t)}
            for name, t in (("half", 0.5), ("best on dev", best))
        },
    }


def from_threshold(chance: torch.Tensor, lesion: torch.Tensor, threshold: float) -> dict[str, Any]:
    """Recall, precision and IoU of the lesion if it is every pixel from this probability on."""
    called = chance >= threshold
    hits, found, there = (int(x.sum()) for x in (called & lesion, called, lesion))
    return {
        "recall": round(hits / there, 4),
        "precision": round(hits / found, 4) if found else None,
        "iou": round(hits / (found + there - hits), 4),
    }


def compare_streets(job: Job) -> None:
    for seed in job.seeds:
        for loss in LOSSES:
            settings = {**job.settings, "lr": rate(job, "tuning_streets", loss)}
            job.once(loss, seed, measure_streets, loss, settings, seed)


def measure_streets(loss: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    size = settings["height"], settings["width"]
    data, test = streets("train", *size), streets("test", *size)
    model, budget = train_unet(data, LOSSES[loss](data), settings, seed)
    images, target = stacked(test)
    logits = logits_on(model, images)
    return {
        **budget,
        "test": scores_of(logits, target, test.classes),
        "borders": borders_of(logits, target, settings["distance"]),
        "calibration": calibration_of(logits, target),
    }


# ---------------------------------------------------------------- settings

NET = {"batch_size": 4, "weight_decay": 0.01, "base_channels": 8}
RATES = {"rates": [2e-3, 5e-3, 1.25e-2], "tuning_seed": 100}
SLICES = {**NET, **RATES, "height": 64, "width": 64, "contrast": 3.0, "schedule": "constant"}
SCENES = {**NET, **RATES, "height": 72, "width": 96, "schedule": "onecycle"}

CODE = (
    LOOP,
    UNET,
    OVERLAP,
    "CrossEntropyLoss FocalLoss CombinedLoss class_weights",
    "InMemory augmentation train_unet logits_on",
    "FLIPS SHARES SEEDS LOSSES ON_LESIONS TRADE TRADE_SHARE weighted",
)
ON_SLICES = (*CODE, *RENDERED_SLICES, "scans on_lesions label")
ON_SCENES = (*CODE, *RENDERING, "data/streets", "streets")

PARTS = {
    "tuning_lesions": Part(
        tuning_lesions, (*ON_SLICES, "tuning_lesions tune_lesions"), {**SLICES, "images": 4000}
    ),
    "lesions": Part(
        lesions, (*ON_SLICES, "lesions rate watch_lesions"), {**SLICES, "images": 4000}, seeds=5
    ),
    "longer": Part(
        longer,
        (*ON_SLICES, "longer watch_lesions"),
        {**SLICES, "rates": [2e-3, 5e-3], "images": 12_000},
        seeds=5,
    ),
    "race": Part(
        race,
        (*ON_SLICES, "RACE race run_race from_threshold"),
        {**SLICES, "lr": 5e-3, "share": 0.3, "images": 960},
        seeds=20,
    ),
    "tuning_streets": Part(
        tuning_streets, (*ON_SCENES, "tuning_streets tune_streets"), {**SCENES, "images": 2880}
    ),
    "streets": Part(
        compare_streets,
        (*ON_SCENES, "compare_streets rate measure_streets", "borders_of calibration_of"),
        {**SCENES, "images": 2880, "distance": 1},
        seeds=5,
    ),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, summary_table)
