"""Training a DeepLabv3+ from scratch, or from the checkpoint that the course carries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from arms import LOOP, OVERLAP
from torch import nn

from seglib.data import class_statistics, make_loader
from seglib.losses import CombinedLoss, CrossEntropyLoss, class_weights
from seglib.models import create_model, freeze
from seglib.training import evaluate, fit

MODEL = "deeplabv3plus"
OPTIONS = {
    "backbone": "mobilenet_v3_small",
    "output_stride": 16,
    "atrous_rates": (1, 2, 3),
    "channels": 128,
}  # those of the checkpoint
TUNED = (
    LOOP,
    "finetuning.MODEL finetuning.train InMemory augmentation",
    "DeepLabV3Plus Pooled ASPP conv_norm separable fcn_head resize_to outputs PooledBatchNorm",
    "freeze frozen parameter_groups _stay CrossEntropyLoss CombinedLoss class_weights",
    OVERLAP,
)  # whatever the backbone
CODE = (
    *TUNED,
    "finetuning.OPTIONS finetuning.build",
    "data/weights/streets_deeplabv3plus.pt",
    "Backbone dilate _strides _out_channels to_group_norm",
)


def build(num_classes: int, pretrained: bool, seed: int, **options: Any) -> nn.Module:
    """The network, with the checkpoint's weights or random ones; `options` go beyond OPTIONS."""
    torch.manual_seed(seed)
    if pretrained:
        return create_model(MODEL, num_classes, pretrained="streets", **options)
    return create_model(MODEL, num_classes, **{**OPTIONS, **options})


def train(
    model: nn.Module, data: Any, settings: Mapping[str, Any], seed: int, arm: Mapping[str, Any]
) -> dict[str, Any]:
    """Train `model` in place for `settings["images"]` times `arm["budget"]` images (default 1).

    `arm["moves"]`: "whole" (default), "head" (backbone frozen) or "no norms" (BatchNorm frozen);
    `arm["share"]`: the backbone's rate as a share of the head's (default 1). The loss is
    cross-entropy + Dice, or with `settings["class_weights"]` cross-entropy weighted by that method.
    The last epoch's weights count.
    """
    loader = make_loader(data, settings["batch_size"], shuffle=True, seed=seed)
    per_epoch = len(loader) * settings["batch_size"]
    epochs = max(1, round(settings["images"] * arm.get("budget", 1) / per_epoch))
    moves, lr, share = arm.get("moves", "whole"), settings["lr"], arm.get("share", 1)
    weights = settings.get("class_weights")
    loss: nn.Module = CombinedLoss()
    if weights is not None:
        loss = CrossEntropyLoss(weight=class_weights(class_statistics(data), weights))
    if moves == "no norms":
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                freeze(part)
    start = time.perf_counter()
    history = fit(
        model,
        loader,
        epochs=epochs,
        lr=lr,
        loss=loss,
        seed=seed,
        clip=1.0,
        weight_decay=settings["weight_decay"],
        schedule="onecycle",
        backbone_lr=share * lr if share < 1 else None,
        freeze_epochs=epochs if moves == "head" else 0,
    )
    curve = [row["train_loss"] for row in history.rows]
    keep = np.unique(np.linspace(0, epochs - 1, min(epochs, 12)).round().astype(int))
    return {
        "lr": lr,
        "epochs": epochs,
        "images_seen": epochs * per_epoch,
        "fit_seconds": round(time.perf_counter() - start, 1),
        "curve": {str(i + 1): round(curve[i], 4) for i in keep},  # of some epochs
    }


def score(model: nn.Module, data: Any, groups: Any = None) -> dict[str, Any]:
    """mIoU and IoU of each class (None: absent), one confusion matrix over `data`.

    With `groups` (one for each image) also the bootstrap interval of the mIoU over them, and the
    mIoU of each.
    """
    scores = evaluate(model, make_loader(data, 16), per_image=groups is not None)
    found: dict[str, Any] = {
        "miou": round(scores.miou, 4),
        "pixel_accuracy": round(scores.pixel_accuracy, 4),
        "iou": {
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in zip(scores.classes, scores.iou, strict=True)
        },
    }
    if groups is not None:
        interval = scores.interval(groups=groups)
        found["interval"] = [round(interval.low, 4), round(interval.high, 4)]
        parts = scores.by_group(groups)
        found["groups"] = {name: round(part.miou, 4) for name, part in parts.items()}
    return found
