"""The steps behind bootstrap.py's commands; runs in .venv, which bootstrap.py has made.

The imports at the top need the standard library only: `make lab` installs no test tools.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import kernel_env  # noqa: E402
import workbook  # noqa: E402

from bootstrap import Trouble, guarded, run  # noqa: E402

NOTEBOOKS, WORKBOOK = ROOT / "notebooks", ROOT / "workbook"
TIMEOUT = 180  # seconds for one cell; a dead kernel waits it out
MAX_FIGURE, MAX_NOTEBOOK = 250_000, 3_000_000
# (a third worker on two cores costs more in imports than it gains in waiting)
PYTEST = [sys.executable, "-m", "pytest", "-n", "2"]
BY_TEST, BY_FILE = ["--dist", "worksteal"], ["--dist", "loadfile"]  # a notebook has one kernel


def lessons(args: list[str], extras: bool = False) -> list[Path]:
    """The notebooks that `LESSON=03` (or a bare 03) names; all lessons without one.

    A deep dive is no lesson, but can be named: `LESSON=extra/03_borders`. With `extras` those of
    each lesson come along.
    """
    wanted = [arg.split("=")[-1].zfill(2) for arg in args if not arg.startswith("-")]
    known = {workbook.handle(path): path for path in workbook.originals(NOTEBOOKS)}
    names = wanted or [name for name in known if not name.startswith("extra/")]
    if not names or not set(names) <= set(known):
        there = [path.relative_to(NOTEBOOKS).with_suffix("").as_posix() for path in known.values()]
        named = ", ".join(wanted) or "at all"
        raise Trouble(f"there is no lesson {named} in notebooks/; there are: {', '.join(there)}")
    numbers = names if extras else []
    return [path for name, path in known.items() if name in names or path.name[:2] in numbers]


def git(*args: str) -> str:
    try:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise Trouble("git is not on PATH; install it, then run this again") from None
    if done.returncode != 0:
        raise Trouble(f"git {args[0]} failed: {done.stderr}; this needs a clone of the repository")
    return done.stdout


WIDGET = "application/vnd.jupyter.widget-view+json"


def normalise(notebook: Any) -> None:
    """Take out what differs between runs and machines, and what shows nothing without a kernel."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    number = 0
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in ("tags",) if cell.metadata.get(key)}
        if cell.cell_type != "code":
            continue
        number += 1
        cell.execution_count = number
        # Without a kernel a slider is a line of code to its readers
        cell.outputs = [each for each in cell.outputs if WIDGET not in each.get("data", {})]
        for output in cell.outputs:
            if "metadata" in output:
                output.metadata = {}
            if output.output_type == "execute_result":
                output.execution_count = number
            if output.output_type == "stream":  # (text that strict cells never print)
                output.text = output.text.replace(str(ROOT), "every-pixel")
                output.text = output.text.replace(str(Path.home()), "~")


