"""Batches in an order, and with an augmentation, that depend on (seed, epoch, index) only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seglib.data.workers import WorkerInit

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class SampleKey(int):
    """The index of a sample that also knows its epoch and run: `SampleKey(seed, epoch, index)`.

    The sampler hands the epoch over with the index because workers that stay alive between epochs
    never see a change of the data set's attributes. Any data set takes it, as it is an int.
    """

    seed: int
    epoch: int

    def __new__(cls, seed: int, epoch: int, index: int) -> SampleKey:
        key = super().__new__(cls, index)
        key.seed, key.epoch = seed, epoch
        return key

    def __reduce__(self) -> tuple[type[SampleKey], tuple[int, int, int]]:
        return SampleKey, (self.seed, self.epoch, int(self))  # workers get it pickled

    def derived_seed(self) -> int:
        """A 32-bit number for this key, as good as independent of that of any other key."""
        sequence = np.random.SeedSequence((self.seed, self.epoch, int(self)))
        return int(sequence.generate_state(1)[0])


class EpochSampler:
    """Yields a `SampleKey` for each of `indices` in every epoch, shuffled anew if asked for.

    The order is a function of (seed, epoch). Call `set_epoch` before each epoch; `fit` does. With
    `start` that many samples are left out at the beginning: a run that was stopped goes on there.
    """

    def __init__(self, indices: Sequence[int], shuffle: bool = True, seed: int = 0) -> None:
        if not len(indices):
            raise ValueError("the data set is empty: there is nothing to draw samples from")
        if seed < 0:
            raise ValueError(f"found seed={seed}, expected a whole number from 0 up")
        self.indices, self.shuffle, self.seed, self.epoch = indices, shuffle, seed, 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[SampleKey]:
        order = np.array(self.indices)
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        return (SampleKey(self.seed, self.epoch, int(i)) for i in order[self.start :])


def make_loader(
    dataset: Any, batch_size: int, shuffle: bool = False, seed: int = 0, workers: int = 0
) -> DataLoader:
    """A DataLoader whose batches are the same for any number of `workers`, and on every resume.

    With `shuffle` an incomplete last batch is dropped (BatchNorm cannot learn from one image),
    unless it is the only one. Yields (images (N,3,H,W) float32, masks (N,H,W) int64) if the data
    set has a transform. Of a `Subset`, `dataset` is the whole set and `sampler.indices` the part.
    """
    import torch
    from torch.utils.data import DataLoader, Subset

    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but must be at least 1")
    indices: Sequence[int] = range(len(dataset))
    while isinstance(dataset, Subset):  # it would hand on the index without the key
        indices = [dataset.indices[i] for i in indices]
        dataset = dataset.dataset
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(indices, shuffle, seed),
        drop_last=shuffle and len(indices) >= batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=WorkerInit() if workers else None,
        pin_memory=torch.cuda.is_available(),  # so that a GPU can fetch it meanwhile
        # Its own numbers: else how often a loader draws from the global generator, which differs
        # with the number of workers and after a resume, would change the model's dropout.
        generator=torch.Generator().manual_seed(seed),
    )
