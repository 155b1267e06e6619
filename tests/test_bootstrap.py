"""Each way in which a set-up can fail, or differ, with stand-ins for what it calls.

A tree has its own copy of bootstrap.py and a PATH that holds only stand-ins: shell scripts named
uv, python3, python3.12. Most tests run that copy in this process; where the process itself matters
(its exit status, Ctrl-C, two at a time, an older Python) it is a real one.
"""

import ast
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest
from toys import wait_for

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bootstrap  # noqa: E402

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")
PROGRAM = compile((ROOT / "bootstrap.py").read_bytes(), "bootstrap.py", "exec")
STAMP = ".venv/.every-pixel-stamp"
PACKAGES = ("pyproject.toml", "requirements.lock")

# A Python for .venv that starts in no time: it says that it is fit, and runs shell scripts
PYTHON = 'case "$1" in -c) echo "$0" ;; *) exec sh "$@" ;; esac'
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
OLD = 'case "$1" in -c) echo "" ;; *) exit 1 ;; esac'


def like(module, **changes):
    """The module with some changes, for bootstrap.py alone."""
    return SimpleNamespace(**{**vars(module), **changes})


class Tree:
    """A copy of what a set-up reads, with a PATH of stand-ins."""

    def __init__(self, folder, monkeypatch, capfd):
        self.monkeypatch, self.capfd = monkeypatch, capfd
        self.root, self.bin, self.calls = folder / "course", folder / "bin", folder / "calls"
        for path in (self.root / "tests", self.bin):
            path.mkdir(parents=True)
        for name in ("bootstrap.py", *PACKAGES):
            shutil.copy(ROOT / name, self.root)
        (self.root / "tests" / "commands.py").write_text('echo "ran $*"')  # (for the stand-in)
        for tool in ("sh", "mkdir", "ln", "sleep", "cp", "touch", "kill"):
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        self.env = {"PATH": str(self.bin), "CALLS": str(self.calls), "HOME": str(folder)}
        self.env["PYTHON"] = str(self.script("python", PYTHON, folder / "venv"))
        self.uv()

    def script(self, name, body, folder=None):
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def uv(self, install="echo installed"):
        self.script("uv", UV.replace("INSTALL", install))

    def play(self, *steps):
        """A set-up in steps: `lab`, a command that works; `!lab`, one that fails; a function of
        the tree; `$ …`, a shell command in it; `uv …`, what uv does when it installs."""
        for step in steps:
            kind, _, rest = step.partition(" ") if isinstance(step, str) else (step, "", "")
            if callable(step):
                step(self)
            elif kind == "$":
                subprocess.run(rest, shell=True, cwd=self.root, check=True)
            elif kind == "uv":
                self.uv(rest)
            else:
                words = step.removeprefix("!").split()
                env = dict(word.split("=") for word in words if word.startswith("SEGLIB"))
                result = self.run(*words[len(env) :], **env)
                assert result.returncode == kind.startswith("!"), (step, result.stderr)

    def run(self, *args, change=None, **env):
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

    def works(self, *args, **how):
        """Run it, see that all went well, and return what it printed."""
        result = self.run(*args, **how)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    def fails(self, said, *args, **how):
        """Run it, see that its failure is one line, which has `said`; return the result."""
        return failed(self.run(*args, **how), said)

    def start(self, *args, python=sys.executable, **how):
        """Run it as a reader would: as a program."""
        how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([python, "bootstrap.py", *args], cwd=self.root, env=self.env, **how)

    def run_program(self, *args, **how):
        process = self.start(*args, **how)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def called(self):
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def kinds(self):
        """The first word of each call."""
        return " ".join(call.split()[0] for call in self.called())

    def extras(self):
        """What the last installation asked for."""
        return re.search(r" -e \.\[(.*)\]$", self.called()[-1])[1]


@pytest.fixture
def tree(tmp_path, monkeypatch, capfd):
    return Tree(tmp_path, monkeypatch, capfd)


def failed(result, said):
    [line] = result.stderr.splitlines()
    assert result.returncode == 1 and line.startswith("every-pixel: ") and said in line
    return result


