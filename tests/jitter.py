"""The arithmetic of another processor: every inexact result is a little off, by a rule.

Each element of an inexact operation's result is multiplied by 1 + strength · u, with u in [−1, 1]
taken from the element's own bits and a seed. So, as on a real processor, the same input gives the
same result, and another seed is another processor. What is exact stays exact: an element whose last
bits are zero (integers, halves, …) is left alone, and so is float64, which tests use as the
reference. In a kernel a start-up file calls `from_environment`, under pytest conftest.py does.
"""

import json
import os
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode


def operations(names: str) -> set[Any]:
    return {getattr(torch.ops.aten, name) for name in names.split()}


# (in inference mode PyTorch hands over the operation that was called, conv2d, and else its parts)
CONVOLUTIONS = operations(
    "convolution convolution_backward conv1d conv2d conv3d "
    "conv_transpose1d conv_transpose2d conv_transpose3d"
)
# Sums and transcendental functions; what IEEE 754 fixes to the last bit (+ − × ÷ √) is not here
ROUNDED = operations(
    "matmul linear einsum softmax log_softmax batch_norm group_norm layer_norm adaptive_avg_pool2d "
    "cross_entropy_loss mm addmm bmm baddbmm mv dot sum mean var std var_mean cumsum "
    "linalg_vector_norm exp log log1p expm1 pow sigmoid tanh logsumexp _softmax _log_softmax "
    "_softmax_backward_data _log_softmax_backward_data nll_loss_forward nll_loss2d_forward "
    "binary_cross_entropy_with_logits native_batch_norm native_batch_norm_backward "
    "native_group_norm native_group_norm_backward native_layer_norm native_layer_norm_backward "
    "_native_batch_norm_legit upsample_bilinear2d upsample_bilinear2d_backward "
    "_adaptive_avg_pool2d avg_pool2d avg_pool2d_backward"
)
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


def install(seed=0, gradient=0.0, convolution=0.0, rounding=0.0, mkldnn=True) -> None:
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
    """Install what SEGLIB_WORLD says, as JSON: {"seed": 1, "gradient": 1e-3, …}."""
    install(**json.loads(os.environ.get("SEGLIB_WORLD", "{}")))
