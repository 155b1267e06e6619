"""Running out of memory, with the real allocator's error, and what is free."""

import re

import pytest
import torch
from torch import nn
from toys import flags, loader, tiny_model, tiny_run, write_folder

from seglib.cli.main import main
from seglib.engine import memory
from seglib.models import UNet
from seglib.training import evaluate
from seglib.util import machine

WHAT = r"batch of 2 images of 16×24; halve the batch .*: batch_size=1, accumulate=2; .*amp='bf16'"


class Hungry(nn.Module):
    """Wants 4 PiB in the forward or the backward pass, or raises an error of one's choice."""

    def __init__(self, backward=False, error=None):
        super().__init__()
        self.body, self.backward, self.error = tiny_model(), backward, error

    def forward(self, images):
        if self.error is not None:
            raise self.error
        logits = self.body(images)
        if self.backward:
            logits.register_hook(lambda gradient: torch.empty(2**50))
        else:
            torch.empty(2**50)
        return logits


def test_the_cpus_allocator_and_a_gpus_error_are_understood_and_others_pass():
    for backward in (False, True):
        with pytest.raises(MemoryError, match=WHAT):
            tiny_run(None, model=Hungry(backward))
    with pytest.raises(MemoryError, match="out of memory with a batch of 1 images"):
        evaluate(Hungry(), loader(1, 1))
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")
    with pytest.raises(MemoryError, match=r"accumulate=6.*\(CUDA out of memory. Tried .* GiB.\)"):
        tiny_run(None, model=Hungry(error=error), accumulate=3, amp="bf16")
    with pytest.raises(RuntimeError, match="quite another"):
        tiny_run(None, model=Hungry(error=RuntimeError("quite another")))


WORDS = ["MPS backend out of memory (…)", "CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED"]


@pytest.mark.parametrize("text", WORDS)
def test_other_devices_words_are_known(text):
    with pytest.raises(MemoryError, match=r"batch of 2 images of 64×64; .*\(.*memory|ALLOC"):
        memory.explain_out_of_memory(RuntimeError(text), torch.zeros(2, 3, 64, 64))
    memory.explain_out_of_memory(RuntimeError(text), None)  # (no batch yet: not ours to explain)


def test_only_what_helps_is_proposed():
    for asked, told, not_told in (
        (((1, 3, 32, 32), "fp16", 1), "32×32; use a smaller model", "batch_size"),
        (((1, 3, 360, 480), None, 1), "use smaller images: 256×352", "batch_size"),
        # for the whole batch of 32 of all processes, of which 8 were in this one
        (((8, 3, 64, 64), "bf16", 1, 4), "batch_size=16, accumulate=2", "amp"),
        (((8, 3, 64, 64), "bf16", None), "evaluate with batch_size=4", "accumulate"),
    ):
        said = memory.out_of_memory(*asked)
        assert told in said and not_told not in said


def test_the_command_line_says_it_in_one_line(tmp_path, capsys, monkeypatch):
    folder = write_folder(tmp_path / "pairs")
    monkeypatch.setattr(UNet, "forward", lambda self, images: torch.empty(2**50))
    assert main(["train", *flags(folder), "--out", str(tmp_path / "r")]) == 1
    said = capsys.readouterr().err
    assert re.match(r"seglib train: out of memory with a batch of 2 .*\n$", said)


def test_free_memory_is_known_here_and_bounded_by_the_container(monkeypatch):
    free = machine.free_memory()
    assert free is None or 10**7 < free < 10**14
    limits = {"memory.max": 10, "memory.current": 4}
    monkeypatch.setattr(machine, "_number", lambda path: limits[path.name])
    assert machine.free_memory() == 6
