"""The batches of one step of the optimiser: several of a loader, and several processes' parts.

A loss is a mean over the valid pixels of its batch, or over their weights; the number of these, or
their sum, is its denominator dᵢ. Each batch's gradient counts by its part of the step's: Σ dᵢ·gradᵢ
/ Σ dᵢ is one big batch's, exactly for losses that are means over pixels. Dice and Lovász are ratios
of sums over a batch, and `MaskLoss` is a mean over its masks, which no weighting of parts gives
back; a sum of losses is weighted by valid pixels, not exact if its parts have class weights; and
BatchNorm sees the batches one by one anyway.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from seglib.data.loader import EpochSampler, SampleKey
from seglib.engine import distributed, validation
from seglib.engine.state import EpochProgress
from seglib.losses.check import check_labels


def loss_denominator(loss: nn.Module, target: Tensor, ignore_index: int) -> float:
    """What the loss of a batch is divided by: weighting by it makes means of batches exact."""
    denominator: Any = getattr(loss, "denominator", None)
    if denominator is None:
        return float((target != ignore_index).sum())
    weight: Any = getattr(loss, "weight", None)
    if weight is not None:
        check_labels(target, len(weight), ignore_index)  # (an index into the weights)
    return float(denominator(target))


def last_denominator(loss: nn.Module, target: Tensor, ignore_index: int) -> Tensor:
    """The same behind a call of the loss, which knows it; on the target's device."""
    known: Any = getattr(loss, "last_denominator", None)
    if known is not None:
        return torch.as_tensor(known)
    if getattr(loss, "denominator", None) is None:
        return (target != ignore_index).sum()
    return torch.as_tensor(loss_denominator(loss, target, ignore_index))


class BatchLosses:
    """The losses of an epoch's batches on their way into its sums.

    Reading a number from a GPU waits until it has done all that it was given, and then it waits
    for more: so it happens every `EVERY` batches, and on a CPU, where it costs nothing, at once.
    """

    EVERY = 50

    def __init__(self, done: EpochProgress, loader: Any, device: torch.device) -> None:
        self.done, self.loader = done, loader
        self.every = self.EVERY if device.type == "cuda" else 1
        self.waiting: list[tuple[Tensor, Tensor, int]] = []

    def add(self, value: Tensor, denominator: Tensor, images: Tensor) -> None:
        """Note a batch; FloatingPointError if its loss, or one that waits, is not finite."""
        self.waiting.append((value.detach(), denominator, len(images)))
        self.done.step += 1
        if len(self.waiting) == self.every:
            self.settle(images)

    def settle(self, images: Tensor | None = None) -> None:
        """Add up all that waits; `images` are the last batch's."""
        waiting, self.waiting = self.waiting, []
        first = self.done.step - len(waiting)
        for i, (value, denominator, count) in enumerate(waiting):
            number = value.item()  # (the first waits for the GPU, the others find it ready)
            if not math.isfinite(number):
                shown = images if i + 1 == len(waiting) else None
                raise validation.not_finite(number, self.loader, first + i, shown)
            self.done.add(number, denominator.item(), count)


def batch_weights(
    loss: nn.Module, targets: Sequence[Tensor], ignore_index: int, processes: int
) -> list[float]:
    """By how much each batch's loss counts: Σ = `processes`, over which gradients are averaged."""
    if processes == len(targets) == 1:
        return [1.0]
    each = [loss_denominator(loss, target, ignore_index) for target in targets]
    whole = distributed.total(sum(each))[0]
    return [denominator / (whole or 1) * processes for denominator in each]


def grouped(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` batches, and of what is left at the end."""
    source = iter(batches)
    while group := list(islice(source, size)):
        yield group


@contextmanager
def epoch_at(loader: Any, epoch: int, step: int) -> Iterator[None]:
    """For the block the sampler starts `epoch` at this batch; then it starts at the first again."""
    sampler = loader.sampler
    if isinstance(sampler, EpochSampler):
        sampler.set_epoch(epoch, start=step * loader.batch_size)
    elif hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    try:
        yield
    finally:
        if isinstance(sampler, EpochSampler):
            sampler.set_epoch(epoch)


def remaining(
    loader: Any, done: EpochProgress, device: torch.device, ignore_index: int
) -> Iterator[Any]:
    """What `loader` still has to give in an epoch that has come as far as `done`.

    Samplers of ours start there; from others the batches of before are drawn and dropped. Where
    the last step has images for other processes only, this one takes part with a void mask.
    """
    sampler, given, batches = getattr(loader, "sampler", None), done.step, iter(loader)
    if not isinstance(sampler, EpochSampler):
        for _ in range(done.step):
            next(batches)
    done.restore_random(device)
    for batch in batches:
        given += 1
        yield batch
    if given < getattr(sampler, "steps", 0):
        first = SampleKey(loader.sampler.seed, loader.sampler.epoch, loader.sampler.indices[0])
        images, labels = loader.collate_fn([loader.dataset[first]])
        yield images, torch.full_like(labels, ignore_index)
