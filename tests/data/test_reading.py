"""Reading pictures and masks: every kind of file against arrays written by hand."""

import os

import cv2
import numpy as np
import pytest
from folders import indexed, save
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seglib.data import Streets, read_image, read_mask

LABELS = np.array([[0, 1, 2], [2, 1, 255]], dtype=np.uint8)
GREY = np.array([[0, 7, 255]], np.uint8)
CMYK = np.full((1, 1, 4), (0, 255, 255, 0), np.uint8)
RGB = np.arange(3 * 3, dtype=np.uint8).reshape(1, 3, 3)
RGBA = np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], np.uint8)


def test_every_kind_becomes_rgb(tmp_path):
    for array, mode, expected in (
        (RGB, "RGB", RGB.tolist()),
        (GREY, "L", [[[0] * 3, [7] * 3, [255] * 3]]),
        (np.packbits([[True, False]], 1), "1", [[[255] * 3, [0] * 3]]),
        (np.array([[0, 65535]], np.int32), "I", [[[0] * 3, [255] * 3]]),
        (CMYK, "CMYK", [[[255, 0, 0]]]),
        (RGBA, "RGBA", [[[200, 100, 50], [0, 0, 0]]]),  # over black
    ):
        Image.frombytes(mode, (len(expected[0]), 1), array).save(tmp_path / "a.TIF")
        image = read_image(tmp_path / "a.TIF")
        assert image.tolist() == expected and image.dtype == np.uint8 and image.flags.writeable
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))  # with a palette: its colours
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    image = read_image(save(tmp_path / f"a.{suffix}", values))
    assert image[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]  # v / 257, rounded
    assert (image == image[..., :1]).all()
    with pytest.raises(ValueError, match=r"values from -1 to 70000.*0–65535.*8-bit PNG"):
        read_image(save(tmp_path / "b.tif", np.array([[-1, 70000]], np.int32)))


