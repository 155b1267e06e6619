"""Pretrained weights: ImageNet for a backbone, COCO for a whole network, the course's own, yours.

Files are fetched only if torch.hub's folder (~/.cache/torch/hub/checkpoints unless TORCH_HOME says
otherwise) lacks them. They are read with `weights_only=True`: a stranger's cannot run code.
"""

import os
import zipfile
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seglib.util.paths import data_roots, find_dataset
from seglib.util.progress import shown

CARRIED = ("streets", "imagenet+streets")  # checkpoints that the course brings along
KINDS = ("imagenet", "coco", "ade20k", "hub", *CARRIED)
FORMAT = "seglib-1"  # of our own checkpoints
KEYS = {  # that all of them have
    *("model", "num_classes", "options", "classes", "palette", "size", "mean", "std"),
    *("state", "training"),
}


def load_pretrained(model: Any, kind: str) -> None:
    """Fill `model` with the published weights of `kind`; errors as in `create_model`.

    "imagenet": in the backbone (torchvision's V1, on which it built its segmentation networks).
    "coco": COCO with the 21 classes of Pascal VOC, the head included if `model` has as many.
    "ade20k": ADE20K with 150 classes, likewise, for SegFormer.
    "hub": those of the repository that the model is named after, likewise.
    """
    if model.options.get("norm", "batch") != "batch":
        raise ValueError(f'pretrained={kind!r} needs norm="batch", as its weights were trained')
    if kind == "hub" or hasattr(model, "load_hub"):
        if kind != "hub" or not hasattr(model, "load_hub"):
            raise ValueError(
                f'found pretrained={kind!r} for {model.name}, but "hub" and models named '
                "hf:OWNER/REPOSITORY go together; leave pretrained out, or choose the other"
            )
        model.load_hub()
    elif kind == "coco":
        state = read_weights(weights_url(coco_architecture(model), "COCO_WITH_VOC_LABELS_V1"))
        if getattr(model, "aux_classifier", None) is None:
            state = {key: value for key, value in state.items() if not key.startswith("aux_")}
        fill(model, state, replaced_classes=21)
    elif kind == "ade20k":
        if not hasattr(model, "load_ade20k"):
            raise ValueError(
                f"there are no ADE20K weights for {model.name}; there are for segformer"
            )
        model.load_ade20k()
    elif loader := getattr(getattr(model, "backbone", model), "load_imagenet", None):  # timm's
        loader()
    elif hasattr(model, "load_imagenet"):  # smp's fetch their own
        model.load_imagenet()
    elif hasattr(model, "backbone"):
        state = read_weights(weights_url(model.backbone.name, "IMAGENET1K_V1"))
        heads = ("fc.", "classifier.")
        state = {k: value for k, value in state.items() if not k.startswith(heads)}
        fill(model.backbone, {k.removeprefix("features."): value for k, value in state.items()})
    else:
        raise ValueError(
            f"{model.name} has no backbone of a classifier; leave pretrained out, or choose a "
            "model with one, such as backbone_unet"
        )


def coco_architecture(model: Any) -> str:
    """The torchvision network whose COCO weights fit `model`. ValueError if there is none.

    (Not for our own MobileNets: the convolution that loses its stride keeps the rate of before,
    torchvision's does not.)
    """
    name, options = model.name, model.options
    if name.startswith("torchvision:"):
        return name.removeprefix("torchvision:")
    fits = name == "deeplabv3" and options["channels"] == 256 and len(options["atrous_rates"]) == 3
    if fits and options["backbone"] in ("resnet50", "resnet101"):
        return f"deeplabv3_{options['backbone']}"
    raise ValueError(
        f"there are no COCO weights for {name} with {options}; there are for deeplabv3 on resnet50 "
        "or resnet101 with 256 channels and three rates, and for models named torchvision:…"
    )


def find_carried(kind: str, name: str = "deeplabv3plus") -> Path:
    """The checkpoint `kind` (one of CARRIED) of the network `name`, or FileNotFoundError."""
    file = f"{kind.replace('+', '_')}_{name}.pt"
    folder = find_dataset("weights", lambda folder: (folder / file).is_file())
    if folder is None:
        looked = ", ".join(str(root / "weights") for root in data_roots())
        raise FileNotFoundError(
            f"there are no weights {file} for {name!r} trained on Streets; looked in {looked}; "
            "data/pretrain.py trains those of deeplabv3plus; or leave pretrained out"
        )
    return folder / file


