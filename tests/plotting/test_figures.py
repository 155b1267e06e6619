"""What the figures contain: panels, titles, legends, numbers in cells."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from toys import LANDSCAPE_CLASSES, LANDSCAPE_PALETTE, landscape

from seglib.plotting import (
    legend,
    overlay,
    plot_class_shares,
    plot_confusion_matrix,
    plot_history,
    show_predictions,
    show_samples,
)

CLASSES, PALETTE = LANDSCAPE_CLASSES, LANDSCAPE_PALETTE


@pytest.fixture(name="landscape")
def _landscape():
    return landscape()


def legend_texts(owner):
    holder = owner.legends[0] if hasattr(owner, "legends") else owner.get_legend()
    return [text.get_text() for text in holder.get_texts()]


def texts_within_panels(figure):
    figure.canvas.draw()
    for axis in figure.axes:
        frame = axis.get_window_extent()
        for text in axis.texts:
            box = text.get_window_extent()
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1, text.get_text()
    return True


def test_samples_show_photo_and_mask(landscape):
    photo, mask = landscape
    meadow = np.zeros_like(mask)
    figure = show_samples(
        [(photo, mask), (photo, meadow), (photo, meadow)], CLASSES, PALETTE, columns=2
    )
    assert len(figure.axes) == 8
    assert figure.get_suptitle() == "3 of 3 classes occur in these 3 samples"
    assert figure.axes[0].get_title() == "sample 0" and figure.axes[4].get_title() == "sample 2"
    laid = figure.axes[2].images[0]
    assert laid.get_interpolation() == "nearest"
    np.testing.assert_array_equal(laid.get_array(), overlay(photo, mask, PALETTE, 0.6))
    assert [text.get_text() for text in figure.axes[3].texts] == ["meadow"]
    assert legend_texts(figure) == ["meadow", "lake", "path", "void"]
    assert texts_within_panels(figure)
    assert not figure.axes[5].images and not plt.get_fignums()  # an empty cell; pyplot let go

    alone = show_samples([(photo, meadow)], CLASSES, PALETTE, title="Grass", names=False)
    assert alone.get_suptitle() == "Grass" and legend_texts(alone) == ["meadow"]
    assert not alone.axes[1].texts


def test_predictions_show_their_errors(landscape):
    photo, truth = landscape
    guess = np.where(truth == 2, 0, truth)
    guess[truth == 255] = 1
    figure = show_predictions(
        [photo] * 2, [truth] * 2, [guess, truth], CLASSES, PALETTE, ["A", "B"]
    )
    share = 120 * 4 / (120 * 160 - 15 * 25)  # the path, of everything but void
    assert len(figure.axes) == 8
    assert [axis.get_title() for axis in figure.axes[:4]] == [
        "photo",
        "truth",
        "prediction",
        f"errors: {100 * share:.1f} % of pixels",
    ]
    assert figure.axes[7].get_title() == "errors: 0.0 % of pixels"
    assert figure.axes[4].get_ylabel() == "B"
    assert figure.get_suptitle() == "0.0 to 2.5 % of the labelled pixels are wrong"
    assert all(axis.images[0].get_interpolation() == "nearest" for axis in figure.axes[1:4])
    errors = np.asarray(figure.axes[3].images[0].get_array())
    assert len(np.unique(errors.reshape(-1, 3), axis=0)) == 3
    assert (errors == errors[0, 130]).all(axis=2).sum() == 480
    entries = ["meadow", "lake", "path", "void", "wrong", "right", "not counted"]
    assert legend_texts(figure) == entries
    assert texts_within_panels(figure)
    with pytest.raises(ValueError, match="found 1 truths for 2 images, expected one each"):
        show_predictions([photo] * 2, [truth], [guess] * 2, CLASSES, PALETTE)
    with pytest.raises(ValueError, match="found no samples, expected at least one"):
        show_samples([], CLASSES, PALETTE)


def test_errors_look_like_no_class():
    from seglib.data import palettes

    wrong = show_predictions([np.zeros((1, 1), np.uint8)], [[[0]]], [[[1]]], CLASSES, PALETTE)
    wrong = np.asarray(wrong.axes[3].images[0].get_array())
    colours = np.concatenate([wrong[0], palettes.STREET_PALETTE, palettes.ULTRASOUND_PALETTE])
    lab = cv2.cvtColor(np.float32(colours)[None] / 255, cv2.COLOR_RGB2Lab)[0]
    assert np.linalg.norm(lab[1:] - lab[0], axis=1).min() > 50


def test_a_picture_without_labels_has_no_error_share(landscape):
    photo, mask = landscape
    figure = show_predictions([photo], [np.full_like(mask, 255)], [mask * 0], CLASSES, PALETTE)
    assert figure.axes[3].get_title() == "no labelled pixel"
    assert figure.get_suptitle() == "No labelled pixel to compare with"


def test_legend_lists_what_is_present_and_fits():
    figure, axis = plt.subplots()
    plt.close(figure)
    legend(axis, CLASSES, PALETTE, present=np.array([2, 0, 2]))
    assert legend_texts(axis) == ["meadow", "path"]
    colours = [patch.get_facecolor()[:3] for patch in axis.get_legend().get_patches()]
    np.testing.assert_allclose(colours, PALETTE[[0, 2]] / 255)
    with pytest.raises(ValueError, match=r"found labels 0–255 in present.*void=True"):
        legend(axis, CLASSES, PALETTE, present=[0, 255])

    many = [f"class number {i}" for i in range(21)]
    narrow = plt.figure(figsize=(5, 4), layout="constrained")
    plt.close(narrow)
    drawn = legend(narrow, many, np.zeros((21, 3), np.uint8), void=True)
    narrow.canvas.draw()
    box = drawn.get_window_extent()
    assert len(drawn.get_texts()) == 22 and box.x0 >= 0 and box.x1 <= narrow.bbox.width


def test_history_marks_the_best_epoch():
    rows = [
        {"epoch": 1, "train_loss": 2.0, "val_loss": 1.5, "val_miou": 0.2, "lr": 0.1},
        {"epoch": 2, "train_loss": 1.0, "val_loss": 1.1},
        {"epoch": 3, "train_loss": 0.8, "val_loss": 1.3, "val_miou": 0.5},
        {"epoch": 4, "train_loss": 0.7, "val_loss": None, "val_miou": float("nan")},
    ]
    figure = plot_history(rows)
    losses, scores = figure.axes
    assert figure.get_suptitle() == (
        "Best validation mIoU: 0.500 in epoch 3; lowest validation loss: epoch 2"
    )
    assert losses.get_xlabel() == "epoch" and scores.get_ylabel() == "mIoU"
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), [2, 1, 0.8, 0.7])
    np.testing.assert_array_equal(losses.lines[1].get_ydata(), [1.5, 1.1, 1.3, np.nan])
    assert (scores.lines[-1].get_xdata(), scores.lines[-1].get_ydata()) == ([3], [0.5])
    assert plot_history(rows, title="Run 7").get_suptitle() == "Run 7"


def test_history_with_less_to_show():
    only_loss = plot_history(
        [{"train_loss": 1.0, "val_loss": 0.9}, {"train_loss": 0.5, "val_loss": 0.95}]
    )
    assert len(only_loss.axes) == 1
    assert only_loss.get_suptitle() == "Lowest validation loss: 0.900 in epoch 1"
    assert "no validation" in plot_history([{"epoch": 0, "train_loss": 1.0}]).get_suptitle()
    assert len(plot_history([{"epoch": 0, "val_miou": 0.1}]).axes) == 1
    for nothing in ([], [{"lr": 0.1}], [{"val_loss": float("nan")}]):
        with pytest.raises(ValueError, match=rf"found {len(nothing)} rows with the keys"):
            plot_history(nothing)


def cells(figure):
    """The numbers in a 3×3 confusion matrix, rows divided by bars."""
    texts = [text.get_text() for text in figure.axes[0].texts]
    return " | ".join(" ".join(texts[i : i + 3]) for i in (0, 3, 6))


def test_confusion_matrix_by_truth_prediction_and_count():
    matrix = torch.tensor([[80, 20, 0], [1, 999, 0], [0, 0, 0]])
    figure = plot_confusion_matrix(matrix, CLASSES)
    axis = figure.axes[0]
    assert cells(figure) == "80 20 0 | <1 >99 0 | – – –"
    assert figure.get_suptitle() == "Most confused: 20 % of meadow pixels are taken for lake"
    assert axis.get_xlabel() == "predicted class" and axis.get_ylabel() == "true class"
    assert [tick.get_text() for tick in axis.get_yticklabels()] == list(CLASSES)
    assert sum(patch.get_hatch() is not None for patch in axis.patches) == 3
    by_prediction = plot_confusion_matrix(matrix, CLASSES, "prediction")
    assert cells(by_prediction) == "99 2 – | 1 98 – | 0 0 –"
    counts = plot_confusion_matrix(matrix * 1000, CLASSES, "none")
    assert cells(counts) == "80k 20k 0 | 1.0k 999k 0 | 0 0 0"
    assert plot_confusion_matrix(np.eye(3), CLASSES).get_suptitle() == "No pixel is confused"
    assert plot_confusion_matrix(np.zeros((3, 3)), CLASSES).get_suptitle() == "No pixel was counted"


@pytest.mark.parametrize("matrix", [np.eye(4), -np.eye(3), np.full((3, 3), np.nan), np.ones(3)])
def test_confusion_matrices_that_are_none(matrix):
    with pytest.raises(ValueError, match=r"expected pixel counts \(3, 3\).*for 3 classes; pass"):
        plot_confusion_matrix(matrix, CLASSES)
    with pytest.raises(ValueError, match="found normalize='rows', expected one of"):
        plot_confusion_matrix(np.eye(3), CLASSES, "rows")


@pytest.mark.parametrize("log", [False, True])
def test_class_shares_are_sorted_and_absent_ones_hatched(log):
    figure = plot_class_shares([0.04, float("nan"), 0.96], CLASSES, PALETTE, log=log)
    axis = figure.axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["path", "meadow", "lake"]
    assert [text.get_text() for text in axis.texts] == ["96 %", "4 %", "–"]
    assert figure.get_suptitle() == "path covers 24 times as many pixels as meadow"
    assert sum(patch.get_hatch() is not None for patch in axis.patches) == 1
    drawn = axis.lines[0].get_color() if log else axis.patches[0].get_facecolor()
    np.testing.assert_allclose(to_rgb(drawn), PALETTE[2] / 255)
    figure.canvas.draw()
    assert axis.get_xscale() == ("log" if log else "linear")


def test_class_shares_of_one_class_none_and_too_much():
    assert plot_class_shares([0, 1, 0], CLASSES, PALETTE).get_suptitle() == "Only lake occurs"
    nothing = plot_class_shares([0, 0, 0], CLASSES, PALETTE, log=True)
    nothing.canvas.draw()
    assert nothing.get_suptitle() == "No class occurs"
    with pytest.raises(ValueError, match=r"found 3 shares with the sum 400.*divide counts"):
        plot_class_shares([100, 200, 100], CLASSES, PALETTE)
    with pytest.raises(ValueError, match="found 2 shares"):
        plot_class_shares([0.5, 0.5], CLASSES, PALETTE)
