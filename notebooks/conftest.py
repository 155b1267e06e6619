"""A bare `pytest --nbval notebooks` runs in the same world as `make test`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import kernel_env

kernel_env.apply()
