"""Records are kept only if the old and the new code give the same trial."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
if str(EXPERIMENTS) not in sys.path:
    sys.path.insert(0, str(EXPERIMENTS))

import restamp  # noqa: E402

RUN = {"arm": "net", "seed": 0, "seconds": 3.0, "machine": "a", "test": {"miou": 0.5}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A record of one run; worktrees and trials are played."""
    record = {
        "schema": 1,
        "experiment": "09_toy",
        "machines": {},
        "parts": {"arms": {"runs": [{**RUN, "fingerprint": "old"}]}},
    }
    (tmp_path / "09_toy.json").write_text(json.dumps(record))
    monkeypatch.setattr(restamp, "FOLDER", tmp_path)
    monkeypatch.setattr(restamp.subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(restamp, "revision", lambda: "def")
    monkeypatch.setattr(
        restamp,
        "marks",
        lambda tree, name: {
            "arms": {"marks": {"net": "new" if tree == restamp.ROOT else "old"}, "code": ["new.py"]}
        },
    )
    results = {True: {"arms": {"net, seed 0": {"miou": 0.25}}}}
    results[False] = results[True]
    monkeypatch.setattr(restamp, "trial", lambda tree, *_: results[tree == restamp.ROOT])
    return tmp_path / "09_toy.json", results


def test_equal_trials_renew_the_fingerprints_and_what_they_cover_alone(world):
    path, _ = world
    restamp.main("09_toy", "abc", ["arms", "--images", "60"])
    content = json.loads(path.read_text())
    assert content["parts"]["arms"]["runs"] == [{**RUN, "fingerprint": "new"}]
    assert content["parts"]["arms"]["code"] == ["new.py"]  # what they cover now
    assert content["restamped"][0]["from"] == "abc"
    assert content["restamped"][0]["equal"] == "arms --images 60"


def test_trials_that_differ_write_nothing(world):
    path, results = world
    before = path.read_text()
    results[True] = {"arms": {"net, seed 0": {"miou": 0.2500001}}}
    with pytest.raises(SystemExit, match="the trials differ"):
        restamp.main("09_toy", "abc", ["arms"])
    assert path.read_text() == before


def test_a_record_that_is_older_than_the_revision_is_refused(world, monkeypatch):
    path, _ = world
    before = path.read_text()
    monkeypatch.setattr(
        restamp, "marks", lambda *_: {"arms": {"marks": {"net": "newer"}, "code": []}}
    )
    with pytest.raises(SystemExit, match="is stale there, too"):
        restamp.main("09_toy", "abc", ["arms"])
    assert path.read_text() == before
