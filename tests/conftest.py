"""What every test relies on: a fixed world (kernel_env.py), the real data sets where they are."""

import os
from pathlib import Path

import kernel_env
import pytest

# Before torch loads. Under xdist several workers share the cores: one thread each.
kernel_env.apply(threads=1 if "PYTEST_XDIST_WORKER" in os.environ else None)

import matplotlib  # noqa: E402
from hypothesis import settings  # noqa: E402

if "SEGLIB_WORLD" in os.environ:  # another processor (everywhere.py)
    import jitter

    jitter.from_environment()

matplotlib.use("Agg")  # in this process only: kernels must not inherit it
settings.register_profile("course", derandomize=True, deadline=None)
settings.load_profile("course")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def datasets():
    """The folder with the real data sets (camvid/, ultrasound/); skips where there is none."""
    named = os.environ.get("SEGLIB_TEST_DATASETS")
    folder = Path(named) if named else ROOT.parent / "shared" / "datasets"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"SEGLIB_TEST_DATASETS names {folder}, but there is no such folder")
    pytest.skip("no real data; name a folder of camvid/ and ultrasound/ in SEGLIB_TEST_DATASETS")


def pytest_collection_modifyitems(config, items):
    """Leave out the copies of lessons that have not changed (SEGLIB_COPIES=all runs them).

    What takes long comes first, so that no worker is left with it while the others wait.
    """

    def is_copy(item):
        return "test_notebook_copies.py::TestLesson" in item.nodeid and "wrong_and" in item.nodeid

    if os.environ.get("SEGLIB_COPIES") != "all" and any(map(is_copy, items)):
        import commands
        import notebook_copies

        again = tuple(f"TestLesson{n}" for n in notebook_copies.changed(commands.lessons([])))
        copies = filter(is_copy, items)
        left_out = [item for item in copies if not any(name in item.nodeid for name in again)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: (not is_copy(item), item.get_closest_marker("slow") is None))
