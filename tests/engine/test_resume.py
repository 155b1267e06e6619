"""A run that is killed, anywhere, and resumed ends with the weights of one that was not."""

import builtins
import contextlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from accidents import Hit, Killed, forkserver, same_weights, terminated, tiny_process, training_of
from toys import Toy, loader, small_unet, tiny_loaders, tiny_model, tiny_run, wait_for

from seglib.engine import state as state_module
from seglib.engine.checkpoints import load_checkpoint, load_model, read_content
from seglib.engine.history import History
from seglib.training import evaluate, fit

KEEPS = [{"schedule": "onecycle"}, {"schedule": "poly", "amp": "bf16"}]
KEEPS += [{"schedule": "plateau", "ema": 0.9}, {"schedule": "constant", "amp": "fp16", "clip": 1.0}]
SOAKED = [{}, {"workers": 2}, {"amp": "bf16"}, {"amp": "fp16", "clip": 1.0, "accumulate": 2}]
SOAKED += [{"ema": 0.9, "accumulate": 2, "schedule": "plateau"}]


@pytest.fixture
def without_figure(monkeypatch):
    """Leaves out the curves' picture, which takes long to draw and saves no state."""
    save = History.save
    monkeypatch.setattr(History, "save", lambda self, folder, **_: save(self, folder, False))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Watched:
    """A file that is looked at in the midst of each write, when half of the bytes are there."""

    def __init__(self, file, watch):
        self.file, self.watch = file, watch

    def write(self, data):
        half = len(data) // 2
        self.file.write(data[:half])
        self.file.flush()
        self.watch("write")
        self.file.write(data[half:])
        return len(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def watch_files(monkeypatch, folder: Path, watch):
    """Call `watch(kind)` before every operation on files in `folder`, and in every write."""
    real_open = builtins.open

    def watched_open(file, mode="r", *args, **kwargs):
        mine = isinstance(file, str | Path) and str(folder) in str(file)
        if not mine or not set(mode) & set("wax+"):
            return real_open(file, mode, *args, **kwargs)
        watch("open")
        return Watched(real_open(file, mode, *args, **kwargs), watch)

    def watched(name, function):
        return lambda *args, **kwargs: (watch(name), function(*args, **kwargs))[1]

    monkeypatch.setattr(builtins, "open", watched_open)
    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))


def test_a_kill_at_every_moment(tmp_path, monkeypatch, without_figure):
    """Every folder that one could leave on the disk is resumed; half-written files count as one."""
    model, history = tiny_run(tmp_path / "whole")
    running, left, kinds = tmp_path / "running", {}, []

    def watch(kind):
        kinds.append(kind)
        folder = {
            path.name.replace(str(os.getpid()), "99999"): path.read_bytes()
            for path in running.glob("*")  # (another process resumes)
        }
        whole = {name: b"" if name.endswith(".part") else folder[name] for name in folder}
        left[tuple(sorted(whole.items()))] = folder, f"{kind}, operation {len(kinds)}"

    with monkeypatch.context() as patch:
        watch_files(patch, tmp_path, watch)
        tiny_run(running)
    watch("end")
    assert {"open", "write", "fsync", "replace"} <= set(kinds) and len(left) > 12
    kept = {"epoch", "lr", "train_loss", "val_loss", "val_miou"}
    for n, (folder, where) in enumerate(left.values()):
        out = tmp_path / f"killed_{n}"
        out.mkdir()
        for name, content in folder.items():
            (out / name).write_bytes(content)
        for name in ("last.pt", "best.pt"):
            if (out / name).exists():
                load_checkpoint(out / name, tiny_model())  # whole, whenever the kill came
        resumed, rows = tiny_run(out, resume=True)
        assert same_weights(resumed.state_dict(), model.state_dict()), where
        for ours, theirs in zip(rows.rows, history.rows, strict=True):
            assert {k: ours[k] for k in kept} == {k: theirs[k] for k in kept}, where
        best = [read_content(each / "best.pt")["state"] for each in (out, tmp_path / "whole")]
        assert same_weights(*best) and not list(out.glob(".*.part")), where


@pytest.mark.parametrize("options", KEEPS, ids=str)
def test_whatever_it_keeps_it_resumes_exactly(tmp_path, options):
    whole, expected = tiny_run(None, epochs=4, loss=Hit(), **options)
    with pytest.raises(Killed):
        tiny_run(tmp_path, epochs=4, loss=Hit(14), **options)  # in the third epoch
    for _ in range(2):  # (the second time the run has ended, and nothing changes)
        again, history = tiny_run(tmp_path, epochs=4, loss=Hit(), resume=True, **options)
        assert same_weights(whole.state_dict(), again.state_dict())
        assert [r["val_loss"] for r in history.rows] == [r["val_loss"] for r in expected.rows]


