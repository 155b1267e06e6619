"""The course on processors that are not here: notebooks, solved copies and tests, world by world.

    python tests/everywhere.py                       every world; up to an hour on two idle cores
    python tests/everywhere.py --worlds avx2,jitter-1 --lessons 03,06 --only notebooks,copies
    python tests/everywhere.py --table FILE          also write the table as Markdown

A world is this machine, made to add and round as another would: older instruction sets (by the
switches of PyTorch, oneDNN, MKL, NumPy, OpenBLAS and OpenCV), no oneDNN, another number of
threads, or jitter (jitter.py), which stands for the processors that nobody here has. Nothing may
differ in any of them.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import commands
import kernel_env
import notebook_copies
import workbook

TESTS = Path(__file__).resolve().parent
NUMPY_512 = "X86_V4 AVX512_ICL AVX512_SPR"
OPENCV_512 = "AVX512-SKX,AVX512-CNL,AVX512-CLX,AVX512-ICL"
NO_OPENCV = OPENCV_512 + ",AVX2,AVX,FMA3,FP16"
SWITCHES = ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"]
SWITCHES += ["OPENBLAS_CORETYPE", "OPENCV_CPU_DISABLE", "NPY_DISABLE_CPU_FEATURES"]
OLDER = ("avx2", "AVX2", "AVX2", "Haswell", OPENCV_512, NUMPY_512)
OLDEST = ("default", "SSE41", "SSE4_2", "Nehalem", NO_OPENCV, NUMPY_512 + " X86_V3")
AVX2, NONE = (dict(zip(SWITCHES, values, strict=True)) for values in (OLDER, OLDEST))
Found = dict[str, dict[str, str]]  # world -> what differs -> what was said
ALL = ("notebooks", "copies", "tests")
# Noise of training and inference that stands for a change of hardware, at its strongest
STRONG = {"gradient": 1e-3, "convolution": 1e-3, "rounding": 1e-6}
WEAK = {"gradient": 1e-6, "convolution": 1e-6, "rounding": 1e-6}
# What computes nothing
TOOLS = ("bootstrap", "commands", "lab", "notebooks", "wheel", "workbook", "workflows")
PLUMBING = [*(f"test_{name}.py" for name in TOOLS), "data/test_download.py", "data/local_server.py"]
# What compares this process with processes of its own: noise and switches do not reach those
PROCESSES = ("engine/test_distributed.py", "engine/test_resume.py::test_a_true_kill")


@dataclass(frozen=True)
class World:
    name: str
    environ: dict[str, str] = field(default_factory=dict)
    inside: dict[str, float] = field(default_factory=dict)  # arguments of jitter.install
    threads: int = 1
    parts: tuple[str, ...] = ALL


WORLDS = {
    world.name: world
    for world in (
        World("here"),
        World("here-2", threads=2, parts=ALL[:1]),
        World("avx2", AVX2),
        World("avx2-2", AVX2, threads=2, parts=ALL[:1]),
        World("none", NONE),  # no vector instructions
        World("none-2", NONE, threads=2, parts=ALL[:1]),
        World("no-onednn", inside={"mkldnn": False}),
        World("rounding", inside={"seed": 3, **WEAK}),
        World("jitter-1", inside={"seed": 1, **STRONG}, parts=ALL[:2]),
        World("jitter-2", inside={"seed": 2, **STRONG}, parts=ALL[:2]),
    )
}

STARTUP = f"""
import sys as _sys
_sys.path.insert(0, {str(TESTS)!r})
import jitter as _jitter
_jitter.from_environment()
_sys.path.remove({str(TESTS)!r})
del _sys, _jitter
"""


def environment(world: World, ipython: Path) -> dict[str, str]:
    """The variables of a world; its kernels run what `ipython` has in its start-up folder."""
    found = {**os.environ, **world.environ}
    found.pop("SEGLIB_WORLD", None)  # (of a world around this one)
    kernel_env.apply(found, threads=world.threads)
    if world.inside:
        found["SEGLIB_WORLD"] = json.dumps(world.inside)
        startup = ipython / "profile_default" / "startup"
        startup.mkdir(parents=True, exist_ok=True)
        (startup / "00_world.py").write_text(STARTUP, encoding="utf-8")
        found["IPYTHONDIR"] = str(ipython)
    return {**found, "SEGLIB_COPIES": "all"}


def command(world: World, part: str, notebooks: list[Path], workers: int) -> list[str]:
    """The pytest of one part of a world."""
    n = workers if world.threads == 1 else 1
    pytest = [sys.executable, "-m", "pytest", "-q", "-n", str(n), "--dist"]
    if part == "notebooks":
        timeout = f"--nbval-cell-timeout={4 * commands.TIMEOUT}"
        pytest += ["loadfile", "--nbval", "--nbval-current-env", timeout]
        return [*pytest, *map(str, notebooks)]
    if part == "copies":
        chosen = " or ".join(f"TestLesson{path.name[:2]}" for path in notebooks)
        pytest += ["worksteal", "-k", f"({chosen}) and wrong_and_then_right"]
        return [*pytest, str(TESTS / "test_notebook_copies.py")]
    ignored = [f"--ignore={TESTS / name}" for name in (*PLUMBING, "test_notebook_copies.py")]
    if world.inside:
        ignored += [f"--deselect=tests/{name}" for name in PROCESSES]
    where = [str(TESTS), str(commands.ROOT / "seglib")]
    return [*pytest, "worksteal", "-m", "not soak", *ignored, *where]


def differences(report: Path) -> dict[str, str]:
    """What failed, by name, and what was said, from pytest's report."""
    if not report.exists():
        return {"(pytest)": "wrote no report"}
    found = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}".removeprefix("tests.")
        cell = re.search(r"(\d\d_\w+)(?:\.ipynb|::ipynb)?::.*?Cell (\d+)", name)
        name = f"{cell[1]} [{int(cell[2]) + 1}]" if cell else name  # 06_amp_training [7]
        for problem in (*case.iter("failure"), *case.iter("error")):
            found[name] = told(f"{problem.get('message', '')}\n{problem.text or ''}")
    return found


