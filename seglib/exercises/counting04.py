"""Batches of labels, their counts in another way, and the reader's Matrix that is fed with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from seglib.exercises.kit import NotYet, call, show

CLASSES, VOID, MANY = 5, 255, 20  # with 20 classes, 19 · 20 does not fit into uint8
Batches = list[tuple[Any, Any]]  # of (prediction, target)


def make_batches(shapes: Any, seed: int, first: int = 0, below: Any = (0, 1, 2, 4)) -> Batches:
    """int64 maps: truth first … first + 2 and void, first + 4 predicted only, first + 3 absent.

    Where the truth is void, the prediction is one of `below`.
    """
    rng, found = np.random.default_rng(seed), []
    for n, shape in enumerate(shapes):
        share = [0.2, 0.5, 0.3] if n % 2 else [0.6, 0.3, 0.1]
        truth = first + rng.choice([0, 1, 2], shape, p=share)
        noise = first + rng.choice([0, 1, 2, 4], shape, p=[0.5, 0.1, 0.3, 0.1])
        prediction = np.where(rng.random(shape) < (0.8, 0.5)[n % 2], truth, noise)
        void = rng.random(shape) < 0.2
        found.append(
            (np.where(void, rng.choice(below, shape), prediction), np.where(void, VOID, truth))
        )
    return found


def flat(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """All predictions, all targets."""
    return tuple(
        np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*batches, strict=True)
    )  # type: ignore[return-value]


def histogram(prediction: Any, target: Any, classes: int) -> np.ndarray:
    """Counts by truth and prediction of the labels in range, without bincount."""
    edges = np.arange(classes + 1) - 0.5
    return np.histogram2d(target, prediction, [edges, edges])[0].astype(np.int64)


def true_counts(batches: Batches, classes: int, void: int = VOID) -> np.ndarray:
    prediction, target = flat(batches)
    valid = target != void
    return histogram(prediction[valid], target[valid], classes)


def true_iou(batches: Batches, classes: int) -> np.ndarray:
    """Class by class from two boolean maps, without a matrix."""
    prediction, target = flat(batches)
    prediction, target = prediction[target != VOID], target[target != VOID]
    either = [((prediction == k) | (target == k)).sum() for k in range(classes)]
    both = [((prediction == k) & (target == k)).sum() for k in range(classes)]
    return np.array([b / e if e else np.nan for b, e in zip(both, either, strict=True)])


def fed(answer: Any, classes: int, batches: Batches, given: str, *void: int) -> Any:
    """A Matrix of the reader's that has seen the batches."""
    settings = ", ".join(map(str, (classes, *void)))
    made = call(answer, classes, *void, given=f"Matrix({settings})")
    for prediction, target in batches:
        handed = [
            part.clone() if torch.is_tensor(part) else part.copy() for part in (prediction, target)
        ]

        def update(p: Any = handed[0], t: Any = handed[1]) -> bool:
            made.update(p, t)
            return True

        call(update, given=given)
        for name, old, new in zip(
            ("prediction", "target"), (prediction, target), handed, strict=True
        ):
            if not np.array_equal(np.asarray(old), np.asarray(new)):
                raise NotYet(
                    f"on {given}, update changes the {name} that it gets: whoever uses it "
                    "next finds other labels. Select pixels, or work on a copy"
                )
    return made


def as_array(found: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        array = np.asarray(found.numpy() if hasattr(found, "numpy") else found)
    except Exception:
        array = np.array(None)
    if array.dtype.kind not in "uif" or array.shape != shape:
        raise NotYet(f"{what} is {show(found)}, expected an array of shape {shape}")
    return array


def counts_of(made: Any, classes: int, given: str) -> np.ndarray:
    try:
        found = made.counts
    except AttributeError:
        raise NotYet(f"on {given}, your Matrix has no attribute `counts`") from None
    except Exception as error:
        raise NotYet(f"on {given}, counts raised {type(error).__name__}: {error}") from None
    return as_array(found, (classes, classes), f"on {given}, counts")


def iou_of(made: Any, classes: int, given: str) -> np.ndarray:
    def iou() -> Any:
        return made.iou()

    found = call(iou, given=given)
    if np.ndim(found) == 0:
        raise NotYet(f"on {given}, iou() is {show(found)}, expected one number a class")
    return as_array(found, (classes,), f"on {given}, iou()")
