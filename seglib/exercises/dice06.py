"""How lesson 6's exercise on a loss that breaks in half precision is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seglib.exercises.kit import NotYet, call, show

VOID = 255
CLOSE, CLOSE_GRADIENT = 0.02, 0.03
SCALE = 4096.0  # as in training: gradients of a float16 map are tiny without it
HALVES = (torch.float16, torch.bfloat16)


class Case(NamedTuple):
    """Maps: their size, the share of the foreground, and how sure the logits are of it."""

    name: str
    height: int
    width: int
    share: float
    sure: float
    spread: float
    images: int = 1  # the second has a quarter of the foreground

    def logits(self) -> Tensor:
        signs = torch.where(self.target() == 1, 1.0, -1.0) * self.sure / 2
        noise = torch.randn(self.images, 2, self.height, self.width, generator=_seeded(self.height))
        return torch.stack((-signs, signs), 1) + self.spread * noise

    def target(self) -> Tensor:
        drawn = torch.rand(self.images, self.height, self.width, generator=_seeded(1))
        drawn[1:] *= 4
        target = (drawn < self.share).long()
        target[:, :, : self.width if self.name == "void" else 3] = VOID
        return target

    @property
    def empty(self) -> bool:
        return self.share == 0


CASES = (
    Case("a batch of two maps of 6×8, unlike each other", 6, 8, 0.6, 1, 1.4, images=2),
    Case("a map of 6×8", 6, 8, 0.4, 1, 1.4),
    Case("a map of 24×30", 24, 30, 0.4, 1, 1.4),
    Case("a map of 360×480, 40 % foreground", 360, 480, 0.4, 1, 1.4),
    Case("a map of 360×480, 40 % foreground, nearly all right", 360, 480, 0.4, 6, 1.4),
    Case("a map without foreground, of which the logits are sure", 24, 30, 0, 24, 0),
    Case("void", 6, 8, 0, 1, 1.4),
    Case("a map of 360×480 with very sure logits", 360, 480, 0.4, 11, 1.4),
)
LARGE, SURE, ABSENT, _, VERY_SURE = CASES[3:]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def truth(
    case: Case, dtype: torch.dtype, *, void: bool = False, eps: float = 1e-8
) -> tuple[float, Tensor]:
    """Loss and gradient in float64, of the logits as the format has them (or a changed loss)."""
    logits, target = case.logits().to(dtype).double().requires_grad_(), case.target()
    valid = (target != VOID) | void
    p, g = logits.softmax(1)[:, 1][valid], (target == 1)[valid]
    loss = 1 - 2 * p[g].sum() / (p.sum() + g.sum() + eps)
    loss.backward()
    assert logits.grad is not None
    return loss.item(), logits.grad


def of_each_image(case: Case) -> list[float]:
    """The images' own losses."""
    logits, target = case.logits().double(), case.target()
    found = []
    for p, labels in zip(logits.softmax(1)[:, 1], target, strict=True):
        p, g = p[labels != VOID], labels[labels != VOID] == 1
        found.append(float(1 - 2 * p[g].sum() / (p.sum() + g.sum() + 1e-8)))
    return found


class Found(NamedTuple):
    """What the reader's loss made of a case."""

    case: Case
    value: float
    dtype: torch.dtype
    gradient: Tensor

    def right(self, dtype: torch.dtype) -> bool:
        if self.case.empty:
            return -CLOSE <= self.value <= 1 + CLOSE
        expected = truth(self.case, dtype)[0]
        return math.isfinite(self.value) and abs(self.value - expected) <= CLOSE * abs(expected)


def half_loss(answer: Any) -> str:
    with torch.enable_grad():
        _check_definition(answer, CASES[:3])
        for dtype in HALVES:
            _check(answer, dtype)
        _check_definition(answer, CASES[3:5])
    return (
        "within 2 % of float64 in float16 and bfloat16, value and gradient, on maps whose "
        "sums exceed 65504, too"
    )


def _check_definition(answer: Any, cases: Sequence[Case]) -> None:
    """The loss in float32: a mend must not change it."""
    for case in cases:
        found = _run(answer, case, torch.float32)
        if found.right(torch.float32):
            continue
        right = truth(case, torch.float32)[0]
        alone = of_each_image(case)
        readings = (
            (1 - right, "that is the Dice index; the loss is 1 minus it"),
            (truth(case, torch.float32, void=True)[0], "void pixels count in it as background"),
            (
                sum(alone) / len(alone),
                "that is the mean of each image's loss. The sums run over "
                "the batch, as in half_dice",
            ),
            (alone[0], "only the first image of the batch counts in it"),
            (
                truth(case, torch.float32, eps=1)[0],
                "an eps of 1 is large against the sum of few pixels. It only has to prevent 0 / 0",
            ),
        )
        reason = [text for value, text in readings if abs(found.value - value) < 1e-4]
        raise NotYet(
            f"in float32 already, on {_given(case)}, found {found.value:.4g}, expected "
            f"{right:.4g}: " + (reason or ["the mend has changed the loss itself"])[0]
        )


