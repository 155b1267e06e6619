"""Are the embedded data sets like the real ones: as hard, as skewed, and good enough to learn on?

    python experiments/00_data.py                     # all parts, 75 minutes on two idle cores
    python experiments/00_data.py shares baselines    # some of them
    python experiments/00_data.py --root ../shared/datasets --seeds 3
    python experiments/00_data.py --table             # what data/README.md must contain

shares      per class, its share of all pixels and of the images; void too
baselines   constant road, location prior, classifiers of single pixels, at 96×128
same_steps  one U-Net (base 16), equally many steps on CamVid and on Streets
short       a U-Net (base 8) on Streets, 35 seconds of training
long        the same, fifteen minutes
transfer    a U-Net that has seen rendered scenes only, tested on CamVid
scans       grey values and a U-Net on Scans; that U-Net tested on Ultrasound

Everywhere: void pixels dropped, one confusion matrix over the split, mean IoU over the classes,
photos and masks reduced as `eval_transform` does, the last epoch's weights. Without CamVid (or
Ultrasound) the parts that need it say so, and the rest runs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from functools import cache
from typing import Any

import arms
import baselines
import numpy as np
from arms import RENDERING, TRAINING, InMemory, scores_on, short, train
from data_table import table
from records import Job, Part, main

from seglib.data import CamVid, Scans, Streets, Ultrasound, class_statistics, make_loader
from seglib.metrics import Scores
from seglib.training import evaluate
from seglib.transforms import eval_transform

SPLITS = ("train", "val", "test")

# ---------------------------------------------------------------- without a network


def shares(job: Job) -> None:
    for dataset in (Streets, CamVid):
        for split in SPLITS:
            if data := job.open(dataset, split):
                job.once(f"{dataset.title} {split}", 0, count, data)


def count(data: Any) -> dict[str, Any]:
    """Fractions of all pixels, void included, and of the images that have at least one pixel."""
    found = class_statistics(data)
    whole = int(found.pixels.sum()) + found.void

    def named(values: Any) -> dict[str, float]:
        rounded = (round(float(value), 5) for value in values)
        return dict(zip(found.classes, rounded, strict=True))

    return {
        "images": found.total_images,
        "share": named(found.pixels / whole),
        "void": round(found.void / whole, 5),
        "images_with": named(found.images / found.total_images),
    }


def location_and_pixels(job: Job) -> None:
    methods = {
        "logistic regression on RGB": ("logistic regression", "rgb"),
        "MLP on RGB and position": ("mlp", "rgb and position"),
    }
    for dataset in (Streets, CamVid):
        splits = {split: job.open(dataset, split) for split in SPLITS}
        if None in splits.values():
            continue
        small = sizes(splits, job.settings)
        job.once(f"{dataset.title} constant road", 0, constant, small, splits["train"])
        job.once(f"{dataset.title} location prior", 0, prior, small, splits["train"])
        for name, (method, kind) in methods.items():
            for seed in job.seeds:
                job.once(
                    f"{dataset.title} {name}",
                    seed,
                    classify,
                    small,
                    splits["train"],
                    method,
                    kind,
                    job.settings["pixels"],
                    seed,
                )


def sizes(splits: dict[str, Any], settings: dict[str, Any]) -> Any:
    """A function that reads and reduces a split, once."""
    return cache(
        lambda split: baselines.arrays(splits[split], settings["height"], settings["width"])
    )


def constant(small: Any, data: Any) -> dict[str, Any]:
    return judge(lambda images: np.uint8(data.classes.index("Road")), small, data.classes)


def prior(small: Any, data: Any) -> dict[str, Any]:
    labels = baselines.location_prior(small("train")[1], data.num_classes)
    return judge(lambda images: labels, small, data.classes)


def classify(small: Any, data: Any, *options: Any) -> dict[str, Any]:
    fitted = baselines.PixelClassifier(*options).fit(*small("train"))
    return judge(fitted.predict, small, data.classes)


def judge(predict: Any, small: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    """Scores on val and test of a function from images to labels."""
    found = {}
    for split in SPLITS[1:]:
        images, masks = small(split)
        scores = baselines.score(predict(images), masks, len(classes))
        found[split] = short(Scores(scores.matrix, classes))
    return found


# ---------------------------------------------------------------- with a U-Net


def learn(job: Job, dataset: Any) -> None:
    """Train on `dataset`, test on its val and test; each seed is a run."""
    plain = eval_transform(job.settings["height"], job.settings["width"])
    data = [
        job.open(dataset, "train", arms.augmentation(job.settings)),
        *(job.open(dataset, split, plain) for split in SPLITS[1:]),
    ]
    if None not in data:
        for seed in job.seeds:
            job.once(dataset.title, seed, train_and_test, *data, job.settings, seed)


def train_and_test(
    data: Any, val: Any, test: Any, settings: dict[str, Any], seed: int
) -> dict[str, Any]:
    model, budget = train(InMemory.copy_of(data, data.transform), settings, seed)
    scores = scores_on(model, test, by_group=isinstance(test, CamVid))
    order = sorted(scores["iou"], key=lambda name: scores["iou"][name] or 0)
    lowest = {"lowest_five": order[:5]} if len(order) > 5 else {}
    return {**budget, "val": scores_on(model, val), "test": scores, **lowest}


def same_steps(job: Job) -> None:
    for dataset in (CamVid, Streets):
        learn(job, dataset)


def streets_only(job: Job) -> None:
    learn(job, Streets)


def transfer(job: Job) -> None:
    plain = eval_transform(job.settings["height"], job.settings["width"])
    real = {split: job.open(CamVid, split, plain) for split in SPLITS[1:]}
    if None not in real.values():
        for seed in job.seeds:
            job.once("rendered to CamVid", seed, from_rendered, real, job.settings, seed)


def from_rendered(real: dict[str, Any], settings: dict[str, Any], seed: int) -> dict[str, Any]:
    import albumentations as A

    extra = [
        A.RandomGamma((60, 160), p=0.5),
        A.RGBShift(25, 25, 25, p=0.5),
        A.ToGray(p=0.1),
        A.GaussianBlur(sigma_limit=(0.3, 1.2), p=0.3),
        A.GaussNoise((0.01, 0.06), p=0.3),
    ]
    data = arms.rendered_streets(settings, arms.augmentation(settings, extra))
    model, budget = train(data, settings, seed)
    return {
        **budget,
        **{split: scores_on(model, data, by_group=True) for split, data in real.items()},
    }


# ---------------------------------------------------------------- scans


def scans(job: Job) -> None:
    settings = job.settings
    plain = eval_transform(settings["height"], settings["width"])
    splits = {split: job.open(Scans, split, plain) for split in SPLITS}
    real = job.open(Ultrasound, "test", plain)
    if None in splits.values():
        return
    small = sizes(splits, settings)
    for method in ("logistic regression", "balanced logistic regression"):
        job.once(
            f"Scans {method} on grey",
            0,
            classify,
            small,
            splits["train"],
            method,
            "grey",
            settings["pixels"],
            0,
        )
    data = InMemory.copy_of(splits["train"], arms.augmentation(settings))
    trained = cache(lambda seed: train(data, settings, seed))
    for seed in job.seeds:
        job.once("Scans U-Net", seed, on_scans, trained, splits, seed)
        if real is not None:
            job.once("Scans to Ultrasound", seed, on_ultrasound, trained, real, seed)


def on_scans(trained: Any, splits: dict[str, Any], seed: int) -> dict[str, Any]:
    model, budget = trained(seed)
    return {**budget, **{split: scores_on(model, splits[split]) for split in SPLITS[1:]}}


def on_ultrasound(trained: Any, real: Any, seed: int) -> dict[str, Any]:
    """Vessel against all else: a lesion and a nerve have nothing in common."""
    matrix = evaluate(trained(seed)[0], make_loader(real, 8)).matrix
    vessel = real.classes.index("vessel")  # 2, in Scans, too
    hit, truth, said = matrix[vessel, vessel], matrix[vessel].sum(), matrix[:, vessel].sum()
    two = np.array([[matrix.sum() - truth - said + hit, said - hit], [truth - hit, hit]])
    return {"test": {**short(Scores(two, ("other", "vessel"))), "images": len(real)}}


# ---------------------------------------------------------------- settings

SMALL = {"height": 96, "width": 128}
UNET = {
    **SMALL,
    "batch_size": 8,
    "weight_decay": 0.01,
    "class_weights": "enet",
    "flip": 0.5,
    "zoom": [0.8, 2.0],
    "stretch": 1.2,
    "colour": 0.3,
}
PLAIN = {"zoom": [1.0, 1.0], "stretch": 1.0, "colour": 0.0}  # only flips
EMBEDDED = {"Streets": "data/streets", "Scans": "data/scans"}
BASELINES = "arrays location_prior features PixelClassifier baselines.score"
LEARN = (*TRAINING, "learn train_and_test same_steps streets_only")

PARTS = {
    "shares": Part(shares, ("shares count",), data=EMBEDDED),
    "baselines": Part(
        location_and_pixels,
        (
            BASELINES,
            "resize_image resize_mask _centres",
            "location_and_pixels sizes constant prior classify judge",
        ),
        {**SMALL, "pixels": 200_000},
        seeds=3,
        data=EMBEDDED,
    ),
    # 28 epochs of 45 steps on CamVid, 42 of 30 on Streets: 1,260 steps each
    "same_steps": Part(
        same_steps,
        LEARN,
        {**UNET, "base_channels": 16, "lr": 3e-3, "images": 10_080},
        seeds=2,
        data=EMBEDDED,
    ),
    # tried at eight epochs: batches of 8 and zoom cost 0.05 to 0.1, weights by frequency 0.04
    "short": Part(
        streets_only,
        LEARN,
        {**UNET, **PLAIN, "batch_size": 4, "base_channels": 8, "lr": 6e-3, "seconds": 35},
        seeds=3,
        data=EMBEDDED,
    ),
    "long": Part(
        streets_only, LEARN, {**UNET, "base_channels": 8, "lr": 3e-3, "seconds": 900}, data=EMBEDDED
    ),
    "transfer": Part(
        transfer,
        (*TRAINING, *RENDERING, "transfer from_rendered"),
        {
            **UNET,
            "base_channels": 16,
            "lr": 3e-3,
            "images": 12_000,
            "colour": 0.5,
            "scenes": 3000,
            "first_seed": 100_000,
            "scene_size": [144, 192],
            "light": "day",
        },
    ),
    "scans": Part(
        scans,
        (*TRAINING, BASELINES, "scans on_scans on_ultrasound sizes classify judge"),
        {
            **UNET,
            "height": 128,
            "width": 128,
            "base_channels": 16,
            "lr": 3e-3,
            "images": 4_800,
            "class_weights": "none",
            "pixels": 200_000,
        },
        data=EMBEDDED,
    ),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, table)
