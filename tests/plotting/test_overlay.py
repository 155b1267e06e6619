"""Colours, error counts and the places of names, checked by hand-made answers."""

import numpy as np
import pytest
import torch
from toys import LANDSCAPE_CLASSES, LANDSCAPE_PALETTE, landscape

from seglib import plotting
from seglib.plotting import as_image, colorize, error_map, overlay, place_labels

CLASSES, PALETTE = LANDSCAPE_CLASSES, LANDSCAPE_PALETTE


@pytest.fixture(name="landscape")
def _landscape():
    return landscape()


# --- colours ---------------------------------------------------------------------------------


def test_colorize_paints_by_hand():
    mask = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    expected = [
        [(60, 120, 60), (30, 60, 180), (250, 140, 20)],
        [(250, 140, 20), (1, 2, 3), (60, 120, 60)],
    ]
    painted = colorize(mask, PALETTE, void_colour=(1, 2, 3))
    assert painted.dtype == np.uint8
    assert painted.tolist() == [[list(colour) for colour in row] for row in expected]
    other_types = [
        mask.tolist(),
        mask.astype(np.int64),
        torch.tensor(mask),
        torch.tensor(mask).long(),
    ]
    for same in other_types:
        np.testing.assert_array_equal(colorize(same, PALETTE, void_colour=(1, 2, 3)), painted)


def test_colorize_takes_a_negative_ignore_index():
    assert colorize([[-100, 1]], PALETTE, ignore_index=-100)[0].tolist() == [
        list(plotting.VOID_COLOUR),
        [30, 60, 180],
    ]


def test_void_is_the_same_colour_as_in_the_palettes():
    from seglib.data import palettes

    assert plotting.VOID_COLOUR == palettes.VOID_COLOUR


@pytest.mark.parametrize(
    "mask, message",
    [
        (
            [[0, 12, 12]],
            r"label 12 at 2 pixels of the mask, expected 0–2 .*ignore_index 255; remap",
        ),
        ([[0, -1]], r"label -1 at 1 pixels"),
        ([[0.0, 1.0]], r"type float64, expected integer labels .*argmax"),
        (np.zeros((3, 2, 2), int), r"shape \(3, 2, 2\)"),
        (np.zeros((0, 4), int), r"shape \(0, 4\)"),
    ],
)
def test_masks_that_cannot_be_painted(mask, message):
    with pytest.raises(ValueError, match=message):
        colorize(mask, PALETTE)


@pytest.mark.parametrize(
    "palette, message",
    [
        (PALETTE[0], r"shape \(3,\), expected \(classes, 3\)"),
        (PALETTE / 255, r"type float64, expected integers 0–255; multiply"),
        (PALETTE.astype(int) * 2, r"found palette values 40 to 500"),
    ],
)
def test_palettes_that_are_none(palette, message):
    with pytest.raises(ValueError, match=message):
        colorize([[0]], palette)


