"""How long should a thread that waits for the others spin before it sleeps?

    python benchmarks/waiting.py          # two minutes

Steps of a small U-Net (base 8, four images of 72×96) with two threads, in a process alone on the
machine and in two such processes at once, for several settings of OpenMP. Rounds alternate.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from _report import Row, report

SETTINGS = {
    "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "PASSIVE, 2,000 spins": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"},
    "nothing set": {},
}
STEPS, ROUNDS = 40, 3


def work() -> None:
    """Print the milliseconds of a training step."""
    import torch
    from torch.nn.functional import cross_entropy

    from seglib.models import UNet

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = UNet(11, base_channels=8)
    images, target = torch.randn(4, 3, 72, 96), torch.randint(0, 11, (4, 72, 96))
    for step in range(10 + STEPS):
        if step == 10:  # the first ones warm up
            start = time.perf_counter()
        cross_entropy(model(images), target).backward()
    print(1000 * (time.perf_counter() - start) / STEPS)


def step_time(setting: dict[str, str], processes: int) -> float:
    """Milliseconds a step, the mean over so many processes at once."""
    world = {
        key: value
        for key, value in os.environ.items()
        if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "work"],
            env=world | setting,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    return statistics.mean(float(process.communicate()[0]) for process in running)


def main() -> None:
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for name, setting in SETTINGS.items():
            for processes in (1, 2):
                found.setdefault((name, processes), []).append(step_time(setting, processes))
    names = sorted(SETTINGS, key=lambda name: "GOMP_SPINCOUNT" not in SETTINGS[name])  # ours first
    report(
        __file__,
        [
            Row(
                f"a training step, {('alone', 'two at once')[processes - 1]}",
                name,
                min(found[name, processes]),
                "ms",
            )
            for processes in (1, 2)
            for name in names
        ],
    )


if __name__ == "__main__":
    work() if "work" in sys.argv else main()
