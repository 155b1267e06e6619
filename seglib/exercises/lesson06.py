"""The exercises of lesson 6: half precision, loss scaling, AMP loops, accumulated gradients."""

# mypy: allow-untyped-defs

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seglib.exercises import kit, material06
from seglib.exercises.kit import NotYet, show
from seglib.losses import CrossEntropyLoss, FocalLoss

LESSON = kit.Lesson(
    "06",
    outcomes=(
        "read a number format: what it rounds away, what overflows and what vanishes",
        "explain loss scaling, and follow the scaler through an overflow",
        "keep in float32 what must stay there",
        "turn a training loop into an AMP loop, and find the fault in one",
        "find where a step's time goes, and accumulate gradients that equal those of one big batch",
    ),
)
summary = LESSON.summary


def _any_number(answer: Any, what: str) -> float:
    """The answer as a float; infinity and NaN are some, too."""
    with contextlib.suppress(Exception):
        if not math.isfinite(value := float(answer)):
            return value
    return kit.number(answer, what)


# ---------------------------------------------------------------- six numbers in half precision

_RANGE = "bfloat16 has float32's eight bits of exponent, and so its range"
_TIE = "lies as far above as {0} below. On a tie the last bit of the result is even, as in {0}"
_DIGITS = "What runs out here is the number of significant bits"
_NOT_ROUNDED = "that is not rounded: {} significant bits count every integer up to {} only"
_ALONE = "0.001 alone would be stored well; here it is added to 1"
_STORED: kit.Readings = {
    "float16(70000)": (
        (70000, "that is not rounded at all: float16 ends at 65504"),
        (65504, "that is the largest finite number. A cast does not stop there: inf lies beyond"),
        (65535, "that is the largest unsigned integer of 16 bits; some bits are the exponent's"),
        (65536, "2^16 is the first power that five bits of exponent no longer reach"),
        (70016, "the step would fit, but there is no finite number above 65504"),
        (4464, "integers wrap round at 2^16; floating-point numbers do not"),
    ),
    "float16(2049)": (
        (2049, _NOT_ROUNDED.format(11, 2048)),
        (2050, f"2050 {_TIE.format(2048)}"),
        (math.inf, f"the range ends at 65504. {_DIGITS}"),
        (2000, "the 11 significant bits are binary, no digits of the decimal system"),
    ),
    "bfloat16(257)": (
        (257, _NOT_ROUNDED.format(8, 256)),
        (258, f"258 {_TIE.format(256)}"),
        (math.inf, f"{_RANGE}. {_DIGITS}"),
        (255, "that is where integers of 8 bits end; 256, a power of two, takes one bit"),
        (260, "above 256 the step is 2, not 4"),
    ),
    "float16(1e-8)": (
        (1e-8, "that is not rounded. The smallest number above 0, 2^-24, is six times as large"),
        (2**-24, "that is the smallest number above 0, but 1e-8 is nearer to 0"),
        (2**-14, "that is the smallest normal number. Below it there are subnormal ones, to 6e-8"),
    ),
    "bfloat16(1e-8)": (
        (0, f"{_RANGE}: it begins at about 1e-38"),
        (2**-24, f"that is the smallest number of float16. {_RANGE}"),
        (2**-14, f"that is the smallest normal number of float16. {_RANGE}"),
    ),
    "bfloat16(1 + 0.001)": (
        (1.001, "that is not rounded. Above 1 the step of bfloat16 is 2^-7, about 0.008"),
        (1 + 2**-10, "that is what float16 makes of it; bfloat16 has three bits less"),
        (1 + 2**-7, "that is the next number above 1. 1.001 is nearer to 1"),
        (0, _ALONE),
        (0.001, _ALONE),
    ),
}


def _stored(key: str, value: float | None = None) -> float:
    """What a key such as "float16(2049)" comes to, or what its format keeps of another number."""
    name, text = key[:-1].split("(")
    value = sum(map(float, text.split("+"))) if value is None else value
    return float(torch.tensor(value, dtype=torch.float64).to(getattr(torch, name)).item())


def _apart(found: float, value: float) -> float:
    """How far two numbers are apart, as a share of what the second adds to a whole number."""
    beside = abs(value - round(value)) if math.isfinite(value) else 0
    return 0 if found == value else abs(found - value) / beside if beside else math.inf


def _other_number(key: str, found: float) -> str:
    if math.isnan(found):
        return "nan comes of 0/0 or of inf − inf; a number too large or too small is no such case"
    if math.isinf(found):
        return "infinity is what lies beyond the largest number; this one lies inside the range"
    if _stored(key, found) != found and key != "bfloat16(1e-8)":
        return "that number is not even in the format. Which two of its numbers lie around it?"
    return "which two numbers of the format lie around it? The nearer one is stored"


class _Infinity(float):
    """Infinity that prints as it is typed."""

    def __repr__(self) -> str:
        return 'float("inf")'


