"""How long does one metric update take? Ours, torchmetrics, a per-class loop, bare bincount.

8 label maps of 360×480 with 12 classes and 4 % void. The calls alternate and each contender keeps
its fastest of nine, so that a disturbance hits all alike. The mean IoU must come out equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from _report import Row, report
from torchmetrics.classification import MulticlassJaccardIndex

from seglib.metrics import ConfusionMatrix

CLASSES, VOID, ROUNDS = 12, 255, 9


def make_case() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, CLASSES, (8, 360, 480), generator=generator)
    wrong = torch.rand(target.shape, generator=generator) < 0.4
    noise = torch.randint(0, CLASSES, target.shape, generator=generator)
    prediction = torch.where(wrong, noise, target)
    target[torch.rand(target.shape, generator=generator) < 0.04] = VOID
    return prediction, target


def ours(prediction: torch.Tensor, target: torch.Tensor) -> float:
    matrix = ConfusionMatrix(CLASSES, VOID)
    matrix.update(prediction, target)
    return matrix.compute().miou


def torchmetrics_index(prediction: torch.Tensor, target: torch.Tensor) -> float:
    metric = MulticlassJaccardIndex(CLASSES, ignore_index=VOID)
    metric.update(prediction, target)
    return float(metric.compute())


def per_class_loop(prediction: torch.Tensor, target: torch.Tensor) -> float:
    valid, ious = target != VOID, []
    for label in range(CLASSES):
        guess, truth = (prediction == label) & valid, target == label
        ious.append(float((guess & truth).sum() / (guess | truth).sum()))
    return sum(ious) / CLASSES


def bare_bincount(prediction: torch.Tensor, target: torch.Tensor) -> float:
    """The usual snippet: no check of shapes or labels."""
    valid = target != VOID
    joint = CLASSES * target[valid] + prediction[valid]
    matrix = torch.bincount(joint, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    hits = matrix.diag()
    return float((hits / (matrix.sum(0) + matrix.sum(1) - hits)).mean())


def main() -> None:
    case = make_case()
    contenders: dict[str, Callable[[torch.Tensor, torch.Tensor], float]] = {
        "ConfusionMatrix (checked)": ours,
        "torchmetrics MulticlassJaccardIndex": torchmetrics_index,
        "per-class loop": per_class_loop,
        "bare bincount (unchecked)": bare_bincount,
    }
    best = dict.fromkeys(contenders, float("inf"))
    values = {}
    for _ in range(ROUNDS):
        for name, function in contenders.items():
            start = time.perf_counter()
            values[name] = function(*case)
            best[name] = min(best[name], time.perf_counter() - start)
    spread = max(values.values()) - min(values.values())
    assert spread < 1e-6, f"the contenders disagree: {values}"
    case_name = "one update of the confusion matrix, 8 maps of 360×480"
    report(__file__, [Row(case_name, name, 1e3 * seconds, "ms") for name, seconds in best.items()])


if __name__ == "__main__":
    main()
