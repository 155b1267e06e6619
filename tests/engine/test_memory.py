"""Running out of memory, with the real allocator's error, and what is free."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from toys import Toy, flags, tiny_model, tiny_run, write_folder

from seglib.cli.main import main
from seglib.data.loader import make_loader
from seglib.engine import memory
from seglib.models import UNet
from seglib.util import machine
from seglib.training import evaluate
from seglib.transforms import eval_transform

WHAT = r"batch of 2 images of 16×24; halve the batch .*: batch_size=1, accumulate=2; .*amp='bf16'"


class Hungry(nn.Module):
    """Wants 4 PiB in the forward or the backward pass."""

    def __init__(self, backward: bool) -> None:
        super().__init__()
        self.body, self.backward = tiny_model(), backward

    def forward(self, images):
        logits = self.body(images)
        if self.backward:
            logits.register_hook(lambda gradient: torch.empty(2**50))
        else:
            torch.empty(2**50)
        return logits


@pytest.mark.parametrize("backward", [False, True])
def test_the_cpus_allocator_is_understood(backward):
    with pytest.raises(MemoryError, match=WHAT):
        tiny_run(None, model=Hungry(backward))


def test_an_evaluation_says_it_too():
    with pytest.raises(MemoryError, match="out of memory with a batch of 1 images"):
        evaluate(Hungry(False), make_loader(Toy(1, eval_transform(16, 24)), 1))


def test_a_gpus_error_is_understood_and_others_pass():
    class Fails(nn.Module):
        def __init__(self, error) -> None:
            super().__init__()
            self.body, self.error = tiny_model(), error

        def forward(self, images):
            raise self.error

    gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")
    with pytest.raises(MemoryError, match=r"accumulate=6.*\(CUDA out of memory. Tried .* GiB.\)"):
        tiny_run(None, model=Fails(gpu), accumulate=3, amp="bf16")
    with pytest.raises(RuntimeError, match="quite another"):
        tiny_run(None, model=Fails(RuntimeError("quite another")))


def test_what_does_not_help_is_not_proposed():
    least = memory.out_of_memory((1, 3, 32, 32), "fp16", 1)
    assert least == "out of memory with a batch of 1 images of 32×32; use a smaller model"
    assert "256×352" in memory.out_of_memory((1, 3, 360, 480), None, 1)


def test_the_proposal_is_for_the_whole_batch_of_all_processes():
    said = memory.out_of_memory((8, 3, 64, 64), "bf16", 1, processes=4)
    assert "batch_size=16, accumulate=2" in said  # of 32, of which 8 were in this one
    said = memory.out_of_memory((8, 3, 64, 64), "bf16", None)
    assert "evaluate with batch_size=4" in said and "accumulate" not in said


@pytest.mark.parametrize(
    "text",
    [
        "MPS backend out of memory (…)",
        "CUDA error: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_other_devices_words_are_known(text):
    assert memory.is_out_of_memory(RuntimeError(text))


def test_the_command_line_says_it_in_one_line(tmp_path, capsys, monkeypatch):
    folder = write_folder(tmp_path / "pairs")
    monkeypatch.setattr(UNet, "forward", lambda self, images: torch.empty(2**50))
    assert main(["train", *flags(folder), "--out", str(tmp_path / "r")]) == 1
    said = capsys.readouterr().err
    assert re.match(r"seglib train: out of memory with a batch of 2 .*\n$", said)


def test_free_memory_is_known_here_and_bounded_by_the_container(monkeypatch):
    free = machine.free_memory()
    assert free is None or 10**7 < free < 10**14
    monkeypatch.setattr(
        machine, "_number", lambda path: {"memory.max": 10, "memory.current": 4}[path.name]
    )
    assert machine.free_memory() == 6
