"""Set-up of a notebook, the doctor, paths, and that importing is cheap."""

import importlib
import os
import random
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from seglib.course import doctor, setup
from seglib.util import files, paths

module = importlib.import_module("seglib.course.doctor")  # the package's name is the function


def test_setup_gives_the_profiles_settings_and_seeds_everything(capsys, monkeypatch):
    monkeypatch.setenv("SEGLIB_PROFILE", "full")
    drawn = []
    for _ in range(2):
        run = setup(lite={"epochs": 1}, full={"epochs": 50}, seed=4)
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert (run.profile, run.epochs, run.seed) == ("full", 50, 4)
    assert capsys.readouterr().out == 2 * "profile full · seed 4\n"


def test_the_doctor_names_what_is_missing_or_faulty_and_goes_on(capsys, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(paths, "data_roots", lambda root=None: [Path("nowhere")])
        report = doctor()
    lines = {finding.what: finding for finding in report.findings}
    assert lines["torch"].found == version("torch") in capsys.readouterr().out
    assert lines["camvid"].verdict == "note"
    assert "python -m seglib download camvid" in lines["camvid"].found
    assert lines["streets"].verdict == lines["scans"].verdict == "problem" and not report.ok
    assert "python data/render.py streets" in lines["streets"].found
    assert all(f.verdict in ("ok", "note", "problem") for f in report.findings)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("SEGLIB_PROFILE", "fulll")
    monkeypatch.setenv("SEGLIB_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(module, "free_bytes", lambda folder: 5e8)
    report = doctor()
    shown = capsys.readouterr().out
    for part in (
        "did you mean 'full'",
        "is no folder",
        "set OMP_WAIT_POLICY=PASSIVE",
        "0.5 GB free",
        "3 to fix",
    ):
        assert part in shown
    assert not report.ok


@pytest.mark.parametrize(
    ("first", "given", "policy"),
    [("", {}, "PASSIVE"), ("", {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ("torch, ", {}, None)],
)
def test_threads_that_wait_sleep_unless_someone_has_chosen(first, given, policy):
    """It counts only where torch has not loaded yet."""
    code = f"import {first}seglib, os; print(os.environ.get('OMP_WAIT_POLICY'))"
    environ = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    run = subprocess.run([sys.executable, "-c", code], env=environ | given, capture_output=True)
    assert run.stdout.decode().split() == [str(policy)]


def test_the_first_root_with_the_set_wins_and_an_explicit_one_stands_alone(tmp_path, monkeypatch):
    first, second = tmp_path / "a", tmp_path / "b"
    monkeypatch.setattr(paths, "data_roots", lambda root=None: [first, second])
    for folder in (second / "set", first / "set"):
        folder.mkdir(parents=True)
        assert paths.find_dataset("set", Path.is_dir) == folder
    monkeypatch.undo()
    monkeypatch.setenv("SEGLIB_DATA", str(second))
    assert paths.find_dataset("set", Path.is_dir) == second / "set"
    assert paths.find_dataset("set", Path.is_dir, root=tmp_path / "typo") is None
    assert paths.data_roots()[1] == paths.checkout() / "data"


def test_atomic_write_keeps_the_old_file_on_an_error(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_write(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with files.atomic_write(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_importing_loads_nothing_heavy_and_help_is_quick():
    heavy = "{'torch', 'torchvision', 'albumentations', 'matplotlib', 'cv2'}"
    code = f"import seglib.data, seglib.__main__, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    start, help_me = time.perf_counter(), [sys.executable, "-m", "seglib", "--help"]
    done = subprocess.run(help_me, capture_output=True, text=True)
    assert done.returncode == 0 and "train a model" in done.stdout
    # the promise is 0.5 s on an idle machine; torch alone would take over 2 s
    assert time.perf_counter() - start < 2
