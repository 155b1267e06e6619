"""What lesson 5 draws and trains on."""

import matplotlib.pyplot as plt
import pytest
import torch

from seglib.course import deeplab
from seglib.course.photos import photo
from seglib.course.records import paired_difference
from seglib.data import Streets
from seglib.models import create_model, freeze


def test_the_shade_of_a_position_counts_its_valid_taps():
    figure, axis = plt.subplots()
    deeplab.draw_taps(axis, pixels=128, rate=6)
    counts = axis.images[0].get_array()
    assert (counts[0, 0], counts[4, 4], counts.shape) == (4, 1, (8, 8))
    assert axis.get_title() == f"128 pixels, map 8×8\non average {counts.mean():.1f} of 9"
    plt.close(figure)


def test_feature_colours_lie_between_0_and_1():
    torch.manual_seed(0)
    picture = deeplab.direction_colours(torch.randn(1, 8, 6, 9))
    assert picture.shape == (6, 9, 3) and picture.min() == 0 and picture.max() == 1


def test_what_moves_is_said_part_by_part(capsys):
    model = create_model("deeplabv3plus", 11, pretrained="streets")
    freeze(model.backbone)
    model.decoder[-1].requires_grad_(False)
    deeplab.what_moves(model, torch.optim.SGD(model.parameters(), lr=0.01))
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    moved = dict.fromkeys(deeplab.PARTS, "weights moved, statistics moved")
    assert said == moved | {"backbone": "weights fixed", "decoder.2": "weights fixed"}


def test_a_cat_is_less_certain_than_a_street():
    model = create_model("deeplabv3plus", 11, pretrained="imagenet+streets")
    pictures = {"a street": Streets("test").read(8)[0], "a cat": photo("cat")}
    titles = list(deeplab.with_predictions(model, pictures))
    assert titles[0::2] == list(pictures)
    assert float(titles[3].split()[-1]) < float(titles[1].split()[-1]) - 0.05


def test_recorded_starts_are_drawn_with_paired_differences(capsys):
    assert len(deeplab.draw_starts().axes[0].containers) == len(deeplab.STARTS)
    pair = "ImageNet", "from scratch"
    [axis] = deeplab.draw_gaps([pair, pair]).axes[:1]
    gap = paired_difference(*(deeplab.by_seed("CamVid, 20 frames", start) for start in pair))
    assert axis.texts[1].get_text() == f"{gap.value:+.2f}" == "+0.10"
    deeplab.print_gaps("ImageNet", "from scratch")
    assert f"CamVid, 20 frames    {gap}\n" in capsys.readouterr().out
    race = deeplab.draw_race({"a": [0.1, 0.4]}).axes[0]
    assert race.get_ylim()[1] == pytest.approx(0.46)
    found = deeplab.one_more_run("ImageNet")
    assert found.low < found.value < found.high
    plt.close("all")
