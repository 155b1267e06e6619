"""Segments of a photo from queries made by hand: who wins a pixel, what is dropped and merged."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seglib.metrics.panoptic import PanopticCounts
from seglib.models import create_model
from seglib.models.huggingface import Queries, semantic_logits
from seglib.panoptic import Segment, merge_queries, predict_panoptic

HIGH, WIDE = 8, 12


def class_logits(*pairs, classes=3):
    """Queries of (class, probability); what is left is spread evenly over the others."""
    rows = []
    for label, chance in pairs:
        row = torch.full((classes + 1,), (1 - chance) / classes)
        row[label] = chance
        rows.append(row.log())
    return torch.stack(rows)


def boxes(*places, inside=0.9, size=(HIGH, WIDE)):
    """Mask logits, `inside` the probability in (top, bottom, left, right), and 0.01 elsewhere."""
    chances = torch.full((len(places), *size), 0.01)
    for chance, (top, bottom, left, right) in zip(chances, places, strict=True):
        chance[top:bottom, left:right] = inside
    return chances.logit()


def merged(classes, masks, **options):
    return merge_queries(class_logits(*classes), masks, (HIGH, WIDE), **options)


def test_things_and_stuff_side_by_side():
    masks = boxes((0, 4, 0, 12), (4, 8, 0, 6), (4, 8, 6, 10), (4, 8, 10, 12))
    found = merged([(0, 0.9), (1, 0.95), (1, 0.85), (0, 0.97)], masks, things={1})
    semantic, instance = np.zeros((HIGH, WIDE), np.uint8), np.zeros((HIGH, WIDE), np.int32)
    semantic[4:, :10] = 1
    instance[4:, :6], instance[4:, 6:10] = 1, 2
    assert np.array_equal(found.semantic, semantic) and found.semantic.dtype == np.uint8
    assert np.array_equal(found.instance, instance) and found.instance.dtype == np.int32
    told = [(s.label, s.instance, round(s.score, 4), s.area) for s in found.segments]
    assert told == [(0, 0, 0.97, 56), (1, 1, 0.95, 24), (1, 2, 0.85, 16)]  # stuff is one segment
    counts = PanopticCounts(3)
    counts.update((found.semantic, found.instance), (semantic, instance))
    assert counts.compute().mean()[0] == 1
    # without a word about things all are; each query is a segment of its own
    found = merged([(0, 0.9), (1, 0.95), (1, 0.85), (0, 0.97)], masks)
    assert [s.instance for s in found.segments] == [1, 2, 3, 4]
    assert isinstance(found.segments[0], Segment) and found.semantic.max() < 255


def test_what_is_unsure_is_void():
    masks = boxes((0, 8, 0, 4), (0, 8, 4, 8), (0, 8, 8, 12))
    classes = [(0, 0.9), (1, 0.7), (3, 0.99)]  # the last: no object
    found = merged(classes, masks)
    assert [s.label for s in found.segments] == [0]
    assert (found.semantic[:, :4] == 0).all() and (found.semantic[:, 4:] == 255).all()
    assert not found.instance[:, 4:].any()
    assert [s.label for s in merged(classes, masks, threshold=0.6).segments] == [0, 1]
    assert merged(classes, masks, threshold=0.95).segments == []
    # a mask below 1/2 wins pixels, and they stay void
    assert merged(classes, boxes((0, 8, 0, 4), *[(0, 8, 4, 8)] * 2, inside=0.4)).segments == []


def test_a_query_that_others_hide_is_dropped():
    """The second has the lower score: it loses 4 of its 8 columns, and keeps the others."""
    masks = boxes((0, 8, 0, 6), (0, 8, 2, 10))
    classes = [(0, 0.95), (1, 0.85)]
    found = merged(classes, masks)  # half is below 0.8
    assert [s.label for s in found.segments] == [0] and (found.semantic[:, 6:] == 255).all()
    found = merged(classes, masks, overlap=0.5)
    assert [(s.label, s.area) for s in found.segments] == [(0, 48), (1, 32)]
    assert (found.semantic[:, :6] == 0).all() and (found.semantic[:, 6:10] == 1).all()


class Fake(nn.Module):
    """Two queries, left and right half of an image, padded to multiples of 32."""

    def forward(self, images):
        height, width = images.shape[-2:]
        size = (-(-height // 32) * 32, -(-width // 32) * 32)
        half = width // 2
        masks = boxes((0, height, 0, half), (0, height, half, width), size=size)[None]
        logits = images.new_zeros(len(images), 3, height, width)
        logits.queries = Queries(class_logits((0, 0.9), (2, 0.9))[None], masks, size)
        return logits


@pytest.mark.parametrize("size", [None, (40, 60)])
def test_a_photo_of_any_size(size):
    photo = np.zeros((80, 120, 3), np.uint8)
    found = predict_panoptic(Fake(), photo, size, things=[2])
    assert found.semantic.shape == found.instance.shape == (80, 120)
    assert (found.semantic[:, :59] == 0).all() and (found.semantic[:, 61:] == 2).all()
    assert (found.instance == (found.semantic == 2)).all()


def test_a_network_and_what_it_sees_at_once():
    """Masks enlarged one by one are those enlarged together."""
    torch.manual_seed(0)
    classes, masks = torch.randn(9, 4), 3 * torch.randn(9, 5, 7)
    found = merge_queries(classes, masks, (HIGH, WIDE), threshold=0.3, overlap=0)
    scores, labels = classes.softmax(1).max(1)
    chance = F.interpolate(masks[None], (HIGH, WIDE), mode="bilinear")[0].sigmoid()
    chance[(labels == 3) | (scores <= 0.3)] = 0
    winner = (scores[:, None, None] * chance).argmax(0)
    expected = labels[winner]
    expected[chance.amax(0) == 0] = 255
    expected[chance.gather(0, winner[None])[0] < 0.5] = 255
    assert np.array_equal(found.semantic, expected.numpy()) and len(found.segments) > 2


def test_bad_input():
    photo = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="unet scores pixels and has no queries"):
        predict_panoptic(create_model("unet", 3, base_channels=4, depth=1), photo)
    masks = boxes((0, 8, 0, 4))
    for options, message in (
        ({"threshold": 1.5}, "threshold=1.5, expected a fraction"),
        ({"overlap": -1}, "overlap=-1, expected a fraction"),
        ({"things": [3]}, "found 3 among things, expected classes from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            merged([(0, 0.9)], masks, **options)


class Said(nn.Module):
    """A model of masks that says the same of every image of 8×8 pixels."""

    def __init__(self, class_logits):
        super().__init__()
        self.queries = Queries(class_logits[None], torch.ones(1, len(class_logits), 8, 8), (8, 8))

    def forward(self, images):
        logits = semantic_logits(self.queries, 8, 8)
        logits.queries = self.queries
        return logits


def test_nan_too_many_classes_and_things_as_an_array():
    photo = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="NaN"):
        predict_panoptic(Said(torch.full((2, 4), torch.nan)), photo)
    with pytest.raises(ValueError, match="found 300 classes, but a label map of uint8 holds 255"):
        predict_panoptic(Said(torch.zeros(2, 301)), photo)
    sure = torch.tensor([[9.0, 0, 0, 0]])
    found = predict_panoptic(Said(sure), photo, things=np.array([0, 1]))
    assert (found.semantic == 0).all() and (found.instance == 1).all()
