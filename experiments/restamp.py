"""Keep a record whose code has changed without changing any result.

    python experiments/restamp.py 02_unet REVISION -- live --images 240 --seeds 1

Runs the experiment as a trial, with what follows the dashes, once with the code of REVISION, to
which the record belongs, and once with the code that is here, on this machine and one thread. If
every score, curve and map is equal to the last digit, the record's fingerprints are renewed, and
the record says so under "restamped". Otherwise nothing is written: measure again. A trial proves
what it runs: let it touch whatever has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fingerprints import ROOT
from records import FOLDER, Record, as_json, revision

from seglib.util.files import atomic_write

VARY = {"seconds", "load", "machine", "fingerprint", "fit_seconds", "images_per_second"}


def trial(tree: Path, name: str, arguments: list[str]) -> dict[str, Any]:
    """Part -> (arm, seed) -> result, of a trial with the code of `tree`."""
    record = tree / "runs" / "experiments" / f"{name}.json"
    record.unlink(missing_ok=True)
    env = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, str(tree / "experiments" / f"{name}.py"), *arguments],
        cwd=tree,
        env=env,
        check=True,
    )
    if not record.exists():
        raise SystemExit(f"{' '.join(arguments)} is no trial: give a smaller budget (--help)")
    parts = json.loads(record.read_text(encoding="utf-8"))["parts"]
    return {
        part: {
            f"{run['arm']}, seed {run['seed']}": {k: v for k, v in run.items() if k not in VARY}
            for run in found["runs"]
        }
        for part, found in parts.items()
    }


def marks(tree: Path, name: str) -> dict[str, dict[str, Any]]:
    """Part -> its arms' fingerprints, by the code of `tree`, and what they cover."""
    code = (
        "import importlib, json, sys; record = json.load(open(sys.argv[1]));"
        f"parts = importlib.import_module({name!r}).PARTS;"
        "print(json.dumps({p: {'marks': {r['arm']: parts[p].mark(r['arm'])"
        " for r in found['runs']}, 'code': list(parts[p].code)}"
        " for p, found in record['parts'].items()}))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "experiments")])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(FOLDER / f"{name}.json")],
        cwd=tree,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(name: str, old: str, arguments: list[str]) -> None:
    record = Record(FOLDER / f"{name}.json")
    content = record.read()
    folder = Path(tempfile.mkdtemp())
    try:
        tree = folder / "old"
        subprocess.run(
            ["git", "worktree", "add", "--detach", "-q", str(tree), old], cwd=ROOT, check=True
        )
        before, now = marks(tree, name), marks(ROOT, name)
        stale = [
            run["arm"]
            for part, found in content["parts"].items()
            for run in found["runs"]
            if run["fingerprint"] != before[part]["marks"][run["arm"]]
        ]
        if stale:
            raise SystemExit(f"{name} does not belong to {old}: {stale[0]} is stale there, too")
        if trial(tree, name, arguments) != trial(ROOT, name, arguments):
            raise SystemExit("the trials differ: measure again")
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)
        shutil.rmtree(folder, ignore_errors=True)
    for part, found in content["parts"].items():
        for run in found["runs"]:
            run["fingerprint"] = now[part]["marks"][run["arm"]]
        found["code"] = now[part]["code"]
    content.setdefault("restamped", []).append(
        {"from": old, "to": revision(), "equal": " ".join(arguments)}
    )
    with atomic_write(record.path) as temporary:
        temporary.write_text(as_json(content), encoding="utf-8", newline="\n")
    print(f"{name}: equal, restamped")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="of the experiment, as 02_unet")
    parser.add_argument("revision", help="to which the record belongs")
    parser.add_argument("trial", nargs="+", help="arguments of the trial, after --")
    options = parser.parse_args()
    main(options.name, options.revision, options.trial)
