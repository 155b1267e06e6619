#!/usr/bin/env python3
"""Sets the course up and runs it, with nothing but Python: what `make` does, on Windows too.

python bootstrap.py COMMAND [options]

  lab                   JupyterLab over your own copies of the lessons (workbook/), at the
                        welcome page (further options go to JupyterLab)
  setup [COMMAND]       only make the environment (.venv), with what COMMAND needs (default: lab)
  test-fast             linters and quick tests
  test                  linters, all tests, every notebook compared with its outputs
  test-everywhere       notebooks, copies and tests on simulated other processors; up to an hour
  soak                  long fault tests
  notebooks [LESSON=03] execute and normalise notebooks in place (--force: with changes in them)
  reset LESSON=03       put a fresh copy of a lesson into workbook/; yours is kept beside it with
                        the date
  full [LESSON=03]      real data and full settings, written to notebooks/full/
  experiments, bench    run every script of experiments/ or benchmarks/
  gpu                   everything that needs a GPU, in half an hour (benchmarks/gpu_day.py)
  pretrain              train the checkpoint in data/weights anew: an hour on two cores
  clean                 remove environment and caches (never data, runs or workbook/)

SEGLIB_TORCH=cpu (or --torch cpu) installs PyTorch without CUDA: about 2 GB instead of 6.
SEGLIB_VERSIONS=locked|oldest|newest chooses the packages' versions (default: locked).
"""
# The older idioms are deliberate: this runs on Python 3.6, far enough to find a newer one.

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
OLDEST = (3, 11)
WINDOWS = os.name == "nt"
# What each command needs besides the library, as extras of pyproject.toml. There is one .venv, and
# extras are only ever added to it, so `lab` and `test` never reinstall after each other. BENCH has
# all that a command may need.
LAB, TEST, BENCH = ["lab"], ["lab", "test"], ["bench", "lab", "test"]
EXTRAS = {
    "lab": LAB,
    "setup": LAB,
    "test": TEST,
    "test-fast": TEST,
    "test-everywhere": BENCH,
    "soak": TEST,
    "notebooks": TEST,
    "reset": LAB,
    "full": LAB,
    "experiments": TEST,
    "bench": BENCH,
    "gpu": BENCH,
    "pretrain": LAB,
}
VERSIONS = {
    "locked": ["-c", "requirements.lock"],
    "newest": ["--upgrade"],
    "oldest": ["--resolution", "lowest-direct"],
}
COMMANDS = [*EXTRAS, "clean", "help"]
# Waiting threads spin for microseconds only (benchmarks/README.md), and albumentations must not
# ask the network at import
CALM = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000", "NO_ALBUMENTATIONS_UPDATE": "1"}
SPACE = "free some space (the course needs about 6 GB, or 2 GB with SEGLIB_TORCH=cpu)"
# What installers say when they fail; what happened; what to do; is the environment untouched?
# (uv fetches everything before it changes anything)
FAILURES = [
    (
        r"no space left|os error 28\b|disk full|not enough space|os error 112\b",
        "the disk is full",
        SPACE,
        False,
    ),
    (
        r"no solution found|resolutionimpossible|unsatisfiable|conflicting dependencies",
        "these versions of the packages do not fit together, or not this Python",
        "take an unchanged requirements.lock, or try Python 3.12",
        True,
    ),
    (
        r"dns error|failed to fetch|error sending request|connection|timed? ?out|name resolution"
        r"|unreachable|from versions: none",
        "the package index cannot be reached",
        "check the network (or proxy)",
        True,
    ),
    (
        r"permission denied|os error 13\b|access is denied|os error 5\b|read-only",
        "a file cannot be written",
        "close programs that use .venv, check the folder's rights",
        False,
    ),
    (r"", "the installer failed", "fix what its last lines (above) report", False),
]


class Trouble(Exception):
    """Something the reader can fix: one line that says what happened and what to do."""

    untouched = False


def here(*parts):
    return os.path.join(ROOT, *parts)


