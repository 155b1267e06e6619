"""A run that is killed, anywhere, and resumed ends with the weights of one that was not."""

from __future__ import annotations

import builtins
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from toys import Toy, tiny_model, tiny_process, tiny_run

from seglib.data.loader import make_loader
from seglib.engine import history as history_module
from seglib.engine.checkpoints import load_checkpoint, load_model, read_content
from seglib.losses import CrossEntropyLoss
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform


class Killed(BaseException):
    """Stands for the end of the process: no code may catch it and go on."""


class Mortal:
    """Counts file operations and training steps, and dies at the `limit`-th.

    From then on every file operation fails as well, as after a kill: no clean-up reaches the
    disk. A write that dies leaves the first half of its bytes. `watch` is called in place of
    dying, where a kill would leave the disk as it is then.
    """

    def __init__(self, limit: int | None = None, watch=None) -> None:
        self.limit, self.watch, self.count, self.kinds = limit, watch, 0, []

    def alive(self, kind: str) -> None:
        self.count += 1
        self.kinds.append(kind)
        if self.watch is not None:
            self.watch()
        if self.limit is not None and self.count >= self.limit:
            raise Killed(f"{kind}, operation {self.count}")

    def patch(self, monkeypatch, folder: Path) -> None:
        real_open = builtins.open

        def mortal_open(file, mode="r", *args, **kwargs):
            mine = isinstance(file, str | Path) and str(folder) in str(file)
            if not mine or not set(mode) & set("wax+"):
                return real_open(file, mode, *args, **kwargs)
            self.alive(f"open {mode}")
            return MortalFile(real_open(file, mode, *args, **kwargs), self)

        monkeypatch.setattr(builtins, "open", mortal_open)
        for name in ("fsync", "replace", "unlink"):
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name, function):
        def call(*args, **kwargs):
            self.alive(name)
            return function(*args, **kwargs)

        return call


