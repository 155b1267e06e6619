"""Puts the embedded data sets into wheels; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = Path(__file__).resolve().parent / "data"
EMBEDDED = ("streets", "scans")


class BuildWithData(build_py):
    """Copies data/NAME to seglib/_data/NAME, where `seglib.paths` looks without a checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # then the checkout's own data/ is found
            return
        for name in EMBEDDED:
            if not (DATA / name).is_dir():
                raise FileNotFoundError(
                    f"there is no folder {DATA / name}, but a wheel carries it; run "
                    f"`python data/render.py {name}` first"
                )
            target = Path(self.build_lib) / "seglib" / "_data" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(DATA / name, target, ignore=shutil.ignore_patterns(".*"))


setup(cmdclass={"build_py": BuildWithData})
