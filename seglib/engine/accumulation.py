"""The batches of one step of the optimiser: several of a loader, and several processes' parts.

A loss is a mean over the valid pixels of its batch, or over their weights; the number of these, or
their sum, is its denominator dᵢ. Each batch's gradient counts by its part of the step's: Σ dᵢ·gradᵢ
/ Σ dᵢ is one big batch's, exactly for losses that are means over pixels. Dice and Lovász are ratios
of sums over a batch, which no weighting of parts gives back; a sum of losses is weighted by valid
pixels, not exact if its parts have class weights; and BatchNorm sees the batches one by one anyway.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from seglib.data.loader import EpochSampler, SampleKey
from seglib.engine import distributed
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


def last_denominator(loss: nn.Module, target: Tensor, ignore_index: int) -> float:
    """The same behind a call of the loss, which knows it."""
    known: Any = getattr(loss, "last_denominator", None)
    return loss_denominator(loss, target, ignore_index) if known is None else float(known)


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
