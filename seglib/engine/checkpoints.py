"""Checkpoints: one file with the weights and all that is needed to use or resume them.

Written beside and renamed, so a kill leaves the old file or the new one; read with
`weights_only=True`, so a file from a stranger cannot run code; so they hold plain values only.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seglib.engine.normalisation import normalisation
from seglib.engine.plain import plain
from seglib.models import create_model, is_model
from seglib.models.pretrained import (
    FORMAT,
    bare_names,
    differences,
    numbers,
    read_content,
    set_normalisation,
)
from seglib.transforms import IMAGENET_MEAN, IMAGENET_STD
from seglib.util.files import atomic_write, free_bytes
from seglib.util.machine import describe_machine


@dataclass(frozen=True)
class DataSpec:
    """How the data looked that a model was trained on; a checkpoint carries it.

    Without a word about the data, the library's own normalisation is meant.
    """

    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()  # 0…255
    size: tuple[int, int] | None = None  # height, width; None: unknown, here and below
    mean: tuple[float, ...] | None = IMAGENET_MEAN
    std: tuple[float, ...] | None = IMAGENET_STD
    label_map: dict[int, int] = field(default_factory=dict)  # of the files' labels
    mask_palette: tuple[tuple[int, int, int], ...] = ()  # the key to coloured masks, if they are

    @classmethod
    def of(cls, dataset: Any) -> DataSpec:
        """Read the description off a data set of ours, a Subset or a ConcatDataset of them.

        What a transform of the reader's own does is unknown: no `mean` is better than a wrong one.
        """
        transform: Any = getattr(dataset, "transform", None)  # (the outermost is the last)
        while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
            dataset = dataset.dataset
            transform = getattr(dataset, "transform", None) if transform is None else transform
        if not hasattr(dataset, "classes") and getattr(dataset, "datasets", None):
            return cls._common([cls.of(part) for part in dataset.datasets])
        classes, label_map = getattr(dataset, "classes", ()), getattr(dataset, "label_map", None)
        if not isinstance(classes, list | tuple | np.ndarray):
            raise ValueError(
                f"the data set's classes are {classes!r:.50}, expected a list of names"
            )
        sized = hasattr(transform, "height") and hasattr(transform, "width")
        return cls(
            classes=tuple(str(name) for name in classes),
            palette=_rows(getattr(dataset, "palette", None)),
            size=(int(transform.height), int(transform.width)) if sized else None,
            mean=numbers(getattr(transform, "mean", None)),
            std=numbers(getattr(transform, "std", None)),
            label_map=plain(label_map, "label_map") if isinstance(label_map, Mapping) else {},
            mask_palette=_rows(getattr(dataset, "_mask_colours", None)),
        )

    @classmethod
    def _common(cls, parts: list[DataSpec]) -> DataSpec:
        """What all parts agree in; ValueError if they have other classes."""
        if len(names := {part.classes for part in parts}) > 1:
            raise ValueError(f"found data sets of different classes put together: {sorted(names)}")
        found = {f.name: [getattr(part, f.name) for part in parts] for f in fields(cls)}
        common = {name: v[0] for name, v in found.items() if v.count(v[0]) == len(v)}
        return cls(**{"mean": None, "std": None, **common})


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

    Without `data`, the images' normalisation is that of the model. `training` (optimiser, schedule,
    epoch, …) may hold tensors and what `plain` takes. Raises OSError, with the old file unharmed,
    if the disk is full or the folder unwritable.
    """
    path = Path(os.path.expanduser(path))
    mean, std = normalisation(unwrapped(model))
    data = data or DataSpec(mean=mean, std=std)
    content = header(model, data) | {"state": plain_state(model)}
    content["training"] = plain(training, "training")
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


def header(model: nn.Module, data: DataSpec) -> dict[str, Any]:
    """What a checkpoint says beside weights and training; ValueError for what it cannot hold."""
    inner = unwrapped(model)
    name, options = getattr(inner, "name", None), getattr(inner, "options", None)
    told = {
        "format": FORMAT,
        "model": name if isinstance(name, str) else type(inner).__name__,
        "num_classes": getattr(inner, "num_classes", None),
        "options": options if isinstance(options, dict) else {},
        **vars(data),
    }
    return {key: plain(value, key) for key, value in told.items()}


def unwrapped(model: Any) -> nn.Module:
    """The network in what torch.compile, DataParallel and its kin put around it."""
    around = nn.DataParallel, nn.parallel.DistributedDataParallel
    while hasattr(model, "_orig_mod") or isinstance(model, around):
        model = getattr(model, "_orig_mod", None) or model.module
    return model