formats = LESSON.add(
    name="formats",
    title="Six numbers in half precision",
    kind="predict",
    outcome=0,
    judge=kit.numbers(
        {key: _stored(key) for key in _STORED},
        _STORED,
        "float16 has the finer step, bfloat16 the wider range: what overflows or vanishes in one "
        "is coarse in the other",
        read=_any_number,
        distance=_apart,
        tolerance=0.01,
        otherwise=_other_number,
        shown=lambda found: f"{found:.8g}",
    ),
    variable="guess",
    answer=dict(zip(_STORED, (_Infinity("inf"), 2048, 256, 0, 1e-8, 1), strict=True)),
    hints=(
        "float16 has 5 bits of exponent and 11 significant bits, bfloat16 has 8 and 8. Which of "
        "the two kinds of bits runs out in each of the six?",
        "With 11 significant bits, neighbours are 1 apart from 1024 to 2048 and 2 apart from 2048 "
        "to 4096. The nearer neighbour is stored; between two, the one whose last bit is 0.",
        "float16 ends at 65504, and beside 0 its first number is 2^-24 ≈ 6e-8. bfloat16 goes from "
        "about 1e-38 to 3e38.",
    ),
)

# ---------------------------------------------------------------- which gradients are lost?

GRADIENTS = {"head": 4e-3, "up": 3e-5, "norm": 4e-8, "bridge": 2e-8, "block": 5e-11, "stem": 1e-11}
SCALES = {"unscaled": 1, "scaled by 1024": 1024, "overflow at 2**24": 2**24}
VANISHES = dict(zip(SCALES, ({"bridge", "block", "stem"}, {"stem"}, {"head"}), strict=True))


def gradients() -> dict[str, float]:
    """Six gradients, one a layer, in float32."""
    return dict(GRADIENTS)


def _names(answer: Any, what: str) -> set[str]:
    kinds = (set, frozenset, list, tuple, dict)
    if not isinstance(answer, kinds) or not all(isinstance(name, str) for name in answer):
        raise NotYet(f"expected a set of names for {what} (set() for none), found {show(answer)}")
    if strange := sorted(set(answer) - set(GRADIENTS)):
        known = ", ".join(GRADIENTS)
        raise NotYet(f"{what}: there is no gradient named {strange[0]!r}; the names are {known}")
    return set(answer)


def _first_wrong_name(key: str, found: set[str]) -> str:
    name, scale = sorted(found ^ VANISHES[key])[0], SCALES[key]
    if name in VANISHES[key]:
        return f"{name} {'overflows' if scale > 1024 else 'becomes 0'}, and you leave it out"
    return f"{name} does not, {GRADIENTS[name]:g} · {scale:g} = {GRADIENTS[name] * scale:.3g}"


_NONE = "nothing, you say: so it is in bfloat16. float16 ends at 2^-24 = 5.96e-8"
_NORMAL = "that takes 6.1e-5 as the limit, the smallest normal number; subnormal ones go to 2^-24"
_SMALLEST = (
    "that takes 2^-24 = 5.96e-8 as the limit, the smallest number above 0. But a cast rounds to "
    "the nearer: what lies above its half becomes 2^-24, not 0"
)
_SETS = {
    "unscaled": {
        "": _NONE,
        "head up norm bridge block stem": "that is all of them: float16 goes down to 5.96e-8",
        "head up norm": "that is what survives; which become 0?",
        "up norm bridge block stem": _NORMAL,
        "norm bridge block stem": _SMALLEST,
        "block stem": "the limit is not 1e-8: half of 2^-24 is 2.98e-8, and below it 0 is nearer",
    },
    "scaled by 1024": {
        "": _NONE,
        "bridge block stem": "those are the same as without scaling. Multiply first, then cast",
        "up norm bridge block stem": "that divides by the scale; scaling multiplies",
        "norm bridge block stem": _NORMAL,
        "block stem": _SMALLEST,
    },
    "overflow at 2**24": {
        "": "but one does overflow: 2^24 is 1.7e7, and times the largest that is above 65504",
        "head up norm bridge block stem": "that all overflow: 2^24 alone would, but the product is "
        "taken in float32 and cast then",
        "up norm bridge block stem": "that is what does not overflow",
        "head up": "those are the products above 1; float16 goes on to 65504",
    },
}

underflow = LESSON.add(
    name="underflow",
    title="Which gradients are lost?",
    kind="predict",
    outcome=1,
    judge=kit.numbers(
        VANISHES,
        {key: [(set(names.split()), hint) for names, hint in _SETS[key].items()] for key in _SETS},
        "unscaled, half of the six are lost; a scale of 1024 brings back all but one; 2**24 would "
        "bring back that one, too, and lose the largest",
        read=_names,
        distance=lambda found, value: len(found ^ value),
        otherwise=_first_wrong_name,
        shown=lambda found: str(sorted(found)),
    ),
    variable="vanishes",
    answer=VANISHES,
    hints=(
        "The smallest number of float16 above 0 is 2^-24 = 5.96e-8. A cast rounds to the nearer of "
        "two neighbours: up to where is 0 the nearer one?",
        "Up to its half, 2.98e-8. With a scale, multiply first and compare then.",
        "65504 is the largest number. Divide it by 2**24: gradients above that overflow.",
    ),
)