def _check(answer: Any, dtype: torch.dtype) -> None:
    """All maps in one of the two half formats."""
    name = _name(dtype)
    found = {case: _run(answer, case, dtype) for case in CASES}
    if any(not result.right(dtype) for result in found.values()):
        raise NotYet(_diagnosis(found, dtype))
    kept = found[LARGE].dtype
    if kept != torch.float32:
        why = (
            "the next factor, the scale, overflows in half precision"
            if kept in HALVES
            else "float64 takes twice the memory, and no GPU is made for it"
        )
        raise NotYet(
            f"the values are right, but of {name} logits the loss is {_name(kept)}, "
            f"expected float32: {why}"
        )
    for case, result in found.items():
        _check_gradient(case, result.gradient, dtype)


def _diagnosis(found: dict[Case, Found], dtype: torch.dtype) -> str:
    """Which of the faults is still there: by which maps go wrong, and how."""
    name = _name(dtype)
    bad = [case for case in CASES if not found[case].right(dtype)]
    case, result = bad[0], found[bad[0]]
    expected = "a number from 0 to 1" if case.empty else f"{truth(case, dtype)[0]:.4g}"
    said = f"on {_given(case)}, in {name}, found {result.value:.4g}, expected {expected}: "
    full, empty_ok = result.dtype not in HALVES, found[ABSENT].right(dtype)
    if case is LARGE and empty_ok and result.value == 1:
        return (
            f"{said}the sum was infinite when you cast it, and stays inf in float32: a number "
            "divided by it is 0. Cast what is added up"
        )
    if case is LARGE and math.isfinite(result.value):
        return (
            f"{said}a number, but not the loss. To replace or limit what has overflowed hides "
            "it; the sum is gone. Add up in a format that can hold it"
        )
    if case is LARGE and full and empty_ok:
        return (
            f"{said}you cast after the sum. Over 65504 it was infinite already, and inf stays "
            "inf in float32. Cast what is added up"
        )
    if case is LARGE and full:
        return (
            f"{said}you cast the result. By then the sum had overflowed and eps was 0, and "
            "NaN stays NaN in float32. Cast before the arithmetic"
        )
    if case is LARGE and empty_ok:
        return (
            f"{said}eps is mended, the sums are not: they run over 172,800 pixels, and float16 "
            "ends at 65504"
        )
    if case is LARGE:
        return (
            f"{said}the loss still adds up in float16, which ends at 65504, and its eps of "
            "1e-8 is 0 there"
        )
    if case is SURE:
        return (
            f"{said}the range suffices, the digits do not. A loss near 0 is 1 minus a number "
            "near 1, which has 8 bits in bfloat16 and 11 in float16. Sum and divide in "
            "float32"
        )
    if case is VERY_SURE:
        return (
            f"{said}softmax in sixteen bits rounds a probability near 1 to 1. Cast the logits "
            "to float32, before softmax"
        )
    if case.empty and full:
        return (
            f"{said}the sums are right, but their total is 0 where nothing is to be found, and "
            "0 / 0 is NaN. An eps belongs to the divisor"
        )
    if case.empty:
        return (
            f"{said}the sums are right, but here their total is 0 and so is eps: 1e-8 is 0 in "
            "float16, and 0 / 0 is NaN"
        )
    return f"{said}in which format does each line compute?"


def _check_gradient(case: Case, gradient: Tensor, dtype: torch.dtype) -> None:
    said = f"on {_given(case)}, in {_name(dtype)}, the value is right, but the gradient "
    if not bool(gradient.isfinite().all()):
        raise NotYet(
            f"{said}is not finite. Backward multiplies by 1 / whole, which is "
            "too large for float16 where little is found: cast the logits, before "
            "softmax, and nothing of it is in half precision"
        )
    expected = truth(case, dtype)[1] * SCALE
    if case.empty or float(expected.norm()) == 0:
        return
    error = float((gradient.double() - expected).norm() / expected.norm())
    if error > CLOSE_GRADIENT:
        lost = (
            "is 0 everywhere: .data, .item() and detach() cut it off"
            if not gradient.any()
            else f"is {100 * error:.0f} % off: what is it multiplied with in half precision?"
        )
        raise NotYet(f"{said}{lost}")


def _run(answer: Any, case: Case, dtype: torch.dtype) -> Found:
    logits = case.logits().to(dtype).requires_grad_()
    given = f"{_given(case)} in {_name(dtype)}"
    target = case.target()
    value = call(answer, logits, target, given=given)
    if not torch.equal(target, case.target()):
        raise NotYet(
            f"on {given}, the target is another one afterwards: its void is lost for "
            "whoever reads it next. Work on a copy"
        )
    if not isinstance(value, Tensor) or value.ndim != 0 or not value.is_floating_point():
        raise NotYet(
            f"on {given}, found {show(value)}, expected one number: a tensor without "
            "dimensions that backward can start from"
        )
    if not value.requires_grad:
        raise NotYet(
            f"on {given}, the loss has no gradient: .item(), detach() and torch.tensor cut it off"
        )

    def backward() -> bool:
        (value.float().sum() * SCALE).backward()
        return True

    call(backward, given=given)
    gradient = torch.zeros_like(logits) if logits.grad is None else logits.grad
    return Found(case, float(value.detach()), value.dtype, gradient)


def _given(case: Case) -> str:
    return "a map of void alone" if case.name == "void" else case.name


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
