"""From a photo to segments: things one by one, and stuff, of a model that classifies masks."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from seglib.engine.batches import as_array
from seglib.inference import photo_logits
from seglib.metrics.check import check_not_nan


@dataclass(frozen=True)
class Segment:
    """One segment: its class, its instance number (0: stuff), how sure it is, its pixels."""

    label: int
    instance: int
    score: float
    area: int


@dataclass(frozen=True)
class Panoptic:
    """The label maps (H, W) of a photo, as `PanopticCounts.update` takes them, and the segments.

    `semantic` is uint8, 255 where there is no segment, `instance` int32, 0 for stuff.
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.int32]
    segments: list[Segment]


def predict_panoptic(
    model: nn.Module,
    image: np.ndarray | Image.Image | str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    mean: Sequence[float] | str | None = "auto",
    std: Sequence[float] | str | None = "auto",
    threshold: float = 0.8,
    overlap: float = 0.8,
    things: Collection[int] | None = None,
) -> Panoptic:
    """The segments of one photo, by one pass of a model of masks, such as hf:mask2former.

    `image`, `size`, `mean` and `std` as in `predict`; the rest as in `merge_queries`. ValueError
    for a model without queries, for NaN, and for more classes than a label map can hold (255).
    """
    photo = as_array(image)
    queries = getattr(photo_logits(model, photo, size, mean, std), "queries", None)
    if queries is None:
        raise ValueError(
            f"{getattr(model, 'name', type(model).__name__)} scores pixels and has no queries, of "
            "which segments are made; take a model of masks, such as hf:mask2former, or predict"
        )
    masks = queries.masks(*(size or photo.shape[:2]))[0]  # (Q, h, w)
    classes = queries.class_logits[0]  # (Q, C + 1)
    if classes.shape[1] > 256:
        raise ValueError(
            f"found {classes.shape[1] - 1} classes, but a label map of uint8 holds 255 and void; "
            "take a model of fewer classes"
        )
    check_not_nan(classes)
    check_not_nan(masks)
    things = None if things is None else [*map(int, things)]
    return merge_queries(classes, masks, photo.shape[:2], threshold, overlap, things)


@torch.inference_mode()
def merge_queries(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: tuple[int, ...],
    threshold: float = 0.8,
    overlap: float = 0.8,
    things: Collection[int] | None = None,
) -> Panoptic:
    """Segments from class logits (Q, C + 1) and mask logits (Q, h, w), at `size` (H, W).

    As Cheng et al. (2021, arXiv:2107.06278) merge: a query counts if its most probable class is
    not "no object" and has a probability, its score, above `threshold`. A pixel goes to the query
    with the largest score · mask probability, and is kept where that probability is 1/2 or more. A
    query is dropped whose pixels are fewer than `overlap` of those where its mask has 1/2 or more.
    Queries of one class are one segment, with the higher score, unless `things` has the class
    (None: all classes are things).
    """
    for name, value in (("threshold", threshold), ("overlap", overlap)):
        if not 0 <= value <= 1:
            raise ValueError(f"found {name}={value}, expected a fraction from 0 to 1")
    no_object = class_logits.shape[-1] - 1
    if wrong := [c for c in things or () if not 0 <= c < no_object]:
        raise ValueError(
            f"found {wrong[0]} among things, expected classes from 0 to {no_object - 1}"
        )
    scores, labels = class_logits.float().softmax(-1).max(-1)  # (Q,) each
    kept = ((labels != no_object) & (scores > threshold)).nonzero()[:, 0].tolist()
    best = torch.zeros(size, device=mask_logits.device)
    winner = torch.full(size, -1, device=mask_logits.device)
    sure, areas = torch.zeros_like(best, dtype=torch.bool), {}
    for query in kept:  # one at a time: all masks of a large photo would take gigabytes
        logits = mask_logits[query][None, None].float()
        chance = F.interpolate(logits, size, mode="bilinear")[0, 0].sigmoid()  # (H, W)
        inside, won = chance >= 0.5, scores[query] * chance > best
        areas[query] = int(inside.sum())
        best[won] = (scores[query] * chance)[won]
        winner[won], sure[won] = query, inside[won]
    semantic = torch.full(size, 255, dtype=torch.uint8, device=best.device)
    instance = torch.zeros(size, dtype=torch.int32, device=best.device)
    found: dict[tuple[int, int], float] = {}  # class and number of a segment -> its score
    for query in kept:
        mine = winner == query
        seen, label = mine & sure, int(labels[query])
        if not seen.any() or int(mine.sum()) < overlap * areas[query]:
            continue
        thing = things is None or label in things
        number = 1 + max((n for _, n in found), default=0) if thing else 0
        semantic[seen], instance[seen] = label, number
        found[label, number] = max(found.get((label, number), 0.0), float(scores[query]))
    maps = semantic.cpu().numpy(), instance.cpu().numpy()
    area = {key: int(((maps[0] == key[0]) & (maps[1] == key[1])).sum()) for key in found}
    return Panoptic(*maps, [Segment(*key, score, area[key]) for key, score in found.items()])
