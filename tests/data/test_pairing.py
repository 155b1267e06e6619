"""Images and masks paired by the names of their files."""

import pytest

from seglib.data.pairing import pair_files


def folders(tmp_path, images, masks):
    for folder, names in (("images", images), ("masks", masks)):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in names.split():
            (tmp_path / folder / name).touch()
    return tmp_path / "images", tmp_path / "masks"


def test_pairs_by_stem(tmp_path):
    images, masks = folders(
        tmp_path, "b.JPG a.webp c.tiff Thumbs.db .a.png notes.txt", "c.PNG a.tif b.bmp .DS_Store"
    )
    pairs, problems = pair_files(str(images), masks)
    names = [(image.name, mask.name) for image, mask in pairs]
    assert names == [("a.webp", "a.tif"), ("b.JPG", "b.bmp"), ("c.tiff", "c.PNG")]
    assert problems == []


@pytest.mark.parametrize(
    ("images", "masks", "pairs", "parts"),
    [
        ("a.jpg b.jpg", "a.png", 1, ["b.jpg is without a mask of the same name"]),
        ("a.jpg", "a.png z.png", 1, ["z.png is without an image of the same name"]),
        ("1.png 2.png x.png", "x.png y.png", 1, ["1.png", "2.png", "y.png"]),
        ("a.jpg a.png", "a.png", 1, ["both a.jpg and a.png"]),
        ("a.jpg", "a.png a.jpg b.JPEG", 1, ["JPEG masks (a.jpg, b.JPEG), but JPEG"]),
    ],
)
def test_problems_of_single_files(tmp_path, images, masks, pairs, parts):
    found, problems = pair_files(*folders(tmp_path, images, masks))
    assert len(found) == pairs and len(problems) == len(parts)
    assert [part in problem for part, problem in zip(parts, problems, strict=True)] == [True] * len(
        parts
    )


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ("", "a.png", r"no images in .*holds nothing.*\.webp"),
        ("a.png", "a.npy b.npy", r"no masks in .*2 \.npy.*\.tiff: convert"),
        ("a.jpg", "a.jpg", r"JPEG masks \(a\.jpg\).*no masks in .*1 \.jpg"),
    ],
)
def test_empty_folders(tmp_path, images, masks, message):
    with pytest.raises(FileNotFoundError, match=message):
        pair_files(*folders(tmp_path, images, masks))


def test_missing_folder_and_one_for_both(tmp_path):
    images, masks = folders(tmp_path, "a.png", "")
    with pytest.raises(ValueError, match=r"both to be read from .*two folders"):
        pair_files(images, masks / ".." / "images")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; expected the masks there"):
        pair_files(images, tmp_path / "nowhere")
