"""Decoded images kept on the training device, and augmented there.

A GPU asks for more images a second than a machine's processes can cut, scale and colour
(benchmarks/gpu_day.py measures it); a few hundred photos fit into its memory as bytes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seglib.transforms import EvalTransform, TrainTransform, resize_image, resize_mask

ROOM = 0.6  # of the GPU's free memory that the images may take; training needs the rest


class DeviceLoader:
    """The batches of a loader of `make_loader`'s, made on `device` from images that lie there.

    Order, windows and sizes are the loader's; flips and colours are drawn from the same
    (seed, epoch, index), but are other draws, and there is no change of hue. Where a window is
    reduced, the mean over a grid of samples stands for the area. Of a data set with
    `eval_transform` the batches are equal to the loader's.

    Yields (images (N,3,H,W) float32, labels (N,H,W) int64), both on `device`. Everything is read
    when it is made. Raises ValueError for other transforms than `train_transform` (without
    `extra`) and `eval_transform`, or, with the first, for images of several sizes; MemoryError if
    the images would take most of a GPU's memory.
    """

    labels_checked = True  # by the data set, when it read the masks

    def __init__(self, loader: Any, device: torch.device | str) -> None:
        self.loader, self.device = loader, torch.device(device)
        dataset: Any = loader.dataset
        transform: Any = getattr(dataset, "transform", None)
        self.training = type(transform) is TrainTransform
        if not self.training and type(transform) is not EvalTransform:
            raise ValueError(
                f"found the transform {type(transform).__name__}, expected train_transform or "
                "eval_transform: no other can be computed on the device; leave out cache='device'"
            )
        if self.training and transform.extra:
            raise ValueError("found extra= transforms, which the device cannot compute")
        indices = list(loader.sampler.indices)

        def read(index: int) -> tuple[np.ndarray, np.ndarray]:
            image, mask = dataset.read(index)
            if self.training:
                return image, mask
            size = transform.height, transform.width  # the same in each epoch: once is enough
            return resize_image(image, *size), resize_mask(mask, *size)

        with ThreadPoolExecutor(8) as pool:
            pairs = list(pool.map(read, indices))
        sizes = {mask.shape for _, mask in pairs}
        if len(sizes) > 1:
            some = " and ".join(f"{h}×{w}" for h, w in sorted(sizes)[:2])
            raise ValueError(
                f"found images of {len(sizes)} sizes ({some}), expected one size for "
                "cache='device'; take cache='all', which keeps them in the machine's memory"
            )
        self._check_room(sum(4 * mask.size for _, mask in pairs))
        self.place = {index: i for i, index in enumerate(indices)}
        images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        self.images = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).contiguous()
        self.masks = torch.from_numpy(masks).to(self.device)  # uint8 (N, H, W)
        mean, std = (np.asarray(v, np.float32) for v in (transform.mean, transform.std))
        scale, shift = 1 / (255 * std), mean / std
        self.scale, self.shift = (self._send(v.reshape(3, 1, 1)) for v in (scale, shift))

    def __getattr__(self, name: str) -> Any:
        """Whatever else a loader has: data set, sampler, size of the batches, …"""
        if "loader" not in self.__dict__:  # (a copy that is being made)
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for keys in self.loader.batch_sampler:
            index = self._send(np.array([self.place[int(key)] for key in keys]))
            if self.training:
                yield self._augmented(index, keys)
            else:
                yield self._normalised(self.images[index].float()), self.masks[index].long()

    def around(self, loader: Any) -> DeviceLoader:
        """One for another loader of the same data set, with the same images in memory."""
        other = copy.copy(self)
        other.loader = loader
        return other

    def _augmented(self, index: Tensor, keys: Sequence[Any]) -> tuple[Tensor, Tensor]:
        transform, size = self.loader.dataset.transform, self.masks.shape[1:]
        draws = [self._draw(transform, np.random.default_rng(k.derived_seed()), size) for k in keys]
        numbers = self._send(np.array(draws, np.float32))  # (N, 8)
        rows, inside_rows = places(numbers[:, 0], numbers[:, 2], transform.height, size[0])
        columns, inside_columns = places(numbers[:, 1], numbers[:, 3], transform.width, size[1])
        flip = numbers[:, 4, None] > 0  # (N, 1)
        columns = torch.where(flip, columns.flip(1), columns)
        inside_columns = torch.where(flip, inside_columns.flip(1), inside_columns)
        inside = inside_rows[:, :, None] & inside_columns[:, None, :]  # (N, H, W)
        labels = self.masks[index[:, None, None], rows[:, :, None], columns[:, None, :]].long()
        finer = max(
            1, math.ceil(max(max(d[2] / transform.height, d[3] / transform.width) for d in draws))
        )
        images = self._cut(index, numbers, transform.height, transform.width, finer)
        images = coloured(images * inside[:, None], numbers[:, 5:])
        return self._normalised(images), torch.where(inside, labels, transform.ignore_index)

    @staticmethod
    def _draw(
        transform: TrainTransform, rng: np.random.Generator, size: Sequence[int]
    ) -> list[float]:
        """Top, left, height and width of the window, flipped or not, and factors of colour."""
        window = transform.window(rng, *size)
        flip, change = rng.random() < transform.flip, rng.random() < 0.8
        factors = rng.uniform(max(0.0, 1 - transform.colour), 1 + transform.colour, 3)
        return [*window, float(flip), *(factors if change else (1.0, 1.0, 1.0))]

    def _cut(self, index: Tensor, numbers: Tensor, height: int, width: int, finer: int) -> Tensor:
        """The windows of the images at the output's size, 0 to 255: float32 (N, 3, H, W).

        Bilinear at `finer`² samples to a pixel, whose mean is the pixel.
        """
        axes = []
        for start, length, cells, whole in (
            (numbers[:, 0], numbers[:, 2], height * finer, self.images.shape[2]),
            (numbers[:, 1], numbers[:, 3], width * finer, self.images.shape[3]),
        ):
            centres = (torch.arange(cells, device=self.device) + 0.5) / cells  # 0 … 1
            axes.append(2 * (start[:, None] + centres * length[:, None]) / whole - 1)
        y, x = axes
        x = torch.where(numbers[:, 4, None] > 0, x.flip(1), x)
        shape = (-1, y.shape[1], x.shape[1])
        grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
        cut = F.grid_sample(
            self.images[index].float(), grid, padding_mode="border", align_corners=False
        )
        return F.avg_pool2d(cut, finer) if finer > 1 else cut

    def _normalised(self, images: Tensor) -> Tensor:
        return images * self.scale - self.shift

    def _send(self, array: np.ndarray) -> Tensor:
        """The array on the device; a GPU fetches it while the processor goes on."""
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _check_room(self, needed: int) -> None:
        if self.device.type != "cuda":
            return
        free = torch.cuda.mem_get_info(self.device)[0]
        if needed > ROOM * free:
            raise MemoryError(
                f"the decoded images take {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB of the "
                "GPU's memory are free; take cache='all', which keeps them in the machine's memory"
            )


def places(start: Tensor, length: Tensor, cells: int, whole: int) -> tuple[Tensor, Tensor]:
    """The source pixel at the centre of each of `cells` output pixels along one axis (N, cells).

    As `resize_mask` of a cut window; and whether it lies in the frame of `whole` pixels.
    """
    cell = torch.arange(cells, device=start.device)
    doubled = (2 * cell + 1) * length.long()[:, None]  # 2 · cells times the centre: integers
    centre = doubled // (2 * cells)
    centre -= ((doubled % (2 * cells) == 0) & (cell % 2 == 1)).long()  # on a border: take turns
    found = start.long()[:, None] + centre
    return found.clamp(0, whole - 1), (found >= 0) & (found < whole)


def coloured(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast and saturation of images (N, 3, H, W), 0 to 255, changed by factors.

    `factors` (N, 3): 1 changes nothing; as torchvision's ColorJitter, in this order.
    """
    brightness, contrast, saturation = (factors[:, i, None, None, None] for i in range(3))
    images = (images * brightness).clamp(0, 255)
    mean = grey(images).mean(dim=(2, 3), keepdim=True)
    images = (mean + (images - mean) * contrast).clamp(0, 255)
    shade = grey(images)
    return (shade + (images - shade) * saturation).clamp(0, 255)


def grey(images: Tensor) -> Tensor:
    """The luma of RGB images (N, 3, H, W), (N, 1, H, W): Rec. 601, as OpenCV and torchvision."""
    return 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
