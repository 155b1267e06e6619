"""The networks that lesson 7 compares, the loop of its nearest-vehicle task, and what is measured.

On a GPU everything is computed in float32: TF32, with its 10 bits, is what cuDNN would take for
convolutions but PyTorch not for the matrix products of a transformer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fingerprints import ROOT, fingerprint
from numpy.typing import NDArray
from torch import Tensor, nn

from seglib.course.transformers import (
    NearestNet,
    NearestScenes,
    called_nearest,
    nearest_input,
    nearest_scenes,
)
from seglib.engine.precision import make_optimizer
from seglib.metrics import ConfusionMatrix
from seglib.models import create_model
from seglib.util.files import atomic_write

torch.backends.cudnn.allow_tf32 = False
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# Of like cost at 96×128: 0.319, 0.316 and 0.322 G multiply–adds; 3.7, 3.9 and 1.1 M parameters
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "SegFormer": ("segformer", {}),
    "DeepLabV3+": (
        "deeplabv3plus",
        {"backbone": "timm:tf_efficientnet_lite0", "atrous_rates": (1, 2, 3), "channels": 256},
    ),
    "U-Net": ("unet", {"base_channels": 12}),
}
POSITIONS = "zero padding", "replicated borders", "replicated borders, learned positions"


def build(net: str, classes: int, seed: int) -> nn.Module:
    """One of NETS with random weights, on the device."""
    torch.manual_seed(seed)
    name, options = NETS[net]
    return create_model(name, classes, **options).to(DEVICE)


# ---------------------------------------------------------------- positions


class Placed(nn.Module):
    """A patch embedding plus a learned vector for each place (Dosovitskiy et al., 2021).

    At another size than (height, width) the vectors are interpolated bilinearly.
    """

    def __init__(self, embedding: nn.Module, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.place = nn.Parameter(torch.zeros(1, channels, height, width))
        nn.init.trunc_normal_(self.place, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)  # (N, h, w, C)
        place = F.interpolate(self.place, x.shape[1:3], mode="bilinear")
        return x + place.permute(0, 2, 3, 1)


def positioned(arm: str, classes: int, seed: int, height: int, width: int) -> nn.Module:
    """A SegFormer that knows positions in one of the three ways of POSITIONS.

    "replicated borders" continue the last row and column, in the Mix-FFN and the patch embeddings:
    all 3×3 convolutions stay, and their padding tells no place where it is. Learned positions are
    added after each patch embedding.
    """
    model: Any = build("SegFormer", classes, seed)
    if arm == "zero padding":
        return model
    backbone = model.backbone
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            module.padding_mode = "replicate"
    if arm == "replicated borders, learned positions":
        for i, channels in enumerate(backbone.channels):
            size = height // (4 * 2**i), width // (4 * 2**i)
            backbone.embeddings[i] = Placed(backbone.embeddings[i], channels, *size)
    return model.to(DEVICE)


# ---------------------------------------------------------------- measures


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    """Label maps (N, H, W), on the CPU."""
    model.eval()
    with torch.inference_mode():
        parts = [model(part.to(DEVICE)).argmax(1).cpu() for part in images.split(20)]
    return torch.cat(parts)


def miou(labels: Tensor, truth: Tensor, classes: int = 11) -> float:
    matrix = ConfusionMatrix(classes)
    matrix.update(labels, truth)
    return round(matrix.compute().miou, 4)


def shifted(
    model: nn.Module, images: Tensor, truth: Tensor, shifts: Sequence[int], window: Sequence[int]
) -> dict[str, Any]:
    """What changes when a window of the scene moves to the right by some pixels.

    Windows of `window` pixels are cut from the middle rows, the first with its left edge as far
    left of the middle as the largest shift needs. Compared is what both windows show: the share of
    pixels (void too) that get the same label, and the mIoU of both.
    """
    height, width = window
    top, room = (images.shape[2] - height) // 2, images.shape[3] - width - max(shifts)
    rows, left = slice(top, top + height), room // 2
    first = predicted(model, images[..., rows, left : left + width])
    found: dict[str, Any] = {"same": {}, "first": {}, "moved": {}}
    for shift in shifts:
        columns = slice(left + shift, left + shift + width)
        moved = predicted(model, images[..., rows, columns])[..., : width - shift]
        before, target = first[..., shift:], truth[:, rows, columns][..., : width - shift]
        found["same"][str(shift)] = round((moved == before).double().mean().item(), 5)
        found["first"][str(shift)] = miou(before, target)
        found["moved"][str(shift)] = miou(moved, target)
    return found


def cropped(model: nn.Module, images: Tensor, truth: Tensor) -> dict[str, float]:
    """mIoU in the middle half of height and width: with the whole scene seen, or just that."""
    height, width = truth.shape[1:]
    rows, columns = slice(height // 4, -(height // 4)), slice(width // 4, -(width // 4))
    target = truth[:, rows, columns]
    whole = predicted(model, images)[:, rows, columns]
    return {
        "whole": miou(whole, target),
        "alone": miou(predicted(model, images[..., rows, columns]), target),
    }


# ---------------------------------------------------------------- the nearest vehicle


@cache
def nearest(first: int, count: int) -> NearestScenes:
    """The scenes of these seeds, kept in runs/scenes/ under the fingerprint of what made them."""
    code = ("seglib/data/render/[!s]*.py", "seglib/data/render/street*.py", "nearest_scenes")
    name = f"nearest_{first}_{count}_{fingerprint((*code, 'SMALLEST NEARER'), {})}.npz"
    path = ROOT / "runs" / "scenes" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, **nearest_scenes(range(first, first + count))._asdict())
    with np.load(path) as content:
        return NearestScenes(**content)


def nearest_net(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = create_model("unet", 2, base_channels=12) if kind == "U-Net" else NearestNet(kind)
    return net.to(DEVICE)


def train_nearest(kind: str, settings: Mapping[str, Any], seed: int) -> tuple[nn.Module, Any]:
    """Random batches of the training scenes, flipped or not; cross-entropy on vehicles' pixels."""
    data, model = nearest(settings["train"], settings["train_scenes"]), nearest_net(kind, seed)
    images = nearest_input(data.images).to(DEVICE)
    labels = torch.from_numpy(data.labels.astype(np.int64)).to(DEVICE)
    steps = max(8, settings["images"] // settings["batch_size"])
    groups = [{"params": list(model.parameters())}]
    optimizer = make_optimizer(groups, DEVICE, settings["lr"], settings["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings["lr"], total_steps=steps)
    numbers, losses = np.random.default_rng(seed), torch.zeros(steps, device=DEVICE)
    model.train()
    for step in range(steps):
        which = torch.from_numpy(numbers.integers(len(images), size=settings["batch_size"]))
        x, y = images[which.to(DEVICE)], labels[which.to(DEVICE)]
        if numbers.random() < 0.5:
            x, y = x.flip(3), y.flip(2)
        loss = F.cross_entropy(model(x), y, ignore_index=255)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses[step] = loss.detach()
    eighths = losses[: steps // 8 * 8].view(8, -1).mean(1).tolist()
    return model, {
        "lr": settings["lr"],
        "images_seen": steps * settings["batch_size"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses": [round(value, 4) for value in eighths],  # of each eighth of the training
    }


def nearest_logits(model: nn.Module, data: NearestScenes) -> Tensor:
    model.eval()
    with torch.inference_mode():
        parts = nearest_input(data.images).split(50)
        return torch.cat([model(part.to(DEVICE)).cpu() for part in parts])


def distance(instances: NDArray[np.uint8]) -> int:
    """Pixels between the centres of the nearest and the second: the larger of rows and columns."""
    first, second = (np.argwhere(instances == place).mean(0) for place in (1, 2))
    return int(np.abs(first - second).max().round())


def nearest_scores(
    model: nn.Module, data: NearestScenes, fields: Sequence[int] = ()
) -> dict[str, Any]:
    """Shares: scenes exactly right, nearest vehicles found, others wrongly called the nearest.

    With `fields`, also the exact share by distance between the nearest and the second, and "0" or
    "1" for each scene.
    """
    called = called_nearest(nearest_logits(model, data), data.instances)
    exact = np.array([first and not any(others) for first, *others in called])
    others = [other for _, *rest in called for other in rest]
    found: dict[str, Any] = {
        "exact": round(float(exact.mean()), 4),
        "found": round(float(np.mean([first for first, *_ in called])), 4),
        "others": round(float(np.mean(others)), 4),
    }
    if fields:
        apart = np.array([distance(instances) for instances in data.instances])
        edges = [0, *fields, 10**6]
        found["by_distance"] = {
            f"{low}–{high}" if high < 10**6 else f"over {low}": {
                "scenes": int(inside.sum()),
                "exact": round(float(exact[inside].mean()), 4) if inside.any() else None,
            }
            for low, high in pairwise(edges)
            for inside in [(apart > low) & (apart <= high)]
        }
        found["scenes"] = "".join("01"[value] for value in exact.astype(int))
    return found
