"""Batches in an order, and with an augmentation, that depend on (seed, epoch, index) only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Which sample, in which epoch, of which run: `dataset[SampleKey(seed, epoch, index)]`.

    The sampler hands the epoch over together with the index because workers that stay alive
    between epochs never see a change of an attribute of the data set.
    """

    seed: int
    epoch: int
    index: int

    def __index__(self) -> int:
        """The index alone, so that lists, and torch's Subset, take a key as well."""
        return self.index

    def derived_seed(self) -> int:
        """A 32-bit number for this key, as good as independent of that of any other key."""
        return int(np.random.SeedSequence(astuple(self)).generate_state(1)[0])


class EpochSampler:
    """Yields a `SampleKey` for every sample of an epoch, shuffled anew in each epoch.

    The order is a function of (seed, epoch). Call `set_epoch` before each epoch; `fit` does.
    """

    def __init__(self, length: int, shuffle: bool = True, seed: int = 0) -> None:
        if length < 1:
            raise ValueError("the data set is empty: there is nothing to draw samples from")
        self.length, self.shuffle, self.seed, self.epoch = length, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[SampleKey]:
        order = np.arange(self.length)
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        return (SampleKey(self.seed, self.epoch, int(i)) for i in order)


def make_loader(
    dataset: Any, batch_size: int, shuffle: bool = False, seed: int = 0, workers: int = 0
) -> DataLoader:
    """A DataLoader whose batches are the same for any number of `workers`, and on every resume.

    With `shuffle` an incomplete last batch is dropped (BatchNorm cannot learn from one image),
    unless it is the only batch. Yields (images (N,3,H,W) float32, masks (N,H,W) int64) if the
    data set has a transform.
    """
    import torch
    from torch.utils.data import DataLoader

    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but must be at least 1")
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(len(dataset), shuffle, seed),
        drop_last=shuffle and len(dataset) >= batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Its own numbers: else how often a loader draws from the global generator, which differs
        # with the number of workers and after a resume, would change the model's dropout.
        generator=torch.Generator().manual_seed(seed),
    )
