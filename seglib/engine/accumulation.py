"""The batches of one step of the optimiser: several of a loader, and several processes' shares.

A loss is a mean: over the valid pixels of its batch, or over their weights. The mean over several
batches is not the mean of their means unless these masses are equal, which void makes rare; so
each batch's gradient counts by its share of the step's mass: Σ mᵢ·gradᵢ / Σ mᵢ. What is then equal
to one big batch is the loss's part, exactly for losses that are means over pixels. Dice and Lovász
are ratios of sums over a batch, which no weighting of parts gives back; a sum of losses is weighed
by valid pixels, which is not exact either if its parts have class weights; and BatchNorm sees the
batches one by one in any case.
"""

from __future__ import annotations

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
    """What the loss of a batch was divided by: weighing by it makes means of batches exact."""
    measure: Any = getattr(loss, "mass", None)
    if measure is not None:
        return float(measure(target))
    return float((target != ignore_index).sum())


def batch_weights(
    loss: nn.Module, targets: Sequence[Tensor], ignore_index: int, accumulate: int
) -> list[tuple[float, float]]:
    """Of each batch, by how much its loss counts in the step, and its mass.

    The shares add up to 1 over all processes (times their number, since DistributedDataParallel
    takes the mean over them).
    """
    weight: Any = getattr(loss, "weight", None)
    for target in targets if weight is not None else ():
        check_labels(target, len(weight), ignore_index)  # (an index into the weights)
    masses = [loss_denominator(loss, target, ignore_index) for target in targets]
    if accumulate == 1 and distributed.world() == 1:
        return [(1.0, masses[0])]
    whole = distributed.total(sum(masses))[0]
    return [(each / (whole or 1) * distributed.world(), each) for each in masses]


def grouped(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` batches, and of what is left at the end."""
    source = iter(batches)
    while group := list(islice(source, size)):
        yield group


@contextmanager
def epoch_from(loader: Any, epoch: int, step: int) -> Iterator[None]:
    """For the block the sampler starts `epoch` at this batch; then it starts at the first again."""
    begin_epoch(loader, epoch, step)
    try:
        yield
    finally:
        begin_epoch(loader, epoch)


def begin_epoch(loader: Any, epoch: int, step: int = 0) -> None:
    """Have the sampler start `epoch`, `step` batches from its beginning."""
    sampler = loader.sampler
    if takes_start(sampler):
        sampler.set_epoch(epoch, start=step * loader.batch_size)
    elif hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)


def remaining(
    loader: Any, at: EpochProgress, device: torch.device, ignore_index: int
) -> Iterator[Any]:
    """What `loader` still has to give in an epoch that has come as far as `at`.

    Samplers of ours start there; from others the batches of before are drawn and dropped. Where
    the last step has images for other processes only, this one takes part with a void mask.
    """
    steps = getattr(loader.sampler, "steps", 0) if hasattr(loader, "sampler") else 0
    batches = iter(loader)
    if not takes_start(getattr(loader, "sampler", None)):
        for _ in range(at.step):
            next(batches)
    at.restore_random(device)
    given = at.step
    for batch in batches:
        given += 1
        yield batch
    if given < steps:
        first = SampleKey(loader.sampler.seed, loader.sampler.epoch, loader.sampler.indices[0])
        images, labels = loader.collate_fn([loader.dataset[first]])
        yield images, torch.full_like(labels, ignore_index)


def takes_start(sampler: Any) -> bool:
    """Whether `sampler` can begin an epoch in its midst."""
    return isinstance(sampler, EpochSampler)
