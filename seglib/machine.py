"""What a figure was measured on: hardware, threads and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "albumentations", "numpy", "opencv-python-headless")


def describe_machine(device: Any) -> dict[str, Any]:
    """Hardware of `device` (a torch.device), torch's CPU threads, and versions; plain values."""
    import torch

    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "versions": {"python": platform.python_version(), **versions()},
    }


def versions() -> dict[str, str]:
    """The installed version of each package that results depend on; "missing" for none."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def processor() -> str:
    """The processor's name, where the system tells it, and how many cores there are."""
    name = platform.processor() or platform.machine()
    table = Path("/proc/cpuinfo")
    if table.exists():
        lines = table.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"
