"""Our losses hold every property in every precision, and the stored comparison is what comes out.

`python tests/parity/table.py` measures the comparison anew.
"""

from __future__ import annotations

import json

import peers
import properties
import pytest
import table

from seglib import losses

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
