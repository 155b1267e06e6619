"""What every loss should hold, as questions to any callable loss(logits, target).

Each returns "" where the property holds, else what happened, in a few words. Other libraries are
asked by the bar PEERS, ours in test_loss_properties.py by the bar OURS, which is stricter.
"""

import copy
import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
PRECISIONS = {  # dtype of the logits, dtype of autocast
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "autocast bfloat16": (torch.float32, torch.bfloat16),
    "autocast float16": (torch.float32, torch.float16),
}


class Bar(NamedTuple):
    """What counts as equal (relative and absolute tolerances), and as zero."""

    void: tuple[float, float]  # with other logits at void
    margin: tuple[float, float]  # with a margin of void
    precision: tuple[float, float]
    perfect: float  # what a perfect prediction may cost
    loud: float = 3  # by what logits at void are multiplied
    closely: bool = False  # also asks for gradients, logits and exact values


PEERS = Bar(void=(1e-3, 1e-6), margin=(5e-3, 1e-5), precision=(1e-2, 0), perfect=1e-3)
OURS = Bar(
    void=(0, 0), margin=(1e-5, 1e-6), precision=(2e-4, 1e-6), perfect=1e-6, loud=30, closely=True
)


class World(NamedTuple):
    """How a property is asked."""

    precision: str
    bar: Bar = PEERS
    device: str = "cpu"

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision][0]


def case(
    seed: int = 0, void: float = 0.3, shape: tuple[int, ...] = (2, 4, 5, 6)
) -> tuple[Tensor, Tensor]:
    """Logits (N, C, H, W) and a target of random classes, with void."""
    generator = torch.Generator().manual_seed(seed)
    n, classes, height, width = shape
    target = torch.randint(0, classes, (n, height, width), generator=generator)
    target[torch.rand(target.shape, generator=generator) < void] = 255
    return 2 * torch.randn(shape, generator=generator), target