def test_first_call_installs_and_the_second_calls_nobody(tree):
    tree.works("setup", "test")
    venv, install = tree.called()
    assert venv.startswith("venv --no-project")
    assert install.endswith("-c requirements.lock -e .[lab,test]")
    tree.play(REFUSES)
    second = tree.run_program("test-fast", "-k", "some")
    assert (second.stdout, second.stderr) == ("ran test-fast -k some\n", "")
    assert len(tree.called()) == 2
    script = "echo $OMP_WAIT_POLICY $GOMP_SPINCOUNT $NO_ALBUMENTATIONS_UPDATE; exit 7"
    (tree.root / "tests" / "commands.py").write_text(script)
    result = tree.run_program("lab")
    assert result.returncode == 7 and result.stdout == "PASSIVE 2000 1\n"


def test_an_editor_that_starts_the_kernel_itself_gets_threads_that_sleep(tree):
    path = tree.root / ".venv" / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel = '{"argv": ["python"], "env": {"A": "b"}}'
    tree.uv(f"mkdir -p {path.parent}; echo '{kernel}' > {path}")
    tree.works("setup")
    found = json.loads(path.read_text())
    assert found["argv"] == ["python"] and found["env"]["A"] == "b"
    assert found["env"]["OMP_WAIT_POLICY"] == "PASSIVE"
    assert [other.name for other in path.parent.iterdir()] == ["kernel.json"]


LAB = ["lab", "lab --no-browser", "setup", "reset LESSON=03", "full", "pretrain", "setup full"]
TEST = ["test", "test-fast", "soak", "notebooks LESSON=03", "experiments", "setup test"]
NEEDS = {"lab": LAB, "lab,test": [*TEST, "setup lab soak"]}
NEEDS["bench,lab,test"] = ["test-everywhere", "bench", "gpu", "setup bench"]


@pytest.mark.parametrize(("extras", "line"), [(k, line) for k, v in NEEDS.items() for line in v])
def test_a_command_installs_what_it_needs_and_no_more(tree, extras, line):
    tree.play(line)
    assert (tree.extras(), tree.kinds()) == (extras, "venv pip")


def claim(extras):
    """The stamp says that these extras are installed (None: as an older one, nothing)."""

    def step(tree):
        content = json.loads((tree.root / STAMP).read_text()) | {"extras": extras}
        (tree.root / STAMP).write_text(json.dumps(content))

    return step


def real_python(tree):
    tree.script("python", RUNS, folder=Path(tree.env["PYTHON"]).parent)


def move(tree):
    tree.root = tree.root.rename(tree.root.with_name("moved"))


NETWORK = "error: Failed to fetch torch\\n  Caused by: dns error: failed to lookup address"
FULL = "error: failed to write torch.so\\n  Caused by: No space left on device (os error 28)"
CPU, CHANGE, UNDO = "SEGLIB_TORCH=cpu", "$ echo '# new' >> ", f"$ cp {ROOT}/requirements.lock ."
OFFLINE, DISK_FULL = (f"uv printf '{said}\\n'; exit 1" for said in (NETWORK, FULL))
KILLED, INSTALLS, REFUSES = "uv touch .venv/half; kill -9 $$", "uv true", "uv exit 1"
ONCE, TWICE, ANEW = "venv pip", "venv pip pip", "venv pip venv pip"
LOCK = "requirements.lock"
ADDED = ["lab", "test", "bench", REFUSES, "lab", "test", "bench", "setup", "full"]


