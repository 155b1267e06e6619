"""A training run on its way: all that it needs to go on, saved and restored as one."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from seglib.engine import distributed, validation
from seglib.engine.artifacts import tensorboard
from seglib.engine.checkpoints import DataSpec, make_folder, read_training, save_checkpoint
from seglib.engine.history import History
from seglib.engine.precision import Compute, make_optimizer
from seglib.engine.schedules import make_scheduler
from seglib.models.freezing import parameter_groups
from seglib.util.machine import describe_machine


@dataclass
class EpochProgress:
    """How far an epoch has got: batches done, and what they add up to (over all processes)."""

    step: int = 0  # batches, of `accumulate` to a step of the optimiser
    total: float = 0.0  # Σ loss · mass
    mass: float = 0.0  # Σ what the losses were divided by: valid pixels, say
    images: int = 0
    skipped: int = 0  # steps without effect: float16 overflowed
    seconds: float = 0.0
    lr: float | None = None  # at the epoch's beginning
    random: list[dict[str, Any]] = field(default_factory=list)  # generators, by process

    def add(self, number: float, mass: float, images: int) -> None:
        """Count a batch."""
        self.step, self.images = self.step + 1, self.images + images
        self.total, self.mass = self.total + number * mass, self.mass + mass

    @property
    def mean(self) -> float:
        """The loss so far."""
        return self.total / (self.mass or 1)

    def gathered(self) -> EpochProgress:
        """The sums over all processes, and everyone's generators."""
        sums = distributed.total(self.total, self.mass, self.images)
        content = {**asdict(self), "total": sums[0], "mass": sums[1], "images": int(sums[2])}
        everyones = [state for states in distributed.gather(self.random) for state in states]
        return EpochProgress(**{**content, "random": everyones})

    def mine(self) -> EpochProgress:
        """This process's share of a saved position: the sums stay with the first one."""
        rank = distributed.rank()
        if rank == 0:
            return self
        return EpochProgress(self.step, skipped=self.skipped, lr=self.lr, random=self.random)

    def restore_random(self, device: torch.device) -> None:
        """Let torch's generators go on as they were."""
        if not self.random:
            return
        rank = distributed.rank()
        state, self.random = self.random[rank if rank < len(self.random) else 0], []
        torch.set_rng_state(state["cpu"])
        if state.get("cuda") is not None and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], device)


FILES = ("last.pt", "best.pt", "history.csv", "history.png")  # what a run leaves in `out`


