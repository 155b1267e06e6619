"""How long the worker processes of a loader live; what they do there is PyTorch's."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.util import Finalize
from types import FrameType


class WorkerInit:
    """The `worker_init_fn` of our loaders: a worker lasts as long as its process, and no longer.

    Ctrl-C and SIGTERM reach all of a group, but the main process finishes its step first.
    """

    def __init__(self) -> None:
        self.leave = multiprocessing.Event()
        # Set when the loader is gone, or its process ends: before that terminates its children
        Finalize(self, self.leave.set, exitpriority=100)

    def __call__(self, number: int) -> None:
        parent = multiprocessing.parent_process()
        if parent is None:
            return

        def end_with_parent() -> None:  # however it went: torch's watchdog misses a fork server's
            parent.join()
            os._exit(1)

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._asked)
        threading.Thread(target=end_with_parent, name="watch", daemon=True).start()

    def _asked(self, number: int, frame: FrameType | None) -> None:
        """Obey a SIGTERM if the process that this one serves is leaving, and no other."""
        if self.leave.is_set():
            os._exit(0)
