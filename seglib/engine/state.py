"""A training run on its way: all that it needs to go on, saved and restored as one."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from seglib.data.loader import SampleKey
from seglib.engine import checkpoints, distributed
from seglib.engine.checkpoints import DataSpec, load_state, plain_state, save_checkpoint
from seglib.engine.history import History
from seglib.engine.plain import plain
from seglib.engine.precision import Compute, make_optimizer
from seglib.engine.schedules import PER_STEP, make_scheduler
from seglib.models.freezing import parameter_groups
from seglib.util.files import lock
from seglib.util.machine import describe_machine

FILES = ("last.pt", "best.pt", "history.csv", "history.png")  # what a run leaves in `out`


@dataclass
class EpochProgress:
    """How far an epoch has got: batches done, and what they add up to (over all processes)."""

    step: int = 0  # batches, of `accumulate` to a step of the optimiser
    total: float = 0.0  # Σ loss · denominator
    denominator: float = 0.0  # Σ what the losses were divided by: valid pixels, say
    images: int = 0
    skipped: int = 0  # steps without effect: float16 overflowed
    seconds: float = 0.0
    lr: float | None = None  # at the epoch's beginning
    random: list[dict[str, Any]] = field(default_factory=list)  # generators, by process

    def add(self, loss: float, denominator: float, images: int) -> None:
        """Add up a batch, which `step` counts already."""
        self.images += images
        self.total += loss * denominator
        self.denominator += denominator

    @property
    def mean(self) -> float:
        """The loss so far."""
        return self.total / (self.denominator or 1)

    def over_processes(self) -> EpochProgress:
        """The sums over all processes, and everyone's generators."""
        if distributed.world() == 1:
            return self
        total, denominator, images = distributed.total(self.total, self.denominator, self.images)
        sums = {"total": total, "denominator": denominator, "images": int(images)}
        everyones = [state for states in distributed.gather(self.random) for state in states]
        return EpochProgress(**{**asdict(self), **sums, "random": everyones})

    def mine(self) -> EpochProgress:
        """This process's part of saved progress: the sums stay with the first one."""
        if distributed.rank() == 0:
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


