"""Class statistics against numbers counted by hand."""

import numpy as np
import pytest
from folders import Folder, save
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seglib.data import class_statistics
from seglib.data.statistics import count_classes

MASKS = {
    "a": [[0, 0, 1, 255], [0, 0, 1, 255]],  # 6 valid
    "b": [[2, 2, 2, 2], [0, 255, 255, 255]],  # 5 valid
    "c": [[255, 255, 255, 255], [255, 255, 255, 255]],  # none
}


def open_masks(path, masks, classes):
    folder = Folder(path)
    for stem, mask in masks.items():
        folder.add(stem, mask, np.zeros((*np.shape(mask), 3), np.uint8))
    return folder.open(classes.split())


def test_counts_and_their_table(tmp_path):
    dataset = open_masks(tmp_path, MASKS, "road car tree sky")
    for image, _ in dataset.files:
        image.write_bytes(b"")  # images are not read
    statistics = class_statistics(dataset, progress=False)
    assert statistics.classes == ("road", "car", "tree", "sky")
    assert statistics.pixels.tolist() == [5, 2, 4, 0]
    assert statistics.images.tolist() == [2, 1, 1, 0]
    assert statistics.image_pixels.tolist() == [11, 6, 5, 0]
    assert statistics.pixels.dtype == statistics.image_pixels.dtype == np.int64
    assert (statistics.void, statistics.total_images) == (13, 3)
    np.testing.assert_allclose(statistics.share, [5 / 11, 2 / 11, 4 / 11, 0])
    assert statistics.absent == ("sky",)
    lines = str(statistics).splitlines()
    assert lines[0].split() == ["class", "pixels", "share", "images"]
    assert lines[1].split() == ["road", "5", "45.45%", "2"]
    assert lines[4].split() == ["sky", "0", "0.00%", "0"]
    assert lines[5].split()[:5] == ["void", "13", "54.17%", "of", "all"]  # 13 of 24
    assert len({len(line) for line in lines[:5]}) == 1  # columns stand in line


def test_void_that_is_a_class_and_a_bad_mask(tmp_path):
    (tmp_path / "other").mkdir()
    # void may have the number of a class, and a bad mask stops the count
    dataset = open_masks(tmp_path / "other", {"a": [[0, 1, 1]]}, "unknown road")
    dataset.ignore_index = 0
    statistics = class_statistics(dataset)
    assert (statistics.pixels.tolist(), statistics.void) == ([0, 2], 1)
    save(tmp_path / "other" / "masks" / "a.png", np.array([[0, 9, 0]], np.uint8))
    with pytest.raises(ValueError, match=r"a\.png has label 9 at 1 pixels"):
        class_statistics(dataset)


@pytest.mark.parametrize(
    "masks, classes, label_map, parts",
    [
        ([[0, 1]], "lesion", {1: 0}, ("one class only, lesion", "background,lesion")),
        ([[0, 255]], "lesion", {}, ("one class only, lesion",)),  # masks of 0 and 255
        ([[0, 1]], "a b", {0: 255, 1: 255}, ("all 4 pixels of 2 masks are void", "label_map")),
        ([[1, 255]], "a b", {}, ("only label in 2 masks is 1 (b)", "two classes")),
        ([[0, 0]], "a b", {}, ("only label in 2 masks is 0 (a)",)),
        ([[0, 255]], "a b", {}, ("only labels in 2 masks are 0 and 255", "label_map={255: 1}")),
    ],
)
def test_masks_that_teach_nothing_are_a_problem(tmp_path, masks, classes, label_map, parts):
    folder = Folder(tmp_path)
    for stem in "xy":
        folder.add(stem, masks, np.zeros((1, 2, 3), np.uint8))
    report = folder.open(classes.split(), label_map=label_map).check(progress=False)
    assert len(report.problems) == 1 and not report.ok
    assert all(part in report.problems[0] for part in parts), report.problems


def test_a_report_stops_repeating_after_ten_lines_of_a_kind(tmp_path):
    """A folder as that of VOC: 1,000 photos, one mask; and many bad masks of two kinds."""
    folder = Folder(tmp_path).add("0000")
    for number in range(1, 1000):
        (folder.images / f"IMG {number:04} (copy).jpg").touch()
    report = folder.open(incomplete=True).check(progress=False)
    lines = report.table().splitlines()
    assert len(report.problems) == 999 and len(lines) <= 40
    assert lines[0] == "1 images checked: 999 problems"
    assert sum("without a mask" in line for line in lines) == 10
    assert lines[11] == "  … and 989 more of this kind"
    (tmp_path / "other").mkdir()
    folder = Folder(tmp_path / "other")
    for number in range(24):
        folder.add(f"{number:02}", [[0, 1, 255], [1, 1, 90 + number]])
        if number % 2:
            (folder.masks / f"{number:02}.png").write_bytes(b"x" * number)
    lines = folder.open().check(progress=False).table().splitlines()
    assert lines.count("  … and 2 more of this kind") == 2 and len(lines) == 1 + 22 + 5


@given(st.lists(arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 255])), max_size=4))
def test_properties(masks):
    statistics = count_classes(masks, ("a", "b", "c"), 255)
    assert statistics.pixels.sum() + statistics.void == 12 * len(masks)
    for label in range(3):
        having = [mask for mask in masks if (mask == label).any()]
        assert statistics.pixels[label] == sum((mask == label).sum() for mask in masks)
        assert statistics.images[label] == len(having)
        assert statistics.image_pixels[label] == sum((mask != 255).sum() for mask in having)
