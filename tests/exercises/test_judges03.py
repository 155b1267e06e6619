"""Lesson 3: figures in hints are those of the record and of `ask`; a loss without training."""

import re
from types import SimpleNamespace

import answers
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seglib.exercises import lesson03, material03
from seglib.exercises.kit import CORRECT, NOT_YET
from seglib.losses import CrossEntropyLoss, DiceLoss, LovaszSoftmaxLoss


def notebook_cell(words):
    return next(cell.source for _, cell, _ in answers.page("03").code if words in cell.source)


def test_the_loss_by_hand_is_the_librarys():
    logits = torch.tensor([[0, np.log(3)], [0, 0], [np.log(4), 0], [9, -9]]).T.reshape(1, 2, 2, 2)
    found = CrossEntropyLoss()(logits, torch.tensor([[[1, 0], [0, 255]]])).item()
    assert abs(found - lesson03.SUM / 3) < 1e-9 and abs(found - lesson03.by_hand.answer) < 1e-4


def by_loops(logits, target):
    p, valid, losses = F.softmax(logits.double(), dim=1), target.ne(255), []
    for c in target[valid].unique():
        g = target == c
        losses.append(1 - 2 * p[:, c][g].sum() / (p[:, c][valid].sum() + g.sum()))
    return sum(losses, 0 * logits.sum()) / max(1, len(losses))


@pytest.mark.parametrize(
    "loss", [by_loops, DiceLoss(), DiceLoss(smooth=1e-3)], ids=["loops", "ours", "smooth"]
)
def test_other_ways_to_soft_dice_are_right(loss):
    answers.accepted(lesson03.LESSON.exercises["soft_dice"], loss)


def test_the_figure_has_recall_and_precision_in_the_panels_of_the_runs(monkeypatch):
    rows = [{"step": i, "recall": 0.1 * i, "precision": (None, 0.8)[i > 2]} for i in (1, 2, 3)]
    runs = [{"arm": arm, "seed": 3, "watched": rows} for arm in material03.ARMS.values()]
    record = {"parts": {"lesions": {"settings": {}, "runs": runs}}}
    monkeypatch.setattr("seglib.course.records.read_record", lambda name: record)
    figure = lesson03.curves_figure()
    assert [axis.get_title() for axis in figure.axes] == list("ABCD")
    for axis in figure.axes:
        recall, precision = axis.get_lines()
        np.testing.assert_allclose(recall.get_ydata(), [0.1, 0.2, 0.3])
        np.testing.assert_array_equal(precision.get_ydata(), [np.nan, np.nan, 0.8])
    assert list(lesson03.RUNS.values()) != sorted(lesson03.RUNS.values())
    for run, letter in lesson03.RUNS.items():
        loss, share = run.rsplit(", ", 1)
        assert material03.ARMS[letter].startswith(f"lesions of {share}, ")
        assert loss.split()[0] in material03.ARMS[letter]


@pytest.mark.parametrize(
    ("runs", "fragment"),
    [
        (((0, 0, np.nan), (0, 0, np.nan)), "No lesion is found yet"),
        (((0.4, 0.5, 0.6), (0, 0, np.nan)), "One seed finds lesions"),
        (((0.2, 0.95, 0.2), (0.2, 0.9, 0.2)), "many false alarms"),
        (((0.2, 0.3, 0.9), (0.2, 0.3, 0.8)), "Let missed pixels cost more"),
        (((0.3, 0.5, 0.5), (0.3, 0.5, 0.5)), "are balanced"),
        (((0.9, 0.95, 0.9), (0.8, 0.9, 0.8)), "lesion IoU 0.850 on 30 hidden scans (0.90 and"),
    ],
)
def test_a_trained_loss_hears_its_scores_and_what_its_balance_says(monkeypatch, runs, fragment):
    scores = (SimpleNamespace(iou=[1, a], recall=[1, b], precision=[1, c]) for a, b, c in runs)
    monkeypatch.setattr(lesson03, "scores_after_training", lambda build, seed: next(scores))
    found = lesson03.own_loss.judged(lesson03.build_loss)
    assert found.state == (CORRECT if runs[0][0] > 0.7 else NOT_YET)
    assert fragment in found.message and "the bar is 0.7" in found.message
    assert "recall" in found.message and "nan" not in found.message


def test_plain_functions_can_be_losses_and_slices_cannot_be_spoilt():
    loss, lr = lesson03.loss_and_rate(lambda data: (F.cross_entropy, 1e-3))
    assert isinstance(loss, torch.nn.Module) and lr == 1e-3
    train, hidden = lesson03.slices()
    assert not set(train.seeds) & set(hidden.seeds)
    image, mask = train.read(1)
    assert 0.005 < (mask == lesson03.LESION).mean() < 0.015
    mask[:] = 7
    assert train.read(1)[1].max() < 7 and np.array_equal(image, train.read(1)[0])


SHOWN_BY = {  # lines of `ask`, and whether their figures show the fault
    1: (("unsure", "unsure, image 2 void"), lambda a, b: b < 0.9 * a),
    2: (("right, image 2 void", "image 2 void, predicted as class 0"), lambda a, b: b < a - 0.1),
    4: (("right",), lambda a: a > 0.3),
    5: (("all void",), np.isnan),
    6: (("unsure, 360×480, float32", "unsure, 360×480, float16"), lambda a, b: not b < 9),
}


@pytest.fixture
def asked(capsys):
    """What `ask` says of a loss: {line: figure}, and whether the target changes."""

    def figures(loss):
        capsys.readouterr()
        lesson03.ask(loss)
        told = capsys.readouterr().out
        lines = re.findall(r"^(.+?) +(-?\d+\.\d\d|nan|inf)", told, re.MULTILINE)
        assert len(lines) == 8
        return {name: value.lstrip("-") for name, value in lines}, "has changed" in told

    return figures


def faults_of(found, changed):
    shown = {
        fault: bool(shows(*(float(found[line]) for line in lines)))
        for fault, (lines, shows) in SHOWN_BY.items()
    }
    return [fault for fault, shows in sorted((shown | {3: changed}).items()) if shows]


@pytest.mark.parametrize(("place", "letter"), list(enumerate("abcd")))
def test_each_loss_has_its_fault_alone_and_the_hints_quote_what_ask_prints(asked, place, letter):
    exec(notebook_cell("def loss_a"), space := {"torch": torch, "F": F})
    found, changed = asked(space[f"loss_{letter}"])
    assert faults_of(found, changed) == [lesson03.FAULTY[letter]]
    quoted = {fault: row[place] for fault, row in lesson03.FOUND.items()}
    assert quoted.pop(3) == ("changed" if changed else "unchanged")
    assert quoted == {n: " ".join(found[x] for x in lines) for n, (lines, _) in SHOWN_BY.items()}


def test_sound_losses_have_none_and_the_unused_faults_would_show(asked):
    for loss in (CrossEntropyLoss(), DiceLoss(), LovaszSoftmaxLoss()):
        assert faults_of(*asked(loss)) == []
    assert 5 in faults_of(*asked(lambda x, y: F.cross_entropy(x.float(), y, ignore_index=255)))
    assert 6 in faults_of(*asked(lambda x, y: x.softmax(1).sum() / y.numel()))


def test_the_notebook_lists_these_faults():
    prose = "\n".join(cell.source for _, cell, _ in answers.page("03").prose)
    assert all(f"{fault}. {text}" in prose for fault, text in lesson03.FAULTS.items())
