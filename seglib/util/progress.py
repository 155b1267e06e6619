"""The one wrapper around tqdm: every progress bar of the course comes from here."""

import os
from collections.abc import Iterable
from typing import Any


def shown() -> bool:
    """Whether progress is to be shown: not with SEGLIB_PROGRESS=0, and by one process only."""
    first = os.environ.get("RANK", "0") == "0"  # (of several processes, by torchrun)
    return first and os.environ.get("SEGLIB_PROGRESS") != "0"


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> Any:
    """A tqdm bar (`options` are tqdm's) that erases itself when done; silent unless `shown`."""
    from tqdm.auto import tqdm

    options.setdefault("leave", False)
    options.setdefault("dynamic_ncols", True)
    options.setdefault("disable", not shown())
    return tqdm(iterable, **options)
