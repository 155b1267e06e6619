"""A signal during training loses no step; a killed run leaves no process behind."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from accidents import Hit, forkserver, same_weights, terminated, training_of
from test_resume import without_figure  # noqa: F401
from toys import Toy, flags, loader, tiny_model, tiny_run, wait_for, write_folder

from seglib.cli.main import main
from seglib.data.loader import make_loader
from seglib.engine.checkpoints import load_checkpoint
from seglib.engine.signals import Interrupted
from seglib.losses import CrossEntropyLoss
from seglib.training import fit
from seglib.transforms import eval_transform, train_transform

KEPT = ("epoch", "lr", "train_loss", "val_loss", "val_miou", "skipped_steps")
OPTIONS = [{}, {"schedule": "plateau", "ema": 0.9, "clip": 1.0}, {"accumulate": 2, "amp": "fp16"}]


def rows_of(history):
    return [[row.get(key) for key in KEPT] for row in history.rows]


@pytest.mark.usefixtures("without_figure")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_signal_in_any_step_loses_nothing(tmp_path, options):
    """3 batches to train on and 2 to validate in each of 2 epochs: 10 moments to be hit in."""
    whole, expected = tiny_run(None, loss=terminated(), **options)
    for at in range(1, 11):
        out = tmp_path / str(at)
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        with pytest.raises(Interrupted) as caught:
            tiny_run(out, loss=terminated(at), **options)
        assert caught.value.number == signal.SIGTERM and "--resume" in str(caught.value)
        assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
        step = training_of(out)["partial"]["step"]
        epoch, call = divmod(at - 1, 5)
        group = options.get("accumulate", 1)
        assert len(training_of(out)["rows"]) == epoch
        assert step == (3 if call >= 3 else min(-(-(call + 1) // group) * group, 3))
        loss = terminated()
        resumed, history = tiny_run(out, loss=loss, resume=True, **options)
        assert same_weights(whole.state_dict(), resumed.state_dict()), at
        assert rows_of(history) == rows_of(expected), at
        assert loss.calls == 10 - 5 * epoch - step  # no step is run twice
        assert training_of(out)["partial"] is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_may_be_stopped_again_and_again(tmp_path, workers):
    whole, expected = tiny_run(None, loss=terminated())
    for _ in range(3):  # after 3 steps, 1 step later, in the second evaluation
        with pytest.raises(Interrupted):
            tiny_run(tmp_path, loss=terminated(3), resume=True, workers=workers)
        load_checkpoint(tmp_path / "last.pt", tiny_model())  # whole, each time
    model, history = tiny_run(tmp_path, loss=terminated(3), resume=True, workers=workers)
    assert same_weights(whole.state_dict(), model.state_dict())
    assert rows_of(history) == rows_of(expected)


class Twice(Hit):
    def forward(self, logits, target):
        if self.calls == 1:
            signal.raise_signal(signal.SIGINT)
        return super().forward(logits, target)


@pytest.mark.parametrize(
    ("loss", "folder", "saved"), [(Hit, "a", True), (Twice, "a", False), (Hit, None, False)]
)
def test_ctrl_c_saves_a_second_one_acts_at_once(tmp_path, loss, folder, saved):
    with pytest.raises(KeyboardInterrupt) as caught:
        tiny_run(folder and tmp_path / folder, loss=loss(2, signal.SIGINT))
    assert isinstance(caught.value, Interrupted) == saved
    assert (tmp_path / "a" / "last.pt").exists() == saved


def test_loaders_of_others_go_on_where_they_were(tmp_path):
    """A sampler that cannot start in the midst is drawn from up to there."""

    def run(out, loss, resume=False):
        model, data = tiny_model(), Toy(6, eval_transform(16, 24))
        batches = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True)
        fit(model, batches, epochs=2, lr=0.01, loss=loss, out=out, resume=resume, seed=3)
        return model.state_dict()

    whole = run(None, terminated())
    for at in (1, 2, 5):
        with pytest.raises(Interrupted):
            run(tmp_path / str(at), terminated(at))
        assert same_weights(whole, run(tmp_path / str(at), terminated(), resume=True)), at


def test_the_loader_is_whole_again_behind_a_resumed_epoch(tmp_path):
    """Also where the same loader serves for training and evaluation."""
    both, settings = loader(6, 2, shuffle=True, seed=3), {"epochs": 1, "lr": 0.01}

    def run(out, loss, resume=False):
        history = fit(tiny_model(), both, both, loss=loss, out=out, resume=resume, **settings)
        return history.rows[0]["val_miou"], len(list(both))

    whole = run(None, terminated())
    assert whole[1] == 3
    for at in (2, 5):  # a training step, an evaluation's batch
        with pytest.raises(Interrupted):
            run(tmp_path / str(at), terminated(at))
        assert len(list(both)) == 3
        assert run(tmp_path / str(at), terminated(), resume=True) == whole


def test_the_command_line_tells_and_gives_the_signals_number(tmp_path, capsys, monkeypatch):
    words = ["train", *flags(write_folder(tmp_path / "pairs")), "--out", str(tmp_path / "run")]
    calls, denominator = [], CrossEntropyLoss.denominator

    def hit(self, target):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return denominator(self, target)

    monkeypatch.setattr(CrossEntropyLoss, "denominator", hit)
    assert main(words) == 143
    said = capsys.readouterr().err
    assert "SIGTERM" in said and "--resume" in said
    assert main([*words, "--resume"]) == 0


class Marked(Toy):
    """Leaves a file with the number of each process that reads from it."""

    marks = Path()

    def read(self, index):
        (self.marks / str(os.getpid())).touch()
        return super().read(index)


def marked_run(folder, method):
    """The body of a process: a long run with two workers, in a group of its own."""
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    multiprocessing.set_start_method(method, force=True)
    data = Marked(6, train_transform(16, 24))
    data.marks = Path(folder) / "marks"
    data.marks.mkdir()
    batches, out = make_loader(data, 2, shuffle=True, seed=3, workers=2), Path(folder) / "run"
    try:
        fit(tiny_model(), batches, epochs=100_000, lr=0.01, seed=3, out=out)
    except Interrupted as error:
        sys.exit(128 + error.number)


def lives(number):
    """Whether a process is there, and no zombie that waits to be counted."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def readers(folder):
    return [int(path.name) for path in (folder / "marks").iterdir()]


@pytest.fixture(params=["fork", pytest.param("forkserver", marks=pytest.mark.soak)])
def process(tmp_path, request):
    """A `marked_run` in tmp_path that is in its second epoch."""
    last = tmp_path / "run" / "last.pt"
    process = forkserver().Process(target=marked_run, args=(str(tmp_path), request.param))
    process.start()
    wait_for(lambda: last.exists() or not process.is_alive(), 120)
    assert process.is_alive() and len(readers(tmp_path)) == 2
    yield process
    process.kill()
    process.join()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_the_end_leaves_no_worker_behind(process, tmp_path, number):
    """SIGTERM goes to the workers as well, as clusters send it: they last until the step is
    done. (A fork server's are not in the group.) SIGKILL goes to the first process only."""
    assert all(map(lives, readers(tmp_path)))
    for each in [*readers(tmp_path), process.pid] if number == signal.SIGTERM else [process.pid]:
        os.kill(each, number)
    process.join(30)
    assert process.exitcode == (143 if number == signal.SIGTERM else -number)
    if number == signal.SIGTERM:
        assert training_of(tmp_path / "run")["partial"]["step"] in (1, 2, 3)
    wait_for(lambda: not any(map(lives, readers(tmp_path))), 8)