# ---------------------------------------------------------------- the scaler's bookkeeping


def step(scale, good, overflow, growth_interval):
    """The scaler's next scale and count of good steps, and whether the optimiser may step."""
    if overflow:
        return scale / 2, 0, False
    good += 1
    if good == growth_interval:
        return scale * 2, 0, True
    return scale, good, True


SCRIPTS = (  # scale, growth_interval, and what each step finds: "." finite gradients, "x" overflow
    (65536.0, 3, "....x..x......"),
    (1024.0, 4, "...x....x.x........."),
    (8.0, 1, "..x.x"),
    (2.0, 2, "xxx.....xx."),
)


def _script_given(scale: float, growth_interval: int, steps: str) -> str:
    words = ", ".join("overflow" if sign == "x" else "good" for sign in steps)
    return f"a run from scale {scale:g} with growth_interval {growth_interval}, after {words}"


def _last_state(answer: Any, given: str, scale: float, growth_interval: int, steps: str) -> Any:
    """(scale, good, taken) at the end of a script, from the answer's own states."""
    good, taken = 0.0, True
    for sign in steps:
        found = kit.call(answer, scale, good, sign == "x", growth_interval, given=given)
        if not isinstance(found, (tuple, list)) or len(found) != 3:
            said = f"found {show(found)}, expected three values: (scale, good, taken)"
            raise NotYet(f"on {given}: {said}")
        if not isinstance(found[2], (bool, np.bool_)):
            said = "expected True or False: is the order (scale, good, taken)?"
            raise NotYet(f"on {given}: taken is {show(found[2])}, {said}")
        scale = kit.number(found[0], f"the scale ({given})")
        good, taken = kit.number(found[1], f"the count of good steps ({given})"), bool(found[2])
    return scale, good, taken


_BREAKS = "an overflow ends the run of good steps: the count begins again at 0"
_LATE = "that doubles one step late. Count this step first, then compare with growth_interval"
_EARLY = "that doubles one step early: growth_interval good steps are needed, this one among them"
_FIRST = "that doubles at the first step of a run. Count this step first, then compare"
_AFTER = "when the scale doubles, the run ends: the count begins again at 0"
_NEVER = "the scale never grows: after growth_interval good steps in a row it doubles"
_FULL, _GROWN, _FELL = "good == growth_interval", "scale * 2, 0, True", "scale / 2, 0, False"
_STEP_MISTAKES = kit.edits(
    step,
    (_BREAKS, _FELL, "scale / 2, good, False"),
    (_BREAKS, _FELL, "scale / 2, good + 1, False"),
    (_BREAKS, _FELL, "scale / 2, 1, False"),
    ("the count never rises: a step without overflow adds 1 to it", "good += 1", "pass"),
    (_LATE, _FULL, "good > growth_interval"),
    (_LATE, _FULL, "good > growth_interval", _GROWN, "scale * 2, 1, True"),
    (_EARLY, _FULL, "good >= growth_interval - 1"),
    (_EARLY, _FULL, "good == growth_interval - 1"),
    (_FIRST, _FULL, "(good - 1) % growth_interval == 0", _GROWN, "scale * 2, good, True"),
    (_AFTER, _GROWN, "scale * 2, 1, True"),
    (_AFTER, _GROWN, "scale * 2, good, True"),
    (_AFTER, _GROWN, "scale * 2, good, True", _FULL, "good >= growth_interval"),
    (_AFTER, _GROWN, "scale * 2, good, True", _FULL, "good % growth_interval == 0"),
    (_NEVER, _FULL, "good == 2000"),
    (_NEVER, "scale * 2", "scale"),
    ("every good step doubles the scale; only a run should", _FULL, "True"),
    ("2 is added; the scale is to be doubled", "scale * 2", "scale + 2"),
    ("1 is added; the scale is to be doubled", "scale * 2", "scale + 1"),
    ("the scale is squared; it is to be doubled", "scale * 2", "scale ** 2"),
    ("the scale stays where the overflow was, and so will the overflows", "scale / 2", "scale"),
    ("an overflow doubles the scale; halve it", "scale / 2", "scale * 2"),
    ("2 is taken off; the scale is to be halved", "scale / 2", "scale - 2"),
    ("the scale falls to 1 at once; halve it", "scale / 2", "1"),
    ("the scale stops at 1; it may go below", "scale / 2", "max(1, scale / 2)"),
    ("half of 1 would be 0, which never comes back: divide with /", "scale / 2", "scale // 2"),
    ("growing and falling are exchanged", "* 2", "@", "/ 2", "* 2", "@", "/ 2"),
    ("an overflow's step is taken: the weights would be inf or NaN", "False", "True"),
    ("taken is the wrong way round", "True", "None", "False", "True", "None", "False"),
    ("a step at which the scale grows is taken like any other", _GROWN, "scale * 2, 0, False"),
)

