"""Checkpoints: one file with the weights and all that is needed to use or resume them.

Written beside and renamed, so a kill leaves the old file or the new one; read with
`weights_only=True`, so a file from a stranger cannot run code.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seglib.models import create_model, is_model
from seglib.models.pretrained import read_file
from seglib.transforms import IMAGENET_MEAN, IMAGENET_STD
from seglib.util.files import atomic_write, free_bytes
from seglib.util.machine import describe_machine

FORMAT = "seglib-1"
KEYS = {
    *("model", "num_classes", "options", "classes", "palette", "size", "mean", "std"),
    *("state", "training"),
}


@dataclass(frozen=True)
class DataSpec:
    """How the data looked that a model was trained on; a checkpoint carries it."""

    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()  # 0…255
    size: tuple[int, int] | None = None  # height, width
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @classmethod
    def of(cls, dataset: Any) -> DataSpec:
        """Read the description off a data set of ours (or a Subset of one)."""
        while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        transform: Any = getattr(dataset, "transform", None)
        sized = hasattr(transform, "height") and hasattr(transform, "width")
        return cls(
            classes=tuple(getattr(dataset, "classes", ())),
            palette=_rows(getattr(dataset, "palette", ())),
            size=(int(transform.height), int(transform.width)) if sized else None,
            mean=tuple(getattr(transform, "mean", IMAGENET_MEAN)),
            std=tuple(getattr(transform, "std", IMAGENET_STD)),
        )


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the model in eval mode, its data, and the training state if kept."""

    model: nn.Module
    data: DataSpec
    training: dict[str, Any] | None


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    data: DataSpec | None = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint whole or not at all.

    `training` (optimiser, schedule, epoch, …) may hold tensors and plain Python values only.
    Raises OSError, with the old file unharmed, if the disk is full or the folder unwritable.
    """
    path, data = Path(path), data or DataSpec()
    content = {
        "format": FORMAT,
        "model": getattr(model, "name", type(model).__name__),
        "num_classes": getattr(model, "num_classes", None),
        "options": dict(getattr(model, "options", {})),
        "classes": list(data.classes),
        "palette": [list(colour) for colour in data.palette],
        "size": list(data.size) if data.size else None,
        "mean": list(data.mean),
        "std": list(data.std),
        "state": model.state_dict(),
        "training": training,
    }
    make_folder(path.parent)
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as handle:
            torch.save(content, handle)
    except (OSError, RuntimeError) as error:  # torch's writer turns one into the other
        free = free_bytes(path.parent) / 1e6
        raise OSError(
            f"could not write {path} ({error}); {free:.0f} MB are free there; the file of before "
            "is unharmed; make room or choose another folder"
        ) from error


def load_checkpoint(
    path: str | os.PathLike[str], model: nn.Module | None = None, device: str = "cpu"
) -> Checkpoint:
    """Read a checkpoint and rebuild its model (or fill `model`, needed if it is not one of ours).

    Raises FileNotFoundError, or ValueError if it is damaged, of another library, or does not fit.
    """
    content = read_content(path)
    if model is None:
        if not is_model(content["model"]):
            raise ValueError(
                f"{path} holds a {content['model']}, which is not one of this library's models; "
                "build it yourself and pass it: load_checkpoint(path, model=…)"
            )
        model = create_model(content["model"], content["num_classes"], **content["options"])
    try:
        model.load_state_dict(content["state"])
    except RuntimeError as error:
        first = str(error).strip().splitlines()
        raise ValueError(
            f"the weights in {path} ({content['model']}, {content['num_classes']} classes, "
            f"{content['options']}) do not fit the model given: {' '.join(first[1:2]).strip()}; "
            "build the model with the checkpoint's options, or leave model out"
        ) from None
    size = tuple(content["size"]) if content["size"] else None
    classes, mean, std = (tuple(content[key]) for key in ("classes", "mean", "std"))
    data = DataSpec(classes, _rows(content["palette"]), size, mean, std)
    return Checkpoint(model.to(device).eval(), data, content["training"])


def load_model(
    path: str | os.PathLike[str], model: nn.Module | None = None, device: str = "cpu"
) -> nn.Module:
    """The model of a checkpoint, in eval mode on `device`. Errors as `load_checkpoint`."""
    return load_checkpoint(path, model, device).model


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The raw content of a checkpoint, checked to be one of ours."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}; training writes one with --out")
    remedy = "use another copy (best.pt or last.pt of the same run)"
    content = read_file(path, "a checkpoint", remedy)
    if "format" not in content:
        bare = all(torch.is_tensor(value) for value in content.values())
        what = f"bare state dict of {len(content)} tensors" if bare else "dict"
        raise ValueError(
            f"{path} is not a checkpoint of this library but a {what}; build the model yourself "
            "and use model.load_state_dict(torch.load(path, weights_only=True))"
        )
    if (found := content["format"]) != FORMAT:
        raise ValueError(f"{path} has format {found!r}, not {FORMAT!r}; update seglib or retrain")
    if missing := sorted(KEYS - content.keys()):
        raise ValueError(f"{path} lacks {', '.join(missing)}; it is damaged, use another copy")
    return content


def read_training(path: Path, resume: bool, settings: dict[str, Any]) -> dict[str, Any]:
    """The training state in `path` with the weights under "state", if this run may go on from it.

    Raises FileExistsError if `resume` was not asked for, ValueError, naming the key, if a
    setting differs. Warns if the thread count or torch's version does: then the last digits may.
    """
    content = read_content(path)
    saved = content["training"]
    if saved is None:
        raise ValueError(f"{path} holds weights but no training state; it cannot be resumed")
    if not resume:
        raise FileExistsError(
            f"{path.parent} holds a run already ({len(saved['rows'])} of "
            f"{saved['settings']['epochs']} epochs); go on with resume=True (--resume), or choose "
            "another out"
        )
    for key in {**saved["settings"], **settings}:
        before, now = saved["settings"].get(key), settings.get(key)
        if before != now:
            raise ValueError(
                f"cannot resume {path.parent}: {key} was {before!r}, now it is {now!r}; use the "
                "old value, or choose another out"
            )
    machine = describe_machine(torch.device("cpu"))
    for key in ("threads", "torch"):
        before, now = saved["machine"][key], machine[key]
        if before != now:
            text = f"this run had {key} {before} and goes on with {now}: last digits may differ"
            warnings.warn(text, stacklevel=3)
    return {**saved, "state": content["state"]}


def make_folder(folder: Path) -> None:
    """Make a folder for output; OSError with a remedy if that, or writing there, is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the folder {folder} ({error}); choose another out") from None
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {folder} cannot be written; choose another out")


def _rows(palette: Sequence[Any]) -> tuple[tuple[int, int, int], ...]:
    return tuple((int(r), int(g), int(b)) for r, g, b in palette)
