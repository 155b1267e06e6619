"""Which mean and standard deviation a network's images must have."""

from typing import Any

from seglib.transforms import IMAGENET_MEAN, IMAGENET_STD


def normalisation(model: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of R, G, B (0 to 1) for the images of `model`.

    That of the training for a checkpoint or a repository of the hub, timm's for a network on a
    backbone of timm, ImageNet's for all others: what `train_transform`, `eval_transform` and
    `predict` take as `mean` and `std`.
    """
    return own_normalisation(model) or (IMAGENET_MEAN, IMAGENET_STD)


def own_normalisation(model: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """What `model` or its backbone says of its images; None if they say nothing."""
    for part in (model, getattr(model, "backbone", None)):
        mean, std = getattr(part, "mean", None), getattr(part, "std", None)
        if isinstance(mean, tuple) and isinstance(std, tuple):
            return mean, std
    return None
