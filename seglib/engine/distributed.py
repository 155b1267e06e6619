"""Training in several processes, one for each GPU: what they tell each other, and who gets what.

    torchrun --nproc_per_node 4 -m seglib train RECIPE --out DIR

The batch of the recipe is cut among the processes: the same images in the same order with the
same augmentation as in one. Gradients are weighted by the valid pixels of all processes, so that
the weights are those of one process, to rounding, where the network sees images one by one (norm
"group") and the loss is a mean over pixels. BatchNorm (but for `synchronise_batchnorm`) and
batch-wise Dice and Lovász see each process's part by itself. Scores are added up by
`ConfusionMatrix.all_reduce`. In a single process nothing here has an effect.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from seglib.data.loader import EpochSampler, SampleKey
from seglib.models.freezing import freeze, is_frozen


def world() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them; number 0 writes the files and prints."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def total(*numbers: float) -> list[float]:
    """The sums of `numbers` over all processes, the same on each."""
    return _reduced(numbers, "SUM") if world() > 1 else list(numbers)


def max_over_processes(number: int) -> int:
    """The highest `number` of all processes."""
    return int(_reduced((number,), "MAX")[0]) if world() > 1 else number


def _reduced(numbers: Any, operation: str) -> list[float]:
    tensor = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(tensor, getattr(dist.ReduceOp, operation))
    return [float(value) for value in tensor.tolist()]


def gather(value: Any) -> list[Any]:
    """Everyone's `value`, by rank."""
    values: list[Any] = [value] * world()
    if world() > 1:
        dist.all_gather_object(values, value)
    return values


def wait() -> None:
    """Go on when everyone has come here: files of the first process are written then."""
    if world() > 1:
        dist.barrier()


def broadcast_from_first(value: Any) -> Any:
    """The first process's `value`, on all of them."""
    values = [value]
    if world() > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]


def broadcast_buffers(model: nn.Module) -> None:
    """Give everyone the first process's buffers: BatchNorm's statistics are of its part only."""
    for buffer in model.buffers() if world() > 1 else ():
        dist.broadcast(buffer.detach(), src=0)


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the processes that torchrun has started; gives the name of this one's device.

    Tensors on GPUs travel through nccl, numbers and CPUs' tensors through gloo, so that a GPU does
    not wait for numbers. Without torchrun this does nothing.
    """
    if (os.environ.get("WORLD_SIZE") or "1") == "1":
        yield device
        return
    told = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    address = {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    if not address or not all(number.isdecimal() for number in told.values()):
        raise ValueError(
            f"found {told} in the environment, expected a number for each, and MASTER_ADDR and "
            "MASTER_PORT; torchrun --nproc_per_node N -m seglib … sets all of them; for a single "
            "process unset WORLD_SIZE"
        )
    local = int(told["LOCAL_RANK"])
    if device in ("auto", "cuda") and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if local >= count:
            raise ValueError(
                f"found process {local + 1} on this machine, but {count} GPU(s); use "
                f"--nproc_per_node {count}, or --device cpu"
            )
        torch.cuda.set_device(local)
        device, backend = f"cuda:{local}", "cpu:gloo,cuda:nccl"
    elif device in ("auto", "cpu"):
        device, backend = "cpu", "gloo"
    else:
        raise ValueError(f"found device {device!r}; several processes take auto, cpu or cuda")
    dist.init_process_group(backend)
    try:
        yield device
    except KeyboardInterrupt:  # all of them leave
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()  # (not after an error: it might wait for the others for ever)


def synchronise_batchnorm(model: nn.Module, device: torch.device) -> None:
    """Let BatchNorm in `model`, in place, see the images of all processes. CUDA only."""
    if device.type != "cuda":
        raise ValueError(
            f"found sync_batchnorm on {device.type}, but it is for CUDA GPUs only; use norm='group'"
        )
    if world() > 1:
        frozen = {name for name, part in model.named_modules() if is_frozen(part)}
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        for name, part in model.named_modules():  # conversion makes new modules; freeze them again
            if name in frozen and isinstance(part, nn.SyncBatchNorm):
                freeze(part)


def wrapped(model: nn.Module, device: torch.device, partly_frozen: bool = False) -> nn.Module:
    """The model for the training steps: in several processes its gradients are averaged.

    With `partly_frozen` some parameters (of a backbone, say) have no gradient for a while.
    """
    if world() == 1:
        return model
    devices = [device] if device.type == "cuda" else None
    unused = partly_frozen or any(name.startswith("aux") for name, _ in model.named_parameters())
    unused |= str(getattr(model, "name", "")).startswith("hf:")  # (some have parts to spare)
    return Parallel(model, device_ids=devices, find_unused_parameters=unused)


class Parallel(nn.parallel.DistributedDataParallel):
    """torch's, which hands on a copy of the logits: with the queries that they carry, if any."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        found: list[Any] = []
        hook = self.module.register_forward_hook(lambda *call: found.append(call[-1]))
        try:
            output = super().forward(*inputs, **options)
        finally:
            hook.remove()
        if hasattr(found[-1], "queries"):
            output.queries = found[-1].queries
        return output


