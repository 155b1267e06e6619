"""Several processes, really started, give what one gives: weights, scores, files, a clean end."""

import os
import signal
import socket
import subprocess
import sys
from itertools import chain, zip_longest
from pathlib import Path
from unittest import mock

import pytest
import torch
from accidents import forkserver, same_weights, terminated, training_of
from filelock import FileLock
from test_accumulation import WEIGHT, Double, weights_of
from toys import TINY, Toy, Uneven, flags, loader, tiny_model, wait_for, write_folder

from seglib.engine import distributed
from seglib.engine import state as state_module
from seglib.engine.signals import Interrupted
from seglib.losses import CrossEntropyLoss, DiceLoss
from seglib.models import create_model, freeze
from seglib.training import fit, run_evaluation

WORLDS = (2, pytest.param(3, marks=pytest.mark.soak))
ARMS = {  # loss, batch size, images, shuffled, further settings
    "plain": (CrossEntropyLoss(), 6, 12, True, {}),
    "weighted": (CrossEntropyLoss(WEIGHT), 6, 12, True, {}),
    "unequal parts": (CrossEntropyLoss(), 5, 10, True, {"clip": 0.1}),
    "accumulated": (CrossEntropyLoss(), 3, 12, True, {"accumulate": 2}),
    "short end": (CrossEntropyLoss(), 3, 7, False, {}),
    "averaged": (CrossEntropyLoss(), 6, 12, True, {"ema": 0.5}),
    "dice": (DiceLoss(), 6, 12, True, {}),
}
ORDERS = (7, 5, True), (7, 5, False), (12, 4, True, 1)


def descent(groups, device, lr, weight_decay):
    """Plain gradient descent, which shows what AdamW hides: a gradient of another size."""
    return torch.optim.SGD(groups, lr=0.5)


descending = mock.patch.object(state_module, "make_optimizer", descent)


@descending
def trained(arm):
    """Weights and history of an arm: small boxes, void in very different measure, two epochs."""
    loss, batch_size, length, shuffle, options = ARMS[arm]
    model, val = Double(), loader(5, 2, Uneven)
    train = loader(length, batch_size, Uneven, shuffle=shuffle)
    history = fit(model, train, val, epochs=2, schedule="poly", loss=loss, **options)
    rows = [[row[key] for key in ("train_loss", "val_loss", "val_miou")] for row in history.rows]
    return weights_of(model), rows


@descending
def resting():
    """A run whose backbone sleeps for an epoch: parameters without a gradient."""
    torch.manual_seed(0)
    model = create_model("lraspp", 3, backbone="mobilenet_v3_small", norm="group")
    train = loader(6, 6, Uneven, 32, 48, shuffle=True)
    fit(model, train, epochs=2, schedule="poly", freeze_epochs=1)
    return weights_of(model)


def masked():
    """A model of masks, whose backbone sleeps for an epoch, by its own loss."""
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = create_model("hf:mask2former", 3, config=TINY)
    train, val = loader(4, 4, Uneven, 32, 48, shuffle=True), loader(2, 1, Uneven, 32, 48)
    history = fit(model, train, val, epochs=2, freeze_epochs=1, ema=0.5)
    return weights_of(model), history.rows[-1]["val_loss"]


@descending
def noisy(out, at=None, resume=False):
    """A run with dropout and BatchNorm, hit by a signal in one process only."""
    model, size = tiny_model(), (Toy, 16, 24)
    train, val = loader(6, 3, *size, shuffle=True, seed=3), loader(3, 2, *size)
    loss = terminated(at if distributed.rank() == 1 else None)
    try:
        fit(model, train, val, epochs=3, lr=0.01, seed=3, loss=loss, out=out, resume=resume)
    except Interrupted as error:
        return error.number
    return model.state_dict()


def evaluated(images):
    """Scores and loss of a network over so many images, image by image."""
    batches = distributed.split_images(loader(images, 2, Uneven))
    scores, loss = run_evaluation(Double(), batches, 255, CrossEntropyLoss(), per_image=True)
    return torch.from_numpy(scores.matrix), torch.from_numpy(scores.images), loss


