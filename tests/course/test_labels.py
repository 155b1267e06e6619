"""What lesson 1 draws and measures."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from seglib.course import labels
from seglib.data.render import render_scene
from seglib.transforms import resize_mask


@pytest.fixture
def shown(monkeypatch):
    """The figures that plt.show() would have shown."""
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    yield figures
    plt.close("all")


def test_rows_of_pictures(shown):
    panels = {str(n): np.full((4, 6, 3), 40 * n, np.uint8) for n in range(5)}
    labels.show_row(panels, "five", columns=3, key=True)
    axes = shown[0].axes
    assert len(axes) == 6 and [axis.get_title() for axis in axes] == ["0", "1", "2", "3", "4", ""]
    assert shown[0].get_suptitle() == "five" and len(shown[0].legends[0].texts) == 12
    assert np.array_equal(axes[4].images[0].get_array(), panels["4"])


def test_where_two_masks_differ(shown):
    one, other = np.array([[3, 3, 255, 8]]), np.array([[3, 8, 8, 255]])
    labels.show_difference({"one": one, "other": other}, "they differ")
    picture = shown[0].axes[2].images[0].get_array()
    assert picture.tolist() == [[[238, 238, 240], [120, 0, 255], [25, 23, 27], [25, 23, 27]]]
    assert "labels differ" in [text.get_text() for text in shown[0].legends[0].texts]


def test_outlines_and_curves(shown):
    photo, corners = np.zeros((9, 12, 3), np.uint8), [(1, 1), (8, 1), (8, 7)]
    mine, ours = np.zeros((9, 12), np.uint8), np.zeros((9, 12), np.uint8)
    mine[2, 3], ours[2, 4], ours[5, 5], mine[5, 5], ours[0, 0] = 1, 1, 1, 1, 255
    labels.show_outline(photo, corners, mine, ours)
    picture = np.asarray(shown[0].axes[1].images[0].get_array())
    assert {tuple(place) for place in np.argwhere((picture == (120, 0, 255)).all(-1))} == {
        (2, 3),
        (2, 4),
    }
    labels.show_outline(photo, corners)
    assert len(shown[1].axes) == 1
    region = np.zeros((9, 12), np.uint8)
    region[3:6, 3:6] = 1
    labels.plot_moved(photo, {"nose": region}, {"nose": {-1: 0.5, 0: 1.0, 1: 0.6}}, 1)
    curve, point, _ = shown[2].axes[1].lines
    assert curve.get_ydata().tolist() == [0.5, 1.0, 0.6] and point.get_ydata().tolist() == [0.6]
    assert to_rgb(curve.get_color()) == to_rgb(labels.COLOURS["nose"])


def test_boxes_and_five_answers(shown):
    instance = np.array([[0, 1, 1, 0], [0, 1, 0, 2]])
    semantic = np.where(instance == 2, 9, 8)
    assert labels.boxes(semantic, instance) == [(1, 8, 1, 0, 3, 2, 3), (2, 9, 3, 1, 4, 2, 1)]
    assert labels.boxes(semantic, instance, smallest=2) == [(1, 8, 1, 0, 3, 2, 3)]
    scene = render_scene(16, 240, 320)
    labels.five_answers(scene, close_up=8)
    names, detection, *_, enlarged = shown[0].axes
    assert len(detection.patches) == scene.instance.max() and "Car" in names.texts[0].get_text()
    assert enlarged.get_title() == "instance, enlarged: Car"


def test_offsets_of_discs():
    def nearest(mask):
        return cv2.resize(mask, (120, 90), interpolation=cv2.INTER_NEAREST)

    # the first of four source pixels instead of their centre: 1.5 / 4 = 0.375 output pixels
    assert labels.disc_offset(nearest, 90, 120) == pytest.approx(0.375, abs=0.03)
    centred = labels.disc_offset(lambda mask: resize_mask(mask, 96, 128))
    assert centred == pytest.approx(0, abs=0.03)


def test_masks_shrunk_by_area_and_their_scores():
    mask = np.full((4, 6), 3, np.uint8)
    mask[:, :2], mask[:1, 3:] = 255, 8  # each cell 4×3: void 8 of 12, Road 9 of 12
    assert labels.area_majority(mask, 1, 2).tolist() == [[255, 3]]
    # (the void pixel counts in neither; Road 1 of 2, Car 0 of 1)
    scores = labels.score_masks([np.array([[3, 3, 255]])], [np.array([[3, 8, 8]])])
    assert scores.iou[3] == 0.5 and scores.iou[8] == 0 and scores.pixel_accuracy == 0.5


def test_outlines_move_both_ways():
    region = np.zeros((9, 9), np.uint8)
    region[3:6, 3:6] = 1
    sizes = [int(labels.move_outline(region, n).sum()) for n in (-1, 0, 1)]
    assert sizes == [1, 9, 21]  # a plus-shaped disc adds twelve pixels


def test_one_of_six_pairs_is_misaligned():
    pairs = labels.six_pairs()
    assert [(image.shape, mask.shape) for image, mask in pairs] == [((120, 160, 3), (120, 160))] * 6
    _, mask = labels.Streets("val").read(3)
    assert np.array_equal(pairs[3][1], mask[10:130, 25:185])