class Run:
    """What training changes, and where it is kept.

    A moving average of the weights (`average`) is what is evaluated and what the files hold as the
    model; last.pt has the weights as trained besides.
    """

    def __init__(
        self,
        model: nn.Module,
        compute: Compute,
        settings: dict[str, Any],
        loader: Any,
        out: str | os.PathLike[str] | None,
    ) -> None:
        """Optimiser, schedule and the rest for `settings`, those of `fit`."""
        if not len(loader):
            raise ValueError("the training loader has no batch; use a smaller batch or more data")
        self.model = model.to(memory_format=compute.memory_format)
        self.data = DataSpec.of(getattr(loader, "dataset", None))
        self.out = None if out is None else Path(os.path.expanduser(out))
        if out is not None:  # what no checkpoint can hold is refused now, not after an epoch
            settings = plain(settings, "settings", tensors=False)
            checkpoints.header(model, self.data), plain_state(model)
        self.compute, self.settings = compute, settings
        self.done = EpochProgress()  # in the epoch that is on
        self.start = 0.0  # of this epoch, or of its second part
        best_key = "val_miou" if settings["validation"] else "train_loss"
        self.history = History(best_key=best_key)
        self.steps = math.ceil(len(loader) / settings["accumulate"])
        lr, slower = settings["lr"], settings["backbone_lr"]
        groups: Any = model.parameters() if slower is None else parameter_groups(model, lr, slower)
        self.top = lr if slower is None else [lr, slower]
        self.optimizer = make_optimizer(groups, compute.device, lr, settings["weight_decay"])
        self._schedule(settings["epochs"])
        self.scaler = compute.scaler()
        self.average = moving_average(model, settings["ema"])

    @property
    def result(self) -> nn.Module:
        """The model that is evaluated and kept."""
        return self.model if self.average is None else self.average.module

    def _schedule(self, epochs: int) -> None:
        """Begin the schedule of the learning rate, for so many epochs."""
        how = self.top, epochs, self.steps, self.history.best_key
        self.scheduler = make_scheduler(self.settings["schedule"], self.optimizer, *how)

    def open(self, resume: bool | str) -> ExitStack:
        """Restore what `out` has of this run; it is held, for a `with` block, against other runs.

        With `resume` "extend" there may be more epochs: "onecycle" and "poly" begin anew for those
        to come, as warm restarts (Loshchilov & Hutter, 2017, arXiv:1608.03983).
        """
        if resume not in (False, True, "extend"):
            raise ValueError(f'found resume={resume!r}, expected True, False or "extend"')
        with ExitStack() as held:
            if self.out is not None:
                checkpoints.make_folder(self.out)
                mine = distributed.rank() > 0 or held.enter_context(lock(self.out / ".lock"))
                if not distributed.broadcast_from_first(mine):
                    text = f"another run is under way in {self.out}; wait for its end, or choose"
                    raise BlockingIOError(f"{text} another out")
                self._go_on(self.out, resume)
            return held.pop_all()

    def _go_on(self, out: Path, resume: bool | str) -> None:
        last, best = out / "last.pt", out / "best.pt"
        if last.exists():
            self._restore(checkpoints.read_training(last, resume, self.settings))
        elif best.exists():
            text = f"{out} has the best.pt of an earlier run, and no last.pt to go on from"
            raise FileExistsError(f"{text}; choose another out, or move it away")
        if distributed.rank() == 0:
            if self.history.rows and self.done.lr is None:  # a kill might have come before best.pt
                self._save_best(out)
            for stale in (part for name in FILES for part in out.glob(f".{name}.*.part")):
                stale.unlink()  # left by a kill in the midst of a save

    def _restore(self, training: dict[str, Any]) -> None:
        saved, epochs = training["optimizer"], self.settings["epochs"]
        self.history.rows.extend(training["rows"])
        longer = epochs != training["settings"]["epochs"] and self.settings["schedule"] in PER_STEP
        if longer:
            self._schedule(epochs - len(self.history.rows))
            saved["param_groups"] = self.optimizer.state_dict()["param_groups"]
        for group, here in zip(saved["param_groups"], self.optimizer.param_groups, strict=True):
            group["fused"] = here.get("fused")  # (this device's, not that of before)
        self.optimizer.load_state_dict(saved)
        for parameter, state in self.optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq") if "exp_avg" in state else ():
                state[key] = torch.empty_like(parameter).copy_(state[key])  # (this layout)
        if not longer:
            self.scheduler.load_state_dict(training["scheduler"])
        load_state(self.result, training["state"])
        if self.average is not None:
            load_state(self.model, training["trained"])
            self.average.n_averaged.fill_(training["averaged_steps"])
        if self.scaler is not None:
            self.scaler.load_state_dict(training["scaler"])
        if training.get("partial") is not None:
            self.done = EpochProgress(**training["partial"]).mine()

    def begin_epoch(self, epoch: int) -> dict[str, float]:
        """Start the clock of an epoch, and its row in the history."""
        self.start = self.compute.start_clock()
        if self.done.lr is None:  # (else its first part was run before)
            self.done.lr = self.optimizer.param_groups[0]["lr"]
        return {"epoch": epoch + 1, "lr": self.done.lr}

    def end_epoch(self, row: dict[str, float]) -> None:
        """Add the epoch's row to the history, move the schedule, save."""
        row = distributed.broadcast_from_first({**row, "seconds": self.seconds()})
        self.history.rows.append(row)
        if self.settings["schedule"] == "plateau":
            self.scheduler.step(row[self.history.best_key])
        self.done = EpochProgress()  # the next epoch's
        if self.out is not None and distributed.rank() == 0:
            self._save(self.out, None)
            self._save_best(self.out)  # (`open` does so again after a kill between the two)
            self.history.save(self.out, figure=False)

    def _save_best(self, out: Path) -> None:
        if self.history.epochs_since_best() == 0:
            save_checkpoint(out / "best.pt", self.result, self.data)

    def pause(self) -> None:
        """Save in the midst of an epoch."""
        self.done.seconds, self.start = self.seconds(), time.perf_counter()
        done = self.done.over_processes()
        if self.out is not None and distributed.rank() == 0:
            self._save(self.out, asdict(done))
        distributed.wait()  # the file is there for all of them

    def _save(self, out: Path, partial: dict[str, Any] | None) -> None:
        """Write last.pt; `partial` is how far the epoch has come that is on."""
        state: dict[str, Any] = {
            "settings": self.settings,
            "rows": self.history.rows,
            "machine": {**describe_machine(self.compute.device), "processes": distributed.world()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "partial": partial,
        }
        if self.average is not None:
            state["trained"] = plain_state(self.model)
            state["averaged_steps"] = int(self.average.n_averaged)
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        save_checkpoint(out / "last.pt", self.result, self.data, state)

    def seconds(self) -> float:
        """The time that this epoch has taken."""
        return self.done.seconds + time.perf_counter() - self.start

    def measured(self, images: int) -> dict[str, float]:
        """What the epoch's row tells besides: speed, steps that float16 skipped, peak of memory."""
        found: dict[str, float] = {}
        if self.scaler is not None:
            found["skipped_steps"] = self.done.skipped
        if self.compute.device.type == "cuda":
            found["peak_gb"] = torch.cuda.max_memory_allocated(self.compute.device) / 1e9
        return {**found, "images_per_second": images / self.seconds()}

    def finish(self) -> None:
        """Draw the history; the model ends with the weights that were evaluated."""
        if self.out is not None and self.history.rows and distributed.rank() == 0:
            self.history.save(self.out, figure=True)  # also where a kill came before them
        distributed.broadcast_buffers(self.result)
        distributed.wait()
        if self.average is not None:
            self.model.load_state_dict(self.result.state_dict())


class MovingAverage(AveragedModel):
    """torch's average of a model, whose count of steps does not make a GPU wait in each of them."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.update = get_ema_multi_avg_fn(decay)
        self.n_averaged = self.n_averaged.cpu()

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        kinds: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
        for mine, theirs in zip(_tensors(self.module), _tensors(model), strict=True):
            kinds.setdefault(mine.dtype, []).append((mine, theirs))
        for pairs in kinds.values():
            averages, weights = map(list, zip(*pairs, strict=True))
            if self.n_averaged == 0:
                torch._foreach_copy_(averages, weights)
            else:
                self.update(averages, weights, self.n_averaged)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain((p.detach() for p in model.parameters()), model.buffers())


def moving_average(model: nn.Module, decay: float | None) -> MovingAverage | None:
    """w̄ ← decay · w̄ + (1 − decay) · w after each step, from the weights after the first on.

    BatchNorm's statistics likewise: those of the last weights would not fit the average's
    activations. (Polyak & Juditsky, 1992; as here: Tarvainen & Valpola, 2017, arXiv:1703.01780.)
    """
    return None if decay is None else MovingAverage(model, decay)


@contextmanager
def epoch_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers (dropout, say) from (seed, epoch, rank); then restore them."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(SampleKey(seed, epoch, distributed.rank()).derived_seed())
        yield
