"""What a file can hold that is read without running code: plain values and tensors."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

AS_IT_IS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
TURNED: Any = {  # kinds of values, and what makes them plain
    (np.floating, float): float,
    (np.complexfloating, complex): complex,
    int: int,
    str: str.__str__,
    os.PathLike: os.fspath,
}


def plain(value: Any, name: str, tensors: bool = True) -> Any:
    """`value` as a checkpoint can hold it: NumPy's numbers and arrays, paths and sets become plain.

    With `tensors` false they become lists, so that settings can be compared. Raises ValueError,
    with the `name` of the place, for what has no such form: a function, say.

    >>> plain({"lr": np.float64(0.5), "of": {"b", "a"}, "mean": np.ones(2)}, "config")
    {'lr': 0.5, 'of': ('a', 'b'), 'mean': [1.0, 1.0]}
    """
    if type(value) in AS_IT_IS:
        return value
    if isinstance(value, Tensor):
        kept = value if type(value) in (Tensor, nn.Parameter) else value.as_subclass(Tensor)
        return kept if tensors else kept.tolist()
    for kind, make in TURNED.items():
        if isinstance(value, kind):
            return make(value)
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), name, tensors)
    if isinstance(value, Mapping):
        items = value.items()
        return {plain(k, name): plain(v, f"{name}[{k!r}]", tensors) for k, v in items}
    if isinstance(value, list | range):
        return [plain(item, name, tensors) for item in value]
    if isinstance(value, tuple | set | frozenset):
        each = [plain(item, name, tensors) for item in value]
        return tuple(each if isinstance(value, tuple) else sorted(each, key=repr))
    raise ValueError(
        f"{name} is {reprlib.repr(value)}, of a kind that a checkpoint cannot hold "
        f"({type(value).__name__}); pass numbers, text, paths, or lists, dicts and arrays of them"
    )
