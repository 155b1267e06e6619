"""The package works where there is no checkout: built, unpacked elsewhere, used from there."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_wheel_works_in_an_empty_folder(tmp_path):
    tree, site, empty = tmp_path / "tree", tmp_path / "site", tmp_path / "empty"
    shutil.copytree(ROOT / "seglib", tree / "seglib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel = tree / done.stdout.splitlines()[-1]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    assert "seglib/py.typed" in names and "seglib/models/unet.py" in names
    assert not [name for name in names if name.split("/")[0] in ("tests", "notebooks", "data")]

    empty.mkdir()
    world = os.environ | {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    use = (
        "import seglib, torch; from seglib import paths; from seglib.models import create_model; "
        "print(seglib.__file__); print(paths.checkout()); "
        "print(create_model('unet', 3, base_channels=4)(torch.zeros(2, 3, 16, 16)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", use], cwd=empty, env=world, text=True,
                          capture_output=True, check=True)                         # fmt: skip
    where, checkout, shape = done.stdout.splitlines()
    assert Path(where).is_relative_to(site) and checkout == "None"
    assert shape == "torch.Size([2, 3, 16, 16])"
    doctor = subprocess.run([sys.executable, "-m", "seglib", "doctor"], cwd=empty, env=world,
                            text=True, capture_output=True)                        # fmt: skip
    assert doctor.returncode == 0 and "download camvid" in doctor.stdout, doctor.stderr