def venv_python(venv=".venv"):
    return here(venv, "Scripts", "python.exe") if WINDOWS else here(venv, "bin", "python")


STAMP = here(".venv", ".every-pixel-stamp")  # written last: what is installed
UNFINISHED = here(".venv", ".every-pixel-unfinished")  # there while an installer is at work


# ---------------------------------------------------------------- running things


def answer(*command):
    """What a quick command prints, or None if it cannot be run or fails."""
    try:
        said = subprocess.check_output(
            command, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.decode(errors="replace").strip()


def run(command, env=None, tail=None):
    """Run a command and return its exit status; with a list `tail`, show and keep what it says."""
    piped = {} if tail is None else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    child = subprocess.Popen(command, cwd=ROOT, env=env, **piped)
    pressed = []  # the child gets Ctrl-C too, and may ask before it stops
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        for line in child.stdout or ():
            tail.append(line.decode(errors="replace").rstrip())
            print("  " + tail[-1], flush=True)
        status = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if pressed and status != 0:
        raise KeyboardInterrupt
    return status if status >= 0 else 128 - status


def install(*command):
    """Run an installer, its own words on stdout; its failure becomes one line."""
    tail = []
    if run(command, tail=tail) == 0:
        return
    said = "\n".join(tail)
    what, remedy, untouched = next(
        failure[1:] for failure in FAILURES if re.search(failure[0], said, re.IGNORECASE)
    )
    trouble = Trouble(f"set-up stopped: {what}; {remedy}, then run this again")
    trouble.untouched = untouched
    raise trouble


# ---------------------------------------------------------------- finding Python and uv


def fit(*command):
    """The interpreter behind `command` if it is new enough, else None."""
    code = f"import sys; print(sys.executable if sys.version_info >= {OLDEST} else '')"
    return answer(*command, "-c", code) or None


def find_python():
    """A fit Python: this one, or one on PATH, of the `py` launcher, or that uv knows of."""
    if sys.version_info >= OLDEST:
        return getattr(sys, "_base_executable", None) or sys.executable
    minors = [f"3.{minor}" for minor in range(14, OLDEST[1] - 1, -1)]
    names = [f"python{minor}" for minor in minors] + ["python3", "python"]
    paths = [
        os.path.join(folder, name + ".exe" * WINDOWS)
        for name in names
        for folder in os.get_exec_path()
    ]
    candidates = [[path] for path in paths if os.path.isfile(path)]
    candidates += [["py", f"-{minor}"] for minor in minors if WINDOWS]
    known = answer("uv", "python", "find", "--no-project", "--no-python-downloads", ">=3.11")
    candidates += [[known]] if known else []
    for command in candidates:  # a file of that name may be a shim that leads nowhere
        found = fit(*command)
        if found:
            return found
    raise Trouble(
        f"this is Python {sys.version_info[0]}.{sys.version_info[1]}, and no Python 3.11 "
        "or newer was found on PATH; install one (3.12, say), then run this again"
    )


def find_uv(python):
    """uv from PATH, or brought into .venv.uv by pip: that needs neither venv nor ensurepip."""
    brought = [here(".venv.uv", folder, "uv" + ".exe" * WINDOWS) for folder in ("bin", "Scripts")]
    for uv in [shutil.which("uv"), *brought]:
        version = re.search(r"(\d+)\.(\d+)", (uv and answer(uv, "--version")) or "")
        if version and tuple(map(int, version.groups())) >= (0, 7):
            return uv
    if answer(python, "-m", "pip", "--version") is None:  # perhaps venv can make a pip
        helper = os.path.join(".venv.uv", "pip")
        if answer(python, "-m", "venv", "--clear", here(helper)) is None:
            raise Trouble(
                f"{python} has neither pip nor a working venv, and uv is not on PATH; "
                "install uv or pip (Debian, Ubuntu: apt install python3-pip), then run "
                "this again"
            )
        python = venv_python(helper)
    install(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "--upgrade",
        "--target",
        here(".venv.uv"),
        "uv>=0.7",
    )
    for uv in brought:
        if answer(uv, "--version"):
            return uv
    raise Trouble(
        "the uv that pip fetched does not run here; install uv so that it is on PATH, "
        "then run this again"
    )


# ---------------------------------------------------------------- set-up


def read(path):
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError:
        return b""


def note(path):
    """The content of the stamp (or of its like), {} if there is none or it is broken."""
    try:
        content = json.loads(read(path).decode())
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}