def too_big(notebook: Any) -> list[str]:
    """What is larger than a stored notebook may be: figures, or the whole."""
    sizes = [
        (f"cell {cell.execution_count}: a figure of ", len(picture) * 3 // 4, MAX_FIGURE)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if (picture := output.get("data", {}).get("image/png"))
    ]
    sizes.append(("", len(json.dumps(notebook)), MAX_NOTEBOOK))
    faults = [(what, size // 1000, most // 1000) for what, size, most in sizes if size > most]
    return [f"{what}{size} kB (at most {most})" for what, size, most in faults]


def client(notebook: Any, folder: Path | None = None, **options: Any) -> Any:
    """What runs a notebook in a fresh kernel, as if it lay in `folder` (default: notebooks/)."""
    from nbclient import NotebookClient

    class Client(NotebookClient):
        """Asks for a reply every second: one long wait may miss it while widgets send pictures."""

        async def async_start_new_kernel_client(self) -> Any:
            kernel = await super().async_start_new_kernel_client()
            wait = kernel.shell_channel.get_msg

            async def get_msg(timeout: float | None = None) -> Any:
                end = time.monotonic() + (float("inf") if timeout is None else timeout)
                while (left := end - time.monotonic()) > 1:
                    with contextlib.suppress(queue.Empty):
                        return await wait(timeout=1)
                return await wait(timeout=max(0, left))

            kernel.shell_channel.get_msg = get_msg
            return kernel

    where = {"metadata": {"path": str(folder or NOTEBOOKS)}}
    usual = {"timeout": TIMEOUT, "kernel_name": "python3", "coalesce_streams": True}
    return Client(notebook, resources=where, **{**usual, **options})


def execute(source: Path, target: Path, timeout: int | None = TIMEOUT) -> None:
    """Run a notebook in a fresh kernel and write it, normalised, in one step."""
    import nbformat
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    notebook = nbformat.read(source, as_version=4)
    start = time.perf_counter()
    try:
        client(notebook, source.parent, timeout=timeout).execute()
    except CellExecutionError as error:
        print(error, flush=True)
        what = "stopped at an error and was not written; fix the cell shown above"
        raise Trouble(f"{source.name} {what}") from None
    except DeadKernelError:
        remedy = "close other programs (it may want memory), then run this again"
        raise Trouble(f"the kernel of {source.name} died; {remedy}") from None
    normalise(notebook)
    faults = too_big(notebook)
    if faults and target == source:
        raise Trouble(f"{source.name} was not written: {'; '.join(faults)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    nbformat.write(notebook, part)
    os.replace(part, target)
    seconds, size = time.perf_counter() - start, target.stat().st_size // 1000
    print(f"{target.relative_to(ROOT)}: {seconds:.1f} s, {size} kB", flush=True)


def run_notebooks(args: list[str]) -> int:
    """In place, from a clean tree only: stored outputs must come from committed code."""
    chosen = lessons(args, extras=True)
    changed = [line[3:] for line in git("status", "--porcelain").splitlines()]
    if changed and "--force" not in args:
        found = ", ".join(changed[:5])
        raise Trouble(f"there are uncommitted changes ({found}); commit them, or add --force")
    kernel_env.apply()
    for path in chosen:
        execute(path, path)
    return 0


def run_full(args: list[str]) -> int:
    kernel_env.apply(profile="full")
    for path in lessons(args, extras=True):
        execute(path, NOTEBOOKS / "full" / path.relative_to(NOTEBOOKS), timeout=None)
    return 0


def reset(args: list[str]) -> int:
    """Put a fresh copy of a lesson into workbook/; the reader's stays beside it."""
    if not [arg for arg in args if not arg.startswith("-")]:
        raise Trouble("name the lesson: reset LESSON=03")
    for path in lessons(args):
        workbook.reset(path, NOTEBOOKS, WORKBOOK)
    return 0


def lab_command(args: list[str]) -> list[str]:
    """JupyterLab over the whole course, opened at the reader's copy of the welcome page."""
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    options = [
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/lab/tree/{WORKBOOK.name}/{lessons([])[0].name}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    return [sys.executable, "-m", "jupyterlab", *options, *root, *args]


def steps(command: str, args: list[str]) -> list[list[str]]:
    """The command lines behind a command; all of them run, even if one fails."""
    python = [sys.executable]
    locked = os.environ.get("SEGLIB_VERSIONS", "locked") == "locked"
    lint = [[*python, "-m", "ruff", "check", "."], [*python, "-m", "mypy"]] if locked else []
    if command == "test":
        kernel_env.apply(threads=1)  # (two notebooks run at a time)
        how = ["--nbval" if locked else "--nbval-lax", "--nbval-current-env"]
        how += [f"--nbval-cell-timeout={TIMEOUT}", "--ignore=notebooks/full", "notebooks"]
        return [*lint, [*PYTEST, *BY_TEST, "-m", "not soak", *args], [*PYTEST, *BY_FILE, *how]]
    if command == "test-fast":
        return [*lint, [*PYTEST, *BY_TEST, "-m", "not slow and not soak", *args]]
    if command == "soak":
        return [[*python, "-m", "pytest", "-m", "soak", *args]]
    if command == "lab":
        return [lab_command(args)]
    patterns = {
        "bench": "benchmarks/[!_]*.py",
        "gpu": "benchmarks/gpu_day.py",
        "experiments": "experiments/[0-9]*.py",
        "pretrain": "data/pretrain.py",
        "test-everywhere": "tests/everywhere.py",
    }
    table = [str(ROOT / "benchmarks" / "parity" / "table.py"), "--check"]
    first = [[*python, *table]] if command == "bench" else []
    scripts = sorted(ROOT.glob(patterns[command]))
    if command == "bench":  # (a day with a GPU is a command of its own)
        scripts.remove(ROOT / "benchmarks" / "gpu_day.py")
    return [*first, *([*python, str(path), *args] for path in scripts)]


def main(argv: list[str]) -> int:
    command, args = argv[0], argv[1:]
    if command in ("notebooks", "full", "reset"):
        return {"notebooks": run_notebooks, "full": run_full, "reset": reset}[command](args)
    if command == "lab":  # (JupyterLab reads the settings in workbook/, too)
        workbook.fill(NOTEBOOKS, WORKBOOK)
        folders = [str(WORKBOOK / workbook.CONFIG), os.environ.get("JUPYTER_CONFIG_PATH")]
        os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, folders))
    failed = []
    for step in steps(command, args):
        if run(step) != 0:
            name = "notebooks" if step[-1] == "notebooks" else Path(step[1]).name
            failed.append(step[2] if name == "-m" else name)
    if failed:
        raise Trouble(f"{command}: failed: {', '.join(failed)}")
    return 0


if __name__ == "__main__":
    guarded(main, sys.argv[1:])