def test_images_come_back_from_their_normalised_tensor(landscape):
    photo, _ = landscape
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = torch.tensor(photo).permute(2, 0, 1) / 255
    normalised = (tensor - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    np.testing.assert_array_equal(as_image(normalised, mean, std), photo)
    np.testing.assert_array_equal(as_image(tensor.requires_grad_()), photo)
    np.testing.assert_array_equal(as_image(photo[..., 0])[..., 2], photo[..., 0])
    with pytest.raises(
        ValueError, match=r"found float image values from .*pass the mean= and std="
    ):
        as_image(normalised)
    with pytest.raises(ValueError, match="only one of mean and std"):
        as_image(normalised, mean=mean)
    with pytest.raises(ValueError, match=r"shape \(1, 120, 160, 3\).*images\[0\]"):
        as_image(photo[None])
    with pytest.raises(ValueError, match="values from nan to nan"):
        as_image(tensor.detach() * float("nan"))


# --- overlay ---------------------------------------------------------------------------------


def test_overlay_between_photo_and_mask(landscape):
    photo, mask = landscape
    before = photo.copy(), mask.copy()
    np.testing.assert_array_equal(overlay(photo, mask, PALETTE, 0, borders=False), photo)
    np.testing.assert_array_equal(overlay(photo, mask, PALETTE, 1), colorize(mask, PALETTE))
    half = overlay(photo, mask, PALETTE, 0.5, borders=False)
    exact = (photo.astype(float) + colorize(mask, PALETTE)) / 2
    assert np.abs(half - exact).max() <= 0.5
    overlay(photo, mask, PALETTE, 0.5, CLASSES)
    np.testing.assert_array_equal(photo, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_borders_are_thin_and_in_full_colour():
    photo, mask = np.full((60, 60, 3), 200, np.uint8), np.zeros((60, 60), np.uint8)
    mask[:, 30:] = 1
    laid = overlay(photo, mask, PALETTE, 0)
    changed = (laid != photo).any(axis=2)
    columns = np.flatnonzero(changed.any(axis=0))
    assert changed[:, columns].all() and 1 <= len(columns) <= 2
    assert set(columns) <= {29, 30}
    assert (laid[changed] == colorize(mask, PALETTE)[changed]).all()


def test_overlay_refuses_what_does_not_fit(landscape):
    photo, mask = landscape
    with pytest.raises(ValueError, match=r"image of 120×160 and a mask of 60×80.*resize both"):
        overlay(photo, mask[::2, ::2], PALETTE)
    with pytest.raises(ValueError, match=r"alpha = 50, expected 0 .* to 1"):
        overlay(photo, mask, PALETTE, 50)
    with pytest.raises(ValueError, match="found 2 class names and 3 colours"):
        overlay(photo, mask, PALETTE, classes=CLASSES[:2])


# --- names on regions ------------------------------------------------------------------------


def test_a_name_lies_on_its_region_and_in_the_middle(landscape):
    photo, mask = landscape
    names = {label.text: label for label in place_labels(mask, CLASSES)}
    x0, y0, x1, y1 = names["lake"].box
    assert names["lake"].inside and (mask[y0:y1, x0:x1] == 1).all()
    assert abs((x0 + x1) / 2 - 60) <= 2 and abs((y0 + y1) / 2 - 45) <= 2
    plain = overlay(photo, mask, PALETTE)
    written = (plain != overlay(photo, mask, PALETTE, classes=CLASSES)).any(axis=2)
    boxes = np.zeros_like(written)
    for label in place_labels(mask, CLASSES):
        left, top, right, bottom = label.box
        boxes[top:bottom, left:right] = True
        assert written[top:bottom, left:right].mean() > 0.3  # something is there
    assert not (written & ~boxes).any()  # and nothing is anywhere else


@pytest.mark.parametrize("shape", [(30, 40), (96, 128), (360, 480), (700, 300), (1500, 2000)])
@pytest.mark.parametrize("seed", range(4))
def test_names_stay_in_the_image_and_apart(shape, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, (4, 5)).astype(np.uint8)
    coarse[coarse == 5] = 255
    rows = np.arange(shape[0]) * 4 // shape[0]
    mask = coarse[rows][:, np.arange(shape[1]) * 5 // shape[1]]
    classes = ("Sky", "Building", "SignSymbol", "a rather long name", "Ég")
    labels = place_labels(mask, classes)
    assert labels or shape == (30, 40)
    taken = np.zeros(shape, int)
    for label in labels:
        x0, y0, x1, y1 = label.box
        assert 0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]
        assert (mask[y0:y1, x0:x1] == label.index).any() and label.text == classes[label.index]
        if label.inside:
            assert (mask[y0:y1, x0:x1] == label.index).all()
        taken[y0:y1, x0:x1] += 1
    assert taken.max(initial=0) <= 1


def test_small_regions_and_void_get_no_name():
    mask = np.full((100, 100), 255, np.uint8)
    mask[50:53, 50:53] = 1
    assert place_labels(mask, CLASSES) == []
    assert place_labels(np.full((100, 100), 255), CLASSES) == []
    mask[20:60, 20:90] = 1
    assert [label.text for label in place_labels(mask, CLASSES)] == ["lake"]
    assert place_labels(mask, CLASSES, min_area=3000) == []


def test_names_grow_with_the_image(landscape):
    _, mask = landscape
    (small,) = (label for label in place_labels(mask, CLASSES) if label.text == "lake")
    big = mask.repeat(8, axis=0).repeat(8, axis=1)
    (large,) = (label for label in place_labels(big, CLASSES) if label.text == "lake")
    assert small.font_size == 10 and large.font_size == round(0.04 * 960)


# --- errors ----------------------------------------------------------------------------------


def test_error_map_counted_by_hand():
    truth = [[0, 1, 1, 255], [2, 2, 0, 255]]
    found = [[0, 1, 2, 0], [1, 2, 0, 1]]
    errors, share = error_map(truth, found)
    assert errors.tolist() == [[0, 0, 1, 2], [1, 0, 0, 2]]
    assert share == pytest.approx(2 / 6)
    assert np.isnan(error_map([[255]], [[0]])[1])
    with pytest.raises(ValueError, match="prediction of 1×1 and a truth of 2×4"):
        error_map(truth, [[0]])
