"""Training in several processes, one for each GPU: what they tell each other.

Everything here is of no effect in a single process, so the training loop reads the same.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def world() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them; number 0 writes the files and prints."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def total(*numbers: float) -> list[float]:
    """The sums of `numbers` over all processes, the same on each."""
    return _reduced(numbers, "SUM")


def highest(number: int) -> int:
    """The highest `number` of all processes."""
    return int(_reduced((number,), "MAX")[0])


def gather(value: Any) -> list[Any]:
    """Everyone's `value`, by rank."""
    values: list[Any] = [value]
    if world() > 1:
        values = [None] * world()
        dist.all_gather_object(values, value)
    return values


def _reduced(numbers: Any, operation: str) -> list[float]:
    if world() == 1:
        return list(numbers)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, getattr(dist.ReduceOp, operation))
    return [float(value) for value in tensor.tolist()]
