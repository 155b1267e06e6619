"""What the figures contain: panels, titles, legends, texts."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from toys import LANDSCAPE_CLASSES, LANDSCAPE_PALETTE, landscape

from seglib.data.colours import STREET_PALETTE, ULTRASOUND_PALETTE
from seglib.plotting import legend, paint_errors, plot_class_shares, plot_history, show_predictions

CLASSES, PALETTE = LANDSCAPE_CLASSES, LANDSCAPE_PALETTE
PHOTO, MASK = landscape()


def legend_texts(owner):
    holder = owner.legends[0] if hasattr(owner, "legends") else owner.get_legend()
    return [text.get_text() for text in holder.get_texts()]


def test_predictions_show_their_errors():
    guess = np.where(MASK == 2, 0, MASK)
    guess[MASK == 255] = 1
    figure = show_predictions([PHOTO] * 2, [MASK] * 2, [guess, MASK], CLASSES, PALETTE)
    share = 120 * 4 / (120 * 160 - 15 * 25)  # the path, of everything but void
    wrong = f"errors: {100 * share:.1f} % of pixels"
    titles = ["photo", "truth", "prediction", wrong, "", "", "", "errors: 0.0 % of pixels"]
    assert [axis.get_title() for axis in figure.axes] == titles
    assert figure.get_suptitle() == "0.0 to 2.5 % of the labelled pixels are wrong"
    assert all(axis.images[0].get_interpolation() == "nearest" for axis in figure.axes[1:4])
    errors = np.asarray(figure.axes[3].images[0].get_array())
    assert len(np.unique(errors.reshape(-1, 3), axis=0)) == 3
    assert (errors == errors[0, 130]).all(axis=2).sum() == 480
    entries = ["meadow", "lake", "path", "void", "wrong", "right", "not counted"]
    assert legend_texts(figure) == entries
    assert [text.get_text() for text in figure.axes[2].texts] == ["meadow", "lake"]
    assert not plt.get_fignums()  # pyplot let go
    figure.canvas.draw()
    for axis in figure.axes:  # names stay within their panel
        frame = axis.get_window_extent()
        for box in (text.get_window_extent() for text in axis.texts):
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1
    for images in ([PHOTO] * 2, []):
        with pytest.raises(ValueError, match=rf"found {len(images)} images, 1 truths and 2 pred"):
            show_predictions(images, [MASK], [guess] * 2, CLASSES, PALETTE)


def test_errors_look_like_no_class_and_need_labels():
    wrong = paint_errors(np.array([[1]], np.uint8))[0]
    colours = np.concatenate([wrong, STREET_PALETTE, ULTRASOUND_PALETTE])
    lab = cv2.cvtColor(np.float32(colours)[None] / 255, cv2.COLOR_RGB2Lab)[0]
    assert np.linalg.norm(lab[1:] - lab[0], axis=1).min() > 50
    figure = show_predictions([PHOTO], [np.full_like(MASK, 255)], [MASK * 0], CLASSES, PALETTE)
    assert figure.axes[3].get_title() == "no labelled pixel"
    assert figure.get_suptitle() == "No labelled pixel to compare with"


def test_legend_lists_what_is_present_and_fits():
    axis = Figure().subplots()
    legend(axis, CLASSES, PALETTE, present=np.array([2, 0, 2]))
    assert legend_texts(axis) == ["meadow", "path"]
    colours = [patch.get_facecolor()[:3] for patch in axis.get_legend().get_patches()]
    np.testing.assert_allclose(colours, PALETTE[[0, 2]] / 255)
    with pytest.raises(ValueError, match=r"found labels 0–255 in present.*void=True"):
        legend(axis, CLASSES, PALETTE, present=[0, 255])
    many = [f"class number {i}" for i in range(21)]
    narrow = Figure(figsize=(5, 4), layout="constrained")
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
    title = "Best validation mIoU: 0.500 in epoch 3; lowest validation loss: epoch 2"
    assert figure.get_suptitle() == title
    assert losses.get_xlabel() == "epoch" and scores.get_ylabel() == "mIoU"
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), [2, 1, 0.8, 0.7])
    np.testing.assert_array_equal(losses.lines[1].get_ydata(), [1.5, 1.1, 1.3, np.nan])
    assert (scores.lines[-1].get_xdata(), scores.lines[-1].get_ydata()) == ([3], [0.5])
    assert plot_history(rows, title="Run 7").get_suptitle() == "Run 7"


def test_history_with_less_to_show_or_nothing():
    losses = [{"train_loss": 1.0, "val_loss": 0.9}, {"train_loss": 0.5, "val_loss": 0.95}]
    for rows, title in (
        (losses, "Lowest validation loss: 0.900 in epoch 1"),
        ([{"train_loss": 1.0}], "Training loss only: no validation to choose an epoch by"),
        ([{"epoch": 0, "val_miou": 0.1}], "Best validation mIoU: 0.100 in epoch 0"),
    ):
        figure = plot_history(rows)
        assert len(figure.axes) == 1 and figure.get_suptitle() == title
    for nothing in ([], [{"lr": 0.1}], [{"val_loss": float("nan")}]):
        with pytest.raises(ValueError, match=rf"found {len(nothing)} rows with the keys"):
            plot_history(nothing)


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
    # one class, none and too much
    assert plot_class_shares([0, 1, 0], CLASSES, PALETTE).get_suptitle() == "Only lake occurs"
    nothing = plot_class_shares([0, 0, 0], CLASSES, PALETTE, log=True)
    nothing.canvas.draw()
    assert nothing.get_suptitle() == "No class occurs"
    with pytest.raises(ValueError, match=r"found 3 shares with the sum 400.*divide counts"):
        plot_class_shares([100, 200, 100], CLASSES, PALETTE)
    with pytest.raises(ValueError, match="found 2 shares"):
        plot_class_shares([0.5, 0.5], CLASSES, PALETTE)
