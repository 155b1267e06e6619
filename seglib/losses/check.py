"""What every loss asks of its logits, labels and class weights before it computes."""

import torch
from torch import Tensor


def checked(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The logits, half precision as float32, in which sums over an image's pixels fit.

    Raises ValueError unless they are floats (N, C, H, W), `target` is int64 (N, H, W), and there
    is one weight a class.
    """
    if logits.ndim != 4 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"found logits {tuple(logits.shape)} and target {tuple(target.shape)}, expected "
            "(N, C, H, W) and (N, H, W) of the same N, H and W"
        )
    if target.dtype != torch.int64:
        raise ValueError(f"found a target of {target.dtype}, expected int64; use target.long()")
    if weight is not None and len(weight) != logits.shape[1]:
        raise ValueError(
            f"found {len(weight)} class weights for {logits.shape[1]} classes; "
            "pass one weight a class"
        )
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


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


def weight_repr(weight: Tensor | None) -> str:
    return f"weight={None if weight is None else [round(w, 4) for w in weight.tolist()]}"
