"""One confusion matrix over a whole split, exact however the images were batched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seglib.metrics.check import alike, check_not_nan
from seglib.metrics.scores import Scores

SIDE = 256  # labels are uint8 in the whole course, so a joint histogram has 256×256 cells


class ConfusionMatrix:
    """Counts, over any number of batches, how many pixels of class i were predicted as class j.

    Pixels labelled `ignore_index` in the truth are dropped, whichever label was predicted there.
    `matrix` is int64 (num_classes, num_classes), rows truth, columns prediction. Matrices add up:
    `+`. With `per_image=True` the matrix of every image is kept as well, in the list `images`, in
    the order of the updates: `Scores.interval` needs them.

    >>> cm = ConfusionMatrix(num_classes=2)
    >>> cm.update(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 255]]))
    >>> cm.matrix.tolist(), cm.compute().miou
    ([[1, 1], [0, 1]], 0.5)
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, per_image: bool = False) -> None:
        if not 1 <= num_classes < SIDE:
            raise ValueError(f"found num_classes={num_classes}, expected 1 to {SIDE - 1}")
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.per_image = per_image
        self.images: list[Tensor] = []

    def update(self, prediction: Tensor | np.ndarray, target: Tensor | np.ndarray) -> None:
        """Add a batch.

        `prediction` is labels of any integer type, shaped as `target`, or float logits (or
        probabilities) with a class axis: (N, C, H, W) for a target (N, H, W), or (C, H, W) for
        (H, W). Raises ValueError for other shapes, float labels, valid labels out of range, NaN.
        """
        prediction, target = torch.as_tensor(prediction), torch.as_tensor(target)
        labels = self._labels(prediction.detach(), target.shape)
        target = self._void_as_byte(target)
        _check_byte_range(target, "target")
        joint = torch.add(labels, target.long(), alpha=SIDE)
        counts = [self._count(j) for j in (joint if self.per_image and joint.ndim > 2 else [joint])]
        self.matrix = sum(counts, start=self.matrix.to(joint.device))
        if self.per_image:
            self.images += [count.cpu() for count in counts]

    def _count(self, joint: Tensor) -> Tensor:
        """The matrix of joint labels truth·256 + prediction."""
        counts = torch.bincount(joint.reshape(-1), minlength=SIDE * SIDE).reshape(SIDE, SIDE)
        counts[self.ignore_index if 0 <= self.ignore_index < SIDE else SIDE - 1] = 0
        inside = counts[: self.num_classes, : self.num_classes]
        if int(inside.sum()) != int(counts.sum()):
            self._explain(counts)
        return inside.clone()  # or a list of images would keep all 256×256 cells of each

    def _labels(self, prediction: Tensor, shape: torch.Size) -> Tensor:
        """The prediction as int64 labels of the target's `shape`."""
        if prediction.is_floating_point():
            axis = prediction.ndim - 3
            if prediction.ndim != len(shape) + 1 or axis < 0:
                raise ValueError(
                    f"found a float prediction {tuple(prediction.shape)} for a target "
                    f"{tuple(shape)}, expected logits with a class axis, (N, C, H, W) for "
                    "(N, H, W); labels must be integers"
                )
            if prediction.shape[axis] != self.num_classes:
                raise ValueError(
                    f"found logits for {prediction.shape[axis]} classes, but this matrix counts "
                    f"{self.num_classes}; build both for the same number"
                )
            best, prediction = prediction.max(dim=axis)  # 6 times faster than argmax
            check_not_nan(best)
        if prediction.shape != shape:
            raise ValueError(
                f"found a prediction {tuple(prediction.shape)} for a target {tuple(shape)}, "
                "expected equal shapes; resize the prediction to the target's size first"
            )
        _check_byte_range(prediction, "prediction")
        return prediction.long()

    def _void_as_byte(self, target: Tensor) -> Tensor:
        """The target with an ignored label that no byte holds (−100, say) written as 255."""
        if 0 <= self.ignore_index < SIDE or target.is_floating_point():
            return target
        if bool((target == SIDE - 1).any()):
            raise ValueError(
                f"the target has label {SIDE - 1}, but ignore_index is {self.ignore_index}; "
                f"pass ignore_index={SIDE - 1} if these pixels are void"
            )
        return torch.where(target == self.ignore_index, SIDE - 1, target)

    def _explain(self, counts: Tensor) -> None:
        """Raise, naming the label that is no class and how often it occurs."""
        which, per_label = "target", counts.sum(dim=1)
        if not per_label[self.num_classes :].any():
            which, per_label = "prediction", counts.sum(dim=0)
        label = int(per_label[self.num_classes :].nonzero()[0]) + self.num_classes
        raise ValueError(
            f"the {which} has label {label} at {int(per_label[label])} pixels, but this matrix "
            f"counts {self.num_classes} classes (0–{self.num_classes - 1}) and ignore_index is "
            f"{self.ignore_index}; remap the labels or pass the right num_classes"
        )

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """A new matrix that has seen the pixels of both."""
        total = ConfusionMatrix(**alike(self, other, "num_classes", "ignore_index", "per_image"))
        total.matrix = self.matrix + other.matrix.to(self.matrix.device)
        total.images = self.images + other.images
        return total

    def all_reduce(self) -> ConfusionMatrix:
        """A new matrix that has seen the pixels of all processes, images process by process.

        Exact if each image went to one process only; `DistributedSampler` hands some out twice.
        """
        total = ConfusionMatrix(self.num_classes, self.ignore_index, self.per_image)
        total.matrix, total.images = self.matrix.clone(), list(self.images)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total.matrix)
            if self.per_image:
                gathered: list = [None] * torch.distributed.get_world_size()
                torch.distributed.all_gather_object(gathered, self.images)
                total.images = [image for images in gathered for image in images]
        return total

    def compute(self, classes: Sequence[str] | None = None) -> Scores:
        """The scores of everything counted so far; `classes` names the rows of their table."""
        images = np.stack([image.numpy() for image in self.images]) if self.images else None
        return Scores(self.matrix.cpu().numpy().copy(), tuple(classes or ()), images)


def _check_byte_range(labels: Tensor, which: str) -> None:
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"found a {which} of {labels.dtype}, expected integer labels")
    if labels.dtype in (torch.uint8, torch.bool) or labels.numel() == 0:
        return
    low, high = (int(value) for value in torch.aminmax(labels))
    if low < 0 or high >= SIDE:
        raise ValueError(
            f"the {which} has label {low if low < 0 else high}, but labels are 0 to {SIDE - 1}; "
            "remap it, or name the label of void pixels with ignore_index"
        )
