"""What a run leaves besides its weights: how it was made."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import seglib
from seglib.engine.plain import plain
from seglib.util.files import atomic_write
from seglib.util.machine import describe_machine
from seglib.util.paths import checkout


def revision() -> str:
    """The commit of the checkout, with "-dirty" if it was changed; the version without one."""
    home = checkout()
    if home is not None:
        command = ["git", "describe", "--always", "--dirty"]
        with contextlib.suppress(OSError, UnicodeDecodeError):  # (a machine may have no git)
            done = subprocess.run(command, cwd=home, capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
    return f"version {seglib.__version__}"


def write_description(out: str | os.PathLike[str], settings: Any, device: Any) -> None:
    """run.json: the command, all settings, hardware, versions and revision."""
    content = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "settings": plain(settings, "settings", tensors=False),
        "machine": describe_machine(device),
        "revision": revision(),
    }
    with atomic_write(Path(out) / "run.json") as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
