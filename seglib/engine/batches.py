"""What goes into a network and what comes out of it, as `fit`, `evaluate` and `predict` take it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from seglib.data import read_image
from seglib.engine import distributed, validation
from seglib.transforms import TrainTransform
from seglib.util.check import check_image


class Batches:
    """A loader's batches on their way, each looked at: a DataLoader's, or those of a list.

    `labels` are the first that were seen, two of them at least.
    """

    def __init__(self, loader: Any, ignore_index: int) -> None:
        self.loader, self.ignore_index = loader, ignore_index
        self.labels: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        if name in ("dataset", "sampler"):  # which a list has not
            return getattr(self.loader, name, None)
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            for batch in self.loader:
                images, labels = checked_pair(batch)
                if len(self.labels) < 2:
                    found = labels[labels != self.ignore_index].unique()
                    self.labels.update(found.tolist())
                yield images, labels
        except (RuntimeError, TypeError) as error:
            reason = re.findall("(?:stack expects|default_collate:).*", str(error))
            if not reason:
                raise
            raise ValueError(
                f"the samples make no batch ({reason[-1]}), expected tensors of one size; give the "
                "data set transform=eval_transform(height, width), or use batch_size=1"
            ) from None

    def check_learnt(self) -> None:
        """Raise ValueError if an epoch, over all processes, had no two classes to tell apart."""
        seen = set().union(*distributed.gather(self.labels))
        cut = isinstance(getattr(self.dataset, "transform", None), TrainTransform)
        if len(seen) < 2 and not (cut and validation.check_masks(self, "to train on")):
            validation.check_told_apart([label in seen for label in range(256)], "to train on")


def checked_pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Images, and labels as int64, of a batch; ValueError unless it is such a pair."""
    parts = [*batch] if isinstance(batch, Mapping | list | tuple) else [batch]
    if isinstance(batch, Mapping) or [torch.is_tensor(part) for part in parts] != [True, True]:
        names = [part if isinstance(part, str) else type(part).__name__ for part in parts]
        raise ValueError(
            f"found a {type(batch).__name__} of {', '.join(names)} as batch, expected two tensors, "
            "(images, labels); let the data set return (image, mask) and nothing else"
        )
    images, labels = parts
    found = (
        f"found images {tuple(images.shape)} of {images.dtype} and labels {tuple(labels.shape)} of "
        f"{labels.dtype}, expected floats (N, C, H, W) and whole numbers (N, H, W); "
    )
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"{found}give the data set transform=eval_transform(height, width)")
    if labels.is_floating_point():
        odd = labels[labels % 1 != 0]
        raise ValueError(
            f"{found}{f'{odd[0]:.4f} is no label: ' if len(odd) else ''}ToTensor divides a mask by "
            "255, and .long() would then make all of it 0; use torch.from_numpy(mask).long()"
        )
    if labels.ndim != 3 or len(labels) != len(images):
        raise ValueError(f"{found}of a mask (1, H, W) take mask[0], of a one-hot mask.argmax(0)")
    return images, labels.long()


def logits_of(output: Any, images: Tensor) -> Tensor:
    """The logits (N, C, H, W) in what a model returned for images (N, …).

    Of a dict "out" (torchvision) or "logits" (transformers); of several outputs nobody knows
    which one is meant. ValueError for these, and for one class.
    """
    if isinstance(output, Mapping):
        output = output.get("out", output.get("logits", tuple(output)))
    fits = torch.is_tensor(output) and output.is_floating_point() and output.ndim == 4
    if not fits or len(output) != len(images):
        parts = output if isinstance(output, list | tuple) else [output]
        names = [tuple(p.shape) if torch.is_tensor(p) else p for p in parts]
        raise ValueError(
            f"the model returned a {type(output).__name__} {names} for images "
            f"{tuple(images.shape)}, expected float logits (N, C, H, W), or a dict with them as "
            "'out'; wrap the model so that forward returns them alone"
        )
    if output.shape[1] < 2:
        raise ValueError(validation.ONE_CLASS)
    return output


def explain_forward(error: Exception, images: Tensor) -> None:
    """Raise a ValueError that helps if `error`, of a forward pass, is about the images' shape."""
    shape, text = tuple(images.shape), str(error)
    channels = re.search(r"to have (\d+) channels, but got (\d+) channels", text)
    if channels and int(channels[2]) == shape[1]:
        raise ValueError(
            f"found images of {shape[1]} channel(s), but the model takes {channels[1]}; build the "
            f"model with in_channels={shape[1]}, or give it images of {channels[1]}"
        ) from None
    if "more than 1 value per channel" in text:
        raise ValueError(
            f"found images {shape}, of which a BatchNorm sees one value a channel, expected two or "
            "more; use batch_size=2, larger images, or norm='group'"
        ) from None


def as_array(image: np.ndarray | Image.Image | str | os.PathLike[str]) -> np.ndarray:
    """The photo, uint8 (H, W, 3); ValueError for what is none."""
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image))
    if isinstance(image, Image.Image) and image.mode in ("RGB", "L"):
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise ValueError(f"found {image!r}, expected a path, a picture of mode RGB, or an array")
    check_image(image)
    return image
