"""A small Mask2Former, or the same features classified pixel by pixel, on streets with instances.

A map of *codes*, uint8, holds class and instance in one number, so that a pair of image and map is
augmented as any other: 0–10 is stuff of this class, 11 + 80·t + k instance k of class THINGS[t],
255 void.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from arms import RENDERING, InMemory
from fingerprints import ROOT, fingerprint
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from transformers_nets import DEVICE

from seglib.data import RenderedStreets, make_loader
from seglib.data.render import render_scene
from seglib.engine.precision import make_optimizer
from seglib.losses import CrossEntropyLoss
from seglib.losses.masks import MaskLoss, mask_targets
from seglib.metrics import ConfusionMatrix
from seglib.metrics.panoptic import PanopticCounts
from seglib.models import create_model
from seglib.panoptic import merge_queries
from seglib.util.files import atomic_write

CLASSES = 11
THINGS = (8, 9, 10)  # Car, Pedestrian, Bicyclist
PER_PIXEL, SEMANTIC, INSTANCES = "per pixel", "masks, one for each class", "masks, with instances"
MASK_ARMS = (PER_PIXEL, SEMANTIC, INSTANCES)
CONFIG: dict[str, Any] = {
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 24,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 4, 8],
        "window_size": 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "num_queries": 40,
    "decoder_layers": 4,
    "feature_size": 64,
    "mask_feature_size": 64,
    "hidden_dim": 64,
    "num_attention_heads": 4,
    "encoder_layers": 2,
    "encoder_feedforward_dim": 128,
    "dim_feedforward": 128,
}


class PerPixel(nn.Module):
    """Backbone and pixel decoder of a Mask2Former, and a 1×1 convolution on its finest map."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        whole: Any = create_model("hf:mask2former", num_classes, config=CONFIG)
        self.features = whole.network.model.pixel_level_module
        self.head = nn.Conv2d(CONFIG["mask_feature_size"], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(images).decoder_last_hidden_state  # (N, 64, H/4, W/4)
        return F.interpolate(self.head(x), images.shape[-2:], mode="bilinear")


# ---------------------------------------------------------------- data


def encoded(semantic: NDArray[np.uint8], instance: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Codes (H, W) of a scene's maps."""
    codes = semantic.copy()
    for t, label in enumerate(THINGS):
        for k, number in enumerate(np.unique(instance[semantic == label])):
            if k == 80:
                raise ValueError(f"found over 80 instances of class {label}, which has no codes")
            codes[(semantic == label) & (instance == number)] = CLASSES + 80 * t + k
    return codes


def decoded(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Semantic map (255: void) and instance numbers (0: stuff) of codes, int64."""
    thing = (codes >= CLASSES) & (codes != 255)
    labels = torch.where(thing, THINGS[0] + (codes - CLASSES) // 80, codes)
    return labels, torch.where(thing, codes - CLASSES + 1, 0)


@cache
def with_instances(first: int, count: int) -> InMemory:
    """Scenes 144×192 with codes as masks, kept in runs/scenes/ under the renderer's fingerprint."""
    seeds = range(first, first + count)
    mark = fingerprint((*RENDERING[1:], "encoded THINGS"), {})
    path = ROOT / "runs" / "scenes" / f"instances_{first}_{count}_{mark}.npz"
    if not path.exists():
        scenes = [render_scene(seed, 144, 192) for seed in seeds]
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, open(temporary, "wb") as handle:
            np.savez(
                handle,
                images=np.stack([scene.image for scene in scenes]),
                codes=np.stack([encoded(scene.semantic, scene.instance) for scene in scenes]),
            )
    with np.load(path) as content:
        return InMemory(content["images"], content["codes"], RenderedStreets(seeds))


# ---------------------------------------------------------------- training


def train_masks(
    arm: str, data: InMemory, settings: Mapping[str, Any], seed: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Train for `settings["images"]` images in whole epochs; the last epoch's weights count."""
    torch.manual_seed(seed)
    model: Any = PerPixel(CLASSES)
    if arm != PER_PIXEL:
        model = create_model("hf:mask2former", CLASSES, config=CONFIG)
    model.to(DEVICE).train()
    loader = make_loader(data, settings["batch_size"], shuffle=True, seed=seed)
    epochs = max(1, round(settings["images"] / (len(loader) * settings["batch_size"])))
    groups = [{"params": list(model.parameters())}]
    optimizer = make_optimizer(groups, DEVICE, settings["lr"], settings["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings["lr"], total_steps=epochs * len(loader)
    )
    curve, start = [], time.perf_counter()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        total = torch.zeros((), device=DEVICE)
        for images, codes in loader:
            loss = loss_of(arm, model, images.to(DEVICE), codes.to(DEVICE))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.detach()
        curve.append(total.item() / len(loader))
    keep = np.unique(np.linspace(0, epochs - 1, min(epochs, 12)).round().astype(int))
    return model, {
        "lr": settings["lr"],
        "epochs": epochs,
        "images_seen": epochs * len(loader) * settings["batch_size"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "fit_seconds": round(time.perf_counter() - start, 1),
        "curve": {str(i + 1): round(curve[i], 4) for i in keep},
    }


def loss_of(arm: str, model: Any, images: Tensor, codes: Tensor) -> Tensor:
    labels, instances = decoded(codes)
    if arm == PER_PIXEL:
        return CrossEntropyLoss()(model(images), labels)
    numbers = instances if arm == INSTANCES else [None] * len(labels)
    targets = [mask_targets(own, number) for own, number in zip(labels, numbers, strict=True)]
    return MaskLoss().compare(model.queries(images), targets, labels != 255)


# ---------------------------------------------------------------- measures


def components(labels: NDArray[np.uint8], smallest: int) -> NDArray[np.int32]:
    """Instance numbers of a label map: each connected part of a thing, if it is large enough."""
    found = np.zeros(labels.shape, np.int32)
    for thing in THINGS:
        parts, count = ndimage.label(labels == thing)
        for part in range(1, count + 1):
            if (parts == part).sum() >= smallest:
                found[parts == part] = found.max() + 1
    return found


def panoptic_scores(pairs: Sequence[Any], truths: Sequence[Any]) -> dict[str, list[float]]:
    """PQ, SQ and RQ of all classes, of things, and of stuff."""
    counts = PanopticCounts(CLASSES)
    for pair, truth in zip(pairs, truths, strict=True):
        counts.update(pair, truth)
    scores, stuff = counts.compute(), [c for c in range(CLASSES) if c not in THINGS]
    kinds = {"all": None, "things": THINGS, "stuff": stuff}
    return {name: [round(v, 4) for v in scores.mean(which)] for name, which in kinds.items()}


def mask_scores(
    arm: str, model: nn.Module, data: InMemory, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """mIoU of the label maps; panoptic quality with connected parts as instances, or of queries.

    Things of fewer than `settings["smallest"]` pixels are void in the truth of panoptic quality;
    parts of things that are smaller count as void, too. Queries: by threshold of their scores.
    """
    images, codes = (torch.stack(part) for part in zip(*map(data.__getitem__, range(len(data)))))  # noqa: B905
    labels, instances = decoded(codes)
    matrix, pairs, truths = ConfusionMatrix(CLASSES), [], []
    merged: dict[float, list[Any]] = {t: [] for t in settings["thresholds"]}
    model.eval()
    for image, label, instance in zip(images, labels, instances, strict=True):
        with torch.inference_mode():
            logits: Any = model(image[None].to(DEVICE))
        found = logits.argmax(1).cpu()
        matrix.update(found, label[None])
        semantic = found[0].numpy().astype(np.uint8)
        parts = components(semantic, settings["smallest"])
        semantic[np.isin(semantic, THINGS) & (parts == 0)] = 255
        pairs.append((semantic, parts))
        truths.append(truth_of(label.numpy(), instance.numpy(), settings["smallest"]))
        if arm == INSTANCES:
            queries = logits.queries
            masks = queries.masks(*label.shape)[0]
            for t in merged:
                best = merge_queries(queries.class_logits[0], masks, label.shape, t, 0.8, THINGS)
                merged[t].append((best.semantic, best.instance))
    scores = matrix.compute(data.classes)
    result: dict[str, Any] = {
        "miou": round(scores.miou, 4),
        "iou": {
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in zip(scores.classes, scores.iou, strict=True)
        },
        "components": panoptic_scores(pairs, truths),
    }
    if arm == INSTANCES:
        result["queries"] = {str(t): panoptic_scores(own, truths) for t, own in merged.items()}
    return result


def truth_of(
    semantic: NDArray[np.int64], instance: NDArray[np.int64], smallest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    numbers, sizes = np.unique(instance, return_counts=True)
    tiny = numbers[(sizes < smallest) & (numbers > 0)]
    return np.where(np.isin(instance, tiny), 255, semantic), instance
