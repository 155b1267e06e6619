"""Each way in which a set-up can go wrong, or go differently, with stand-ins for what it calls.

A tree has its own copy of bootstrap.py and runs it as a reader would, as a program, with a PATH
that holds only stand-ins: shell scripts named uv, python3, python3.12.
"""

from __future__ import annotations

import ast
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bootstrap  # noqa: E402

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")

# What uv does, as far as bootstrap.py can see: makes a .venv, "installs", counts its calls.
UV = f"""
case "$1 $2" in
    "--version "*) echo "uv 9.9" ;;
    "python find") exit 2 ;;
    "venv "*)
        echo "$@" >> "$CALLS"
        mkdir -p .venv/bin && ln -s {sys.executable} .venv/bin/python
        echo "home = {Path(sys.executable).parent}" > .venv/pyvenv.cfg ;;
    "pip install")
        echo "$@" >> "$CALLS"
        INSTALL ;;
esac
"""
RUNS = f'exec {sys.executable} "$@"'
OLD = """
case "$1" in
    -c) echo "" ;;
    *) exit 1 ;;
esac
"""


class Tree:
    """A copy of what a set-up reads, with a PATH of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.calls = folder / "course", folder / "bin", folder / "calls"
        for path in (self.root / "tests", self.bin):
            path.mkdir(parents=True)
        for name in ("bootstrap.py", "pyproject.toml", "requirements.lock", "Makefile"):
            shutil.copy(ROOT / name, self.root)
        (self.root / "tests" / "commands.py").write_text("import sys; print('ran', sys.argv[1:])")
        for tool in ("sh", "mkdir", "ln", "sleep", "cp", "touch", "kill"):
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        self.env = {"PATH": str(self.bin), "CALLS": str(self.calls), "HOME": str(folder)}

    def script(self, name: str, body: str, folder: Path | None = None) -> Path:
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def uv(self, install: str = "echo installed") -> None:
        self.script("uv", UV.replace("INSTALL", install))

    def command(self, *args: str, code: str = "") -> list[str]:
        """The command line; `code` runs first, inside the program, as `b` on the module."""
        start = f"import sys, bootstrap as b\n{code}\nb.guarded(b.main, sys.argv[1:])"
        return [sys.executable, "-c", start, *args]

    def run(self, *args: str, code: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*args, code=code), cwd=self.root, env=self.env | env,
                              capture_output=True, text=True, timeout=60)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / ".every-pixel-stamp"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def line_of(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failure."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("every-pixel: ")
    return lines[0]


# ---------------------------------------------------------------- the way it should go


def test_first_call_installs_and_the_second_calls_nobody(tree: Tree) -> None:
    tree.uv()
    first = tree.run("setup")
    assert first.returncode == 0, first.stderr
    venv, install = tree.called()
    assert venv.startswith("venv --no-project")
    assert "-c requirements.lock -e .[lab,test,bench]" in install
    tree.script("uv", "exit 1")                        # a call would now fail
    start = time.perf_counter()
    second = tree.run("test-fast", "-k", "some")
    assert time.perf_counter() - start < 2             # 0.1 s; the bound allows for a busy machine
    assert second.stdout == "ran ['test-fast', '-k', 'some']\n"
    assert second.stderr == ""
    assert len(tree.called()) == 2


@pytest.mark.parametrize("change", ["pyproject.toml", "requirements.lock"])
def test_changed_packages_install_again_into_the_same_environment(tree: Tree, change: str) -> None:
    tree.uv()
    tree.run("setup")
    with open(tree.root / change, "a") as handle:
        handle.write("# changed\n")
    assert tree.run("setup").returncode == 0
    assert [call.split()[0] for call in tree.called()] == ["venv", "pip", "pip"]


def test_torch_for_cpu_is_asked_for_and_remembered(tree: Tree) -> None:
    tree.uv()
    assert tree.run("setup", SEGLIB_TORCH="cpu").returncode == 0
    assert "--torch-backend cpu" in tree.called()[1]
    assert tree.run("setup").returncode == 0           # not named again: no other torch
    assert tree.run("setup", "--torch", "cpu").returncode == 0
    assert len(tree.called()) == 2
    # another torch satisfies the same version: an installer would keep it, so .venv is made anew
    assert tree.run("setup", "--torch=cu128").returncode == 0
    assert [call.split()[0] for call in tree.called()] == ["venv", "pip", "venv", "pip"]
    assert "--torch-backend cu128" in tree.called()[3]


def test_oldest_versions_are_asked_for(tree: Tree) -> None:
    tree.uv()
    assert tree.run("setup", SEGLIB_VERSIONS="oldest").returncode == 0
    assert "--resolution lowest-direct" in tree.called()[1]
    assert "requirements.lock" not in tree.called()[1]
    assert tree.run("setup").returncode == 0           # the locked ones again: nothing old stays
    assert [call.split()[0] for call in tree.called()] == ["venv", "pip", "venv", "pip"]


def test_a_uv_that_is_too_old_is_passed_over(tree: Tree) -> None:
    tree.script("uv", 'echo "uv 0.4.30"')
    result = tree.run("setup", code="b.find_python = lambda: 'python9'")
    assert result.returncode == 1 and "python9 has neither pip nor a working venv" in result.stderr


def test_commands_get_their_environment(tree: Tree) -> None:
    tree.uv()
    (tree.root / "tests" / "commands.py").write_text(
        "import os; print(*map(os.environ.get, "
        "('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'NO_ALBUMENTATIONS_UPDATE')))")
    assert tree.run("lab").stdout.endswith("\nPASSIVE 2000 1\n")


def test_status_of_a_command_is_handed_on(tree: Tree) -> None:
    tree.uv()
    (tree.root / "tests" / "commands.py").write_text("import sys; sys.exit(7)")
    assert tree.run("lab").returncode == 7


# ---------------------------------------------------------------- Python


@pytest.mark.parametrize("name", ["bootstrap.py"])
def test_parses_on_python_3_6(name: str) -> None:
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_older_python_finds_a_fit_one_and_runs_again_with_it(tree: Tree) -> None:
    tree.uv()
    tree.script("python3.13", "echo 'shim: command not found'; exit 127")   # a dead shim
    tree.script("python3.12", f'echo again >> "$CALLS"\n{RUNS}')
    tree.script("python3", OLD)
    result = tree.run("setup", code="b.sys.version_info = (3, 8, 18)")
    assert result.returncode == 0, result.stderr
    # (the stand-in answers with the real interpreter behind it, which then does the rest)
    assert [call.split()[0] for call in tree.called()] == ["again", "venv", "pip"]


def test_older_python_asks_uv_for_one(tree: Tree) -> None:
    tree.script("uv", UV.replace("exit 2", f"echo {sys.executable}").replace("INSTALL", "true"))
    result = tree.run("setup", code="b.sys.version_info = (3, 8, 18)")
    assert result.returncode == 0, result.stderr
    assert len(tree.called()) == 2


def test_older_python_just_runs_what_is_set_up(tree: Tree) -> None:
    tree.uv()
    tree.run("setup")
    result = tree.run("lab", code="b.sys.version_info = (3, 8, 18)")
    assert result.stdout == "ran ['lab']\n"


def test_no_fit_python(tree: Tree) -> None:
    tree.uv()
    tree.script("python3", OLD)
    tree.script("python", OLD)
    line = line_of(tree.run("lab", code="b.sys.version_info = (3, 8, 18)"))
    assert "this is Python 3.8, and no Python 3.11 or newer was found" in line
    assert "install one" in line


def old_python() -> str | None:
    """A real Python older than 3.11 on this machine, if there is one."""
    names = [f"python3.{minor}" for minor in (6, 7, 8, 9, 10)]
    found = [path for name in names if (path := shutil.which(name))]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python3")]
    return next((path for path in found if bootstrap.answer(path, "-c", "pass") is not None), None)


@pytest.mark.skipif(old_python() is None, reason="no Python older than 3.11 on this machine")
def test_a_really_older_python(tree: Tree) -> None:
    python = old_python()
    assert python is not None
    run = [python, "bootstrap.py", "setup"]
    result = subprocess.run(run, cwd=tree.root, env=tree.env, stdout=-1, stderr=-1, text=True)
    assert "no Python 3.11 or newer was found" in line_of(result)
    tree.uv()
    tree.script("python3.12", RUNS)
    result = subprocess.run(run, cwd=tree.root, env=tree.env, stdout=-1, stderr=-1, text=True)
    assert result.returncode == 0, result.stderr
    assert [call.split()[0] for call in tree.called()] == ["venv", "pip"]


# ---------------------------------------------------------------- uv


def python_with(tree: Tree, pip: str, venv: str = "exit 1") -> str:
    """Code that makes a stand-in the Python of the set-up; `pip`, `venv` are shell scripts."""
    script = tree.script("python3", f"""
