"""The settings of a training run: from a TOML recipe, from flags of the same names, or both."""

import contextlib
import csv
import dataclasses
import json
import os
import tomllib
import types
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seglib.util.suggest import did_you_mean

HELP = {  # what a name alone does not tell, for --help
    "classes": "data folder: names of the labels 0,1,…",
    "label_map": "data folder: renames labels of the files, as 255:1",
    "palette": "data folder: text file of colours for coloured masks",
    "layout": "data folder: auto recognises VOC, Cityscapes, lists, one folder, …; or a name",
    "val_share": "with layout: share of train for val where there is none (0.2)",
    "pretrained": "imagenet (a backbone), coco, ade20k, hub, streets, imagenet+streets or a file",
    "backbone_lr": "none: as lr",
    "freeze_epochs": "first epochs in which the backbone is frozen",
    "clip": "bound of the gradient's norm",
    "patience": "epochs without a better one before stopping",
    "loss": "auto (mask for models of masks, else cross-entropy), cross-entropy, focal, dice, "
    "tversky, lovasz, mask, or a sum: cross-entropy+dice",
    "class_weights": "median, enet, dabnet, inverse or effective",
    "amp": "bf16 or fp16: the forward pass in half precision",
    "accumulate": "batches to a step of the optimiser, as one batch of so many times the size",
    "ema": "0.999, say: evaluate and keep a moving average of the weights",
    "channels_last": "images in memory with the channels last: faster on most machines",
    "compile": "torch.compile; a minute at the start, faster steps",
    "sync_batchnorm": "BatchNorm over the images of all processes (GPUs, torchrun)",
    "cache": "decoded images in memory: auto (if they fit into a quarter), all, or 2GB; device: on "
    "the GPU, and augmented there",
    "workers": "processes that read and augment images; auto: by device and cores",
    "device": "auto, cpu, cuda, mps",
}
# The options of all models; a test compares with them, so that --help need not load PyTorch.
MODEL_OPTIONS = (
    *("in_channels", "base_channels", "depth", "norm", "up", "backbone", "output_stride"),
    *("atrous_rates", "channels", "low_channels", "aux", "variant", "drop_path", "config"),
)
PATHS = ("root", "palette", "pretrained")  # in which ~ is the home folder
FAR = 2**63 - 1  # what PyTorch's integers hold
BOUNDS = {"weight_decay": (0, FAR), "workers": (0, FAR), "seed": (0, FAR), "colour": (0, 10)}
BOUNDS |= {"label_smoothing": (0, 1), "alpha": (0, 1)}  # (what nobody else looks at)


@dataclass
class TrainSettings:
    """Everything that `python -m seglib train` can be told, with its defaults; "none" is None.

    For `data` "folder", `root` has train/ and val/, each with images/ and masks/, and `classes`
    names the labels 0, 1, … Options of the model itself (depth, …) are collected in `options`.
    """

    data: str = "camvid"
    root: str | None = None
    classes: tuple[str, ...] = ()
    label_map: tuple[str, ...] = ()
    palette: str | None = None
    layout: str | None = None
    val_share: float | None = None
    train_split: str = "train"
    val_split: str = "val"
    height: int = 96
    width: int = 128
    model: str = "unet"
    pretrained: str | None = None
    epochs: int = 20
    batch_size: int = 8
    lr: float = 2e-3
    backbone_lr: float | None = None
    freeze_epochs: int = 0
    weight_decay: float = 0.01
    schedule: str = "onecycle"
    clip: float | None = None
    patience: int | None = None
    loss: str = "auto"
    class_weights: str | None = None
    label_smoothing: float = 0.0
    zoom: tuple[float, ...] = (0.8, 2.0)
    stretch: float = 1.2
    flip: float = 0.5
    colour: float = 0.3
    workers: int | Literal["auto"] = "auto"
    seed: int = 0
    device: str = "auto"
    amp: str | None = None
    accumulate: int = 1
    ema: float | None = None
    channels_last: bool = True
    compile: bool = False
    sync_batchnorm: bool = False
    cache: str | None = "auto"
    options: dict[str, Any] = field(default_factory=dict)

    def compared(self) -> dict[str, Any]:
        """What must be equal for a run to be resumed, beside what `fit` itself compares."""
        elsewhere = (
            *("root", "workers", "device", "options", "loss", "backbone_lr", "freeze_epochs"),
            *("amp", "accumulate", "ema", "channels_last", "compile", "cache"),
        )
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in elsewhere}


def setting_names() -> list[str]:
    """Every setting that is a flag and a key of a recipe, but the options of the models."""
    return [field.name for field in dataclasses.fields(TrainSettings) if field.name != "options"]


