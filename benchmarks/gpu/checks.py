"""What must be right on a GPU: the tests that need one, and every cell of the lessons.

    python benchmarks/gpu/checks.py tests|lessons --out FOLDER [--tiny]

tests      those of tests/ that ask for CUDA (elsewhere they are skipped), by pytest
lessons    the code of each notebook, cell by cell, in profile lite on `run.device`; what a cell
           raises is noted (outputs are not compared: that is nbval's work, on the locked versions)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
import types
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    *("tests/losses/test_loss_properties.py", "tests/engine/test_precision.py"),
    *("tests/engine/test_distributed.py", "tests/engine/test_on_device.py"),
)
WIDGETS = ("FloatSlider", "IntSlider", "SelectionSlider")


def write(path: Path, content: Any) -> None:
    from seglib.util.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def tests(out: Path, seconds: float, tiny: bool) -> None:
    report = out / "tests.xml"
    chosen = ["-k", "device or gpu or cuda"] if not tiny else ["-k", "same_pixels"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    if not tiny:
        command += ["-n", "8"]
    found = subprocess.run([*command, *chosen, *FILES], cwd=ROOT, capture_output=True, text=True)
    print(found.stdout[-3000:], found.stderr[-2000:], flush=True)
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    outcomes = {
        f"{case.get('classname')}::{case.get('name')}": (
            case[0].tag + ": " + (case[0].get("message") or "")[:2000] if len(case) else "passed"
        )
        for case in cases
    }
    counts = Counter(said.partition(":")[0] for said in outcomes.values())
    odd = {name: said for name, said in outcomes.items() if said != "passed"}
    passed = sorted(name for name, said in outcomes.items() if said == "passed")
    write(out / "tests.json", {"counts": counts, "not_passed": odd, "passed": passed})


def lessons(out: Path, seconds: float, tiny: bool) -> None:
    """All notebooks at once, a process each."""
    folders = ROOT / "notebooks", ROOT / "notebooks" / "extra"
    paths = [path for folder in folders for path in sorted(folder.glob("0*.ipynb"))]
    paths = paths[: 1 if tiny else None]
    env = {**os.environ, "OMP_NUM_THREADS": "2", "SEGLIB_PROFILE": "lite", "SEGLIB_PROGRESS": "0"}
    env |= {"MPLBACKEND": "Agg", "NO_ALBUMENTATIONS_UPDATE": "1"}
    env.pop("SEGLIB_DATA", None)
    started = {
        path.stem: subprocess.Popen(
            [sys.executable, __file__, "cells", "--out", str(out), "--notebook", str(path)],
            cwd=path.parent,
            env=env,
            stdout=subprocess.DEVNULL,
        )
        for path in paths
    }
    end, found = time.monotonic() + seconds, {}
    for name, process in started.items():
        try:
            process.wait(max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
        path = out / f"cells_{name}.json"
        found[name] = (
            json.loads(path.read_text("utf-8")) if path.exists() else {"error": "no record"}
        )
        print(name, {k: v for k, v in found[name].items() if k != "errors"}, flush=True)
        for number, error in found[name].get("errors", {}).items():
            print(f"  cell {number}: {error[-400:]}", flush=True)
    whole = all(told.get("cells") == told.get("of", 0) for told in found.values())
    write(out / "lessons.json", {"complete": whole, "notebooks": found})


def cells(out: Path, notebook: Path) -> None:
    """Run the code cells of one notebook; a cell that fails does not stop the others."""
    without_widgets()
    import torch

    code = [
        "".join(cell["source"])
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    errors: dict[str, str] = {}
    began, world = time.perf_counter(), {"__name__": "__main__"}
    for number, source in enumerate(code, 1):
        try:
            exec(compile(source, f"cell {number}", "exec"), world)
        except Exception:
            errors[str(number)] = traceback.format_exc(limit=-4)
        seconds = round(time.perf_counter() - began, 1)
        used = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
        told = {"cells": number, "of": len(code), "seconds": seconds, "peak_gb": round(used, 3)}
        write(out / f"cells_{notebook.stem}.json", {**told, "errors": errors})


def without_widgets() -> None:
    """Stand-ins for what only a notebook's page needs, where it is not installed."""

    def nothing(*args: Any, **options: Any) -> None:
        return None

    for name in ("IPython", "IPython.display", "ipywidgets"):
        try:
            __import__(name)
        except ModuleNotFoundError:
            module: Any = types.ModuleType(name)
            module.__path__, module.version_info = [], (9, 0, 0)  # (matplotlib asks)
            for stand_in in ("display", "get_ipython", "interact", *WIDGETS):
                setattr(module, stand_in, nothing)
            sys.modules[name] = module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stage", choices=("tests", "lessons", "cells"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--notebook", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: little of it")
    options = parser.parse_args()
    if options.stage == "cells":
        cells(options.out, options.notebook)
    else:
        {"tests": tests, "lessons": lessons}[options.stage](
            options.out, options.seconds, options.tiny
        )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
