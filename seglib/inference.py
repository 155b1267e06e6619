"""From a photo to a label map at the photo's own size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from seglib.transforms import IMAGENET_MEAN, IMAGENET_STD, normalise, resize_image


def predict(
    model: nn.Module,
    image: np.ndarray,
    size: tuple[int, int] | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> np.ndarray:
    """Label every pixel of one photo.

    The photo is resized to `size` (height, width), the size the model was trained at (None: its
    own size), and the logits are resized bilinearly to the photo's size *before* the argmax, so
    that borders are smooth. Runs in eval mode on the model's device; the mode is restored.

    Args:
        image: uint8 RGB (H, W, 3); see `seglib.data.read_image`.

    Returns: uint8 labels (H, W).
    """
    device = next(model.parameters()).device
    height, width = image.shape[:2]
    small = resize_image(image, *size) if size else image
    batch = normalise(small, mean, std)[None].to(device)           # (1, 3, h, w)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits = model(batch)                                  # (1, C, h, w)
            if logits.shape[-2:] != (height, width):
                logits = F.interpolate(logits, (height, width), mode="bilinear")
            labels = logits.max(dim=1).indices[0]                  # (H, W)
    finally:
        model.train(was_training)
    return labels.to(torch.uint8).cpu().numpy()
