"""A signal during training loses no step; a killed run leaves no process behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from test_resume import forkserver, same_weights, without_figure
from torch.utils.data import DataLoader
from toys import Toy, flags, tiny_model, tiny_run, write_folder

from seglib.cli.main import main
from seglib.data.loader import make_loader
from seglib.engine.checkpoints import load_checkpoint, read_content
from seglib.engine.signals import Interrupted
from seglib.losses import CrossEntropyLoss
from seglib.training import fit
from seglib.transforms import eval_transform, train_transform

KEPT = ("epoch", "lr", "train_loss", "val_loss", "val_miou", "skipped_steps")


class Alarm(CrossEntropyLoss):
    """Cross-entropy that is hit by a signal during its `at`-th call (training or evaluation)."""

    def __init__(self, at=None, number=signal.SIGTERM) -> None:
        super().__init__()
        self.at, self.number, self.calls = at, number, 0

    def __repr__(self) -> str:
        return "Alarm"

    def forward(self, logits, target):
        self.calls += 1
        if self.calls == self.at:
            signal.raise_signal(self.number)
        return super().forward(logits, target)


def rows_of(history):
    return [[row.get(key) for key in KEPT] for row in history.rows]


@pytest.mark.parametrize(
    "options",
    [{}, {"schedule": "plateau", "ema": 0.9, "clip": 1.0}, {"accumulate": 2, "amp": "fp16"}],
    ids=str,
)
def test_a_signal_in_any_step_loses_nothing(tmp_path, monkeypatch, options):
    """3 batches to train on and 2 to validate in each of 2 epochs: 10 moments to be hit in."""
    without_figure(monkeypatch)
    whole, expected = tiny_run(None, loss=Alarm(), **options)
    for at in range(1, 11):
        out = tmp_path / str(at)
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        with pytest.raises(Interrupted) as caught:
            tiny_run(out, loss=Alarm(at), **options)
        assert caught.value.number == signal.SIGTERM and "--resume" in str(caught.value)
        assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
        partial = read_content(out / "last.pt")["training"]["partial"]
        epoch, call = divmod(at - 1, 5)
        group = options.get("accumulate", 1)
        assert len(read_content(out / "last.pt")["training"]["rows"]) == epoch
        assert partial["step"] == (3 if call >= 3 else min(-(-(call + 1) // group) * group, 3))
        loss = Alarm()
        resumed, history = tiny_run(out, loss=loss, resume=True, **options)
        assert same_weights(whole.state_dict(), resumed.state_dict()), at
        assert rows_of(history) == rows_of(expected), at
        assert loss.calls == 10 - 5 * epoch - partial["step"]  # no step is run twice
        assert read_content(out / "last.pt")["training"]["partial"] is None


def test_a_run_may_be_stopped_again_and_again(tmp_path):
    whole, expected = tiny_run(None, loss=Alarm())
    stops, model, history = 0, None, None
    while model is None:
        try:
            model, history = tiny_run(tmp_path, loss=Alarm(3), resume=True)
        except Interrupted:
            stops += 1
            load_checkpoint(tmp_path / "last.pt", tiny_model())  # whole, each time
        assert stops < 9
    assert stops == 3  # after 3 steps, 1 step later, in the second evaluation
    assert same_weights(whole.state_dict(), model.state_dict())
    assert rows_of(history) == rows_of(expected)


def test_ctrl_c_saves_too_and_a_second_one_acts_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        tiny_run(tmp_path / "a", loss=Alarm(2, signal.SIGINT))
    assert isinstance(caught.value, Interrupted) and (tmp_path / "a" / "last.pt").exists()

    class Twice(Alarm):
        def forward(self, logits, target):
            if self.calls == 1:
                signal.raise_signal(signal.SIGINT)
            return super().forward(logits, target)

    with pytest.raises(KeyboardInterrupt) as caught:
        tiny_run(tmp_path / "b", loss=Twice(2, signal.SIGINT))
    assert not isinstance(caught.value, Interrupted) and not (tmp_path / "b" / "last.pt").exists()


def test_without_a_folder_ctrl_c_is_what_it_was():
    with pytest.raises(KeyboardInterrupt) as caught:
        tiny_run(None, loss=Alarm(2, signal.SIGINT))
    assert not isinstance(caught.value, Interrupted)


def test_loaders_of_others_go_on_where_they_were(tmp_path):
    """A sampler that cannot start in the midst is drawn from up to there."""

    def run(out, loss, resume=False):
        model = tiny_model()
        loader = DataLoader(Toy(6, eval_transform(16, 24)), batch_size=2, shuffle=True)
        fit(model, loader, epochs=2, lr=0.01, loss=loss, out=out, resume=resume, seed=3)
        return model.state_dict()

    whole = run(None, Alarm())
    for at in (1, 2, 5):
        with pytest.raises(Interrupted):
            run(tmp_path / str(at), Alarm(at))
        assert same_weights(whole, run(tmp_path / str(at), Alarm(), resume=True)), at


def test_the_loader_is_whole_again_behind_a_resumed_epoch(tmp_path):
    """Also where the same loader serves for training and evaluation."""
    loader = make_loader(Toy(6, eval_transform(16, 24)), 2, shuffle=True, seed=3)

    def run(out, loss, resume=False):
        model = tiny_model()
        history = fit(model, loader, loader, epochs=1, lr=0.01, loss=loss, out=out, resume=resume)
        return history.rows[0]["val_miou"], len(list(loader))

    whole = run(None, Alarm())
    assert whole[1] == 3
    for at in (2, 5):  # a training step, an evaluation's batch
        with pytest.raises(Interrupted):
            run(tmp_path / str(at), Alarm(at))
        assert len(list(loader)) == 3
        assert run(tmp_path / str(at), Alarm(), resume=True) == whole


# ---------------------------------------------------------------- true processes


class Marked(Toy):
    """Leaves a file with the number of each process that reads from it."""

    marks = Path()

    def read(self, index):
        (self.marks / str(os.getpid())).touch()
        return super().read(index)


def marked_run(folder: str, epochs: int, resume: bool, method: str) -> None:
    """The body of a process: a run with two workers, in a group of its own."""
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    multiprocessing.set_start_method(method, force=True)
    (Path(folder) / "marks").mkdir(parents=True, exist_ok=True)
    data = Marked(6, train_transform(16, 24))
    data.marks = Path(folder) / "marks"
    loader = make_loader(data, 2, shuffle=True, seed=3, workers=2)
    model = tiny_model()
    try:
        fit(model, loader, epochs=epochs, lr=0.01, seed=3, out=Path(folder) / "run", resume=resume)
    except Interrupted as error:
        sys.exit(128 + error.number)


def started(*args):
    """`marked_run` in a process of its own."""
    process = forkserver().Process(target=marked_run, args=tuple(map(str, args[:1])) + args[1:])
    process.start()
    return process


def lives(number: int) -> bool:
    """Whether a process is there, and no zombie that waits to be counted."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def readers(folder):
    return [int(path.name) for path in (folder / "marks").iterdir()]


