"""Data sets that are rendered when asked for, in the hands of those who use data sets."""

import numpy as np
import pytest

from seglib.data import RenderedScans, RenderedStreets, class_statistics, make_loader
from seglib.data.colours import STREET_CLASSES
from seglib.data.render.scan import render_scan
from seglib.transforms import eval_transform


def test_pairs_are_those_of_the_renderer():
    dataset = RenderedScans([5, 90_001], 48, 64, contrast=2.0, lesion=True)
    image, mask = dataset[1]
    expected = render_scan(90_001, 48, 64, contrast=2.0, lesion=True)
    np.testing.assert_array_equal(image, expected.image)
    np.testing.assert_array_equal(mask, expected.semantic)
    first = render_scan(5, 48, 64, lesion=True).semantic
    np.testing.assert_array_equal(dataset.read_mask(-2), first)
    assert [image.name for image, _ in dataset.files] == ["scan_000005", "scan_090001"]
    assert dataset.groups == ("scan_000005", "scan_090001") and dataset.seeds == (5, 90_001)
    with pytest.raises(IndexError, match="index 2, but the data set has 2 images"):
        dataset.read(2)
    # loaders and statistics take them
    dataset = RenderedScans(range(6), 32, 48, transform=eval_transform(32, 48))
    statistics = class_statistics(dataset, progress=False)
    masks = np.stack([render_scan(seed, 32, 48).semantic for seed in range(6)])
    np.testing.assert_array_equal(statistics.pixels, np.bincount(masks.ravel(), minlength=3))
    assert dataset.check(progress=False).ok
    batches = list(make_loader(dataset, 4))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 3, 32, 48), (2, 3, 32, 48)]
    np.testing.assert_array_equal(batches[1][1].numpy(), masks[4:])


def test_streets_have_their_classes_and_take_knobs_and_name_a_wrong_one_at_once():
    dataset = RenderedStreets([4], 48, 64, light="night")
    image, mask = dataset[0]
    assert image.shape == (48, 64, 3) and mask.shape == (48, 64)
    assert dataset.classes == STREET_CLASSES and mask[mask != 255].max() < 11
    by_day, same = RenderedStreets([4], 48, 64)[0]
    np.testing.assert_array_equal(mask, same)
    assert image.mean() < 0.8 * by_day.mean()

    # lane markings are a class with a name and a colour
    dataset = RenderedStreets(range(4), 96, 128, lane=True)
    masks = np.stack([dataset.read_mask(i) for i in range(4)])
    assert masks[masks != 255].max() == 11 == dataset.num_classes - 1
    assert dataset.classes[11] == "LaneMarking" and len(dataset.palette) == 12
    assert dataset.check(progress=False).statistics.pixels[11] == (masks == 11).sum() > 0
    for name, words in (("ligth", "no knob 'ligth'.*light"), ("light", "light is 'nigth'")):
        with pytest.raises(ValueError, match=words):
            RenderedStreets(range(5), **{name: "nigth"})
