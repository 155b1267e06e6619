"""What SIGTERM and Ctrl-C do to a run: it ends after a step, saved where it stands."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch

from seglib.engine import distributed
from seglib.engine.state import EpochProgress


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGINT came; the run is saved at the end of a step, `resume=True` goes on."""

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"{name}: saved at the end of a step; go on with resume=True (--resume)")
        self.number = number


class StopOnSignal:
    """While the block runs, SIGTERM and SIGINT wait for the end of a step: `check` raises then.

    A second signal acts at once, as without this. Idle unless `active` and in the main thread.
    """

    def __init__(self, active: bool, device: torch.device) -> None:
        self.active = active and threading.current_thread() is threading.main_thread()
        self.device, self.received = device, 0
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGTERM, signal.SIGINT) if self.active else ():
            self.handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if kind is None:  # a signal after the last step: all is saved
            self.check()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            signal.signal(number, self.handlers[number])
            signal.raise_signal(number)
        self.received = number

    def check(self, done: EpochProgress | None = None) -> None:
        """Raise Interrupted if a signal has come, to any process: all of them call this.

        `done`, the epoch's progress, also takes down where the random numbers stand.
        """
        received = distributed.max_over_processes(self.received)
        if received:
            self.received = 0
            if done is not None:
                cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
                done.random = [{"cpu": torch.get_rng_state(), "cuda": cuda}]
            raise Interrupted(received)
