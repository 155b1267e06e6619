"""The loss of mask classification: queries are matched to the masks of an image, then compared.

Mask2Former (Cheng et al., 2022, arXiv:2112.01527), but that void pixels are left out of the
matching and of every sum. (In the authors' code and in transformers they lie outside of all masks.)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from seglib.losses.check import check_labels, checked

Targets = tuple[Tensor, Tensor]  # classes (T,) and masks (T, H, W) of an image
Pixels = tuple[Tensor, Tensor]  # rows and columns of P pixels, (P,) each


class MaskLoss(nn.Module):
    """Cross-entropy of the queries' classes, plus cross-entropy and Dice of matched masks.

    Each query is matched to at most one target mask (see `match`). Classes: cross-entropy over
    C + 1, the last for queries without a mask, weighted by `no_object_weight` (a mean over all
    queries of the batch, Σ w·l / Σ w). Masks: a mean over pixels, summed over the matched masks and
    divided by the number of target masks in the batch. The weighted sum of the three is added up
    over the decoder's last layer and all earlier ones (deep supervision).

    Of each image, `points` random valid pixels are looked at, or all if it has no more than these
    or `points` is None; without gradients always the same ones, so that scores can be repeated.
    One draw serves all layers, matching and loss. (The paper draws anew each time, and most where
    a mask is unsure: left out.) An image without valid pixel has no part in any sum.

    loss(logits, target) takes logits of a model of masks (`hf:…`), which carry its queries, and
    makes a target mask of each class in an image. For instances, call `compare` in your own loop.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        points: int | None = 12544,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
    ) -> None:
        super().__init__()
        weights = (class_weight, mask_weight, dice_weight)
        if min(*weights, no_object_weight) < 0 or sum(weights) == 0:
            text = f"{weights} and no_object_weight={no_object_weight}"
            raise ValueError(f"found weights {text}, expected numbers ≥ 0, not all of them 0")
        if points is not None and points < 1:
            raise ValueError(f"found points={points}, expected a number from 1 up, or None for all")
        self.ignore_index, self.points, self.weights = ignore_index, points, weights
        self.no_object_weight = no_object_weight

    def extra_repr(self) -> str:
        return (
            f"ignore_index={self.ignore_index}, points={self.points}, weights={self.weights}, "
            f"no_object_weight={self.no_object_weight}"
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits (N, C, H, W) with their queries against int64 labels (N, H, W)."""
        queries: Any = getattr(logits, "queries", None)
        if queries is None:
            raise ValueError(
                "the logits carry no queries; expected those that a model of masks returned, such "
                "as hf:mask2former, as they are, or another loss, such as CrossEntropyLoss()"
            )
        checked(logits, target)
        check_labels(target, logits.shape[1], self.ignore_index)
        targets = [mask_targets(labels, None, self.ignore_index) for labels in target]
        return self.compare(queries, targets, target != self.ignore_index)

    def compare(self, queries: Any, targets: Sequence[Targets], valid: Tensor) -> Tensor:
        """Loss of `Queries` against classes (T,) and masks (T, H, W) of each image, a scalar.

        `valid` is bool (N, H, W); pixels where it is false are void.
        """
        layers = [(queries.class_logits, queries.mask_logits), *queries.auxiliary]
        if len(targets) != len(valid) or len(valid) != len(layers[0][0]):
            counts = f"{len(layers[0][0])} images, {len(targets)} targets, {len(valid)} valid maps"
            raise ValueError(f"found queries for {counts}; expected as many of each")
        for i, (classes, masks) in enumerate(targets):
            self._check_targets(i, classes, masks, layers[0][0].shape[2] - 1, valid.shape[1:])
        with torch.autocast(valid.device.type, enabled=False):
            pixels = [self._chosen(image) for image in valid]
            seen = [
                (classes, masks[:, rows, columns])
                for (classes, masks), (rows, columns) in zip(targets, pixels, strict=True)
            ]
            losses = [self._layer(a, b, seen, pixels, queries.size) for a, b in layers]
            return torch.stack(losses).sum()

    def _layer(
        self,
        class_logits: Tensor,
        mask_logits: Tensor,
        targets: Sequence[Targets],
        pixels: Sequence[Pixels],
        size: tuple[int, int],
    ) -> Tensor:
        """The loss of one layer; the targets' masks are (T, P), at each image's `pixels`."""
        kind = torch.promote_types(mask_logits.dtype, torch.float32)
        class_logits, mask_logits = class_logits.to(kind), mask_logits.to(kind)
        images = [i for i, (rows, _) in enumerate(pixels) if len(rows)]
        outline = mask_logits[:0].sum()  # (0, with a path for gradients)
        if not images:
            return outline + class_logits[:0].sum()
        no_object = class_logits.shape[2] - 1
        labels = torch.full(class_logits.shape[:2], no_object, device=class_logits.device)
        for i in images:
            classes, masks = targets[i]
            logits = sampled(mask_logits[i], pixels[i], size)  # (Q, P)
            found, own = match(class_logits[i], logits, classes, masks, self.weights)
            labels[i, found] = classes[own]
            logits, truth = logits[found], masks[own].to(kind)  # (M, P)
            each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1)
            inside = logits.sigmoid()
            sizes = inside.sum(1) + truth.sum(1)
            dice = 1 - (2 * (inside * truth).sum(1) + 1) / (sizes + 1)
            outline = outline + (self.weights[1] * each + self.weights[2] * dice).sum()
        weight = class_logits.new_ones(no_object + 1)
        weight[-1] = self.no_object_weight
        count = sum(len(targets[i][0]) for i in images)
        if count or self.no_object_weight:
            naming = F.cross_entropy(class_logits[images].mT, labels[images], weight)
        else:
            naming = class_logits[:0].sum()  # (all weights are 0)
        return self.weights[0] * naming + outline / max(count, 1)

    @staticmethod
    def _check_targets(
        image: int, classes: Tensor, masks: Tensor, count: int, size: Sequence[int]
    ) -> None:
        if classes.ndim != 1 or masks.shape != (len(classes), *size):
            found = f"classes {tuple(classes.shape)} and masks {tuple(masks.shape)}"
            expected = f"(T,) and (T, {size[0]}, {size[1]}), as mask_targets makes them"
            raise ValueError(f"found {found} for image {image}, expected {expected}")
        if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < count:
            named = sorted(set(classes.tolist()))
            raise ValueError(f"found classes {named} for image {image}, expected 0 to {count - 1}")

    def _chosen(self, valid: Tensor) -> Pixels:
        """Rows and columns of the pixels that are looked at, of a map (H, W) of the valid ones."""
        rows, columns = valid.nonzero(as_tuple=True)
        if self.points is None or len(rows) <= self.points:
            return rows, columns
        if torch.is_grad_enabled():
            some = torch.randperm(len(rows), device=valid.device)[: self.points]
        else:
            fixed = torch.Generator().manual_seed(0)  # (of the CPU: the same on every device)
            order = torch.randperm(len(rows), generator=fixed, device="cpu")
            some = order[: self.points].to(valid.device)
        return rows[some], columns[some]


def mask_targets(
    semantic: Tensor, instance: Tensor | None = None, ignore_index: int = 255
) -> Targets:
    """The masks that an image's label map (H, W) consists of: classes (T,), bool masks (T, H, W).

    One for each class, or, with a map of instance numbers: one for each class without them
    (number 0: stuff) and one for each instance. Void has no mask.
    """
    labels = torch.as_tensor(semantic).long()
    numbers = torch.zeros_like(labels) if instance is None else torch.as_tensor(instance).long()
    if labels.ndim != 2 or numbers.shape != labels.shape:
        found = f"{tuple(labels.shape)} and {tuple(numbers.shape)}"
        raise ValueError(f"found maps of shapes {found}, expected two of one size (H, W)")
    valid = labels != ignore_index
    if (labels[valid] < 0).any():
        raise ValueError(f"found negative labels; void is {ignore_index} (ignore_index)")
    if (numbers[valid] < 0).any():
        raise ValueError("found negative instance numbers; 0 is stuff")
    each = int(numbers.max()) + 1 if numbers.numel() else 1
    segment = torch.where(valid, labels * each + numbers, -1)
    known = segment.unique()
    known = known[known >= 0]
    return known // each, segment == known[:, None, None]


@torch.no_grad()
def match(
    class_logits: Tensor,
    mask_logits: Tensor,
    classes: Tensor,
    masks: Tensor,
    weights: tuple[float, float, float] = (2.0, 5.0, 5.0),
) -> Targets:
    """Which query stands for which mask, at the least total cost (the Hungarian method).

    Takes class logits (Q, C + 1), mask logits (Q, P) at P pixels, and the targets' classes (T,) and
    masks (T, P) there. A pair costs −`weights[0]` · the query's probability of the class, plus
    `weights[1]` · mean cross-entropy, plus `weights[2]` · Dice loss of the masks. Returns indices
    of queries and of targets, min(Q, T) each.

    >>> masks = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    >>> match(torch.zeros(3, 3), 9 * masks[[1, 1, 0]] - 4, torch.tensor([0, 1]), masks)
    (tensor([0, 2]), tensor([1, 0]))
    """
    truth = masks.to(mask_logits.dtype)
    chance = class_logits.softmax(-1)[:, classes]  # (Q, T)
    # cross-entropy of logit x: softplus(x) − x·truth
    crossed = F.softplus(mask_logits).sum(1, keepdim=True) - mask_logits @ truth.T
    mean = crossed / max(mask_logits.shape[1], 1)
    inside = mask_logits.sigmoid()
    sizes = inside.sum(1, keepdim=True) + truth.sum(1)
    overlap = (2 * inside @ truth.T + 1) / (sizes + 1)  # (Q, T)
    cost = -weights[0] * chance + weights[1] * mean + weights[2] * (1 - overlap)
    cost = cost.nan_to_num(nan=1e30, posinf=1e30, neginf=1e30)  # (a broken query comes last)
    queries, targets = linear_sum_assignment(cost.cpu().numpy())
    device = class_logits.device
    return torch.as_tensor(queries, device=device), torch.as_tensor(targets, device=device)


def sampled(maps: Tensor, pixels: Pixels, size: tuple[int, int]) -> Tensor:
    """Maps (Q, h, w) at the centres of P pixels, as if enlarged bilinearly to `size`: (Q, P)."""
    rows, columns = (part.to(maps.dtype) + 0.5 for part in pixels)
    x, y = columns * 2 / size[1] - 1, rows * 2 / size[0] - 1  # from −1 to 1
    grid = torch.stack([x, y], dim=-1)[None, None]  # (1, 1, P, 2)
    found = F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)
    return found[0, :, 0]