scaler = LESSON.add(
    name="scaler",
    title="The scaler's bookkeeping",
    kind="implement",
    outcome=1,
    judge=kit.function(
        [(*start, steps[: n + 1]) for *start, steps in SCRIPTS for n in range(len(steps))],
        step,
        _STEP_MISTAKES,
        _script_given,
        "the same scale, count and decision as a real scaler's, step by step",
        run=_last_state,
        read=lambda found, given: found,
        agree=lambda found, right: found == right,
        shown=lambda state: f"({state[0]:g}, {state[1]:g}, {state[2]})",
        otherwise="what becomes of each at an overflow, at a run's last good step, at any other?",
    ),
    answer=step,
    hints=(
        "There are three cases: an overflow, a good step that completes the run, and any other "
        "good step.",
        "An overflow: half the scale, a count of 0, no step. Return from there.",
        "Else count this step first. If the count is growth_interval now, the scale doubles and "
        "the count starts again at 0.",
    ),
)

# ---------------------------------------------------------------- a loss that breaks in half


def dice(logits, target):
    """Soft Dice loss of the foreground, in float32 whatever the logits are."""
    p = logits.float().softmax(1)[:, 1]  # before softmax, products and sums
    valid, truth = target != 255, target == 1
    p, g = p * valid, truth.to(p.dtype)
    inside, whole = (p * g).sum(), p.sum() + g.sum()
    return 1 - 2 * inside / (whole + 1e-8)


HALVES = ("float16", "bfloat16")
# Of the smallest loss below, 1.5e-4, float32 rounds off 1 % at worst (each of 30 pixels 6e-8 of 1),
# float16 300 % (one number 5e-4).
# The gradient is rounded to the logits' format, in bfloat16 by 0.4 %.
CLOSE, CLOSE_GRADIENT = 0.02, 0.03
SCALE = 4096.0  # as in training: gradients of a float16 map are tiny without it
MAPS = {  # height, width, share of the foreground, how sure the logits are of it, spread, images
    "a map of 360×480": (360, 480, 0.4, 1, 1.4, 1),
    "a map of 360×480, nearly all right": (360, 480, 0.4, 6, 1.4, 1),
    "a map without foreground (any loss from 0 to 1 will do)": (24, 30, 0, 24, 0, 1),
    "a map of void alone (any loss from 0 to 1 will do)": (6, 3, 0, 1, 1.4, 1),
    "a map of 6×8 with very sure logits": (6, 8, 0.4, 11, 1.4, 1),
    "a batch of two maps of 6×8, unlike each other": (6, 8, 0.6, 1, 1.4, 2),
    "a map of 6×8": (6, 8, 0.4, 1, 1.4, 1),
    "a map of 24×30": (24, 30, 0.4, 1, 1.4, 1),
}


@cache
def _drawn(name: str) -> tuple[Tensor, Tensor]:
    """Logits and target of a map; its first three columns are void."""
    height, width, share, sure, spread, images = MAPS[name]
    seeded = torch.Generator().manual_seed
    drawn = torch.rand(images, height, width, generator=seeded(1))
    drawn[1:] *= 4  # a second image has a quarter of the foreground
    target = (drawn < share).long()
    target[:, :, :3] = 255
    signs = torch.where(target == 1, 0.5, -0.5) * sure
    noise = torch.randn(images, 2, height, width, generator=seeded(height))
    return torch.stack((-signs, signs), 1) + spread * noise, target


class Loss(TorchFunctionMode):
    """What a loss makes of a map, and of each operation: name, format, whether it is finite."""

    value: float
    dtype: str
    gradient: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, str, bool]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            name, dtype = getattr(function, "__name__", "").strip("_"), str(result.dtype)[6:]
            if dtype in HALVES and getattr(args[0], "dtype", 0) in (torch.float32, torch.float64):
                name = "a cast back"
            self.steps.append((name, dtype, bool(result.detach().isfinite().all())))
        return result


def _loss(answer: Any, given: str, name: str, dtype: str) -> Loss:
    logits, target = (part.clone() for part in _drawn(name))
    logits = logits.to(getattr(torch, dtype)).requires_grad_()
    with torch.enable_grad(), Loss() as loss:
        value = kit.call(answer, logits, target, given=given)
    if not torch.equal(target, _drawn(name)[1]):
        raise NotYet(f"on {given}, the target is another one afterwards. Work on a copy")
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        expected = "expected one number: a tensor without dimensions"
        raise NotYet(f"on {given}, found {show(value)}, {expected}")
    if not value.requires_grad:
        raise NotYet(f"on {given}, the loss has no gradient: .item() and detach() cut it off")
    kit.call(lambda: (value.float() * SCALE).backward() or True, given=given)
    gradient = torch.zeros_like(logits) if logits.grad is None else logits.grad
    loss.value, loss.dtype, loss.gradient = value.item(), str(value.dtype)[6:], gradient.double()
    return loss


def _same_value(found: Loss, right: Loss) -> bool:
    if right.value == 1:  # nothing to find
        return -CLOSE <= found.value <= 1 + CLOSE
    return abs(found.value - right.value) <= CLOSE * right.value


