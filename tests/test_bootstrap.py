"""Each way in which a set-up can fail, or differ, with stand-ins for what it calls.

A tree has its own copy of bootstrap.py and a PATH that holds only stand-ins: shell scripts named
uv, python3, python3.12. Most tests run that copy in this process, which is much quicker; where the
process itself matters (its exit status, Ctrl-C, two at a time, an older Python) it is a real one.
"""

from __future__ import annotations

import ast
import errno
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bootstrap  # noqa: E402

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")
PROGRAM = compile((ROOT / "bootstrap.py").read_bytes(), "bootstrap.py", "exec")

# A Python for .venv that starts in no time: it says that it is fit, and runs shell scripts.
PYTHON = """
case "$1" in
    -c) echo "$0" ;;
    *) exec sh "$@" ;;
esac
"""
# What uv does, as far as bootstrap.py can see: makes a .venv, "installs", counts its calls.
UV = f"""
case "$1 $2" in
    "--version "*) echo "uv 9.9" ;;
    "python find") exit 2 ;;
    "venv "*)
        echo "$@" >> "$CALLS"
        mkdir -p .venv/bin && cp "$PYTHON" .venv/bin/python
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


Result = subprocess.CompletedProcess[str]


def like(module: ModuleType, **changes: Any) -> SimpleNamespace:
    """The module with some changes, for bootstrap.py alone."""
    return SimpleNamespace(**{**vars(module), **changes})


class Tree:
    """A copy of what a set-up reads, with a PATH of stand-ins."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd
        self.root, self.bin, self.calls = folder / "course", folder / "bin", folder / "calls"
        for path in (self.root / "tests", self.bin):
            path.mkdir(parents=True)
        for name in ("bootstrap.py", "pyproject.toml", "requirements.lock", "Makefile"):
            shutil.copy(ROOT / name, self.root)
        self.commands('echo "ran $*"')
        for tool in ("sh", "mkdir", "ln", "sleep", "cp", "touch", "kill"):
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        python = self.script("python", PYTHON, folder=folder / "venv")
        self.env = {
            "PATH": str(self.bin),
            "CALLS": str(self.calls),
            "HOME": str(folder),
            "PYTHON": str(python),
        }

    def script(self, name: str, body: str, folder: Path | None = None) -> Path:
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def commands(self, body: str) -> None:
        """What tests/commands.py does: a shell script, for the stand-in in .venv."""
        (self.root / "tests" / "commands.py").write_text(f"{body}\n")

    def uv(self, install: str = "echo installed") -> None:
        self.script("uv", UV.replace("INSTALL", install))

    def run(self, *args: str, change: Mapping[str, Any] | None = None, **env: str) -> Result:
        """Run the tree's bootstrap.py in this process; `change` replaces some of its names."""
        module = ModuleType("bootstrap")
        module.__file__ = str(self.root / "bootstrap.py")
        self.capfd.readouterr()
        with self.monkeypatch.context() as patch:
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in (self.env | env).items():
                patch.setenv(name, value)
            patch.chdir(self.root)
            exec(PROGRAM, module.__dict__)
            vars(module).update(change or {})
            with pytest.raises(SystemExit) as end:
                module.guarded(module.main, list(args))
        code = end.value.code
        out, err = self.capfd.readouterr()
        if isinstance(code, str):  # as Python does when it ends
            code, err = 1, err + code + "\n"
        return subprocess.CompletedProcess(args, code or 0, out, err)

    def start(self, *args: str, **how: Any) -> subprocess.Popen[str]:
        """Run it as a reader would: as a program."""
        return subprocess.Popen(
            [sys.executable, "bootstrap.py", *args],
            cwd=self.root,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **how,
        )

    def run_program(self, *args: str, python: str = sys.executable) -> Result:
        return subprocess.run(
            [python, "bootstrap.py", *args],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def kinds(self) -> list[str]:
        """The first word of each call."""
        return [call.split()[0] for call in self.called()]

    def extras(self) -> list[str]:
        """What the last installation asked for."""
        asked = re.search(r" -e \.\[(.*)\]$", self.called()[-1])
        assert asked is not None
        return asked[1].split(",")

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / ".every-pixel-stamp"


@pytest.fixture
def tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Tree:
    return Tree(tmp_path, monkeypatch, capfd)


def line_of(result: Result) -> str:
    """The one line of a failure."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("every-pixel: ")
    return lines[0]


# ---------------------------------------------------------------- the way it should go


def test_first_call_installs_and_the_second_calls_nobody(tree: Tree) -> None:
    tree.uv()
    first = tree.run("setup", "test")
    assert first.returncode == 0, first.stderr
    venv, install = tree.called()
    assert venv.startswith("venv --no-project")
    assert install.endswith("-c requirements.lock -e .[lab,test]")
    tree.script("uv", "exit 1")  # a call would now fail
    start = time.perf_counter()
    second = tree.run_program("test-fast", "-k", "some")
    assert time.perf_counter() - start < 2  # 0.1 s; the bound allows for a busy machine
    assert second.stdout == "ran test-fast -k some\n"
    assert second.stderr == ""
    assert len(tree.called()) == 2


@pytest.mark.parametrize("change", ["pyproject.toml", "requirements.lock"])
def test_changed_packages_install_again_into_the_same_environment(tree: Tree, change: str) -> None:
    tree.script("python", RUNS, folder=Path(tree.env["PYTHON"]).parent)  # a real one, for once
    tree.uv()
    tree.run("setup")
    with open(tree.root / change, "a") as handle:
        handle.write("# changed\n")
    assert tree.run("setup").returncode == 0
    assert tree.kinds() == ["venv", "pip", "pip"]


def test_torch_for_cpu_is_asked_for_and_remembered(tree: Tree) -> None:
    tree.uv()
    assert tree.run("setup", SEGLIB_TORCH="cpu").returncode == 0
    assert "--torch-backend cpu" in tree.called()[1]
    assert tree.run("setup").returncode == 0  # not named again: no other torch
    assert tree.run("setup", "--torch", "cpu").returncode == 0
    assert len(tree.called()) == 2
    # another torch satisfies the same version: an installer would keep it, so .venv is made anew
    assert tree.run("setup", "--torch=cu128").returncode == 0
    assert tree.kinds() == ["venv", "pip", "venv", "pip"]
    assert "--torch-backend cu128" in tree.called()[3]


def test_oldest_versions_are_asked_for(tree: Tree) -> None:
    tree.uv()
    assert tree.run("setup", SEGLIB_VERSIONS="oldest").returncode == 0
    assert "--resolution lowest-direct" in tree.called()[1]
    assert "requirements.lock" not in tree.called()[1]
    assert tree.run("setup").returncode == 0  # the locked ones again: nothing old stays
    assert tree.kinds() == ["venv", "pip", "venv", "pip"]


def test_a_uv_that_is_too_old_is_passed_over(tree: Tree) -> None:
    tree.script("uv", 'echo "uv 0.4.30"')
    result = tree.run("setup", change={"find_python": lambda: "python9"})
    assert result.returncode == 1 and "python9 has neither pip nor a working venv" in result.stderr


def test_commands_get_their_environment(tree: Tree) -> None:
    tree.uv()
    tree.commands("echo $OMP_WAIT_POLICY $GOMP_SPINCOUNT $NO_ALBUMENTATIONS_UPDATE")
    assert tree.run("lab").stdout.endswith("\nPASSIVE 2000 1\n")


def test_status_of_a_command_is_handed_on(tree: Tree) -> None:
    tree.uv()
    tree.commands("exit 7")
    assert tree.run_program("lab").returncode == 7


# ---------------------------------------------------------------- what each command needs


@pytest.mark.parametrize(
    ("line", "extras"),
    [
        ("lab", "lab"),
        ("lab --no-browser", "lab"),
        ("setup", "lab"),
        ("reset LESSON=03", "lab"),
        ("full", "lab"),
        ("pretrain", "lab"),
        ("setup full", "lab"),
        ("test", "lab,test"),
        ("test-fast", "lab,test"),
        ("test-everywhere", "bench,lab,test"),
        ("soak", "lab,test"),
        ("notebooks LESSON=03", "lab,test"),
        ("experiments", "lab,test"),
        ("setup test", "lab,test"),
        ("setup lab soak", "lab,test"),
        ("bench", "bench,lab,test"),
        ("setup bench", "bench,lab,test"),
    ],
)
def test_a_command_installs_what_it_needs_and_no_more(tree: Tree, line: str, extras: str) -> None:
    tree.uv()
    assert tree.run(*line.split()).returncode == 0
    assert tree.extras() == extras.split(",")
    assert len(tree.called()) == 2


def test_every_command_is_in_the_table_and_every_extra_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(bootstrap.COMMANDS) == {*bootstrap.EXTRAS, "clean", "help"}
    known = project["optional-dependencies"]
    for extras in bootstrap.EXTRAS.values():
        assert set(extras) <= set(known)
        assert extras == sorted(extras) and set(extras) <= set(bootstrap.BENCH)
    assert f"{project['name']}[hub]" in known["test"]  # tests use models named smp:…


def test_extras_add_up_in_one_environment(tree: Tree) -> None:
    tree.uv()
    for command, extras in (("lab", "lab"), ("test", "lab,test"), ("bench", "bench,lab,test")):
        assert tree.run(command).returncode == 0
        assert tree.extras() == extras.split(",")
    assert tree.kinds() == ["venv", "pip", "pip", "pip"]
    tree.script("uv", "exit 1")  # a call would now fail
    for command in ("lab", "test", "bench", "setup", "full"):
        result = tree.run(command)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == ("" if command == "setup" else f"ran {command}\n")


@pytest.mark.parametrize("change", ["pyproject.toml", "requirements.lock"])
def test_changed_packages_are_installed_for_all_installed_extras(tree: Tree, change: str) -> None:
    tree.uv()
    tree.run("test")
    with open(tree.root / change, "a") as handle:
        handle.write("# changed\n")
    assert tree.run("lab").returncode == 0
    assert tree.extras() == ["lab", "test"]
    assert tree.kinds() == ["venv", "pip", "pip"]
    tree.script("uv", "exit 1")
    assert tree.run("test").returncode == 0


def test_a_rebuilt_environment_keeps_its_extras(tree: Tree) -> None:
    tree.uv()
    tree.run("bench")
    assert tree.run("lab", "--torch", "cpu").returncode == 0
    assert tree.kinds() == ["venv", "pip", "venv", "pip"]
    assert tree.extras() == ["bench", "lab", "test"]


def test_a_stamp_without_extras_is_stale(tree: Tree) -> None:
    tree.uv()
    tree.run("setup", SEGLIB_TORCH="cpu")
    stamp = json.loads(tree.stamp.read_text())
    del stamp["extras"]
    tree.stamp.write_text(json.dumps(stamp))
    assert tree.run("lab").stdout.endswith("ran lab\n")
    assert tree.kinds() == ["venv", "pip", "pip"]  # into the same environment
    assert "--torch-backend cpu" in tree.called()[-1]
    assert tree.extras() == ["lab"]


def test_a_stamp_that_claims_more_than_was_installed_is_stale(tree: Tree) -> None:
    tree.uv()
    tree.run("lab")
    stamp = json.loads(tree.stamp.read_text())
    tree.stamp.write_text(json.dumps({**stamp, "extras": ["bench", "lab", "test"]}))
    assert tree.run("test").returncode == 0
    assert len(tree.called()) == 3


def test_failing_to_add_test_tools_does_not_stop_the_lab(tree: Tree) -> None:
    tree.uv()
    tree.run("lab")
    tree.uv(f"printf '{NETWORK}\\n'; exit 1")
    line_of(tree.run("test"))
    assert tree.run("lab").stdout == "ran lab\n"  # at once
    assert len(tree.called()) == 3


def test_what_could_not_be_installed_is_not_asked_for_again(tree: Tree) -> None:
    tree.uv(f"printf '{FULL}\\n'; exit 1")  # too little space for `test` …
    line_of(tree.run("test"))
    tree.uv()
    assert tree.run("lab").returncode == 0  # … may be enough for `lab`
    assert tree.extras() == ["lab"]


def imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in found}


def test_what_lab_reset_and_full_run_comes_with_jupyterlab() -> None:
    """tests/commands.py, and what it imports from this repository, need no extra but `lab`."""
    todo, foreign, seen = {"commands"}, set(), set()
    while todo - seen:
        name = (todo - seen).pop()
        seen.add(name)
        for wanted in imports(
            next(
                path for folder in ("tests", ".") if (path := ROOT / folder / f"{name}.py").exists()
            )
        ):
            local = any((ROOT / folder / f"{wanted}.py").exists() for folder in ("tests", "."))
            if local:
                todo.add(wanted)
            elif wanted not in sys.stdlib_module_names:
                foreign.add(wanted)
    assert {"kernel_env", "bootstrap"} <= seen
    brought, todo = set(), {"jupyterlab"}
    while todo:
        brought |= todo
        lines = [line for name in todo for line in metadata.requires(name) or []]
        required = {re.split(r"[^\w.-]", line)[0] for line in lines if ";" not in line}
        todo = required - brought
    assert foreign <= brought


# ---------------------------------------------------------------- Python


@pytest.mark.parametrize("name", ["bootstrap.py"])
def test_parses_on_python_3_6(name: str) -> None:
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 6))


def older() -> dict[str, Any]:
    """What makes this Python look like an older one to bootstrap.py."""
    return {"sys": like(sys, version_info=(3, 8, 18))}


def test_older_python_finds_a_fit_one_and_runs_again_with_it(tree: Tree) -> None:
    tree.uv()
    tree.script("python3.13", "echo 'shim: command not found'; exit 127")  # a dead shim
    tree.script("python3.12", f'echo again >> "$CALLS"\n{RUNS}')
    tree.script("python3", OLD)
    result = tree.run("setup", change=older())
    assert result.returncode == 0, result.stderr
    # (the stand-in answers with the real interpreter behind it, which then does the rest)
    assert tree.kinds() == ["again", "venv", "pip"]


def test_older_python_asks_uv_for_one(tree: Tree) -> None:
    tree.script("uv", UV.replace("exit 2", f"echo {sys.executable}").replace("INSTALL", "true"))
    result = tree.run("setup", change=older())
    assert result.returncode == 0, result.stderr
    assert len(tree.called()) == 2


def test_older_python_just_runs_what_is_set_up(tree: Tree) -> None:
    tree.uv()
    tree.run("setup")
    result = tree.run("lab", change=older())
    assert result.stdout == "ran lab\n"


def test_no_fit_python(tree: Tree) -> None:
    tree.uv()
    tree.script("python3", OLD)
    tree.script("python", OLD)
    line = line_of(tree.run("lab", change=older()))
    assert "this is Python 3.8, and no Python 3.11 or newer was found" in line
    assert "install one" in line


@functools.cache
def old_python() -> str | None:
    """A real Python older than 3.11 on this machine, if there is one."""
    names = [f"python3.{minor}" for minor in (6, 7, 8, 9, 10)]
    found = [path for name in names if (path := shutil.which(name))]
    found += [str(path) for path in Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python3")]
    return next((path for path in found if bootstrap.answer(path, "-c", "pass") is not None), None)


@pytest.mark.slow
def test_a_really_older_python(tree: Tree) -> None:
    python = old_python()
    if python is None:
        pytest.skip("no Python older than 3.11 on this machine")
    line = line_of(tree.run_program("setup", python=python))
    assert "no Python 3.11 or newer was found" in line
    tree.uv()
    tree.script("python3.12", RUNS)
    result = tree.run_program("setup", python=python)
    assert result.returncode == 0, result.stderr
    assert tree.kinds() == ["venv", "pip"]


# ---------------------------------------------------------------- uv


def python_with(tree: Tree, pip: str, venv: str = "exit 1") -> dict[str, Any]:
    """Makes a stand-in the Python of the set-up; `pip`, `venv` are shell scripts."""
    script = tree.script(
        "python3",
        f"""
case "$1 $2 $3" in
    "-m pip --version") {"exit 1" if pip == "none" else "echo pip 23"} ;;
    "-m pip install") {pip} ;;
    "-m venv --clear") {venv} ;;
    *) {RUNS} ;;
