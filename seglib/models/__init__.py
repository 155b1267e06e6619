"""Segmentation networks behind one interface: `model(images) -> logits` at the input's size."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from seglib.messages import did_you_mean
from seglib.models.unet import UNet

__all__ = ["UNet", "available_models", "create_model", "model_options"]

_MODELS = {"unet": UNet}


def available_models() -> list[str]:
    """The names that `create_model` knows."""
    return sorted(_MODELS)


def model_options(name: str) -> dict[str, Any]:
    """The options that the model `name` takes besides the number of classes, with defaults."""
    if name not in _MODELS:
        raise ValueError(f"there is no model {name!r}{did_you_mean(name, _MODELS)}")
    parameters = list(inspect.signature(_MODELS[name]).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters}


def create_model(
    name: str, num_classes: int, pretrained: bool = False, **options: Any
) -> nn.Module:
    """Build the network `name` for `num_classes` classes; `options` are its own arguments.

    >>> model = create_model("unet", num_classes=11, base_channels=16)
    >>> sum(p.numel() for p in model.parameters())
    1942747
    """
    known = model_options(name)
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}{did_you_mean(option, known)}")
    if pretrained:
        raise ValueError(f"there are no pretrained weights for {name!r} yet; leave pretrained out")
    return _MODELS[name](num_classes, **options)