def load_own(path: Path, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint of a network `name` in `path`. Errors as `read_content`.

    Its "options" are those it was trained with, updated by `options`; ValueError for unfit ones.
    """
    content = read_content(path)
    if (found := content["model"]) != name:
        raise ValueError(f"{path} holds a {found}, expected a {name}; choose the model {found}")
    for option, value in options.items():
        trained = content["options"].get(option)
        as_many_rates = option == "atrous_rates" and trained and len(value) == len(trained)
        if value != trained and option != "output_stride" and not as_many_rates:
            raise ValueError(
                f"found {option}={value!r}, but the weights in {path} were trained with "
                f"{trained!r}; leave {option} out"
            )
    return {**content, "options": {**content["options"], **options}}


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The raw content of a checkpoint, checked to be one of ours.

    A name of CARRIED means that checkpoint, where no file is called so.
    """
    named, path = os.fspath(path) in CARRIED, Path(os.path.expanduser(path))
    if not path.is_file():
        if not named:
            raise FileNotFoundError(
                f"there is no checkpoint {path}; training writes one with --out, and the course "
                f"brings along: {', '.join(CARRIED)}"
            )
        path = find_carried(str(path))
    remedy = "use another copy (best.pt or last.pt of the same run)"
    content = read_file(path, "a checkpoint", remedy)
    if "format" not in content:
        bare = all(isinstance(value, Tensor) for value in content.values())
        what = f"bare state dict of {len(content)} tensors" if bare else "dict"
        raise ValueError(
            f"{path} is not a checkpoint of this library but a {what}; build the model yourself "
            "and use model.load_state_dict(torch.load(path, weights_only=True))"
        )
    if (found := content["format"]) != FORMAT:
        raise ValueError(f"{path} has format {found!r}, not {FORMAT!r}; update seglib or retrain")
    if missing := sorted(KEYS - content.keys()):
        raise ValueError(f"{path} lacks {', '.join(missing)}; it is damaged, use another copy")
    kinds: Any = {"model": str, "options": dict, "classes": list | tuple, "state": dict}
    if wrong := [key for key, kind in kinds.items() if not isinstance(content[key], kind)]:
        raise ValueError(f"{path} is damaged: its {wrong[0]} cannot be that; {remedy}")
    return content


def weights_url(name: str, version: str) -> str:
    """Where torchvision publishes the weights of its model `name`."""
    from torchvision.models import get_model_weights

    return str(get_model_weights(name)[version].url)


def read_weights(url: str) -> Mapping[str, Tensor]:
    """The state dict published at `url`, from torch.hub's folder or else from the network."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        try:
            torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=shown(), check_hash=True, weights_only=True
            )
        except (OSError, HTTPException, RuntimeError) as error:  # (the last: another content)
            raise OSError(
                f"{path.name} could not be fetched ({error}); download {url} where there is a "
                f"network and put it into {path.parent}, or leave pretrained out"
            ) from error
    return read_file(path)


def read_file(
    path: Path, what: str = "weights", remedy: str = "delete it, so that it is fetched again"
) -> dict[str, Any]:
    """The dict that torch saved in `path`, weights and plain values only. ValueError if damaged."""
    try:
        if zipfile.is_zipfile(path):  # torch does not compare the checksums that it writes
            with zipfile.ZipFile(path) as archive:
                if spoiled := archive.testzip():
                    raise ValueError(f"the checksum of {spoiled} is another")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path} of {what}; {remedy}") from None
    except Exception as error:  # a damaged file can make the unpickler raise anything
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = next((line for line in lines if "Unpickler error" in line), lines[0]).strip()
        reason = reason.split(". ")[0]  # torch goes on for a paragraph
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as {what}: {reason}; {remedy}"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict of {what}")
    return content


def fill(
    module: nn.Module,
    state: Mapping[str, Tensor],
    replaced_classes: int | None = None,
    what: str = "the weights",
) -> None:
    """Copy `state` into `module`; every tensor must have its counterpart, of the same shape.

    Tensors of `replaced_classes` rows may differ in that number: the head keeps its random weights.
    """
    own, given = module.state_dict(), {name: state[key] for name, key in bare_names(state).items()}
    for key, value in own.items():
        shape = getattr(given.get(key), "shape", None)
        if shape != value.shape and shape == (replaced_classes, *value.shape[1:]):
            given[key] = value
    if unlike := differences(own, given):
        raise ValueError(f"{what} do not fit: {unlike}; is this the right file?")
    module.load_state_dict(given)


def bare_names(keys: Iterable[str]) -> dict[str, str]:
    """The keys of a state dict without what torch.compile and DataParallel add: bare -> key.

    >>> bare_names(["module.conv.weight", "module.head._orig_mod.bias"])
    {'conv.weight': 'module.conv.weight', 'head.bias': 'module.head._orig_mod.bias'}
    """
    names = {key.replace("_orig_mod.", ""): key for key in keys}
    while names and all(name.startswith("module.") for name in names):
        names = {name.removeprefix("module."): key for name, key in names.items()}
    return names


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """How the tensors `given` differ from a model's `own`, in a line; empty if they do not."""
    both = {key: (given[key], own[key]) for key in own if key in given}
    shapes = {k: [tuple(getattr(x, "shape", ())) for x in pair] for k, pair in both.items()}
    kinds = {
        "of another shape": [f"{k} {a} for {b}" for k, (a, b) in shapes.items() if a != b],
        "missing": [key for key in own if key not in given],
        "left over": [key for key in given if key not in own],
    }
    counts = [
        f"{len(keys)} {kind} ({', '.join([*keys[:2], *['…'] * (len(keys) > 2)])})"
        for kind, keys in kinds.items()
        if keys
    ]
    return f"of {len(own)} tensors {', '.join(counts)}" if counts else ""


def refill(model: Any, content: Mapping[str, Any], what: str) -> None:
    """Give `model` the weights of a checkpoint, but for a head of other classes, and its images'
    normalisation; ValueError naming `what` if they do not fit."""
    rows = content["num_classes"] + getattr(model, "classifies_masks", 0)  # of the old head
    fill(model, content["state"], rows, what)
    set_normalisation(model, content)


def numbers(values: Any) -> tuple[float, ...] | None:
    """A mean or standard deviation by channel as plain numbers; None of what is none."""
    try:
        return tuple(float(value) for value in np.ravel(values))
    except (TypeError, ValueError):
        return None


def set_normalisation(model: Any, content: Mapping[str, Any]) -> None:
    """Let `model` know the mean and std of the images that a checkpoint's weights learned from.

    A network that has something of its own under these names, such as buffers, is left alone.
    """
    mean, std = (numbers(content.get(key)) for key in ("mean", "std"))
    free = all(isinstance(getattr(model, key, ()), tuple) for key in ("mean", "std"))
    if mean and std and free:
        model.mean, model.std = mean, std
