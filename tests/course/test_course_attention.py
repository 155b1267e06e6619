"""What lesson 7 draws, measures and trains on."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seglib.course import attention, transformers
from seglib.course.photos import photo, redraw
from seglib.models import create_model


def test_attention_keeps_weights_queries_keys_and_values():
    """All in float32: 64 queries and 16 keys of 32 channels; the scores are not kept."""
    kept = attention.kept_mib(32, 2) * 2**20 / 4
    assert 64 * 16 + 32 * (64 + 2 * 16) <= kept <= 64 * 16 + 32 * (64 + 2 * 16) + 1
    grown = attention.kept_mib(256, 1) / attention.kept_mib(128, 1)
    assert grown == pytest.approx((4096**2 + 3 * 32 * 4096) / (1024**2 + 3 * 32 * 1024))


def test_patches_with_all_numbers_are_the_picture():
    picture = photo("coffee")[:64, 100:164]
    for window in (16, 32):  # 16 patches have 15 components at most
        drawn = redraw(picture, window, numbers=15)
        np.testing.assert_allclose(drawn, picture / 255, atol=1e-9)


def test_small_logits_are_those_that_segformer_enlarges():
    torch.manual_seed(0)
    model, images = create_model("segformer", 11), torch.randn(3, 3, 72, 96)
    small = attention.small_logits(model, images)
    assert small.shape == (3, 11, 18, 24)
    with torch.inference_mode():
        expected = model(images)
    torch.testing.assert_close(F.interpolate(small, (72, 96), mode="bilinear"), expected)


def test_a_query_is_drawn_with_its_heads():
    scenes = transformers.nearest_scenes(range(70_000, 70_002))
    query, key = transformers.queries_and_keys(transformers.nearest_network(), scenes.images[0])
    assert query.shape == key.shape == (4, 18 * 24, 12)
    weights = (query @ key.mT / 12**0.5).softmax(-1)
    attention.draw_attention(scenes, 0, 1, weights)
    axes = plt.gcf().axes
    assert [axis.get_title() for axis in axes] == ["the query", *(f"head {k}" for k in range(1, 5))]
    assert axes[1].images[1].get_alpha().shape == (72, 96)
    column, row = (float(value[0]) for value in axes[0].lines[0].get_data())
    assert scenes.instances[0][round(row), round(column)] == 1
    plt.close("all")


def test_the_cost_of_an_early_argmax_is_printed(capsys):
    def late(logits, size):
        return F.interpolate(logits, size, mode="bilinear").argmax(1)

    gain = attention.print_orders(late, create_model("segformer", 11))
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9].strip() for line in lines] == ["SegFormer"] * 2 + ["perfect"] * 2
    assert gain == pytest.approx(0.05, abs=0.01)


def test_the_recorded_networks_are_drawn():
    attention.draw_networks()
    left, right = plt.gcf().axes
    assert len(left.containers) == 3 and len(right.get_yticks()) == 6
    attention.draw_far()
    assert len(plt.gca().containers) == 4 and len(plt.gca().get_xticks()) == 4
    plt.close("all")