@dataclass
class Run:
    """What training changes, and where it is kept.

    With `average` (an exponential moving average of the weights) it is the average that is
    evaluated and that the files hold as the model; last.pt has the weights as trained besides.
    """

    model: nn.Module
    compute: Compute
    optimizer: torch.optim.Optimizer
    scheduler: Any
    history: History
    settings: dict[str, Any]
    data: DataSpec
    scaler: Any = None
    average: AveragedModel | None = None
    out: Path | None = None
    at: EpochProgress = field(default_factory=EpochProgress)  # in the epoch that is on
    start: float = 0.0  # of this epoch, or of its second part

    @classmethod
    def prepare(
        cls,
        model: nn.Module,
        compute: Compute,
        settings: dict[str, Any],
        loader: Any,
        out: str | os.PathLike[str] | None,
    ) -> Run:
        """Optimiser, schedule and the rest for `settings`, those of `fit`."""
        if not len(loader):
            raise ValueError(
                "the training loader has no batch; use a smaller batch size or more data"
            )
        model.to(memory_format=compute.memory_format)
        lr, slower = settings["lr"], settings["backbone_lr"]
        rates: Any = lr if slower is None else [lr, slower]  # (one, or one a group)
        groups: Any = model.parameters() if slower is None else parameter_groups(model, lr, slower)
        optimizer = make_optimizer(groups, compute.device, lr, settings["weight_decay"])
        history = History(best_key="val_miou" if settings["validation"] else "train_loss")
        scheduler = make_scheduler(
            settings["schedule"],
            optimizer,
            rates,
            settings["epochs"],
            math.ceil(len(loader) / (settings["accumulate"] or 1)),
            history.best_key,
        )
        return cls(
            model,
            compute,
            optimizer,
            scheduler,
            history,
            settings,
            DataSpec.of(loader.dataset),
            compute.scaler(),
            moving_average(model, settings["ema"]),
            None if out is None else Path(out),
        )

    @property
    def result(self) -> nn.Module:
        """The model that is evaluated and kept."""
        return self.model if self.average is None else self.average.module

    def open(self, resume: bool) -> None:
        """Make the folder ready; restore what an interrupted run left there."""
        if self.out is None:
            return
        make_folder(self.out)
        validation.check_out(self.out, resume)
        if (self.out / "last.pt").exists():
            self._restore(read_training(self.out / "last.pt", resume, self.settings))
        if distributed.rank() == 0:
            for stale in (part for name in FILES for part in self.out.glob(f".{name}.*.part")):
                stale.unlink()  # left by a kill in the midst of a save

    def _restore(self, training: dict[str, Any]) -> None:
        saved = training["optimizer"]
        for group, here in zip(saved["param_groups"], self.optimizer.param_groups, strict=True):
            group["fused"] = here.get("fused")  # (this device's, not that of before)
        self.optimizer.load_state_dict(saved)
        for parameter, state in self.optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq") if "exp_avg" in state else ():
                state[key] = torch.empty_like(parameter).copy_(state[key])  # (this layout)
        self.scheduler.load_state_dict(training["scheduler"])
        self.history.rows.extend(training["rows"])
        self.result.load_state_dict(training["state"])
        if self.average is not None:
            self.model.load_state_dict(training["trained"])
            self.average.n_averaged.fill_(training["averaged_steps"])
        if self.scaler is not None:
            self.scaler.load_state_dict(training["scaler"])
        if training.get("partial") is not None:
            self.at = EpochProgress(**training["partial"]).mine()

    def save(self, partial: EpochProgress | None = None) -> None:
        """Save after an epoch, or in the midst of one: `partial` is how far it has come.

        best.pt comes first: after a kill between the two, the epoch is run again and writes it
        again, whereas a best.pt that came too late would be missing for good.
        """
        if partial is None:
            self.at = EpochProgress()  # the next epoch's
        if self.out is None or distributed.rank() != 0:
            return
        if partial is None and self.history.epochs_since_best() == 0:
            save_checkpoint(self.out / "best.pt", self.result, self.data)
        state: dict[str, Any] = {
            "settings": self.settings,
            "rows": self.history.rows,
            "machine": {**describe_machine(self.compute.device), "processes": distributed.world()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "partial": None if partial is None else asdict(partial),
        }
        if self.average is not None:
            state["trained"] = self.model.state_dict()
            state["averaged_steps"] = int(self.average.n_averaged)
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        save_checkpoint(self.out / "last.pt", self.result, self.data, state)
        if partial is None:
            self.history.save(self.out, figure=False)
            tensorboard(self.out, self.history.rows[-1])

    def begin_row(self, epoch: int) -> dict[str, float]:
        """Start the clock of an epoch, and its row in the history."""
        self.start = self.compute.start_clock()
        if self.at.lr is None:  # (else its first part was run before)
            self.at.lr = self.optimizer.param_groups[0]["lr"]
        return {"epoch": epoch + 1, "lr": self.at.lr}

    def seconds(self) -> float:
        """The time that this epoch has taken."""
        return self.at.seconds + time.perf_counter() - self.start

    def extras(self, images: int) -> dict[str, float]:
        """What the epoch's row tells besides: speed, steps that float16 skipped, peak of memory."""
        found: dict[str, float] = {}
        if self.scaler is not None:
            found["skipped_steps"] = self.at.skipped
        if self.compute.device.type == "cuda":
            found["peak_gb"] = torch.cuda.max_memory_allocated(self.compute.device) / 1e9
        return {**found, "images_per_second": images / self.seconds()}

    def pause(self) -> None:
        """Save in the midst of an epoch."""
        self.at.seconds = self.seconds()
        self.save(self.at.gathered())
        distributed.wait()  # the file is there for all of them

    def finish(self) -> None:
        """Draw the history; the model ends with the weights that were evaluated."""
        if self.out is not None and self.history.rows and distributed.rank() == 0:
            self.history.save(self.out, figure=True)  # also where a kill came before them
        distributed.same_buffers(self.result)
        distributed.wait()
        if self.average is not None:
            self.model.load_state_dict(self.result.state_dict())


def moving_average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """w̄ ← decay · w̄ + (1 − decay) · w after each step, BatchNorm's statistics likewise.

    (Those of the last weights would not fit the average, which gives other activations.)
    The average starts as the weights after the first step (Polyak & Juditsky, 1992; as here:
    Tarvainen & Valpola, 2017, arXiv:1703.01780).
    """
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def model_settings(model: nn.Module) -> dict[str, Any]:
    """What a run's settings say of its model."""
    return {
        "model": getattr(model, "name", type(model).__name__),
        "num_classes": getattr(model, "num_classes", None),
        **getattr(model, "options", {}),
    }