TELLING = r"E  |<<<|>>>|[-+?] |AssertionError|disagrees|.*Error"


def told(text: str) -> str:
    """The lines of a failure that say what differs."""
    plain = re.sub(r"\x1b\[[0-9;]*m|#x1B\[[0-9;]*m", "", text)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(TELLING, line)]
    return " / ".join((telling or lines)[:12])[:700]


def run(world: World, parts: list[str], notebooks: list[Path], workers: int = 2) -> dict[str, str]:
    """What differs in a world; prints as it goes."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        environ = environment(world, Path(folder) / "ipython")
        for part in (part for part in world.parts if part in parts):
            report = Path(folder) / f"{part}.xml"
            start = time.perf_counter()
            line = [*command(world, part, notebooks, workers), f"--junitxml={report}"]
            how = {"cwd": commands.ROOT, "env": environ, "capture_output": True, "text": True}
            done = subprocess.run(line, **how)
            differ = differences(report)
            if done.returncode not in (0, 5) and not differ:
                differ = {f"({part})": " / ".join(done.stdout.splitlines()[-5:])}
            found |= differ
            seconds, what = time.perf_counter() - start, len(differ) or "nothing"
            print(f"{world.name:<10} {part:<9} {seconds:5.0f} s, {what} differs", flush=True)
            for name, text in differ.items():
                print(f"    {name}: {text}", flush=True)
    return found


def table(found: Found) -> str:
    """Markdown: cell or test × world, and what differed where."""
    names = sorted({name for differ in found.values() for name in differ})
    lines = [f"| what | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for name in names or ["(nothing differs)"]:
        marks = ("differs" if name in differ else "·" for differ in found.values())
        lines.append(f"| {name} | {' | '.join(marks)} |")
    for world, differ in found.items():
        lines += [f"\n- {world}, {name}: {text}" for name, text in differ.items()]
    return "\n".join(lines)


def note_verified(found: Found, notebooks: list[Path], parts: list[str]) -> None:
    """Keep the digests of lessons whose copies passed in every world; `make test` asks for them."""
    needed = {world.name for world in WORLDS.values() if "copies" in world.parts}
    if "copies" not in parts or not needed <= set(found):
        return
    failed = " ".join(name for differ in found.values() for name in differ)
    before = notebook_copies.verified()
    for path in notebooks:
        number = workbook.handle(path)  # (of a deep dive there is no copy)
        passed = f"TestLesson{number}" not in failed and "(copies)" not in failed
        if number.isdigit() and number != "00" and passed:
            before[number] = notebook_copies.digest(path)
    text = json.dumps(dict(sorted(before.items())), indent=1) + "\n"
    notebook_copies.VERIFIED.write_text(text, encoding="utf-8", newline="\n")


def main(argv: list[str]) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    # a shell that runs this in the background ignores Ctrl-C, and tests of it would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--lessons", default="", help="such as 03,06 (default: all)")
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", type=Path)
    chosen = parser.parse_args(argv)
    unknown = set(chosen.worlds.split(",")) - set(WORLDS)
    if unknown:
        named = ", ".join(sorted(unknown))
        raise commands.Trouble(f"there is no world {named}; there are: {', '.join(WORLDS)}")
    numbers = [number for number in chosen.lessons.split(",") if number]
    notebooks = commands.lessons(numbers, extras=True)
    found = {
        name: run(WORLDS[name], chosen.only.split(","), notebooks, chosen.workers)
        for name in chosen.worlds.split(",")
    }
    print("\n" + table(found))
    note_verified(found, notebooks, chosen.only.split(","))
    if chosen.table:
        chosen.table.write_text(table(found) + "\n", encoding="utf-8")
    return int(any(found.values()))


if __name__ == "__main__":
    commands.guarded(main, sys.argv[1:])
