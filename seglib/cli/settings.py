"""The settings of a training run: from a TOML recipe, from flags of the same names, or both."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglib.util.suggest import did_you_mean

HELP = {  # what a name alone does not tell, for --help
    "amp": "bf16 or fp16: the forward pass in half precision",
    "accumulate": "batches to a step of the optimiser, as one batch of so many times the size",
    "ema": "0.999, say: evaluate and keep a moving average of the weights; 0: none",
    "channels_last": "true: images in memory with the channels last; faster on many GPUs",
    "compile": "true: torch.compile; a minute at the start, faster steps",
    "sync_batchnorm": "true: BatchNorm over the images of all processes (GPUs, torchrun)",
    "cache": "decoded images in memory: yes, auto (if they fit into a quarter of what is free), or "
    "a size such as 2GB",
    "workers": "processes that read and augment images",
    "clip": "bound of the gradient's norm; 0: none",
    "patience": "epochs without a better one before stopping; 0: never",
    "backbone_lr": "0: as lr",
    "freeze_epochs": "first epochs in which the backbone rests",
    "device": "auto, cpu, cuda, mps",
}


@dataclass
class TrainSettings:
    """Everything that `python -m seglib train` can be told, with its defaults.

    `data` is "streets", "scans", "camvid", "ultrasound" or "folder": then `root` has train/ and
    val/, each with images/ and masks/, and `classes` names the labels 0, 1, … Options of the model
    itself (base_channels, depth, …) are collected in `options`.
    """

    data: str = "camvid"
    root: str = ""
    classes: tuple[str, ...] = ()
    label_map: tuple[str, ...] = ()  # file's label:label, as 255:1 (data folder)
    palette: str = ""  # text file of colours for coloured masks (data folder)
    train_split: str = "train"
    val_split: str = "val"
    height: int = 96
    width: int = 128
    model: str = "unet"
    pretrained: str = "none"  # backbone (ImageNet), coco or streets
    epochs: int = 20
    batch_size: int = 8
    lr: float = 2e-3
    backbone_lr: float = 0.0  # 0: as lr
    freeze_epochs: int = 0  # first epochs in which the backbone rests
    weight_decay: float = 0.01
    schedule: str = "onecycle"
    clip: float = 0.0  # bound of the gradient's norm; 0: none
    patience: int = 0  # epochs without a better one before stopping; 0: never
    loss: str = "cross-entropy"  # focal, dice, tversky, lovasz, or cross-entropy+dice, …
    class_weights: str = "none"  # none, median, enet, inverse or effective
    label_smoothing: float = 0.0
    zoom: tuple[float, ...] = (0.8, 2.0)
    stretch: float = 1.2
    flip: float = 0.5
    colour: float = 0.3
    workers: int = 0
    seed: int = 0
    device: str = "auto"
    amp: str = "none"  # bf16 or fp16: the forward pass in half precision
    accumulate: int = 1  # batches to a step of the optimiser
    ema: float = 0.0  # of the weights' moving average, such as 0.999; 0: none
    channels_last: bool = False  # the channels last in memory
    compile: bool = False  # torch.compile for the steps
    sync_batchnorm: bool = False  # over all processes (CUDA)
    cache: str = "no"  # decoded images in memory: yes, auto or a size
    options: dict[str, Any] = field(default_factory=dict)

    def compared(self) -> dict[str, Any]:
        """What must be equal for a run to be resumed: all but where it computes and reads."""
        # (`fit` itself compares the model's options, what the loss says of itself, and what else
        # of these decides the result)
        elsewhere = [
            "root",
            "workers",
            "device",
            "options",
            "loss",
            "backbone_lr",
            "freeze_epochs",
            "amp",
            "accumulate",
            "ema",
            "channels_last",
            "compile",
            "sync_batchnorm",
            "cache",
        ]
        if self.pretrained == "none":
            elsewhere.append("pretrained")  # as in runs from before there was a choice
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in elsewhere}


def read_settings(recipe: str | os.PathLike[str] | None, flags: dict[str, str]) -> TrainSettings:
    """Settings from a TOML file (or none), overridden by `flags` (name -> text).

    Raises FileNotFoundError for a missing recipe, ValueError for a file that is no TOML, an
    unknown key (naming the nearest valid one) or a value of the wrong type.
    """
    from seglib.models import model_options

    values: dict[str, Any] = {}
    if recipe is not None:
        path = Path(recipe)
        if not path.is_file():
            raise FileNotFoundError(f"there is no recipe {path}; recipes are TOML files")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not valid TOML: {error}") from None
    values |= {name.replace("-", "_"): text for name, text in flags.items()}
    model = str(values.get("model", TrainSettings.model))
    return _build(values, model_options(model))


def _build(values: dict[str, Any], model_defaults: dict[str, Any]) -> TrainSettings:
    settings = TrainSettings()
    own = [f.name for f in dataclasses.fields(settings) if f.name != "options"]
    for key, value in values.items():
        if key in own:
            setattr(settings, key, convert(key, value, getattr(settings, key)))
        elif key in model_defaults:
            settings.options[key] = convert(key, value, model_defaults[key])
        else:
            known = [*own, *model_defaults]
            raise ValueError(f"there is no setting {key!r}{did_you_mean(key, known)}")
    return settings


def convert(key: str, value: Any, default: Any) -> Any:
    """`value`, from TOML or as a flag's text, as the type of `default`.

    >>> convert("zoom", "0.5,2", (1.0,)), convert("epochs", "12", 20), convert("aux", "true", False)
    ((0.5, 2.0), 12, True)
    """
    if isinstance(default, tuple):
        parts = value.split(",") if isinstance(value, str) else list(value)
        if default and isinstance(default[0], float | int):
            return tuple(convert(key, part, default[0]) for part in parts)
        return tuple(str(part).strip() for part in parts)
    kind = type(default)
    if kind is bool and isinstance(value, str):
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
    elif isinstance(value, str) and kind is not str:
        try:
            return kind(value)
        except ValueError:
            pass
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is kind:
        return value
    what = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    raise ValueError(f"found {key} = {value!r}, expected {what} such as {default!r}")
