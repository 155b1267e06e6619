"""Decoded pairs in memory: the same pairs, read once, by all workers together."""

import pickle
from functools import partial

import numpy as np
import pytest
from folders import Folder
from toys import CLASSES, Toy

from seglib.data import Streets, cache, make_loader
from seglib.data import dataset as base_module
from seglib.transforms import eval_transform, train_transform

PAIR = 4 * 24 * 32  # bytes of a decoded pair of Toy
KEPT = {True: 6, "all": 6, "auto": 6, "1MB": 6, 2 * PAIR: 2, 2 * PAIR - 1: 1, 0: 0, None: 0}


@pytest.fixture
def pairs(tmp_path):
    folder, toy = Folder(tmp_path), Toy(6)
    for i in range(6):
        image, mask = toy.read(i)
        folder.add(f"{i}", mask, image)
    folder.open = partial(folder.open, CLASSES)
    return folder


@pytest.mark.parametrize("asked", KEPT)
def test_each_kept_pair_is_read_once_and_stays_the_same(pairs, monkeypatch, asked):
    data, plain, reads, kept = pairs.open(cache=asked), pairs.open(), [], KEPT[asked]
    expected, read = [plain[i] for i in range(6)], base_module.read_image
    monkeypatch.setattr(base_module, "read_image", lambda path: reads.append(path) or read(path))
    for _ in range(3):
        for i in (0, 1, 2, 3, 4, 5, -1):
            for ours, theirs in zip(data[i], expected[i], strict=True):
                np.testing.assert_array_equal(ours, theirs)
                ours[:] = 77  # the reader's copy: harms nothing
    assert len(reads) == kept + 3 * (7 - kept - (kept == 6))
    with pytest.raises(IndexError):
        data[6]


def test_sizes_damage_pickling_and_named_sets(pairs):
    rng = np.random.default_rng(0)
    for i, size in enumerate([(4, 9), (7, 3), (1, 1)]):
        pairs.add(f"{i}", rng.integers(0, 3, size), rng.integers(0, 255, (*size, 3), np.uint8))
    (pairs.images / "3.png").write_bytes(b"no picture")
    data, plain = pairs.open(cache="all"), pairs.open()
    for i in (2, 1, 0, 0, 1, 2):
        assert all(np.array_equal(a, b) for a, b in zip(data[i], plain[i], strict=True))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"3\.png"):
            data[3]
    assert np.array_equal(pickle.loads(pickle.dumps(data))[2][0], plain[2][0])
    streets = Streets("val", transform=eval_transform(24, 32), cache="1MB")
    assert 0 < streets._cache.kept < len(streets)
    with pytest.raises(ValueError, match="found cache = 'much', expected all, auto or a size such"):
        pairs.open(cache="much")


@pytest.mark.slow
def test_what_workers_decode_is_shared_and_the_batches_are_the_same(pairs):
    data, plain = (pairs.open(transform=train_transform(16, 24), cache=c) for c in ("all", None))
    loader, other = make_loader(data, 2, True, workers=2), make_loader(plain, 2, True)
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        other.sampler.set_epoch(epoch)
        for (a, b), (c, d) in zip(loader, other, strict=True):
            assert a.equal(c) and b.equal(d)
    assert data._cache.shapes.tolist() == [[24, 32]] * 6


def test_it_takes_a_quarter_of_the_free_memory_and_no_more_than_can_be_shared(pairs, monkeypatch):
    for free, kept in ((4 * 6 * PAIR, 6), (4 * 6 * PAIR - 4, None), (None, None)):
        monkeypatch.setattr(cache, "free_memory", lambda free=free: free)
        found = pairs.open(cache="auto")._cache
        assert (found and found.kept) == kept
    monkeypatch.setattr(cache, "free_memory", lambda: 1 << 40)
    monkeypatch.setattr(cache, "_shared_memory", lambda: 5 * PAIR)
    with pytest.raises(MemoryError, match=r"cache='500MB'.*--shm-size"):
        pairs.open(cache="all")  # said before it ends the process
    assert pairs.open(cache="auto")._cache is None
    assert pairs.open(cache=5 * PAIR)._cache.kept == 5
