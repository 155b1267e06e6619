"""What every experiment shares: its record and its command line.

A record, results/experiments/NN_topic.json, has parts; a part has its settings and a run for each
arm and seed: scores, curve and budget, how long it took under which load, the fingerprint of what
it depends on (fingerprints.py says what that covers), and, in `machines`, what it ran on.

Each run is stored as soon as it is done, and skipped when the experiment is started again. A run
whose fingerprint has changed is stale: a test says so, it is measured again, and the first new run
of its part removes the stale ones. Several processes may run the same experiment and share its
work: each run is claimed by a lock, which ends with the process that holds it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from fingerprints import ROOT, fingerprint

from seglib.data.sources import Rendering
from seglib.util.files import atomic_write

FOLDER = ROOT / "results" / "experiments"
TRIALS = ROOT / "runs" / "experiments"  # ignored by git: runs with other settings
SCHEMA = 1


# ---------------------------------------------------------------- the record


class Record:
    """One JSON file, written whole or not at all after every run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"schema": SCHEMA, "experiment": self.path.stem, "machines": {}, "parts": {}}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["schema"] != SCHEMA:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{self.path} is no record of schema {SCHEMA}; restore or move it away"
            ) from None
        return content

    def runs(self, job: Job) -> list[dict[str, Any]]:
        """The runs of a part that are not stale."""
        found = self.read()["parts"].get(job.name, {"runs": []})["runs"]
        return [run for run in found if run["fingerprint"] == job.mark(run["arm"])]

    def lock(self, what: str = "writing") -> FileLock:
        """A lock on the record, or on a run of it, between processes."""
        name = hashlib.sha256(f"{self.path}\0{what}".encode()).hexdigest()[:16]
        folder = TRIALS / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{self.path.stem}_{name}.lock")

    def add(self, job: Job, run: dict[str, Any]) -> None:
        with self.lock():
            self._add(job, run)

    def _add(self, job: Job, run: dict[str, Any]) -> None:
        content, here = self.read(), describe_here()
        name = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:8]
        runs = [*self.runs(job), {**run, "fingerprint": job.mark(run["arm"]), "machine": name}]
        content["parts"][job.name] = {
            "settings": job.part.settings,
            "code": list(job.part.code),
            "data": job.part.data,
            "runs": runs,
        }
        used = {run["machine"] for part in content["parts"].values() for run in part["runs"]}
        machines = {**content["machines"], name: here}
        content["machines"] = {key: machines[key] for key in machines if key in used}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as temporary:
            temporary.write_text(as_json(content), encoding="utf-8", newline="\n")


def as_json(content: Any) -> str:
    """Indented JSON with every list and object of plain values on one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    fold = lambda found: re.sub(r"\n\s*", " ", found[0]).replace("[ ", "[").replace(" ]", "]")  # noqa: E731
    return re.sub(r"[\[{]\n[^\[\]{}]*\n\s*[\]}]", fold, text) + "\n"


@cache
def describe_here() -> dict[str, Any]:
    """Hardware, threads, versions and revision, once a process."""
    import torch

    from seglib.util.machine import describe_machine

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = describe_machine(device)
    machine["versions"]["scikit-learn"] = importlib.metadata.version("scikit-learn")
    return {**machine, "revision": revision()}


def revision() -> str:
    """The commit, with "-dirty" if tracked files differ from it (records aside)."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


# ---------------------------------------------------------------- running


@dataclass(frozen=True)
class Part:
    """A part of an experiment: `run(job)` calls `job.once` for each arm and seed.

    `code` is what all its results depend on, `data` what those of some arms do besides: by the
    beginning of the arm's name, so that new data do not make the other arms stale.
    """

    run: Callable[[Job], None]
    code: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: int = 1
    data: dict[str, str] = field(default_factory=dict)

    def data_of(self, arm: str) -> tuple[str, ...]:
        """What an arm's runs depend on besides the part's code."""
        return tuple(entry for start, entry in self.data.items() if arm.startswith(start))

    def mark(self, arm: str) -> str:
        """The fingerprint of an arm's runs."""
        script = Path(self.run.__code__.co_filename).stem
        return fingerprint([*self.code, *self.data_of(arm)], self.settings, script)


