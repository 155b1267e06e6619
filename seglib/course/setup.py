"""What a notebook's first cell calls: the profile's settings, the device, the seed."""

import os
import random
from types import SimpleNamespace
from typing import Any

from seglib.util.suggest import did_you_mean


def profile() -> str:
    """The profile in force: $SEGLIB_PROFILE, "lite" (default) or "full". ValueError for others."""
    name = os.environ.get("SEGLIB_PROFILE") or "lite"
    if name not in ("lite", "full"):
        raise ValueError(f"SEGLIB_PROFILE is {name!r}{did_you_mean(name, ['lite', 'full'])}")
    return name


def best_device() -> Any:
    """The torch.device to compute on: cuda, else mps, else cpu."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def setup(lite: dict[str, Any], full: dict[str, Any], seed: int = 0) -> SimpleNamespace:
    """Prepare a lesson: choose the profile's settings, seed every generator.

    Returns an object with `.profile`, `.device`, `.seed` and the settings as attributes. Prints
    profile and seed only: the same on every machine. ValueError unless both name the same settings.

    >>> run = setup(lite=dict(epochs=2), full=dict(epochs=100))
    profile lite · seed 0
    >>> run.epochs
    2
    """
    import numpy as np
    import torch

    if set(lite) != set(full):
        odd = ", ".join(sorted(set(lite) ^ set(full)))
        raise ValueError(f"lite and full must name the same settings; only one of them has {odd}")
    name = profile()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  libraries still draw from it
    torch.manual_seed(seed)
    print(f"profile {name} · seed {seed}")
    chosen = lite if name == "lite" else full
    return SimpleNamespace(profile=name, device=best_device(), seed=seed, **chosen)
