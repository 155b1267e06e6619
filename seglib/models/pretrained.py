"""Pretrained weights: ImageNet for a backbone, COCO for a whole network, the course's own.

Files are fetched only if torch.hub's folder (~/.cache/torch/hub/checkpoints unless TORCH_HOME says
otherwise) lacks them. They are read with `weights_only=True`: a stranger's cannot run code.
"""

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seglib.util.paths import data_roots, find_dataset
from seglib.util.progress import shown

KINDS = ("backbone", "coco", "streets")


def load_pretrained(model: Any, kind: str) -> None:
    """Fill `model` with torchvision's weights of `kind`; errors as in `create_model`.

    "backbone": for ImageNet (V1, on which torchvision built its segmentation networks). "coco":
    for COCO with the 21 classes of Pascal VOC, the head included if `model` has as many.
    """
    if model.options.get("norm", "batch") != "batch":
        raise ValueError(f'pretrained={kind!r} needs norm="batch", as its weights were trained')
    if kind == "coco":
        state = read_weights(weights_url(coco_architecture(model), "COCO_WITH_VOC_LABELS_V1"))
        if getattr(model, "aux_classifier", None) is None:
            state = {key: value for key, value in state.items() if not key.startswith("aux_")}
        fill(model, state, replaced_classes=21)
    elif hasattr(model, "load_backbone"):  # smp's fetch their own
        model.load_backbone()
    elif hasattr(model, "backbone"):
        state = read_weights(weights_url(model.backbone.name, "IMAGENET1K_V1"))
        heads = ("fc.", "classifier.")
        state = {k: value for k, value in state.items() if not k.startswith(heads)}
        fill(model.backbone, {k.removeprefix("features."): value for k, value in state.items()})
    else:
        raise ValueError(f"{model.name} has no backbone of a classifier; leave pretrained out")


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


def load_streets(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint of `name` that the repository carries, FileNotFoundError if there is none.

    Its "options" are those it was trained with, updated by `options`; ValueError for unfit ones.
    """
    file = f"streets_{name}.pt"
    folder = find_dataset("weights", lambda folder: (folder / file).is_file())
    if folder is None:
        looked = ", ".join(str(root / "weights") for root in data_roots())
        raise FileNotFoundError(
            f"there are no weights {file} for {name!r} trained on Streets; looked in {looked}; "
            "train them with `python -m seglib train --data streets`, or leave pretrained out"
        )
    content = read_file(folder / file)
    lacking = {"model", "num_classes", "options", "state"} - content.keys()
    if lacking:
        raise ValueError(f"{folder / file} is no checkpoint: it lacks {', '.join(sorted(lacking))}")
    for option, value in options.items():
        trained = content["options"].get(option)
        as_many_rates = option == "atrous_rates" and len(value) == len(trained)
        if value != trained and option != "output_stride" and not as_many_rates:
            raise ValueError(
                f"found {option}={value!r}, but the weights of {name} for Streets were trained "
                f"with {trained!r}; leave {option} out"
            )
    return {**content, "options": {**content["options"], **options}}


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
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
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
    module: nn.Module, state: Mapping[str, Tensor], replaced_classes: int | None = None
) -> None:
    """Copy `state` into `module`; every tensor must have its counterpart, of the same shape.

    Tensors of `replaced_classes` rows may differ in that number: the head keeps its random weights.
    """
    own = module.state_dict()
    differ = [k for k in state if k in own and own[k].shape != state[k].shape]
    kept = [k for k in differ if state[k].shape == (replaced_classes, *own[k].shape[1:])]
    wrong = [k for k in differ if k not in kept] + sorted(own.keys() ^ state.keys())
    if wrong:
        raise ValueError(
            f"the weights do not fit: {len(wrong)} tensors are missing, left over or of another "
            f"shape, such as {wrong[0]}; is this the right file?"
        )
    module.load_state_dict({**state, **{key: own[key] for key in kept}})
