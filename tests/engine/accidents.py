"""What may happen to a run: a kill, a signal; and processes to try it on."""

import multiprocessing
import os
import signal
from pathlib import Path

import torch
from toys import tiny_run

from seglib.losses import CrossEntropyLoss


class Killed(BaseException):
    """Stands for the end of the process: no code may catch it and go on."""


class Hit(CrossEntropyLoss):
    """Cross-entropy that in its `at`-th call is killed, or gets a signal of this number."""

    def __init__(self, at: int | None = None, number: int | None = None):
        super().__init__()
        self.at, self.number, self.calls = at, number, 0

    def __repr__(self):  # (compared on resume)
        return "Hit"

    def forward(self, logits, target):
        self.calls += 1
        if self.calls == self.at:
            if self.number is None:
                raise Killed
            signal.raise_signal(self.number)
        return super().forward(logits, target)


def terminated(at: int | None = None):
    return Hit(at, signal.SIGTERM)


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def training_of(out: Path):
    """The training state in last.pt."""
    return torch.load(out / "last.pt", weights_only=True)["training"]


def forkserver():
    """Starts processes by forking one that has imported everything, and trained nothing."""
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        imported = "seglib.training", "albumentations", "torch._dynamo", "matplotlib.pyplot"
        context.set_forkserver_preload(list(imported))
    return context


def tiny_process(out, resume, workers, method, options):
    """The body of a process that a test may kill; writes final.pt when it ends by itself."""
    if method is not None:
        multiprocessing.set_start_method(method, force=True)
    torch.set_num_threads(1)
    model, _ = tiny_run(Path(out), resume, workers, **options)
    torch.save(model.state_dict(), Path(out) / "final.pt")
