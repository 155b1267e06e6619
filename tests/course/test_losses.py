"""What lesson 3 trains on and draws belongs to its record."""

import numpy as np
import pytest
import torch
from torch import nn

from seglib.course import losses
from seglib.course.records import paired_difference, read_record, values
from seglib.losses import CrossEntropyLoss


def test_slices_scores_and_figures():
    data = losses.slices(0.3, "test")
    assert all(10 <= (data.read(i)[1] == 1).sum() <= 14 for i in range(len(data)))
    torch.manual_seed(0)
    said = losses.found(nn.Conv2d(3, 3, 1), data)
    assert 0 <= said["recall"] <= 1 and said["chance"].shape == (40, 64, 64)
    steps, rows = losses.recorded("race", "lesions of 0.3 %, Dice", "recall")
    assert steps == [40, 80, 120, 160, 200, 240] and rows.shape == (20, 6)
    assert losses.half_found("race", "lesions of 0.3 %, Dice")[:2] == ["120", "200"]
    figure = losses.draw_race({"a": [said] * 2, "b": [said] * 2}, data, steps=40)
    assert len(figure.axes) == 7 and len(losses.streets_figure().axes) == 3
    drawn = losses.gradient_figure({str(n): nn.CrossEntropyLoss() for n in range(6)}).axes[2]
    assert "upward" in drawn.get_title()


def test_thresholds_and_what_the_seeds_say():
    data = losses.slices(0.3, "dev")
    lesion = torch.stack([torch.from_numpy(data.read(i)[1]) == 1 for i in range(len(data))])
    left, right = losses.draw_threshold(lesion.float(), lesion, data, 0.2).axes
    assert all(set(line.get_ydata()) == {1.0} for line in left.get_lines()[:3])
    assert right.get_title() == "threshold 0.20: IoU 1.00"
    assert losses.draw_threshold(0 * lesion.float(), lesion, data, 0.2).axes
    ends, tuned = (read("cross-entropy", "iou") for read in (losses.race_ends, losses.race_tuned))
    assert len(ends) == len(tuned) == 20 and np.mean(list(ends.values())) < 0.1
    assert losses.over_seeds(ends) == "0.070 (0 in 16 of 20 seeds, at most 0.60)"
    assert losses.over_seeds({0: 0.0, 1: 1.0}).startswith("0.500 [")
    late = losses.late_means("lesions of 0.1 %, cross-entropy")
    assert len(late["recall"]) == 5 and sorted(late["precision"]) == [2, 3]
    arms = {"one": ("lesions", "lesions of 1 %, Dice"), "two": ("lesions", "lesions of 4 %, Dice")}
    assert [axis.get_title() for axis in losses.draw_starts(arms).axes] == ["one", "two"]


def test_a_live_race_is_where_the_record_expects_it(capsys):
    blind = {"recall": 0.0, "on lesions": 0.05, "elsewhere": 0.001}
    curves = {"cross-entropy": [blind] * 6, "Dice": [blind | {"recall": 0.7}] * 6}
    losses.assert_as_recorded("recall", curves)
    losses.assert_as_recorded("ratio", curves)
    *recalls, ratio = capsys.readouterr().out.splitlines()
    assert recalls[1].endswith("recall at step 240, 20 recorded runs: 0.46 to 0.84, mean 0.74")
    assert ratio.endswith("ratio at step 240, 20 recorded runs: 12 to 174")
    losses.assert_as_recorded("recall", {"Dice": [blind] * 25})  # of another length
    for key, name in (("recall", "Dice"), ("ratio", "cross-entropy")):
        with pytest.raises(AssertionError, match=key):
            losses.assert_as_recorded(key, {name: [blind | {"on lesions": 0.001}] * 6})


def test_records_in_print(capsys):
    minus = [("Dice", "cross-entropy")]
    losses.print_races("Dice", minus=minus)
    losses.print_races("cross-entropy", minus=minus, tuned=True)
    losses.print_late("lesions of 0.1 %, cross-entropy")
    told = capsys.readouterr().out.splitlines()
    assert told[0] == told[3] == "IoU of the lesion on test, 20 recorded runs"
    assert told[1] == "Dice: argmax 0.609 [0.578, 0.640]"
    assert told[2].startswith("(Dice) − (cross-entropy): 0.539 [")
    assert told[4].endswith("at most 0.60); threshold chosen on dev 0.385 [0.288, 0.482]")
    assert told[5] == "(Dice) − (cross-entropy), both with thresholds: 0.224 [0.131, 0.317]"
    assert told[6].startswith("cross-entropy: recall 0.044 (0 in 3 of 5 seeds, at most 0.17), mean")
    assert told[6].endswith(" precision 0.89 (2 of 5 seeds call any pixel lesion)")


def test_a_loss_and_a_rate_are_tried_on_dev():
    told = losses.dev_iou(CrossEntropyLoss(), 0.005, seeds=(0,), epochs=1)
    assert told == "CrossEntropyLoss, learning rate 0.005: lesion IoU on dev 0.00"


def test_what_the_deep_dive_says_of_nine_losses_on_streets():
    record, base = read_record("03_losses"), "cross-entropy"

    def on_test(arm, read):
        return values(record, "streets", arm, lambda run: read(run["test"]))

    def rare(test):
        return [test["recall"][name] for name in losses.RARE]

    for arm, shown in (("Dice", True), ("focal", False), (f"{base}, median weights", False)):
        gap = paired_difference(*(on_test(loss, lambda test: test["miou"]) for loss in (arm, base)))
        assert (gap.low > 0) == shown and gap.high > 0
    assert max(on_test(base, lambda test: max(rare(test))).values()) < 0.002
    assert 0.45 < np.mean(list(on_test(f"{base}, median weights", rare).values())) < 0.47
    assert np.mean(list(on_test("focal", rare).values())) < 0.01
    for loss in (f"{base} + Dice", f"{base} + Lovász"):
        assert np.mean(list(on_test(loss, lambda test: max(rare(test))).values())) < 0.02
        for name in ("Pavement", "Tree"):
            two = (on_test(one, lambda test, name=name: test["iou"][name]) for one in (loss, base))
            assert paired_difference(*two).value > 0.05
