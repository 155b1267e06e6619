"""What this machine has: hardware, threads, versions, free memory."""

import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

# Instructions for sixteen-bit numbers, as Linux names them; the last two are ARM's.
HALF_PRECISION = ("avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16", "bf16", "asimdhp")
PACKAGES = ("torch", "torchvision", "albumentations", "numpy", "opencv-python-headless")


def describe_machine(device: Any) -> dict[str, Any]:
    """Hardware of `device` (a torch.device), torch's CPU threads, and versions; plain values."""
    import torch

    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    processor = f"{name}, {os.cpu_count()} cores"
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    return {
        "hardware": hardware,
        **({"half_precision": half_precision()} if device.type == "cpu" else {}),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
    }


@cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def half_precision() -> list[str]:
    """The processor's instructions for sixteen-bit numbers; none known where it is not Linux."""
    found = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return [name for name in HALF_PRECISION if name in found]


def _cpuinfo(key: str) -> str:
    """What Linux says of the first core under `key`; empty where it says nothing."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")


def free_memory() -> int | None:
    """Bytes of main memory that can still be taken, within a container's limit; None: unknown."""
    found = []
    table = Path("/proc/meminfo")
    if table.exists():
        lines = dict(line.split(":") for line in table.read_text().splitlines() if ":" in line)
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is not None and used is not None:
        found.append(max(0, limit - used))
    return min(found, default=None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
