"""Mean IoU as other libraries have it, each called as its documentation says, void being 255.

A metric takes batches of (labels, truth), both (N, H, W), and the number of classes. Where a
library names no label to ignore, void is kept out of its input by what its input format allows
(`VOID` tells how), and only where there is some, so that it checks other labels itself. What
such a library would do to the target is then not asked.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peers import quietly
from torch import Tensor

from seglib.metrics import ConfusionMatrix

Batches = list[tuple[Tensor, Tensor]]
Metric = Callable[[Batches, int], float]
PACKAGES = {
    "torchmetrics": "torchmetrics",
    "smp": "segmentation-models-pytorch",
    "MONAI": "monai",
    "kornia": "kornia",
    "scikit-learn": "scikit-learn",
    "torch": "torch",
}
VOID = {
    "torchmetrics MulticlassJaccardIndex": "ignore_index=255",
    "torchmetrics MeanIoU": "no ignore_index, and label 255 raises; both one-hot masks 0 there",
    "smp macro": "ignore_index=255",
    "smp micro": "ignore_index=255",
    "smp macro-imagewise": "ignore_index=255",
    "MONAI MeanIoU": "ignore_index=255, and the truth's one-hot mask 0 there",
    "MONAI MeanIoU, ignore_empty=False": "ignore_index=255, and the truth's one-hot mask 0 there",
    "kornia mean_iou, averaged": "no ignore_index, and label 255 raises; a further class in truth "
    "and prediction, then left out",
    "kornia confusion_matrix, summed": "as for its mean_iou",
}

# What is no defect, but defined in another way
OTHERWISE = {
    "torchmetrics MeanIoU": "mean over all pairs of an image and a class that the image's truth "
    "or prediction has; images with more classes weigh more",
    "smp macro": "an absent class scores 1 (zero_division=1.0)",
    "smp micro": "one ratio of all classes' hits to all classes' unions, so large classes weigh "
    "more",
    "smp macro-imagewise": "mean over images and classes; a class that is absent from an image "
    "scores 1 there (zero_division=1.0)",
    "MONAI MeanIoU": "mean over the classes that an image's truth has, then over images; a class "
    "that is only predicted is left out (ignore_empty=True)",
    "MONAI MeanIoU, ignore_empty=False": "mean over classes, then over images; a class that is "
    "absent from an image scores 1 there",
    "kornia mean_iou, averaged": "it returns the IoU of every class in every image, a class that "
    "is absent from an image 1, and averages nothing; its documentation says to sum its "
    "confusion_matrix for a whole data set and to exclude absent classes",
}

NOT_MEASURED = {
    "Hugging Face evaluate mean_iou": "evaluate.load fetches the metric's code from the hub; the "
    "package does not hold it. tests/metrics/test_confusion.py holds ours to its documented "
    "example."
}


def metrics() -> dict[str, Metric]:
    """Every metric that is asked, by name; imports the libraries."""
    smp, kornia = quietly("segmentation_models_pytorch.metrics"), quietly("kornia.metrics")
    jaccard = quietly("torchmetrics.classification").MulticlassJaccardIndex
    mean_iou = quietly("torchmetrics.segmentation").MeanIoU
    monai = quietly("monai.metrics").MeanIoU, quietly("monai.transforms").AsDiscrete
    smps = ("macro", "micro", "macro-imagewise")
    return {
        "seglib": ours,
        "torchmetrics MulticlassJaccardIndex": partial(pooled, jaccard),
        "torchmetrics MeanIoU": partial(pairs, mean_iou),
        **{f"smp {reduction}": partial(stats, smp, reduction) for reduction in smps},
        "MONAI MeanIoU": partial(one_hot, *monai, True),
        "MONAI MeanIoU, ignore_empty=False": partial(one_hot, *monai, False),
        "kornia mean_iou, averaged": partial(averaged, kornia),
        "kornia confusion_matrix, summed": partial(summed, kornia),
    }


def ours(batches: Batches, classes: int) -> float:
    matrix = ConfusionMatrix(classes)
    for labels, truth in batches:
        matrix.update(labels, truth)
    return matrix.compute().miou


def has_void(batches: Batches) -> bool:
    return any(bool((truth == 255).any()) for _, truth in batches)


def masks(labels: Tensor, classes: int) -> Tensor:
    """Boolean (N, C, H, W), nowhere true where the label is 255."""
    void = labels == 255
    planes = torch.nn.functional.one_hot(torch.where(void, 0, labels), classes)
    return (planes.bool() & ~void[..., None]).movedim(-1, 1)


def pooled(jaccard: Any, batches: Batches, classes: int) -> float:
    score = jaccard(classes, ignore_index=255)
    for labels, truth in batches:
        score.update(labels, truth)
    return float(score.compute())


def pairs(mean_iou: Any, batches: Batches, classes: int) -> float:
    void = has_void(batches)
    score = mean_iou(classes, input_format="one-hot" if void else "index")
    for labels, truth in batches:
        if void:
            labels = torch.where(truth == 255, 255, labels)
            score.update(masks(labels, classes), masks(truth, classes))
        else:
            score.update(labels, truth)
    return float(score.compute())


def stats(smp: Any, reduction: str, batches: Batches, classes: int) -> float:
    options = {"mode": "multiclass", "ignore_index": 255, "num_classes": classes}
    counts = [smp.get_stats(labels, truth, **options) for labels, truth in batches]
    whole = [torch.cat(parts) for parts in zip(*counts, strict=True)]
    return float(smp.iou_score(*whole, reduction=reduction))


def one_hot(
    mean_iou: Any, discrete: Any, ignore_empty: bool, batches: Batches, classes: int
) -> float:
    planes, score = (
        discrete(to_onehot=classes),
        mean_iou(ignore_empty=ignore_empty, ignore_index=255),
    )
    for labels, truth in batches:
        score([planes(image[None]) for image in labels], list(masks(truth, classes).float()))
    return float(score.aggregate())


def apart(batches: Batches, classes: int) -> tuple[Batches, int]:
    """Void as a further class of both, where there is void."""
    if not has_void(batches):
        return batches, classes
    return [
        (torch.where(truth == 255, classes, labels), torch.where(truth == 255, classes, truth))
        for labels, truth in batches
    ], classes + 1


def averaged(kornia: Any, batches: Batches, classes: int) -> float:
    rest, total = apart(batches, classes)
    each = [kornia.mean_iou(labels, truth, total)[:, :classes] for labels, truth in rest]
    return float(torch.cat(each).mean())


def summed(kornia: Any, batches: Batches, classes: int) -> float:
    rest, total = apart(batches, classes)
    each = [kornia.confusion_matrix(labels, truth, total).sum(0) for labels, truth in rest]
    matrix = torch.stack(each).sum(0)[:classes, :classes]
    hits = matrix.diagonal()
    return float((hits / (matrix.sum(0) + matrix.sum(1) - hits)).nanmean())