@pytest.mark.parametrize(
    ("steps", "calls", "last"),
    [
        # changed packages are installed for all extras that are there
        (["test", CHANGE + PACKAGES[0], "lab", REFUSES, "test"], TWICE, "lab,test"),
        (["test", CHANGE + LOCK, "lab", REFUSES, "test"], TWICE, "lab,test"),
        ([real_python, "setup", CHANGE + LOCK, "setup"], TWICE, ""),
        (ADDED, "venv pip pip pip", "bench,lab,test"),
        # another torch satisfies the same version, and an installer would keep it
        ([f"{CPU} setup bench", "setup", "setup --torch cpu"], ONCE, "--torch-backend cpu"),
        (["bench", "setup --torch=cu128"], ANEW, "cu128 .*bench,lab,test"),
        (["SEGLIB_VERSIONS=oldest setup"], ONCE, "lowest-direct -e"),
        (["SEGLIB_VERSIONS=oldest setup", "setup"], ANEW, f"-c {LOCK}"),
        # too little space for `test` may be enough for `lab`; what is there goes on working
        ([DISK_FULL, "!test", INSTALLS, "lab"], ANEW, r"\.\[lab\]"),
        (["lab", OFFLINE, "!test", "lab"], TWICE, ""),
        (["lab", CHANGE + LOCK, OFFLINE, "!lab", INSTALLS, "lab"], "venv pip pip pip", ""),
        # a kill is noticed, whatever the stamp says, and the choice of torch is not forgotten
        ([KILLED, f"!{CPU} setup", INSTALLS, "setup"], ANEW, "--torch-backend cpu"),
        (["lab", CHANGE + LOCK, KILLED, "!lab", UNDO, INSTALLS, "lab"], f"{TWICE} {ONCE}", ""),
        (["setup", "$ ln -sf /gone/python .venv/bin/python", "setup"], ANEW, ""),
        (["setup", move, "setup"], TWICE, ""),
        # a stamp of an older bootstrap.py, and one that claims what is not installed
        ([f"{CPU} setup", claim(None), "lab"], TWICE, r"--torch-backend cpu .*\.\[lab\]"),
        (["lab", claim(["bench", "lab", "test"]), "test"], TWICE, "bench,lab,test"),
    ],
)
def test_what_is_installed_after_several_steps(tree, steps, calls, last):
    tree.play(*steps)
    assert tree.kinds() == calls
    assert re.search(last, tree.called()[-1])
    assert not (tree.root / ".venv" / "half").exists()


BROKEN = [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b'{"digest": 3}', b'{"extras": "lab"}']
BROKEN += [b'{"extras": [null, ["lab"], {}, "gone"]}']


@pytest.mark.parametrize("content", BROKEN)
def test_broken_stamp_installs_again(tree, content):
    tree.play("setup")
    whole = (tree.root / STAMP).read_bytes()
    (tree.root / STAMP).write_bytes(content)
    tree.play("setup")
    assert (tree.root / STAMP).read_bytes() == whole
    assert tree.kinds() == TWICE


def test_every_command_is_in_the_table_and_every_extra_in_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(bootstrap.COMMANDS) == {*bootstrap.EXTRAS, "clean", "help"}
    assert set(bootstrap.EXTRAS) == {line.split()[0] for lines in NEEDS.values() for line in lines}
    known = project["optional-dependencies"]
    assert {extra for extras in bootstrap.EXTRAS.values() for extra in extras} <= set(known)
    assert f"{project['name']}[hub]" in known["test"]  # tests use models named smp:…


def test_what_lab_reset_and_full_run_comes_with_jupyterlab():
    """tests/commands.py, and what it imports from this repository, need no extra but `lab`."""
    ours = ("bootstrap", "tests/commands", "tests/kernel_env", "tests/workbook")
    text = "".join((ROOT / f"{name}.py").read_text(encoding="utf-8") for name in ours)
    imported = set(re.findall(r"(?m)^\s*(?:from|import) (\w+)", text)) - sys.stdlib_module_names
    brought = {"nbformat", "nbclient"}  # by jupyter-server's nbconvert
    assert imported == brought | {"bootstrap", "kernel_env", "workbook"}


# What makes this Python look like an older one to bootstrap.py
OLDER = {"sys": like(sys, version_info=(3, 8, 18))}


