"""What the loops of training_speed.py reach: test mIoU of the same network on the same images.

    python benchmarks/training_scores.py       # ten minutes; needs CamVid (README.md, Data)

U-Net base 8 at 96×128, 20 epochs of CamVid's first 96 training images, three seeds. Each loop draws
its own order and augmentation. The images are cached for all: that changes no score. Void dropped,
one confusion matrix over the 233 images of test, the last epoch's weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from _report import Row, report
from training_speed import SIZE, Files, available

from seglib.data import CamVid, make_loader
from seglib.models import UNet
from seglib.training import evaluate
from seglib.transforms import eval_transform

EPOCHS, IMAGES, SEEDS = 20, 96, 3


def scores(files: Files) -> list[Row]:
    test = CamVid("test", transform=eval_transform(*SIZE), cache="all")
    case, rows = "test mIoU, U-Net base 8, 96×128, 20 epochs of 96 images, seeds 0 to 2", []
    for name, (function, _) in available().items():
        if name == "fit, train":
            continue  # the same as the first, all are cached here
        found = []
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model = UNet(11, base_channels=8)
            function(model, files.open(cache="all"), EPOCHS, seed)
            found.append(evaluate(model, make_loader(test, 16)).miou)
            print(f"{name}, seed {seed}: {found[-1]:.3f}", flush=True)
        each = ", ".join(f"{miou:.3f}" for miou in found)
        rows.append(Row(case, f"{name} ({each})", float(np.mean(found)), "mIoU"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="see _report.py")
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = Files(IMAGES, Path(folder))
        if files.real:
            report(__file__, scores(files))
        else:
            print("training_scores.py needs CamVid: left out")


if __name__ == "__main__":
    main()
