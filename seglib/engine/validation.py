"""What `fit` and `evaluate` check before they compute, and what they say when something is off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seglib.engine.checkpoints import DataSpec
from seglib.engine.schedules import SCHEDULES
from seglib.losses.check import check_labels
from seglib.util.suggest import did_you_mean

COMPARED = (  # the arguments of `fit` that a run must be resumed with
    *("epochs", "lr", "weight_decay", "schedule", "clip", "patience", "seed", "ignore_index"),
    *("backbone_lr", "freeze_epochs", "amp", "accumulate", "ema"),
)


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


def describe(model: nn.Module, loader: Any) -> dict[str, Any]:
    """What of a model and a training loader decides the result, for comparison on resume."""
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
        "order": (getattr(sampler, "shuffle", None), getattr(sampler, "seed", None)),
        "size": data.size,
        "mean": data.mean,
        "std": data.std,
        "augmentation": {key: value for key, value in settings if isinstance(value, plain)},
        "pipeline": re.sub(r" at 0x[0-9a-f]+", "", repr(getattr(transform, "pipeline", None))),
    }


def check_ignore_index(ignore_index: int, dataset: Any, loss: nn.Module | None) -> None:
    """Raise ValueError if data, loss and metric do not mean the same label by void."""
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
            "logits (N, C, H, W) at the target's size (N, H, W)"
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
