"""How a forward pass is computed: on which device, in which precision, in which memory layout.

Half precision keeps the weights in float32 and computes most of the forward pass in 16 bits
(Micikevicius et al., 2018, arXiv:1710.03740). bfloat16 has the range of float32 and needs nothing
else; float16 has not: its small gradients vanish unless the loss is scaled up before `backward`,
and a step whose gradients overflow is skipped.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from seglib.engine.batches import explain_forward, logits_of
from seglib.util.suggest import did_you_mean

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_SCALE = 2.0**-20  # (it begins at 2¹⁶; gradients beyond 2³⁶ are no gradients)


@dataclass(frozen=True)
class Compute:
    """Device, precision (`amp`: None, "bf16" or "fp16") and layout of forward passes."""

    device: torch.device
    amp: str | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.amp is not None and self.amp not in DTYPES:
            raise ValueError(
                f"there is no amp {self.amp!r}{did_you_mean(self.amp, DTYPES)}; "
                "None computes in float32"
            )
        if (
            self.amp == "bf16"
            and self.device.type == "cuda"
            and not torch.cuda.is_bf16_supported(including_emulation=False)
        ):
            raise ValueError(
                f"{torch.cuda.get_device_name(self.device)} has no bfloat16; use amp='fp16'"
            )

    @classmethod
    def of(cls, model: nn.Module, amp: str | None = None, channels_last: bool = False) -> Compute:
        """On the device that the model is on."""
        tensors = chain(model.parameters(), model.buffers(), [torch.empty(0)])
        return cls(next(tensors).device, amp, channels_last)

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """`model(images)`, (N, C, H, W): the losses and metrics get float32, whatever `amp` is."""
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
        later = self.device.type == "cuda"
        images = images.to(self.device, dtype, non_blocking=later, memory_format=self.memory_format)
        try:
            with self.autocast():
                logits = logits_of(model(images), images)
        except (RuntimeError, ValueError) as error:
            explain_forward(error, images)
            raise
        return logits if self.amp is None else logits.float()

    def target(self, target: Tensor) -> Tensor:
        """The labels (N, H, W) on the device; from pinned memory they travel meanwhile."""
        return target.to(self.device, non_blocking=self.device.type == "cuda")

    def autocast(self) -> AbstractContextManager[Any]:
        if self.amp is None:
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.amp])

    @property
    def memory_format(self) -> torch.memory_format:
        layout = self.channels_last and self.device.type != "mps"  # (not measured there)
        return torch.channels_last if layout else torch.preserve_format

    def start_clock(self) -> float:
        """The time in seconds; the peak of the device's memory is measured from here on."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        return time.perf_counter()

    def scaler(self) -> torch.amp.GradScaler | None:
        """Scales the loss up for float16; the other precisions need none."""
        return torch.amp.GradScaler(self.device.type) if self.amp == "fp16" else None


def check_model(model: Any) -> None:
    """Raise ValueError unless `model` is a module: a function or a class has no device or mode."""
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"found {str(model)[:60]} as the model, expected an nn.Module; pass the network itself"
        )


def make_optimizer(
    groups: Any, device: torch.device, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW, its whole step in one kernel where that is faster: on CUDA."""
    fused = True if device.type == "cuda" else None
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=fused)


def optimizer_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, clip: float | None, scaler: Any = None
) -> bool:
    """Clip the gradients and step; False if `scaler` skipped the step because they overflowed."""
    if scaler is not None and clip is not None:
        scaler.unscale_(optimizer)  # the bound is meant for the true gradients
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    if scaler is None:
        optimizer.step()
        return True
    before = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    after = scaler.get_scale()
    if after < SMALLEST_SCALE:
        raise FloatingPointError(
            "the gradients overflow in float16 at any scale of the loss; compute in bfloat16 "
            "(amp='bf16') or float32, or lower lr; the checkpoints of before are whole"
        )
    return bool(after >= before)  # it is lowered after an overflow only