def own_part(items: Any) -> Any:
    """This process's part of a sequence; the first parts are the larger ones."""
    each, more = divmod(len(items), world())
    first = rank() * each + min(rank(), more)
    return items[first : first + each + (rank() < more)]


class BatchPart(EpochSampler):
    """This process's part of each batch of a sampler."""

    def __init__(self, whole: EpochSampler, batch_size: int, drop_last: bool) -> None:
        super().__init__(whole.indices, whole.shuffle, whole.seed)
        self.whole, self.whole_batch, self.drop_last = whole, batch_size, drop_last
        full, rest = divmod(len(whole), batch_size)
        sizes = [batch_size] * full + [rest] * (rest > 0 and not drop_last)
        self.steps = len(sizes)  # of everyone; the last may have no image for us
        self.length = sum(len(own_part(range(size))) for size in sizes)
        self.batch = len(own_part(range(batch_size)))

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        super().set_epoch(epoch, start)
        self.whole.set_epoch(epoch, start // self.batch * self.whole_batch)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[SampleKey]:
        keys = iter(self.whole)
        while batch := list(islice(keys, self.whole_batch)):
            if len(batch) == self.whole_batch or not self.drop_last:
                yield from own_part(batch)


class ImagePart(EpochSampler):
    """This process's part of a sampler's first `count` samples, in one piece."""

    def __init__(self, whole: Any, count: int) -> None:
        self.whole, self.places = whole, own_part(range(count))
        self.smallest = count // world()  # part of all processes

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.whole), self.places.start, self.places.stop)


def split_batches(loader: Any) -> Any:
    """A loader of this process's part of each of its batches, for training."""
    if world() == 1:
        return loader
    check_order(loader, EpochSampler)
    if loader.batch_size < world() or len(loader.sampler) < world():
        raise ValueError(
            f"found batches of {loader.batch_size} out of {len(loader.sampler)} images for "
            f"{world()} processes, expected one for each; use larger batches or fewer processes"
        )
    sampler = BatchPart(loader.sampler, loader.batch_size, loader.drop_last)
    return _like(loader, sampler, sampler.batch)


def split_images(loader: Any) -> Any:
    """A loader of this process's part of all images, each of which goes to one process only."""
    if world() == 1 or loader is None:
        return loader
    check_order(loader, EpochSampler, torch.utils.data.SequentialSampler)
    count = len(loader.sampler)
    count -= count % loader.batch_size if loader.drop_last else 0
    return _like(loader, ImagePart(loader.sampler, count), loader.batch_size)


def common_batches(loader: Any) -> float:
    """How many batches of an evaluation all processes have: only in these can they go in step."""
    return math.inf if world() == 1 else math.ceil(loader.sampler.smallest / loader.batch_size)


def check_order(loader: Any, *known: type) -> None:
    """Raise ValueError unless all processes know the order of the loader's images."""
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, known):
        raise ValueError(
            f"found a loader with a {type(sampler).__name__} for several processes; make it with "
            "seglib.data.make_loader, whose order all of them know"
        )


def _like(loader: Any, sampler: EpochSampler, batch_size: int) -> Any:
    kept = ("num_workers", "collate_fn", "pin_memory", "persistent_workers", "worker_init_fn")
    part = torch.utils.data.DataLoader(
        loader.dataset,
        batch_size,
        sampler=sampler,
        generator=torch.Generator().manual_seed(0),
        **{name: getattr(loader, name) for name in kept},
    )
    around = getattr(loader, "around", None)  # (of one whose images lie on the device)
    return part if around is None else around(part)