def _wrong_value(found: Loss, right: Loss) -> str:
    """What the operations say of a wrong value."""
    if _same_value(found, right):
        return ""
    broken = [(name, dtype) for name, dtype, finite in found.steps if not finite]
    if broken and broken[0][1] == "float16" and "div" not in broken[0][0]:
        if any(dtype not in HALVES for _, dtype in broken):
            return "you cast after the sum: beyond 65504 it is inf in float16, and inf it remains"
        if math.isfinite(found.value):
            return "a limit hides what has overflowed; the sum is gone. Cast what is added up"
        return "the loss still adds up in float16, which ends at 65504. Cast what is added up"
    if math.isfinite(found.value):
        return _rounded(found)
    return "the total is 0, and 0 / 0 is NaN. An eps belongs to the divisor; 1e-8 is 0 in float16"


def _wrong_gradient(found: Loss, right: Loss) -> str:
    """What is wrong beside the value."""
    if found.dtype != "float32":
        return "the value is right, but the loss is to come out in float32"
    said = "the value is right, but the gradient is"
    if not found.gradient.isfinite().all():
        return f"{said} not finite: backward has 1 / whole, which overflows where nothing is found"
    error = float((found.gradient - right.gradient).norm() / right.gradient.norm())
    if right.value == 1 or error <= CLOSE_GRADIENT:
        return ""
    if not found.gradient.any():
        return f"{said} 0 everywhere: .data, .item() and detach() cut it off"
    return f"{said} {100 * error:.0f} % off: {_rounded(found)}"


_ROUND = {name: name for name in ("softmax", "sigmoid", "exp", "sum", "mean", "a cast back")}
_ROUND |= {"add": "+", "sub": "−", "rsub": "−", "div": "/", "rdiv": "/"}


def _rounded(found: Loss) -> str:
    """Which operations round to half precision."""
    half = [
        f"{_ROUND[n]} in {dtype}" for n, dtype, _ in found.steps if dtype in HALVES and n in _ROUND
    ]
    if not half:
        return "in which format does each line compute?"
    names = ", ".join(dict.fromkeys(half))
    few = f"the range suffices, the digits do not. These round: {names}"
    return f"{few}. Cast to float32, before softmax, and stay there"


_RETURN, _SUMS = "1 - 2 * inside / (whole + 1e-8)", "(p * g).sum(), p.sum() + g.sum()"
_EPS = "an eps of 1 is large against the sum of few pixels. It only has to prevent 0 / 0"
_EACH = "that is the mean of each image's loss. The sums run over the batch, as in half_dice"
_ROWS = "(p * g).sum((1, 2)), (p + g).sum((1, 2))"
_DICE_MISTAKES = kit.edits(
    dice,
    ("that is the Dice index; the loss is 1 minus it", "1 - 2", "2"),
    ("void pixels count in it as background", "p * valid", "p"),
    ("only the first image of the batch counts in it", _SUMS, _SUMS.replace(".sum", "[0].sum")),
    (_EPS, "1e-8", "1"),
    (_EACH, _SUMS, _ROWS, _RETURN, f"({_RETURN}).mean()"),
)


def _in_half(answer: Any) -> str:
    """In both formats, first all values, then formats and gradients."""
    cases = {f"{name}, in {dtype}": (name, dtype) for dtype in HALVES for name in MAPS}
    found = {given: _loss(answer, given, *case) for given, case in cases.items()}
    right = {given: _loss(dice, given, *case) for given, case in cases.items()}
    for wrong in (_wrong_value, _wrong_gradient):
        for given, loss in found.items():
            if hint := wrong(loss, right[given]):
                said = f"found {loss.value:.4g} in {loss.dtype}, expected {right[given].value:.4g}"
                raise NotYet(f"on {given}: {said}: {hint}")
    return (
        "within 2 % of float64 in float16 and bfloat16, value and gradient, on maps whose sums "
        "exceed 65504, too"
    )


half_loss = LESSON.add(
    name="half_loss",
    title="A loss that breaks in half",
    kind="debug",
    outcome=2,
    judge=kit.in_turn(
        [
            kit.function(
                [(name, "float32") for name in list(MAPS)[-3:]],
                dice,
                _DICE_MISTAKES,
                lambda name, dtype: f"{name}, in {dtype}",
                run=_loss,
                read=lambda found, given: found,
                agree=_same_value,
                otherwise="the fix has changed the loss itself",
                shown=lambda loss: f"{loss.value:.4g}",
            ),
            _in_half,
        ]
    ),
    answer=dice,
    hints=(
        "Print p.sum() and torch.tensor(1e-8, dtype=p.dtype) for a map of 360×480 in float16.",
        "A sum of more than 65504 is inf in float16, and 1e-8 is 0. A cast after that mends "
        "neither.",
        "Let all arithmetic be in float32: which is the first line that computes something?",
    ),
)

# ---------------------------------------------------------------- five AMP loops