def check_kills(tmp_path, kills, workers, method=None, **options):
    """Start the run, kill it so often, each time after a new checkpoint, and let it end."""
    expected, _ = tiny_run(None, **options)
    rng, out = random.Random(kills), tmp_path / "run"
    last = out / "last.pt"
    for attempt in range(kills + 1):
        arguments = str(out), attempt > 0, workers, method, options
        process = forkserver().Process(target=tiny_process, args=arguments)
        before = last.stat().st_mtime_ns if last.exists() else 0
        process.start()
        if attempt == kills:
            process.join(180)
            assert process.exitcode == 0
            break

        def moved(before=before, process=process):
            return (last.exists() and last.stat().st_mtime_ns != before) or not process.is_alive()

        wait_for(moved, 60)
        time.sleep(rng.uniform(0, 0.15))  # it has got somewhere: kill it soon
        process.kill()
        process.join(60)
        assert os.name != "posix" or process.exitcode == -signal.SIGKILL
        assert len(training_of(out)["rows"]) < options["epochs"], "the kill came too late"
    final = torch.load(out / "final.pt", weights_only=True)
    assert same_weights(final, expected.state_dict())


@pytest.mark.slow
def test_a_true_kill(tmp_path, one_thread):
    """Of a run whose loader has workers. (Forked ones, which start fast; others are for `soak`.)"""
    method = "fork" if sys.platform == "linux" else None
    check_kills(tmp_path, 1, 2, method, epochs=25)


@pytest.mark.soak
@pytest.mark.parametrize("options", SOAKED, ids=str)
def test_many_true_kills(tmp_path, options, one_thread):
    check_kills(tmp_path, 8, **{"workers": 0, "epochs": 200, **options})


def test_workers_do_not_change_the_weights_nor_does_resuming_nothing(tmp_path):
    runs = tiny_run(None)[0], tiny_run(tmp_path, workers=2, resume=True)[0]
    assert same_weights(*(model.state_dict() for model in runs))


def test_another_setting_is_named(tmp_path):
    tiny_run(tmp_path)
    training = {"epochs": 3, "lr": 0.02, "seed": 4, "schedule": "poly", "clip": 1.0}
    for key, value in {**training, "amp": "bf16", "accumulate": 2, "ema": 0.5}.items():
        told = rf"cannot resume .*: {key} was .* now it is {value!r}.*old value"
        with pytest.raises(ValueError, match=told):
            tiny_run(tmp_path, resume=True, **{key: value})


def test_other_data_are_named(tmp_path):
    def run(size=(24, 32), seed=0, val=True, resume=True):
        train = loader(4, 2, Toy, *size, shuffle=True, seed=seed)
        fit(tiny_model(), train, train if val else None, epochs=1, out=tmp_path, resume=resume)

    run(resume=False)
    names = {"size": "size", "seed": "order", "val": "validation"}
    for key, value in {"size": (12, 16), "seed": 1, "val": False}.items():
        with pytest.raises(ValueError, match=f"cannot resume .*: {names[key]} was"):
            run(**{key: value})


