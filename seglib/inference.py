"""From a photo to a label map at the photo's own size."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from seglib.engine.batches import as_array, logits_of
from seglib.engine.checkpoints import unwrapped
from seglib.engine.normalisation import normalisation
from seglib.engine.precision import Compute
from seglib.metrics.check import check_not_nan
from seglib.models.freezing import eval_mode
from seglib.transforms import normalise, resize_image


def predict(
    model: nn.Module,
    image: np.ndarray | Image.Image | str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    mean: Sequence[float] | str | None = "auto",
    std: Sequence[float] | str | None = "auto",
) -> np.ndarray:
    """Label every pixel of one photo: uint8 RGB (H, W, 3) -> uint8 labels (H, W).

    A file's path, or a picture that Pillow has opened, is read as the eye sees it, upright.
    The photo is resized to `size` (height, width), the size the model was trained at (None: its
    own size), and the logits are resized bilinearly to the photo's size *before* the argmax, so
    that borders are smooth. Runs in eval mode on the model's device; the mode is restored.
    `mean` and `std` are the training's ("auto": as the model knows). ValueError for NaN or None.
    """
    photo = as_array(image)
    logits = photo_logits(model, photo, size, mean, std)  # (1, C, h, w)
    return enlarged_argmax(logits, photo.shape[:2]).cpu().numpy()  # (H, W)


def photo_logits(
    model: nn.Module,
    photo: np.ndarray,
    size: tuple[int, int] | None = None,
    mean: Sequence[float] | str | None = "auto",
    std: Sequence[float] | str | None = "auto",
) -> torch.Tensor:
    """The logits (1, C, h, w) behind `predict`; how sure the model is: `.softmax(1).amax(1)`."""
    if mean is None or std is None or any(isinstance(v, str) and v != "auto" for v in (mean, std)):
        raise ValueError(
            "nobody knows how the images of this model's training were normalised; pass mean and "
            "std: (0, 0, 0) and (1, 1, 1) for values from 0 to 1, or IMAGENET_MEAN and IMAGENET_STD"
        )
    known = zip((mean, std), normalisation(unwrapped(model)), strict=True)
    mean, std = (own if isinstance(given, str) else given for given, own in known)
    small = resize_image(photo, *size) if size else photo
    batch = normalise(small, mean, std)[None]  # (1, 3, h, w)
    with eval_mode(model), torch.inference_mode():
        return Compute.of(model).logits(model, batch)  # (1, C, h, w)


def enlarged_argmax(logits: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The class with the largest logit after bilinear resizing of (1, C, h, w): uint8 (H, W).

    One class at a time: all logits of a 24-megapixel photo would take gigabytes.
    """
    most = torch.finfo(logits.dtype).max / 4
    logits = logits.clamp(-most, most)  # (between two pixels 0 · ∞ would be NaN)
    labels = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    best = logits.new_full(size, -torch.inf)
    for label in range(logits.shape[1]):
        score = F.interpolate(logits[:, label : label + 1], size, mode="bilinear")[0, 0]  # (H, W)
        labels[score > best] = label
        best = torch.maximum(best, score)
    check_not_nan(best)
    return labels


class TestTimeAugmentation(nn.Module):
    """`model` on several versions of each image, and its probabilities averaged.

    Images (N, 3, H, W) are shown at all `scales` of their size, and with `flip` mirrored as well;
    what comes out, (N, C, H, W), is the logarithm of the mean probability, which serves wherever
    logits do: in `evaluate`, say. It costs as many passes as there are versions.
    """

    __test__ = False  # (pytest takes any name with Test for one of its own)

    def __init__(
        self, model: nn.Module, scales: Sequence[float] = (1.0,), flip: bool = True
    ) -> None:
        super().__init__()
        if not scales or min(scales) <= 0:
            raise ValueError(
                f"found scales={scales}, expected numbers above 0, such as (0.75, 1, 1.5)"
            )
        self.model, self.scales, self.flip = model, tuple(scales), flip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        total, count = None, 0
        for scale in self.scales:
            size = [max(1, round(scale * side)) for side in images.shape[2:]]
            same = scale == 1
            scaled = (
                images if same else F.interpolate(images, size, mode="bilinear", antialias=True)
            )
            for version in (scaled, scaled.flip(3)) if self.flip else (scaled,):
                logits = logits_of(self.model(version), version).float()
                logits = F.interpolate(logits, images.shape[2:], mode="bilinear")
                chance = logits.softmax(1)  # (N, C, H, W)
                chance = chance.flip(3) if version is not scaled else chance
                total, count = chance if total is None else total + chance, count + 1
        assert total is not None
        return (total / count).clamp(min=1e-30).log()