case "$1 $2 $3" in
    "-m pip --version") {"exit 1" if pip == "none" else "echo pip 23"} ;;
    "-m pip install") {pip} ;;
    "-m venv --clear") {venv} ;;
    *) {RUNS} ;;
esac
""")
    return f"b.find_python = lambda: {str(script)!r}"


def bring(tree: Tree) -> str:
    """What pip does when it brings uv: writes the command into .venv.uv/bin."""
    tree.script("uv", UV.replace("INSTALL", "echo installed"), folder=tree.root / "hidden")
    return 'echo "$@" >> "$CALLS"; mkdir -p .venv.uv/bin; cp hidden/uv .venv.uv/bin/uv'


def test_without_uv_and_venv_pip_brings_uv(tree: Tree) -> None:
    result = tree.run("setup", code=python_with(tree, pip=bring(tree)))
    assert result.returncode == 0, result.stderr
    pip, venv, install = tree.called()
    assert f"--target {tree.root}/.venv.uv uv>=" in pip
    assert venv.startswith("venv --no-project")        # uv's own: needs no ensurepip
    assert install.startswith("pip install --python")
    shutil.rmtree(tree.root / ".venv")
    assert tree.run("setup", code=python_with(tree, pip="exit 1")).returncode == 0
    assert len(tree.called()) == 5                     # the uv brought before serves again


def test_without_uv_and_pip_a_venv_brings_pip(tree: Tree) -> None:
    tree.script("python", bring(tree), folder=tree.root / "made")
    venv = "mkdir -p .venv.uv/pip/bin; cp made/python .venv.uv/pip/bin/python"
    result = tree.run("setup", code=python_with(tree, pip="none", venv=venv))
    assert result.returncode == 0, result.stderr
    assert len(tree.called()) == 3


def test_neither_uv_nor_pip_nor_venv(tree: Tree) -> None:
    line = line_of(tree.run("setup", code=python_with(tree, pip="none")))
    assert "neither pip nor a working venv, and uv is not on PATH" in line
    assert "install uv or pip" in line


def test_uv_on_path_that_does_not_run_is_passed_over(tree: Tree) -> None:
    code = python_with(tree, pip=bring(tree))
    tree.script("uv", "exit 127")
    assert tree.run("setup", code=code).returncode == 0
    assert len(tree.called()) == 3


def test_brought_uv_that_does_not_run(tree: Tree) -> None:
    line = line_of(tree.run("setup", code=python_with(tree, pip="true")))
    assert "does not run here; install uv" in line


def test_no_network_for_pip(tree: Tree) -> None:
    said = "echo 'ERROR: Could not find a version that satisfies uv (from versions: none)'; exit 1"
    line = line_of(tree.run("setup", code=python_with(tree, pip=said)))
    assert "the package index cannot be reached; check the network" in line


# ---------------------------------------------------------------- installers that fail

NETWORK = "error: Failed to fetch torch\\n  Caused by: dns error: failed to lookup address"
FULL = "error: failed to write torch.so\\n  Caused by: No space left on device (os error 28)"
UNFIT = "  x No solution found when resolving dependencies:\\n  because torch==99 needs numpy<1"
RIGHTS = "error: failed to remove file .venv/x: Permission denied (os error 13)"


@pytest.mark.parametrize(("said", "what", "remedy"), [
    (NETWORK, "the package index cannot be reached", "check the network"),
    (FULL, "the disk is full", "2 GB with SEGLIB_TORCH=cpu"),
    (UNFIT, "do not fit together", "unchanged requirements.lock"),
    (RIGHTS, "a file cannot be written", "check the folder's rights"),
    ("error: something new", "the installer failed", "mend what its last lines (above) say"),
])
def test_failing_install(tree: Tree, said: str, what: str, remedy: str) -> None:
    tree.uv(f"printf '{said}\\n'; exit 1")
    result = tree.run("lab")
    line = line_of(result)
    assert what in line and remedy in line and "then run this again" in line
    assert said.split("\\n")[0] in result.stdout        # the installer's own words stand above
    assert not tree.stamp.exists()
    tree.uv()
    assert tree.run("lab").stdout.endswith("ran ['lab']\n")


def test_no_network_leaves_a_whole_environment_alone(tree: Tree) -> None:
    tree.uv()
    tree.run("setup")
    (tree.root / "requirements.lock").write_text("torch==99\n")
    tree.uv(f"printf '{NETWORK}\\n'; exit 1")
    line_of(tree.run("setup"))
    tree.uv()
    assert tree.run("setup").returncode == 0
    assert [call.split()[0] for call in tree.called()] == ["venv", "pip", "pip", "pip"]


def test_no_network_does_not_forget_the_choice_of_torch(tree: Tree) -> None:
    tree.uv(f"printf '{NETWORK}\\n'; exit 1")
    line_of(tree.run("setup", SEGLIB_TORCH="cpu"))
    tree.uv()
    assert tree.run("setup").returncode == 0
    assert "--torch-backend cpu" in tree.called()[-1]


def test_little_space_is_noticed_before(tree: Tree) -> None:
    tree.uv()
    code = "b.shutil.disk_usage = lambda _: __import__('types').SimpleNamespace(free=5e8)"
    line = line_of(tree.run("setup", code=code))
    assert "less than 1 GB is free" in line and "free some space" in line
    assert tree.called() == []


@pytest.mark.parametrize(("number", "what"), [
    (errno.EACCES, "copy the course to a folder of your own"),
    (errno.EROFS, "copy the course to a folder of your own"),
    (errno.ENOSPC, "the disk is full; free some space"),
])
def test_folder_that_takes_no_files(tree: Tree, number: int, what: str) -> None:
    """Root may write anywhere, so the refusal is a stand-in."""
    code = f"""
