"""Scores from one confusion matrix over a whole split: the only mean that does not depend on
how the images were batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIDE = 256      # labels are uint8 in the whole course, so a joint histogram has 256×256 cells


class ConfusionMatrix:
    """Counts, over any number of batches, how many pixels of class i were predicted as class j.

    Pixels labelled `ignore_index` in the truth are dropped, whichever label was predicted there.
    `matrix` is int64 (num_classes, num_classes), rows truth, columns prediction. Counts stay
    exact; matrices of other batches, loaders or processes are added with `+`.

    >>> cm = ConfusionMatrix(num_classes=2)
    >>> cm.update(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 255]]))
    >>> cm.matrix.tolist(), cm.compute().miou
    ([[1, 1], [0, 1]], 0.5)
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        if not 1 <= num_classes < SIDE:
            raise ValueError(f"found num_classes={num_classes}, expected 1 to {SIDE - 1}")
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor | np.ndarray, target: Tensor | np.ndarray) -> None:
        """Add a batch.

        `prediction` is labels of any integer type, shaped as `target`, or float logits (or
        probabilities) with a class axis: (N, C, H, W) for a target (N, H, W), or (C, H, W)
        for (H, W). Raises ValueError for other shapes, float labels, labels out of range in
        the target's or prediction's valid pixels, tensors on two devices.
        """
        prediction, target = torch.as_tensor(prediction), torch.as_tensor(target)
        if prediction.device != target.device:
            raise ValueError(
                f"found the prediction on {prediction.device} and the target on "
                f"{target.device}; move both to one device"
            )
        labels = self._labels(prediction.detach(), target.shape)
        target = self._void_as_byte(target)
        _check_byte_range(target, "target")
        joint = torch.add(labels.reshape(-1), target.reshape(-1).long(), alpha=SIDE)
        counts = torch.bincount(joint, minlength=SIDE * SIDE).reshape(SIDE, SIDE)
        counts[self.ignore_index if 0 <= self.ignore_index < SIDE else SIDE - 1] = 0
        inside = counts[: self.num_classes, : self.num_classes]
        if int(inside.sum()) != int(counts.sum()):
            self._explain(counts)
        if self.matrix.device != inside.device:
            self.matrix = self.matrix.to(inside.device)
        self.matrix += inside

    def _labels(self, prediction: Tensor, shape: torch.Size) -> Tensor:
        """The prediction as int64 labels of the target's `shape`."""
        if prediction.is_floating_point():
            axis = prediction.ndim - 3
            if prediction.ndim != len(shape) + 1 or axis < 0:
                hint = "; labels must be integers" if prediction.shape == shape else ""
                raise ValueError(
                    f"found a float prediction {tuple(prediction.shape)} for a target "
                    f"{tuple(shape)}, expected logits with a class axis, (N, C, H, W) for "
                    f"(N, H, W){hint}"
                )
            if prediction.shape[axis] != self.num_classes:
                raise ValueError(
                    f"found logits for {prediction.shape[axis]} classes, but this matrix counts "
                    f"{self.num_classes}; build both for the same number"
                )
            prediction = prediction.max(dim=axis).indices      # 6 times faster than argmax
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
        which = "target"
        per_label = counts.sum(dim=1)
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
        if (self.num_classes, self.ignore_index) != (other.num_classes, other.ignore_index):
            raise ValueError(
                f"found matrices of {self.num_classes} classes (ignoring {self.ignore_index}) "
                f"and {other.num_classes} (ignoring {other.ignore_index}); only equal ones add"
            )
        total = ConfusionMatrix(self.num_classes, self.ignore_index)
        total.matrix = self.matrix + other.matrix.to(self.matrix.device)
        return total

    def compute(self, classes: Sequence[str] | None = None) -> Scores:
        """The scores of everything counted so far; `classes` names the rows of their table."""
        return Scores(self.matrix.cpu().numpy().copy(), tuple(classes or ()))


