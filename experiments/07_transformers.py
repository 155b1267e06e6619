"""SegFormer, DeepLabV3+ and U-Net of like cost on Streets; positions, a far view, masks.

    python experiments/07_transformers.py                  # all parts: made for a GPU
    python experiments/07_transformers.py tuning images    # some of them
    python experiments/07_transformers.py --table          # what the record says

All networks start from random weights: SegFormer-B0, DeepLabV3+ on EfficientNet-Lite0 (256
channels), U-Net (base 12), each 0.32 G multiply–adds for an image of 96×128 pixels.

tuning  the learning rate of each, with 60 and 960 images: five rates, and while the best is the
        lowest or the highest one more, two at most; 8,000 images seen, scored on other scenes (dev)
images  60, 240 (which take the rate of 960) and 960 images: mIoU; what moves with the window; the
        middle of the scene with and without the rest; other resolutions
tuning_positions, positions
        SegFormer with 960 images: zeros around the feature maps, borders replicated instead, or
        those and learned positions; tested at four resolutions
tuning_far, far
        which vehicle is the nearest? Networks that see 41 pixels, 89 pixels, or everything; 32,000
        images seen (seglib.course.transformers has the task)
tuning_masks, masks
        960 scenes with instances: a small Mask2Former whose masks are classes or instances, and
        its pixel decoder with a class for each pixel; panoptic quality, for the latter from
        connected parts; cross-entropy or the loss of the masks
live    the training of the lesson itself: SegFormer, four epochs of 240 images, 72×96

Cross-entropy + Dice, AdamW, one-cycle, gradients' norm at most 1, batches of 8, light augmentation.
Streets at 96×128, void dropped, one confusion matrix over the split, the last epoch's weights.
Several processes may run this at once and share the work, with one thread each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from copy import copy
from functools import cache
from typing import Any

import arms
import finetuning
import mask_training
import nets
import numpy as np
import torch
import transformers_nets as tn
from arms import RENDERING, InMemory
from interval_table import table
from mask_training import MASK_ARMS
from records import TRIALS, Job, Part, main

from seglib.course.attention import train_on_streets
from seglib.course.transformers import KINDS
from seglib.data import RenderedStreets, Streets
from seglib.transforms import eval_transform, train_transform
from seglib.util.files import atomic_write

IMAGES = (960, 60, 240)
FAR = (*KINDS, "U-Net")

# ---------------------------------------------------------------- data


@cache
def split(name: str) -> InMemory:
    """Scenes as they are kept, 144×192; "large": those of test at 192×256."""
    if name == "large":
        return InMemory.copy_of(RenderedStreets(Streets.SEEDS["test"], 192, 256))
    dev = RenderedStreets(range(3000, 3060), 144, 192)
    return InMemory.copy_of(dev if name == "dev" else Streets(name))


def at(name: str, height: int, width: int) -> InMemory:
    found = split(name)
    transform = eval_transform(height, width, **HALF)
    return InMemory(found.images, found.masks, found, transform)


@cache
def tensors(name: str, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    data = at(name, height, width)
    images, labels = zip(*(data[i] for i in range(len(data))), strict=True)
    return torch.stack(images), torch.stack(labels)


def chosen(images: int, seed: int, settings: dict[str, Any]) -> InMemory:
    """The images to learn from: of a seed, the fewer are among the more of Streets train."""
    source = split("train")
    order = np.random.default_rng(seed).permutation(len(source))[:images]
    if images > len(source):
        more = {"first_seed": 10_000, "scenes": images, "scene_size": [144, 192], "light": "day"}
        source, order = arms.rendered_streets(more, None), np.arange(images)
    size = settings["height"], settings["width"]
    transform = train_transform(*size, **AUGMENTATION, **HALF)
    return InMemory(source.images[order], source.masks[order], source, transform)


# ---------------------------------------------------------------- learning rates


def dev_scores(job: Job, part: str, arm: str) -> dict[float, float]:
    """{learning rate: score on dev} of what is tuned so far: mIoU, or the share exactly right."""
    runs = job.record.read()["parts"].get(part, {"runs": []})["runs"]
    found = {run["lr"]: run["dev"] for run in runs if run["arm"].startswith(f"{arm}, lr ")}
    return {lr: dev.get("miou", dev.get("exact")) for lr, dev in found.items()}


def schedule(found: dict[float, float], rates: list[float]) -> list[float]:
    """The rates to try, as far as `found` tells: while the best is at the edge, one beyond it."""
    tried = list(rates)
    for _ in range(2):
        best = max(tried, key=lambda lr: found.get(lr, 0))
        if not set(tried) <= set(found) or min(tried) < best < max(tried):
            break
        step = rates[1] / rates[0]
        tried.append(float(f"{best * step if best == max(tried) else best / step:.1g}"))
    return tried


def tuned(job: Job, arm: str, *measure: Any) -> None:
    """`measure(*, settings, seed, "dev")` at all rates of the schedule."""
    asked: set[float] = set()
    seed = job.settings["tuning_seed"]
    while True:
        rates = schedule(dev_scores(job, job.name, arm), job.settings["rates"])
        left = [lr for lr in rates if lr not in asked]
        if not left:
            return
        asked.add(left[0])
        function, *arguments = measure
        settings = {**job.settings, "lr": left[0]}
        job.once(f"{arm}, lr {left[0]:g}", seed, attempt, function, *arguments, settings, seed)


def attempt(function: Any, *arguments: Any) -> dict[str, Any]:
    """What a rate brings on dev: nothing if the training diverges."""
    try:
        return function(*arguments, "dev")
    except FloatingPointError:
        nothing = {"miou": 0.0, "iou": dict.fromkeys(Streets("test").classes, 0.0)}
        return {"lr": arguments[-2]["lr"], "diverged": True, "dev": nothing}


def rate(job: Job, part: str, arm: str) -> float:
    """The learning rate that won on dev."""
    found = dev_scores(job, part, arm)
    if not found or not set(schedule(found, job.settings["rates"])) <= set(found):
        raise ValueError(f"{arm}: its learning rate is not tuned yet; run the part {part}")
    return max(found, key=lambda lr: found[lr])


# ---------------------------------------------------------------- networks by number of images


def label(net: str, images: int) -> str:
    return f"{net}, {images} images"


def tuning(job: Job) -> None:
    for images in (images for images in IMAGES if images != 240):
        for net in tn.NETS:
            tuned(job, label(net, images), measure, net, images)


def compare(job: Job) -> None:
    for images in IMAGES:
        for seed in job.seeds:
            for net in tn.NETS:
                lr = rate(job, "tuning", label(net, 60 if images == 60 else 960))
                settings = {**job.settings, "lr": lr}
                job.once(label(net, images), seed, measure, net, images, settings, seed, "test")


def live(job: Job) -> None:
    for seed in job.seeds:
        job.once("SegFormer", seed, as_in_the_lesson, job.settings, seed)


def as_in_the_lesson(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    model = tn.build("SegFormer", 11, seed)
    curve = train_on_streets(model, settings["epochs"], settings["lr"], seed)
    return {"val_miou": [round(value, 4) for value in curve]}  # after each epoch


def measure(net: str, images: int, settings: dict[str, Any], seed: int, judged: str) -> Any:
    data = chosen(images, seed, settings)
    model = tn.build(net, data.num_classes, seed)
    budget = finetuning.train(model, data, settings, seed, {})
    size = settings["height"], settings["width"]
    scores = {**budget, judged: finetuning.score(model, at(judged, *size))}
    if judged == "dev":
        return scores
    scores["parameters"] = sum(p.numel() for p in model.parameters())
    scores["shift"] = tn.shifted(model, *tensors("test", 144, 192), settings["shifts"], size)
    scores["crop"] = tn.cropped(model, *tensors("test", *size))
    scores["resolution"] = by_size(model, settings["sizes"])
    if seed == 0 and images == 960:
        maps = tn.predicted(model, tensors("test", *size)[0]).numpy().astype(np.uint8)
        scores["maps"] = {str(i): nets.as_text(maps[i]) for i in settings["shown"]}
    return scores


def by_size(model: torch.nn.Module, sizes: list[list[int]]) -> dict[str, float]:
    """mIoU on the test scenes at these sizes; beyond 144×192 they are rendered at that size."""
    found = {}
    for height, width in sizes:
        images, truth = tensors("test" if height <= 144 else "large", height, width)
        found[f"{height}×{width}"] = tn.miou(tn.predicted(model, images), truth)
    return found


# ---------------------------------------------------------------- positions


def tuning_positions(job: Job) -> None:
    for arm in tn.POSITIONS:
        tuned(job, arm, place, arm)


def positions(job: Job) -> None:
    for seed in job.seeds:
        for arm in tn.POSITIONS:
            settings = {**job.settings, "lr": rate(job, "tuning_positions", arm)}
            job.once(arm, seed, place, arm, settings, seed, "test")


def place(arm: str, settings: dict[str, Any], seed: int, judged: str) -> dict[str, Any]:
    data, size = chosen(960, seed, settings), (settings["height"], settings["width"])
    model = tn.positioned(arm, data.num_classes, seed, *size)
    budget = finetuning.train(model, data, settings, seed, {})
    scores = {**budget, judged: finetuning.score(model, at(judged, *size))}
    if judged == "test":
        scores["resolution"] = by_size(model, settings["sizes"])
    return scores


# ---------------------------------------------------------------- the nearest vehicle


def tuning_far(job: Job) -> None:
    for kind in FAR:
        tuned(job, kind, find, kind)


def far(job: Job) -> None:
    for seed in job.seeds:
        for kind in FAR:
            settings = {**job.settings, "lr": rate(job, "tuning_far", kind)}
            job.once(kind, seed, find, kind, settings, seed, "test")


def find(kind: str, settings: dict[str, Any], seed: int, judged: str) -> dict[str, Any]:
    """The nearest vehicle; attention's weights of seed 0 are written beside the trials' records."""
    model, budget = tn.train_nearest(kind, settings, seed)
    if judged == "dev":
        data = tn.nearest(settings["dev"], settings["scenes"])
        return {**budget, "dev": tn.nearest_scores(model, data)}
    data = tn.nearest(settings["test"], settings["scenes"])
    scores = {**budget, "test": tn.nearest_scores(model, data, settings["fields"])}
    if seed == 0:
        shown = tn.NearestScenes(*(part[: settings["maps"]] for part in data))
        maps = tn.nearest_logits(model, shown).argmax(1).numpy().astype(np.uint8)
        scores["maps"] = {str(i): nets.as_text(labels) for i, labels in enumerate(maps)}
    if seed == 0 and kind == "attention":
        state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
        with atomic_write(TRIALS / "07_far_attention.pt") as temporary:
            torch.save({k: v.cpu() for k, v in state.items()}, temporary)
    return scores


# ---------------------------------------------------------------- masks


def tuning_masks(job: Job) -> None:
    for arm in MASK_ARMS:
        tuned(job, arm, segment, arm)


def masks(job: Job) -> None:
    for seed in job.seeds:
        for arm in MASK_ARMS:
            lr = rate(job, "tuning_masks", arm)
            settings = {**job.settings, "lr": lr, "threshold": threshold(job, arm, lr)}
            job.once(arm, seed, segment, arm, settings, seed, "test")


def threshold(job: Job, arm: str, lr: float) -> str | None:
    """Of the queries' scores, what gave the best PQ on dev; None for the other arms."""
    runs = job.record.read()["parts"]["tuning_masks"]["runs"]
    run = next(run for run in runs if run["arm"] == f"{arm}, lr {lr:g}")
    found = run["dev"].get("queries", {})
    return max(found, key=lambda t: found[t]["all"][0], default=None)


