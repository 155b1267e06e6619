"""Puts the embedded data sets, the checkpoint and the experiments' records into wheels.

Everything else is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CARRIED = {
    "streets": (ROOT / "data" / "streets", "run `python data/render.py streets` first"),
    "scans": (ROOT / "data" / "scans", "run `python data/render.py scans` first"),
    "weights": (ROOT / "data" / "weights", "run `python data/pretrain.py`, or restore it"),
    "experiments": (ROOT / "results" / "experiments", "restore it from the repository"),
}


class BuildWithData(build_py):
    """Copies folders to seglib/_data, where the library looks without a checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # then the checkout's own data/ is found
            return
        for name, (folder, remedy) in CARRIED.items():
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"there is no folder {folder}, but a wheel carries it; {remedy}"
                )
            target = Path(self.build_lib) / "seglib" / "_data" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns(".*"))


setup(cmdclass={"build_py": BuildWithData})
