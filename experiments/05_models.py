"""All models of the library in one table: how large, how fast, and how good after two minutes.

    python experiments/05_models.py cost       # ten minutes, alone on the machine
    python experiments/05_models.py quality    # half an hour in two processes
    python experiments/05_models.py timm_cost timm_quality         # a quarter of an hour
    python experiments/05_models.py --table    # what the record says, for seglib/models/README.md

cost     parameters, multiply–adds of one image of 360×480, images a second at this size: in
         inference one by one, in training by twos; the best of several calls
quality  the budget is time: two minutes of training on Streets, on one core (240 scenes, 96×128,
         batches of 8, cross-entropy + Dice, one-cycle at one rate for all), then mIoU on its test
         split. The speed is tried first, so that the schedule ends in time. One seed. Two
         processes may share the rows, a core each; other work must not run beside them
statistics  torchvision's LR-ASPP, trained for as many epochs as it got there, scored as it is, and
         with BatchNorm statistics taken anew from one pass over the training scenes
timm_cost, timm_quality  the same for networks on timm's EfficientNet-Lite0, beside one that the
         other parts have too, since these ran on another machine (images are normalised as there)

Random weights, but for the rows that say otherwise.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import arms
import finetuning
import torch
from arms import InMemory
from records import Job, Part, main
from torch.nn import functional as F
from torch.utils.data import Subset
from torch.utils.flop_counter import FlopCounterMode

from seglib.data import Streets, make_loader
from seglib.losses import CombinedLoss
from seglib.models import available_models, create_model
from seglib.training import fit
from seglib.transforms import eval_transform

SMALL = {"backbone": "mobilenet_v3_small", "channels": 128, "atrous_rates": (1, 2, 3)}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in available_models() if name != "backbone_unet"},
    "unet, base_channels=16": ("unet", {"base_channels": 16}),
    "deeplabv3plus, resnet18": (
        "deeplabv3plus",
        {"backbone": "resnet18", "atrous_rates": (1, 2, 3)},
    ),
    "deeplabv3plus, mobilenet_v3_small": ("deeplabv3plus", SMALL),
    'the same, pretrained="streets"': ("deeplabv3plus", {"pretrained": "streets"}),
}
LITE0 = {**SMALL, "backbone": "timm:tf_efficientnet_lite0"}
ON_TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "deeplabv3plus, mobilenet_v3_small, again": ("deeplabv3plus", SMALL),
    "deeplabv3plus, timm:tf_efficientnet_lite0": ("deeplabv3plus", LITE0),
    'the same, pretrained="imagenet"': ("deeplabv3plus", {**LITE0, "pretrained": "imagenet"}),
    'the same, pretrained="imagenet+streets"': (
        "deeplabv3plus",
        {"pretrained": "imagenet+streets"},
    ),
    "backbone_unet, timm:tf_efficientnet_lite0": ("backbone_unet", {}),
}


@cache
def streets(split: str, height: int, width: int) -> InMemory:
    settings = {**AUGMENTATION, "height": height, "width": width}
    transform = arms.augmentation(settings) if split == "train" else eval_transform(height, width)
    return InMemory.copy_of(Streets(split), transform)


def build(row: str) -> torch.nn.Module:
    name, options = {**ROWS, **ON_TIMM}[row]
    torch.manual_seed(0)
    return create_model(name, 11, **options).to(memory_format=torch.channels_last)


# ---------------------------------------------------------------- parts


def costs(job: Job) -> None:
    for row in ROWS:
        job.once(row, 0, cost, row, job.settings)


def cost(row: str, settings: dict[str, Any]) -> dict[str, Any]:
    model = build(row)
    size = settings["height"], settings["width"]
    image = torch.randn(1, 3, *size).contiguous(memory_format=torch.channels_last)
    model.eval()
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            model(image)
        predicting = seconds(lambda: model(image), settings["calls"])
    images = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, 11, (2, *size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()

    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,
        "images_per_second": {
            "inference": round(1 / predicting, 2),
            "training": round(2 / seconds(step, settings["calls"]), 2),
        },
    }


def seconds(call: Callable[[], Any], calls: int) -> float:
    """The least time of several calls, behind one that does not count."""
    found = []
    for _ in range(calls + 1):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def timm_costs(job: Job) -> None:
    for row in ON_TIMM:
        job.once(row, 0, cost, row, job.settings)


def timm_qualities(job: Job) -> None:
    for row in ON_TIMM:
        job.once(row, 0, quality, row, job.settings)


def qualities(job: Job) -> None:
    for row in ROWS:
        job.once(row, 0, quality, row, job.settings)


def quality(row: str, settings: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(settings["threads"])
    size = settings["height"], settings["width"]
    data, test = streets("train", *size), streets("test", *size)
    learn(build(row), Subset(data, range(16)), 1, settings)  # a start not counted
    start = time.perf_counter()
    learn(build(row), Subset(data, range(48)), 1, settings)
    images = settings["seconds"] * 48 / (time.perf_counter() - start)
    # Where not even one epoch fits: as many scenes as do
    part = Subset(data, range(min(len(data), max(8, int(images) // 8 * 8))))
    epochs = max(1, int(images / len(part)))
    model = build(row)
    start = time.perf_counter()
    curve = learn(model, part, epochs, settings)
    return {
        "lr": settings["lr"],
        "epochs": epochs,
        "images_seen": epochs * len(part) // 8 * 8,
        "fit_seconds": round(time.perf_counter() - start, 1),
        "curve": curve,
        "test": finetuning.score(model, test),
    }


def learn(model: torch.nn.Module, data: Any, epochs: int, settings: dict[str, Any]) -> list[float]:
    loader = make_loader(data, settings["batch_size"], shuffle=True, seed=0)
    history = fit(
        model,
        loader,
        epochs=epochs,
        lr=settings["lr"],
        loss=CombinedLoss(),
        clip=1.0,
        weight_decay=settings["weight_decay"],
        schedule="onecycle",
    )
    return [round(row["train_loss"], 4) for row in history.rows]


def renewed(job: Job) -> None:
    job.once(SLOW_STATISTICS, 0, before_and_after, job.settings)


def before_and_after(settings: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(settings["threads"])
    size = settings["height"], settings["width"]
    data, test = streets("train", *size), streets("test", *size)
    model = build(SLOW_STATISTICS)
    learn(model, data, settings["epochs"], settings)
    before = finetuning.score(model, test)
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    momentum = sorted({float(norm.momentum or 0) for norm in norms})
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    model.train()
    with torch.no_grad():
        for images, _ in make_loader(data, settings["batch_size"]):
            model(images)
    return {"momentum": momentum, "test": before, "anew": finetuning.score(model, test)}


# ---------------------------------------------------------------- table


def table(content: dict[str, Any]) -> str:
    """The Markdown table of both parts."""
    parts = {
        name: {run["arm"]: run for run in part["runs"]}
        for name, part in content["parts"].items()
        if name != "statistics"
    }
    for name in ("cost", "quality"):
        parts[name] = parts.get(name, {}) | parts.get(f"timm_{name}", {})
    lines = [
        "| model | parameters, millions | multiply–adds, billions | inference, images/s "
        "| training, images/s | mIoU after two minutes | images seen |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in (*ROWS, *ON_TIMM):
        run, trained = parts.get("cost", {}).get(row), parts.get("quality", {}).get(row)
        speed = run["images_per_second"] if run else {"inference": "", "training": ""}
        name, *options = row.split(", ")
        cells = [
            ", ".join([name if name == "the same" else f"`{name}`", *options]),
            f"{run['parameters'] / 1e6:.2f}" if run else "",
            f"{run['multiply_adds'] / 1e9:.1f}" if run else "",
            str(speed["inference"]),
            str(speed["training"]),
            f"{trained['test']['miou']:.3f}" if trained else "",
            f"{trained['images_seen']:,}" if trained else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# ---------------------------------------------------------------- settings

SLOW_STATISTICS = "torchvision:lraspp_mobilenet_v3_large"
AUGMENTATION = {"zoom": [0.9, 1.6], "stretch": 1.2, "flip": 0.5, "colour": 0.2}
MODELS = (
    "UNet Up DoubleConv make_norm SegNet _convolutions FCN32s FCN16s FCN8s DeepLabV3 DeepLabV3Plus "
    "LRASPP LRASPPHead TorchvisionModel Backbone dilate _strides _out_channels Pooled ASPP "
    "conv_norm separable fcn_head resize_to outputs PooledBatchNorm to_group_norm",
    "SMALL ROWS build",
)
TIMM = "LITE0 ON_TIMM TimmBackbone _features carried_weights BackboneUNet"

TRAINED = {
    "height": 96,
    "width": 128,
    "batch_size": 8,
    "lr": 1e-3,
    "weight_decay": 0.01,
    "seconds": 120,
    "threads": 1,
}
PARTS = {
    "timm_cost": Part(
        timm_costs,
        (*MODELS, TIMM, "cost seconds timm_costs"),
        {"height": 360, "width": 480, "calls": 6},
    ),
    "timm_quality": Part(
        timm_qualities,
        (
            *finetuning.CODE,
            *MODELS,
            TIMM,
            "data/streets",
            "AUGMENTATION streets quality learn timm_qualities",
        ),
        TRAINED,
    ),
    "cost": Part(costs, (*MODELS, "cost seconds"), {"height": 360, "width": 480, "calls": 6}),
    "quality": Part(
        qualities,
        (*finetuning.CODE, *MODELS, "data/streets", "AUGMENTATION streets quality learn"),
        TRAINED,
    ),
    "statistics": Part(
        renewed,
        (
            *finetuning.CODE,
            *MODELS,
            "data/streets",
            "AUGMENTATION SLOW_STATISTICS streets learn renewed before_and_after",
        ),
        {
            "height": 96,
            "width": 128,
            "batch_size": 8,
            "lr": 1e-3,
            "weight_decay": 0.01,
            "epochs": 11,
            "threads": 1,
        },
    ),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, table)
