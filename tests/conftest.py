"""What every test relies on: a fixed world (kernel_env.py), the real data sets where they are."""

from __future__ import annotations

import os
from pathlib import Path

import kernel_env
import pytest

# Before torch loads. Under xdist several workers share the cores: one thread each.
kernel_env.apply(threads=1 if "PYTEST_XDIST_WORKER" in os.environ else None)

import matplotlib  # noqa: E402
from hypothesis import settings  # noqa: E402

matplotlib.use("Agg")           # in this process only: kernels must not inherit it
settings.register_profile("course", derandomize=True, deadline=None)
settings.load_profile("course")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder with the real data sets (camvid/, ultrasound/); skips where there is none."""
    named = os.environ.get("SEGLIB_TEST_DATASETS")
    folder = Path(named) if named else ROOT.parent / "shared" / "datasets"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"SEGLIB_TEST_DATASETS names {folder}, but there is no such folder")
    pytest.skip(
        "the real data sets are not here; put camvid/ and ultrasound/ into a folder and name it "
        "in SEGLIB_TEST_DATASETS"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left with one of them while the others wait."""
    items.sort(key=lambda item: "test_notebook_copies" not in item.nodeid)
