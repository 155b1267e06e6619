"""What lesson 3 trains on and draws belongs to its record."""

import numpy as np
import torch
from torch import nn

from seglib.course import losses
from seglib.course.records import paired_difference, read_record, values


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
    recall, precision = (line.get_ydata() for line in left.get_lines()[:2])
    assert set(recall) == set(precision) == {1.0} and len(right.images) == 1
    assert losses.draw_threshold(0 * lesion.float(), lesion, data, 0.2).axes
    ends, tuned = (read("cross-entropy", "iou") for read in (losses.race_ends, losses.race_tuned))
    assert len(ends) == len(tuned) == 20 and np.mean(list(ends.values())) < 0.1
    assert losses.over_seeds(ends) == "0.070 (0 in 16 of 20 seeds, at most 0.60)"
    assert losses.over_seeds({0: 0.0, 1: 1.0}).startswith("0.500 [")
    late = losses.late_means("lesions of 0.1 %, cross-entropy")
    assert len(late["recall"]) == 5 and sorted(late["precision"]) == [2, 3]
    arms = {"one": ("lesions", "lesions of 1 %, Dice"), "two": ("lesions", "lesions of 4 %, Dice")}
    assert [axis.get_title() for axis in losses.draw_starts(arms).axes] == ["one", "two"]


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
