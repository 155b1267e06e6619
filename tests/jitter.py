"""The arithmetic of another processor: every inexact result is a little off, by a rule.

Processors add in different orders, and round half precision in different places; a training
multiplies the difference. `install` makes torch do the same on purpose: each element of an inexact
operation's result is multiplied by 1 + strength · u, with u in [−1, 1] taken from the element's own
bits and a seed. So, as on a real processor, the same input gives the same result (a resumed
training, or a second process, agrees with the first), and another seed is another processor.
What is exact stays exact: an element whose last bits are zero (integers, halves, …) is left
alone, and so is float64, which tests use as the reference.

`everywhere.py` says which worlds use it. In a kernel a start-up file calls `from_environment`,
under pytest conftest.py does. Nothing else knows of it.
"""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

VARIABLE = "SEGLIB_WORLD"  # what to install, as JSON: {"seed": 1, "gradient": 1e-3, …}

aten = torch.ops.aten
# (in inference mode PyTorch hands over the operation that was called, conv2d, and else its parts)
CONVOLUTIONS = {
    aten.convolution,
    aten.convolution_backward,
    aten.conv1d,
    aten.conv2d,
    aten.conv3d,
    aten.conv_transpose1d,
    aten.conv_transpose2d,
    aten.conv_transpose3d,
}
# Sums and transcendental functions; what IEEE 754 fixes to the last bit (+ − × ÷ √) is not here
ROUNDED = {
    aten.matmul,
    aten.linear,
    aten.einsum,
    aten.softmax,
    aten.log_softmax,
    aten.batch_norm,
    aten.group_norm,
    aten.layer_norm,
    aten.adaptive_avg_pool2d,
    aten.cross_entropy_loss,
    aten.mm,
    aten.addmm,
    aten.bmm,
    aten.baddbmm,
    aten.mv,
    aten.dot,
    aten.sum,
    aten.mean,
    aten.var,
    aten.std,
    aten.var_mean,
    aten.cumsum,
    aten.linalg_vector_norm,
    aten.exp,
    aten.log,
    aten.log1p,
    aten.expm1,
    aten.pow,
    aten.sigmoid,
    aten.tanh,
    aten.logsumexp,
    aten._softmax,
    aten._log_softmax,
    aten._softmax_backward_data,
    aten._log_softmax_backward_data,
    aten.nll_loss_forward,
    aten.nll_loss2d_forward,
    aten.binary_cross_entropy_with_logits,
    aten.native_batch_norm,
    aten.native_batch_norm_backward,
    aten.native_group_norm,
    aten.native_group_norm_backward,
    aten.native_layer_norm,
    aten.native_layer_norm_backward,
    aten._native_batch_norm_legit,
    aten.upsample_bilinear2d,
    aten.upsample_bilinear2d_backward,
    aten._adaptive_avg_pool2d,
    aten.avg_pool2d,
    aten.avg_pool2d_backward,
}


EXACT = {torch.float32: 0xFFF, torch.float16: 0x7FFFF, torch.bfloat16: 0xFFFFF}  # bits that are 0


def noisy(tensor: torch.Tensor, strength: float, seed: int) -> torch.Tensor:
    """The tensor with relative noise; not changed in place. At least one step of its format."""
    if tensor.dtype not in EXACT or tensor.is_meta:
        return tensor
    value = tensor.detach().float()
    bits = value.view(torch.int32)
    mixed = (bits ^ (seed * 7919)).mul_(739_982_445)  # (wraps around, as is meant)
    mixed.bitwise_xor_((mixed >> 16).bitwise_and_(0xFFFF)).mul_(695_872_825)
    if tensor.dtype != torch.float32:
        strength = max(strength, torch.finfo(tensor.dtype).eps)
    noise = mixed.float().mul_(strength / 2**31)
    noise.mul_((bits & EXACT[tensor.dtype]) != 0)
    return noise.add_(1).mul_(value).to(tensor.dtype)


class Jitter(TorchDispatchMode):
    """Noise below autograd: what is kept for backward, and its size, stay as they are."""

    def __init__(self, seed: int, convolution: float, rounding: float) -> None:
        super().__init__()
        self.seed = seed
        self.strength = dict.fromkeys(CONVOLUTIONS, convolution) | dict.fromkeys(ROUNDED, rounding)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        strength = self.strength.get(func.overloadpacket, 0)
        if not strength:
            return found
        # (other operations add up in float32 and round to half once, on every processor)
        formats = EXACT if func.overloadpacket in CONVOLUTIONS else (torch.float32,)

        def shaken(part: Any) -> Any:
            inexact = isinstance(part, torch.Tensor) and part.dtype in formats
            return noisy(part, strength, self.seed) if inexact else part

        return shaken(found) if isinstance(found, torch.Tensor) else tuple(map(shaken, found))


def install(
    seed: int = 0,
    gradient: float = 0,
    convolution: float = 0,
    rounding: float = 0,
    mkldnn: bool = True,
) -> None:
    """Make this process another processor, for as long as it lives."""
    torch.backends.mkldnn.enabled = mkldnn  # type: ignore[assignment]
    if convolution or rounding:
        Jitter(seed, convolution, rounding).__enter__()

    def shake(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.copy_(noisy(parameter.grad, gradient, seed))

    if gradient:
        register_optimizer_step_pre_hook(shake)


def from_environment() -> None:
    install(**json.loads(os.environ.get(VARIABLE, "{}")))