def test_older_python_finds_a_fit_one_and_runs_again_with_it(tree):
    ast.parse((ROOT / "bootstrap.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    tree.script("python3.13", "echo 'shim: command not found'; exit 127")  # a dead shim
    tree.script("python3.12", f'echo again >> "$CALLS"\n{RUNS}')
    tree.script("python3", OLD)
    tree.works("setup", change=OLDER)
    # (the stand-in answers with the real interpreter behind it, which then does the rest)
    assert tree.kinds() == "again venv pip"
    assert tree.works("lab", change=OLDER) == "ran lab\n"  # what is set up needs no other Python


def test_no_fit_python_but_for_one_that_uv_knows_of(tree):
    for name in ("python3", "python"):
        tree.script(name, OLD)
    said = "this is Python 3.8, and no Python 3.11 or newer was found on PATH; install one"
    tree.fails(said, "lab", change=OLDER)
    tree.script("uv", UV.replace("exit 2", f"echo {sys.executable}").replace("INSTALL", "true"))
    tree.works("setup", change=OLDER)
    assert tree.kinds() == ONCE


@pytest.mark.slow
def test_a_really_older_python(tree):
    found = [path for n in range(6, 11) if (path := shutil.which(f"python3.{n}"))]
    found += map(str, Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python3"))
    works = (path for path in found if bootstrap.answer(path, "-c", "pass") is not None)
    python = next(works, None)
    if python is None:
        pytest.skip("no Python older than 3.11 on this machine")
    (tree.bin / "uv").unlink()
    failed(tree.run_program("setup", python=python), "no Python 3.11 or newer was found")
    tree.uv()
    tree.script("python3.12", RUNS)
    assert tree.run_program("setup", python=python).returncode == 0
    assert tree.kinds() == "venv pip"


def python_with(tree, pip, venv="exit 1", uv=None):
    """Makes a stand-in the Python of the set-up; `pip`, `venv`, `uv` are shell scripts."""
    (tree.bin / "uv").unlink()
    if uv:
        tree.script("uv", uv)
    version = "exit 1" if pip == "none" else "echo pip 23"
    cases = f'"-m pip --version") {version} ;; "-m pip install") {pip} ;; "-m venv --clear") {venv}'
    script = tree.script("python3", f'case "$1 $2 $3" in {cases} ;; *) {RUNS} ;; esac')
    return {"find_python": lambda: str(script)}


def bring(tree):
    """What pip does when it brings uv: writes the command into .venv.uv/bin."""
    tree.script("uv", UV.replace("INSTALL", "echo installed"), folder=tree.root / "hidden")
    return 'echo "$@" >> "$CALLS"; mkdir -p .venv.uv/bin; cp hidden/uv .venv.uv/bin/uv'


# (None on PATH, one that is too old, one that does not run)
@pytest.mark.parametrize("uv", [None, 'echo "uv 0.4.30"', "exit 127"])
def test_without_uv_and_venv_pip_brings_uv(tree, uv):
    change = python_with(tree, pip=bring(tree), uv=uv)
    tree.works("setup", change=change)
    pip, venv, install = tree.called()
    assert f"--target {tree.root}/.venv.uv uv>=" in pip
    assert venv.startswith("venv --no-project")  # uv's own: needs no ensurepip
    assert install.startswith("pip install --python")
    shutil.rmtree(tree.root / ".venv")
    tree.works("setup", change=change)
    assert len(tree.called()) == 5  # the uv brought before serves again


def test_without_uv_and_pip_a_venv_brings_pip(tree):
    tree.script("python", bring(tree), folder=tree.root / "made")
    venv = "mkdir -p .venv.uv/pip/bin; cp made/python .venv.uv/pip/bin/python"
    tree.works("setup", change=python_with(tree, pip="none", venv=venv))
    assert len(tree.called()) == 3


NONE_FOUND = "echo 'ERROR: Could not find a version of uv (from versions: none)'; exit 1"


@pytest.mark.parametrize(
    ("pip", "said"),
    [
        ("none", "neither pip nor a working venv, and uv is not on PATH; install uv or pip"),
        ("true", "does not run here; install uv"),
        (NONE_FOUND, "the package index cannot be reached; check the network"),
    ],
)
def test_uv_that_cannot_be_brought(tree, pip, said):
    tree.fails(said, "setup", change=python_with(tree, pip=pip))


UNFIT = "  x No solution found when resolving dependencies:\\n  because torch==99 needs numpy<1"
RIGHTS = "error: failed to remove file .venv/x: Permission denied (os error 13)"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (NETWORK, "the package index cannot be reached; check the network"),
        (FULL, "the disk is full; free some space"),
        (UNFIT, "do not fit together, or not this Python; take an unchanged requirements.lock"),
        (RIGHTS, "a file cannot be written; close programs"),
        ("error: something new", "the installer failed; fix what its last lines (above) report"),
    ],
)
def test_failing_install(tree, said, told):
    tree.uv(f"printf '{said}\\n'; exit 1")
    result = tree.fails(told, "lab", SEGLIB_TORCH="cpu")
    assert said.split("\\n")[0] in result.stdout  # the installer's own words stand above
    assert not (tree.root / STAMP).exists()
    tree.uv()
    assert tree.works("lab").endswith("ran lab\n")
    assert "--torch-backend cpu" in tree.called()[-1]  # the choice is not forgotten


def test_little_space_is_noticed_before(tree):
    full = like(shutil, disk_usage=lambda _: SimpleNamespace(free=5e8))
    tree.fails("less than 1 GB is free on this disk; free some", "setup", change={"shutil": full})
    assert tree.called() == []


def test_folder_that_takes_no_files(tree):
    """Root may write anywhere, so the refusal is a stand-in."""
    told = {errno.EROFS: "to a folder of your own", errno.ENOSPC: "the disk is full"}
    for number, said in told.items():
        refusing = like(os, makedirs=Mock(side_effect=OSError(number, "refused")))
        tree.fails(said, "setup", change={"os": refusing})


def test_unknown_words_and_missing_files(tree):
    failed(tree.run_program("lap"), "unknown: lap; choose one of: lab, setup")
    tree.fails("unknown: lap; choose one of: lab, setup", "setup", "lap")
    tree.fails("choose one of: locked", "lab", SEGLIB_VERSIONS="new")
    for name in reversed(PACKAGES):
        (tree.root / name).unlink()
        tree.fails(f"{name} is missing in {tree.root}; fetch it again", "lab")


def test_foreign_things_in_the_place_of_venv_are_not_deleted(tree):
    venv = tree.root / ".venv"
    venv.write_text("mine")
    tree.fails(".venv is not a folder; delete it", "setup")
    venv.unlink()
    venv.mkdir()
    (venv / "mine").write_text("mine")
    tree.fails("holds files but no Python environment", "setup")
    assert (venv / "mine").read_text() == "mine"


def test_two_at_the_same_time_install_once(tree):
    tree.uv("while [ ! -e go ]; do sleep 0.05; done")
    first = tree.start("lab")
    wait_for(lambda: len(tree.called()) == 2, 60)
    second = tree.start("lab")
    assert second.stdout.readline() == "another set-up is running here; waiting for it\n"
    (tree.root / "go").touch()
    for process in (first, second):
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "") and out.endswith("ran lab\n")
    assert len(tree.called()) == 2  # one venv, one install


def test_ctrl_c_is_quiet_and_the_next_call_goes_on(tree):
    # (no shell: one that is just starting a program can miss the signal)
    waiting = (
        "import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "open(os.environ['CALLS'], 'a').write('ready\\n'); time.sleep(60)"
    )
    tree.uv(f'exec "{sys.executable}" -c "{waiting}"')
    process = tree.start("lab", start_new_session=True)
    wait_for(lambda: len(tree.called()) == 3, 60)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everyone
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "")
    tree.uv()
    tree.works("lab")


def test_clean_takes_environment_and_caches_only(tree):
    tree.works("setup")
    before = {path.name for path in tree.root.iterdir()} - {".venv", ".venv.uv"}
    tree.play("$ mkdir -p .ruff_cache data/camvid", "clean")
    assert {path.name for path in tree.root.iterdir()} == before | {"data"}