def segment(arm: str, settings: dict[str, Any], seed: int, judged: str) -> dict[str, Any]:
    size = settings["height"], settings["width"]
    data = copy(mask_training.with_instances(10_000, settings["scenes"]))
    data.transform = train_transform(*size, **AUGMENTATION, **HALF)
    model, budget = mask_training.train_masks(arm, data, settings, seed)
    first = 3000 if judged == "dev" else Streets.SEEDS["test"][0]
    other = copy(mask_training.with_instances(first, 60))
    other.transform = eval_transform(*size, **HALF)
    scores = mask_training.mask_scores(arm, model, other, settings)
    if judged == "test":
        best = settings["threshold"]
        scores["panoptic"] = scores["queries"][best] if best else scores["components"]
        budget["threshold"] = best
    return {**budget, judged: scores}


# ---------------------------------------------------------------- settings

HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
AUGMENTATION: dict[str, Any] = {"zoom": (0.9, 1.6), "stretch": 1.2, "flip": 0.5, "colour": 0.2}
NET = {"height": 96, "width": 128, "batch_size": 8, "weight_decay": 0.01, "tuning_seed": 100}
STREETS = {**NET, "rates": [3e-4, 7e-4, 1.7e-3, 4e-3, 1e-2], "images": 8000}
PLACES = {**STREETS, "rates": [7e-4, 1.7e-3, 4e-3]}
KEPT = {
    "shifts": [1, 2, 4, 8, 16],
    "sizes": [[72, 96], [96, 128], [144, 192], [192, 256]],
    "shown": [3, 8, 20],
}
NEAREST = {
    "batch_size": 8,
    "weight_decay": 0.01,
    "tuning_seed": 100,
    "rates": [1e-3, 3e-3, 1e-2],
    "images": 32_000,
    "train": 50_000,
    "train_scenes": 1000,
    "dev": 60_000,
    "test": 70_000,
    "scenes": 250,
}
SEGFORMER = (
    "SegFormer MixTransformer segformer.PatchEmbedding segformer.Attention MixFFN segformer.Block",
    "segformer.VARIANTS segformer.WIDE segformer.initialise",
)
MODELS = (
    *finetuning.TUNED,
    *SEGFORMER,
    "TimmBackbone _features UNet Up DoubleConv make_norm",
    "transformers_nets.NETS transformers_nets.build",
)
CODE = (*MODELS, "HALF AUGMENTATION split chosen at measure", "data/streets", *RENDERING)
TESTED = ("tensors rate schedule dev_scores by_size", "predicted transformers_nets.miou")
PLACED = (*CODE, "POSITIONS Placed positioned place")
MEASURED = (*CODE, *TESTED, "shifted cropped IMAGES label as_text")
MASKS = {
    **NET,
    "rates": [3e-4, 1e-3, 3e-3],
    "images": 8000,
    "scenes": 960,
    "smallest": 8,
    "thresholds": [0.3, 0.5, 0.8],
}
SEGMENTED = (
    "segment HALF AUGMENTATION mask_training.CLASSES mask_training.THINGS CONFIG PerPixel",
    "encoded decoded with_instances train_masks loss_of components panoptic_scores mask_scores",
    "seglib/losses/masks.py",
    "truth_of CrossEntropyLoss",
    "HuggingFaceModel huggingface_config.configured huggingface_config.MASKS Queries",
    "semantic_logits merge_queries InMemory SampleKey EpochSampler",
    "make_optimizer make_loader resize_image resize_mask _centres normalise cut_window",
    "EvalTransform TrainTransform",
    *RENDERING[1:],
)
SEEN = (
    "FAR find",
    "nearest nearest_net train_nearest nearest_logits nearest_scores",
    "NearestScenes nearest_scenes nearest_input called_nearest Attend NearestNet convolve",
    "transformers.CAR SMALLEST NEARER transformers.KINDS",
    "UNet Up DoubleConv make_norm make_optimizer normalise resize_image resize_mask _centres",
    "segformer.Attention MixFFN segformer.Block resize_to",
    *RENDERING,
)
LIVE = (
    *finetuning.TUNED,
    *SEGFORMER,
    "transformers_nets.build as_in_the_lesson train_on_streets attention.SIZE",
    "data/streets",
)

PARTS = {
    "tuning": Part(tuning, (*CODE, "IMAGES label tuning tuned attempt schedule"), STREETS),
    "tuning_positions": Part(
        tuning_positions, (*PLACED, "tuning_positions tuned attempt schedule"), PLACES
    ),
    "tuning_far": Part(tuning_far, (*SEEN, "tuning_far tuned attempt schedule"), NEAREST),
    "tuning_masks": Part(tuning_masks, (*SEGMENTED, "tuning_masks tuned attempt schedule"), MASKS),
    "images": Part(compare, (*MEASURED, "compare"), {**STREETS, **KEPT}, seeds=5),
    "positions": Part(
        positions, (*PLACED, *TESTED, "positions"), {**PLACES, "sizes": KEPT["sizes"]}, seeds=5
    ),
    "far": Part(
        far,
        (*SEEN, "far rate schedule dev_scores distance as_text"),
        {**NEAREST, "fields": [20, 44], "maps": 12},
        seeds=5,
    ),
    "masks": Part(masks, (*SEGMENTED, "masks rate threshold schedule dev_scores"), MASKS, seeds=5),
    "live": Part(live, LIVE, {"epochs": 4, "lr": 1e-3}, seeds=10),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, table)
