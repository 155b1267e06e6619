"""The package works where there is no checkout: built, unpacked elsewhere, used from there."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
USE = """
import runpy, sys
import seglib, torch
from seglib.util import paths
from seglib.data import Scans, Streets
from seglib.models import create_model
from seglib.course.records import read_record

print(seglib.__file__)
print(paths.checkout())
print(create_model("unet", 3, base_channels=4)(torch.zeros(2, 3, 16, 16)).shape)
for data in (Streets("val"), Scans("train")):
    print(data.root)
    print(*data[0][0].shape, data[0][1].max() > 0)
print(read_record("00_data")["experiment"])
print(create_model("deeplabv3plus", 11, pretrained="streets").options["backbone"])
sys.argv[1:] = ["doctor"]                       # what `python -m seglib doctor` does
runpy.run_module("seglib", run_name="__main__")
"""


def build(tree, what):
    """Build the "wheel" or "sdist" of `tree`."""
    code = f"from setuptools import build_meta; print(build_meta.build_{what}('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tree / done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_wheel_works_in_an_empty_folder(tmp_path):
    tree, site, empty = tmp_path / "tree", tmp_path / "site", tmp_path / "empty"
    files = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"]
    files += [f"data/{name}" for name in ("README.md", "render.py", "pretrain.py")]
    folders = ["seglib", "data/streets", "data/scans", "data/weights", "results/experiments"]
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in folders:
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in files:
        shutil.copy(ROOT / name, tree / name)

    unpacked = tmp_path / "unpacked"  # the wheel that others build, of the sdist
    with tarfile.open(build(tree, "sdist")) as archive:
        archive.extractall(unpacked, filter="data")
    with zipfile.ZipFile(build(next(unpacked.iterdir()), "wheel")) as archive:
        names = archive.namelist()
        archive.extractall(site)
    assert "seglib/py.typed" in names and "seglib/models/unet.py" in names
    assert not [name for name in names if name.split("/")[0] in ("tests", "notebooks", "data")]
    for name in folders[1:]:
        inside = f"seglib/_data/{name.split('/')[1]}/"
        paths = (path for path in (tree / name).rglob("*") if path.is_file())
        expected = {inside + path.relative_to(tree / name).as_posix() for path in paths}
        assert expected and expected == {file for file in names if file.startswith(inside)}

    empty.mkdir()
    world = os.environ | {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    how = {"cwd": empty, "env": world, "text": True, "capture_output": True}
    done = subprocess.run([sys.executable, "-c", USE], **how)
    assert done.returncode == 0 and "download camvid" in done.stdout, done.stdout + done.stderr
    where, checkout, shape, streets, a_scene, scans, a_scan, *others = done.stdout.splitlines()
    assert Path(where).is_relative_to(site) and checkout == "None"
    assert shape == "torch.Size([2, 3, 16, 16])"
    data = site / "seglib" / "_data"
    assert Path(streets) == data / "streets" and a_scene == "144 192 3 True"
    assert Path(scans) == data / "scans" and a_scan == "128 128 3 True"
    assert others[:2] == ["00_data", "mobilenet_v3_small"]
