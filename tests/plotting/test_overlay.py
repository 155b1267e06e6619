"""Colours, error counts and the places of names, checked by hand-made answers."""

import numpy as np
import pytest
import torch
from toys import LANDSCAPE_CLASSES, LANDSCAPE_PALETTE, landscape

from seglib.data import colours as known
from seglib.plotting import VOID_COLOUR, colorize, error_map, overlay, place_labels

CLASSES, PALETTE = LANDSCAPE_CLASSES, LANDSCAPE_PALETTE
PHOTO, MASK = landscape()


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, np.int64, torch.tensor])
def test_colorize_paints_by_hand(convert):
    mask = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    green, blue, orange, void = [60, 120, 60], [30, 60, 180], [250, 140, 20], [1, 2, 3]
    painted = colorize(convert(mask), PALETTE, void_colour=void)
    assert painted.dtype == np.uint8
    assert painted.tolist() == [[green, blue, orange], [orange, void, green]]
    painted = colorize([[-100, 1]], PALETTE, ignore_index=-100)
    assert painted[0].tolist() == [list(VOID_COLOUR), blue]
    assert known.VOID_COLOUR == VOID_COLOUR


def test_what_cannot_be_painted():
    for mask, palette, message in (
        ([[0, 12, 12]], PALETTE, r"label 12 at 2 pixels of the mask, expected 0–2 .*remap"),
        ([[0, -1]], PALETTE, r"label -1 at 1 pixels"),
        ([[0.0, 1.0]], PALETTE, r"type float64, expected integer labels .*argmax"),
        (np.zeros((3, 2, 2), int), PALETTE, r"shape \(3, 2, 2\)"),
        (np.zeros((0, 4), int), PALETTE, r"shape \(0, 4\)"),
        ([[0]], PALETTE[0], r"palette of shape \(3,\) .*expected integers 0–255 \(classes, 3\)"),
        ([[0]], PALETTE / 255, r"type float64, expected integers 0–255"),
        ([[0]], PALETTE.astype(int) * 2, r"found palette values 40 to 500"),
    ):
        with pytest.raises(ValueError, match=message):
            colorize(mask, palette)
    for image, mask, options, message in (
        (PHOTO, MASK[::2, ::2], {}, r"image of 120×160 and a mask of 60×80.*resize both"),
        (PHOTO / 255, MASK, {}, r"type float64, expected uint8 \(H, W, 3\) RGB; show the photo"),
        (PHOTO[None], MASK, {}, r"image of shape \(1, 120, 160, 3\)"),
        (PHOTO, MASK, {"alpha": 50}, r"alpha = 50, expected 0 .* to 1"),
        (PHOTO, MASK, {"classes": CLASSES[:2]}, "found 2 class names and 3 colours"),
    ):
        with pytest.raises(ValueError, match=message):
            overlay(image, mask, PALETTE, **options)


def test_overlay_between_photo_and_mask():
    before = PHOTO.copy(), MASK.copy()
    np.testing.assert_array_equal(overlay(PHOTO, MASK, PALETTE, 0, borders=False), PHOTO)
    np.testing.assert_array_equal(overlay(PHOTO, MASK, PALETTE, 1), colorize(MASK, PALETTE))
    half = overlay(PHOTO, MASK, PALETTE, 0.5, borders=False)
    exact = (PHOTO.astype(float) + colorize(MASK, PALETTE)) / 2
    assert np.abs(half - exact).max() <= 0.5
    flipped = overlay(PHOTO[:, ::-1], MASK[:, ::-1], PALETTE, borders=False)[:, ::-1]
    plain = overlay(torch.tensor(PHOTO), MASK, PALETTE, borders=False)
    np.testing.assert_array_equal(flipped, plain)
    overlay(PHOTO, MASK, PALETTE, 0.5, CLASSES)
    np.testing.assert_array_equal(PHOTO, before[0])
    np.testing.assert_array_equal(MASK, before[1])
    # borders are thin and in full colour
    photo, mask = np.full((60, 60, 3), 200, np.uint8), np.zeros((60, 60), np.uint8)
    mask[:, 30:] = 1
    laid = overlay(photo, mask, PALETTE, 0)
    changed = (laid != photo).any(axis=2)
    columns = np.flatnonzero(changed.any(axis=0))
    assert changed[:, columns].all() and len(columns) and set(columns) <= {29, 30}
    assert (laid[changed] == colorize(mask, PALETTE)[changed]).all()


def test_a_name_lies_on_its_region_and_in_the_middle():
    names = place_labels(MASK, CLASSES)
    ((x0, y0, x1, y1),) = (label.box for label in names if label.text == "lake")
    assert (MASK[y0:y1, x0:x1] == 1).all()
    assert abs((x0 + x1) / 2 - 60) <= 2 and abs((y0 + y1) / 2 - 45) <= 2
    plain = overlay(PHOTO, MASK, PALETTE)
    written = (plain != overlay(PHOTO, MASK, PALETTE, classes=CLASSES)).any(axis=2)
    for left, top, right, bottom in (label.box for label in names):
        assert written[top:bottom, left:right].mean() > 0.3  # something is there
        written[top:bottom, left:right] = False
    assert not written.any()  # and nothing is anywhere else
    mask = np.full((100, 100), 255, np.uint8)
    assert place_labels(mask, CLASSES) == []  # small regions and void get no name
    mask[50:53, 50:53] = 1
    assert place_labels(mask, CLASSES) == []
    mask[20:60, 20:90] = 1
    assert [label.text for label in place_labels(mask, CLASSES)] == ["lake"]


@pytest.mark.parametrize("shape", [(30, 40), (96, 128), (360, 480), (700, 300), (1500, 2000)])
@pytest.mark.parametrize("seed", range(4))
def test_names_stay_in_the_image_and_apart(shape, seed):
    coarse = np.random.default_rng(seed).integers(0, 6, (4, 5)).astype(np.uint8)
    coarse[coarse == 5] = 255
    rows, columns = (np.arange(n) * parts // n for n, parts in zip(shape, (4, 5), strict=True))
    mask, taken = coarse[rows][:, columns], np.zeros(shape, int)
    classes = ("Sky", "Building", "SignSymbol", "a rather long name", "Ég")
    labels = place_labels(mask, classes)
    assert labels or shape == (30, 40)
    for label in labels:
        x0, y0, x1, y1 = label.box
        assert 0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]
        assert (mask[y0:y1, x0:x1] == label.index).any() and label.text == classes[label.index]
        taken[y0:y1, x0:x1] += 1
    assert taken.max(initial=0) <= 1


def test_error_map_counted_by_hand():
    truth, found = [[0, 1, 1, 255], [2, 2, 0, 255]], [[0, 1, 2, 0], [1, 2, 0, 1]]
    errors, share = error_map(truth, found)
    assert errors.tolist() == [[0, 0, 1, 2], [1, 0, 0, 2]]
    assert share == pytest.approx(2 / 6)
    assert np.isnan(error_map([[255]], [[0]])[1])
    with pytest.raises(ValueError, match="prediction of 1×1 and a truth of 2×4"):
        error_map(truth, [[0]])


def test_a_name_that_the_font_cannot_write_is_a_number():
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:] = 1
    with pytest.warns(UserWarning, match="no letters for 道路; numbers stand"):
        names = [label.text for label in place_labels(mask, ["道路", "Straße é ж"])]
    assert sorted(names) == ["0", "Straße é ж"]