def installed():
    """The extras in .venv, as its stamp says; none if an older bootstrap.py wrote it."""
    named = note(STAMP).get("extras")
    return [name for name in BENCH if name in named] if isinstance(named, list) else []


def digest(torch, versions, extras):
    """What the environment depends on: packages, choices, its Python, and where it is."""
    choices = repr((torch, versions, extras, ROOT)).encode()
    content = read(here(".venv", "pyvenv.cfg")) + choices
    for name in ("pyproject.toml", "requirements.lock"):
        if not os.path.isfile(here(name)):
            raise Trouble(f"{name} is missing in {ROOT}; fetch it again: git checkout -- {name}")
        content += b"\0" + read(here(name))
    return hashlib.sha256(content).hexdigest()


def is_ready(torch, versions, extras):
    """Is .venv whole, up to date, and does it have these extras (and perhaps more)?"""
    wanted, config = digest(torch, versions, installed()), read(here(".venv", "pyvenv.cfg"))
    if not set(extras) <= set(installed()):
        return False
    home = re.search(r"^home *= *(.*?)\s*$", config.decode(errors="replace"), re.MULTILINE)
    alive = home and os.path.isdir(home.group(1)) and os.path.exists(venv_python())
    return alive and note(STAMP).get("digest") == wanted and not os.path.exists(UNFINISHED)


