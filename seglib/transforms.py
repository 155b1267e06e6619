"""From a photo and its label map to tensors: resizing, augmentation, normalisation.

The only file that knows albumentations, and it is imported only when augmentation is asked for.
Image and mask always go through one joint call, and stay aligned: images are reduced by area,
masks by the pixel at the centre. (Plain nearest, the default of OpenCV and albumentations,
reads the top-left pixel of each cell and shifts every label by half an output pixel.)
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from seglib.util.check import check_image, check_pair

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Window = tuple[int, int, int, int]  # top, left, height, width in source pixels


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a uint8 image (H, W, 3): averaged by area where reduced, bilinear where enlarged."""
    import cv2

    smaller = min(height, image.shape[0]), min(width, image.shape[1])
    if smaller != image.shape[:2]:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    if smaller != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a label map (H, W): each output pixel takes the label at its centre.

    As OpenCV's INTER_NEAREST_EXACT, except at even reductions (512 to 256, say), where the
    centre lies on the border of two pixels: OpenCV always takes the second, a quarter of an
    output pixel off; here odd and even rows take turns, so that the mean offset is zero.
    """
    if mask.shape[:2] == (height, width):
        return mask
    rows, columns = _centres(mask.shape[0], height), _centres(mask.shape[1], width)
    return mask[rows[:, None], columns]


@lru_cache(maxsize=1024)
def _centres(source: int, target: int) -> np.ndarray:
    """The source index of each of `target` output pixels along one axis."""
    doubled = (2 * np.arange(target) + 1) * source  # 2·target times the centre: integers
    index, rest = np.divmod(doubled, 2 * target)
    return index - ((rest == 0) & (np.arange(target) % 2 == 1))


def normalise(
    image: np.ndarray, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> torch.Tensor:
    """Turn a uint8 RGB image (H, W, 3) into float32 (3, H, W), (x/255 − mean) / std."""
    import torch

    check_image(image)
    scale = 1.0 / (255.0 * np.asarray(std, dtype=np.float32))
    shift = np.asarray(mean, dtype=np.float32) / np.asarray(std, dtype=np.float32)
    chw = np.ascontiguousarray((image * scale - shift).transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(chw)  # (3, H, W)


def cut_window(array: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """Cut `window` out of an image or mask; what lies outside the frame becomes `fill`."""
    top, left, height, width = window
    inside = array[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inside.shape[:2] == (height, width):
        return inside
    out = np.full((height, width, *array.shape[2:]), fill, dtype=array.dtype)
    y, x = max(-top, 0), max(-left, 0)
    out[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return out


class EvalTransform:
    """The transform for validation and test: resize to (height, width), normalise.

    Call it with a uint8 image (H, W, 3) and a uint8 mask (H, W); it returns a float32 tensor
    (3, height, width) and an int64 tensor (height, width).

    >>> image, mask = eval_transform(2, 2)(np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=np.uint8))
    >>> image.shape, mask.tolist()
    (torch.Size([3, 2, 2]), [[1, 0], [0, 1]])
    """

    def __init__(
        self,
        height: int,
        width: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        if height < 1 or width < 1:
            raise ValueError(f"found size {height}×{width}, expected at least 1×1 pixel")
        self.height, self.width = height, width
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        check_pair(image, mask)
        small = resize_mask(mask, self.height, self.width)
        labels = torch.from_numpy(small.astype(np.int64))  # (H, W)
        return normalise(resize_image(image, self.height, self.width), self.mean, self.std), labels


class TrainTransform(EvalTransform):
    """The transform for training: random zoom, crop, flip and colour, then as `eval_transform`.

    `zoom` 1 shows the whole frame, 2 half of its height and width, 0.8 the frame with a border
    of black pixels that are labelled `ignore_index`. `stretch` bounds the change of the aspect
    ratio, `flip` is a probability, `colour` the strength of brightness, contrast and saturation
    changes (0 = none). `extra` takes further albumentations transforms, applied to image and
    mask together at the output size; give geometric ones `mask_interpolation=0` and
    `fill_mask=ignore_index`. Called with `seed=` the result is a function of that number alone;
    without it the numbers come from torch's global generator.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        zoom: tuple[float, float] = (0.8, 2.0),
        stretch: float = 1.2,
        flip: float = 0.5,
        colour: float = 0.3,
        extra: Sequence[Any] = (),
        ignore_index: int = 255,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network
        import albumentations as A

        super().__init__(height, width, mean, std)
        if not 0 < zoom[0] <= zoom[1]:
            raise ValueError(f"found zoom {zoom}, expected (low, high) with 0 < low ≤ high")
        if stretch < 1:
            raise ValueError(f"found stretch {stretch}, expected at least 1 (1 keeps proportions)")
        if not 0 <= flip <= 1:
            raise ValueError(f"found flip={flip}, expected a probability between 0 and 1")
        pipeline: list[Any] = [A.HorizontalFlip(p=flip)] if flip else []
        if colour:
            jitter, hue = (max(0.0, 1 - colour), 1 + colour), (-0.05 * colour, 0.05 * colour)
            pipeline.append(A.ColorJitter(jitter, jitter, jitter, hue=hue, p=0.8))
        self.zoom, self.stretch, self.ignore_index = zoom, stretch, ignore_index
        self.flip, self.colour = flip, colour
        self.extra = list(extra)
        self.pipeline = A.Compose([*pipeline, *self.extra])

    def window(self, rng: np.random.Generator, height: int, width: int) -> Window:
        """Draw the part of a (height, width) frame that fills the output."""
        zoom = math.exp(rng.uniform(*np.log(self.zoom)))
        stretch = math.exp(rng.uniform(-1, 1) * math.log(self.stretch) / 2)
        h = max(1, round(height / zoom * stretch))
        w = max(1, round(width / zoom / stretch))
        # A window larger than the frame may stand anywhere that keeps the whole frame in it.
        top = int(rng.integers(min(0, height - h), max(0, height - h), endpoint=True))
        left = int(rng.integers(min(0, width - w), max(0, width - w), endpoint=True))
        return top, left, h, w

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, seed: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        check_pair(image, mask)
        if seed is None:  # then torch's global seed decides
            seed = int(torch.randint(2**31, ()).item())
        window = self.window(np.random.default_rng(seed), *mask.shape)
        image = resize_image(cut_window(image, window, 0), self.height, self.width)
        mask = resize_mask(cut_window(mask, window, self.ignore_index), self.height, self.width)
        self.pipeline.set_random_seed(seed)
        out = self.pipeline(image=image, mask=mask)
        return super().__call__(out["image"], out["mask"])


eval_transform, train_transform = EvalTransform, TrainTransform
