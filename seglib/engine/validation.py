"""What `fit` and `evaluate` check before they compute, and what they say when something is off."""

from __future__ import annotations

import hashlib
import inspect
import re
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from seglib.data import RenderedScans, RenderedStreets
from seglib.data.statistics import count_classes
from seglib.engine.checkpoints import DataSpec, unwrapped
from seglib.engine.normalisation import own_normalisation
from seglib.engine.schedules import SCHEDULES
from seglib.losses import CrossEntropyLoss, MaskLoss
from seglib.losses.check import check_labels
from seglib.util.progress import progress
from seglib.util.suggest import did_you_mean

COMPARED = (  # the arguments of `fit` that a run must be resumed with
    *("epochs", "lr", "weight_decay", "schedule", "clip", "patience", "seed", "ignore_index"),
    *("backbone_lr", "freeze_epochs", "amp", "accumulate", "ema"),
)
ONE_CLASS = (
    "found one class only, of which every pixel is right and the loss is 0; name the background as "
    "a class, too, and build the model with num_classes=2 (masks of 0 and 255: label_map={255: 1})"
)
MOST_MASKS = 5000  # that are read before a training: it takes a minute, or less


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the setting, if one of `fit`'s cannot be meant."""
    for name in ("epochs", "lr", "clip", "patience", "backbone_lr", "accumulate"):
        value = settings[name]
        if value is not None and not value > 0:
            raise ValueError(f"found {name}={value}, expected a number above 0")
    for name in ("seed", "freeze_epochs"):
        if settings[name] is not None and settings[name] < 0:
            raise ValueError(f"found {name}={settings[name]}, expected a whole number from 0 up")
    ema, schedule = settings["ema"], settings["schedule"]
    if ema is not None and not 0 < ema < 1:
        raise ValueError(f"found ema={ema}, expected a number between 0 and 1 such as 0.999")
    if schedule not in SCHEDULES:
        raise ValueError(f"there is no schedule {schedule!r}{did_you_mean(schedule, SCHEDULES)}")


def as_loss(loss: Any, ignore_index: int, device: torch.device, model: Any = None) -> Any:
    """`loss` on the device; a function that can leave a label out (F.cross_entropy) does so.

    None: cross-entropy, or `MaskLoss` for a model that classifies masks.
    """
    if loss is None:
        masks = getattr(unwrapped(model), "classifies_masks", False)
        loss = (MaskLoss if masks else CrossEntropyLoss)(ignore_index=ignore_index)
    if isinstance(loss, nn.Module):
        return loss.to(device)
    if isinstance(loss, type) or not callable(loss):
        raise ValueError(
            f"found loss={loss!r}, expected a module such as DiceLoss(), with its brackets, or a "
            "function of (logits, target)"
        )
    knows = inspect.isroutine(loss) and "ignore_index" in inspect.signature(loss).parameters
    return partial(loss, ignore_index=ignore_index) if knows else loss


