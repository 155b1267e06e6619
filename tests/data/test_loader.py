"""Batches depend on (seed, epoch, index), not on workers; plain loaders vary by epoch too."""

import pickle
from itertools import product

import pytest
import torch
from torch.utils.data import DataLoader, Subset
from toys import Toy

from seglib.data.loader import EpochSampler, SampleKey, make_loader
from seglib.transforms import eval_transform, train_transform


def epochs_of(workers, seed=0):
    loader = make_loader(Toy(7, train_transform(16, 24)), 3, True, seed=seed, workers=workers)
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        yield [torch.cat(tensors) for tensors in zip(*loader, strict=True)]


@pytest.mark.slow
def test_workers_give_equal_batches_epochs_differ_and_a_subset_keeps_the_keys():
    alone, shared, other = list(epochs_of(0)), list(epochs_of(2)), next(epochs_of(0, seed=1))
    for ours, theirs in zip(alone, shared, strict=True):
        assert all(map(torch.equal, ours, theirs))
    assert not torch.equal(alone[0][0], alone[1][0]) and not torch.equal(alone[0][0], other[0])
    # a (nested) Subset keeps the keys, and so augments as the whole set does
    whole = Toy(8, train_transform(16, 24))
    part = Subset(Subset(whole, [1, 3, 5, 7]), [3, 0])
    for workers, epoch in product((0, 2), (0, 1)):
        loader = make_loader(part, 2, workers=workers)
        loader.sampler.set_epoch(epoch)
        images, _ = next(iter(loader))
        assert torch.equal(images[0], whole[SampleKey(0, epoch, 7)][0])
        assert torch.equal(images[1], whole[SampleKey(0, epoch, 1)][0])


def test_a_key_is_an_index_that_survives_pickling_and_decides_the_sample():
    key = pickle.loads(pickle.dumps(SampleKey(3, 5, 7)))
    assert key == 7 and "abcdefgh"[key] == "h" and f"{key:03}" == "007"
    assert (key.seed, key.epoch) == (3, 5)
    assert key.derived_seed() == SampleKey(3, 5, 7).derived_seed() != SampleKey(3, 6, 7)
    keys = product(range(3), range(10), range(200))
    seeds = {SampleKey(*key).derived_seed() for key in keys}
    assert len(seeds) > 3 * 10 * 200 - 3  # 6,000 draws of 32 bits: 0.004 collisions expected
    data = Toy(3, train_transform(16, 24))
    first = data[SampleKey(0, 0, 1)][0]
    assert torch.equal(first, data[SampleKey(0, 0, 1)][0])
    assert not torch.equal(first, data[SampleKey(0, 1, 1)][0])


def test_every_sample_comes_once_in_an_epoch():
    sampler = EpochSampler(range(50), shuffle=True, seed=4)
    sampler.set_epoch(3)
    order = [int(key) for key in sampler]
    assert sorted(order) == list(range(50)) and order != list(range(50))
    assert list(EpochSampler(range(4), shuffle=False)) == [0, 1, 2, 3]
    # an incomplete batch is dropped only in training
    data = Toy(7, eval_transform(16, 24))
    assert [len(masks) for _, masks in make_loader(data, 3)] == [3, 3, 1]
    assert [len(masks) for _, masks in make_loader(data, 3, shuffle=True)] == [3, 3]
    assert [len(masks) for _, masks in make_loader(data, 9, shuffle=True)] == [7]
    # a plain loader augments differently in each epoch, too
    loader = DataLoader(Toy(2, train_transform(16, 24)), batch_size=2)
    torch.manual_seed(0)
    assert not torch.equal(next(iter(loader))[0], next(iter(loader))[0])
