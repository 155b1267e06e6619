"""The stored comparison belongs to our losses, our mean IoU and the questions that are asked.

Our own column is measured anew here; those of others where the extra "bench" is installed.
"""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from seglib.metrics import ConfusionMatrix

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks" / "parity"))

import metric_peers
import metric_properties
import peers
import properties
import table


@pytest.fixture(scope="module")
def record():
    return json.loads(table.RECORD.read_text(encoding="utf-8"))


def bad(record, library):
    """What of a library fails: (loss, property, precision)."""
    return [path for path, said in table.leaves(record["found"][library]).items() if said]


def test_our_column_is_what_comes_out_and_shows_no_failure(record):
    assert table.answers("seglib") == record["found"]["seglib"] and not bad(record, "seglib")
    assert table.ratio("seglib") == record["focal without focus / cross-entropy"]["seglib"] == 1
    metric = record["metrics"]["found"]["seglib"]
    assert table.metric_answers(metric_peers.ours) == metric and not any(metric.values())


def test_every_question_was_asked_of_everyone(record):
    assert set(record["found"]) == set(peers.LOSSES)
    assert set(record["focal without focus / cross-entropy"]) == set(peers.WITHOUT_FOCUS)
    for kinds in record["found"].values():
        for asked in kinds.values():
            assert list(asked) == list(properties.PROPERTIES)
            assert all(list(said) == list(properties.PRECISIONS) for said in asked.values())
    sound = {library for library in record["found"] if not bad(record, library)}
    assert sound == {"seglib", "MONAI"}
    metrics = record["metrics"]
    for asked in metrics["found"].values():
        assert list(asked) == list(metric_properties.PROPERTIES)
    for values in metrics["values"].values():
        assert set(values) == set(metrics["found"]) | {"scikit-learn jaccard_score, pooled"}
    assert list(metrics["values"]) == list(table.SCORED)
    assert set(metrics["void"]) == set(metrics["found"]) - {"seglib"}
    told = table.leaves(record["found"])  # the words are those of the code
    assert record["otherwise"] == table.OTHERWISE
    assert set(record["otherwise"]) <= {" ".join(path[:2]) for path in told}
    for name in ("otherwise", "void", "not measured"):
        assert metrics[name] == getattr(metric_peers, name.upper().replace(" ", "_"))


@pytest.mark.slow
@pytest.mark.skipif(not peers.installed(table.PACKAGES), reason="the extra bench is not installed")
def test_the_record_is_what_comes_out(record):
    versions = peers.versions(table.PACKAGES)
    if versions != {**record["versions"], **record["metrics"]["versions"]}:
        pytest.skip(f"here are {versions}; table.py --check compares")
    assert table.differences(record, table.measure()) == []


def test_a_check_tells_every_difference(record, monkeypatch, capsys):
    now, installed = copy.deepcopy(record), [True]
    monkeypatch.setattr(peers, "installed", lambda packages: installed[0])
    monkeypatch.setattr(table, "measure", lambda: now)
    (kind, name, precision), values = bad(record, "kornia")[0], now["metrics"]["values"]
    assert table.main(["--check"]) == 0 and "is what comes out" in capsys.readouterr().out
    now["found"]["kornia"][kind][name][precision] = ""
    del now["found"]["smp"]["Dice"]["a perfect prediction costs 0"]
    now["focal without focus / cross-entropy"]["MONAI"], now["versions"]["smp"] = 0.3, "9.9"
    values["three classes"]["smp macro"] += 1e-3
    assert table.main(["--check"]) == 1
    said = capsys.readouterr().out
    parts = [f"kornia, {kind}, {name}, {precision}: ", "smp, Dice, a perfect prediction costs 0, f"]
    parts += ["MONAI: the record says 0.25, now it is 0.3", "three classes, smp macro: ", "'9.9'"]
    assert [part for part in parts if part not in said] == []
    installed[0] = False
    assert table.main(["--check"]) == 1 and "the extra" in capsys.readouterr().err


def scores(batches, classes):
    matrix = ConfusionMatrix(classes, per_image=True)
    for labels, truth in batches:
        matrix.update(labels, truth)
    return matrix.compute()


def void_as_a_class(batches, classes):
    told = [(labels, torch.where(truth == 255, classes, truth)) for labels, truth in batches]
    return scores(told, classes + 1).miou


def erases_void(batches, classes):
    value = scores(batches, classes).miou
    for _, truth in batches:
        truth[truth == 255] = 0
    return value


def mean_over_batches(batches, classes):
    return float(np.mean([scores([batch], classes).miou for batch in batches]))


WRONG_METRICS = {  # of kinds that no library has
    "batches do not matter": mean_over_batches,
    "predictions at void count nowhere": void_as_a_class,
    "the target is left alone": erases_void,
}


@pytest.mark.parametrize("name", metric_properties.PROPERTIES)
def test_every_property_of_a_mean_iou_catches_a_wrong_one(record, name):
    if name in WRONG_METRICS:
        assert metric_properties.ask(name, WRONG_METRICS[name])
    else:
        assert any(answers[name] for answers in record["metrics"]["found"].values())
    if "refused" not in name:  # (else an error is an answer, too)
        said = metric_properties.ask(name, lambda batches, classes: batches.x)
        assert said.startswith("AttributeError: ")


def test_who_defines_it_as_we_do_differs_from_us_in_no_value(record):
    """Who has no entry in `otherwise` may fail to refuse a label, and nothing else."""
    metrics = record["metrics"]
    defined = set(metric_properties.PROPERTIES) - {"a prediction out of range is refused"}
    differs = {name for name, asked in metrics["found"].items() if any(asked[p] for p in defined)}
    assert differs == set(metrics["otherwise"])
    for values in metrics["values"].values():
        for name in set(values) - differs:
            assert values[name] == values["seglib"], name


@pytest.mark.parametrize("title", table.SCORED)
def test_the_values_are_what_the_definitions_say(record, title):
    """Every value of the record, anew from our counts, by the definition named in `otherwise`."""
    found = scores(*(part() if callable(part) else part for part in table.SCORED[title]))
    images = np.stack([image.iou for image in found.per_image()])
    support = np.stack([image.support for image in found.per_image()])
    in_truth = np.where(support > 0, images, np.nan)
    hits = np.diag(found.matrix).sum()
    absent_1 = np.nan_to_num(images, nan=1).mean()
    expected = {
        "torchmetrics MeanIoU": np.nanmean(images),
        "smp macro": np.nan_to_num(found.iou, nan=1).mean(),
        "smp micro": hits / (2 * found.matrix.sum() - hits),
        "smp macro-imagewise": absent_1,
        "MONAI MeanIoU": np.nanmean(in_truth, axis=1).mean(),
        "MONAI MeanIoU, ignore_empty=False": absent_1,
        "kornia mean_iou, averaged": absent_1,
    }
    values = record["metrics"]["values"][title]
    assert set(expected) == set(record["metrics"]["otherwise"])
    for name, value in values.items():
        assert value == pytest.approx(expected.get(name, found.miou), abs=6e-5), name