def plain_state(model: nn.Module) -> dict[str, Any]:
    """The weights under the names that they have without torch.compile and DataParallel."""
    state = unwrapped(model).state_dict()
    for name, key in bare_names(state).items():
        state[name] = plain(state.pop(key), key)  # (in place: it carries its layers' versions)
    return state


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill `model`, wrapped or not, with weights of a model, wrapped or not. ValueError: unfit."""
    model = unwrapped(model)
    own, given = bare_names(model.state_dict()), bare_names(state)
    if given.keys() != state.keys() or own.keys() != set(own.values()):
        state = {own.get(name, name): state[key] for name, key in given.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        unlike = differences(model.state_dict(), state)
        raise ValueError(unlike or str(error).splitlines()[-1].strip()[:200]) from None


def load_checkpoint(
    path: str | os.PathLike[str], model: nn.Module | None = None, device: str = "cpu"
) -> Checkpoint:
    """Read a checkpoint and rebuild its model (or fill `model`, needed if it is not one of ours).

    `path` may be "streets" or "imagenet+streets", which are carried; a file called so wins.
    Raises FileNotFoundError, or ValueError if it is damaged, of another library, or does not fit.
    """
    content = read_content(path)
    if model is None:
        if not is_model(content["model"]):
            raise ValueError(
                f"{path} holds a {content['model']}, which is not one of this library's models; "
                "build it yourself and pass it: load_checkpoint(path, model=…)"
            )
        model = _rebuilt(path, content)
    try:
        load_state(model, content["state"])
    except ValueError as error:
        raise ValueError(
            f"the weights in {path} ({content['model']}, {content['num_classes']} classes, "
            f"{content['options']}) do not fit the model given: {error}; build the model with the "
            "checkpoint's options, or leave model out"
        ) from None
    set_normalisation(unwrapped(model), content)
    return Checkpoint(model.to(device).eval(), _described(path, content), content["training"])


def _rebuilt(path: str | os.PathLike[str], content: dict[str, Any]) -> nn.Module:
    """The model that a checkpoint names; whatever is odd about its options is a ValueError."""
    name, classes, options = (content[key] for key in ("model", "num_classes", "options"))
    try:
        large = [v for v in (classes, *options.values()) if isinstance(v, int) and v > 100_000]
        if large:  # would take all memory before the weights tell
            raise ValueError(f"{large[0]} is no size of a network")
        return create_model(name, classes, **options)
    except Exception as error:
        raise ValueError(
            f"cannot rebuild the {name} of {path} ({classes} classes, {options}): {error}; the "
            "file is damaged or of another version: build the model yourself and pass model=…"
        ) from None


def _described(path: str | os.PathLike[str], content: dict[str, Any]) -> DataSpec:
    """What a checkpoint says of the data; ValueError if that is no description."""
    try:
        classes, size = tuple(content["classes"]), content["size"]
        if not all(isinstance(name, str) for name in classes):
            raise ValueError(f"found classes {classes}, expected names")
        return DataSpec(
            classes,
            _rows(content["palette"]),
            tuple(size) if size else None,
            numbers(content["mean"]),
            numbers(content["std"]),
            content.get("label_map", {}),  # (older files have none)
            _rows(content.get("mask_palette")),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} describes its data wrongly: {error}; it is damaged") from None


def load_model(
    path: str | os.PathLike[str], model: nn.Module | None = None, device: str = "cpu"
) -> nn.Module:
    """The model of a checkpoint, in eval mode on `device`. Errors as `load_checkpoint`."""
    return load_checkpoint(path, model, device).model


def read_training(path: Path, resume: bool | str, settings: dict[str, Any]) -> dict[str, Any]:
    """The training state in `path` with the weights under "state", if this run may go on from it.

    Raises FileExistsError if `resume` was not asked for, ValueError, naming the key, if a
    setting differs (but for more epochs with "extend"). Warns if the thread count or torch's
    version does: then the last digits may.
    """
    content = read_content(path)
    saved = content["training"]
    if saved is None:
        raise ValueError(f"{path} holds weights but no training state; it cannot be resumed")
    before, done = saved["settings"], len(saved["rows"])
    if not resume:
        raise FileExistsError(
            f"{path.parent} holds a run already ({done} of {before['epochs']} epochs); go on with "
            "resume=True (--resume), or choose another out"
        )
    for key in {**before, **settings}:
        old, new = before.get(key), settings.get(key)  # type: Any, Any
        if old == new or (key == "epochs" and resume == "extend" and new > done):
            continue
        more = f'; for more than the {done} done pass resume="extend" (--extend)'
        raise ValueError(
            f"cannot resume {path.parent}: {key} was {old!r}, now it is {new!r}; use the old "
            f"value, or choose another out{more if key == 'epochs' else ''}"
        )
    machine = describe_machine(torch.device("cpu"))
    for key in ("threads", "torch"):
        old, new = saved["machine"][key], machine[key]
        if old != new:
            text = f"this run had {key} {old} and goes on with {new}: last digits may differ"
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


def _rows(palette: Any) -> tuple[tuple[int, int, int], ...]:
    """Colours as plain rows; none of what is no table of whole numbers."""
    try:
        table = np.asarray(() if palette is None else palette)
    except ValueError:  # rows of several lengths
        return ()
    if table.ndim != 2 or table.shape[1] != 3 or table.dtype.kind not in "iu":
        return ()
    return tuple((r, g, b) for r, g, b in table.tolist())
