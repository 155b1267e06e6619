"""Per-image counts and bootstrap intervals over groups."""

import itertools

import numpy as np
import pytest
import torch

from seglib.metrics import ConfusionMatrix, Scores
from seglib.training import evaluate


def maps(seed, images=6, size=(5, 7), classes=3, right=0.6):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (images, *size))
    noise = rng.integers(0, classes, truth.shape)
    prediction = np.where(rng.random(truth.shape) < right, truth, noise)
    truth[rng.random(truth.shape) < 0.1] = 255
    return prediction, truth


def counted(prediction, truth, per_image=True):
    cm = ConfusionMatrix(3, per_image=per_image)
    cm.update(prediction, truth)
    return cm


def random_logits(seed):
    return torch.randn(6, 3, 5, 7, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", [maps(0)[0], random_logits(0)])
def test_images_are_kept_apart_and_add_up(prediction):
    _, truth = maps(0)
    together = counted(prediction, truth)
    assert torch.equal(together.matrix, counted(prediction, truth, per_image=False).matrix)
    one_by_one = ConfusionMatrix(3, per_image=True)
    for p, t in zip(prediction, truth, strict=True):
        one_by_one.update(p, t)  # (H, W) is one image
    assert torch.equal(torch.stack(one_by_one.images), torch.stack(together.images))
    alone = [counted(p, t, per_image=False) for p, t in zip(prediction, truth, strict=True)]
    assert torch.equal(torch.stack([cm.matrix for cm in alone]), torch.stack(together.images))
    assert [s.miou for s in together.compute().per_image()] == [cm.compute().miou for cm in alone]


def test_sums_of_matrices_join_their_images_and_groups_keep_theirs():
    prediction, truth = maps(2)
    a, b = (counted(prediction[i], truth[i]) for i in (slice(2), slice(2, 6)))
    whole = counted(prediction, truth)
    assert torch.equal(torch.stack((a + b).images), torch.stack(whole.images))
    with pytest.raises(ValueError, match="only equal ones add"):
        a + counted(prediction, truth, per_image=False)
    found = whole.compute(("a", "b", "c")).by_group(["y", "x", "y"] * 2)
    assert list(found) == ["y", "x"] and found["x"].classes == ("a", "b", "c")
    for name, places in (("x", [1, 4]), ("y", [0, 2, 3, 5])):
        alone = counted(prediction[places], truth[places]).compute()
        np.testing.assert_array_equal(found[name].matrix, alone.matrix)


def test_an_interval_is_that_of_all_draws():
    """Three groups have 27 draws; the percentiles of their scores are known exactly."""
    groups = ["a", "a", "b", "c", "c", "c"]
    scores = counted(*maps(3)).compute()
    sums = [scores.images[:2].sum(0), scores.images[2], scores.images[3:].sum(0)]
    exact = [Scores(sum(draw)).miou for draw in itertools.product(sums, repeat=3)]
    found = scores.interval(groups=groups, draws=20_000)
    # each draw has a chance of 1/27 = 3.7 %, so the least and the greatest are the ends
    assert found == pytest.approx((scores.miou, min(exact), max(exact), 3))
    assert scores.interval(groups=groups, draws=20_000) == found  # seeded


def test_an_interval_covers_as_often_as_it_says():
    """The pixel accuracy of 40 independent images: about 95 % of the intervals hold 0.7."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        right = rng.binomial(50, 0.7, 40)
        images = np.array([[[r, 50 - r], [0, 0]] for r in right])
        scores = Scores(images.sum(0), images=images)
        found = scores.interval("pixel_accuracy", draws=400, seed=int(rng.integers(1 << 30)))
        hits += found.low <= 0.7 <= found.high
    assert 0.90 <= hits / 200 <= 0.98


def test_neighbouring_frames_are_no_independent_witnesses():
    """Every image ten times over: by frame the interval shrinks, by group it stays."""
    prediction, truth = maps(4, images=8)
    alone = counted(prediction, truth).compute().interval()
    often = counted(prediction.repeat(10, 0), truth.repeat(10, 0)).compute()
    by_group, by_frame = often.interval(groups=np.arange(8).repeat(10)), often.interval()
    assert by_group[1:3] == pytest.approx(alone[1:3], abs=1e-9)
    assert by_frame.high - by_frame.low < 0.5 * (by_group.high - by_group.low)
    for per_image, groups, message in (
        (False, None, "per_image=True"),
        (True, ["a", "b"], "2 groups for 8 images"),
        (True, ["a"] * 8, "one group only"),
    ):
        with pytest.raises(ValueError, match=message):
            counted(prediction, truth, per_image).compute().interval(groups=groups)


def test_evaluate_keeps_images_apart_and_all_reduce_alone_is_a_copy():
    copying = torch.nn.Conv2d(3, 3, 1, bias=False)
    torch.nn.init.dirac_(copying.weight)
    logits, truth = random_logits(1), torch.from_numpy(maps(9)[1])
    batches = [(logits[i], truth[i]) for i in (slice(0, 4), slice(4, 6))]
    scores = evaluate(copying, batches, per_image=True)
    np.testing.assert_array_equal(scores.images, counted(logits, truth).compute().images)
    assert evaluate(copying, batches).images is None
    cm = counted(*maps(7))
    total = cm.all_reduce()
    assert torch.equal(total.matrix, cm.matrix) and len(total.images) == 6
    total.update(*maps(8))
    assert len(cm.images) == 6 and not torch.equal(total.matrix, cm.matrix)
