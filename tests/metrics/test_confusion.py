"""The confusion matrix against scikit-learn, published examples and brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from seglib.metrics import ConfusionMatrix, Scores


def labels(seed, shape=(3, 10, 12), classes=5, void=0.1):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape)
    prediction = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape))
    truth[rng.random(shape) < void] = 255
    return torch.from_numpy(prediction), torch.from_numpy(truth)


def counted(prediction, target, classes=5, **options):
    cm = ConfusionMatrix(classes, **options)
    cm.update(*(torch.as_tensor(maps) for maps in (prediction, target)))
    return cm


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 30), void=st.floats(0, 0.9))
def test_matrix_equals_scikit_learns(seed, classes, void):
    prediction, truth = labels(seed, classes=classes, void=void)
    valid = truth != 255
    oracle = np.zeros((classes, classes))
    if valid.any():
        oracle = confusion_matrix(truth[valid], prediction[valid], labels=range(classes))
    assert np.array_equal(counted(prediction, truth, classes).matrix, oracle)


def test_scores_equal_scikit_learns():
    prediction, truth = labels(1)
    valid = truth != 255
    t, p = truth[valid], prediction[valid]
    scores = counted(prediction, truth).compute()
    np.testing.assert_allclose(scores.iou, jaccard_score(t, p, average=None))
    np.testing.assert_allclose(scores.dice, f1_score(t, p, average=None))
    assert scores.miou == pytest.approx(jaccard_score(t, p, average="macro"))
    assert scores.pixel_accuracy == pytest.approx((t == p).double().mean().item())
    weighted = jaccard_score(t, p, average="weighted")
    assert scores.frequency_weighted_iou == pytest.approx(weighted)


def test_the_documented_example_of_hugging_face_evaluate():
    cm = ConfusionMatrix(10)
    for prediction, truth in (
        ([[1, 2], [3, 4], [5, 255]], [[0, 3], [5, 4], [6, 255]]),
        ([[2, 7], [9, 2], [3, 6]], [[1, 7], [9, 2], [3, 6]]),
        ([[2, 2, 3], [8, 2, 4], [3, 255, 2]], [[1, 2, 2], [8, 2, 1], [3, 255, 1]]),
    ):
        cm.update(torch.tensor(prediction), torch.tensor(truth))
    scores = cm.compute()
    found = (scores.miou, scores.class_accuracy, scores.pixel_accuracy)
    assert found == pytest.approx((0.47750, 0.59167, 0.52632), abs=1e-5)


def test_absent_and_only_predicted_classes():
    scores = counted([[0, 0, 2]], [[0, 0, 0]], 4).compute(("road", "bicyclist", "sky", "car"))
    np.testing.assert_allclose(scores.iou, [2 / 3, np.nan, 0.0, np.nan])
    assert scores.miou == pytest.approx(1 / 3)
    assert np.isnan(scores.recall[2]) and scores.precision[2] == 0
    assert scores.class_accuracy == pytest.approx(2 / 3)
    assert scores.support.tolist() == [3, 0, 0, 0]
    lines = scores.table().splitlines()
    assert lines[2].split() == ["bicyclist", "–", "–", "–", "–", "0"]
    assert lines[3].split() == ["sky", "0.000", "0.000", "0.000", "–", "0"]
    assert len({len(line) for line in lines[:-1]}) == 1  # columns are aligned
    with pytest.raises(ValueError, match="found 1 class names for 4 classes"):
        counted([[0]], [[0]], 4).compute(("road",))
    # all void gives NaN, not an error
    scores = counted([[1, 1]], [[255, 255]]).compute()
    assert np.isnan([scores.miou, scores.pixel_accuracy, scores.frequency_weighted_iou]).all()
    assert "–" in scores.table() and scores.as_dict()["miou"] is None


@pytest.mark.parametrize("wild", [0, 1, 200, 255])
@pytest.mark.parametrize("void", [255, -100])
def test_ignored_pixels_do_not_count_whatever_was_predicted_there(wild, void):
    cm = counted([[0, 1, wild]], [[0, 1, void]], 2, ignore_index=void)
    assert cm.matrix.tolist() == [[1, 0], [0, 1]]
    # a class may be ignored, too
    assert counted([[0, 1, 1]], [[0, 1, 0]], 2, ignore_index=0).matrix.tolist() == [[0, 0], [0, 1]]


def test_logits_are_reduced_by_the_largest():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 6, 7, 8), torch.randint(0, 6, (2, 7, 8))
    by_loop = torch.zeros(2, 7, 8, dtype=torch.int64)
    for n, y, x in np.ndindex(2, 7, 8):
        by_loop[n, y, x] = max(range(6), key=lambda c: logits[n, c, y, x].item())
    expected = counted(by_loop, target, 6).matrix
    for form in (logits, logits.softmax(1), logits.to(torch.float64)):
        assert torch.equal(counted(form, target, 6).matrix, expected)
    single = [counted(logits[i], target[i], 6).matrix for i in (0, 1)]
    assert torch.equal(single[0] + single[1], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_every_integer_type_and_numpy(dtype):
    prediction, truth = labels(2)
    expected = counted(prediction, truth).matrix
    assert torch.equal(counted(prediction.to(dtype), truth.to(dtype)).matrix, expected)
    cm = ConfusionMatrix(5)
    cm.update(prediction.to(dtype).numpy(), truth.to(dtype).numpy())
    assert torch.equal(cm.matrix, expected)


def test_what_cannot_be_counted():
    for prediction, target, void, message in (  # (other mistakes are in test_bad_input.py)
        (0, 300, 255, "the target has label 300, but labels are 0 to 255"),
        (-1, 0, 255, "the prediction has label -1"),
        (0, 255, -100, "ignore_index is -100; pass ignore_index=255"),
        (0, 0.0, 255, "found a target of torch.float32, expected integer labels"),
    ):
        with pytest.raises(ValueError, match=message):
            counted([[prediction]], [[target]], 2, ignore_index=void)


def test_batches_merge_exactly_and_their_mean_is_not_that_of_the_split():
    prediction, truth = labels(3, shape=(7, 9, 11))
    whole, merged = counted(prediction, truth), ConfusionMatrix(5)
    for i in range(7):
        merged = merged + counted(prediction[i], truth[i])
    assert torch.equal(whole.matrix, merged.matrix)
    merged.matrix[0, 0] = 2**24  # counts beyond float32 stay exact
    merged.update(torch.tensor([[0]]), torch.tensor([[0]]))
    assert merged.matrix[0, 0] == 2**24 + 1
    # one image all right and small, one all wrong: the matrix weighs pixels, not images
    a, b = counted([[0, 1]], [[0, 1]], 2), counted([[1] * 4], [[0] * 4], 2)
    assert (a + b).compute().miou == pytest.approx((1 / 5 + 1 / 5) / 2)
    assert (a.compute().miou + b.compute().miou) / 2 == pytest.approx(0.5)


def test_means_that_rank_oppositely():
    """IoUs .9/.3 and .62/.55 give mIoU .600/.585 and mean Dice .704/.738."""
    one = Scores(np.array([[900, 0, 100], [0, 300, 700], [0, 0, 0]]))
    other = Scores(np.array([[620, 0, 380], [0, 550, 450], [0, 0, 0]]))
    found = [each[:2].mean() for scores in (one, other) for each in (scores.iou, scores.dice)]
    assert found == pytest.approx([0.6, 0.704, 0.585, 0.738], abs=1e-3)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4, 5)])
def test_nan_is_refused_wherever_it_is_and_infinity_is_a_number(shape):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator)
    target = torch.zeros(*shape[:-3], *shape[-2:], dtype=torch.int64)
    for place in range(0, logits.numel(), 7):
        broken = logits.clone()
        broken.view(-1)[place] = torch.nan
        with pytest.raises(ValueError, match="found NaN in the logits of 1 pixels"):
            ConfusionMatrix(3).update(broken, target)
    logits.select(-3, 0).fill_(-torch.inf)
    logits.select(-3, 2)[..., 0, 0] = torch.inf
    cm = ConfusionMatrix(3)
    cm.update(logits, target)
    assert cm.matrix[0].tolist() == np.bincount(logits.argmax(-3).flatten(), minlength=3).tolist()