FAULTS = {"A": "clip", "B": "step", "C": "scale", "D": "zero", "E": "skip"}
CAUSES = {
    "scale": "the gradients are those of the loss without the scale",
    "clip": "the gradients are clipped while the scale is still in them",
    "step": "the optimiser steps by itself, whatever the scaler has found",
    "zero": "gradients are set to zero that are still to count",
    "skip": "a batch is passed over, and the scaler never hears of its overflow",
    "new": "each batch begins with a new scaler, which has learned nothing",
    "inside": "backward runs inside autocast",
    "schedule": "the learning rate also falls where a step was skipped",
}
SYMPTOMS = {
    "A": "no SGD step is longer than learning rate / scale: at 65536 the weights hardly move",
    "B": "at the first overflow the weights become NaN; a sound loop skips it and halves the scale",
    "C": "with a scale of 65536, SGD moves the weights 65536 times too little; with 1 it trains",
    "D": "its weights are the same whatever the first three of each four batches hold",
    "E": "no overflow lowers the scale: it can only grow. Once all overflow, no weight moves",
}
NOT_SO = {
    "scale": "backward runs on what scaler.scale(value) returns, as it should",
    "clip": "nothing is clipped in it",
    "B clip": "its gradients are clipped where unscale_ has taken the scale out",
    "step": "scaler.step(optimizer) is there, and skips what has overflowed",
    "zero": "each batch has its own step, so zero_grad belongs at the top",
    "skip": "no batch is passed over: each one's overflow reaches the scaler",
    "D skip": "no batch is passed over by an if; look at what zero_grad wipes",
    "new": "the scaler comes from outside, one for all batches",
    "inside": "only the forward pass and the loss stand inside autocast",
    "schedule": "there is no schedule in it",
}


def loop(letter: str) -> None:
    """Print one of the five loops, "A" to "E". ValueError for another letter."""
    if letter not in FAULTS:
        raise ValueError(f"found {letter!r}, expected one of {', '.join(FAULTS)}")
    print(inspect.getsource(getattr(material06, f"loop_{letter.lower()}")).rstrip())


def causes() -> None:
    """Print the eight causes to choose from."""
    for name, text in CAUSES.items():
        print(f"{name:<8}  {text}")


def _refused(loop: str, cause: str) -> str:
    reason = NOT_SO.get(f"{loop} {cause}", NOT_SO[cause])
    return f"{reason}. What happens in {loop}: {SYMPTOMS[loop]}"


loops = LESSON.add(
    name="loops",
    title="Five AMP loops",
    kind="debug",
    outcome=3,
    judge=kit.letters(
        FAULTS,
        {x: {y: _refused(x, y) for y in CAUSES if y != FAULTS[x]} for x in FAULTS},
        "B ends in NaN at its first overflow. The others end without a sign: with SGD A and C "
        "hardly move, D learns from every fourth batch, and E stands still once every batch "
        "overflows",
    ),
    variable="faults",
    answer=FAULTS,
    hints=(
        "Put the sound loop beside each and go line by line: scale, backward, unscale_, clip, "
        "step, update. What is missing, what stands elsewhere?",
        "scaler.scale(value) returns the scaled loss; it does not change value. unscale_ divides "
        "the gradients by the scale once, and step does so if nobody has.",
        "Which loops do something else than the sound one when a gradient overflows? Two of them.",
        "In D, ask what the gradients hold when the fourth batch's step comes.",
    ),
)

# ---------------------------------------------------------------- what a remedy gains

PARTS = {"data": 60, "forward": 20, "backward": 36, "optimiser": 4}  # ms, made up
REMEDIES = {  # what a part takes then
    "sixteen bits": {"forward": 10, "backward": 18},
    "cached images": {"data": 12},
    "fused optimiser": {"optimiser": 0},
    "the first two": {"forward": 10, "backward": 18, "data": 12},
}
FACTORS = {name: 120 / sum({**PARTS, **parts}.values()) for name, parts in REMEDIES.items()}
TWO = FACTORS["sixteen bits"], FACTORS["cached images"]


def step_parts() -> dict[str, int]:
    """Milliseconds that each part of a training step takes."""
    return dict(PARTS)


_TWO = "Factors of a whole step do not {}: add up the milliseconds that are left of each part"
_SAVED = "12 ms are what is left of the data's 60 ms, not what is saved of them"
_NO_TIME = "no part makes the step infinitely fast: 116 of 120 ms are left"
_PART = "that is what the part gains for itself. The rest takes as long as before"
_PARTICULAR = {
    "sixteen bits": [(56 / 28, _PART)],
    "cached images": [(120 / 108, _SAVED), (60 / 12, _PART)],
    "fused optimiser": [(1, "4 ms are little, but not nothing"), (math.inf, _NO_TIME)],
    "the first two": [
        (120 / (120 - 28 - 12), _SAVED),
        (116 / 40, _PART),
        (TWO[0] * TWO[1], _TWO.format("multiply")),
        (sum(TWO), _TWO.format("add up")),
    ],
}


