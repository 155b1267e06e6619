"""Class weights for a loss from the counts of a data set."""

from typing import Any

import torch
from torch import Tensor

from seglib.util.suggest import did_you_mean

OFFSETS = {"enet": 1.02, "dabnet": 1.10}  # w = 1 / ln(offset + share)


def class_weights(statistics: Any, method: str = "median") -> Tensor:
    """One loss weight a class, float32 (C,), from the counts of a data set's training split.

    Args:
        statistics: of `seglib.data.class_statistics(dataset)`: `.pixels` of each class,
            `.image_pixels`, all valid ones of the images with it, and their number `.images`.
        method: "median" (median frequency balancing, Eigen & Fergus, 2015, arXiv:1411.4734: a
            class's frequency is taken over the images that contain it), "enet"
            (1 / ln(1.02 + share), Paszke et al., 2016, arXiv:1606.02147; at most 50.5), "dabnet"
            (1 / ln(1.10 + share), at most 10.5, from the code of Li et al., 2019,
            arXiv:1907.11357), "inverse"
            (1 / share, so that all classes weigh the same in sum) or "effective" ((1 − β) /
            (1 − βⁿ), Cui et al., 2019, arXiv:1901.05555, of the n images that contain the class,
            β = (N − 1) / N for N images; of pixels it would give every class the same).

    "inverse" and "effective" are scaled to a mean of 1 over the classes that occur. A class that
    never occurs gets weight 0, but with "enet" and "dabnet" the largest.
    """
    pixels = torch.as_tensor(statistics.pixels, dtype=torch.float64)
    if pixels.sum() == 0:
        raise ValueError("found no valid pixel in the statistics, so there is nothing to balance")
    seen = pixels > 0
    if method in OFFSETS:
        return (1 / torch.log(OFFSETS[method] + pixels / pixels.sum())).float()
    if method == "median":
        whole = torch.as_tensor(statistics.image_pixels, dtype=torch.float64)
        frequency = pixels[seen] / whole[seen]
        found = frequency.quantile(0.5) / frequency
    elif method == "inverse":
        found = 1 / pixels[seen]
    elif method == "effective":
        images = torch.as_tensor(statistics.images, dtype=torch.float64)[seen]
        beta = 1 - 1 / statistics.total_images
        found = (1 - beta) / (1 - beta**images)
    else:
        methods = ["median", *OFFSETS, "inverse", "effective"]
        raise ValueError(f"there is no method {method!r}{did_you_mean(method, methods)}")
    weights = torch.zeros_like(pixels)
    weights[seen] = found if method == "median" else found / found.mean()
    return weights.float()
