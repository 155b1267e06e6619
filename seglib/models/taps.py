"""How much of a dilated convolution is left on a small feature map."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def valid_taps(height: int, width: int, rate: int) -> float:
    """How many of a 3×3 convolution's 9 taps meet a height × width map, not its padding: the mean.

    9 on an endless map, 1 where the rate is as large as the map, and the convolution only a 1×1.

    >>> [round(valid_taps(6, 8, rate), 2) for rate in (1, 6, 12)]
    [7.33, 1.5, 1.0]
    """
    rows = 1 + 2 * max(0, height - rate) / height  # mean number of the 3 rows inside
    columns = 1 + 2 * max(0, width - rate) / width
    return rows * columns


def warn_of_few_taps(height: int, width: int, rates: Sequence[int]) -> None:
    """Warn, naming them, of branches whose 3×3 convolution has fewer than two valid taps.

    Not while the network is exported or compiled: there the sizes may be symbols.
    """
    if torch.compiler.is_compiling():
        return
    few = [rate for rate in rates if valid_taps(height, width, rate) < 2]
    if not few:
        return
    fine = [rate for rate in range(1, max(few)) if valid_taps(height, width, rate) >= 2]
    remedy = f"choose atrous_rates up to {fine[-1]}, " if fine else ""
    branches, have = ("branch", "has") if len(few) == 1 else ("branches", "have")
    taps = ", ".join(f"{valid_taps(height, width, rate):.1f}" for rate in few)
    warnings.warn(
        f"on a feature map of {height}×{width} the ASPP {branches} of rate "
        f"{', '.join(map(str, few))} {have} {taps} of 9 taps inside on average, so hardly more "
        f"than a 1×1 convolution; {remedy}larger images or a smaller output_stride",
        stacklevel=2,
    )


def check_batch(backbone: Any, images: Tensor) -> None:
    """ValueError where BatchNorm would have a single value per channel in training."""
    height, width = images.shape[-2:]
    single = images.shape[0] == 1 and max(height, width) <= backbone.output_stride
    if single and any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)):
        raise ValueError(
            f"found one image of {height}×{width} pixels in training: at output stride "
            f"{backbone.output_stride} it leaves one value per channel, and BatchNorm cannot "
            'estimate a variance; use larger images, a larger batch or norm="group"'
        )
