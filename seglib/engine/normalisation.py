"""Which mean and standard deviation a network's images must have."""

from typing import Any

from seglib.transforms import IMAGENET_MEAN, IMAGENET_STD


def normalisation(model: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of R, G, B (0 to 1) for the images of `model`.

    timm's for a network on a backbone of timm, ImageNet's for all others: what `train_transform`,
    `eval_transform` and `predict` take as `mean` and `std`.
    """
    backbone = getattr(model, "backbone", None)
    mean, std = getattr(backbone, "mean", None), getattr(backbone, "std", None)
    if isinstance(mean, tuple) and isinstance(std, tuple):
        return mean, std
    return IMAGENET_MEAN, IMAGENET_STD