class MortalFile:
    def __init__(self, file, life: Mortal) -> None:
        self.file, self.life = file, life

    def write(self, data):
        half = len(data) // 2
        self.file.write(data[:half])
        self.file.flush()
        self.life.alive("write")
        self.file.write(data[half:])
        return len(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


class MortalLoss(CrossEntropyLoss):
    """Cross-entropy that dies at its turn: a kill within a training or evaluation step."""

    life: Mortal | None = None

    def forward(self, logits, target):
        if self.life is not None:
            self.life.alive("step")
        return super().forward(logits, target)


def same_weights(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def without_figure(monkeypatch):
    """Leave out the curves' picture: drawing it 200 times takes minutes and saves no state."""
    save = history_module.History.save
    monkeypatch.setattr(
        history_module.History, "save", lambda self, folder, figure=True: save(self, folder, False)
    )


def mortal_run(out, life, resume=False):
    loss = MortalLoss()
    loss.life = life
    return tiny_run(out, resume=resume, loss=loss)


def check_resumed(out, expected, where):
    """The files of a run that was killed are whole, and it ends as one that was not."""
    for name in ("last.pt", "best.pt"):
        if (out / name).exists():
            load_checkpoint(out / name, tiny_model())  # whole, whenever the kill came
    model, history = mortal_run(out, None, resume=True)
    assert same_weights(model.state_dict(), expected[0].state_dict()), where
    kept = {"epoch", "lr", "train_loss", "val_loss", "val_miou"}
    for ours, theirs in zip(history.rows, expected[1].rows, strict=True):
        assert {k: ours[k] for k in kept} == {k: theirs[k] for k in kept}, where
    best = [read_content(folder / "best.pt")["state"] for folder in (out, out.parent / "whole")]
    assert same_weights(*best) and not list(out.glob(".*.part")), where


def test_a_kill_at_every_step_and_every_file_operation(tmp_path, monkeypatch):
    """What each would leave on the disk, taken from one run, and every such folder resumed.

    A run that is resumed removes what was half written, whatever is in it; so folders that differ
    in nothing else are resumed once, from the last of them.
    """
    without_figure(monkeypatch)
    expected = mortal_run(tmp_path / "whole", None)
    running, left = tmp_path / "running", {}

    def watch():
        folder = {
            path.name.replace(str(os.getpid()), "99999"): path.read_bytes()
            for path in running.glob("*")
        }  # (another process resumes)
        whole = {
            name: b"" if name.endswith(".part") else content for name, content in folder.items()
        }
        left[tuple(sorted(whole.items()))] = folder, f"{life.kinds[-1]}, operation {life.count}"

    life = Mortal(watch=watch)
    with monkeypatch.context() as patch:
        life.patch(patch, tmp_path)
        mortal_run(running, life)
    watch()  # a kill after the end
    assert {"step", "open wb", "write", "fsync", "replace"} <= set(life.kinds)
    assert len(left) > 12, len(left)
    for n, (folder, where) in enumerate(left.values()):
        out = tmp_path / f"killed_{n}"
        out.mkdir()
        for name, content in folder.items():
            (out / name).write_bytes(content)
        check_resumed(out, expected, f"killed at {where}")


@pytest.mark.soak
def test_an_end_at_every_step_and_every_file_operation(tmp_path, monkeypatch):
    """As before, by an exception each that no clean-up survives, and resumed every time."""
    without_figure(monkeypatch)
    expected, life = mortal_run(tmp_path / "whole", None), Mortal()
    with monkeypatch.context() as patch:
        life.patch(patch, tmp_path)
        mortal_run(tmp_path / "counted", life)
    for limit in range(1, life.count + 1):
        out, mortal = tmp_path / f"killed_{limit}", Mortal(limit)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            mortal.patch(patch, tmp_path)
            mortal_run(out, mortal)
        check_resumed(out, expected, f"killed at {mortal.kinds[-1]}, operation {limit}")


def forkserver():
    """Starts processes by forking one that has imported everything, and done nothing else.

    (Forks of a process that has trained would hang.)
    """
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        context.set_forkserver_preload(
            ["test_resume", "albumentations", "torch._dynamo", "matplotlib.pyplot"]
        )
    return context


def mortal_process(method: str | None, *args) -> None:
    """The body of a process; its own start its loader's workers by `method`."""
    if method is not None:
        multiprocessing.set_start_method(method, force=True)
    tiny_process(*args)


def killed_until_done(
    out: Path, kills: int, workers: int, epochs: int, seed: int, options: dict, method: str | None
) -> int:
    """Start the run, kill it `kills` times with SIGKILL, let it end.

    Returns how many kills came after a new checkpoint and before the last epoch.
    """
    rng, hits = random.Random(seed), 0
    for attempt in range(kills + 1):
        process = forkserver().Process(
            target=mortal_process, args=(method, str(out), attempt > 0, workers, epochs, options)
        )
        process.start()
        if attempt < kills:
            last = out / "last.pt"
            saved = last.stat().st_mtime_ns if last.exists() else 0
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.is_alive():
                if last.exists() and last.stat().st_mtime_ns != saved:
                    time.sleep(rng.uniform(0, 0.15))  # it has got somewhere: kill it soon
                    break
                time.sleep(0.002)
            process.kill()
            process.join(60)
            assert os.name != "posix" or process.exitcode == -signal.SIGKILL
            rows = read_content(last)["training"]["rows"]
            hits += last.stat().st_mtime_ns != saved and len(rows) < epochs
        else:
            process.join(180)
            assert process.exitcode == 0
    return hits


def check_kills(tmp_path, kills, workers, epochs, seed, method=None, **options):
    torch.set_num_threads(1)
    expected, _ = tiny_run(None, epochs=epochs, **options)
    hits = killed_until_done(tmp_path / "run", kills, workers, epochs, seed, options, method)
    assert hits == kills, f"only {hits} of {kills} kills came in the midst of the run"
    final = torch.load(tmp_path / "run" / "final.pt", weights_only=True)
    assert same_weights(final, expected.state_dict())


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_true_kill(tmp_path, one_thread):
    """Of a run whose loader has workers. (Forked ones, which start fast; others are for `soak`.)"""
    method = "fork" if sys.platform == "linux" else None
    check_kills(tmp_path, kills=1, workers=2, epochs=25, seed=1, method=method)


@pytest.mark.soak
@pytest.mark.parametrize(("kills", "workers"), [(12, 0), (8, 2)])
def test_twenty_true_kills(tmp_path, kills, workers, one_thread):
    check_kills(tmp_path, kills, workers, epochs=200, seed=kills)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kills", "options"),
    [
        (7, {"amp": "bf16"}),
        (7, {"amp": "fp16", "clip": 1.0, "accumulate": 2}),
        (6, {"ema": 0.9, "accumulate": 2, "schedule": "plateau"}),
    ],
    ids=str,
)
def test_twenty_true_kills_with_options(tmp_path, kills, options, one_thread):
    check_kills(tmp_path, kills, 0, epochs=200, seed=kills, **options)


def test_workers_do_not_change_the_weights(tmp_path):
    alone, _ = tiny_run(None)
    shared, _ = tiny_run(tmp_path, workers=2)
    assert same_weights(alone.state_dict(), shared.state_dict())


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    fresh, _ = tiny_run(tmp_path / "a", resume=True)
    usual, _ = tiny_run(tmp_path / "b")
    assert same_weights(fresh.state_dict(), usual.state_dict())


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    done, history = tiny_run(tmp_path)
    again, same = tiny_run(tmp_path, resume=True)
    assert same_weights(done.state_dict(), again.state_dict())
    assert same.rows == history.rows


def test_another_setting_is_named(tmp_path):
    tiny_run(tmp_path)
    for key, value in {"epochs": 3, "lr": 0.02, "seed": 4, "schedule": "poly", "clip": 1.0}.items():
        told = rf"cannot resume .*: {key} was .* now it is {value!r}"
        with pytest.raises(ValueError, match=told):
            tiny_run(tmp_path, resume=True, **{key: value})


def test_a_run_is_never_overwritten(tmp_path):
    tiny_run(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(FileExistsError, match=r"holds a run already \(2 of 2 epochs\).*--resume"):
        tiny_run(tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_another_thread_count_is_said(tmp_path, one_thread):
    tiny_run(tmp_path)
    torch.set_num_threads(2)
    with pytest.warns(UserWarning, match=r"this run had threads 1 and goes on with 2"):
        tiny_run(tmp_path, resume=True)


@pytest.mark.parametrize("schedule", ["onecycle", "poly", "plateau", "constant"])
def test_every_schedule_resumes_exactly(tmp_path, schedule, monkeypatch):
    whole, _ = tiny_run(None, epochs=4, schedule=schedule)
    loss = MortalLoss()
    loss.life = Mortal(14)  # in the third epoch
    with pytest.raises(Killed):
        tiny_run(tmp_path, epochs=4, schedule=schedule, loss=loss)
    loss.life = None
    resumed, _ = tiny_run(tmp_path, epochs=4, schedule=schedule, loss=loss, resume=True)
    assert same_weights(whole.state_dict(), resumed.state_dict())


def test_best_and_last_are_usable_alone(tmp_path):
    from seglib.models import UNet

    torch.manual_seed(0)
    model = UNet(3, base_channels=4, depth=1)
    train = make_loader(Toy(6, eval_transform(24, 32)), 2, shuffle=True)
    val = make_loader(Toy(4, eval_transform(24, 32)), 2)
    history = fit(model, train, val, epochs=3, lr=0.02, out=tmp_path)
    best = load_checkpoint(tmp_path / "best.pt")
    assert best.data.classes == Toy.classes and best.data.size == (24, 32)
    assert best.training is None
    assert evaluate(best.model, val).miou == pytest.approx(history.best["val_miou"])
    last = load_model(tmp_path / "last.pt")
    assert same_weights(last.state_dict(), model.state_dict())
    assert (tmp_path / "history.png").stat().st_size > 5000
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,lr,train_loss") and len(lines) == 4


def test_the_best_weights_of_an_earlier_run_are_not_overwritten(tmp_path):
    tiny_run(tmp_path)
    (tmp_path / "last.pt").unlink()  # to save space, say
    before = (tmp_path / "best.pt").read_bytes()
    with pytest.raises(FileExistsError, match=r"best\.pt of an earlier run"):
        tiny_run(tmp_path)
    assert (tmp_path / "best.pt").read_bytes() == before


def test_only_our_own_leftovers_are_cleaned_up(tmp_path):
    (tmp_path / ".last.pt.99999.part").write_text("left by a kill")
    (tmp_path / ".film.part").write_text("another program's")
    tiny_run(tmp_path)
    assert not (tmp_path / ".last.pt.99999.part").exists()
    assert (tmp_path / ".film.part").exists()


def test_another_size_or_order_of_the_data_is_named(tmp_path):
    def run(size=(24, 32), seed=0, val=True, resume=True):
        train = make_loader(Toy(4, eval_transform(*size)), 2, shuffle=True, seed=seed)
        fit(tiny_model(), train, train if val else None, epochs=1, out=tmp_path, resume=resume)

    run(resume=False)
    for changed, key in (
        ({"size": (12, 16)}, "size"),
        ({"seed": 1}, "order"),
        ({"val": False}, "validation"),
    ):
        with pytest.raises(ValueError, match=f"cannot resume .*: {key} was"):
            run(**changed)


def test_a_locked_history_file_does_not_end_the_run(tmp_path):
    (tmp_path / "history.csv").mkdir()  # cannot be replaced by a file
    with pytest.warns(UserWarning, match="history was not written"):
        _, history = tiny_run(tmp_path)
    assert len(history.rows) == 2 and (tmp_path / "last.pt").exists()
