"""Does a training in half precision end where one in float32 does? And an average of the weights?

    python experiments/06_amp.py               # twenty minutes; two processes share the work
    python experiments/06_amp.py --table       # what the record says

A U-Net (base 8) learns Streets at 72×96 with batches of 8, each arm with the best of its rates on
60 scenes of their own (the mean of two seeds). "weights in bfloat16" is `model.bfloat16()`:
weights, BatchNorm's statistics and the optimiser's averages in sixteen bits, too; it is scored so,
all others in float32. Averaged weights have decay 0.98, about the last 50 steps. Void dropped, one
confusion matrix, the last epoch's weights. Mixed precision in float16 is not among the arms: on a
CPU without instructions for it a run takes ten times as long.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from functools import cache
from typing import Any

import torch
from arms import RENDERING, TRAINING, InMemory, scores_on
from records import Job, Part, main, summary_table
from torch import Tensor, nn

from seglib.data import RenderedStreets, Streets, class_statistics, make_loader
from seglib.losses import CrossEntropyLoss, class_weights
from seglib.models.unet import UNet
from seglib.training import fit
from seglib.transforms import eval_transform, train_transform

ARMS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16, mixed": {"amp": "bf16"},
    "weights in bfloat16": {"half": True},
    "averaged weights": {"ema": 0.98},
    "constant rate": {"schedule": "constant"},
    "constant rate, averaged weights": {"schedule": "constant", "ema": 0.98},
}


class InHalf(nn.Module):
    """A network whose weights are bfloat16, all of them; images and logits are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.bfloat16()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.bfloat16())
        return logits.float()  # (N, C, H, W)


@cache
def split(name: str, height: int, width: int) -> InMemory:
    """Streets' splits, and scenes to choose rates on."""
    data = RenderedStreets(range(3000, 3060)) if name == "dev" else Streets(name)
    plain = eval_transform(height, width)
    return InMemory.copy_of(
        data,
        train_transform(height, width, zoom=(1.0, 1.0), stretch=1.0) if name == "train" else plain,
    )


def learn(arm: str, settings: dict[str, Any], seed: int) -> tuple[nn.Module, dict[str, Any]]:
    how = dict(ARMS[arm])
    data = split("train", settings["height"], settings["width"])
    loader = make_loader(data, settings["batch_size"], shuffle=True, seed=seed)
    epochs = max(1, settings["images"] // (len(loader) * settings["batch_size"]))
    loss = CrossEntropyLoss(class_weights(class_statistics(data), settings["class_weights"]))
    torch.manual_seed(seed)
    model: nn.Module = UNet(data.num_classes, base_channels=settings["base_channels"])
    if how.pop("half", False):
        model = InHalf(model)
    history = fit(
        model,
        loader,
        epochs=epochs,
        lr=settings["lr"],
        loss=loss,
        seed=seed,
        weight_decay=settings["weight_decay"],
        channels_last=False,
        **how,
    )
    return model, {
        "lr": settings["lr"],
        "epochs": epochs,
        "images_seen": epochs * len(loader) * settings["batch_size"],
        "curve": {str(row["epoch"]): round(row["train_loss"], 4) for row in history.rows},
    }


def tuning(job: Job) -> None:
    for arm in ARMS:
        for lr in job.settings["rates"]:
            for seed in job.settings["tuning_seeds"]:
                job.once(f"{arm}, lr {lr}", seed, tune, arm, {**job.settings, "lr": lr}, seed)


def tune(arm: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    model, budget = learn(arm, settings, seed)
    return {**budget, "dev": scores_on(model, split("dev", settings["height"], settings["width"]))}


def rate(job: Job, arm: str) -> float:
    """The rate with the highest mean on dev."""
    found: dict[float, list[float]] = {}
    for run in job.record.read()["parts"]["tuning"]["runs"]:
        if run["arm"].startswith(f"{arm}, lr "):
            found.setdefault(run["lr"], []).append(run["dev"]["miou"])
    rates, seeds = job.settings["rates"], job.settings["tuning_seeds"]
    if sum(map(len, found.values())) < len(rates) * len(seeds):
        raise ValueError(f"{arm}: its learning rate is not tuned yet; run the part tuning")
    return max(found, key=lambda lr: sum(found[lr]))


def compare(job: Job) -> None:
    for seed in job.seeds:
        for arm in ARMS:
            job.once(arm, seed, measure, arm, {**job.settings, "lr": rate(job, arm)}, seed)


def measure(arm: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    model, budget = learn(arm, settings, seed)
    return {
        **budget,
        "test": scores_on(model, split("test", settings["height"], settings["width"])),
    }


SETTINGS = {
    "height": 72,
    "width": 96,
    "batch_size": 8,
    "base_channels": 8,
    "weight_decay": 0.01,
    "class_weights": "enet",
    "rates": [1e-3, 2e-3, 4e-3, 8e-3],
    "tuning_seeds": [100, 101],
    "images": 1920,
}
CODE = (*TRAINING, "Compute moving_average", "ARMS InHalf split learn", "data/streets", *RENDERING)

PARTS = {
    "tuning": Part(tuning, (*CODE, "tuning tune"), SETTINGS),
    "arms": Part(compare, (*CODE, "rate compare measure"), SETTINGS, seeds=5),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, summary_table)
