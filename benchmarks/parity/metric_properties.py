"""What a mean IoU should hold, as questions to any callable metric(batches, classes).

Each returns "" where the property holds, else what happened, in a few words.
"""

import math
from collections.abc import Callable

import torch
from properties import answer
from sklearn.metrics import jaccard_score
from torch import Tensor

Batches = list[tuple[Tensor, Tensor]]
Metric = Callable[[Batches, int], float]
CLASSES = 3

# Four images of 3×4 pixels, three classes and void (255): one prediction, many mean IoUs
TRUTH = [
    [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 255]],
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 255]],
    [[1, 1, 1, 1], [1, 1, 2, 2], [255, 255, 255, 255]],
    [[0, 0, 0, 0], [0, 0, 0, 2], [1, 1, 255, 255]],
]
PREDICTION = [
    [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 2]],
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]],
    [[1, 1, 1, 0], [1, 1, 2, 2], [0, 1, 2, 2]],
    [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1]],
]


def toy() -> Batches:
    return [(torch.tensor(PREDICTION), torch.tensor(TRUTH))]


def case(seed: int = 0, void: float = 0.2) -> tuple[Tensor, Tensor]:
    """Four images; class 2 is neither in the last one's truth nor predicted there."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, CLASSES, (4, 5, 6), generator=generator)
    wrong = torch.rand(truth.shape, generator=generator) < 0.4
    noise = torch.randint(0, CLASSES, truth.shape, generator=generator)
    labels = torch.where(wrong, noise, truth)
    truth[3], labels[3] = truth[3].clamp(max=1), labels[3].clamp(max=1)
    truth[torch.rand(truth.shape, generator=generator) < void] = 255
    return labels, truth


def reference(labels: Tensor, truth: Tensor) -> float:
    """scikit-learn's mean over the classes that the valid pixels' truth or prediction has."""
    valid = truth != 255
    return float(jaccard_score(truth[valid], labels[valid], average="macro"))


def compare(value: float, expected: float) -> str:
    same = math.isclose(value, expected, rel_tol=1e-5)
    return "" if same else f"{value:.4f}, expected {expected:.4f}"


def agrees_with_scikit_learn(metric: Metric) -> str:
    labels, truth = case()
    return compare(metric([(labels, truth)], CLASSES), reference(labels, truth))


def batches_do_not_matter(metric: Metric) -> str:
    labels, truth = case()
    values = [
        metric(list(zip(labels.split(size), truth.split(size), strict=True)), CLASSES)
        for size in (1, 2, 4)
    ]
    told = ", ".join(f"{value:.4f}" for value in values)
    return f"{told} by 1, 2, 4 a batch" if any(compare(v, values[0]) for v in values) else ""


def void_does_not_count(metric: Metric) -> str:
    labels, truth = case()
    values = [
        metric([(torch.where(truth == 255, label, labels), truth)], CLASSES)
        for label in range(CLASSES)
    ]
    told = ", ".join(f"{value:.4f}" for value in values)
    return f"{told} with 0, 1, 2 there" if any(compare(v, values[0]) for v in values) else ""


def absent_does_not_count(metric: Metric) -> str:
    batches = [case()]
    return compare(metric(batches, CLASSES + 1), metric(batches, CLASSES))


def only_predicted_is_zero(metric: Metric) -> str:
    """One image: classes 0 and 1 have IoU 1 and 3/4, class 2 is predicted at a pixel of class 1."""
    truth = torch.tensor([[[0, 0, 0, 0], [1, 1, 1, 1]]])
    labels = torch.tensor([[[0, 0, 0, 0], [1, 1, 1, 2]]])
    return compare(metric([(labels, truth)], CLASSES), (1 + 3 / 4 + 0) / 3)


def out_of_range_is_refused(metric: Metric) -> str:
    """One pixel of the prediction, in turn of every class, has the label after the last class."""
    labels, truth = case(void=0.0)
    accepted = []
    for label in range(CLASSES):
        place = tuple((truth == label).nonzero()[0])
        spoilt = labels.clone()
        spoilt[place] = CLASSES
        try:
            metric([(spoilt, truth)], CLASSES)
        except Exception:
            continue
        accepted.append(str(label))
    return f"accepted where the truth is {', '.join(accepted)}" if accepted else ""


def target_is_left_alone(metric: Metric) -> str:
    labels, truth = case()
    before = truth.clone()
    metric([(labels, truth)], CLASSES)
    return "" if torch.equal(before, truth) else "target is modified"


def all_void_does_not_count(metric: Metric) -> str:
    """In a batch of its own and with others."""
    labels, truth = case()
    blank = torch.zeros_like(labels[:1]), torch.full_like(truth[:1], 255)
    alone = metric([(labels, truth)], CLASSES)
    said = [
        compare(metric([(labels, truth), blank], CLASSES), alone),
        compare(
            metric([(torch.cat([labels, blank[0]]), torch.cat([truth, blank[1]]))], CLASSES), alone
        ),
    ]
    return next((words for words in said if words), "")


PROPERTIES: dict[str, Callable[[Metric], str]] = {
    "equals scikit-learn on the pooled valid pixels": agrees_with_scikit_learn,
    "batches do not matter": batches_do_not_matter,
    "predictions at void count nowhere": void_does_not_count,
    "a further class that nobody has changes nothing": absent_does_not_count,
    "a class that is only predicted counts as 0": only_predicted_is_zero,
    "a prediction out of range is refused": out_of_range_is_refused,
    "the target is left alone": target_is_left_alone,
    "an all-void image changes nothing": all_void_does_not_count,
}


def ask(name: str, metric: Metric) -> str:
    """What a property says of a metric."""
    return answer(PROPERTIES[name], metric)
