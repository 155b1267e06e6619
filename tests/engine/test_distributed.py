"""Several processes, really started, give what one gives: weights, scores, files, a clean end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from test_accumulation import WEIGHT, Double, Uneven
from test_resume import forkserver, same_weights
from test_signals import Alarm, wait_for
from toys import Toy, counted, flags, maps, tiny_model, write_folder

from seglib.cli.main import main
from seglib.data.loader import make_loader
from seglib.engine import distributed
from seglib.engine import state as run_module
from seglib.engine.checkpoints import read_content
from seglib.engine.signals import Interrupted
from seglib.losses import CrossEntropyLoss, DiceLoss
from seglib.models import create_model
from seglib.training import fit, run_evaluation
from seglib.transforms import eval_transform

WORLDS = (2, pytest.param(3, marks=pytest.mark.soak))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="sends signals")]


def descent(groups, device, lr, weight_decay):
    """Plain gradient descent, which shows what AdamW hides: a gradient of another size."""
    return torch.optim.SGD(groups, lr=0.5)


ARMS = {  # loss, batch size, images, shuffled, further settings
    "plain": (CrossEntropyLoss(), 6, 12, True, {}),
    "weighted": (CrossEntropyLoss(WEIGHT), 6, 12, True, {}),
    "unequal parts": (CrossEntropyLoss(), 5, 10, True, {"clip": 0.1}),
    "accumulated": (CrossEntropyLoss(), 3, 12, True, {"accumulate": 2}),
    "short end": (CrossEntropyLoss(), 3, 7, False, {}),
    "averaged": (CrossEntropyLoss(), 6, 12, True, {"ema": 0.5}),
    "dice": (DiceLoss(), 6, 12, True, {}),
}


def trained(arm):
    """Weights and history of an arm: small boxes, void in very different measure, two epochs."""
    loss, batch_size, length, shuffle, options = ARMS[arm]
    run_module.make_optimizer = descent
    model = Double()
    train = make_loader(Uneven(length, eval_transform(24, 32)), batch_size, shuffle=shuffle)
    val = make_loader(Uneven(5, eval_transform(24, 32)), 2)
    history = fit(model, train, val, epochs=2, schedule="poly", loss=loss, **options)
    rows = [[row[key] for key in ("train_loss", "val_loss", "val_miou")] for row in history.rows]
    return torch.cat([p.detach().flatten() for p in model.parameters()]), rows


def evaluated(images):
    """Scores and loss of a network over so many images, image by image."""
    loader = distributed.share_evaluation(make_loader(Uneven(images, eval_transform(24, 32)), 2))
    scores, loss = run_evaluation(Double(), loader, 255, CrossEntropyLoss(), per_image=True)
    return torch.from_numpy(scores.matrix), torch.from_numpy(scores.images), loss


def order_of(images, batch_size, shuffle, start=0):
    """Which samples come in which batch."""
    loader = distributed.share(make_loader(Toy(images), batch_size, shuffle=shuffle, seed=4))
    loader.sampler.set_epoch(2, start * loader.batch_size)
    return [[int(key) for key in batch] for batch in loader.batch_sampler]


def resting():
    """A run whose backbone sleeps for an epoch: parameters without a gradient."""
    torch.manual_seed(0)
    run_module.make_optimizer = descent
    model = create_model("lraspp", 3, backbone="mobilenet_v3_small", norm="group")
    train = make_loader(Uneven(6, eval_transform(32, 48)), 6, shuffle=True)
    fit(model, train, epochs=2, schedule="poly", freeze_epochs=1)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def noisy(out, alarm=None, resume=False):
    """A run with dropout and BatchNorm, hit by a signal in one process only."""
    torch.manual_seed(0)
    model = tiny_model()
    train = make_loader(Toy(6, eval_transform(16, 24)), 3, shuffle=True, seed=3)
    loss = Alarm(alarm if distributed.rank() == 1 else None)
    try:
        fit(
            model,
            train,
            make_loader(Toy(3, eval_transform(16, 24)), 2),
            epochs=3,
            lr=0.01,
            seed=3,
            loss=loss,
            out=out,
            resume=resume,
        )
    except Interrupted as error:
        return error.number
    return model.state_dict()


def summed():
    """A matrix of this process's images, unequal shares, and what all of them make together."""
    prediction, truth = maps(6)
    mine = (slice(2), slice(2, None), slice(0))[distributed.rank()]
    cm = counted(prediction[mine], truth[mine], per_image=True)
    total = cm.all_reduce()
    return cm.matrix, total.matrix, total.images


