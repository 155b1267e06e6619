"""Decoded pairs in memory: the same pairs, read once, by all workers together."""

import pickle

import numpy as np
import pytest
from folders import Folder
from toys import CLASSES, Toy

from seglib.data import Streets, cache, make_loader
from seglib.data import dataset as base_module
from seglib.transforms import eval_transform, train_transform

PAIR = 4 * 24 * 32  # bytes of a decoded pair of Toy


@pytest.fixture
def pairs(tmp_path):
    folder, toy = Folder(tmp_path), Toy(6)
    for i in range(6):
        image, mask = toy.read(i)
        folder.add(f"{i}", mask, image)
    return folder


def open_pairs(pairs, **options):
    return pairs.open(CLASSES, **options)


@pytest.fixture
def reads(monkeypatch):
    found = []
    read = base_module.read_image
    monkeypatch.setattr(base_module, "read_image", lambda path: found.append(path) or read(path))
    return found


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (True, 6),
        ("all", 6),
        ("auto", 6),
        ("1MB", 6),
        (2 * PAIR, 2),
        (2 * PAIR - 1, 1),
        (0, 0),
        (None, None),
    ],
)
def test_each_kept_pair_is_read_once_and_stays_the_same(pairs, reads, asked, kept):
    data, plain = open_pairs(pairs, cache=asked), open_pairs(pairs)
    expected = [plain[i] for i in range(6)]
    reads.clear()
    for _ in range(3):
        for i in (0, 1, 2, 3, 4, 5, -1):
            for ours, theirs in zip(data[i], expected[i], strict=True):
                np.testing.assert_array_equal(ours, theirs)
                ours[:] = 77  # the reader's copy: harms nothing
    kept = kept or 0
    assert len(reads) == kept + 3 * (7 - kept - (kept == 6))
    with pytest.raises(IndexError):
        data[6]


def test_pictures_of_different_sizes_and_damaged_ones(pairs):
    rng = np.random.default_rng(0)
    for i, size in enumerate([(4, 9), (7, 3), (1, 1)]):
        pairs.add(f"{i}", rng.integers(0, 3, size), rng.integers(0, 255, (*size, 3), np.uint8))
    (pairs.images / "3.png").write_bytes(b"no picture")
    data, plain = open_pairs(pairs, cache="all"), open_pairs(pairs)
    for i in (2, 1, 0, 0, 1, 2):
        assert all(np.array_equal(a, b) for a, b in zip(data[i], plain[i], strict=True))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"3\.png"):
            data[3]


@pytest.mark.slow
def test_workers_share_it(pairs):
    """What the workers have decoded is there in this process, and the batches are the same."""
    data = open_pairs(pairs, transform=train_transform(16, 24), cache="all")
    plain = open_pairs(pairs, transform=train_transform(16, 24))
    loader, other = make_loader(data, 2, True, workers=2), make_loader(plain, 2, True)
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        other.sampler.set_epoch(epoch)
        for (a, b), (c, d) in zip(loader, other, strict=True):
            assert a.equal(c) and b.equal(d)
    assert data._cache.shapes.tolist() == [[24, 32]] * 6


def test_it_can_be_pickled_and_a_named_set_takes_it(pairs):
    data = open_pairs(pairs, cache="all")
    image, _ = data[2]
    assert np.array_equal(pickle.loads(pickle.dumps(data))[2][0], image)
    streets = Streets("val", transform=eval_transform(24, 32), cache="1MB")
    assert 0 < streets._cache.kept < len(streets)


def test_auto_takes_a_quarter_of_the_free_memory_at_most(pairs, monkeypatch):
    monkeypatch.setattr(cache, "free_memory", lambda: 4 * 6 * PAIR)
    assert open_pairs(pairs, cache="auto")._cache.kept == 6
    monkeypatch.setattr(cache, "free_memory", lambda: 4 * 6 * PAIR - 4)
    assert open_pairs(pairs, cache="auto")._cache is None
    monkeypatch.setattr(cache, "free_memory", lambda: None)
    assert open_pairs(pairs, cache="auto")._cache is None


def test_too_little_shared_memory_is_said_before_it_ends_the_process(pairs, monkeypatch):
    monkeypatch.setattr(cache, "_shared_memory", lambda: 5 * PAIR)
    with pytest.raises(MemoryError, match=r"cache='500MB'.*--shm-size"):
        open_pairs(pairs, cache="all")
    assert open_pairs(pairs, cache="auto")._cache is None
    assert open_pairs(pairs, cache=5 * PAIR)._cache.kept == 5


def test_another_word_is_refused(pairs):
    with pytest.raises(ValueError, match="found cache = 'much', expected all, auto or a size such"):
        open_pairs(pairs, cache="much")