def test_a_run_is_never_overwritten(tmp_path):
    tiny_run(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in ("last.pt", "best.pt")]
    with pytest.raises(FileExistsError, match=r"holds a run already \(2 of 2 epochs\).*--resume"):
        tiny_run(tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before[0]
    (tmp_path / "last.pt").unlink()  # to save space, say
    for resume in (False, True, "extend"):
        with pytest.raises(FileExistsError, match=r"best\.pt of an earlier run"):
            tiny_run(tmp_path, resume=resume)
    assert (tmp_path / "best.pt").read_bytes() == before[1]


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_more_epochs_are_those_of_a_longer_run(tmp_path, schedule):
    """Where the learning rate does not depend on how many there are."""
    longer, expected = tiny_run(None, epochs=4, schedule=schedule)
    tiny_run(tmp_path, epochs=2, schedule=schedule)
    model, history = tiny_run(tmp_path, epochs=4, schedule=schedule, resume="extend")
    assert same_weights(model.state_dict(), longer.state_dict())
    assert [row["val_loss"] for row in history.rows] == [row["val_loss"] for row in expected.rows]


@pytest.mark.parametrize("options", [{}, {"schedule": "poly", "ema": 0.9}], ids=str)
def test_more_epochs_begin_a_schedule_of_their_own(tmp_path, options):
    _, before = tiny_run(tmp_path / "a", epochs=2, loss=Hit(), **options)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    whole, history = tiny_run(tmp_path / "a", epochs=5, loss=Hit(), resume="extend", **options)
    fresh = [row["lr"] for row in tiny_run(None, epochs=3, **options)[1].rows]
    assert history.rows[:2] == before.rows and [row["epoch"] for row in history.rows] == [
        *range(1, 6)
    ]
    assert [row["lr"] for row in history.rows[2:]] == fresh
    runs = ("extend", Hit(9)), ("extend", Hit(9)), (True, Hit()), ("extend", Hit()), (True, Hit())
    for resume, loss in runs:  # killed in the fourth epoch and in the fifth
        with contextlib.suppress(Killed):
            model, _ = tiny_run(tmp_path / "b", epochs=5, resume=resume, loss=loss, **options)
    assert same_weights(model.state_dict(), whole.state_dict()) and len(fresh) == 3


def hold(out, held, go):
    tiny_run(Path(out), loss=terminated(), on_epoch=lambda *_: (held.set(), go.wait(60)))


@pytest.mark.skipif(os.name == "nt", reason="its locks are tried in threads only")
def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    held, go = forkserver().Event(), forkserver().Event()
    process = forkserver().Process(target=hold, args=(str(tmp_path), held, go))
    process.start()
    assert held.wait(120)
    (part := tmp_path / f".last.pt.{process.pid}.part").write_text("half")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for resume in (False, True):
        with pytest.raises(BlockingIOError, match=r"another run is under way .* another out"):
            tiny_run(tmp_path, resume=resume)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    process.kill()
    process.join(60)
    _, history = tiny_run(tmp_path, loss=terminated(), resume=True)
    assert len(history.rows) == 2 and not part.exists() and not (tmp_path / ".lock").exists()


def test_a_folder_is_for_one_thread_at_a_time_and_free_after_an_error(tmp_path):
    def again(*_):
        tiny_run(tmp_path, resume=True)

    for _ in range(2):
        with pytest.raises(BlockingIOError, match="another run is under way") as kept:
            tiny_run(tmp_path, resume=True, on_epoch=again)
    with pytest.raises(ValueError, match="lr was") as refused:
        tiny_run(tmp_path, resume=True, lr=0.5)
    _, history = tiny_run(tmp_path, resume=True)
    assert len(history.rows) == 2 and kept and refused
    assert {path.name for path in tmp_path.iterdir()} == set(state_module.FILES)


def test_a_best_that_a_kill_left_out_is_made_good(tmp_path):
    """Of the last epoch: last.pt has been written before it."""
    model, _ = tiny_run(tmp_path, epochs=1)
    (tmp_path / "best.pt").unlink()
    tiny_run(tmp_path, epochs=1, resume=True)
    assert same_weights(read_content(tmp_path / "best.pt")["state"], model.state_dict())


def test_another_thread_count_is_said(tmp_path, one_thread):
    tiny_run(tmp_path)
    torch.set_num_threads(2)
    with pytest.warns(UserWarning, match=r"this run had threads 1 and goes on with 2"):
        tiny_run(tmp_path, resume=True)


def test_the_optimisers_moments_take_the_layout_of_the_weights(tmp_path, monkeypatch):
    """A fused optimiser refuses any other, in a run that goes on with another layout."""
    made, make = [], state_module.make_optimizer

    def watched(*args):
        made.append(make(*args))
        return made[-1]

    monkeypatch.setattr(state_module, "make_optimizer", watched)
    with pytest.raises(KeyboardInterrupt):
        tiny_run(tmp_path, loss=terminated(2), channels_last=False)
    tiny_run(tmp_path, loss=terminated(), resume=True)
    for parameter, state in made[1].state.items():
        assert {state[key].stride() for key in ("exp_avg", "exp_avg_sq")} == {parameter.stride()}
    assert len(made) == 2 and any(p.dim() == 4 for p in made[1].state)


def test_best_and_last_are_usable_alone(tmp_path):
    model, val = small_unet(), loader(4, 2)
    history = fit(model, loader(6, 2, shuffle=True), val, epochs=3, lr=0.02, out=tmp_path)
    best = load_checkpoint(tmp_path / "best.pt")
    assert best.data.classes == Toy.classes and best.data.size == (24, 32)
    assert best.training is None
    assert evaluate(best.model, val).miou == pytest.approx(history.best["val_miou"])
    assert same_weights(load_model(tmp_path / "last.pt").state_dict(), model.state_dict())
    assert (tmp_path / "history.png").stat().st_size > 5000
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,lr,train_loss") and len(lines) == 4


def test_a_locked_history_file_does_not_end_the_run_and_only_our_leftovers_go(tmp_path):
    (tmp_path / ".last.pt.99999.part").write_text("left by a kill")
    (tmp_path / ".film.part").write_text("another program's")
    (tmp_path / "history.csv").mkdir()  # cannot be replaced by a file
    with pytest.warns(UserWarning, match="history was not written"):
        _, history = tiny_run(tmp_path)
    assert len(history.rows) == 2 and training_of(tmp_path)["rows"] == history.rows
    assert not (tmp_path / ".last.pt.99999.part").exists() and (tmp_path / ".film.part").exists()


def test_another_split_of_equal_size_is_another_run(tmp_path):
    tiny_run(tmp_path)
    train, val = tiny_loaders()
    train.dataset.files = [
        (image.with_stem(f"b_{image.stem}"), m) for image, m in train.dataset.files
    ]
    with pytest.raises(ValueError, match=r"cannot resume .*: files was"):
        fit(tiny_model(), train, val, epochs=2, lr=0.01, seed=3, out=tmp_path, resume=True)