def check_trainable(model: nn.Module) -> None:
    """Raise ValueError if no parameter would learn."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "the model has no parameter that learns: all are frozen, or there are none; unfreeze "
            "some: seglib.models.unfreeze(part)"
        )


def check_normalisation(model: nn.Module, dataset: Any) -> None:
    """Warn of images that are normalised otherwise than the model or its backbone knows them."""
    data, expected = DataSpec.of(dataset), own_normalisation(unwrapped(model))
    if expected is None or data.mean is None or data.std is None:
        return
    mean, std = expected
    alike = len(data.mean) == len(mean) and np.allclose((data.mean, data.std), expected, atol=1e-5)
    if not alike:
        warnings.warn(
            f"found images normalised by mean {data.mean} and std {data.std}, but the model's "
            f"weights expect {mean} and {std}; pass mean and std: train_transform(…, mean={mean}, "
            f"std={std}), and so for eval_transform and predict",
            stacklevel=3,
        )


def check_masks(loader: Any, where: str) -> bool:
    """Read the masks of a data set of ours, or return False.

    Raises ValueError for a label that is no class, or if there are no two classes to tell apart.
    """
    dataset: Any = getattr(loader, "dataset", None)
    known = isinstance(dataset, RenderedScans | RenderedStreets)  # (as right as the renderer)
    if not hasattr(dataset, "read_mask") or known or getattr(loader, "labels_checked", False):
        return False
    indices = getattr(loader.sampler, "indices", range(len(dataset)))
    if len(indices) > MOST_MASKS:
        return False
    masks = map(dataset.read_mask, progress(indices, desc=f"reading the masks {where}"))
    pixels = count_classes(masks, dataset.classes, dataset.ignore_index).pixels
    check_told_apart(pixels, where)
    return True


def check_told_apart(pixels: ArrayLike, where: str) -> None:
    """Raise ValueError unless two classes or more have `pixels` in the masks."""
    labels = np.flatnonzero(pixels)
    if len(labels) < 2:
        found = f"the only label is {labels[0]}" if len(labels) else "all pixels are void"
        raise ValueError(
            f"in the masks {where} {found}, expected two classes or more: there is nothing to "
            "learn or to measure; look at the masks, the transform, and at label_map: {255: 1} for "
            "masks of 0 and 255"
        )


def describe(model: nn.Module, loader: Any, loss: Any) -> dict[str, Any]:
    """What of model, training loader and loss decides the result, for comparison on resume."""
    sampler: Any = getattr(loader, "sampler", None)
    dataset = getattr(loader, "dataset", None)
    data, transform = DataSpec.of(dataset), getattr(dataset, "transform", None)
    settings = getattr(transform, "__dict__", {}).items()
    plain = (bool, int, float, str, tuple)
    return {
        "model": getattr(model, "name", type(model).__name__),
        "num_classes": getattr(model, "num_classes", None),
        **getattr(model, "options", {}),
        "batch_size": getattr(loader, "batch_size", None),
        "images": len(sampler) if hasattr(sampler, "__len__") else None,
        "files": _digest(dataset, sampler),
        "order": (getattr(sampler, "shuffle", None), getattr(sampler, "seed", None)),
        "size": data.size,
        "mean": data.mean,
        "std": data.std,
        "augmentation": {key: value for key, value in settings if isinstance(value, plain)},
        "pipeline": _told(getattr(transform, "pipeline", None)),
        "loss": _told(loss),
    }


def _digest(dataset: Any, sampler: Any) -> str | None:
    """A few digits for the names of the images that are trained on: another split has others."""
    files = getattr(dataset, "files", None)
    if not isinstance(files, list | tuple):
        return None
    names = [Path(files[i][0]).name for i in getattr(sampler, "indices", range(len(files)))]
    return hashlib.sha256("\0".join(sorted(names)).encode()).hexdigest()[:8]


def _told(value: Any) -> str:
    """Its repr without the address in memory, which differs from run to run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def check_data(ignore_index: int, dataset: Any, loss: nn.Module | None) -> None:
    """Raise ValueError for a single class, and if not all mean the same label by void."""
    if len(DataSpec.of(dataset).classes) == 1:
        raise ValueError(ONE_CLASS)
    while not hasattr(dataset, "ignore_index") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    for what, owner in (("the data set", dataset), ("the loss", loss)):
        found = getattr(owner, "ignore_index", ignore_index)
        if found != ignore_index:
            raise ValueError(
                f"{what} has ignore_index {found}, but here it is {ignore_index}: void pixels "
                "would count as a class; pass the same ignore_index to all"
            )


def check_batch(logits: Tensor, target: Tensor, dataset: Any) -> None:
    """Raise ValueError unless logits (N, C, H, W) fit the target (N, H, W) and the classes."""
    classes = DataSpec.of(dataset).classes
    if classes and len(classes) != logits.shape[1]:
        raise ValueError(
            f"the model predicts {logits.shape[1]} classes, but the data set has {len(classes)} "
            f"({', '.join(classes[:4])}, …); build the model with num_classes={len(classes)}"
        )
    if target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"found logits {tuple(logits.shape)} for a target {tuple(target.shape)}, expected "
            "logits (N, C, H, W) at the target's size (N, H, W): let forward resize its output, "
            "and the transform give image and mask one size"
        )


def check_before_gpu(logits: Tensor, labels: Tensor, loader: Any, ignore_index: int) -> None:
    """Raise ValueError for a label that is no class, where a GPU would end the process instead.

    Not for a loader that has read its labels already: looking at what lies on a GPU waits for it.
    """
    if logits.device.type != "cpu" and not getattr(loader, "labels_checked", False):
        check_labels(labels, logits.shape[1], ignore_index)


def check_weights(model: nn.Module, epoch: int) -> None:
    """Raise FloatingPointError if training has left a value that is not finite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FloatingPointError(
                f"after epoch {epoch} the weights of {name} are not finite: a gradient has "
                "overflowed; lower lr or set clip=1.0; the checkpoints of before are whole"
            )


def not_finite(
    value: float, loader: Any, step: int, images: Tensor | None = None
) -> FloatingPointError:
    """The error for a loss that is not finite: which batch, which files, what to do."""
    epoch = getattr(loader.sampler, "epoch", None)
    when = f"batch {step + 1}" + ("" if epoch is None else f" of epoch {epoch + 1}")
    names = ""
    if epoch is not None and hasattr(loader.dataset, "files"):
        # The seeded sampler gives the same order again, so the batch's members are known.
        first = getattr(loader.sampler, "start", 0) // loader.batch_size  # (after a resume)
        batch = next(keys for i, keys in enumerate(loader.batch_sampler, first) if i == step)
        names = f" ({', '.join(loader.dataset.files[key][0].name for key in batch)})"
    whole = images is None or bool(torch.isfinite(images).all())
    cause = "" if whole else "; the images hold values that are not finite"
    return FloatingPointError(
        f"the loss is {value} at {when}{names}{cause}; lower lr, set clip=1.0, take bf16 where "
        "amp is fp16 (activations beyond 65504 are infinite in it), or look at these files; the "
        "checkpoints of before are whole"
    )
