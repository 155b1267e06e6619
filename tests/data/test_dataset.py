"""Data sets from folders: samples, keys, transforms, groups, sizes, and the full check."""

import pickle

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from folders import CLASSES, IMAGE, MASK, Folder
from PIL import Image

from seglib.data import SampleKey, SegmentationDataset
from seglib.data.colours import default_palette


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_samples_attributes_and_transforms_that_get_the_seed_of_the_key(folder):
    dataset = folder.add("b", mask=np.ones((2, 3))).add("a").open()
    dataset = pickle.loads(pickle.dumps(dataset))  # as it travels to workers
    image, mask = dataset[0]
    assert (image.dtype, mask.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(mask, MASK)
    assert len(dataset) == 2 and dataset.num_classes == 2 and dataset.ignore_index == 255
    assert dataset.classes == CLASSES and dataset.groups == ("a", "b")
    assert dataset.files[0] == (folder.images / "a.png", folder.masks / "a.png")
    assert dataset.palette.dtype == np.uint8
    np.testing.assert_array_equal(dataset.palette, default_palette(2))
    assert repr(dataset) == "FolderDataset(2 images, 2 classes)"
    key = SampleKey(seed=3, epoch=1, index=1)
    for index in (-1, np.int64(1), key):
        assert dataset[index][1].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert [mask[0, 0] for _, mask in dataset] == [0, 1]  # a for loop ends by itself
    for index in (2, -3):
        with pytest.raises(IndexError, match=rf"index {index}, but the data set has 2 images"):
            dataset[index]
    with pytest.raises(TypeError):
        dataset[0.5]
    dataset.transform = lambda image, mask, seed=None: (mask.shape, seed)
    assert dataset[key] == ((2, 3), key.derived_seed())
    assert dataset[0] == ((2, 3), None)
    dataset.transform = lambda image, mask: (mask.shape, "plain")
    assert dataset[key] == dataset[0] == ((2, 3), "plain")
    dataset.transform = lambda image, mask, **options: options  # not ours to fill
    assert dataset[key] == {}


def test_names_without_a_partner_are_an_error_or_left_out(folder):
    for stem in "abcdefgh":
        folder.add(stem)
        if stem != "a":
            (folder.masks / f"{stem}.png").unlink()
    with pytest.raises(ValueError, match=r"b\.png is without a mask .* and 2 more; expected pairs"):
        folder.open()
    report = folder.open(incomplete=True).check()
    assert report.images == 1 and len(report.problems) == 7


def test_sizes_that_differ_by_themselves_or_because_of_exif(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    dataset = folder.add("a", mask=np.zeros((3, 3))).add("b", exif=exif).open()
    with pytest.raises(ValueError, match=r"a\.png is 2×3 .* a\.png is 3×3; expected equal sizes: "):
        dataset[0]
    with pytest.raises(ValueError, match=r"3×2 .*is 2×3; .*EXIF orientation 6.*turn the mask"):
        dataset[1]


def test_coloured_masks_and_a_colour_for_void(folder):
    palette = [(10, 0, 0), (0, 10, 0), (255, 255, 255)]
    folder.add("a", mask=np.array(palette, np.uint8)[[[0, 1, 2], [1, 1, 0]]])
    dataset = folder.open(palette=palette, label_map={2: 255})
    np.testing.assert_array_equal(dataset[0][1], MASK)
    assert dataset.palette.tolist() == [[10, 0, 0], [0, 10, 0]]
    with pytest.raises(ValueError, match=r"label 2 at 1 pixels.*2 classes \(0–1\)"):
        folder.open(palette=palette)[0]
    with pytest.raises(ValueError, match=r"colour picture.*pass palette="):
        folder.open()[0]  # the default palette is for drawing, never a key to the labels


def test_groups_and_bad_arguments(folder):
    dataset = folder.add("north_1").add("north_2").add("south_1")
    assert dataset.open(group=lambda stem: stem[:5]).groups == ("north", "north", "south")
    with pytest.raises(ValueError, match="found 2 groups for 3 images"):
        SegmentationDataset(folder.open().files, CLASSES, groups=["x", "y"])
    for options, message in (
        ({"classes": [f"c{i}" for i in range(256)]}, r"256 classes.*1 to 255.*merge"),
        ({"classes": []}, "0 classes"),
        ({"classes": "road"}, r"string 'road'; pass a list"),
        ({"ignore_index": 256}, r"ignore_index is 256.*0–255.*pass 255"),
        ({"ignore_index": -100}, r"ignore_index is -100"),
        ({"palette": [(0, 0, 0)]}, r"1 colours, but there are 2 classes.*one row"),
    ):
        with pytest.raises(ValueError, match=message):
            folder.open(**options)


def test_check_collects_every_problem(folder):
    folder.add("a").add("b", mask=np.full((2, 3), 7)).add("c", mask=np.zeros((1, 1))).add("d")
    (folder.images / "d.png").write_bytes(b"")
    report = folder.open().check(progress=False)
    assert not report.ok and report.images == 4
    for part, text in zip(("label 7", "is 1×1", "(0 bytes)"), report.problems, strict=True):
        assert part in text
    assert report.statistics.total_images == 1  # the sound pair only
    assert "4 images checked: 3 problems" in report.table()
    assert "problem: mask b.png has label 7" in str(report)


def test_check_finds_the_foreground_that_would_be_void_and_absent_classes(folder):
    folder.add("a", mask=[[0, 255, 255], [0, 0, 0]]).add("b", mask=np.zeros((2, 3)))
    (problem,) = folder.open().check().problems
    for part in ("0 and 255", "2 pixels would be left out", "house", "label_map={255: 1}"):
        assert part in problem
    relabelled = folder.open(label_map={255: 1}).check()
    assert relabelled.ok and relabelled.statistics.pixels.tolist() == [10, 2]
    folder.add("c")  # a single pixel of class 1 shows that 255 is meant as void
    report = folder.open((*CLASSES, "tree", "car")).check()
    assert report.ok and report.notes == ("no pixel of tree, car in any mask",)
    assert str(report).startswith("3 images checked: no problems\n  note: no pixel of tree, car")
    assert report.statistics.pixels.tolist() == [12, 3, 0, 0] and report.statistics.void == 3


def test_a_pipeline_of_albumentations_serves_as_transform(folder):
    """Bytes become 0 … 1, floats stay, with and without ToTensorV2; the key's seed decides."""
    half = A.Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    picture = torch.from_numpy(IMAGE[:, ::-1].transpose(2, 0, 1) / np.float32(255))
    for steps, expected in (
        ([], picture),
        ([ToTensorV2()], picture),
        ([half], 2 * picture - 1),
        ([half, ToTensorV2()], 2 * picture - 1),
    ):
        dataset = folder.add("a").open(transform=A.Compose([A.HorizontalFlip(p=1), *steps]))
        image, mask = dataset[0]
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)
        assert mask.dtype == torch.int64 and mask.tolist() == MASK[:, ::-1].tolist()
    dataset.transform = A.Compose([A.HorizontalFlip(p=0.5)])
    keys = [SampleKey(seed=0, epoch=epoch, index=0) for epoch in range(12)]
    once, again = ([dataset[key][1][0, 0].item() for key in keys] for _ in range(2))
    assert once == again and set(once) == {0, 255}