class Lock:
    """One set-up at a time. The system drops the lock when its holder ends, however it ends."""

    def __enter__(self):
        os.makedirs(here(".venv.uv"), exist_ok=True)
        self.file = open(here(".venv.uv", "lock"), "a+b")
        if not self.taken():
            print("another set-up is running here; waiting for it", flush=True)
            while not self.taken():
                time.sleep(0.2)

    def taken(self):
        try:
            if WINDOWS:
                import msvcrt

                self.file.seek(0)
                msvcrt.locking(self.file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # a file system that knows no locks goes on without one
            return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
        return True

    def __exit__(self, *_):
        self.file.close()


def prepare_venv(uv, python, torch, versions):
    """Make sure of a .venv whose Python works; return whether it is new.

    One that is whole is kept. One that an installer left unfinished is not, nor one made with
    other choices: an installer keeps what satisfies a range, CUDA or not, newest or oldest.
    """
    folder, half, before = here(".venv"), os.path.exists(UNFINISHED), note(STAMP)
    made_with = before.get("torch"), before.get("versions")
    changed = "versions" in before and made_with != (torch, versions)
    rebuild = half or changed or not fit(venv_python())
    if rebuild and os.path.lexists(folder):
        ours = half or not os.listdir(folder) or os.path.exists(here(".venv", "pyvenv.cfg"))
        if not ours:
            raise Trouble(
                ".venv holds files but no Python environment; move it away or delete "
                "it, then run this again"
            )
        shutil.rmtree(folder)
    os.makedirs(folder, exist_ok=True)
    with open(UNFINISHED, "w") as handle:
        json.dump({"torch": torch}, handle)
    if rebuild:
        install(uv, "venv", "--no-project", "--allow-existing", "--python", python, folder)
    return rebuild


def setup(torch, versions, extras):
    """Bring .venv up to date, with these extras and those that it has."""
    with Lock():
        if is_ready(torch, versions, extras):  # the other run has done it
            return
        if os.path.lexists(here(".venv")) and not os.path.isdir(here(".venv")):
            raise Trouble(".venv is not a folder; delete it, then run this again")
        if shutil.disk_usage(ROOT).free < 1e9:
            raise Trouble("less than 1 GB is free on this disk; " + SPACE + ", then run this again")
        extras = sorted({*extras, *installed()})  # (before a rebuild deletes the stamp)
        print(
            "Setting up .venv (once; minutes, most of them for PyTorch)"
            if not installed()
            else "Bringing .venv up to date, with what this command needs",
            flush=True,
        )
        python = find_python()
        uv = find_uv(python)
        new = prepare_venv(uv, python, torch, versions)
        backend = ["--torch-backend", torch] if torch else []
        try:
            install(
                uv,
                "pip",
                "install",
                "--python",
                venv_python(),
                *backend,
                *VERSIONS[versions],
                "-e",
                ".[" + ",".join(extras) + "]",
            )
        except Trouble as trouble:
            if trouble.untouched and not new:
                os.remove(UNFINISHED)
            raise
        calm_kernel()
        with open(STAMP + ".part", "w") as handle:
            json.dump(
                {
                    "digest": digest(torch, versions, extras),
                    "torch": torch,
                    "versions": versions,
                    "extras": extras,
                },
                handle,
            )
        os.replace(STAMP + ".part", STAMP)
        os.remove(UNFINISHED)


def calm_kernel():
    """Give .venv's kernel what main() gives JupyterLab, for editors that start it themselves."""
    path = here(".venv", "share", "jupyter", "kernels", "python3", "kernel.json")
    kernel = note(path)
    if kernel:
        kernel["env"] = dict(kernel.get("env", {}), **CALM)
        with open(path + ".part", "w") as handle:
            json.dump(kernel, handle, indent=1)
        os.replace(path + ".part", path)


# ---------------------------------------------------------------- commands (tests/commands.py)


def clean():
    for pattern in (
        ".venv",
        ".venv.uv",
        ".*_cache",
        ".hypothesis",
        ".coverage*",
        "*.egg-info",
        "build",
        "dist",
    ):
        for path in glob.glob(here(pattern)):
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    return 0


def choose(given, known):
    if given not in known:
        raise Trouble(f"unknown: {given}; choose one of: {', '.join(known)}")
    return known[given] if isinstance(known, dict) else given


def main(argv):
    args = [
        word
        for arg in argv or ["help"]
        for word in (arg.split("=", 1) if arg.startswith("--torch=") else [arg])
    ]
    torch = os.environ.get("SEGLIB_TORCH") or {**note(UNFINISHED), **note(STAMP)}.get("torch")
    if "--torch" in args[:-1]:
        at = args.index("--torch")
        torch = args[at + 1]
        del args[at : at + 2]
    versions = os.environ.get("SEGLIB_VERSIONS") or "locked"
    if args[0] in ("help", "-h", "--help"):
        return print(__doc__)
    choose(args[0], COMMANDS)
    choose(versions, VERSIONS)
    if args[0] == "clean":
        return clean()
    named = args[1:] if args[0] == "setup" and args[1:] else args[:1]
    extras = sorted({extra for command in named for extra in choose(command, EXTRAS)})
    if not is_ready(torch, versions, extras):
        if sys.version_info < OLDEST:
            return run([find_python(), here("bootstrap.py"), *argv])
        setup(torch, versions, extras)
    if args[0] == "setup":
        return 0
    env = dict(os.environ, SEGLIB_VERSIONS=versions, **CALM)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process compiles 3,600 modules again
    return run([venv_python(), here("tests", "commands.py"), *args], env)


def guarded(function, *args):
    """Call `function` and exit: quietly after Ctrl-C, with one line after trouble."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # never fail at a character
            stream.reconfigure(errors="replace")
    try:
        sys.exit(function(*args))
    except KeyboardInterrupt:
        sys.exit(130)
    except Trouble as trouble:
        line = str(trouble)
    except OSError as error:
        line = f"{error}; fix that, then run this again"
        if error.errno == errno.ENOSPC:
            line = f"the disk is full; {SPACE}, then run this again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            line = (
                f"{error.filename or ROOT} cannot be written; copy the course to a folder of "
                "your own and run this there"
            )
    sys.exit("every-pixel: " + " ".join(line.split()))


if __name__ == "__main__":
    guarded(main, sys.argv[1:])
