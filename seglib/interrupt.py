"""A stop in the midst of an epoch: what a signal does to a run, and where the run stands then."""

from __future__ import annotations

import signal
import threading
from dataclasses import asdict, dataclass, field
from types import FrameType, TracebackType
from typing import Any

import torch

from seglib import distributed


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGINT came; the run is saved at the end of a step, `resume=True` goes on."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"{signal.Signals(number).name}: saved at the end of a step; go on with "
            "resume=True (--resume)"
        )
        self.number = number


@dataclass
class Position:
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

    def gathered(self) -> Position:
        """The sums over all processes, and everyone's generators."""
        sums = distributed.total(self.total, self.mass, self.images)
        content = {**asdict(self), "total": sums[0], "mass": sums[1], "images": int(sums[2])}
        everyones = [state for states in distributed.gather(self.random) for state in states]
        return Position(**{**content, "random": everyones})

    def mine(self) -> Position:
        """This process's share of a saved position: the sums stay with the first one."""
        rank = distributed.rank()
        if rank == 0:
            return self
        return Position(self.step, skipped=self.skipped, lr=self.lr, random=self.random)

    def restore_random(self, device: torch.device) -> None:
        """Let torch's generators go on as they were."""
        if not self.random:
            return
        rank = distributed.rank()
        state, self.random = self.random[rank if rank < len(self.random) else 0], []
        torch.set_rng_state(state["cpu"])
        if state.get("cuda") is not None and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], device)


class Signals:
    """While the block runs, SIGTERM and SIGINT wait for the end of a step: `check` raises then.

    A second signal acts at once, as without this. Idle unless `active` and in the main thread.
    """

    def __init__(self, active: bool, device: torch.device) -> None:
        self.active = active and threading.current_thread() is threading.main_thread()
        self.device, self.received = device, 0
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGTERM, signal.SIGINT) if self.active else ():
            self.handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        received = distributed.highest(self.received) if kind is None else 0
        if received:  # it came after the last step: all is saved
            raise Interrupted(received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            signal.signal(number, self.handlers[number])
            signal.raise_signal(number)
        self.received = number

    def check(self, at: Position | None = None) -> None:
        """Raise Interrupted if a signal has come, to any process: all of them call this.

        `at`, the epoch's position, also takes down where the random numbers stand.
        """
        received = distributed.highest(self.received)
        if received:
            self.received = 0
            if at is not None:
                cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
                at.random = [{"cpu": torch.get_rng_state(), "cuda": cuda}]
            raise Interrupted(received)