@pytest.fixture
def run_that_is_on(tmp_path):
    """Starts a long run in tmp_path and waits for its second epoch."""
    processes = []

    def begin(method):
        process = started(tmp_path, 100_000, False, method)
        processes.append(process)
        last = tmp_path / "run" / "last.pt"
        wait_for(lambda: last.exists() or not process.is_alive(), 120)
        assert process.is_alive() and len(readers(tmp_path)) == 2
        return process

    yield begin
    for process in processes:
        process.kill()
        process.join()


# (a fork server imports everything anew for the workers of each epoch)
METHODS = pytest.mark.parametrize(
    "method", ["fork", pytest.param("forkserver", marks=pytest.mark.soak)]
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@linux
@pytest.mark.slow
@METHODS
def test_sigterm_to_a_whole_group_with_workers(run_that_is_on, tmp_path, method):
    """As clusters send it, to the workers as well: they last until the step is done."""
    process = run_that_is_on(method)
    for number in [*readers(tmp_path), process.pid]:  # (a fork server's are not in the group)
        os.kill(number, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 143
    training = read_content(tmp_path / "run" / "last.pt")["training"]
    assert training["partial"]["step"] in (1, 2, 3)
    wait_for(lambda: not any(map(lives, readers(tmp_path))), 8)


@linux
@pytest.mark.slow
@METHODS
def test_sigkill_leaves_no_worker_behind(run_that_is_on, tmp_path, method):
    process = run_that_is_on(method)
    assert all(map(lives, readers(tmp_path)))
    process.kill()
    wait_for(lambda: not any(map(lives, readers(tmp_path))), 8)


@linux
@pytest.mark.slow
def test_stopped_with_workers_and_resumed_it_is_the_same_run(tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    process = started(whole, 6, False, "fork")
    process.join(120)
    assert process.exitcode == 0
    stops = 0
    while not (done := part / "run" / "history.png").exists():
        process = started(part, 6, True, "fork")
        last = part / "run" / "last.pt"
        before = last.stat().st_mtime_ns if last.exists() else 0
        wait_for(
            lambda: (
                (last.exists() and last.stat().st_mtime_ns != before)  # noqa: B023
                or not process.is_alive()
                or done.exists()
            ),
            120,
        )
        if process.is_alive() and stops < 2:
            os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        stops += process.exitcode == 143
        assert process.exitcode in (0, 143)
    assert stops
    states = [read_content(folder / "run" / "last.pt")["state"] for folder in (whole, part)]
    assert same_weights(*states)


def test_the_command_line_tells_and_gives_the_signals_number(tmp_path, capsys, monkeypatch):
    folder, out = write_folder(tmp_path / "pairs"), tmp_path / "run"
    calls = []

    def hit(self, target):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return denominator(self, target)

    denominator = CrossEntropyLoss.denominator
    monkeypatch.setattr(CrossEntropyLoss, "denominator", hit)
    assert main(["train", *flags(folder), "--out", str(out)]) == 143
    said = capsys.readouterr().err
    assert "SIGTERM" in said and "--resume" in said
    assert main(["train", *flags(folder), "--out", str(out), "--resume"]) == 0