def order_of(images, batch_size, shuffle, start=0):
    """Which samples come in which batch."""
    ours = distributed.split_batches(loader(images, batch_size, shuffle=shuffle, seed=4))
    ours.sampler.set_epoch(2, start * ours.batch_size)
    return [[int(key) for key in batch] for batch in ours.batch_sampler]


def refused():
    """What is said of loaders whose batches cannot be shared."""
    messages = []
    for batches in (loader(4, 1), torch.utils.data.DataLoader(Toy(4), 2, shuffle=True)):
        for split in (distributed.split_batches, distributed.split_images):
            try:
                split(batches)
            except ValueError as error:
                messages.append(str(error))
    return messages


def all_of_it(folder):
    """Everything that the tests below look at, in one start."""
    stops = noisy(folder / "stopped", 1), noisy(folder / "stopped", 2, True)
    return {
        **{arm: trained(arm) for arm in ARMS},
        **{f"evaluated {n}": evaluated(n) for n in (1, 2, 4, 5)},
        "orders": [order_of(*order) for order in ORDERS],
        "resting": resting(),
        "masked": masked(),
        "stops": [*stops, noisy(folder / "judged", 3)],  # (its first batch that is evaluated)
        "whole": noisy(folder / "whole"),
        "resumed": [noisy(folder / name, None, True) for name in ("stopped", "judged")],
        "refused": refused(),
    }


