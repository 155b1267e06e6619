"""What a run leaves besides its weights: how it was made, curves for TensorBoard, examples."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seglib.util.machine import describe_machine
from seglib.util.paths import atomic_write, checkout


def revision() -> str:
    """The commit of the checkout, with "-dirty" if it was changed; the version without one."""
    home = checkout()
    if home is not None:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=home, capture_output=True, text=True
        )
        if done.returncode == 0:
            return done.stdout.strip()
    import seglib

    return f"version {seglib.__version__}"


def write_description(out: str | os.PathLike[str], settings: Any, device: Any) -> None:
    """run.json: the command, all settings, hardware, versions and revision."""
    content = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "settings": settings,
        "machine": describe_machine(device),
        "revision": revision(),
    }
    with atomic_write(Path(out) / "run.json") as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def tensorboard(out: Path, row: Mapping[str, float]) -> None:
    """Add an epoch's row to `out`/tensorboard, if tensorboard is installed.

    A file of events for each epoch; TensorBoard reads all of them with --reload_multifile true.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    try:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(out / "tensorboard"), filename_suffix=f".{int(row['epoch']):05}")
        for name, value in row.items():
            if name != "epoch":
                writer.add_scalar(name, value, int(row["epoch"]))
        writer.close()
    except Exception as error:  # an extra must not end a training
        warnings.warn(f"nothing was written for TensorBoard: {error}", stacklevel=2)


def write_examples(out: Path, dataset: Any, count: int = 4) -> list[Path]:
    """Pictures of `count` images of `dataset` in `out`/examples: truth left, prediction right.

    The images are spread evenly over the set; the network is that of `out`/best.pt.
    """
    import numpy as np
    from PIL import Image

    from seglib.engine.checkpoints import load_checkpoint, make_folder
    from seglib.inference import predict
    from seglib.plotting import overlay

    best = load_checkpoint(out / "best.pt")
    data, folder = best.data, out / "examples"
    make_folder(folder)
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    written = []
    for index in dict.fromkeys(chosen.tolist()):
        image, truth = dataset.read(index)
        guess = predict(best.model, image, data.size, data.mean, data.std)
        halves = [
            overlay(image, labels, dataset.palette, classes=dataset.classes)
            for labels in (truth, guess)
        ]
        path = folder / f"{dataset.files[index][0].stem}.png"
        with atomic_write(path) as temporary:
            Image.fromarray(np.concatenate(halves, axis=1)).save(temporary, format="PNG")
        written.append(path)
    return written