@dataclass(frozen=True)
class Scores:
    """Segmentation scores, fractions 0…1, from a confusion matrix (rows truth, columns prediction).

    Per-class arrays are float64 (C,). A class that is neither in the truth nor predicted is
    *absent*: NaN, and left out of every mean. A class that is predicted but not in the truth
    has IoU 0, counted. Without one valid pixel every mean is NaN.
    """

    matrix: np.ndarray
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.classes and len(self.classes) != len(self.matrix):
            raise ValueError(
                f"found {len(self.classes)} class names for {len(self.matrix)} classes; "
                "pass one name a class"
            )

    @cached_property
    def _hits(self) -> np.ndarray:
        return np.diag(self.matrix).astype(np.float64)

    @cached_property
    def support(self) -> np.ndarray:
        """Pixels of each class in the truth, int64 (C,)."""
        return self.matrix.sum(axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Pixels predicted as each class, int64 (C,)."""
        return self.matrix.sum(axis=0)

    @cached_property
    def iou(self) -> np.ndarray:
        """Intersection over union (Jaccard index)."""
        return _ratio(self._hits, self.support + self.predicted - self._hits)

    @cached_property
    def dice(self) -> np.ndarray:
        """2·|A∩B| / (|A|+|B|), also called F1; per class it is 2·IoU / (1 + IoU)."""
        return _ratio(2 * self._hits, self.support + self.predicted)

    @cached_property
    def precision(self) -> np.ndarray:
        """Share of the pixels predicted as a class that are of it; NaN where none was."""
        return _ratio(self._hits, self.predicted)

    @cached_property
    def recall(self) -> np.ndarray:
        """Share of a class's pixels that were found; NaN where the truth has none."""
        return _ratio(self._hits, self.support)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that are not absent."""
        return _mean(self.iou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the valid pixels that are right."""
        return float(_ratio(self._hits.sum(), self.matrix.sum()))

    @property
    def class_accuracy(self) -> float:
        """Mean recall over the classes that the truth has."""
        return _mean(self.recall)

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU averaged with each class's share of the truth as weight."""
        return float(_ratio(np.nansum(self.support * self.iou), self.matrix.sum()))

    def table(self) -> str:
        """A text table: a line per class, then the means.

        >>> print(Scores(np.array([[3, 1], [0, 4]]), ("road", "car")).table())
        class   IoU    Dice   precision  recall  pixels
        road    0.750  0.857      1.000   0.750       4
        car     0.800  0.889      0.800   1.000       4
        mean    0.775  0.873      0.900   0.875       8
        pixel accuracy 0.875 · frequency-weighted IoU 0.775
        """
        names = self.classes or tuple(str(i) for i in range(len(self.matrix)))
        columns = (self.iou, self.dice, self.precision, self.recall)
        wide = max(len("class"), *(len(name) for name in names)) + 2
        total = int(self.matrix.sum())
        digits = max(len("pixels"), len(str(total))) + 1

        def line(name: str, values: list[float], pixels: int) -> str:
            cells = " ".join(_cell(v, w) for v, w in zip(values, (6, 6, 10, 7), strict=True))
            return f"{name:<{wide}}{cells} {pixels:>{digits}}"

        lines = [f"{'class':<{wide}} IoU    Dice   precision  recall {'pixels':>{digits}}"]
        for i, name in enumerate(names):
            lines.append(line(name, [float(c[i]) for c in columns], int(self.support[i])))
        lines.append(line("mean", [_mean(c) for c in columns], total))
        lines.append(
            f"pixel accuracy {self.pixel_accuracy:.3f} · "
            f"frequency-weighted IoU {self.frequency_weighted_iou:.3f}"
        )
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON: miou, per-class iou and dice (None = absent), accuracies."""
        return {
            "miou": _plain(self.miou),
            "iou": [_plain(v) for v in self.iou],
            "dice": [_plain(v) for v in self.dice],
            "pixel_accuracy": _plain(self.pixel_accuracy),
            "class_accuracy": _plain(self.class_accuracy),
            "support": self.support.tolist(),
        }


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


def _ratio(part: Any, whole: Any) -> Any:
    part, whole = np.broadcast_arrays(np.float64(part), np.float64(whole))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def _cell(value: float, width: int) -> str:
    return f"{'–':>{width}}" if np.isnan(value) else f"{value:>{width}.3f}"


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