@pytest.mark.parametrize("orientation, quarters", [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_exif_orientation(tmp_path, orientation, quarters):
    """At 6 the camera was turned: the picture is shown a quarter clockwise."""
    exif, pixels = Image.Exif(), np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    exif[0x0112] = orientation
    image = read_image(save(tmp_path / "a.png", pixels, exif=exif))
    np.testing.assert_array_equal(image[..., 0], np.rot90(pixels, quarters))


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_damaged_files(tmp_path, read, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.png; expected a picture"):
        read(tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    path = save(tmp_path / "a.png", noise)
    whole = path.read_bytes()
    for kept in (whole[: len(whole) // 2], b"", b"not a picture"):
        path.write_bytes(kept)
        with pytest.raises(ValueError) as caught:
            read(path)
        assert str(caught.value).startswith(f"cannot read {path} ({len(kept)} bytes): ")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"a\.png is too large .*25 pixels.*cut it up"):
        read(save(path, np.zeros((5, 5), np.uint8)))


def test_a_palette_png_gives_its_indices_and_grey_masks_their_values(tmp_path):
    picture = Image.fromarray(LABELS)
    # With fewer colours Pillow packs a pixel into 2 bits and writes 255 as 3.
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *bytes(3 * 253)])
    picture.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    mask = read_mask(tmp_path / "a.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, LABELS)
    for dtype, suffix in (("B", "png"), ("B", "bmp"), ("H", "png"), ("i", "tif")):
        mask = read_mask(save(tmp_path / f"{dtype}.{suffix}", LABELS.astype(dtype)))
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, LABELS)
    assert read_mask(save(tmp_path / "b.png", LABELS == 1)).tolist() == [[0, 1, 0], [0, 1, 0]]


def test_labels_out_of_range_and_label_maps(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[:17] = 12
    mask[19, 19] = 255
    words = r"mask img_007\.png has label 12 at 340 pixels, .* 11 classes \(0–10\) .* 255; remap it"
    with pytest.raises(ValueError, match=words + r" \(label_map={12: …}\) or pass classes=…"):
        read_mask(save(tmp_path / "img_007.png", mask), [f"c{i}" for i in range(11)])
    assert read_mask(tmp_path / "img_007.png", list(map(str, range(13))))[0, 0] == 12
    path = save(tmp_path / "a.png", np.array([[0, 300, 300]], np.uint16))
    with pytest.raises(ValueError, match=r"label 300 at 2 pixels, but uint8 holds 0–255"):
        read_mask(path)
    assert read_mask(path, ["a", "b"], label_map={300: 1}).tolist() == [[0, 1, 1]]
    negative = save(tmp_path / "b.tif", np.array([[0, -1]], np.int32))
    with pytest.raises(ValueError, match=r"label -1 at 1 pixels"):
        read_mask(negative)
    assert read_mask(negative, label_map={-1: 255}).tolist() == [[0, 255]]
    path = save(tmp_path / "c.png", np.array([[0, 1, 2]], np.uint8))
    # all labels are renamed at once
    assert read_mask(path, label_map={0: 1, 1: 0, 2: 255}).tolist() == [[1, 0, 255]]
    with pytest.raises(ValueError, match="label 256 at 1 pixels"):
        read_mask(path, label_map={2: 256})


def test_colours_need_a_palette_must_match_exactly_and_be_opaque(tmp_path):
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    rgb = np.array([[(0, 128, 0), (0, 0, 0), (128, 0, 0)]], np.uint8)
    path = save(tmp_path / "a.png", rgb)
    assert read_mask(path, palette=palette).tolist() == [[2, 0, 1]]
    with pytest.raises(ValueError, match=r"a\.png is a colour picture.*one number.*palette=…"):
        read_mask(path)
    rgb[0, 0] = (0, 120, 3)
    words = r"\(0, 120, 3\) at 1 pixels.*nearest is label 2 tree \(0, 128, 0\).*JPEG"
    with pytest.raises(ValueError, match=words):
        read_mask(save(path, rgb), ["sky", "car", "tree"], palette=palette)
    with pytest.raises(ValueError, match=r"three equal channels.*brightnesses.*\[\.\.\., 0\]"):
        read_mask(save(path, np.stack([LABELS] * 3, axis=-1)))  # grey colours are no labels
    rgba = np.array([[(128, 0, 0, 255), (0, 0, 0, 255)]], np.uint8)
    assert read_mask(save(tmp_path / "a.png", rgba), palette=palette).tolist() == [[1, 0]]
    Image.fromarray(LABELS).convert("LA").save(tmp_path / "b.png")  # grey, fully opaque
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), LABELS)
    rgba[0, 1, 3] = 0
    with pytest.raises(ValueError, match=r"transparent at 1 pixels.*without transparency"):
        read_mask(save(tmp_path / "a.png", rgba), palette=palette)


def test_floats_are_refused_and_jpeg_masks_known_by_their_content(tmp_path):
    path = save(tmp_path / "a.tif", np.array([[0.5]], np.float32))
    with pytest.raises(ValueError, match=r"floating-point.*8 or 16 bits.*scale it"):
        read_image(path)
    with pytest.raises(ValueError, match=r"mask a.tif has floating-point.*astype\('uint8'\)"):
        read_mask(path)
    Image.fromarray(LABELS).save(tmp_path / "lies.png", format="JPEG")
    Image.fromarray(LABELS).save(tmp_path / "lies.jpg", format="PNG")
    for name in ("lies.png", save(tmp_path / "a.jpg", LABELS).name):
        with pytest.raises(ValueError, match=rf"JPEG masks \({name}\).*labels are lost.*as PNG"):
            read_mask(tmp_path / name)
    np.testing.assert_array_equal(read_mask(tmp_path / "lies.jpg"), LABELS)


COLOURS = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]


def test_with_a_palette_colours_decide_in_indexed_masks(tmp_path):
    """The same picture in colours, and indexed with its colours in every order."""
    labels = np.array([[2, 1, 0, 0]], np.uint8)
    rgb = np.array(COLOURS, np.uint8)[labels]
    path = save(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(read_mask(path, palette=COLOURS), labels)
    for order in ((0, 1, 2), (1, 2, 0), (2, 1, 0), (0, 2, 1)):
        indices = np.array([[order.index(label) for label in labels[0]]])
        path = indexed(tmp_path / "i.png", indices, [COLOURS[label] for label in order])
        np.testing.assert_array_equal(np.asarray(Image.open(path).convert("RGB")), rgb)
        np.testing.assert_array_equal(read_mask(path, palette=COLOURS), labels)
        np.testing.assert_array_equal(read_mask(path), indices)  # (as the masks of Ultrasound)
    Image.fromarray(rgb).quantize(4).save(path)
    np.testing.assert_array_equal(read_mask(path, palette=COLOURS), labels)
    # Void has a colour that is none of a class; all others agree by number and by colour
    void = indexed(path, [[0, 1, 2, 255]], [*COLOURS, *[(9, 9, 9)] * 253])
    assert read_mask(void, palette=COLOURS).tolist() == [[0, 1, 2, 255]]
    for indices, table, message in (
        ([[0, 255]], COLOURS, r"number 255 where .* colour of label 0 \(0, 0, 0\).*leave it out"),
        ([[0, 1]], [(0, 0, 0), (9, 0, 0)], r"colour \(9, 0, 0\) at 1 pixels.*leave it out"),
        ([[1, 255]], [*COLOURS[1:], *[(9, 9, 9)] * 254], "number 1 where .* colour of label 2"),
    ):
        with pytest.raises(ValueError, match=message):
            read_mask(indexed(path, indices, table), palette=COLOURS)


def test_with_a_palette_greys_of_the_palette_decide_and_others_are_labels(tmp_path):
    black_first, white_first = [(0, 0, 0), (255, 255, 255)], [(255, 255, 255), (0, 0, 0)]
    for values in (np.array([[0, 255]], np.uint8), np.array([[False, True]])):
        path = save(tmp_path / "a.png", values)
        assert read_mask(path, palette=black_first).tolist() == [[0, 1]]
        assert read_mask(path, palette=white_first).tolist() == [[1, 0]]
    for dtype in (np.uint8, np.uint16):
        path = save(tmp_path / "b.png", LABELS.astype(dtype))
        np.testing.assert_array_equal(read_mask(path, palette=COLOURS), LABELS)
        with pytest.raises(ValueError, match="number 0 where it has the colour of label 1"):
            read_mask(path, palette=white_first)
        with pytest.raises(ValueError, match="number 255 where it has the colour of label 3"):
            read_mask(path, palette=[*COLOURS, (255, 255, 255)])


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_an_indexed_mask_is_read_as_its_colours_are(tmp_path_factory, order, labels):
    palette = np.random.default_rng(0).integers(0, 256, (6, 3), np.uint8)
    folder = tmp_path_factory.mktemp("masks")
    path = indexed(folder / "a.png", [[order.index(k) for k in labels]], palette[order])
    assert read_mask(path, palette=palette).tolist() == [labels]


def test_the_masks_of_the_course_agree_by_number_and_by_colour():
    class Recoloured(Streets):
        _palette = Streets._palette[::-1]

    drawn, recoloured = Streets("val"), Recoloured("val")
    for index in range(0, 60, 13):
        stored = Image.open(drawn.files[index][1])
        numbers, colours = np.asarray(stored), np.reshape(stored.getpalette(), (-1, 3))
        for labels in (drawn.read_mask(index), recoloured.read_mask(index)):
            np.testing.assert_array_equal(labels, numbers)  # ours are colours for drawing
        own = colours[: drawn.num_classes]  # the files keep the colours of their first day
        coloured = read_mask(drawn.files[index][1], drawn.classes, palette=own)
        np.testing.assert_array_equal(coloured, numbers)


def test_masks_of_lossy_formats_are_known_by_their_content(tmp_path):
    path = tmp_path / "a.png"
    for kind, name in ("WEBP", "WEBP"), ("JPEG2000", "JPEG2000"), ("MPO", "JPEG"):
        Image.fromarray(LABELS).save(path, format=kind)
        with pytest.raises(ValueError, match=rf"{name} masks \(a\.png\), .*labels are lost"):
            read_mask(path)
    Image.fromarray(LABELS).save(tmp_path / "a.tif", compression="jpeg")
    with pytest.raises(ValueError, match=r"JPEG-in-TIFF masks \(a\.tif\).*again as PNG"):
        read_mask(tmp_path / "a.tif")
    for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", None):
        Image.fromarray(LABELS).save(tmp_path / "a.tif", compression=kind)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), LABELS)
    rgb = np.array(COLOURS, np.uint8)[[[2, 1, 0]]]
    Image.fromarray(rgb).save(path, format="WEBP", lossless=True)
    assert read_mask(path, palette=COLOURS).tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_12_bits_in_16_are_named_and_full_16_bits_in_colour_are_scaled(tmp_path, suffix):
    path = str(tmp_path / f"a.{suffix}")
    for shape in ((2, 2), (2, 2, 3)):
        for most in (255, 1023, 4095):
            cv2.imwrite(path, np.full(shape, most, np.uint16))
            with pytest.raises(ValueError, match=f"none is above {most}: .*12 bits.*nearly black"):
                read_image(path)
        cv2.imwrite(path, np.full(shape, 32896, np.uint16))
        assert np.unique(read_image(path)).tolist() == [128]
    with pytest.raises(ValueError, match="colours of 16 bits; save it as RGB with 8 bits"):
        read_mask(path, palette=COLOURS)
    assert not read_image(save(path, np.zeros((2, 2), np.uint16))).any()  # black is black


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_several_pages_are_named_and_a_phones_second_view_is_not_missed(tmp_path, read):
    first, second = Image.fromarray(LABELS), Image.fromarray(LABELS // 2)
    for kind in ("TIFF", "PNG", "GIF"):
        first.save(tmp_path / "a.png", format=kind, save_all=True, append_images=[second])
        with pytest.raises(
            ValueError, match=r"holds 2 pages or frames, .*first.*expected one page"
        ):
            read(tmp_path / "a.png")
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert read_image(tmp_path / "a.jpg").shape == (2, 3, 3)


@pytest.mark.parametrize("depth", [1, 12, 100])
def test_a_flipped_bit_in_a_png_is_told(tmp_path, depth):
    noise = np.random.default_rng(depth).integers(0, 3, (depth, 9), np.uint8)
    path = save(tmp_path / "a.png", noise)
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 41):
        spoilt = bytearray(whole)
        spoilt[place // 8] ^= 1 << place % 8
        path.write_bytes(spoilt)
        try:
            np.testing.assert_array_equal(read_mask(path), noise)
        except ValueError as error:
            assert "a.png" in str(error)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME" if os.name == "posix" else "USERPROFILE", str(tmp_path))
    save(tmp_path / "a.png", LABELS)
    np.testing.assert_array_equal(read_mask("~/a.png"), LABELS)
    assert read_image("~/a.png").shape == (2, 3, 3)
    with pytest.raises(FileNotFoundError, match=r"no file ~\$a\.png"):  # (Word's lock files)
        read_image("~$a.png")
