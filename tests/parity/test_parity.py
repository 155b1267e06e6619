"""Our losses and our mean IoU hold every property; the stored comparison is what comes out.

`python tests/parity/table.py` measures the comparison anew.
"""

from __future__ import annotations

import json

import metric_peers
import metric_properties
import numpy as np
import peers
import properties
import pytest
import table
import torch

from seglib import losses
from seglib.metrics import ConfusionMatrix, Scores

OURS = {"cross-entropy": losses.CrossEntropyLoss(), "focal": losses.FocalLoss(),
        "Dice": losses.DiceLoss(), "Tversky": losses.TverskyLoss(),
        "Lovász": losses.LovaszSoftmaxLoss(), "combined": losses.CombinedLoss()}   # fmt: skip


@pytest.fixture(scope="module")
def record():
    return json.loads(table.RECORD.read_text(encoding="utf-8"))


@pytest.mark.parametrize("precision", properties.PRECISIONS)
@pytest.mark.parametrize("name", properties.PROPERTIES)
@pytest.mark.parametrize("kind", OURS)
def test_ours_hold_every_property(kind, name, precision):
    assert properties.ask(name, OURS[kind], precision) == ""


WRONG = {
    "counts void": lambda x, t: x.log_softmax(1)[:, 0].mean(),
    "nan": lambda x, t: (x * float("nan")).sum(),
    "raises": lambda x, t: x.no_such_thing,
    "spoils the target": lambda x, t: x.sum() * 0 + t.fill_(0).sum(),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_loss_does_not_pass(kind):
    found = {name: properties.ask(name, WRONG[kind], "float32") for name in properties.PROPERTIES}
    assert any(found.values())
    if kind == "spoils the target":
        assert found["the target is left alone"] == "target is modified"


def test_the_record_shows_no_failure_of_ours_and_some_of_each_peer(record):
    assert not any(table.failures(record, "seglib", kind) for kind in record["found"]["seglib"])
    for library in set(record["found"]) - {"seglib"}:
        assert any(table.failures(record, library, kind) for kind in record["found"][library])
    assert record["focal without focus / cross-entropy"]["seglib"] == 1
    told = {f"{library} {kind}" for library in record["found"] for kind in record["found"][library]}
    assert set(record["otherwise"]) <= told


@pytest.mark.slow
@pytest.mark.skipif(not peers.installed(), reason="the extra bench is not installed")
def test_the_record_is_what_comes_out(record):
    now = table.measure()
    if now["versions"] != record["versions"]:
        pytest.skip(f"measured with {record['versions']}; python tests/parity/table.py renews it")
    for library, kinds in record["found"].items():
        for kind, asked in kinds.items():
            for name, answers in asked.items():
                held = {precision: not said for precision, said in answers.items()}
                assert {precision: not said for precision, said in
                        now["found"][library][kind][name].items()} == held, (library, kind, name)
    assert now["focal without focus / cross-entropy"] == pytest.approx(
        record["focal without focus / cross-entropy"], abs=0.002)


@pytest.mark.parametrize("name", metric_properties.PROPERTIES)
def test_our_mean_iou_holds_every_property(name):
    assert metric_properties.ask(name, metric_peers.ours) == ""


def scores(batches, classes: int) -> Scores:
    matrix = ConfusionMatrix(classes, per_image=True)
    for labels, truth in batches:
        matrix.update(labels, truth)
    return matrix.compute()


def per_batch(batches, classes):
    return float(np.mean([scores([batch], classes).miou for batch in batches]))


def per_image(batches, classes):
    return float(np.nanmean([image.miou for image in scores(batches, classes).per_image()]))


def nothing_valid_is_0(batches, classes):
    images = scores(batches, classes).per_image()
    return float(np.mean(np.nan_to_num([image.miou for image in images])))


def void_as_a_class(batches, classes):
    told = [(labels, torch.where(truth == 255, classes, truth)) for labels, truth in batches]
    return scores(told, classes + 1).miou


def absent_as_1(batches, classes):
    return float(np.nan_to_num(scores(batches, classes).iou, nan=1).mean())


def only_the_truths_classes(batches, classes):
    found = scores(batches, classes)
    return float(found.iou[found.support > 0].mean())


def clamps(batches, classes):
    return scores([(p.clamp(max=classes - 1), truth) for p, truth in batches], classes).miou


def erases_void(batches, classes):
    value = scores(batches, classes).miou
    for _, truth in batches:
        truth[truth == 255] = 0
    return value


WRONG_METRICS = [
    (per_image, "equals scikit-learn on the pooled valid pixels"),
    (per_batch, "batches do not matter"),
    (void_as_a_class, "predictions at void count nowhere"),
    (absent_as_1, "a further class that nobody has changes nothing"),
    (only_the_truths_classes, "a class that is only predicted counts as 0"),
    (clamps, "a prediction out of range is refused"),
    (erases_void, "the target is left alone"),
    (nothing_valid_is_0, "an all-void image changes nothing"),
]


@pytest.mark.parametrize(("metric", "name"), WRONG_METRICS)
def test_a_wrong_mean_iou_does_not_pass(metric, name):
    assert metric_properties.ask(name, metric)


def test_every_property_of_a_mean_iou_catches_a_wrong_one():
    assert [name for _, name in WRONG_METRICS] == list(metric_properties.PROPERTIES)
    said = metric_properties.ask("the target is left alone", lambda batches, classes: batches.x)
    assert said.startswith("AttributeError: ")


def test_the_record_of_the_metrics_is_whole(record):
    metrics = record["metrics"]
    assert set(metrics) == {"versions", "found", "values", "otherwise", "void", "not measured"}
    assert list(metrics["versions"]) == list(metric_peers.PACKAGES)
    assert list(metrics["values"]) == list(table.TOYS)
    for asked in metrics["found"].values():
        assert list(asked) == list(metric_properties.PROPERTIES)
    for values in metrics["values"].values():
        assert set(values) == set(metrics["found"]) | {"scikit-learn jaccard_score, pooled"}
    assert metrics["otherwise"] == metric_peers.OTHERWISE
    assert metrics["void"] == metric_peers.VOID
    assert metrics["not measured"] == metric_peers.NOT_MEASURED
    assert set(metrics["void"]) == set(metrics["found"]) - {"seglib"}
    assert not any(metrics["found"]["seglib"].values())


def test_who_defines_it_as_we_do_differs_from_us_in_no_value(record):
    """Who has no entry in `otherwise` may fail to refuse a label, and nothing else."""
    metrics = record["metrics"]
    defined = set(metric_properties.PROPERTIES) - {"a prediction out of range is refused"}
    differs = {name for name, asked in metrics["found"].items() if any(asked[p] for p in defined)}
    assert differs == set(metrics["otherwise"])
    for values in metrics["values"].values():
        for name in set(values) - differs:
            assert values[name] == values["seglib"], name


@pytest.mark.parametrize("title", table.TOYS)
def test_the_values_are_what_the_definitions_say(record, title):
    """Every value of the record, anew from our counts, by the definition named in `otherwise`."""
    found = scores(metric_properties.toy(), table.TOYS[title])
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


@pytest.mark.slow
@pytest.mark.skipif(not metric_peers.installed(), reason="the extra bench is not installed")
def test_the_record_of_the_metrics_is_what_comes_out(record):
    now, then = table.measure_metrics(), record["metrics"]
    if now["versions"] != then["versions"]:
        pytest.skip(f"measured with {then['versions']}; python tests/parity/table.py renews it")
    for name, asked in then["found"].items():
        held = {question: not said for question, said in asked.items()}
        assert {q: not said for q, said in now["found"][name].items()} == held, name
    for title, values in then["values"].items():
        assert now["values"][title] == pytest.approx(values, abs=2e-4)