esac
""",
    )
    return {"find_python": lambda: str(script)}


def bring(tree: Tree) -> str:
    """What pip does when it brings uv: writes the command into .venv.uv/bin."""
    tree.script("uv", UV.replace("INSTALL", "echo installed"), folder=tree.root / "hidden")
    return 'echo "$@" >> "$CALLS"; mkdir -p .venv.uv/bin; cp hidden/uv .venv.uv/bin/uv'


def test_without_uv_and_venv_pip_brings_uv(tree: Tree) -> None:
    result = tree.run("setup", change=python_with(tree, pip=bring(tree)))
    assert result.returncode == 0, result.stderr
    pip, venv, install = tree.called()
    assert f"--target {tree.root}/.venv.uv uv>=" in pip
    assert venv.startswith("venv --no-project")  # uv's own: needs no ensurepip
    assert install.startswith("pip install --python")
    shutil.rmtree(tree.root / ".venv")
    assert tree.run("setup", change=python_with(tree, pip="exit 1")).returncode == 0
    assert len(tree.called()) == 5  # the uv brought before serves again


def test_without_uv_and_pip_a_venv_brings_pip(tree: Tree) -> None:
    tree.script("python", bring(tree), folder=tree.root / "made")
    venv = "mkdir -p .venv.uv/pip/bin; cp made/python .venv.uv/pip/bin/python"
    result = tree.run("setup", change=python_with(tree, pip="none", venv=venv))
    assert result.returncode == 0, result.stderr
    assert len(tree.called()) == 3


def test_neither_uv_nor_pip_nor_venv(tree: Tree) -> None:
    line = line_of(tree.run("setup", change=python_with(tree, pip="none")))
    assert "neither pip nor a working venv, and uv is not on PATH" in line
    assert "install uv or pip" in line


def test_uv_on_path_that_does_not_run_is_passed_over(tree: Tree) -> None:
    change = python_with(tree, pip=bring(tree))
    tree.script("uv", "exit 127")
    assert tree.run("setup", change=change).returncode == 0
    assert len(tree.called()) == 3


def test_brought_uv_that_does_not_run(tree: Tree) -> None:
    line = line_of(tree.run("setup", change=python_with(tree, pip="true")))
    assert "does not run here; install uv" in line


def test_no_network_for_pip(tree: Tree) -> None:
    said = "echo 'ERROR: Could not find a version that satisfies uv (from versions: none)'; exit 1"
    line = line_of(tree.run("setup", change=python_with(tree, pip=said)))
    assert "the package index cannot be reached; check the network" in line


# ---------------------------------------------------------------- installers that fail

NETWORK = "error: Failed to fetch torch\\n  Caused by: dns error: failed to lookup address"
FULL = "error: failed to write torch.so\\n  Caused by: No space left on device (os error 28)"
UNFIT = "  x No solution found when resolving dependencies:\\n  because torch==99 needs numpy<1"
RIGHTS = "error: failed to remove file .venv/x: Permission denied (os error 13)"


@pytest.mark.parametrize(
    ("said", "what", "remedy"),
    [
        (NETWORK, "the package index cannot be reached", "check the network"),
        (FULL, "the disk is full", "2 GB with SEGLIB_TORCH=cpu"),
        (UNFIT, "do not fit together", "unchanged requirements.lock"),
        (RIGHTS, "a file cannot be written", "check the folder's rights"),
        ("error: something new", "the installer failed", "fix what its last lines (above) report"),
    ],
)
def test_failing_install(tree: Tree, said: str, what: str, remedy: str) -> None:
    tree.uv(f"printf '{said}\\n'; exit 1")
    result = tree.run("lab")
    line = line_of(result)
    assert what in line and remedy in line and "then run this again" in line
    assert said.split("\\n")[0] in result.stdout  # the installer's own words stand above
    assert not tree.stamp.exists()
    tree.uv()
    assert tree.run("lab").stdout.endswith("ran lab\n")


def test_no_network_leaves_a_whole_environment_alone(tree: Tree) -> None:
    tree.uv()
    tree.run("setup")
    (tree.root / "requirements.lock").write_text("torch==99\n")
    tree.uv(f"printf '{NETWORK}\\n'; exit 1")
    line_of(tree.run("setup"))
    tree.uv()
    assert tree.run("setup").returncode == 0
    assert tree.kinds() == ["venv", "pip", "pip", "pip"]


def test_no_network_does_not_forget_the_choice_of_torch(tree: Tree) -> None:
    tree.uv(f"printf '{NETWORK}\\n'; exit 1")
    line_of(tree.run("setup", SEGLIB_TORCH="cpu"))
    tree.uv()
    assert tree.run("setup").returncode == 0
    assert "--torch-backend cpu" in tree.called()[-1]


def test_little_space_is_noticed_before(tree: Tree) -> None:
    tree.uv()
    full = like(shutil, disk_usage=lambda _: SimpleNamespace(free=5e8))
    line = line_of(tree.run("setup", change={"shutil": full}))
    assert "less than 1 GB is free" in line and "free some space" in line
    assert tree.called() == []


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.EACCES, "copy the course to a folder of your own"),
        (errno.EROFS, "copy the course to a folder of your own"),
        (errno.ENOSPC, "the disk is full; free some space"),
    ],
)
def test_folder_that_takes_no_files(tree: Tree, number: int, what: str) -> None:
    """Root may write anywhere, so the refusal is a stand-in."""

    def refuse(path: str, **_: Any) -> None:
        raise OSError(number, "refused", path)

    assert what in line_of(tree.run("setup", change={"os": like(os, makedirs=refuse)}))


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
    assert "unknown: lap; choose one of: lab, setup" in line_of(tree.run_program("lap"))
    assert "unknown: lap; choose one of: lab, setup" in line_of(tree.run("setup", "lap"))
    assert "choose one of: locked" in line_of(tree.run("lab", SEGLIB_VERSIONS="new"))


# ---------------------------------------------------------------- .venv and its stamp


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b'"x"',
        b"\xff\xfe",
        b'{"digest": 3}',
        b'{"extras": "lab"}',
        b'{"extras": [null, ["lab"], {}, "gone"]}',
    ],
)
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
    assert tree.kinds() == ["venv", "pip", "venv", "pip"]
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
    assert tree.kinds() == ["venv", "pip", "venv", "pip"]


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
    first = tree.start("lab")
    while len(tree.called()) < 2:
        assert first.poll() is None
        time.sleep(0.02)
    second = tree.start("lab")
    assert second.stdout is not None
    assert second.stdout.readline() == "another set-up is running here; waiting for it\n"
    (tree.root / "go").touch()
    for process in (first, second):
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert out.endswith("ran lab\n")
    assert len(tree.called()) == 2  # one venv, one install


def test_ctrl_c_is_quiet_and_the_next_call_goes_on(tree: Tree) -> None:
    # (no shell: one that is just starting a program can miss the signal)
    waiting = (
        "import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "open(os.environ['CALLS'], 'a').write('ready\\n'); time.sleep(60)"
    )
    tree.uv(f'exec "{sys.executable}" -c "{waiting}"')
    process = tree.start("lab", start_new_session=True)
    while "ready" not in tree.called():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everyone
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
    assert left == {
        "bootstrap.py",
        "pyproject.toml",
        "requirements.lock",
        "Makefile",
        "tests",
        "data",
    }
