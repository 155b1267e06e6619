"""Panoptic quality by hand, and against a brute force over all pairs of segments."""

import numpy as np
import pytest
import torch

from seglib.metrics.panoptic import PanopticCounts

VOID = 255


def scores_of(prediction, target, num_classes=3):
    counts = PanopticCounts(num_classes)
    counts.update(prediction, target)
    return counts.compute()


def rows(*lines):
    return np.array([[int(number) for number in line.split()] for line in lines])


def test_a_worked_example():
    # Two cars (class 1) on a road (class 0), ten columns. The first car is found with 4 of 6
    # pixels shared, the second in two halves, of which neither is above an IoU of 0.5.
    semantic = rows("0 1 1 1 0 0 1 1 1 1", "0 1 1 1 0 0 1 1 1 1")
    instance = rows("0 1 1 1 0 0 2 2 2 2", "0 1 1 1 0 0 2 2 2 2")
    found = rows("0 0 1 1 0 0 1 1 1 1", "0 0 1 1 0 0 1 1 1 1")
    parts = rows("0 0 7 7 0 0 1 1 2 2", "0 0 7 7 0 0 1 1 2 2")
    scores = scores_of((found, parts), (semantic, instance))
    # road: 6 of 8 pixels: IoU 6/8. Car: TP 1 with IoU 4/6; FP the two halves (IoU 4/8 is not above
    # 0.5); FN the second car. RQ 1 / (1 + 2/2 + 1/2) = 0.4
    assert scores.counts.tolist() == [[1, 0, 0], [1, 2, 1], [0, 0, 0]]
    np.testing.assert_allclose(scores.sq, [6 / 8, 4 / 6, np.nan])
    np.testing.assert_allclose(scores.rq, [1, 0.4, np.nan])
    np.testing.assert_allclose(scores.pq, [0.75, 0.4 * 4 / 6, np.nan])
    np.testing.assert_allclose(scores.mean(), [(0.75 + 0.8 / 3) / 2, (0.75 + 2 / 3) / 2, 0.7])
    np.testing.assert_allclose(scores.mean([1])[0], 0.8 / 3)
    assert np.isnan(scores.mean([2])[0])


def test_void_is_taken_out_of_predicted_segments():
    semantic = rows("1 1 1 255 255 255")
    found = rows("1 1 1 1 1 1")
    zeros = np.zeros_like(found)
    scores = scores_of((found, zeros), (semantic, zeros))  # 3 of 6 pixels, 3 of 3 without void
    assert scores.pq[1] == 1
    # unmatched: more than half void does not count, half void does
    for labels, wrong in (("0 0 0 2 2 2", 0), ("0 0 2 2 2 2", 0), ("0 2 2 2 2 255", 1)):
        found = rows(labels)
        scores = scores_of((found, zeros), (semantic, zeros))
        assert scores.counts[2, 1] == wrong, labels
    # a prediction may leave pixels without a segment; they are in no union
    scores = scores_of((rows("1 1 255 255 255 255"), zeros), (semantic, zeros))
    np.testing.assert_allclose(scores.pq[1], 2 / 3)


def test_a_class_without_a_match_has_a_quality_of_zero():
    semantic, zeros = rows("0 0 1 1"), rows("0 0 0 0")
    scores = scores_of((rows("0 0 2 2"), zeros), (semantic, zeros))
    np.testing.assert_array_equal(scores.pq, [1, 0, 0])
    np.testing.assert_array_equal(scores.sq, [1, 0, 0])


def brute_force(images, num_classes):
    """TP, FP, FN and the sum of IoUs by sets of pixels, straight from the paper's section 4."""
    table = [[0, 0, 0, 0.0] for _ in range(num_classes)]
    for prediction, target in images:
        sets = []
        for semantic, instance in (prediction, target):
            found = {}
            for place, label in np.ndenumerate(semantic):
                if label != VOID:
                    found.setdefault((int(label), int(instance[place])), set()).add(place)
            sets.append(found)
        void = {place for place, label in np.ndenumerate(target[0]) if label == VOID}
        matched = set()
        for key, pixels in sets[0].items():
            hits = []
            for other, theirs in sets[1].items():
                iou = len(pixels & theirs) / len((pixels - void) | theirs)
                if key[0] == other[0] and iou > 0.5:
                    hits.append((other, iou))
            assert len(hits) <= 1
            if hits:
                matched.add(hits[0][0])
                table[key[0]][0] += 1
                table[key[0]][3] += hits[0][1]
            elif len(pixels & void) / len(pixels) <= 0.5:
                table[key[0]][1] += 1
        for other in sets[1]:
            table[other[0]][2] += other not in matched
    return np.array(table)


def test_random_images_equal_a_brute_force_and_counts_add_up():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(60):
        coarse = rng.integers(0, 4, (2, 3, 4)), rng.integers(0, 3, (2, 3, 4))
        semantic, instance = (np.kron(part, np.ones((1, 3, 3), int)) for part in coarse)
        semantic = np.where(semantic == 3, VOID, semantic)
        truth = semantic[0], instance[0]
        changed = rng.random(semantic[0].shape) < 0.25  # the prediction: mostly the truth
        prediction = tuple(np.where(changed, part[1], part[0]) for part in (semantic, instance))
        images.append((prediction, truth))
    whole, first, second = PanopticCounts(3), PanopticCounts(3), PanopticCounts(3)
    for i, image in enumerate(images):
        whole.update(*image)
        (first if i % 2 else second).update(*(tuple(map(torch.as_tensor, pair)) for pair in image))
    expected = brute_force(images, 3)
    assert expected.all()  # every case happens
    for found in (whole, first + second):
        np.testing.assert_array_equal(found.counts, expected[:, :3])
        np.testing.assert_allclose(found.iou, expected[:, 3])


def test_what_is_wrong_is_refused():
    zeros = np.zeros((2, 3), int)
    counts = PanopticCounts(2)
    for prediction, message in (
        ((zeros,), "1 maps as prediction, expected .semantic, instance"),
        ((zeros + 2, zeros), "prediction has label 2 at 6 pixels, expected 0 to 1"),
        ((zeros, zeros - 1), "negative instance numbers in the prediction"),
        ((zeros.astype(float), zeros), "prediction of float64"),
        ((zeros[:1], zeros[:1]), r"shapes \[\(1, 3\), \(2, 3\)\]"),
        ((zeros, zeros[:1]), r"shapes \[\(1, 3\), \(2, 3\)\]"),
    ):
        with pytest.raises(ValueError, match=message):
            counts.update(prediction, (zeros, zeros))
    assert not counts.counts.any()
    with pytest.raises(ValueError, match="only equal ones add"):
        counts + PanopticCounts(3)
    with pytest.raises(ValueError, match="num_classes=0"):
        PanopticCounts(0)
