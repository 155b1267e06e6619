"""Everything that needs a GPU, in one command that can be cut off at any time.

    python benchmarks/gpu_day.py --out gpu_day/out                    # all of it, half an hour
    python benchmarks/gpu_day.py --out gpu_day/out --seconds 540 trials=120 main=240 score=60
    python benchmarks/gpu_day.py --out gpu_day/tiny --tiny            # a rehearsal on a CPU

A stage is a process of its own with its own share of time: one that takes longer is stopped, and
the next begins. Each leaves its record in the folder (a stage that is recorded is not run again),
so the same command goes on after an end of the time, and a later one does what is left. Before the
first the parcels of CamVid are unpacked (gpu/parcels.py) that are in `--parcels`; without CamVid
the stages that need it say so. Two stages joined by + run side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TRAINING, SPEED, CHECKS = (HERE / "gpu" / f"{x}.py" for x in ("training", "speed", "checks"))
GRACE = 30  # seconds that a stage has beyond its share, to write what it has

# What a stage runs, behind the Python; {seconds}, {out} and {root} are filled in
COMMANDS: dict[str, list[str]] = {
    **{
        name: [str(TRAINING), name, "--out", "{out}", "--root", "{root}", "--seconds", "{seconds}"]
        for name in ("trials", "main", "render", "streets", "second", "score")
    },
    **{
        name: [str(SPEED), name, "--out", "{out}", "--root", "{root}", "--seconds", "{seconds}"]
        for name in ("loops", "augmentation", "precision", "compiled", "kernels", "networks")
    },
    "tests": [str(CHECKS), "tests", "--out", "{out}", "--seconds", "{seconds}"],
    "lessons": [str(CHECKS), "lessons", "--out", "{out}", "--seconds", "{seconds}"],
}
# In this order, with seconds that fit a lent quarter of an hour
DAY = (
    *("trials=150", "main=270", "render=30", "streets=45+tests=60+lessons=60", "second=120"),
    *("score=60", "loops=90", "precision=60", "kernels=30", "networks=40", "augmentation=40"),
    "compiled=90",
)


@dataclass
class Stage:
    name: str
    seconds: float

    @classmethod
    def of(cls, text: str) -> Stage:
        name, _, seconds = text.partition("=")
        if name not in COMMANDS or (seconds and not seconds.replace(".", "").isdigit()):
            raise SystemExit(
                f"found {text!r}, expected name=seconds, a name of {', '.join(COMMANDS)}"
            )
        usual = dict(part.split("=") for line in DAY for part in line.split("+"))
        return cls(name, float(seconds or usual[name]))


class Day:
    def __init__(self, options: argparse.Namespace) -> None:
        self.out, self.root, self.tiny = options.out, options.root, options.tiny
        self.end = time.monotonic() + options.seconds
        self.log: list[dict[str, Any]] = []

    def run(self, line: str) -> None:
        """The stages of a line, side by side; each is stopped when its time is over."""
        stages = [stage for stage in map(Stage.of, line.split("+")) if not self.is_done(stage.name)]
        left = self.end - time.monotonic()
        if left < 5:
            self.log += [{"stage": stage.name, "outcome": "no time left"} for stage in stages]
            return
        started = [(stage, *self.start(stage, min(stage.seconds, left - 2))) for stage in stages]
        for stage, process, began, allowed in started:
            limit = min(began + allowed + GRACE, self.end) - time.monotonic()
            outcome: str | int = "stopped"
            try:
                outcome = process.wait(max(0.1, limit))
            except subprocess.TimeoutExpired:
                stop(process)
            seconds = round(time.monotonic() - began, 1)
            self.log.append({"stage": stage.name, "seconds": seconds, "outcome": outcome})
            print(f"-- {stage.name}: {outcome} after {seconds} s", flush=True)

    def start(self, stage: Stage, seconds: float) -> tuple[subprocess.Popen[bytes], float, float]:
        words = [
            w.format(out=self.out, root=self.root, seconds=seconds) for w in COMMANDS[stage.name]
        ]
        print(f"-- {stage.name}, {seconds:.0f} s", flush=True)
        # A session of its own, so that its workers end with it
        process = subprocess.Popen(
            [sys.executable, *words, *(["--tiny"] if self.tiny else [])],
            cwd=HERE.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths()), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        return process, time.monotonic(), seconds

    def is_done(self, name: str) -> bool:
        """Whether the stage has left a record that says it is whole."""
        for path in (self.out / f"{name}.json", self.out / f"speed_{name}.json"):
            if path.exists():
                return bool(json.loads(path.read_text()).get("complete", True))
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(3)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def paths() -> list[str]:
    """The library of this checkout first, whatever else is installed."""
    return [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stages", nargs="*", help="name=seconds …; none: the whole day")
    parser.add_argument("--out", type=Path, default=HERE.parent / "gpu_day" / "out")
    parser.add_argument("--root", type=Path, help="the folder with camvid/")
    parser.add_argument("--parcels", type=Path, default=HERE.parent / "gpu_day" / "parcels")
    parser.add_argument("--seconds", type=float, default=1800, help="for everything")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: sizes for a CPU")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    options.root = (options.root or options.out / "data").resolve()
    day = Day(options)
    if any(options.parcels.glob("camvid_*.zip")):
        sys.path.insert(0, str(HERE / "gpu"))
        from parcels import unpack

        began = time.monotonic()
        count = unpack(options.parcels, options.root / "camvid")
        print(f"-- {count} files unpacked in {time.monotonic() - began:.1f} s", flush=True)
    for line in options.stages or DAY:
        day.run(line)
    table = options.out / "day.json"
    before = json.loads(table.read_text()) if table.exists() else []
    table.write_text(json.dumps(before + day.log, indent=1))
    return 0


if __name__ == "__main__":
    sys.path[:0] = paths()
    sys.exit(main())
