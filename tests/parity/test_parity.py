"""The stored comparison belongs to our losses, our mean IoU and the questions that are asked.

Our own column is measured anew here; those of others where the extra "bench" is installed
(`python tests/parity/table.py --check`). test_loss_properties.py asks our losses by a stricter bar.
"""

from __future__ import annotations

import copy
import json

import metric_peers
import metric_properties
import numpy as np
import peers
import properties
import pytest
import table
import torch

from seglib.metrics import ConfusionMatrix, Scores


@pytest.fixture(scope="module")
def record():
    return json.loads(table.RECORD.read_text(encoding="utf-8"))


def test_our_column_is_what_comes_out_and_shows_no_failure(record):
    losses = record["found"]["seglib"]
    assert table.answers("seglib") == losses
    assert not any(table.failures(record, "seglib", kind) for kind in losses)
    assert table.ratio("seglib") == record["focal without focus / cross-entropy"]["seglib"] == 1
    metric = record["metrics"]["found"]["seglib"]
    assert table.metric_answers(metric_peers.ours) == metric and not any(metric.values())


def test_every_question_was_asked_of_every_loss(record):
    assert set(record["found"]) == set(peers.LOSSES)
    assert set(record["focal without focus / cross-entropy"]) == set(peers.WITHOUT_FOCUS)
    for kinds in record["found"].values():
        for asked in kinds.values():
            assert list(asked) == list(properties.PROPERTIES)
            assert all(list(said) == list(properties.PRECISIONS) for said in asked.values())
    assert record["otherwise"] == table.OTHERWISE
    assert list(record["versions"]) == list(peers.PACKAGES)


WRONG = {
    "counts void": lambda x, t: x.log_softmax(1)[:, 0].mean(),
    "nan": lambda x, t: (x * float("nan")).sum(),
    "raises": lambda x, t: x.no_such_thing,
    "spoils the target": lambda x, t: x.sum() * 0 + t.fill_(0).sum(),
}


def test_a_wrong_loss_does_not_pass():
    world = properties.World("float32")
    for kind, loss in WRONG.items():
        found = {name: properties.ask(name, loss, world) for name in properties.PROPERTIES}
        assert any(found.values()), kind
    assert found["the target is left alone"] == "target is modified", kind


def test_the_record_shows_some_failure_of_each_peer(record):
    for library in set(record["found"]) - {"seglib"}:
        assert any(table.failures(record, library, kind) for kind in record["found"][library])
    told = {f"{library} {kind}" for library in record["found"] for kind in record["found"][library]}
    assert set(record["otherwise"]) <= told


@pytest.mark.slow
@pytest.mark.skipif(
    not peers.installed(table.PACKAGES),
    reason="the extra bench is not installed; `make bench` compares with it",
)
def test_the_record_is_what_comes_out(record):
    versions = peers.versions(table.PACKAGES)
    if versions != {**record["versions"], **record["metrics"]["versions"]}:
        pytest.skip(f"here are {versions}; python tests/parity/table.py --check compares")
    assert table.differences(record, table.measure()) == []


def test_a_check_tells_every_difference(record, monkeypatch, capsys):
    now = copy.deepcopy(record)
    monkeypatch.setattr(peers, "installed", lambda packages: True)
    monkeypatch.setattr(table, "measure", lambda: now)
    failed = next(
        path
        for path, said in table.leaves(record).items()
        if "found" in path and "MONAI" in path and said
    )
    _, library, kind, name, precision = failed
    answers = now["found"][library][kind]
    answers[name][precision] = "other words"
    now["versions"]["smp"] = now["metrics"]["versions"]["smp"] = "9.9"
    now["metrics"]["values"]["three classes"]["smp macro"] += 1e-4
    assert table.main(["--check"]) == 0 and "is what comes out" in capsys.readouterr().out
    answers[name][precision] = ""
    del now["found"]["smp"]["Dice"]["a perfect prediction costs 0"]
    now["focal without focus / cross-entropy"]["MONAI"] = 0.3
    now["metrics"]["values"]["three classes"]["smp macro"] += 1e-3
    assert table.main(["--check"]) == 1
    said = capsys.readouterr().out
    for part in (
        f"{', '.join(failed)}: the record says ",
        "smp, Dice, a perfect prediction costs 0, float16: the record says",
        "MONAI: the record says 0.25, now it is 0.3",
        "three classes, smp macro: ",
        "'smp': '9.9'",
    ):
        assert part in said, part
    monkeypatch.setattr(peers, "installed", lambda packages: False)
    assert table.main(["--check"]) == 1 and "the extra" in capsys.readouterr().err


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


def test_every_property_of_a_mean_iou_catches_a_wrong_one():
    for metric, name in WRONG_METRICS:
        assert metric_properties.ask(name, metric), metric
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
