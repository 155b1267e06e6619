"""What every loss should hold, as questions to any callable loss(logits, target).

Each returns "" where the property holds, else what happened, in a few words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
PRECISIONS = {                                         # dtype of the logits, dtype of autocast
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "autocast bfloat16": (torch.float32, torch.bfloat16),
    "autocast float16": (torch.float32, torch.float16),
}


def case(seed: int = 0, void: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, (2, 5, 6), generator=generator)
    target[torch.rand(target.shape, generator=generator) < void] = 255
    return 2 * torch.randn(2, 4, 5, 6, generator=generator), target


def run(loss: Loss, logits: Tensor, target: Tensor, precision: str) -> tuple[float, Tensor]:
    """Value and gradient; whatever is raised is for `ask` to tell."""
    dtype, autocast = PRECISIONS[precision]
    x = logits.detach().to(dtype, copy=True).requires_grad_()
    with torch.autocast("cpu", autocast) if autocast else nullcontext():
        value = loss(x, target)
    value.backward()
    return value.item(), torch.zeros(()) if x.grad is None else x.grad.float()


def ignored_pixels_do_not_count(loss: Loss, precision: str) -> str:
    logits, target = case()
    void = (target == 255)[:, None]
    first, gradient = run(loss, logits, target, precision)
    second, _ = run(loss, torch.where(void, -3 * logits + 5, logits), target, precision)
    if not math.isclose(first, second, rel_tol=1e-3, abs_tol=1e-6):
        return f"value changes from {first:.4f} to {second:.4f}"
    return "gradient at void" if (gradient * void).abs().max() > 0 else ""


def target_is_left_alone(loss: Loss, precision: str) -> str:
    logits, target = case()
    before = target.clone()
    run(loss, logits, target, precision)
    return "" if torch.equal(before, target) else "target is modified"


def all_void_is_zero(loss: Loss, precision: str) -> str:
    logits, target = case(void=2.0)
    value, gradient = run(loss, logits, target, precision)
    if not (math.isfinite(value) and gradient.isfinite().all()):
        return f"value {value:g}, gradient {'finite' if gradient.isfinite().all() else 'not'}"
    return "" if abs(value) < 1e-6 else f"value {value:.4f}"


def one_valid_pixel_works(loss: Loss, precision: str) -> str:
    logits, target = case(void=2.0)
    target[1, 2, 3] = 1
    value, gradient = run(loss, logits, target, precision)
    finite = math.isfinite(value) and bool(gradient.isfinite().all())
    return "" if finite else f"value {value:g}"


def perfect_is_zero(loss: Loss, precision: str) -> str:
    """Class 2 is absent."""
    _, target = case()
    target[target == 2] = 0
    logits = torch.full((2, 4, 5, 6), -30.0)
    logits.scatter_(1, torch.where(target == 255, 3, target)[:, None], 30.0)
    value, _ = run(loss, logits, target, precision)
    return "" if 0 <= value < 1e-3 else f"value {value:.4f}"


def mean_is_over_valid_pixels(loss: Loss, precision: str) -> str:
    """A margin of void changes nothing."""
    logits, target = case(void=0.2)
    wide = torch.nn.functional.pad(logits, (3, 4, 2, 1))
    margin = torch.nn.functional.pad(target, (3, 4, 2, 1), value=255)
    bare, framed = (run(loss, x, t, precision)[0] for x, t in ((logits, target), (wide, margin)))
    same = math.isclose(bare, framed, rel_tol=5e-3, abs_tol=1e-5)
    return "" if same else f"{bare:.4f} alone, {framed:.4f} with a margin"


def agrees_with_float32(loss: Loss, precision: str) -> str:
    """Within one per cent, at a size at which sums over a class exceed float16's largest number."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, 4, 360, 480, generator=generator)
    target = torch.randint(0, 4, (1, 360, 480), generator=generator)
    target[:, :300] = 1
    seen = logits.to(PRECISIONS[precision][0])
    exact = loss(seen.float(), target).item()
    value, gradient = run(loss, logits, target, precision)
    if not (math.isfinite(value) and gradient.isfinite().all()):
        return f"value {value:g}, gradient {'finite' if gradient.isfinite().all() else 'not'}"
    same = math.isclose(value, exact, rel_tol=1e-2)
    return "" if same else f"{value:.4f}, in float32 {exact:.4f}"


PROPERTIES: dict[str, Callable[[Loss, str], str]] = {
    "ignored pixels count nowhere": ignored_pixels_do_not_count,
    "the target is left alone": target_is_left_alone,
    "an all-void batch gives 0": all_void_is_zero,
    "one valid pixel works": one_valid_pixel_works,
    "a perfect prediction costs 0": perfect_is_zero,
    "the mean is over valid pixels": mean_is_over_valid_pixels,
    "half precision agrees with float32": agrees_with_float32,
}


def ask(name: str, loss: Loss, precision: str) -> str:
    """What a property says of a loss; an error is an answer, too."""
    try:
        return PROPERTIES[name](loss, precision)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:70]}" if str(error) else (
            type(error).__name__)                                                  # fmt: skip