def member(rank, world, port, folder):
    """One process, told what torchrun tells each of its own."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {key: str(value) for key, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "SEGLIB_PROGRESS": "0"}
    torch.set_num_threads(1)
    with distributed.process_group("auto" if not torch.cuda.is_available() else "cpu"):
        torch.save(all_of_it(Path(folder)), Path(folder) / f"{rank}.pt")


def free_port():
    """Below those that the system gives to connections, so that none takes it meanwhile."""
    for port in range(20_000 + os.getpid() % 1000 * 10, 32_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise OSError("no port is free from 20000 to 32000")


@pytest.fixture(scope="module", params=WORLDS, ids="{} processes".format)
def together(request, tmp_path_factory):
    """What each of several processes found, and their folder; one xdist worker starts all."""
    world, shared = request.param, tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder = shared / f"world{world}"
    with FileLock(shared / f"world{world}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()  # (an attempt that failed is not made again)
            start, place = forkserver().Process, (world, free_port(), str(folder))
            processes = [start(target=member, args=(rank, *place)) for rank in range(world)]
            for process in processes:
                process.start()
            for process in processes:
                process.join(150)
                process.kill()
                process.join()
            assert [process.exitcode for process in processes] == [0] * world
            (folder / "done").touch()
    files = [folder / f"{rank}.pt" for rank in range(world)]
    return [torch.load(file, weights_only=False) for file in files], folder


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
class TestTogether:
    @pytest.mark.parametrize("arm", ARMS)
    def test_the_weights_are_those_of_one_process(self, together, arm):
        """But of Dice, as documented: batch-wise Dice is not that of a batch's parts."""
        weights, rows = trained(arm)
        for theirs, their_rows in (found[arm] for found in together[0]):
            assert torch.equal(theirs, together[0][0][arm][0])
            if arm == "dice":
                assert float((weights - theirs).abs().max()) > 1e-4
                continue
            assert float((weights - theirs).abs().max()) < 1e-6
            for ours, others in zip(rows, their_rows, strict=True):
                assert ours == pytest.approx(others, rel=1e-6)

    def test_a_backbone_that_sleeps_for_an_epoch(self, together):
        alone = resting()
        for found in together[0]:
            torch.testing.assert_close(found["resting"], alone, rtol=0, atol=1e-4)

    def test_a_model_of_masks_learns_with_its_queries(self, together):
        (weights, loss), *others = (found["masked"] for found in together[0])
        assert weights.isfinite().all() and 0 < loss < 100
        assert all(torch.equal(weights, theirs) and loss == other for theirs, other in others)

    @pytest.mark.parametrize("images", [1, 2, 4, 5])
    def test_each_image_is_evaluated_once(self, together, images):
        matrix, per_image, loss = evaluated(images)
        for found in together[0]:
            theirs = found[f"evaluated {images}"]
            assert torch.equal(theirs[0], matrix) and torch.equal(theirs[1], per_image)
            assert theirs[2] == pytest.approx(loss, rel=1e-6)

    @pytest.mark.parametrize("n", range(len(ORDERS)))
    def test_the_batches_are_those_of_one_process(self, together, n):
        parts = zip_longest(*(found["orders"][n] for found in together[0]), fillvalue=[])
        assert [[*chain(*batch)] for batch in parts] == order_of(*ORDERS[n])

    def test_a_signal_to_one_process_stops_all_at_the_same_step(self, together):
        """And resumed draws what it would have; three gradients' sum depends on DDP's packing."""
        found, folder = together
        for ours in found:
            assert ours["stops"] == [signal.SIGTERM] * 3
            for state in ours["resumed"]:
                assert len(found) > 2 or same_weights(ours["whole"], state)
                for key, value in ours["whole"].items():
                    torch.testing.assert_close(state[key], value, rtol=0, atol=1e-6)
        left = {path.name for path in (folder / "stopped").iterdir()}
        assert left == {"last.pt", "best.pt", "history.csv", "history.png"}
        assert training_of(folder / "stopped")["machine"]["processes"] == len(found)

    def test_what_cannot_be_shared_is_refused(self, together):
        for found in together[0]:
            first, *others = found["refused"]
            assert f"batches of 1 out of 4 images for {len(together[0])} processes" in first
            assert len(others) == 2 and all("make_loader" in message for message in others)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_torchrun_trains_and_stops_cleanly(tmp_path):
    folder, out = write_folder(tmp_path / "pairs"), tmp_path / "run"
    words = ["train", *flags(folder, norm="group", epochs=100_000, device="cpu"), "--out", str(out)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc_per_node", "2", "-m", "seglib", *words]
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True)
    wait_for(lambda: (out / "last.pt").exists() or process.poll() is not None, 240)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=100)
    assert said.count("images to train on") == 1, errors
    assert errors.count("SIGTERM: saved at the end of a step") == 2
    training = training_of(out)
    assert training["partial"]["step"] > 0 and training["machine"]["processes"] == 2


def test_one_process_is_left_alone():
    batches, model = loader(4, 2), tiny_model()
    assert distributed.split_batches(batches) is distributed.split_images(batches) is batches
    assert distributed.wrapped(model, torch.device("cpu")) is model
    with distributed.process_group("mps") as device:
        assert device == "mps"


def test_batchnorm_is_synchronised_on_gpus_and_what_is_frozen_stays_so(monkeypatch):
    model = create_model("lraspp", 3, backbone="mobilenet_v3_small")
    freeze(model.backbone)
    with pytest.raises(ValueError, match=r"sync_batchnorm on cpu.*CUDA GPUs only; use norm="):
        distributed.synchronise_batchnorm(model, torch.device("cpu"))
    gpu, kind = torch.device("cuda"), torch.nn.SyncBatchNorm
    distributed.synchronise_batchnorm(model, gpu)  # a single one: nothing to do
    assert not any(isinstance(part, kind) for part in model.modules())
    monkeypatch.setattr(distributed, "world", lambda: 2)
    distributed.synchronise_batchnorm(model, gpu)
    model.train()
    norms = {name: part for name, part in model.named_modules() if isinstance(part, kind)}
    asleep = {name for name, part in norms.items() if not part.training}
    assert asleep == {name for name in norms if name.startswith("backbone")} != set(norms)
    assert not any(p.requires_grad for p in model.backbone.parameters())
