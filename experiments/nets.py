"""The networks that lesson 2 compares, trained alike, and what is kept of each."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from arms import InMemory
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from seglib.data import class_statistics, make_loader
from seglib.losses import CrossEntropyLoss, class_weights
from seglib.metrics.boundary import error_by_distance
from seglib.models.unet import UNet
from seglib.training import fit


class WithoutSkips(UNet):
    """A U-Net whose decoder sees zeros where the skips would be."""

    def forward(self, images: Tensor) -> Tensor:
        x, shapes = images, []
        for i, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if i else x)  # (N, C_i, H/2^i, W/2^i)
            shapes.append(x.shape)
        for up, shape in zip(self.ups, reversed(shapes[:-1]), strict=True):
            x = up(x, x.new_zeros(shape))  # (N, C_i, H/2^i, W/2^i)
        return self.head(x)  # (N, num_classes, H, W)


class EncoderOnly(nn.Module):
    """A fully convolutional net in the manner of FCN-32s (Long et al., 2015, arXiv:1411.4038):
    the U-Net's encoder, classified at a sixteenth of the size, enlarged bilinearly."""

    def __init__(self, num_classes: int, base_channels: int) -> None:
        super().__init__()
        self.encoder = UNet(num_classes, base_channels=base_channels).encoder
        self.head = nn.Conv2d(16 * base_channels, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for i, block in enumerate(self.encoder):
            x = block(F.max_pool2d(x, 2) if i else x)  # (N, C_i, H/2^i, W/2^i)
        return F.interpolate(self.head(x), images.shape[-2:], mode="bilinear")


def train_net(
    build: Callable[..., nn.Module], data: Any, settings: Mapping[str, Any], seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Train for `settings["images"]` images in whole epochs; the last epoch counts."""
    loss = CrossEntropyLoss(class_weights(class_statistics(data), settings["class_weights"]))
    loader = make_loader(data, settings["batch_size"], shuffle=True, seed=seed)
    epochs = max(1, round(settings["images"] / (len(loader) * settings["batch_size"])))
    torch.manual_seed(seed)
    model = build(data.num_classes, base_channels=settings["base_channels"])
    start = time.perf_counter()
    history = fit(
        model,
        loader,
        epochs=epochs,
        lr=settings["lr"],
        loss=loss,
        seed=seed,
        weight_decay=settings["weight_decay"],
        schedule="onecycle",
    )
    curve = [row["train_loss"] for row in history.rows]
    keep = np.unique(np.linspace(0, epochs - 1, min(epochs, 12)).round().astype(int))
    return model, {
        "epochs": epochs,
        "images_seen": epochs * len(loader) * settings["batch_size"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "fit_seconds": round(time.perf_counter() - start, 1),
        "curve": {str(i + 1): round(curve[i], 4) for i in keep},  # of some epochs
    }


def label_maps(model: nn.Module, data: InMemory, indices: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Predicted labels (H, W) of some samples, at the size of `data`'s transform."""
    model.eval()
    with torch.inference_mode():
        return [model(data[i][0][None]).argmax(1)[0].numpy().astype(np.uint8) for i in indices]


def border_errors(model: nn.Module, data: InMemory, edges: Sequence[float]) -> list[float]:
    """The share of wrong pixels by their distance to a border (see seglib.metrics.boundary)."""
    truths = [data[i][1].numpy() for i in range(len(data))]
    found = error_by_distance(label_maps(model, data, range(len(data))), truths, edges)
    return [round(float(value), 5) for value in found]


def as_text(labels: NDArray[np.uint8]) -> str:
    """A label map as the base64 text of a PNG file, for a record."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