def refuse(path, **_): raise OSError({number}, "refused", path)
b.os.makedirs = refuse"""
    assert what in line_of(tree.run("setup", code=code))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_read_only_folder(tree: Tree) -> None:
    tree.uv()
    tree.root.chmod(0o555)
    try:
        assert "cannot be written" in line_of(tree.run("setup"))
    finally:
        tree.root.chmod(0o755)


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_missing_file(tree: Tree, name: str) -> None:
    (tree.root / name).unlink()
    assert f"{name} is missing in {tree.root}; fetch it again" in line_of(tree.run("lab"))


def test_unknown_words(tree: Tree) -> None:
    assert "unknown: lap; choose one of: lab, setup" in line_of(tree.run("lap"))
    assert "choose one of: locked" in line_of(tree.run("lab", SEGLIB_VERSIONS="new"))


# ---------------------------------------------------------------- .venv and its stamp


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b'{"digest": 3}'])
def test_broken_stamp_installs_again(tree: Tree, content: bytes) -> None:
    tree.uv()
    tree.run("setup")
    whole = tree.stamp.read_bytes()
    tree.stamp.write_bytes(content)
    assert tree.run("setup").returncode == 0
    assert tree.stamp.read_bytes() == whole
    assert len(tree.called()) == 3


def test_killed_install_starts_from_scratch(tree: Tree) -> None:
    tree.uv("touch .venv/half; kill -9 $$")
    line_of(tree.run("setup", SEGLIB_TORCH="cpu"))
    assert not tree.stamp.exists()
    tree.uv()
    assert tree.run("setup").returncode == 0
    assert not (tree.root / ".venv" / "half").exists()
    assert [call.split()[0] for call in tree.called()] == ["venv", "pip", "venv", "pip"]
    assert "--torch-backend cpu" in tree.called()[-1]  # the choice survives the kill


def test_kill_of_a_second_install_is_noticed_although_a_stamp_is_there(tree: Tree) -> None:
    tree.uv()
    tree.run("setup")
    lock = (tree.root / "requirements.lock").read_text()
    (tree.root / "requirements.lock").write_text("torch==99\n")
    tree.uv("kill -9 $$")
    line_of(tree.run("setup"))
    (tree.root / "requirements.lock").write_text(lock)  # what the old stamp was made for
    tree.uv()
    assert tree.run("setup").returncode == 0
    assert len(tree.called()) == 5


def test_venv_whose_python_is_gone_is_made_again(tree: Tree) -> None:
    tree.uv()
    tree.run("setup")
    (tree.root / ".venv" / "bin" / "python").unlink()
    (tree.root / ".venv" / "bin" / "python").symlink_to("/gone/python")
    assert tree.run("setup").returncode == 0
    assert [call.split()[0] for call in tree.called()] == ["venv", "pip", "venv", "pip"]


def test_moved_folder_installs_again(tree: Tree) -> None:
    tree.uv()
    tree.run("setup")
    tree.root = tree.root.rename(tree.root.with_name("moved"))
    assert tree.run("setup").returncode == 0
    assert len(tree.called()) == 3


def test_foreign_things_in_the_place_of_venv_are_not_deleted(tree: Tree) -> None:
    tree.uv()
    (tree.root / ".venv").write_text("mine")
    assert ".venv is not a folder; delete it" in line_of(tree.run("setup"))
    (tree.root / ".venv").unlink()
    (tree.root / ".venv").mkdir()
    (tree.root / ".venv" / "mine").write_text("mine")
    assert "holds files but no Python environment" in line_of(tree.run("setup"))
    assert (tree.root / ".venv" / "mine").read_text() == "mine"


def test_two_at_the_same_time_install_once(tree: Tree) -> None:
    tree.uv("while [ ! -e go ]; do sleep 0.05; done")

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(tree.command("lab"), cwd=tree.root, env=tree.env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    first = start()
    while len(tree.called()) < 2:
        assert first.poll() is None
        time.sleep(0.02)
    second = start()
    assert second.stdout is not None
    assert second.stdout.readline() == "another set-up is running here; waiting for it\n"
    (tree.root / "go").touch()
    for process in (first, second):
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert out.endswith("ran ['lab']\n")
    assert len(tree.called()) == 2                     # one venv, one install


def test_ctrl_c_is_quiet_and_the_next_call_goes_on(tree: Tree) -> None:
    # (no shell: one that is just starting a program can miss the signal)
    waiting = ("import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
               "open(os.environ['CALLS'], 'a').write('ready\\n'); time.sleep(60)")
    tree.uv(f'exec "{sys.executable}" -c "{waiting}"')
    process = subprocess.Popen(tree.command("lab"), cwd=tree.root, env=tree.env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    while "ready" not in tree.called():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)              # as a terminal does: to everyone
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "")
    tree.uv()
    assert tree.run("lab").returncode == 0


def test_clean_takes_environment_and_caches_only(tree: Tree) -> None:
    tree.uv()
    tree.run("setup")
    (tree.root / ".ruff_cache").mkdir()
    (tree.root / "data" / "camvid").mkdir(parents=True)
    assert tree.run("clean").returncode == 0
    left = {path.name for path in tree.root.iterdir()} - {"__pycache__"}
    assert left == {"bootstrap.py", "pyproject.toml", "requirements.lock", "Makefile", "tests",
                    "data"}
