"""How lesson 3's exercise of designing a loss is judged: by training with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seglib.data import RenderedScans
from seglib.exercises.kit import NotYet, call, number, show
from seglib.metrics.scores import Scores

BAR, SEEDS, TRAIN, HIDDEN = 0.70, (51, 52), range(160), range(5000, 5030)
EPOCHS, SIZE = 6, 64
EMA = 0.96  # of about 25 steps: at a constant rate single ones jump
LESION = 1


class Slices(RenderedScans):
    """Slices with a lesion of one per cent of the pixels, rendered once."""

    def __init__(self, seeds: range, transform: Any) -> None:
        super().__init__(seeds, SIZE, SIZE, transform, lesion_size=0.01, lesion=True, contrast=3.0)
        self.kept: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if index not in self.kept:
            self.kept[index] = super().read(index)
        image, mask = self.kept[index]
        return image.copy(), mask.copy()


@cache
def slices() -> tuple[Slices, Slices]:
    """Those to train on and the hidden ones."""
    from seglib.transforms import eval_transform, train_transform

    flips = train_transform(SIZE, SIZE, zoom=(1, 1), stretch=1, colour=0)
    return Slices(TRAIN, flips), Slices(HIDDEN, eval_transform(SIZE, SIZE))


class AsModule(nn.Module):
    """A plain function as a loss that `fit` takes."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.function(logits, target)


def scores_after_training(build: Any, seed: int, epochs: int = EPOCHS) -> Scores:
    """Scores on the hidden slices of the lesson's small U-Net, trained with the loss."""
    from seglib.data import make_loader
    from seglib.models.unet import UNet
    from seglib.training import evaluate, fit

    train, hidden = slices()
    loss, lr = checked(build, train)
    torch.manual_seed(seed)
    model = UNet(train.num_classes, base_channels=8)
    try:
        fit(
            model,
            make_loader(train, 4, shuffle=True, seed=seed),
            epochs=epochs,
            lr=lr,
            loss=loss,
            seed=seed,
            schedule="constant",
            ema=EMA,
        )
    except FloatingPointError as error:
        raise NotYet(
            f"training broke off: {str(error).split(';')[0]}. Your learning rate is "
            f"{lr:g}: is it too high, or does the loss divide by 0 or take ln 0?"
        ) from None
    except Exception as error:
        raise NotYet(
            f"training with your loss raised {type(error).__name__}: {str(error)[:200]}"
        ) from None
    return evaluate(model, make_loader(hidden, 10))


def checked(build: Any, train: Any) -> tuple[nn.Module, float]:
    """The loss, as a module, and the learning rate, or what is wrong with them."""
    found = call(build, train, given="the training slices")
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise NotYet(
            f"expected build_loss to return a pair, loss and learning rate, found {show(found)}"
        )
    loss, rate = found
    if callable(rate) and not callable(loss):
        raise NotYet("expected loss first, learning rate second; found them the other way round")
    if isinstance(loss, type) or not callable(loss):
        made = f"; write {loss.__name__}(…) to make one" if isinstance(loss, type) else ""
        raise NotYet(f"expected a loss to call as loss(logits, target), found {show(loss)}{made}")
    lr = number(rate, "the learning rate", 1e-7, 1)
    given = f"random logits ({', '.join(map(str, (2, train.num_classes, 8, 8)))})"
    logits = torch.randn(2, train.num_classes, 8, 8, requires_grad=True)
    target = torch.randint(0, train.num_classes, (2, 8, 8))
    value = call(loss, logits, target, given=given)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise NotYet(f"on {given}, expected your loss to give a scalar tensor, found {show(value)}")
    if not torch.isfinite(value).all():
        raise NotYet(f"on {given}, your loss is {value.item()}, expected a finite number")
    if not value.requires_grad:
        raise NotYet(
            f"on {given}, your loss has no gradient: is there an argmax, a detach or an item in it?"
        )
    return loss if isinstance(loss, nn.Module) else AsModule(loss), lr


def own_loss(build: Any, trained: Callable[[Any, int], Scores] = scores_after_training) -> str:
    runs = [trained(build, seed) for seed in SEEDS]
    iou, recall, precision = (
        [float(np.nan_to_num(row[LESION])) for row in rows]
        for rows in zip(*((run.iou, run.recall, run.precision) for run in runs), strict=True)
    )
    mean = float(np.mean(iou))
    both = lambda row: " and ".join(f"{value:.2f}" for value in row)  # noqa: E731
    found = (
        f"lesion IoU {mean:.3f} on {len(HIDDEN)} hidden slices ({both(iou)} with two seeds); "
        f"recall {both(recall)}, precision {both(precision)}; the bar is {BAR}"
    )
    if mean < BAR:
        raise NotYet(f"{found}. {advice(recall, precision)}")
    return found


def advice(recall: list[float], precision: list[float]) -> str:
    """What the balance of recall and precision says of a loss below the bar."""
    steps = EPOCHS * len(TRAIN) // 4
    if max(recall) < 0.05:
        return (
            f"No lesion is found: in {steps} steps the network has not started on them. Give "
            "them more pull, with weights or a loss of overlap, or another learning rate"
        )
    if min(recall) < 0.05:
        return (
            "One seed has started on the lesions and the other has not: it starts, but too "
            "late to count on. What makes it start earlier?"
        )
    found, right = float(np.mean(recall)), float(np.mean(precision))
    if found > 1.5 * right:
        return (
            "Recall is high and precision low: missing a lesion costs so much that false "
            "alarms pay. Weaken the weights, or use a loss that counts both"
        )
    if right > 1.5 * found:
        return (
            "Precision is high and recall low: what is called lesion is one, and much is left "
            "out. Let missed pixels cost more than false alarms"
        )
    return (
        f"Recall and precision are in balance, so the weights are not what is missing: in "
        f"{steps} steps the learning rate decides how far it gets"
    )
