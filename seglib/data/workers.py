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

GRACE = 60.0            # seconds that a worker stays after a SIGTERM of unknown origin


def init_worker(number: int) -> None:
    """The `worker_init_fn` of our loaders."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Threads that libraries have started before do not block the signal: it may come there
    signal.signal(signal.SIGTERM, lambda number, frame: _leave_later())
    if hasattr(signal, "sigwaitinfo"):                 # (on Linux, where clusters are)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})     # also in threads to come
        threading.Thread(target=_sift, args=(parent.pid,), name="sift", daemon=True).start()
    threading.Thread(target=_watch, args=(parent,), name="watch", daemon=True).start()


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process as soon as the one that started it is gone, however it went.

    (`os.getppid`, which torch's own watchdog asks, names the fork server instead, if there is one.)
    """
    parent.join()
    os._exit(1)


def _sift(parent: int | None) -> None:
    """Obey a SIGTERM from the process that this one serves, and no other."""
    while True:
        info = signal.sigwaitinfo({signal.SIGTERM})
        if info.si_pid == parent:
            os._exit(0)                                # it is told to: that is no failure


def _leave_later() -> None:
    timer = threading.Timer(GRACE, os._exit, (128 + signal.SIGTERM,))
    timer.daemon = True
    timer.start()