@functools.cache
def large_case() -> tuple[Tensor, Tensor, Tensor]:
    """Logits and target in which one class has 144,000 pixels, and a tenth of them to be void."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, 4, 360, 480, generator=generator)
    target = torch.randint(0, 4, (1, 360, 480), generator=generator)
    target[:, :300] = 1
    return logits, target, torch.rand(target.shape, generator=generator) < 0.1


def run(loss: Loss, logits: Tensor, target: Tensor, world: World) -> tuple[float, Tensor]:
    """Value and gradient; whatever is raised is for `ask` to tell."""
    autocast = PRECISIONS[world.precision][1]
    x = logits.detach().to(world.device, world.dtype, copy=True).requires_grad_()
    labels = target.to(world.device)  # (on the CPU the target itself)
    before = x.detach().clone()
    with torch.autocast(world.device, autocast) if autocast else nullcontext():
        value = loss(x, labels)
    value.backward()
    if world.bar.closely:
        assert torch.equal(x.detach(), before), "logits are modified"
        assert value.dtype == torch.float32, f"the value is {value.dtype}"
    return value.item(), torch.zeros(()) if x.grad is None else x.grad.float().cpu()


def close(found: float, expected: float, tolerances: tuple[float, float]) -> bool:
    relative, absolute = tolerances
    return math.isclose(found, expected, rel_tol=relative, abs_tol=absolute)


def not_finite(value: float, gradient: Tensor) -> str:
    if math.isfinite(value) and gradient.isfinite().all():
        return ""
    return f"value {value:g}, gradient {'finite' if gradient.isfinite().all() else 'not'}"


def ignored_pixels_do_not_count(loss: Loss, world: World) -> str:
    logits, target = case()
    void = (target == 255)[:, None]
    other = torch.where(void, -world.bar.loud * logits + 5, logits)
    first, gradient = run(loss, logits, target, world)
    second, another = run(loss, other, target, world)
    if not close(first, second, world.bar.void):
        return f"value changes from {first:.4f} to {second:.4f}"
    if world.bar.closely and not torch.equal(gradient, another):
        return "gradient changes"
    return "gradient at void" if (gradient * void).abs().max() > 0 else ""


def target_is_left_alone(loss: Loss, world: World) -> str:
    logits, target = case()
    before = target.clone()
    run(loss, logits, target, world)
    return "" if torch.equal(before, target) else "target is modified"


def all_void_is_zero(loss: Loss, world: World) -> str:
    logits, target = case(void=2.0)
    value, gradient = run(loss, logits, target, world)
    if said := not_finite(value, gradient):
        return said
    if world.bar.closely and (value != 0 or gradient.shape != logits.shape or gradient.any()):
        return f"value {value:g}, gradient up to {gradient.abs().max():g}"
    return "" if abs(value) < 1e-6 else f"value {value:.4f}"


def one_valid_pixel_works(loss: Loss, world: World) -> str:
    logits, target = case(void=2.0)
    target[1, 2, 3] = 1
    value, gradient = run(loss, logits, target, world)
    if not (math.isfinite(value) and bool(gradient.isfinite().all())):
        return f"value {value:g}"
    if world.bar.closely:
        alone, _ = run(loss, logits[1:, :, 2:3, 3:4], target[1:, 2:3, 3:4], world)
        if not (value > 0 and close(value, alone, world.bar.margin)):
            return f"value {value:g}, as a batch of its own {alone:g}"
        if not gradient[1, :, 2, 3].any():
            return "no gradient"
    return ""


def perfect_is_zero(loss: Loss, world: World) -> str:
    """Class 2 is absent."""
    _, target = case()
    target[target == 2] = 0
    logits = torch.full((2, 4, 5, 6), -30.0)
    logits.scatter_(1, torch.where(target == 255, 3, target)[:, None], 30.0)
    value, gradient = run(loss, logits, target, world)
    if world.bar.closely and not gradient.isfinite().all():
        return "gradient not finite"
    return "" if 0 <= value < world.bar.perfect else f"value {value:.4f}"


def mean_is_over_valid_pixels(loss: Loss, world: World) -> str:
    """A margin of void changes nothing."""
    logits, target = case(void=0.2)
    loud = 5.0 if world.bar.closely else 0.0
    wide = torch.nn.functional.pad(logits, (3, 4, 2, 1), value=loud)
    margin = torch.nn.functional.pad(target, (3, 4, 2, 1), value=255)
    bare, framed = (run(loss, x, t, world)[0] for x, t in ((logits, target), (wide, margin)))
    same = close(bare, framed, world.bar.margin)
    return "" if same else f"{bare:.4f} alone, {framed:.4f} with a margin"


def agrees_with_float32(loss: Loss, world: World) -> str:
    """At a size at which sums over a class exceed float16's largest number.

    Other libraries agree with themselves in float32; ours do with themselves in float64, and some
    pixels are void.
    """
    logits, target, void = large_case()
    target = target.clone()
    seen = logits.to(world.dtype, copy=True)  # what is left of the logits in this dtype
    if world.bar.closely:
        target[void] = 255
        double: Any = copy.deepcopy(loss)
        exact = double.cpu().double()(seen.double(), target).item()
    else:
        exact = loss(seen.float(), target).item()
    value, gradient = run(loss, logits, target, world)
    if said := not_finite(value, gradient):
        return said
    same = close(value, exact, world.bar.precision)
    return "" if same else f"{value:.4f}, in float32 {exact:.4f}"


PROPERTIES: dict[str, Callable[[Loss, World], str]] = {
    "ignored pixels count nowhere": ignored_pixels_do_not_count,
    "the target is left alone": target_is_left_alone,
    "an all-void batch gives 0": all_void_is_zero,
    "one valid pixel works": one_valid_pixel_works,
    "a perfect prediction costs 0": perfect_is_zero,
    "the mean is over valid pixels": mean_is_over_valid_pixels,
    "half precision agrees with float32": agrees_with_float32,
}


def ask(name: str, loss: Loss, world: World) -> str:
    """What a property says of a loss."""
    return answer(PROPERTIES[name], loss, world)


def answer(question: Callable[..., str], *args: Any) -> str:
    """What a question says; an error is an answer, too."""
    try:
        return question(*args)
    except Exception as error:
        said = f": {str(error).splitlines()[0][:70]}" if str(error) else ""
        return f"{type(error).__name__}{said}"