def read_settings(recipe: str | os.PathLike[str] | None, flags: dict[str, Any]) -> TrainSettings:
    """Settings from a TOML file (or none), overridden by `flags` (name -> text).

    Where no data set is named, it is the folder `root` if that holds TRAIN_SPLIT/images.

    Raises FileNotFoundError without the recipe, ValueError for what is no TOML, an unknown key or
    a value of the wrong type or out of bounds.
    """
    from seglib.models import model_options

    values: dict[str, Any] = {}
    if recipe is not None:
        path = Path(recipe)
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no recipe {path}; recipes are TOML files, and a list is one word: a,b"
            )
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # (Windows writes a BOM)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} is not valid TOML: {error}; expected lines such as lr = 1e-3, in UTF-8"
            ) from None
    values |= flags
    settings, kinds = TrainSettings(), get_type_hints(TrainSettings)
    defaults = model_options(str(values.get("model", settings.model)))
    own = setting_names()
    for key, value in values.items():
        if key in own:
            setattr(settings, key, convert(key, value, kinds[key]))
        elif key in defaults:
            default = defaults[key]
            kind: Any = dict if key == "config" else type(default)
            if kind is tuple:
                kind = types.GenericAlias(tuple, (type(default[0]), ...))
            settings.options[key] = convert(key, value, kind)
        else:
            hint = did_you_mean(key, [*own, *defaults])
            if key == "backbone":  # asked of a U-Net, most likely
                hint = f" of {settings.model}; the model backbone_unet has it"
            raise ValueError(f"there is no setting {key!r}{hint}")
    settings.data = data_named(
        values.get("data"), settings.root, settings.train_split, settings.layout
    )
    return settings


def data_named(name: str | None, root: str | None, split: str, layout: str | None = None) -> str:
    """The data set `name`; if none is, "folder" with a layout or ROOT/SPLIT/images; else CamVid."""
    if name is None and root is not None and (layout or (Path(root) / split / "images").is_dir()):
        return "folder"
    return name or TrainSettings.data


def convert(key: str, value: Any, kind: Any) -> Any:
    """`value`, from TOML or as a flag's text, as `kind`: a type, a union, or tuple[type, ...].

    A text is a list of what stands between commas or on lines; quotes keep a comma in a name.

    >>> convert("zoom", "0.5,2", tuple[float, ...]), convert("clip", "none", float | None)
    ((0.5, 2.0), None)
    >>> convert("epochs", "12", int), convert("compile", "true", bool)
    (12, True)
    >>> convert("classes", 'floor, "wall, partition"', tuple[str, ...])
    ('floor', 'wall, partition')
    """
    if kind is dict:
        return table(key, value)
    if get_origin(kind) is tuple:
        return tuple(convert(key, part, get_args(kind)[0]) for part in split_list(key, value))
    kinds = list(get_args(kind)) or [kind]
    plain: Any = next(k for k in kinds if isinstance(k, type) and k is not types.NoneType)
    words: dict[str, Any] = {"true": True, "false": False} if plain is bool else {}
    words |= {"none": None} if types.NoneType in kinds else {}
    words |= {word: word for each in kinds for word in get_args(each)}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    number: Any = value
    if isinstance(value, str) and plain in (int, float):
        with contextlib.suppress(ValueError):
            number = plain(value)
    if plain is float and type(number) is int and abs(number) <= FAR:
        number = float(number)
    if type(number) is plain and plain in (int, float):
        return within_bounds(key, number)
    if type(value) is plain:
        text = value.strip() if plain is str else value
        return os.path.expanduser(text) if key in PATHS else text
    what = {bool: [], int: ["a whole number"], float: ["a number"], str: ["text"]}[plain]
    raise ValueError(f"found {key} = {value!r}, expected {' or '.join([*what, *words])}")


def table(key: str, value: Any) -> dict[str, Any]:
    """A table of TOML, or the JSON of one; ValueError for anything else."""
    with contextlib.suppress(ValueError):
        value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise ValueError(f"found {key} = {value!r}, expected a table, as '{{\"num_queries\": 20}}'")
    return value


def split_list(key: str, value: Any) -> list[Any]:
    """The parts of a list, or of a text of them; ValueError for other kinds and empty parts."""
    if isinstance(value, str):
        value = list(chain.from_iterable(csv.reader(value.splitlines(), skipinitialspace=True)))
    if not isinstance(value, list | tuple):
        raise ValueError(f"found {key} = {value!r}, expected a list in order, such as ['a', 'b']")
    if any(isinstance(part, str) and not part.strip() for part in value):
        found = ",".join(map(str, value))
        raise ValueError(f"found an empty entry in {key} = {found!r}; leave out the comma too many")
    return list(value)


def within_bounds(key: str, number: float) -> float:
    """`number`; ValueError if it is not finite or not in the bounds of `key`."""
    low, high = BOUNDS.get(key, (-FAR, FAR))
    if not low <= number <= high:
        what = f"a number from {low} to {high}" if key in BOUNDS else "a finite number below 2^63"
        raise ValueError(f"found {key} = {number}, expected {what}")
    return number
