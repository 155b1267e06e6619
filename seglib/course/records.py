"""The recorded experiments that lessons quote, and what their seeds allow to say."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seglib.metrics.scores import Interval
from seglib.util.paths import PACKAGE, checkout
from seglib.util.suggest import did_you_mean


def records_folder() -> Path:
    """results/experiments of the checkout, or the copy that the wheel carries."""
    here = checkout()
    return here / "results" / "experiments" if here else PACKAGE / "_data" / "experiments"


def read_record(name: str) -> dict[str, Any]:
    """A record, results/experiments/NAME.json: {"parts": {part: {"settings", "runs"}}, …}."""
    folder = records_folder()
    path = folder / f"{name}.json"
    if not path.exists():
        hint = did_you_mean(name, sorted(found.stem for found in folder.glob("*.json")))
        raise FileNotFoundError(f"there is no record {name!r} in {folder}{hint}")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def values(record: dict[str, Any], part: str, arm: str, read: Callable[..., Any]) -> dict[int, Any]:
    """What `read(run)` finds in each run of an arm: {seed: value}, by seed."""
    runs = record["parts"][part]["runs"]
    found = {run["seed"]: read(run) for run in runs if run["arm"] == arm}
    if not found:
        arms = sorted({run["arm"] for run in runs})
        raise ValueError(f"part {part!r} has no arm {arm!r}{did_you_mean(arm, arms)}")
    return dict(sorted(found.items()))


def interval(numbers: Sequence[float]) -> Interval:
    """Mean and 95 % interval of Student's t over n ≥ 2 seeds: how sure the *mean* is."""
    found, n = np.asarray(numbers, float), np.size(numbers)
    if found.ndim != 1 or n < 2:
        raise ValueError(f"found {found.size} values, expected one for each of two or more seeds")
    mean, reach = found.mean(), _student(0.975, n - 1) * found.std(ddof=1) / np.sqrt(n)
    return Interval(float(mean), float(mean - reach), float(mean + reach), n)


def prediction(numbers: Sequence[float], coverage: float = 0.999) -> Interval:
    """Where one more run of the same training falls, from n ≥ 2 runs: with this probability.

    mean ± t · s · √(1 + 1/n) (Hahn and Meeker, 1991, Statistical Intervals). Rounding alone makes a
    training diverge on another processor, as another seed does, so this is also where a run on the
    reader's machine is expected.
    """
    mean, _, _, n = interval(numbers)
    reach = _student((1 + coverage) / 2, n - 1) * float(np.std(numbers, ddof=1))
    reach *= (1 + 1 / n) ** 0.5
    return Interval(mean, mean - reach, mean + reach, n)


def _student(share: float, freedom: int) -> float:
    """Below which t this share of Student's distribution lies."""
    from scipy import stats

    return float(stats.t.ppf(share, freedom))


def paired_difference(first: dict[int, float], second: dict[int, float]) -> Interval:
    """The interval of `first` − `second`, seed by seed: what both arms share cancels out."""
    if set(first) != set(second):
        raise ValueError(f"found seeds {sorted(first)} and {sorted(second)}, expected the same")
    return interval([first[seed] - second[seed] for seed in sorted(first)])


def label_map(text: str) -> NDArray[np.uint8]:
    """A label map (H, W) that a record keeps as the base64 text of a PNG file."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))), np.uint8)
