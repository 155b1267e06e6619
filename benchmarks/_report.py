"""What every benchmark shares: its table, and the record that the tables are made from.

    make bench                                   # prints all tables, with machine and load
    make bench ARGS=--record                     # also results/experiments/benchmarks.json
    python benchmarks/_report.py                 # the table of all in benchmarks/README.md
    python benchmarks/_report.py growth          # the one of this script there

Of each case the first contender is ours, or the one that is tried; `times` says how many times
better it is than another.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECORD = HERE.parent / "results" / "experiments" / "benchmarks.json"
PEERS = ("torchmetrics", "monai", "kornia", "segmentation-models-pytorch", "pytorch-lightning")
PEERS += ("transformers",)


def cores_busy() -> float | None:
    """How many cores other work keeps busy: over a second, or (not on Linux) the load average.

    The load average would count the benchmark of before for minutes.
    """
    stat = Path("/proc/stat")
    if not stat.exists():
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    spent = []
    for pause in (1, 0):
        times = list(map(int, stat.read_text().splitlines()[0].split()[1:]))
        spent.append((sum(times), times[3] + times[4]))  # all, idle and waiting
        time.sleep(pause)
    (before, idle_before), (now, idle) = spent
    return (os.cpu_count() or 1) * (1 - (idle - idle_before) / max(1, now - before))


LOAD = cores_busy() if Path(sys.argv[0]).resolve().parent == HERE else None  # (of a benchmark)


@dataclass(frozen=True)
class Row:
    case: str  # "U-Net base 8, 96×128"
    contender: str
    value: float
    unit: str  # "ms", "images/s", "MB"
    rounds: tuple[float, ...] = ()  # of contenders that took turns; `value` is the median

    def ratios(self, other: Row) -> list[float]:
        """How many times better this is, round by round: of speeds and scores more is better."""
        more = self.unit.endswith(("/s", "mIoU"))
        pairs = zip(self.rounds or (self.value,), other.rounds or (other.value,), strict=True)
        return [a / b if more else b / a for a, b in pairs]

    def times(self, other: Row) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios(other))


def report(script: str, rows: list[Row], instead: str | None = None) -> None:
    """Print the table of a benchmark, and store it if the command line says --record.

    What was measured on something else, `instead`, is not stored.
    """
    entry = {
        "load": LOAD and round(LOAD, 1),
        "machine": machine(),
        "rows": [stored(row) for row in rows],
    }
    print(f"{Path(script).name}\n{page(entry)}")
    if "--record" in sys.argv and instead is not None:
        print(f"not recorded: measured on {instead}")
    elif "--record" in sys.argv:
        from seglib.util.files import atomic_write

        content = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
        content = dict(sorted({**content, Path(script).stem: entry}.items()))
        with atomic_write(RECORD) as temporary:
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8")


def stored(row: Row) -> dict[str, Any]:
    found = {
        **asdict(row),
        "value": round(row.value, 4),
        "rounds": [round(value, 2) for value in row.rounds],
    }
    return {key: value for key, value in found.items() if value != []}


def machine() -> dict[str, Any]:
    import torch

    from seglib.util.machine import describe_machine

    found = describe_machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    found["peers"] = {}
    for name in PEERS:
        try:
            found["peers"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def page(entry: dict[str, Any]) -> str:
    """A script's table, below the machine and the versions it was measured with."""
    found = entry["machine"]
    half = "".join(f", {name}" for name in found.get("half_precision", ()))
    versions = ["torch " + found["torch"], *(" ".join(peer) for peer in found["peers"].items())]
    return (
        f"{found['hardware']}{half}, {found['threads']} threads, {', '.join(versions)}; cores "
        f"busy before: {entry['load']}.\n\n" + table([Row(**row) for row in entry["rows"]])
    )


def cases(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each case and unit, ours first."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.case, row.unit), []).append(row)
    return found


def table(rows: list[Row]) -> str:
    """A line for each contender, a column for each unit; in brackets, how much better ours is."""
    groups, units = cases(rows), list(dict.fromkeys(row.unit for row in rows))
    lines = [f"| case | contender | {' | '.join(units)} |", "|---|---|" + "---|" * len(units)]
    last = ""
    for case, contender in dict.fromkeys((row.case, row.contender) for row in rows):
        cells = []
        for unit in units:
            group = groups.get((case, unit), [])
            row = next((row for row in group if row.contender == contender), None)
            ratio = "" if row in (None, *group[:1]) else f" ({said(group[0], row)})"
            cells.append("" if row is None else f"{rounded(row.value)}{ratio}")
        lines.append(f"| {case if case != last else ''} | {contender} | {' | '.join(cells)} |")
        last = case
    return "\n".join(lines)


def said(ours: Row, other: Row) -> str:
    """ "1.30×", and of rounds the middle half of the ratios: "1.30×, 1.24 to 1.37"."""
    found = ours.ratios(other)
    if len(found) < 4:
        return f"{ours.times(other):.2f}×"
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return f"{ours.times(other):.2f}×, {low:.2f} to {high:.2f}"


def rounded(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def summary(content: dict[str, Any]) -> str:
    """The table of all: of each case ours, and the best of the others."""
    lines = ["| what | ours | the best other | ratio | machine |", "|---|---|---|---|---|"]
    for entry in content.values():
        rows = [Row(**row) for row in entry["rows"]]
        for (case, _), (ours, *others) in cases(rows).items():
            others = [row for row in others if not row.contender.startswith("fit")]  # (ours, too)
            if others:
                best = min(others, key=ours.times)
                lines.append(
                    f"| {case} | {rounded(ours.value)} {ours.unit} | {rounded(best.value)}, "
                    f"{best.contender} | {said(ours, best)} | {entry['machine']['hardware']} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    recorded = json.loads(RECORD.read_text("utf-8"))
    print(page(recorded[sys.argv[1]]) if len(sys.argv) > 1 else summary(recorded))
