"""What every loss asks of its logits and labels before it computes."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits as float32, in which sums over an image's pixels fit."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def check_logits_and_target(logits: Tensor, target: Tensor) -> None:
    """Raise ValueError unless logits are (N, C, H, W) floats and target (N, H, W) int64."""
    expected = (logits.shape[0], *logits.shape[2:])
    if logits.ndim != 4 or target.shape != expected:
        raise ValueError(
            f"found logits {tuple(logits.shape)} and target {tuple(target.shape)}, expected "
            "(N, C, H, W) and (N, H, W) of the same N, H and W"
        )
    if target.dtype != torch.int64:
        raise ValueError(f"found a target of {target.dtype}, expected int64; use target.long()")


def check_multilabel_target(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """The target of one sigmoid a channel, int64 (N, C, H, W) of 0, 1 and `ignore_index`.

    With one channel a target (N, H, W) will do. Raises ValueError for anything else.
    """
    if logits.ndim == 4 and logits.shape[1] == 1 and target.ndim == 3:
        target = target[:, None]
    if logits.ndim != 4 or target.shape != logits.shape:
        raise ValueError(
            f"found logits {tuple(logits.shape)} and target {tuple(target.shape)}, expected two "
            "times (N, C, H, W), or a target (N, H, W) for one channel"
        )
    if target.dtype != torch.int64:
        raise ValueError(f"found a target of {target.dtype}, expected int64; use target.long()")
    odd = (target != ignore_index) & (target != 0) & (target != 1)
    if odd.any():
        raise ValueError(
            f"the target has label {int(target[odd][0])}, expected 0, 1 or {ignore_index} in each "
            "channel; one_hot turns class numbers into channels"
        )
    return target


def check_labels(target: Tensor, num_classes: int, ignore_index: int) -> None:
    """Raise ValueError if a label is neither a class nor void.

    A GPU would end the process with an assertion, or not notice: call it before `.to(device)`.
    """
    bad = (target != ignore_index) & ((target < 0) | (target >= num_classes))
    if bad.any():
        raise ValueError(
            f"the target has label {int(target[bad][0])} ({int(bad.sum())} pixels outside), but "
            f"the logits have {num_classes} classes (0–{num_classes - 1}) and ignore_index is "
            f"{ignore_index}; remap the labels or build the model for more classes"
        )


def as_weight(weight: Tensor | None) -> Tensor | None:
    """Class weights as float32 (C,), or None. ValueError unless they are numbers ≥ 0."""
    if weight is None:
        return None
    weight = torch.as_tensor(weight, dtype=torch.float32)
    if weight.ndim != 1 or not bool((weight >= 0).all()):
        raise ValueError(f"found weight {weight.tolist()}, expected one number ≥ 0 a class")
    return weight


def check_weight(weight: Tensor, num_classes: int) -> None:
    """Raise ValueError unless there is one weight a class."""
    if len(weight) != num_classes:
        raise ValueError(
            f"found {len(weight)} class weights for {num_classes} classes; pass one weight a class"
        )


def weight_repr(weight: Tensor | None) -> str:
    return f"weight={None if weight is None else [round(w, 4) for w in weight.tolist()]}"
