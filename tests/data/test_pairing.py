"""Images and masks paired by the names of their files."""

import os

import pytest

from seglib.data.pairing import pair_files


def folders(tmp_path, images, masks):
    for folder, names in (("images", images), ("masks", masks)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in names.split():
            (tmp_path / folder / name).touch()
    return tmp_path / "images", tmp_path / "masks"


def test_pairs_by_stem_and_problems_of_single_files(tmp_path):
    pictures = "b.JPG a.webp c.tiff Thumbs.db .a.png notes.txt"
    images, masks = folders(tmp_path, pictures, "c.PNG a.tif b.bmp .DS_Store")
    pairs, problems = pair_files(str(images), masks)
    names = [(image.name, mask.name) for image, mask in pairs]
    assert names == [("a.webp", "a.tif"), ("b.JPG", "b.bmp"), ("c.tiff", "c.PNG")]
    assert problems == []
    for images, masks, *parts in (
        ("a.jpg b.jpg", "a.png", "b.jpg is without a mask of the same name"),
        ("a.jpg", "a.png z.png", "z.png is without an image of the same name"),
        ("1.png 2.png x.png", "x.png y.png", "1.png", "2.png", "y.png"),
        ("a.jpg a.png", "a.png", "both a.jpg and a.png"),
        ("a.jpg b.heic", "a.png b.png", "b.png is without an image of the same name (b.heic is"),
        ("a.jpg b.jpg", "a.png b.gif", "b.jpg is without a mask of the same name (b.gif is"),
        ("a.jpg", "a.png a.jpg b.JPEG", "JPEG masks (a.jpg, b.JPEG), but JPEG"),
    ):
        found, problems = pair_files(*folders(tmp_path / images / masks, images, masks))
        assert len(found) == 1
        assert all(part in problem for part, problem in zip(parts, problems, strict=True)), problems


def test_empty_and_missing_folders_and_one_for_both(tmp_path):
    for names, others, message in (
        ("", "a.png", r"no images in .*holds nothing.*\.webp"),
        ("a.png", "a.npy b.npy", r"no masks in .*2 \.npy.*\.tiff: convert"),
        ("a.jpg", "a.jpg", r"JPEG masks \(a\.jpg\).*no masks in .*1 \.jpg"),
    ):
        images, masks = folders(tmp_path / others, names, others)
        with pytest.raises(FileNotFoundError, match=message):
            pair_files(images, masks)
    with pytest.raises(ValueError, match=r"both to be read from .*two folders"):
        pair_files(images, masks / ".." / "images")
    (images / "b.png").touch()
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; expected the masks there"):
        pair_files(images, tmp_path / "nowhere")


def test_names_with_accents_pair_however_they_are_composed(tmp_path, monkeypatch):
    composed, split = "caf\u00e9", "cafe\u0301"
    folders(tmp_path / "a", f"{composed}.jpg u.jpg", f"{split}.png u.png")
    monkeypatch.setenv("HOME" if os.name == "posix" else "USERPROFILE", str(tmp_path))
    pairs, problems = pair_files("~/a/images", "~/a/masks")
    stems = [(image.stem, mask.stem) for image, mask in pairs]
    assert stems == [(composed, split), ("u", "u")] and not problems


def test_a_folder_of_folders_is_named(tmp_path):
    (tmp_path / "aachen").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds folder aachen.*--layout auto"):
        pair_files(tmp_path, tmp_path / "aachen")
