"""Lesson 7's task that needs a far view, which vehicle is nearest?, and networks that try it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seglib.data.colours import STREET_CLASSES
from seglib.data.render import render_scene
from seglib.models.blocks import resize_to
from seglib.models.pretrained import find_carried, read_file
from seglib.models.segformer import Block
from seglib.transforms import normalise, resize_image, resize_mask

CAR = STREET_CLASSES.index("Car")
SMALLEST = 12  # pixels of a vehicle
NEARER = 1.1  # how many times further away the second vehicle must be
NEAREST, OTHER = (213, 94, 0), (0, 114, 178)  # colours
KINDS = "3 convolutions", "9 convolutions", "attention"


class NearestScenes(NamedTuple):
    """Streets in which one vehicle is the nearest beyond doubt."""

    images: NDArray[np.uint8]  # (N, H, W, 3)
    labels: NDArray[np.uint8]  # (N, H, W) 1: the nearest vehicle, 0: another one, 255: all else
    instances: NDArray[np.uint8]  # (N, H, W) 1 the nearest vehicle, 2 the second, …; 0: all else


def nearest_scenes(seeds: Sequence[int], height: int = 72, width: int = 96) -> NearestScenes:
    """Of the rendered scenes of `seeds` those in which it is clear which vehicle is nearest.

    They show two vehicles or more of at least 12 pixels, and the second one is at least 10 %
    further away (median depth) than the nearest. 25 ms for each seed.
    """
    found: list[tuple[NDArray[np.uint8], ...]] = []
    for seed in seeds:
        scene = render_scene(seed, 2 * height, 2 * width)
        semantic, instance, depth = (
            resize_mask(part, height, width)
            for part in (scene.semantic, scene.instance, scene.depth)
        )
        masks = [(instance == i) & (semantic == CAR) for i in np.unique(instance[semantic == CAR])]
        far = [(float(np.median(depth[m])), i) for i, m in enumerate(masks) if m.sum() >= SMALLEST]
        far.sort()
        if len(far) < 2 or far[1][0] < NEARER * far[0][0]:
            continue
        order = np.zeros((height, width), np.uint8)
        for place, (_, i) in enumerate(far, start=1):
            order[masks[i]] = place
        labels = np.where(order == 0, 255, order == 1).astype(np.uint8)
        found.append((resize_image(scene.image, height, width), labels, order))
    return NearestScenes(*(np.stack(part) for part in zip(*found, strict=True)))


def nearest_input(images: NDArray[np.uint8]) -> Tensor:
    """Images as `NearestNet` takes them: float32 (N, 3, H, W) from −1 to 1."""
    return torch.stack([normalise(image, (0.5,) * 3, (0.5,) * 3) for image in images])


def called_nearest(logits: Tensor, instances: NDArray[np.uint8]) -> list[list[bool]]:
    """For each scene, of its vehicles from near to far: do most of their pixels say "nearest"?"""
    says = (logits[:, 1] > logits[:, 0]).cpu().numpy()  # (N, H, W)
    return [
        [bool(mine[order == place].mean() > 0.5) for place in range(1, order.max() + 1)]
        for mine, order in zip(says, instances, strict=True)
    ]


class Attend(Block):
    """A transformer block, four heads and every place as key, on maps (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, heads=4, reduction=1, drop=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (N, C, H, W)


class NearestNet(nn.Module):
    """Scores "another vehicle" and "the nearest", (N, 2, H, W), of one of KINDS.

    Four convolutions reduce an image to a quarter; then follow three or nine more, or one, a
    transformer block, and one. `body[1].attention` is the block's attention.
    """

    def __init__(self, kind: str = "attention", channels: int = 48) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"found kind={kind!r}, expected one of {', '.join(KINDS)}")
        c = channels
        stem = [convolve(3, c // 2), convolve(c // 2, c, 2), convolve(c, c), convolve(c, c, 2)]
        middle: list[nn.Module] = [Attend(c)]
        if kind != "attention":
            middle = [convolve(c, c) for _ in range(int(kind[0]) - 2)]
        self.stem = nn.Sequential(*stem)
        self.body = nn.Sequential(convolve(c, c), *middle, convolve(c, c))
        self.head = nn.Conv2d(c, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.body(self.stem(images))  # (N, channels, H/4, W/4)
        return resize_to(self.head(x), images)  # (N, 2, H, W)


def convolve(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """A 3×3 convolution, BatchNorm, ReLU."""
    conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


def nearest_network() -> nn.Module:
    """The recorded network with attention (seed 0), for `nearest_scenes` at 72×96."""
    network = NearestNet("attention")
    network.load_state_dict(read_file(find_carried("nearest", "attention")))
    return network.eval()


@torch.inference_mode()
def queries_and_keys(network: Any, image: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Of a `NearestNet` with attention: queries and keys (heads, h·w, d) for one image."""
    x = network.body[0](network.stem(nearest_input(image[None])))  # (1, C, h, w)
    block = network.body[1]
    query, key, _ = block.attention.queries_keys_values(block.norm1(x.permute(0, 2, 3, 1)))
    return query[0], key[0]


def vehicles(image: Any, instances: Any, nearest: Any) -> NDArray[np.uint8]:
    """A grey picture of the scene; vehicles are orange where `nearest`, and blue elsewhere."""
    grey = np.repeat(image.mean(2, keepdims=True) * 0.5 + 110, 3, axis=2).astype(np.uint8)
    grey[instances > 0] = np.where(nearest[instances > 0][:, None] == 1, NEAREST, OTHER)
    return grey
