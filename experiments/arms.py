"""One arm of an experiment: a U-Net trained by given settings, its scores, and data in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fingerprints import ROOT, fingerprint
from numpy.typing import NDArray
from torch.utils.data import Subset

from seglib.data import RenderedStreets, class_statistics, make_loader
from seglib.data.dataset import SegmentationDataset
from seglib.losses import CrossEntropyLoss, class_weights
from seglib.metrics import Scores
from seglib.models.unet import UNet
from seglib.training import evaluate, fit
from seglib.transforms import TrainTransform, train_transform
from seglib.util.files import atomic_write
from seglib.util.progress import progress

# What decides a trained network's scores (see fingerprints.py)
LOOP = (
    "make_scheduler train_epoch epoch_randomness loss_denominator last_denominator batch_weights "
    "grouped make_optimizer optimizer_step SampleKey EpochSampler make_loader resize_image "
    "resize_mask _centres normalise cut_window EvalTransform TrainTransform"
)
OVERLAP = (
    "TverskyLoss DiceLoss LovaszSoftmaxLoss LinearPiece largest_first jaccard_steps soft_counts "
    "mean_over_present as_weight checked"
)
UNET = "UNet Up DoubleConv make_norm"
TRAINING = (LOOP, UNET, "InMemory augmentation arms.train CrossEntropyLoss class_weights")
# What decides how rendered street scenes and slices look
RENDERING = ("rendered_streets", "seglib/data/render/[!s]*.py", "seglib/data/render/street*.py")
RENDERED_SLICES = ("seglib/data/render/scan*.py", "seglib/data/render/outlines.py")


class InMemory(SegmentationDataset):
    """Images (N, H, W, 3) and masks (N, H, W) with the classes of another data set."""

    def __init__(
        self, images: NDArray[np.uint8], masks: NDArray[np.uint8], like: Any, transform: Any = None
    ) -> None:
        names = [Path(f"{type(like).__name__} {i}") for i in range(len(images))]
        super().__init__(
            list(zip(names, names, strict=True)),
            like.classes,
            palette=like.palette,
            transform=transform,
        )
        self.images, self.masks = images, masks

    @classmethod
    def copy_of(cls, dataset: Any, transform: Any = None) -> InMemory:
        """Read (or render) everything once."""
        pairs = progress(
            (dataset.read(i) for i in range(len(dataset))), desc="reading", total=len(dataset)
        )
        images, masks = zip(*pairs, strict=True)
        return cls(np.stack(images), np.stack(masks), dataset, transform)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        self._pair(index)
        return self.images[index], self.masks[index]

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        return self.read(index)[1]


def rendered_streets(settings: Mapping[str, Any], transform: Any) -> InMemory:
    """Scenes to train on: rendered once, kept in runs/scenes/ under the renderer's fingerprint."""
    first, count = settings["first_seed"], settings["scenes"]
    scenes = RenderedStreets(
        range(first, first + count), *settings["scene_size"], light=settings["light"]
    )
    height, width = settings["scene_size"]
    name = f"{settings['light']}_{height}x{width}_{first}_{count}"
    path = ROOT / "runs" / "scenes" / f"{name}_{fingerprint(RENDERING, {})}.npz"
    if not path.exists():
        stored = InMemory.copy_of(scenes)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, images=stored.images, masks=stored.masks)
        for stale in set(path.parent.glob(f"{name}_*.npz")) - {path}:  # of another renderer
            stale.unlink()
    with np.load(path) as content:
        return InMemory(content["images"], content["masks"], scenes, transform)


def augmentation(settings: Mapping[str, Any], extra: Iterable[Any] = ()) -> TrainTransform:
    """`train_transform` as the settings say."""
    return train_transform(
        settings["height"],
        settings["width"],
        zoom=tuple(settings["zoom"]),
        stretch=settings["stretch"],
        flip=settings["flip"],
        colour=settings["colour"],
        extra=list(extra),
    )


def train(data: Any, settings: Mapping[str, Any], seed: int) -> tuple[UNet, dict[str, Any]]:
    """Train a U-Net on `data` (its transform augments); the last epoch counts, none is chosen.

    The budget is `settings["images"]` (seen in all, whole epochs), or `settings["seconds"]`: then
    the machine's speed is tried first, and the epochs are as many as fit, so that the schedule
    ends in time.
    """
    weights = settings["class_weights"]
    loss = CrossEntropyLoss(
        weight=None if weights == "none" else class_weights(class_statistics(data), weights)
    )
    loader = make_loader(data, settings["batch_size"], shuffle=True, seed=seed)
    per_epoch = len(loader) * settings["batch_size"]
    if "images" in settings:
        images = settings["images"]
    else:
        images = settings["seconds"] * speed(data, settings)
    epochs = max(1, int(images / per_epoch))
    torch.manual_seed(seed)
    model = UNet(data.num_classes, base_channels=settings["base_channels"])
    start = time.perf_counter()
    history = fit(
        model,
        loader,
        channels_last=False,
        epochs=epochs,
        lr=settings["lr"],
        loss=loss,
        seed=seed,
        weight_decay=settings["weight_decay"],
        schedule="onecycle",
    )
    seconds = time.perf_counter() - start
    return model, {
        "epochs": epochs,
        "images_seen": epochs * per_epoch,
        "fit_seconds": round(seconds, 1),
        "images_per_second": round(epochs * per_epoch / seconds, 1),
        "curve": [round(row["train_loss"], 4) for row in history.rows],
    }


def speed(data: Any, settings: Mapping[str, Any], images: int = 240) -> float:
    """Images a second of training, after a start that does not count."""
    model = UNet(data.num_classes, base_channels=settings["base_channels"])
    for count in (16, images):
        part = Subset(data, [i % len(data) for i in range(count)])
        loader = make_loader(part, settings["batch_size"], shuffle=True)
        start = time.perf_counter()
        fit(model, loader, epochs=1, channels_last=False)
    return len(loader) * settings["batch_size"] / (time.perf_counter() - start)


def short(scores: Scores) -> dict[str, Any]:
    """mIoU, IoU of each class (None: absent) and pixel accuracy, rounded."""
    iou = {
        name: None if np.isnan(value) else round(float(value), 4)
        for name, value in zip(scores.classes, scores.iou, strict=True)
    }
    return {
        "miou": round(scores.miou, 4),
        "pixel_accuracy": round(scores.pixel_accuracy, 4),
        "iou": iou,
    }


def scores_on(model: torch.nn.Module, data: Any, by_group: bool = False) -> dict[str, Any]:
    """Scores over all of `data`, one confusion matrix; and of each group (drive) if asked for."""
    found = evaluate(model, make_loader(data, 8), per_image=by_group)
    groups = found.by_group(data.groups) if by_group else {}
    whole = {**short(found), "images": len(data)}
    return whole | (
        {"groups": {name: short(scores) for name, scores in groups.items()}} if by_group else {}
    )
