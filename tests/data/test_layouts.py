"""Folders as other tools and data sets lay them out: recognised, paired, split, trained on."""

import numpy as np
import pytest
from PIL import Image
from toys import flags

from seglib.cli.main import main
from seglib.data import FolderDataset
from seglib.data.layouts import LAYOUTS, read_layout
from seglib.transforms import eval_transform

CLASSES = ("ground", "thing")
CITY = tuple(f"class {i}" for i in range(19))


def write(root, *paths, text=()):
    """Masks where the name ends in "!"; a mask's label in each file is told by its image."""
    for i, path in enumerate(paths):
        is_mask, file = path.endswith("!"), root / path.removesuffix("!")
        file.parent.mkdir(parents=True, exist_ok=True)
        grey = np.zeros((16, 16), np.uint8)
        grey[4:12, 4:12] = 1
        Image.fromarray(grey if is_mask else np.stack([grey * 200 + i % 50] * 3, 2)).save(file)
    for name, lines in dict(text).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def pairs(*patterns, splits=("train", "val"), names="abcd"):
    """The patterns with SPLIT and NAME filled in; a and b are to train on."""
    halves = zip(splits, (names[:2], names[2:]), strict=True)
    return [
        p.replace("SPLIT", s).replace("NAME", n)
        for s, part in halves
        for n in part
        for p in patterns
    ]


def listed(pattern, suffix=""):
    """train.txt and val.txt."""
    return {
        pattern.format(split): [f"{n}{suffix}" for n in part]
        for split, part in (("train", "ab"), ("val", "cd"))
    }


CAMVID = {
    f"{split}.txt": [
        f"/SegNet/CamVid/{split}/{n}.png /SegNet/CamVid/{split}annot/{n}.png" for n in part
    ]
    for split, part in (("train", "ab"), ("val", "cd"))
}
# what it is called, and the files; a to d are the images, c and d those of val
TEN = {
    "ours": ("split-first", pairs("SPLIT/images/NAME.jpg", "SPLIT/masks/NAME.png!")),
    "voc": (
        "voc",
        [
            *pairs("VOC2012/JPEGImages/NAME.jpg", "VOC2012/SegmentationClass/NAME.png!"),
            "VOC2012/JPEGImages/x.jpg",
            "VOC2012/SegmentationObject/a.png!",
        ],
        listed("VOC2012/ImageSets/Segmentation/{}.txt")
        | {"VOC2012/ImageSets/Main/train.txt": ["x -1", "a  1"]},
    ),
    "cityscapes": (
        "cityscapes",
        pairs(
            "leftImg8bit/SPLIT/aachen/NAME_leftImg8bit.png",
            *(
                f"gtFine/SPLIT/aachen/NAME_gtFine_{kind}.png!"
                for kind in ("labelTrainIds", "labelIds", "color")
            ),
        ),
    ),
    "mmsegmentation": (
        "mmsegmentation",
        pairs("img_dir/SPLIT/NAME.jpg", "ann_dir/SPLIT/NAME.png!"),
    ),
    "split last": ("split-last", pairs("images/SPLIT/NAME.jpg", "labels/SPLIT/NAME_seg.png!")),
    "roboflow": (
        "one-folder",
        pairs(
            "SPLIT/NAME_jpg.rf.0a1b.jpg",
            "SPLIT/NAME_jpg.rf.0a1b_mask.png!",
            splits=("train", "valid"),
        ),
        {"train/_classes.csv": ["Pixel Value, Class", "0, ground", "1, thing"]},
    ),
    "camvid": ("lists", pairs("SPLIT/NAME.png", "SPLITannot/NAME.png!"), CAMVID),
    "lists of names": (
        "lists",
        pairs("images/NAME.jpg", "masks/NAME_mask.png!"),
        listed("splits/{}.txt", ".jpg"),
    ),
    "subfolders": (
        "split-last",
        pairs(
            "images/SPLIT/drive_NAME/1.jpg",
            "masks/SPLIT/drive_NAME/1.png!",
            "images/SPLIT/drive_NAME/2.jpg",
            "masks/SPLIT/drive_NAME/2.png!",
        ),
    ),
    "without val": (
        "two-folders",
        [
            f"{kind}/{p}_{i}{end}"
            for p in "pqrst"
            for i in "12"
            for kind, end in (("imgs", ".jpg"), ("masks", "_mask.png!"))
        ],
    ),
}


