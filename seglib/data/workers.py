"""What a loader's worker processes do about signals, and about the end of the process they serve.

A signal to a whole group of processes (Ctrl-C, a cluster's SIGTERM) reaches the workers as well;
they stay, since training needs them to finish its step, and leave when it tells them to. And a
worker whose process has been killed must not wait for it for ever, holding its memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.util import Finalize
from types import FrameType


class WorkerInit:
    """The `worker_init_fn` of our loaders."""

    def __init__(self) -> None:
        self.leave = multiprocessing.Event()
        # Set when the loader is gone, or its process ends: before that terminates its children
        Finalize(self, self.leave.set, exitpriority=100)

    def __call__(self, number: int) -> None:
        parent = multiprocessing.parent_process()
        if parent is None:
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._asked)
        threading.Thread(target=_watch, args=(parent,), name="watch", daemon=True).start()

    def _asked(self, number: int, frame: FrameType | None) -> None:
        """Obey a SIGTERM if the process that this one serves is leaving, and no other."""
        if self.leave.is_set():
            os._exit(0)


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process as soon as the one that started it is gone, however it went.

    (`os.getppid`, which torch's own watchdog asks, names the fork server instead, if there is one.)
    """
    parent.join()
    os._exit(1)