class Job:
    """A part on its way: what `run` gets."""

    def __init__(self, name: str, part: Part, record: Record, root: str | None = None) -> None:
        self.name, self.part, self.record, self.root = name, part, record, root
        self.settings, self.seeds = part.settings, range(part.seeds)
        self.mark = cache(part.mark)
        self.said: set[str] = set()

    def once(self, arm: str, seed: int, measure: Callable[..., dict[str, Any]], *args: Any) -> None:
        """Store `measure(*args)` as the run of this arm and seed, unless there is one already."""
        label = f"{self.name}: {arm}, seed {seed}"
        try:
            with self.record.lock(label).acquire(blocking=False):
                self._once(label, arm, seed, measure, args)
        except Timeout:
            print(f"{label}: another process is at it", flush=True)

    def _once(self, label: str, arm: str, seed: int, measure: Any, args: Any) -> None:
        if (arm, seed) in {(run["arm"], run["seed"]) for run in self.record.runs(self)}:
            print(f"{label}: recorded already", flush=True)
            return
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        start = time.perf_counter()
        result = measure(*args)
        seconds = round(time.perf_counter() - start, 1)
        self.record.add(
            self,
            {
                "arm": arm,
                "seed": seed,
                "seconds": seconds,
                "load": load and round(load, 1),
                **result,
            },
        )
        print(f"{label}: {seconds:.0f} s{miou_of(result)}", flush=True)

    def open(self, dataset: Any, split: str, transform: Any = None) -> Any:
        """A split of a data set, or None, with one line that says so, where it is not."""
        embedded = isinstance(dataset.source, Rendering)  # part of the course, not of the root
        root = None if embedded else self.root
        try:
            return dataset(split, root=root, transform=transform)
        except FileNotFoundError:
            if dataset.name not in self.said:
                print(
                    f"{self.name}: {dataset.title} is not here, so what needs it is left out; to "
                    f"have it, {dataset.remedy()}, or pass --root FOLDER",
                    flush=True,
                )
            self.said.add(dataset.name)
            return None


def miou_of(result: Mapping[str, Any]) -> str:
    scored = {k: v for k, v in result.items() if isinstance(v, dict) and "miou" in v}
    found = [f"{name} {scores['miou']:.3f}" for name, scores in scored.items()]
    return f"; mIoU {', '.join(found)}" if found else ""


def summary_table(content: dict[str, Any]) -> str:
    """Of each arm: the mean of its scores over the seeds, their range, and the seconds it took."""
    lines = []
    for name, part in content["parts"].items():
        total = sum(run["seconds"] for run in part["runs"])
        lines.append(f"{name}: {len(part['runs'])} runs, {total / 60:.0f} minutes")
        for arm in dict.fromkeys(run["arm"] for run in part["runs"]):
            runs = [run for run in part["runs"] if run["arm"] == arm]
            scored = [k for k, v in runs[0].items() if isinstance(v, dict) and "miou" in v]
            found = {k: [run[k]["miou"] for run in runs] for k in scored}
            text = ", ".join(
                f"{k} {sum(v) / len(v):.3f} ({min(v):.3f}–{max(v):.3f})" for k, v in found.items()
            )
            lines.append(f"  {arm}: {text}; {len(runs)} seeds")
    return "\n".join(lines)


def main(
    script: str,
    doc: str | None,
    parts: dict[str, Part],
    table: Callable[[dict[str, Any]], str],
    arguments: Sequence[str] | None = None,
) -> None:
    """The command line of an experiment: parts by name, all of them without one."""
    name = Path(script).stem
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=raw)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)} or all")
    parser.add_argument("--root", help="folder that holds the public data sets")
    parser.add_argument("--seeds", type=int, help="how many, instead of each part's own number")
    parser.add_argument("--table", action="store_true", help="print what the record says, and end")
    numbers = {
        k: type(v)
        for part in parts.values()
        for k, v in part.settings.items()
        if isinstance(v, (int, float))
    }
    trial = parser.add_argument_group("trials, recorded in runs/experiments/ only")
    for key, kind in numbers.items():
        trial.add_argument(f"--{key.replace('_', '-')}", dest=key, type=kind, metavar="N")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - {*parts, "all"}
    if unknown:
        parser.error(f"there is no part {min(unknown)}; choose from {', '.join(parts)}, all")
    changes = {key: getattr(options, key) for key in numbers if getattr(options, key) is not None}
    record = Record((TRIALS if changes else FOLDER) / f"{name}.json")
    if options.table:
        print(table(record.read()))
        return
    describe_here()  # the revision at the start, whatever is committed meanwhile
    for key, part in parts.items():
        if options.parts and not {key, "all"} & set(options.parts):
            continue
        settings = {k: changes.get(k, v) for k, v in part.settings.items()}
        seeds = part.seeds if options.seeds is None else options.seeds
        part = replace(part, settings=settings, seeds=seeds)
        part.run(Job(key, part, record, options.root))
