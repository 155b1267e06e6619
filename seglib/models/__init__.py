"""Segmentation networks behind one interface: `model(images) -> logits` at the input's size."""

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from seglib.models.adaptation import adapt_batchnorm
from seglib.models.backbone_unet import BackboneUNet
from seglib.models.deeplab import DeepLabV3, DeepLabV3Plus
from seglib.models.external import ARCHITECTURES, SMPModel, TorchvisionModel
from seglib.models.fcn import FCN8s, FCN16s, FCN32s
from seglib.models.freezing import freeze, parameter_groups, unfreeze
from seglib.models.huggingface import HuggingFaceModel
from seglib.models.lraspp import LRASPP
from seglib.models.pretrained import CARRIED, KINDS, find_carried, load_own, load_pretrained, refill
from seglib.models.segformer import SegFormer
from seglib.models.segnet import SegNet
from seglib.models.unet import UNet
from seglib.util.suggest import did_you_mean

__all__ = ["UNet", "adapt_batchnorm", "available_models", "create_model"]
__all__ += ["freeze", "parameter_groups", "unfreeze"]

_OWN: Any = (UNet, BackboneUNet, FCN32s, FCN16s, FCN8s, SegNet, DeepLabV3, DeepLabV3Plus, LRASPP)
_OWN += (SegFormer,)
_MODELS: dict[str, Callable[..., nn.Module]] = {
    **{network.name: network for network in _OWN},
    **{f"torchvision:{name}": partial(TorchvisionModel, name) for name in ARCHITECTURES},
}


def available_models() -> list[str]:
    """The names that `create_model` knows; it also takes smp:… and hf:…, as it says there."""
    return sorted(_MODELS)


def is_model(name: str) -> bool:
    """Whether `create_model` can build a model of this name."""
    return name in _MODELS or name.startswith(("smp:", "hf:"))


def model_options(name: str) -> dict[str, Any]:
    """The options that the model `name` takes besides the number of classes, with defaults."""
    parameters = list(inspect.signature(_builder(name)).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters}


def create_model(
    name: str, num_classes: int, pretrained: bool | str | os.PathLike[str] = False, **options: Any
) -> nn.Module:
    """Build the network `name` for `num_classes` classes; `options` are its own arguments.

    Args:
        name: of `available_models()`; with the extra "hub" also smp:DECODER/ENCODER, and hf:TYPE or
            hf:OWNER/REPOSITORY with the option config={…} (see `seglib.models.huggingface`).
        pretrained: False: random weights, no network access (a REPOSITORY's configuration aside).
            "imagenet": ImageNet's weights in the backbone, a new head.
            "coco": torchvision's weights for COCO and the 21 classes of Pascal VOC.
            "ade20k": SegFormer's published weights for the 150 classes of ADE20K.
            "hub": the published weights of hf:OWNER/REPOSITORY.
            "streets", "imagenet+streets", or a path such as "runs/mine/best.pt": a checkpoint of
            the course or of your own, with its options; only output_stride and atrous_rates, on
            which no weight depends, may differ.
            With another `num_classes`, all but "imagenet" get a new last layer.

    Raises ValueError for an unknown name, option or combination; OSError, naming the file and its
    place, if the weights are neither here nor can be fetched.

    >>> model = create_model("unet", num_classes=11, base_channels=16)
    >>> sum(p.numel() for p in model.parameters())
    1942747
    """
    known = model_options(name)
    for option in (option for option in options if option not in known):
        hint = "; the model backbone_unet has it" if option == "backbone" else ""
        raise ValueError(f"{name} has no option {option!r}{hint or did_you_mean(option, known)}")
    if num_classes < 1:
        raise ValueError(f"found num_classes={num_classes}, expected a number from 1 up")
    path = find_carried(str(pretrained), name) if pretrained in CARRIED else None
    if pretrained not in (False, *KINDS):
        path = Path(os.path.expanduser(str(pretrained)))
        if not path.is_file():
            kinds = f"False, {str(KINDS)[1:-1]} or a checkpoint's path"
            raise ValueError(f"found pretrained={pretrained!r}, which is no file; expected {kinds}")
    if path is not None:
        content = load_own(path, name, options)
        model = _builder(name)(num_classes, **content["options"])
        refill(model, content, f"the weights in {path}")
        return model
    model = _builder(name)(num_classes, **options)
    if pretrained:
        load_pretrained(model, str(pretrained))
    return model


def _builder(name: str) -> Callable[..., nn.Module]:
    if name.startswith("smp:"):
        return partial(SMPModel, name.removeprefix("smp:"))
    if name.startswith("hf:"):
        return partial(HuggingFaceModel, name.removeprefix("hf:"))
    if name not in _MODELS:
        raise ValueError(f"there is no model {name!r}{did_you_mean(name, _MODELS)}")
    return _MODELS[name]
