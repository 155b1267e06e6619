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


class MaskLoss(nn.Module):
    """Cross-entropy of the queries' classes, plus cross-entropy and Dice of matched masks.

    Each query is matched to at most one target mask (see `match`). Classes: cross-entropy over
    C + 1, the last for queries without a mask, weighted by `no_object_weight` (a mean over all
    queries of the batch, Σ w·l / Σ w). Masks: a mean over pixels, summed over the matched masks and
    divided by the number of target masks in the batch. The weighted sum of the three is added up
    over the decoder's last layer and all earlier ones (deep supervision).

    Of each image, `points` random valid pixels are looked at, or all if it has no more than these
    or `points` is None; without gradients, they are evenly spaced, so that scores can be repeated.
    One draw serves all layers, matching and loss. (The paper draws anew each time, and most where
    a mask is unsure: left out.) An image without valid pixel has no part in any sum.

    As loss(logits, target) it is called with logits of a model that classifies masks (`hf:…`),
    which carry its queries, and has one target mask for each class in the image. With instances,
    call `compare` in a loop of your own.
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
            raise ValueError(
                f"found weights {weights} and no_object_weight={no_object_weight}, expected "
                "numbers ≥ 0, the first three not all 0"
            )
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
                "the logits carry no queries, which MaskLoss compares: expected those that a model "
                "of masks returned, such as hf:mask2former, as they are; another loss, such as "
                "CrossEntropyLoss(), needs none"
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
            raise ValueError(
                f"found queries for {len(layers[0][0])} images, {len(targets)} targets and "
                f"{len(valid)} maps of valid pixels; expected as many of each"
            )
        with torch.autocast(valid.device.type, enabled=False):
            chosen = [self._chosen(image) for image in valid]
            pixels = [
                (places(rows, columns, queries.size), masks[:, rows, columns])
                for (rows, columns), (_, masks) in zip(chosen, targets, strict=True)
            ]
            classes = [own for own, _ in targets]
            return torch.stack([self._layer(*layer, classes, pixels) for layer in layers]).sum()

    def _layer(
        self,
        class_logits: Tensor,
        mask_logits: Tensor,
        classes: Sequence[Tensor],
        pixels: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """The loss of one layer; `pixels` has each image's places (P, 2) and masks there (T, P)."""
        kind = torch.promote_types(mask_logits.dtype, torch.float32)
        class_logits, mask_logits = class_logits.to(kind), mask_logits.to(kind)
        no_object = class_logits.shape[-1] - 1
        labels, rows = [], []
        outline = mask_logits[:0].sum()  # (0, with a path for gradients)
        for i, (where, masks) in enumerate(pixels):
            if not len(where):
                continue
            logits = sampled(mask_logits[i], where)  # (Q, P)
            found, own = match(class_logits[i], logits, classes[i], masks, self.weights)
            label = torch.full(class_logits.shape[1:2], no_object, device=logits.device)
            label[found] = classes[i][own]
            labels.append(label)
            rows.append(i)
            logits, truth = logits[found], masks[own].to(kind)  # (M, P)
            each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1)
            outline = (
                outline + (self.weights[1] * each + self.weights[2] * dice(logits, truth)).sum()
            )
        if not rows:
            return class_logits[:0].sum() + outline
        weight = class_logits.new_ones(no_object + 1)
        weight[-1] = self.no_object_weight
        naming = F.cross_entropy(class_logits[rows].flatten(0, 1), torch.cat(labels), weight)
        count = sum(len(classes[i]) for i in rows)
        return self.weights[0] * naming + outline / max(count, 1)

    def _chosen(self, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns of the pixels that are looked at, of a map (H, W) of the valid ones."""
        rows, columns = valid.nonzero(as_tuple=True)
        if self.points is None or len(rows) <= self.points:
            return rows, columns
        if torch.is_grad_enabled():
            some = torch.randperm(len(rows), device=valid.device)[: self.points]
        else:
            some = torch.arange(self.points, device=valid.device) * len(rows) // self.points
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
        raise ValueError(
            f"found maps of shapes {tuple(labels.shape)} and {tuple(numbers.shape)}, expected two "
            "of one size, (H, W)"
        )
    valid = labels != ignore_index
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


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """1 − (2·Σ p·g + 1) / (Σ p + Σ g + 1) of each of M masks, (M, P) both: (M,)."""
    inside = logits.sigmoid()
    return 1 - (2 * (inside * truth).sum(1) + 1) / (inside.sum(1) + truth.sum(1) + 1)


def places(rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """The centres of pixels as x and y from −1 to 1 over a picture of `size`: (P, 2)."""
    centres = torch.stack([columns, rows], dim=1) + 0.5
    return centres * 2 / centres.new_tensor([size[1], size[0]]) - 1


def sampled(maps: Tensor, where: Tensor) -> Tensor:
    """Maps (Q, h, w) at `where` (P, 2), as if enlarged bilinearly: (Q, P)."""
    grid = where.to(maps.dtype)[None, None]  # (1, 1, P, 2)
    found = F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)
    return found[0, :, 0]
