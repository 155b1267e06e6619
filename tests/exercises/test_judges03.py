"""Lesson 3: mistakes are told apart, the figure of curves, and a loss judged without training."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seglib.exercises import curves03, dice03, judges03, lesson03, ownloss03, solutions03
from seglib.exercises.kit import NOT_YET, NotYet
from seglib.losses import CrossEntropyLoss, DiceLoss

# ---------------------------------------------------------------- by hand, and soft Dice


def test_the_loss_by_hand_is_the_librarys():
    logits = torch.tensor([[0, np.log(3)], [0, 0], [np.log(4), 0], [9, -9]]).T.reshape(1, 2, 2, 2)
    found = CrossEntropyLoss()(logits.float(), torch.tensor([[[1, 0], [0, 255]]])).item()
    assert abs(found - judges03._by_hand()[0]) < 1e-6
    assert abs(found - lesson03.by_hand.answer) < 1e-4


def test_mistakes_by_hand_are_too_far_apart_to_be_mixed_up():
    right, mistakes = judges03._by_hand()
    values = sorted([right, *(value for value, _ in mistakes)])
    assert min(np.diff(values)) > 2 * 0.006


def test_the_oracle_of_dice_agrees_with_the_library():
    for trial in dice03.trials():
        expected = DiceLoss()(trial.logits, trial.target).item()
        assert abs(dice03.value(trial.logits.numpy(), trial.target.numpy()) - expected) < 1e-6


def test_mistakes_of_dice_change_the_value_and_are_told_apart():
    for trial in dice03.trials():
        data = trial.logits.numpy(), trial.target.numpy()
        values = [dice03.value(*data, **mistake.how) for mistake in trial.mistakes]
        for one, other in itertools.combinations([dice03.value(*data), *values], 2):
            assert abs(one - other) > 5 * dice03.CLOSE, trial.given


def test_a_small_number_in_the_denominator_is_no_mistake():
    def dice(logits, target):
        return DiceLoss(smooth=1e-5)(logits, target)

    assert "agree" in dice03.soft_dice(dice)


# ---------------------------------------------------------------- curves


def made_up_record():
    rows = [
        {"step": 40 * i, "recall": 0.1 * i, "precision": None if i < 3 else 0.8}
        for i in range(1, 6)
    ]
    runs = [
        {"arm": arm, "seed": seed, "watched": rows}
        for arm in curves03.ARMS.values()
        for seed in (curves03.SEED, 0)
    ]
    return {"parts": {"lesions": {"settings": {}, "runs": runs}}}


def test_the_figure_has_recall_and_precision_in_four_panels(monkeypatch):
    monkeypatch.setattr("seglib.course.records.read_record", lambda name: made_up_record())
    figure = lesson03.curves_figure()
    assert [axis.get_title() for axis in figure.axes] == list("ABCD")
    for axis in figure.axes:
        recall, precision = axis.get_lines()
        assert (recall.get_color(), recall.get_linestyle()) == ("#0072b2", "-")
        assert (precision.get_color(), precision.get_linestyle()) == ("#d55e00", "--")
        np.testing.assert_allclose(recall.get_ydata(), [0.1, 0.2, 0.3, 0.4, 0.5])
        np.testing.assert_array_equal(precision.get_ydata(), [np.nan, np.nan, 0.8, 0.8, 0.8])


def test_letters_are_not_in_the_order_of_the_runs():
    letters = list(curves03.RUNS.values())
    assert sorted(letters) == list("ABCD") != letters
    assert set(curves03.SEEN) == set(curves03.ARMS) and set(curves03.ASK) == set(curves03.RUNS)
    for run, letter in curves03.RUNS.items():
        share = run.rsplit(", ", 1)[1]
        assert curves03.ARMS[letter].startswith(f"lesions of {share}, ")
        assert run.split(",")[0].split()[0] in curves03.ARMS[letter]


# ---------------------------------------------------------------- a loss of one's own


def trained(*runs):
    """In place of training: lesion IoU, recall and precision of each seed."""
    scores = iter(
        [SimpleNamespace(iou=[1, a], recall=[1, b], precision=[1, c]) for a, b, c in runs]
    )
    return lambda build, seed: next(scores)


@pytest.mark.parametrize(
    ("runs", "fragment"),
    [
        (((0, 0, np.nan), (0, 0, np.nan)), "has not started on them"),
        (((0.4, 0.5, 0.6), (0, 0, np.nan)), "One seed has started"),
        (((0.2, 0.95, 0.2), (0.2, 0.9, 0.2)), "false alarms pay"),
        (((0.2, 0.3, 0.9), (0.2, 0.3, 0.8)), "Let missed pixels cost more"),
        (((0.3, 0.5, 0.5), (0.3, 0.5, 0.5)), "are in balance"),
    ],
)
def test_a_loss_below_the_bar_hears_what_its_balance_says(runs, fragment):
    with pytest.raises(NotYet) as reason:
        ownloss03.own_loss(solutions03.build_loss, trained(*runs))
    text = str(reason.value)
    assert fragment in text and "recall" in text and f"the bar is {ownloss03.BAR}" in text
    assert "nan" not in text and len(text) <= 700


def test_a_loss_above_the_bar_is_told_its_scores():
    found = ownloss03.own_loss(solutions03.build_loss, trained((0.9, 0.95, 0.9), (0.8, 0.9, 0.8)))
    assert "lesion IoU 0.850" in found and "0.90 and 0.80 with two seeds" in found


def test_plain_functions_and_modules_can_be_losses():
    train, hidden = ownloss03.slices()
    plain = torch.nn.functional.cross_entropy
    loss, lr = ownloss03.checked(lambda data: (plain, 1e-3), train)
    assert isinstance(loss, torch.nn.Module) and lr == 1e-3
    assert ownloss03.checked(solutions03.build_loss, train)[1] == 5e-3
    assert not set(train.seeds) & set(hidden.seeds)


def test_slices_are_rendered_once_and_cannot_be_spoilt():
    data = ownloss03.Slices(range(3), None)
    image, mask = data.read(1)
    again = data.read(1)
    assert image is not again[0] and np.array_equal(image, again[0])
    mask[:] = 7
    assert data.read(1)[1].max() < 7 and list(data.kept) == [1]
    assert 0.005 < (data.read(2)[1] == ownloss03.LESION).mean() < 0.015


def test_an_error_in_training_is_told(monkeypatch):
    def stumbles(logits, target):
        return logits.mean() if logits.shape[2] == 8 else logits[:, 9].mean()

    found = lesson03.own_loss.judged(lambda data: (stumbles, 1e-3))
    assert found.state == NOT_YET and "training with your loss raised IndexError" in found.message
