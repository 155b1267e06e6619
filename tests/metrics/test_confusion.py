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
    cm.update(prediction, target)
    return cm


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 30), void=st.floats(0, 0.9))
def test_matrix_equals_scikit_learns(seed, classes, void):
    prediction, truth = labels(seed, classes=classes, void=void)
    valid = truth != 255
    oracle = (
        confusion_matrix(truth[valid], prediction[valid], labels=range(classes))
        if valid.any()
        else np.zeros((classes, classes))
    )
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
    predictions = [
        [[1, 2], [3, 4], [5, 255]],
        [[2, 7], [9, 2], [3, 6]],
        [[2, 2, 3], [8, 2, 4], [3, 255, 2]],
    ]
    truths = [
        [[0, 3], [5, 4], [6, 255]],
        [[1, 7], [9, 2], [3, 6]],
        [[1, 2, 2], [8, 2, 1], [3, 255, 1]],
    ]
    cm = ConfusionMatrix(10)
    for prediction, truth in zip(predictions, truths, strict=True):
        cm.update(torch.tensor(prediction), torch.tensor(truth))
    scores = cm.compute()
    assert scores.miou == pytest.approx(0.47750, abs=1e-5)
    assert scores.class_accuracy == pytest.approx(0.59167, abs=1e-5)
    assert scores.pixel_accuracy == pytest.approx(0.52632, abs=1e-5)


def test_absent_and_only_predicted_classes():
    scores = counted(torch.tensor([[0, 0, 2]]), torch.tensor([[0, 0, 0]]), 4).compute()
    np.testing.assert_allclose(scores.iou, [2 / 3, np.nan, 0.0, np.nan])
    assert scores.miou == pytest.approx(1 / 3)
    assert np.isnan(scores.recall[2]) and scores.precision[2] == 0
    assert scores.class_accuracy == pytest.approx(2 / 3)
    assert scores.support.tolist() == [3, 0, 0, 0]


def test_all_void_gives_nan_not_an_error():
    scores = counted(torch.tensor([[1, 1]]), torch.tensor([[255, 255]])).compute()
    assert np.isnan(scores.miou) and np.isnan(scores.pixel_accuracy)
    assert np.isnan(scores.frequency_weighted_iou) and "–" in scores.table()


def test_ignored_pixels_do_not_count_whatever_was_predicted_there():
    truth = torch.tensor([[0, 1, 255]])
    for wild in (0, 1, 200, 255):
        assert counted(torch.tensor([[0, 1, wild]]), truth, 2).matrix.tolist() == [[1, 0], [0, 1]]


def test_ignore_index_may_be_pytorchs_or_a_class():
    cm = counted(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, -100]]), 2, ignore_index=-100)
    assert cm.matrix.tolist() == [[1, 0], [0, 1]]
    cm = counted(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 0]]), 2, ignore_index=0)
    assert cm.matrix.tolist() == [[0, 0], [0, 1]]


def test_logits_are_reduced_by_the_largest():
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 7, 8)
    target = torch.randint(0, 6, (2, 7, 8))
    by_loop = [
        [
            [max(range(6), key=lambda c: logits[n, c, y, x].item()) for x in range(8)]
            for y in range(7)
        ]
        for n in range(2)
    ]
    expected = counted(torch.tensor(by_loop), target, 6).matrix
    for form in (logits, logits.softmax(1), logits.to(torch.float64)):
        assert torch.equal(counted(form, target, 6).matrix, expected)
    assert torch.equal(
        counted(logits[0], target[0], 6).matrix + counted(logits[1], target[1], 6).matrix, expected
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_every_integer_type_and_numpy(dtype):
    prediction, truth = labels(2)
    expected = counted(prediction, truth).matrix
    assert torch.equal(counted(prediction.to(dtype), truth.to(dtype)).matrix, expected)
    assert torch.equal(counted(prediction.numpy(), truth.numpy()).matrix, expected)


def test_batches_merge_exactly():
    prediction, truth = labels(3, shape=(7, 9, 11))
    whole = counted(prediction, truth)
    merged = ConfusionMatrix(5)
    for i in range(7):
        merged = merged + counted(prediction[i], truth[i])
    assert torch.equal(whole.matrix, merged.matrix)
    assert whole.compute().miou == merged.compute().miou


def test_mean_over_the_split_is_not_the_mean_over_batches():
    # one image all right and small, one all wrong: the matrix weighs pixels, not images
    a = counted(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]), 2)
    b = counted(torch.tensor([[1, 1, 1, 1]]), torch.tensor([[0, 0, 0, 0]]), 2)
    assert (a + b).compute().miou == pytest.approx((1 / 5 + 1 / 5) / 2)
    assert (a.compute().miou + b.compute().miou) / 2 == pytest.approx(0.5)


def test_counts_beyond_float32_stay_exact():
    cm = ConfusionMatrix(2)
    cm.matrix[0, 0] = 2**24
    cm.update(torch.tensor([[0]]), torch.tensor([[0]]))
    assert cm.matrix[0, 0] == 2**24 + 1


def test_means_that_rank_oppositely():
    # from facts: IoUs .9/.3 and .62/.55 give mIoU .600/.585 and mean Dice .704/.738
    def pair(a, b):
        m = np.zeros((3, 3), np.int64)
        m[0, 0], m[0, 2] = round(a * 1000), 1000 - round(a * 1000)
        m[1, 1], m[1, 2] = round(b * 1000), 1000 - round(b * 1000)
        return Scores(m)

    first, second = pair(0.9, 0.3), pair(0.62, 0.55)
    assert first.iou[:2].mean() == pytest.approx(0.6) and second.iou[:2].mean() < 0.6
    assert first.dice[:2].mean() == pytest.approx(0.704, abs=1e-3)
    assert second.dice[:2].mean() == pytest.approx(0.738, abs=1e-3)


def test_the_table_names_the_classes_and_shows_absent_ones():
    cm = counted(torch.tensor([[0, 0, 1]]), torch.tensor([[0, 1, 1]]), 3)
    table = cm.compute(("road", "bicyclist", "sky")).table()
    assert table.splitlines()[2].split()[:2] == ["bicyclist", "0.500"]
    assert table.splitlines()[3].split()[1] == "–"
    assert "mean" in table and "pixel accuracy 0.667" in table
