"""A training run on its way: all that it needs to go on, saved and restored as one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from seglib import checks, distributed
from seglib.checkpoints import DataSpec, make_folder, read_training, save_checkpoint
from seglib.history import History
from seglib.interrupt import Position
from seglib.machine import describe_machine

FILES = ("last.pt", "best.pt", "history.csv", "history.png")       # what a run leaves in `out`


@dataclass
class Run:
    """What training changes, and where it is kept.

    With `average` (an exponential moving average of the weights) it is the average that is
    evaluated and that the files hold as the model; last.pt has the weights as trained besides.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    history: History
    settings: dict[str, Any]
    data: DataSpec
    scaler: Any = None
    average: AveragedModel | None = None
    out: Path | None = None
    at: Position = field(default_factory=Position)         # in the epoch that is on

    @property
    def result(self) -> nn.Module:
        """The model that is evaluated and kept."""
        return self.model if self.average is None else self.average.module

    def open(self, resume: bool) -> None:
        """Make the folder ready; restore what an interrupted run left there."""
        if self.out is None:
            return
        make_folder(self.out)
        checks.check_out(self.out, resume)
        if (self.out / "last.pt").exists():
            self._restore(read_training(self.out / "last.pt", resume, self.settings))
        if distributed.rank() == 0:
            for stale in (part for name in FILES for part in self.out.glob(f".{name}.*.part")):
                stale.unlink()                             # left by a kill in the midst of a save

    def _restore(self, training: dict[str, Any]) -> None:
        fused = [group.get("fused") for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(training["optimizer"])
        for group, choice in zip(self.optimizer.param_groups, fused, strict=True):
            group["fused"] = choice                        # (this device's, not that of before)
        self.scheduler.load_state_dict(training["scheduler"])
        self.history.rows.extend(training["rows"])
        self.result.load_state_dict(training["state"])
        if self.average is not None:
            self.model.load_state_dict(training["trained"])
            self.average.n_averaged.fill_(training["averaged_steps"])
        if self.scaler is not None:
            self.scaler.load_state_dict(training["scaler"])
        if training.get("partial") is not None:
            self.at = Position(**training["partial"]).mine()

    def save(self, partial: Position | None = None) -> None:
        """Save after an epoch, or in the midst of one with how far it has come, `partial`.

        best.pt comes first: after a kill between the two, the epoch is run again and writes it
        again, whereas a best.pt that came too late would be missing for good.
        """
        if self.out is None or distributed.rank() != 0:
            return
        if partial is None and self.history.epochs_since_best() == 0:
            save_checkpoint(self.out / "best.pt", self.result, self.data)
        device = next(self.model.parameters()).device
        state: dict[str, Any] = {
            "settings": self.settings, "rows": self.history.rows,
            "machine": {**describe_machine(device), "processes": distributed.world()},
            "optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(),
            "partial": None if partial is None else asdict(partial),
        }                                                                          # fmt: skip
        if self.average is not None:
            state["trained"] = self.model.state_dict()
            state["averaged_steps"] = int(self.average.n_averaged)
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        save_checkpoint(self.out / "last.pt", self.result, self.data, state)
        if partial is None:
            self.history.save(self.out, figure=False)

    def extras(self) -> dict[str, float]:
        """What the epoch's row tells besides: steps that float16 skipped, the peak of memory."""
        device, found = next(self.model.parameters()).device, {}
        if self.scaler is not None:
            found["skipped_steps"] = float(self.at.skipped)
        if device.type == "cuda":
            found["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        return found

    def finish(self) -> None:
        """Draw the history; the model ends with the weights that were evaluated."""
        if self.out is not None and self.history.rows and distributed.rank() == 0:
            self.history.save(self.out, figure=True)       # also where a kill came before them
        if self.average is not None:
            self.model.load_state_dict(self.result.state_dict())


def moving_average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """w̄ ← decay · w̄ + (1 − decay) · w after each step; buffers (BatchNorm's) are copied.

    The average starts as the weights after the first step (Polyak & Juditsky, 1992; as here:
    Tarvainen & Valpola, 2017, arXiv:1703.01780).
    """
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def steps_per_epoch(batches: int, accumulate: int) -> int:
    """Steps of the optimiser; the last one of an epoch may have fewer batches."""
    return math.ceil(batches / accumulate)


def model_settings(model: nn.Module) -> dict[str, Any]:
    """What a run's settings say of its model."""
    return {
        "model": getattr(model, "name", type(model).__name__),
        "num_classes": getattr(model, "num_classes", None),
        **getattr(model, "options", {}),
    }
