"""Copies across the ultrasound splits, measured from the pictures instead of read from our list."""

import cv2
import numpy as np
import pytest

from seglib.data import Ultrasound


def fine_structure(dataset):
    """The spectrum of each picture, cropped to its content, 128×128, high-passed, of norm 1."""
    spectra = []
    for path, _ in dataset.files:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        rows, columns = np.flatnonzero(grey.max(1) > 40), np.flatnonzero(grey.max(0) > 40)
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        small = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32)
        small -= cv2.GaussianBlur(small, (0, 0), 4)
        spectra.append(np.fft.rfft2(small / np.linalg.norm(small)))
    return spectra


def likeness(these, those):
    """The largest correlation over all shifts, for every pair."""
    return np.array(
        [[np.fft.irfft2(a * b.conj(), s=(128, 128)).max() for b in those] for a in these]
    )


@pytest.mark.data
@pytest.mark.slow
def test_our_splits_share_no_picture_and_the_published_ones_do(datasets):
    splits = {
        s: fine_structure(Ultrasound(s, root=datasets))
        for s in ("train", "val", "test", "trainval")
    }
    for a, b in (("test", "train"), ("test", "val"), ("val", "train")):
        assert likeness(splits[a], splits[b]).max() < 0.45, (a, b)
    # the same measure does see copies: between the published splits there are some
    leaks = likeness(splits["test"], splits["trainval"])
    assert (leaks.max(axis=1) > 0.8).sum() >= 6
