"""Sets that torchvision reads as well: the same pairs and labels, on tiny trees of theirs."""

import numpy as np
import pytest
import torch
import torchvision.datasets as theirs
from PIL import Image
from scipy.io import savemat

from seglib.data import make_loader
from seglib.data.foreign import FOREIGN, SBD, VOC, Cityscapes, Pet
from seglib.models import UNet
from seglib.training import fit
from seglib.transforms import eval_transform

MASK = np.zeros((16, 16), np.uint8)
MASK[4:12, 4:12], MASK[0] = 7, 255


def save(array, path, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    if palette is not None:
        picture.putpalette(palette)
    picture.save(path)


def photo(number):
    return np.full((16, 16, 3), number * 20, np.uint8)


def write_list(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def voc(root, numbers=range(4)):
    base = root / "VOCdevkit" / "VOC2012"
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8).tobytes()
    for i in numbers:
        save(photo(i), base / "JPEGImages" / f"2007_{i:06}.jpg")
        save(np.roll(MASK, i), base / "SegmentationClass" / f"2007_{i:06}.png", colours)
    for split, part in (("train", (1, 0)), ("val", (2, 3)), ("trainval", (0, 1, 2, 3))):
        lines = [f"2007_{i:06}" for i in part]
        write_list(base / "ImageSets" / "Segmentation" / f"{split}.txt", lines)


def sbd(root):
    for i in range(4):
        save(photo(i), root / "img" / f"2008_{i:06}.jpg")
        (root / "cls").mkdir(exist_ok=True)
        content = {"Segmentation": np.roll(MASK % 255, i), "Boundaries": np.zeros(3)}
        savemat(root / "cls" / f"2008_{i:06}.mat", {"GTcls": content})
    for split, part in (("train", (0, 1)), ("val", (2, 3))):
        write_list(root / f"{split}.txt", [f"2008_{i:06}" for i in part])


def pet(root):
    base = root / "oxford-iiit-pet"
    trimap = MASK // 7 % 3 + 1  # 1 outside, 2 inside, and 255 // 7 % 3 + 1 = 1
    trimap[0, :4] = 3
    for i in range(12):
        name = f"{('Abyssinian', 'beagle')[i // 6]}_{i % 6}"
        save(photo(i), base / "images" / f"{name}.jpg")
        save(np.roll(trimap, i), base / "annotations" / "trimaps" / f"{name}.png")
    names = [f"{breed}_{i} 1 1 1" for breed in ("Abyssinian", "beagle") for i in range(6)]
    write_list(base / "annotations" / "trainval.txt", names[:10])
    write_list(base / "annotations" / "test.txt", names[10:])


def cityscapes(root):
    for i, city in enumerate(("aachen", "aachen", "bonn", "ulm", "ulm")):
        split = "val" if city == "ulm" else "train"
        name = f"{split}/{city}/{city}_000000_{i:06}"
        save(photo(i), root / "leftImg8bit" / f"{name}_leftImg8bit.png")
        ids = np.roll(np.arange(256, dtype=np.uint8).reshape(16, 16) % 34, i)
        save(ids, root / "gtFine" / f"{name}_gtFine_labelIds.png")
        save(photo(i), root / "gtFine" / f"{name}_gtFine_color.png")
        save(ids, root / "gtFine" / f"{name}_gtFine_instanceIds.png")


TREES = {"voc": voc, "sbd": sbd, "pet": pet, "cityscapes": cityscapes}
READERS = {
    "voc": lambda root, split: theirs.VOCSegmentation(root, "2012", split),
    "sbd": lambda root, split: theirs.SBDataset(root, split, "segmentation"),
    "pet": lambda root, split: theirs.OxfordIIITPet(root, split, "segmentation"),
    "cityscapes": lambda root, split: theirs.Cityscapes(root, split, "fine", "semantic"),
}
IDS = {c.id: c.train_id for c in theirs.Cityscapes.classes if c.id >= 0}
MEANING = {"pet": {1: 0, 2: 1, 3: 255}, "cityscapes": IDS}


@pytest.mark.parametrize("name", TREES)
def test_the_pairs_are_torchvisions_and_are_trained_for_a_step(name, tmp_path):
    TREES[name](tmp_path)
    kind = FOREIGN[name]
    data = {split: kind(split, tmp_path, eval_transform(16, 16)) for split in ("train", "val")}
    for split in ("trainval", "test") if name == "pet" else data:
        found, expected = kind(split, tmp_path), READERS[name](tmp_path, split)
        assert len(found) == len(expected) > 1
        table = np.arange(256)
        table[list(MEANING.get(name, {}))] = list(MEANING.get(name, {}).values())
        key = [np.asarray(image).tobytes() + np.asarray(mask).tobytes() for image, mask in expected]
        for image, mask in expected:
            twin = [i for i in range(len(found)) if (found[i][0] == np.asarray(image)).all()]
            assert len(twin) == 1 and len(set(key)) == len(key)
            np.testing.assert_array_equal(found[twin[0]][1], table[np.asarray(mask)])
    loaders = [make_loader(part, 2, shuffle=part is data["train"]) for part in data.values()]
    torch.manual_seed(0)
    model = UNet(data["train"].num_classes, base_channels=4, depth=1)
    assert 0 <= fit(model, *loaders, epochs=1).best["val_miou"] <= 1
    assert not set(data["train"].files) & set(data["val"].files)


def test_classes_palettes_splits_and_groups(tmp_path):
    for write in TREES.values():
        write(tmp_path)
    city = [c for c in theirs.Cityscapes.classes if 0 <= c.train_id < 255]
    assert Cityscapes("val", tmp_path).classes == tuple(c.name for c in city)
    assert Cityscapes("val", tmp_path).palette.tolist() == [list(c.color) for c in city]
    assert Cityscapes("train", tmp_path).groups == ("aachen", "aachen", "bonn")
    # as the development kit computes the colours of VOC
    train = VOC("train", tmp_path)
    for label, colour in enumerate(train.palette):
        bits = [sum((label >> (3 * j + c) & 1) << (7 - j) for j in range(8)) for c in range(3)]
        assert colour.tolist() == bits
    assert (len(train.classes), train.classes[15]) == (21, "person") and train.ignore_index == 255
    assert train.groups == ("2007_000000", "2007_000001")  # sorted, as the list is not
    assert SBD("val", tmp_path).classes == train.classes
    names = {split: [i.stem for i, _ in Pet(split, tmp_path).files] for split in Pet.splits}
    assert names["val"] == ["Abyssinian_4", "beagle_3"] and len(names["train"]) == 8
    assert sorted(names["train"] + names["val"]) == names["trainval"]
    _, mask = Pet("trainval", tmp_path)[0]
    assert (mask[0, :4] == 255).all() and (mask[4:12, 4:12] == 1).all() and mask[2, 2] == 0


def test_what_is_missing_or_damaged_is_told(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"(?s)VOC is complete in none .*lacks JPEGImages, .*host"
    ):
        VOC("train", tmp_path)
    for write in TREES.values():
        write(tmp_path)
    for root in (tmp_path / "VOCdevkit", tmp_path / "VOCdevkit" / "VOC2012"):
        assert len(VOC("val", root)) == 2
    with pytest.raises(ValueError, match=r"Cityscapes has no split 'test'.*known: train, val"):
        Cityscapes("test", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no list .*train_noval\.txt"):
        SBD("train_noval", tmp_path)
    path = SBD("train", tmp_path).files[0][1]
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ValueError, match=r"cannot read labels 0–20 of .*unpack SBD again"):
        SBD("train", tmp_path)[0]