def _factor_readings(name: str) -> list[tuple[float, str]]:
    right = FACTORS[name]
    return [
        *_PARTICULAR[name],
        (120 / right, "those are the milliseconds that are left; give the factor"),
        (120 - 120 / right, "those are the milliseconds that are saved; give the factor"),
        (1 / right, "that is the share of the time that is left; the factor is its inverse"),
        (1 - 1 / right, "that is the share of the time that is saved; give old time / new time"),
        (100 - 100 / right, "that is the time saved in per cent; give old time / new time"),
        (100 * right - 100, "that is the gain in per cent; give the factor, 1 for no gain"),
        (right - 1, "that is the gain; give the factor, 1 for no gain"),
    ]


speedup = LESSON.add(
    name="speedup",
    title="What a remedy gains",
    kind="predict",
    outcome=4,
    judge=kit.numbers(
        FACTORS,
        {name: _factor_readings(name) for name in FACTORS},
        "here the input is half of the step, so caching it gains more than sixteen bits do; and "
        "with it done, sixteen bits gain more than they did before",
        read=_any_number,
        distance=lambda found, value: (
            0 if found == value else abs(found - value) / max(0.2, value - 1)
        ),
        tolerance=0.025,  # of the gain, or two decimals
        otherwise=lambda name, found: (
            f"that is too {'much' if found > FACTORS[name] else 'little'}; how many ms are left?"
        ),
    ),
    variable="factors",
    answer={name: round(value, 2) for name, value in FACTORS.items()},
    hints=(
        "The factor is old time / new time, of the whole step. How long does it take with the "
        "remedy?",
        "Sixteen bits: 60 + 10 + 18 + 4 = 92 ms are left of 120.",
        "For two remedies at once, change both parts and add up again.",
    ),
)

# ---------------------------------------------------------------- one big batch in parts


def accumulate(model, loss, batches):
    """Leave the gradients of one big batch, batch by batch."""
    counts = [(target != 255).sum() for _, target in batches]
    total = max(1, sum(counts))
    for (images, target), count in zip(batches, counts, strict=True):
        mean = loss(model(images), target)
        (mean * count / total).backward()  # its graph is freed here


Batches = list[tuple[Tensor, Tensor]]


def _batches(*images_and_void: tuple[int, float]) -> Batches:
    """Batches of so many images, with such a share of void."""
    generator, found = torch.Generator().manual_seed(6), []
    for count, share in images_and_void:
        images = torch.randn(count, 3, 6, 8, generator=generator)
        target = torch.randint(0, 5, (count, 6, 8), generator=generator)
        target[torch.rand(count, 6, 8, generator=generator) < share] = 255
        found.append((images, target))
    return found


CASES = (
    (_batches((2, 0), (2, 0.9), (2, 0.5)), CrossEntropyLoss),
    (_batches((2, 0.8), (1, 0.1), (3, 0.4)), FocalLoss),
    (_batches((2, 0.3), (2, 1), (2, 0.7)), CrossEntropyLoss),
    (_batches((2, 1), (2, 0.6), (2, 0)), CrossEntropyLoss),
)


def _batches_given(batches: Batches, loss: type) -> str:
    counts = [f"{int((target != 255).sum())} of {target.numel()}" for _, target in batches]
    return f"{len(batches)} batches ({', '.join(counts)} pixels are valid), {loss.__name__}"


class Watched(nn.Sequential):
    """A small net that notes the size of each batch that goes forward, and 0 for each backward."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
        self.log: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        if logits.requires_grad:
            self.log.append(len(images))
            logits.register_hook(lambda gradient: self.log.append(0))
        return logits


_CLUES = {
    "division by zero": "of a batch of void alone the share is 0, without a division",
    "second time": "backward frees a batch's graph, so forward comes anew each time",
    "does not require grad": "a number taken with .item() has no graph: multiply the tensor",
}


def _watched(answer: Any, given: str, batches: Batches, loss: type) -> Watched:
    """The net after the reader's function; its weights and the batches must be as they were."""
    torch.manual_seed(6)
    model, mine = Watched(), copy.deepcopy(batches)
    before = copy.deepcopy(model.state_dict())

    def accumulate() -> bool:
        answer(model, loss(), mine)
        return True

    with torch.enable_grad():
        kit.call(accumulate if callable(answer) else answer, given=given, clues=_CLUES)
    if any(not torch.equal(value, before[name]) for name, value in model.state_dict().items()):
        raise NotYet(f"on {given}, the weights have moved: the step is for the caller")
    pairs = zip(sum(mine, ()), sum(batches, ()), strict=False)
    if len(mine) != len(batches) or not all(torch.equal(a, b) for a, b in pairs):
        raise NotYet(f"on {given}, the batches are not what they were. Work on copies")
    return model


def _gradient(*case: Any) -> Tensor:
    rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in _watched(*case).parameters()]
    return torch.cat([row.flatten() for row in rows])


def _alike(found: Tensor, right: Tensor) -> bool:
    """Within 0.1 %: float32 sums of some hundred pixels are 0.001 % off, mistakes some per cent."""
    if not right.isfinite().all():
        return not found.isfinite().all()
    return bool((found - right).norm() <= 1e-3 * right.norm())