def refused():
    """What is said of loaders whose batches cannot be shared."""
    messages = []
    for loader in (make_loader(Toy(4), 1), torch.utils.data.DataLoader(Toy(4), 2, shuffle=True)):
        for share in (distributed.share, distributed.share_evaluation):
            try:
                share(loader)
            except ValueError as error:
                messages.append(str(error))
    return messages


def all_of_it(folder):
    """Everything that the tests below look at, in one start."""
    found = {arm: trained(arm) for arm in ARMS}
    found |= {f"evaluated {n}": evaluated(n) for n in (1, 2, 4, 5)}
    found |= {f"order {shuffle}": order_of(7, 5, shuffle) for shuffle in (True, False)}
    found["order later"] = order_of(12, 4, True, start=1)
    found["resting"] = resting()
    found["whole"] = noisy(folder / "whole")
    found["stopped"] = [
        noisy(folder / "stopped", 1),
        noisy(folder / "stopped", 2, True),
        noisy(folder / "stopped", None, True),
    ]
    found["judged"] = [noisy(folder / "judged", 3), noisy(folder / "judged", None, True)]
    found["summed"], found["refused"] = summed(), refused()
    return found


def take_place(rank, world, port):
    """Tell this process what torchrun tells each of its own."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "SEGLIB_PROGRESS": "0",
    }
    torch.set_num_threads(1)


def member(rank, world, port, folder, work):
    take_place(rank, world, port)
    with distributed.process_group("auto" if not torch.cuda.is_available() else "cpu"):
        torch.save(work(Path(folder)), Path(folder) / f"{rank}.pt")


def free_port():
    """Below those that the system gives to connections, so that none takes it meanwhile."""
    for port in range(20_000 + os.getpid() % 1000 * 10, 32_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise OSError("no port is free from 20000 to 32000")


def in_processes(world, folder, work):
    """`work(folder)` in so many processes at once; what each of them returned."""
    context = forkserver()  # (forks of a process that has trained would hang)
    port = free_port()
    processes = [
        context.Process(target=member, args=(rank, world, port, str(folder), work))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(150)
        if process.is_alive():
            process.kill()
            process.join()
    assert [process.exitcode for process in processes] == [0] * world
    return found_by(world, folder)


def found_by(world, folder):
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


@pytest.fixture(scope="module", params=WORLDS, ids="{} processes".format)
def together(request, tmp_path_factory):
    """What each of several processes found, and their folder; one test worker starts them for all.

    (Under pytest-xdist the workers' folders lie side by side in the run's.)
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder = shared / f"world{request.param}"
    with FileLock(shared / f"world{request.param}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()  # (an attempt that failed is not made again)
            in_processes(request.param, folder, all_of_it)
            (folder / "done").touch()
    return found_by(request.param, folder), folder


@pytest.fixture
def as_descent(monkeypatch):
    monkeypatch.setattr(run_module, "make_optimizer", descent)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "dice"])
def test_the_weights_are_those_of_one_process(together, as_descent, arm):
    weights, rows = trained(arm)
    for theirs, their_rows in (found[arm] for found in together[0]):
        assert float((weights - theirs).abs().max()) < 1e-6
        for ours, others in zip(rows, their_rows, strict=True):
            assert ours == pytest.approx(others, rel=1e-6)
    assert all(torch.equal(found[arm][0], together[0][0][arm][0]) for found in together[0])


def test_dice_over_a_batch_is_not_that_of_its_parts(together, as_descent):
    """As documented: the processes agree with each other, not with one process."""
    weights, _ = trained("dice")
    first = together[0][0]["dice"][0]
    assert all(torch.equal(found["dice"][0], first) for found in together[0])
    assert float((weights - first).abs().max()) > 1e-4


