"""What lesson 2 draws: a network's sizes, a training as it runs, recorded arms."""

import matplotlib.pyplot as plt
import pytest
import torch

from seglib.course import unet
from seglib.course.records import interval
from seglib.data import Streets
from seglib.losses import CrossEntropyLoss
from seglib.models import create_model
from seglib.transforms import eval_transform


def test_a_drawn_unet_shows_the_sizes_of_its_feature_maps():
    figure = unet.draw_unet(create_model("unet", 11, base_channels=4, depth=2), 9, 13)
    texts = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    sizes = ["4 channels\n9×13", "8 channels\n4×6", "16 channels\n2×3"]
    joined = ["4 + 4 → 4\n9×13", "8 + 8 → 8\n4×6"]
    expected = [*sizes, *joined, "image\n9×13", "logits\n11 channels\n9×13"]
    assert sorted(texts) == sorted(expected)


def test_a_training_is_drawn_after_each_epoch(monkeypatch):
    shown = []
    monkeypatch.setattr(unet, "display", lambda figure, display_id: shown.append(figure) or shown)
    val = Streets("val", transform=eval_transform(24, 32))
    live = unet.Live(val, (2,), epochs=2)
    live(
        create_model("unet", 11, base_channels=4, depth=2).eval(),
        {"train_loss": 2, "val_miou": 0.1},
    )
    assert len(shown) == 1 and live.labels[2, 1].shape == (24, 32)
    titles = [axis.get_title() for axis in shown[0].axes]
    assert titles == ["", "", "photo", "labels", "epoch 1", ""]


def test_gaps_are_paired_and_drawn_with_their_intervals():
    first, second = unet.by_seed("U-Net", "Pole"), unet.by_seed("no skips", "Pole")
    assert unet.gap("U-Net", "no skips", "Pole") == interval([first[s] - second[s] for s in first])
    assert unet.mean("U-Net", split="val").value == pytest.approx(0.490, abs=5e-4)
    val = unet.gap("U-Net, 30 images, flips", "U-Net, 15 images, flips", split="val")
    assert val.value == pytest.approx(0.092, abs=5e-4)
    figure, axes = plt.subplots(1, 2)
    unet.draw_rings(*axes)
    assert [text.get_text() for text in axes[1].get_yticklabels()] == [
        "1",
        "2",
        "3–4",
        "5–8",
        "≥ 9",
    ]
    plt.close(figure)


def test_one_batch_is_memorized_and_the_arms_are_drawn():
    torch.manual_seed(0)
    images, target = torch.randn(2, 3, 16, 16), torch.zeros(2, 16, 16, dtype=torch.long)
    target[:, 8:], target[:, 0] = 3, 255
    correct = unet.overfit(images, target, CrossEntropyLoss(), steps=8)
    assert len(correct) == 8 and correct[0] < 0.5 < correct[-1]
    (axis,) = unet.draw_overfit({"correct masks": correct}).axes
    assert axis.lines[0].get_ydata().tolist() == correct
    figure, axes = plt.subplots(1, 2)
    unet.draw_arms(*axes)
    assert [text.get_text() for text in axes[1].get_yticklabels()][:3] == [
        "Sky",
        "Building",
        "Pole",
    ]
    unet.draw_sizes(axes[0], (15, 30))
    unet.draw_augmentation(axes[1], (15,))
    assert axes[1].get_yticklabels()[0].get_text() == "15 images, flips"
    plt.close(figure)


def test_a_live_run_is_one_of_the_recorded(capsys):
    unet.assert_like_recorded(0.32)
    assert capsys.readouterr().out.startswith("20 recorded seeds, val mIoU: mean 0.314 [")
    with pytest.raises(AssertionError, match="is not in"):
        unet.assert_like_recorded(0.1)
    unet.assert_like_recorded(0.1, "full")


def test_cells_know_the_fraction_of_each_class():
    mask = torch.zeros(4, 8, dtype=torch.long)
    mask[:2, :5], mask[3, 3:5] = 1, 255
    through = unet.through_cells(mask, 4, 2)  # fractions of class 1: 8 of 15, and 2 of 15
    assert through.shape == mask.shape
    assert through[:, 0].tolist() == [1] * 4 and through[:, -1].tolist() == [0] * 4
    assert torch.equal(unet.through_cells(mask[:2], 1, 2), mask[:2])
