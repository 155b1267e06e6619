"""Records are kept only if the old and the new code give the same trial."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "experiments"))

import restamp

RUN = {"arm": "net", "seed": 0, "seconds": 3.0, "machine": "a", "test": {"miou": 0.5}}
SAME = {"arms": {"net, seed 0": {"miou": 0.25}}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A record of one run, and a function that plays worktrees and trials."""
    path = tmp_path / "09_toy.json"
    parts = {"arms": {"runs": [{**RUN, "fingerprint": "old"}]}}
    path.write_text(json.dumps({"schema": 1, "experiment": "09_toy", "parts": parts}))

    def play(old=SAME, new=SAME, old_mark="old"):
        here = {True: ("new", new), False: (old_mark, old)}

        def marks(tree, _):
            return {"arms": {"marks": {"net": here[tree == restamp.ROOT][0]}, "code": ["new.py"]}}

        monkeypatch.setattr(restamp, "FOLDER", tmp_path)
        monkeypatch.setattr(restamp.subprocess, "run", lambda *_, **__: None)
        monkeypatch.setattr(restamp, "revision", lambda: "def")
        monkeypatch.setattr(restamp, "marks", marks)
        monkeypatch.setattr(restamp, "trial", lambda tree, *_: here[tree == restamp.ROOT][1])
        restamp.main("09_toy", "abc", ["arms", "--images", "60"])

    return path, play


def test_equal_trials_renew_the_fingerprints_and_what_they_cover_alone(world):
    path, play = world
    play()
    content = json.loads(path.read_text())
    assert content["parts"]["arms"]["runs"] == [{**RUN, "fingerprint": "new"}]
    assert content["parts"]["arms"]["code"] == ["new.py"]  # what they cover now
    assert {"from": "abc", "equal": "arms --images 60"}.items() <= content["restamped"][0].items()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"new": {"arms": {"net, seed 0": {"miou": 0.2500001}}}}, "the trials differ"),
        ({"old_mark": "newer"}, "is stale there, too"),  # the record is older than the revision
    ],
)
def test_what_proves_nothing_writes_nothing(world, how, said):
    path, play = world
    before = path.read_text()
    with pytest.raises(SystemExit, match=said):
        play(**how)
    assert path.read_text() == before