def _other_gradient(found: Tensor, right: Tensor) -> str:
    if not found.isfinite().all():
        return "the gradient is not finite: by what do you divide? A batch may have 0 valid pixels"
    factor = float((found @ right) / (right @ right))
    if abs(factor) > 0.001 and _alike(found, factor * right):
        return f"that is {factor:.3g} times the gradient of one big batch"
    return "weigh a batch's mean by its share of all valid pixels, counted before the loop"


def _one_at_a_time(answer: Any) -> str:
    for case in CASES[:2]:  # none of their batches is void alone, whose backward may be left out
        log = _watched(answer, given := _batches_given(*case), *case).log
        said = f"on {given}, the gradients are right, but"
        if max(log) > max(len(target) for _, target in case[0]):
            big = "that is the big batch, which may not fit into memory"
            raise NotYet(f"{said} the model saw {max(log)} images at once: {big}")
        if any(first and second for first, second in itertools.pairwise(log)):
            big = "their graphs take as much memory as the big batch's"
            raise NotYet(f"{said} batches went forward before a backward freed the first: {big}")
    return (
        "the gradients of one big batch, on 4 sets of batches, two of them with a batch of void "
        "alone, and one graph at a time"
    )


_MEAN = "that is the mean of the means: a batch with few valid pixels weighs as much as a full one"
_SO_FAR = "you divide by the valid pixels seen so far, fewer than all: count them before the loop"
_SHARE = "that weighs a batch by the share of its own pixels that are valid, not by their number"
_TWICE = "the loop divides the gradients, and divides again what earlier batches left in them"
_LAST = "only the last batch is left. Does something set the gradients to zero between them?"
_TERM, _TOTAL, _COUNT = "mean * count / total", "max(1, sum(counts))", "(target != 255).sum()"
_SEEN = (_TOTAL, "0", "mean =", "total += count; mean =")


def _divide(by: str) -> str:
    return f".backward(); [p.grad.div_({by}) for p in model.parameters()]"


_GRADIENT_MISTAKES = kit.edits(
    accumulate,
    ("that adds up the means and divides by nothing", _TERM, "mean"),
    (_MEAN, _TERM, "mean / len(batches)"),
    (_MEAN, _TERM, "mean * (count > 0) / sum(c > 0 for c in counts)"),
    ("that weighs a batch by its images, not by its valid pixels", _COUNT, "len(target)"),
    ("you divide by all pixels, void ones, too", _TOTAL, "sum(t.numel() for _, t in batches)"),
    ("that forgets to divide by the number of all valid pixels", _TERM, "mean * count"),
    (_SO_FAR, *_SEEN, _TERM, "mean * count / max(1, total)"),
    ("that weighs a batch by its void pixels", "!=", "=="),
    (_SHARE, _COUNT, "(target != 255).float().mean()", _TOTAL, "1"),
    (_SHARE, _COUNT, "(target != 255).float().mean()", _TOTAL, "sum(counts)"),
    ("you divide once more, by the number of batches", _TERM, f"{_TERM} / len(batches)"),
    (_TWICE, *_SEEN, _TERM, "mean * count", ".backward()", _divide("max(1, total)")),
    (_TWICE, *_SEEN, _TERM, "mean * count", ".backward()", _divide("total")),
    (_TWICE, _TERM, "mean * count", ".backward()", _divide("total")),
    (_TWICE, _TERM, "mean", ".backward()", _divide("len(batches)")),
    (_TWICE, ".backward()", _divide("len(batches)")),
    ("loss is a mean already: multiply by the valid pixels", _TERM, "mean / max(1, count)"),
    ("a mean divided by all valid pixels: first make it a sum again", _TERM, "mean / total"),
    (_LAST, "mean =", "model.zero_grad(); mean ="),
    (_LAST, "mean =", "model.zero_grad(); mean =", _TERM, "mean"),
    (_LAST, "mean =", "model.zero_grad(); mean =", _TERM, "mean / len(batches)"),
    ("only the first batch is left: what ends the loop?", ".backward()", ".backward(); break"),
    ("it is that of cross-entropy: call the loss you are given", "loss(", "CrossEntropyLoss()("),
    ("no parameter has a gradient: call backward for each batch", ".backward()", ""),
)

accumulate = LESSON.add(  # type: ignore[assignment]
    name="accumulate",
    title="One big batch in parts",
    kind="implement",
    outcome=4,
    judge=kit.in_turn(
        [
            kit.function(
                CASES,
                accumulate,
                _GRADIENT_MISTAKES,
                _batches_given,
                run=_gradient,
                read=lambda found, given: found,
                agree=_alike,
                shown=lambda found: f"a gradient of length {found.norm():.3g}",
                otherwise=_other_gradient,
            ),
            _one_at_a_time,
        ]
    ),
    answer=accumulate,
    hints=(
        "The big batch's loss is a sum over all valid pixels, divided by their number. Which part "
        "of that sum is one batch's mean?",
        "loss(…) · (valid pixels of the batch) is the batch's sum. Divide it by the valid pixels "
        "of all batches, which you can count before the loop.",
        "Call backward in the loop: gradients add up by themselves, and the graph is freed.",
    ),
)