@pytest.mark.parametrize("kind", TEN)
def test_ten_layouts_are_recognised_and_trained_for_a_step(kind, tmp_path, capsys):
    name, files, *text = TEN[kind]
    root = write(tmp_path / "data", *files, text=text[0] if text else ())
    classes = CITY if name == "cityscapes" else CLASSES
    data = {
        split: FolderDataset.from_layout(root, split, classes, transform=eval_transform(16, 16))
        for split in ("train", "val")
    }
    assert LAYOUTS[name] in data["train"].layout and "train " in data["train"].layout
    assert not data["train"].problems and not set(data["train"].files) & set(data["val"].files)
    assert not set(data["train"].groups) & set(data["val"].groups)
    count = 4 if kind == "subfolders" else 2
    if kind == "without val":
        assert [len(data[split]) for split in data] == [8, 2]
    else:
        for split, letters in (("train", "ab"), ("val", "cd")):
            stems = [str(image) for image, _ in data[split].files]
            assert len(stems) == count and all(
                f"/{n}" in s or f"_{n}" in s
                for n, s in zip(sorted(letters * (count // 2)), stems, strict=True)
            )
    for dataset in data.values():
        for image, mask in dataset.files:
            assert bare(image) == bare(mask) and image != mask
        assert (dataset[0][1] == 1).sum() == 64
    told = {"layout": "auto", "classes": ",".join(classes), "out": tmp_path / "run", "epochs": 1}
    assert main(["train", *flags(root, **told)]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "best.pt").exists()
    assert data["train"].layout in capsys.readouterr().out  # it says what it recognised
    # the name of the layout may be given; another is refused
    assert read_layout(root, name).splits == read_layout(root).splits
    other = "mmsegmentation" if name != "mmsegmentation" else "cityscapes"
    with pytest.raises(ValueError, match=rf"looks like .*, not {other}"):
        read_layout(root, other)


def bare(path):
    return path.stem.split("_mask")[0].split("_seg")[0].split("_leftImg")[0].split("_gtFine")[0]


def names(root, split="train", **options):
    found, problems = read_layout(root, **options).split(split)
    return [str(image.relative_to(root)) for image, _ in found], problems


def test_words_on_either_side_pair_up(tmp_path):
    words = "a a_mask, a a_gt, a a-labels, a_image a_label, a mask_a, img_01 mask_01, a a.mask"
    for i, both in enumerate([*words.split(", "), "a_seg a", "b\u00e4r ba\u0308r_mask"]):
        image, mask = both.split()
        for folders in (("photos", "masks"), ("x", "x")):
            if image == "a_seg" and folders[0] == "x":
                continue  # which of them is the mask?
            root = write(tmp_path / f"{i}{folders[0]}", f"{folders[0]}/{image}.jpg")
            write(root, f"{folders[1]}/{mask}.png!")
            assert names(root) == ([f"{folders[0]}/{image}.jpg"], [])
    # the same name comes first
    root = write(tmp_path / "both", "images/a.png", "images/a_seg.png", "masks/a.png!")
    write(root, "masks/a_seg.png!")
    assert names(root) == (["images/a.png", "images/a_seg.png"], [])


def test_a_share_for_val_never_parts_a_group_and_stays_when_images_come(tmp_path):
    drives = [
        f"{kind}/run_{d:02}_{i}.png{end}"
        for d in range(20)
        for i in range(1 + d % 4)
        for kind, end in (("images", ""), ("masks", "!"))
    ]
    write(tmp_path, *drives)
    train, val = (names(tmp_path, split)[0] for split in ("train", "val"))
    group = {split: {n.split("_")[1] for n in part} for split, part in (("t", train), ("v", val))}
    assert not group["t"] & group["v"] and len(group["t"] | group["v"]) == 20
    assert len(train) + len(val) == 50 and 8 <= len(val) <= 12
    assert "val is drawn from train" in read_layout(tmp_path).sentence
    assert 20 <= len(names(tmp_path, "val", val_share=0.5)[0]) <= 30
    two = read_layout(tmp_path, group=lambda stem: str(int(stem.split("_")[2]) > 1))
    assert [len(part) for part in two.splits.values()] in ([35, 15], [15, 35])
    # patients' folders, and the copies that Roboflow makes of one picture
    root = write(
        tmp_path / "p",
        *(
            f"p{p}/{k}/{i}.png{'!' * (k == 'masks')}"
            for p in range(5)
            for i in range(4)
            for k in ("images", "masks")
        ),
    )
    val = names(root, "val")[0]
    assert len(val) == 4 and len({n.split("/")[0] for n in val}) == 1
    root = write(
        tmp_path / "r",
        *(
            f"train/im{n}_png.rf.{c}{end}"
            for n in range(5)
            for c in "abc"
            for end in (".jpg", "_mask.png!")
        ),
    )
    val = names(root, "val")[0]
    assert len(val) == 3 and len({n.split(".rf")[0] for n in val}) == 1


def test_cityscapes_ids_become_its_classes(tmp_path):
    for city in ("aachen", "bonn"):
        write(tmp_path, f"leftImg8bit/train/{city}/{city}_0_leftImg8bit.png")
        path = tmp_path / f"gtFine/train/{city}/{city}_0_gtFine_labelIds.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((16, 16), 7 if city == "bonn" else 33, np.uint8)).save(path)
    both = [FolderDataset.from_layout(tmp_path, split, CITY)[0][1] for split in ("train", "val")]
    assert sorted(int(mask[0, 0]) for mask in both) == [0, 18]
    every = FolderDataset.from_layout(tmp_path, "train", [f"id {i}" for i in range(34)])
    assert every[0][1][0, 0] in (7, 33) and every.groups[0] in ("aachen", "bonn")
    with pytest.raises(
        ValueError, match=r"_labelIds \(0–33\) and 2 classes; expected Cityscapes' 19"
    ):
        FolderDataset.from_layout(tmp_path, "train", CLASSES)


BAD = {  # parts of the message: files (and lists) and what is asked for
    "no folder … expected": (["images/a.png"], {}, {"root": "nowhere"}),
    "it holds nothing … VOC … Cityscapes … img_dir … image_dir": ([], {}, {}),
    "2 .json … seglib convert": (["images/a.jpg"], {"a.json": "{", "b.json": "{"}, {}),
    "JPEG masks (a.jpg)": (["images/a.jpg", "masks/a.jpg!"], {}, {}),
    "b.png is without a mask … images and one of masks": (
        ["images/a.png", "images/b.png", "masks/a.png!"],
        {},
        {},
    ),
    "c.png is without an image": (["images/a.png", "masks/a.png!", "masks/c.png!"], {}, {}),
    "a_gt.png, a_mask.png have one name": (
        ["images/a.png", "images/b.png", "masks/b.png!", "masks/a_gt.png!", "masks/a_mask.png!"],
        {},
        {},
    ),
    "several data sets … cows, sheep": (
        [f"{k}/train/{r}/a.png" for k in ("cows", "sheep") for r in ("images", "masks")],
        {},
        {},
    ),
    "1 pairs are in no split": (
        [f"{r}/{s}a.png" for s in ("train/", "val/", "") for r in ("images", "masks")],
        {},
        {},
    ),
    "no pairs for the split 'val' … two groups": (
        ["images/a.png", "masks/a.png!"],
        {},
        {"split": "val"},
    ),
    "no pairs for the split 'tset' … known: train, val": (
        OURS := TEN["ours"][1],
        {},
        {"split": "tset"},
    ),
    "no pairs for the split 'test' … e.png is without a mask": (
        [*OURS, "test/images/e.png"],
        {},
        {"split": "test"},
    ),
    "no layout 'vok' … 'voc'": (OURS, {}, {"layout": "vok"}),
    "val_share 0.3 … train, val": (OURS, {}, {"val_share": 0.3}),
    "val_share 20 … fraction": (["images/a.png", "masks/a.png!"], {}, {"val_share": 20}),
    "train.txt has 'z', which is without an image": (OURS, {"train.txt": ["a", "z"]}, {}),
    "a.jpg is in the lists of train and val": (OURS, {"train.txt": "ab", "val.txt": "ac"}, {}),
    "train.txt has 'a', which is without an image": (  # two have this name
        [*OURS, "train/images/more/a.jpg", "train/masks/more/a.png!"],
        {"train.txt": ["a"]},
        {},
    ),
}


@pytest.mark.parametrize("told", BAD)
def test_what_is_not_recognised_says_what_was_looked_for(told, tmp_path):
    files, lists, asked = BAD[told]
    write(tmp_path, *files, text=lists)
    asked = {"root": "", "split": "train", "classes": CLASSES} | asked
    with pytest.raises((ValueError, OSError)) as caught:
        FolderDataset.from_layout(tmp_path / asked.pop("root"), **asked)
    rest = str(caught.value).replace(str(tmp_path), "")
    for part in told.split(" … "):
        assert part in rest, str(caught.value)
        rest = rest.partition(part)[2]
    assert len(str(caught.value)) < 800


def test_photos_of_voc_without_a_mask_are_no_problem_and_a_report_may_be_incomplete(tmp_path):
    photos = [f"JPEGImages/{i:04}.jpg" for i in range(60)]
    root = write(tmp_path / "voc", *photos, "SegmentationClass/0000.png!")
    dataset = FolderDataset.from_layout(root, "train", CLASSES)
    assert len(dataset) == 1 and dataset.check().ok
    root = write(tmp_path / "own", *(p.replace("JPEGI", "i") for p in photos), "masks/0000.png!")
    report = FolderDataset.from_layout(root, "train", CLASSES, incomplete=True).check()
    assert report.images == 1 and len(report.problems) == 59
