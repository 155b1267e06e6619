"""Training that is looked at after every epoch, and what is kept of a trained network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seglib.data import make_loader
from seglib.metrics import ConfusionMatrix
from seglib.metrics.boundary import BoundaryCounts
from seglib.metrics.calibration import CalibrationCounts
from seglib.models.unet import UNet
from seglib.training import fit


def train_unet(
    data: Any,
    loss: nn.Module,
    settings: Mapping[str, Any],
    seed: int,
    watch: Callable[[nn.Module], dict[str, Any]] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train a U-Net for `settings["images"]` images in whole epochs.

    Returns the net after the last epoch, and its budget with the training loss of each epoch;
    what `watch` says after each epoch is in its "watched".
    """
    loader = make_loader(data, settings["batch_size"], shuffle=True, seed=seed)
    epochs = max(1, round(settings["images"] / (len(loader) * settings["batch_size"])))
    torch.manual_seed(seed)
    model = UNet(data.num_classes, base_channels=settings["base_channels"])
    watched: list[dict[str, Any]] = []

    def look(model: nn.Module, row: dict[str, float]) -> None:
        watched.append({"step": int(row["epoch"]) * len(loader), **watch(model)})

    start = time.perf_counter()
    history = fit(
        model,
        loader,
        epochs=epochs,
        lr=settings["lr"],
        loss=loss,
        weight_decay=settings["weight_decay"],
        schedule=settings["schedule"],
        seed=seed,
        on_epoch=look if watch else None,
    )
    return model, {
        "epochs": epochs,
        "images_seen": epochs * len(loader) * settings["batch_size"],
        "lr": settings["lr"],
        "fit_seconds": round(time.perf_counter() - start, 1),
        "curve": [round(row["train_loss"], 4) for row in history.rows],
        **({"watched": watched} if watched else {}),
    }


def stacked(data: Any) -> tuple[Tensor, Tensor]:
    """All images (N, 3, H, W) and masks (N, H, W) of a small data set."""
    images, masks = zip(*(data[i] for i in range(len(data))), strict=True)
    return torch.stack(images), torch.stack(masks)


@torch.no_grad()
def logits_on(model: nn.Module, images: Tensor, batch_size: int = 20) -> Tensor:
    """The logits of a model in eval mode; the mode is put back."""
    mode = model.training
    model.eval()
    parts = [model(part) for part in images.split(batch_size)]
    model.train(mode)
    return torch.cat(parts)


def scores_of(logits: Tensor, target: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """IoU, precision and recall of each class, four digits, and the mean IoU."""
    matrix = ConfusionMatrix(len(classes))
    matrix.update(logits, target)
    scores = matrix.compute(classes)

    def digits(row: Any) -> dict[str, float | None]:
        rounded = (None if np.isnan(value) else round(float(value), 4) for value in row)
        return dict(zip(classes, rounded, strict=True))

    return {
        "miou": round(scores.miou, 4),
        "accuracy": round(scores.pixel_accuracy, 4),
        "iou": digits(scores.iou),
        "recall": digits(scores.recall),
        "precision": digits(scores.precision),
    }


def borders_of(logits: Tensor, target: Tensor, distance: int) -> dict[str, Any]:
    """Mean boundary IoU and F1 over the classes."""
    counts = BoundaryCounts(logits.shape[1], distance)
    counts.update(logits.argmax(1).numpy(), target.numpy())
    found = counts.compute()
    return {"iou": round(found.miou, 4), "f1": round(found.mean_f1, 4)}


def calibration_of(logits: Tensor, target: Tensor) -> dict[str, Any]:
    """Reliability curve in ten bins, and its expected calibration error."""
    counts = CalibrationCounts(bins=10)
    counts.update(logits, target)
    found = counts.compute()
    digits = lambda row: [None if np.isnan(value) else round(float(value), 4) for value in row]  # noqa: E731
    return {
        "ece": round(found.ece, 4),
        "pixels": found.pixels.tolist(),
        "accuracy": digits(found.accuracy),
        "confidence": digits(found.confidence),
    }
