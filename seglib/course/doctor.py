"""The check-up of a machine: versions, device, data sets, disk."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seglib.course.setup import best_device, profile
from seglib.util.files import free_bytes
from seglib.util.machine import PACKAGES, describe_machine
from seglib.util.paths import checkout, data_roots, user_cache


class Finding(NamedTuple):
    """One line of the doctor."""

    what: str
    found: str
    verdict: str = "ok"  # or "note" or "problem"


class CheckUp(NamedTuple):
    """The doctor's findings; `ok` unless one of them is a problem."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(f.verdict != "problem" for f in self.findings)


def doctor() -> CheckUp:
    """Look at versions, device, threads, data sets and disk; print a verdict per line."""
    report = CheckUp((*_versions(), *_compute(), *_data_sets(), _disk()))
    width = max(len(f.what) for f in report.findings)
    for f in report.findings:
        print(f"{f.verdict:<8} {f.what:<{width}}  {f.found}")
    problems = sum(f.verdict == "problem" for f in report.findings)
    print("all is well" if report.ok else f"{problems} to fix: the lines marked problem")
    return report


def _versions() -> Iterator[Finding]:
    yield Finding("Python", platform.python_version())
    for name in (*PACKAGES, "matplotlib", "jupyterlab"):
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            verdict = "note" if name == "jupyterlab" else "problem"  # only lessons need it
            yield Finding(name, "not installed; run `make lab`", verdict)


def _compute() -> Iterator[Finding]:
    try:
        import cv2  # noqa: F401  what fails most often: a system library is missing
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:  # the doctor reports what would crash others
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "torch, torchvision or OpenCV is broken; run `make clean`, then `make lab`"
        yield Finding("packages work", f"no: {reason}; {remedy}", "problem")
        return
    device = best_device()
    machine = describe_machine(device)
    yield Finding("device", f"{device.type}: {machine['hardware']}")
    yield Finding("threads", f"torch uses {machine['threads']} of {os.cpu_count()} cores")
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        how = "set OMP_WAIT_POLICY=PASSIVE before Python starts"
        yield Finding("waiting", f"threads spin, slow on a shared machine; {how}", "note")
    try:
        yield Finding("profile", profile())
    except ValueError as error:
        yield Finding("profile", str(error), "problem")


def _data_sets() -> Iterator[Finding]:
    from seglib.data import DATASETS
    from seglib.data.sources import Published

    for name, dataset in DATASETS.items():
        if folder := dataset.find():
            yield Finding(name, str(folder))
        else:  # what comes with the course must be there: the lessons rely on it
            verdict = "note" if isinstance(dataset.source, Published) else "problem"
            yield Finding(name, f"not found; {dataset.remedy()}", verdict)
    named = os.environ.get("SEGLIB_DATA")
    if named and not Path(named).expanduser().is_dir():
        yield Finding("SEGLIB_DATA", f"{named} is no folder; correct or unset it", "problem")
    roots = ", ".join(str(root) for root in data_roots() if root.exists())
    yield Finding("data folders", roots or "none yet", "ok" if roots else "note")


def _disk() -> Finding:
    folder = checkout() or user_cache()
    free = free_bytes(folder) / 1e9
    if free < 1:
        return Finding("disk", f"{free:.1f} GB free at {folder}; downloads need 1 GB", "problem")
    return Finding("disk", f"{free:.0f} GB free at {folder}")
