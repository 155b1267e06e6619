"""Outlines of other people's tools become masks: counted by hand, in each tool's coordinates."""

import json
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from seglib.cli.convert import convert
from seglib.data import FolderDataset

# a picture 8 rows × 10 columns; in the tools' coordinates, whole numbers are pixels' borders
TRUTH = np.zeros((8, 10), np.uint8)
TRUTH[1:5, 2:7], TRUTH[3:6, 5:9] = 1, 2
CAT, DOG = [(2, 1), (7, 1), (7, 5), (2, 5)], [(5, 3), (9, 6)]
DOG4 = [(5, 3), (9, 3), (9, 6), (5, 6)]


def photo(path, size=(10, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def labelme(root, name="a", **changes):
    photo(root / f"{name}.jpg")
    shapes = [
        {"label": "cat", "points": CAT, "shape_type": "polygon"},
        {"label": "dog", "points": DOG, "shape_type": "rectangle"},
    ]
    content = {"version": "5.5", "shapes": shapes, "imagePath": f"{name}.jpg", "imageData": None}
    content |= {"imageHeight": 8, "imageWidth": 10} | changes
    (root / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def cvat(root, shapes=""):
    photo(root / "images" / "a.jpg")
    corners = ";".join(f"{x}.0,{y}.0" for x, y in CAT)
    labels = "".join(f"<label><name>{n}</name></label>" for n in ("cat", "dog", "emu"))
    runs = "0,12"  # all of the box
    (root / "annotations.xml").write_text(
        f"<annotations><version>1.1</version><meta><job><labels>{labels}</labels></job></meta>"
        '<image id="0" name="train/a.jpg" width="10" height="8">'
        f'<mask label="dog" rle="{runs}" left="5" top="3" width="4" height="3" z_order="2"></mask>'
        f'<polygon label="cat" points="{corners}" z_order="1"></polygon>{shapes}'
        "</image></annotations>"
    )


def coco(root, counts=None, **more):
    photo(root / "train" / "a.jpg")
    photo(root / "train" / "b.jpg")
    flat = [number for point in CAT for number in point]
    inside = np.zeros((8, 10), bool)
    inside[3:6, 5:9] = True
    runs = [len(list(run)) for _, run in groupby(inside.T.ravel().tolist())]
    rle = {"size": [8, 10], "counts": counts or runs}
    annotations = [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 3,
            "segmentation": [flat[:], [0, 0, 0.1, 0, 0, 0.1]],
        },
        {"id": 2, "image_id": 7, "category_id": 18, "segmentation": rle, "iscrowd": 1} | more,
    ]
    size = {"height": 8, "width": 10}
    images = [{"id": 7, "file_name": "a.jpg"} | size, {"id": 8, "file_name": "b.jpg"} | size]
    names = [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "emu"}]
    content = {"images": images, "annotations": annotations, "categories": names}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))


def run(path, **options):
    known = {"path": str(path), "images": None, "out": None, "classes": (), "overwrite": False}
    return convert(SimpleNamespace(**known | options))


def test_labelme_beside_its_pictures_where_auto_finds_them(tmp_path, capsys):
    for name in "abcdef":
        labelme(tmp_path, name)
    assert run(tmp_path) == 0
    assert "6 masks" in (said := capsys.readouterr().out) and "background,cat,dog" in said
    dataset = FolderDataset.from_layout(tmp_path, "train", ("background", "cat", "dog"))
    assert len(dataset) == 5  # and one for val
    for _, mask in dataset:
        np.testing.assert_array_equal(mask, TRUTH)


def test_cvat_and_coco_in_the_order_of_their_own_lists(tmp_path, capsys):
    for write, mask in ((cvat, "images/a_mask.png"), (coco, "train/a_mask.png")):
        root = tmp_path / write.__name__
        root.mkdir()
        write(root)
        assert run(root) == 0
        assert "background,cat,dog,emu" in capsys.readouterr().out
        np.testing.assert_array_equal(np.asarray(Image.open(root / mask)), TRUTH)
    assert not np.asarray(Image.open(root / "train" / "b_mask.png")).any()  # nothing in it


def test_classes_void_circles_and_another_folder(tmp_path):
    circle = {"label": "void", "points": [(5, 4), (5, 7)], "shape_type": "circle"}
    labelme(tmp_path, shapes=[circle, {"label": "cat", "points": CAT}])
    run(tmp_path / "a.json", classes=("dog", "cat"), out=str(tmp_path / "masks"))
    mask = np.asarray(Image.open(tmp_path / "masks" / "a_mask.png"))
    y, x = np.mgrid[:8, :10] + 0.5
    void = np.hypot(x - 5, y - 4) <= 3
    void[1:5, 2:7] = False
    assert ((mask == 255) == void).all() and (mask[1:5, 2:7] == 1).all() and mask[0, 0] == 0
    assert not (tmp_path / "a_mask.png").exists()


BAD = {  # parts of the message: what is written
    "no outlines … shapes": lambda f: (f / "a.json").write_text('{"epochs": 3}'),
    "no outlines … no JSON or XML": lambda f: None,
    "cannot read outlines … Expecting": lambda f: (f / "a.json").write_text('{"shapes": ['),
    "cannot read outlines … ParseError": lambda f: (f / "a.xml").write_text("<annotations>"),
    "cannot read outlines … 'imageHeight'": lambda f: (f / "a.json").write_text(
        '{"shapes": [], "imagePath": "a.jpg"}'
    ),
    "'cat' is of the kind linestrip": lambda f: labelme(
        f, shapes=[{"label": "cat", "points": CAT, "shape_type": "linestrip"}]
    ),
    "'dog' is of the kind polyline": lambda f: cvat(f, '<polyline label="dog" points="1,2;3,4"/>'),
    "'dog' is of the kind ellipse": lambda f: cvat(
        f, '<ellipse label="dog" cx="1" cy="2" rx="1" ry="1"/>'
    ),
    "CVAT for video … images 1.1": lambda f: (f / "a.xml").write_text(
        "<annotations><track id='0'/></annotations>"
    ),
    "pip install pycocotools": lambda f: coco(f, counts="04Kd0"),
    "annotation 2 … no outline": lambda f: coco(f, segmentation=[]),
    "a.jpg is 8×10 … for 9×10": lambda f: labelme(f, imageHeight=9),
    "gone.jpg, found 0 times … --images": lambda f: labelme(f, imagePath="..\\gone.jpg"),
    "swapped": lambda f: labelme(
        f, shapes=[{"label": "cat", "points": [(1, 1), (6.5, 1), (6, 9.4), (1, 9.9)]}]
    ),
    "a_mask.png is there already … --overwrite": lambda f: (labelme(f), photo(f / "a_mask.png")),
}


@pytest.mark.parametrize("told", BAD)
def test_what_cannot_be_converted_is_told(told, tmp_path):
    BAD[told](tmp_path)
    with pytest.raises((ValueError, OSError)) as caught:
        run(tmp_path)
    rest = str(caught.value)
    for part in told.split(" … "):
        assert part in rest, str(caught.value)
        rest = rest.partition(part)[2]
    assert not list(tmp_path.rglob("*_mask.png")) or "already" in told


def test_a_label_without_class_is_told_with_the_nearest(tmp_path):
    labelme(tmp_path)
    with pytest.raises(ValueError, match=r"'dog', no class; did you mean 'dogs'"):
        run(tmp_path, classes=("background", "cat", "dogs"))