def test_a_backbone_that_sleeps_for_an_epoch(together, as_descent):
    """Its parameters have no gradient, which DistributedDataParallel must be told."""
    alone = resting()
    for found in together[0]:
        torch.testing.assert_close(found["resting"], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("images", [1, 2, 4, 5])
def test_each_image_is_evaluated_once(together, images):
    """Also where there are fewer images than processes; image by image in the set's order."""
    matrix, per_image, loss = evaluated(images)
    for found in together[0]:
        theirs = found[f"evaluated {images}"]
        assert torch.equal(theirs[0], matrix) and torch.equal(theirs[1], per_image)
        assert theirs[2] == pytest.approx(loss, rel=1e-6)


def test_the_batches_are_those_of_one_process(together):
    for name, expected in (
        ("order True", order_of(7, 5, True)),
        ("order False", order_of(7, 5, False)),
        ("order later", order_of(12, 4, True, start=1)),
    ):
        parts = [found[name] for found in together[0]]
        joined = [
            [key for part in parts for key in (part[i] if i < len(part) else [])]
            for i in range(len(expected))
        ]
        assert joined == expected


def test_a_signal_to_one_process_stops_all_at_the_same_step(together):
    """And the run that is resumed draws the numbers that it would have drawn.

    (A sum of three gradients depends on its order, and DistributedDataParallel packs them in
    another order from the second step on; so with three the weights are equal to rounding.)
    """
    found, folder = together
    for ours in found:
        first, second, last = ours["stopped"]
        judged, resumed = ours["judged"]  # (its first batch that is evaluated)
        assert first == second == judged == signal.SIGTERM
        for state in (last, resumed):
            assert len(found) > 2 or same_weights(ours["whole"], state)
            for key, value in ours["whole"].items():
                torch.testing.assert_close(state[key], value, rtol=0, atol=1e-6)
    assert {path.name for path in (folder / "stopped").iterdir()} == {
        "last.pt",
        "best.pt",
        "history.csv",
        "history.png",
    }
    assert read_content(folder / "stopped" / "last.pt")["training"]["machine"]["processes"] == len(
        found
    )


def test_processes_count_what_one_counts(together):
    expected = counted(*maps(6), per_image=True)
    for own, matrix, images in (found["summed"] for found in together[0]):
        assert torch.equal(matrix, expected.matrix) and not torch.equal(own, matrix)
        assert torch.equal(torch.stack(images), torch.stack(expected.images))


def test_what_cannot_be_shared_is_refused(together):
    for found in together[0]:
        first, *others = found["refused"]
        assert f"batches of 1 out of 4 images for {len(together[0])} processes" in first
        assert len(others) == 2 and all("make_loader" in message for message in others)


def test_one_process_is_left_alone(monkeypatch):
    loader = make_loader(Toy(4), 2)
    assert distributed.share(loader) is loader and distributed.share_evaluation(loader) is loader
    model = tiny_model()
    assert distributed.wrapped(model, torch.device("cpu")) is model
    with distributed.process_group("mps") as device:
        assert device == "mps"
    with pytest.raises(ValueError, match=r"sync_batchnorm on cpu.*CUDA GPUs only; use norm="):
        fit(model, make_loader(Toy(4, eval_transform(16, 24)), 2), epochs=1, sync_batchnorm=True)


def torchrun(world, words):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(world),
        "-m",
        "seglib",
        *words,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def command_line(rank, world, port, folder, words):
    """The command line in one of several processes, as torchrun would start it."""
    take_place(rank, world, port)
    with open(Path(folder) / f"{rank}.txt", "w") as file, redirect_stderr(file):
        code = main(words)
    sys.exit(code)


def test_torchrun_trains_and_stops_and_resume_goes_on(tmp_path):
    """SIGTERM to torchrun ends all cleanly; --resume goes on, until one process is told to stop."""
    folder = write_folder(tmp_path / "pairs")
    out = tmp_path / "run"
    words = ["train", *flags(folder, norm="group", epochs=100_000, device="cpu"), "--out", str(out)]
    process = torchrun(2, words)
    wait_for(lambda: (out / "last.pt").exists() or process.poll() is not None, 240)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=100)
    assert said.count("images to train on") == 1, errors
    assert errors.count("SIGTERM: saved at the end of a step") == 2
    training = read_content(out / "last.pt")["training"]
    assert training["partial"]["step"] > 0 and training["machine"]["processes"] == 2

    port, rows = free_port(), len(training["rows"])  # (forks: they start ten times as fast)
    processes = [
        forkserver().Process(
            target=command_line, args=(rank, 2, port, str(tmp_path), [*words, "--resume"])
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    wait_for(
        lambda: (
            len(read_content(out / "last.pt")["training"]["rows"]) > rows
            or not all(process.is_alive() for process in processes)
        ),
        240,
    )
    processes[1].terminate()
    for process in processes:
        process.join(100)
    told = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert [process.exitcode for process in processes] == [143, 143], told
    assert all(text.count("SIGTERM: saved at the end of a step") == 1 for text in told)
    training = read_content(out / "last.pt")["training"]
    assert len(training["rows"]) > rows and training["machine"]["processes"] == 2
