"""The exercises of lesson 6: half precision, loss scaling, AMP loops, accumulated gradients."""

# mypy: allow-untyped-defs

import math
from contextlib import suppress
from copy import deepcopy
from functools import cache, wraps
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seglib.exercises import kit
from seglib.exercises.kit import NotYet, show
from seglib.losses import CrossEntropyLoss, FocalLoss

LESSON = kit.Lesson(
    "06",
    outcomes=(
        "read a number format: what it rounds away, what overflows and what underflows",
        "keep in float32 what must stay there",
        "explain loss scaling, and follow the scaler through an overflow",
        "read a mixed-precision (AMP) training loop, and find the fault in one",
        "find where a step's time goes, and accumulate gradients equal to those of one large batch",
    ),
)
summary = LESSON.summary


def _any_number(answer: Any, what: str) -> float:
    with suppress(Exception):
        return float(answer)  # infinity and NaN, too
    return kit.number(answer, what)


def _by_key(keys: Any, *rows: tuple[int, Any, str]) -> kit.Readings:
    """Rows of (place of the key, wrong value, hint) as readings."""
    return {key: [row[1:] for row in rows if row[0] == n] for n, key in enumerate(keys)}


# ---------------------------------------------------------------- five numbers in half precision

_ASKED: dict[str, float] = {"float16(70000)": 70000, "float16(2049)": 2049}
_ASKED |= {"float16(1e-8)": 1e-8, "bfloat16(1e-8)": 1e-8, "bfloat16(1 + 0.001)": 1.001}
_INFINITY = type("float", (float,), {"__repr__": lambda self: 'float("inf")'})("inf")
_RANGE = "bfloat16 has float32's exponent, and so its range"
_DIGITS = "What runs out here is the number of significant bits"
_ROUNDED_TO = _by_key(
    _ASKED,
    (0, 70000, "that is not rounded at all: float16 ends at 65504"),
    (0, 65504, "that is the largest finite number. A cast does not stop there: it gives inf"),
    (
        0,
        65535,
        "that is the largest unsigned 16-bit integer; float16 needs some bits for the exponent",
    ),
    (0, 65536, "2^16 is the first power of 2 that five exponent bits cannot reach"),
    (0, 70016, "the step would fit, but there is no finite number above 65504"),
    (0, 4464, "integers wrap round at 2^16; floating-point numbers do not"),
    (1, 2049, "not rounded: 11 significant bits hold every integer only up to 2048"),
    (1, 2050, "2049 lies halfway between 2048 and 2050; a tie goes to the last bit 0, to 2048"),
    (1, math.inf, f"the range ends at 65504. {_DIGITS}"),
    (1, 2000, "the 11 significant digits are binary, not decimal"),
    (2, 1e-8, "not rounded: the smallest number above 0, 2^-24, is six times as large"),
    (2, 2**-24, "that is the smallest number above 0, but 1e-8 is nearer to 0"),
    (
        2,
        2**-14,
        "that is the smallest normal number. Below it there are subnormal numbers, down to 6e-8",
    ),
    (3, 0, f"{_RANGE}: it begins at about 1e-38"),
    (3, 2**-24, f"that is the smallest number of float16. {_RANGE}"),
    (3, 2**-14, f"that is the smallest normal number of float16. {_RANGE}"),
    (4, 1.001, "not rounded: above 1 the gap of bfloat16 is 2^-7, about 0.008"),
    (4, 1 + 2**-10, "that is float16's result; bfloat16 has three bits fewer"),
    (4, 1 + 2**-7, "that is the next number above 1. 1.001 is nearer to 1"),
    (4, 0.001, "0.001 alone would be stored well; here it is added to 1"),
)


def _stored(key: str, value: float) -> float:
    """What the format of a key such as "float16(2049)" keeps of a number."""
    return float(torch.tensor(value, dtype=torch.float64).to(getattr(torch, key.split("(")[0])))


def _share(found: float, value: float, whole: float) -> float:
    return 0 if found == value else abs(found - value) / whole if whole > 0 else math.inf


def _other_number(key: str, found: float) -> str:
    if not math.isfinite(found):
        return "beyond the largest number comes infinity; nan comes from 0/0 or inf − inf"
    strange = _stored(key, found) != found and key != "bfloat16(1e-8)"
    what = "that number is not even in the format. " if strange else ""
    return f"{what}Which two numbers of the format are its neighbours? The nearer one is stored"


formats = LESSON.ask(
    ("formats", "Five numbers in half precision", "predict", 0),
    kit.numbers(
        {key: _stored(key, value) for key, value in _ASKED.items()},
        _ROUNDED_TO,
        "float16 has the finer step, bfloat16 the wider range",
        read=_any_number,
        distance=lambda found, value: _share(found, value, value % 1),
        tolerance=0.01,
        otherwise=_other_number,
        shown=lambda found: f"{found:.8g}",
    ),
    dict(zip(_ASKED, (_INFINITY, 2048, 0, 1e-8, 1), strict=True)),
    "float16 has 5 bits of exponent and 11 significant bits, bfloat16 8 and 8. Which run out?",
    "From 2048 on, float16's neighbours are 2 apart; a tie goes to the one whose last bit is 0.",
    "float16: from 2^-24 ≈ 6e-8 to 65504. bfloat16: from about 1e-38 to 3e38.",
    variable="guess",
)

# ---------------------------------------------------------------- a loss that breaks in float16


def dice(logits, target):
    """Soft Dice loss of the foreground, in float32 whatever the logits are."""
    p = logits.float().softmax(1)[:, 1]  # before softmax, products and sums
    valid, truth = target != 255, target == 1
    p, g = p * valid, truth.to(p.dtype)
    inside, whole = (p * g).sum(), p.sum() + g.sum()
    return 1 - 2 * inside / (whole + 1e-8)


HALVES = ("float16", "bfloat16")
# Of the smallest loss below, 1.5e-4, float32 rounds off 1 % at worst (30 pixels, 6e-8 of 1 each),
# float16 300 % (one number 5e-4). bfloat16 rounds the gradient by 0.4 %.
CLOSE, CLOSE_GRADIENT = 0.02, 0.03
SCALE = 4096.0  # as in training: gradients of a float16 map are tiny without it
MAPS = {  # height, width, share of the foreground, how sure the logits are of it, spread, images
    "a map of 360×480": (360, 480, 0.4, 1, 1.4, 1),
    "a map of 360×480, nearly all right": (360, 480, 0.4, 6, 1.4, 1),
    "a map without foreground (any loss from 0 to 1 will do)": (24, 30, 0, 24, 0, 1),
    "a map of void only (any loss from 0 to 1 will do)": (6, 3, 0, 1, 1.4, 1),
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
    """What a loss makes of a map; its `steps`: name, format and finiteness of each operation."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            name, dtype = getattr(function, "__name__", "").strip("_"), str(result.dtype)[6:]
            if dtype in HALVES and getattr(args[0], "dtype", 0) in (torch.float32, torch.float64):
                name = "a cast back"
            self.steps.append((name, dtype, bool(result.detach().isfinite().all())))
        return result


def _loss(answer: Any, given: str, name: str, dtype: str) -> Any:
    loss: Any = Loss()
    loss.steps = []
    logits, target = (part.clone() for part in _drawn(name))
    logits = logits.to(getattr(torch, dtype)).requires_grad_()
    with torch.enable_grad(), loss:
        value = kit.call(answer, logits, target, given=given)
    if not torch.equal(target, _drawn(name)[1]):
        raise NotYet(f"on {given}, the target has changed afterwards. Work on a copy")
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        raise NotYet(f"on {given}, found {show(value)}, expected a tensor without dimensions")
    if not value.requires_grad:
        raise NotYet(f"on {given}, the loss has no gradient: .item() and detach() cut it off")
    kit.call(lambda: (value.float() * SCALE).backward() or True, given=given)
    loss.value, loss.dtype = value.item(), str(value.dtype)[6:]
    loss.gradient = torch.zeros_like(logits) if logits.grad is None else logits.grad.double()
    return loss


def _same_value(found, right):
    nothing = right.value == 1 and -CLOSE <= found.value <= 1 + CLOSE  # any loss will do
    return nothing or abs(found.value - right.value) <= CLOSE * right.value


def _wrong_value(found, right):
    if _same_value(found, right):
        return ""
    finite = math.isfinite(found.value)
    broken = [(name, dtype) for name, dtype, whole in found.steps if not whole]
    if broken and broken[0][1] == "float16" and "div" not in broken[0][0]:
        if any(dtype not in HALVES for _, dtype in broken):
            return (
                "you cast after the sum, which is already inf in float16: a cast cannot undo that"
            )
        if finite:
            return "clamping hides the overflow, but the sum is lost. Cast before you sum"
        return "the loss still adds up in float16, which ends at 65504. Cast before you sum"
    zero = "the total is 0, and 0 / 0 is NaN. The divisor needs an eps, and 1e-8 is 0 in float16"
    return _rounded(found) if finite else zero


def _wrong_gradient(found, right):
    if found.dtype != "float32":
        return "the value is right, but the loss must come out in float32"
    said = "the value is right, but the gradient is"
    if not found.gradient.isfinite().all():
        return f"{said} not finite: backward has 1 / whole, which overflows where nothing is found"
    error = float((found.gradient - right.gradient).norm() / right.gradient.norm())
    if right.value == 1 or error <= CLOSE_GRADIENT:
        return ""
    if not found.gradient.any():
        return f"{said} 0 everywhere: .data, .item() and detach() cut it off"
    return f"{said} {100 * error:.0f} % off: {_rounded(found)}"


def _rounded(found):
    names = ("softmax", "sigmoid", "exp", "sum", "mean", "sub", "div", "a cast back")
    half = [f"{n} in {dtype}" for n, dtype, _ in found.steps if dtype in HALVES and n in names]
    few = (
        f"the range is enough, the precision is not. These round: {', '.join(dict.fromkeys(half))}"
    )
    cast = f"{few}. Cast to float32 before softmax, and stay in it"
    return cast if half else "in which format does each line compute?"


_RETURN = "1 - 2 * inside / (whole + 1e-8)"
_EACH = "that is the mean of each image's loss. The sums run over the batch, as in half_dice"
_DICE_MISTAKES = kit.edits(
    dice,
    ("that is the Dice index; the loss is 1 minus it", "1 - 2", "2"),
    ("void pixels count in it as background", "p * valid", "p"),
    ("only the first image of the batch counts in it", ".sum", "[0].sum"),
    (
        "an eps of 1 is large beside a sum of few pixels; it is only there to avoid 0 / 0",
        "1e-8",
        "1",
    ),
    (_EACH, ".sum()", ".sum((1, 2))", _RETURN, f"({_RETURN}).mean()"),
)


def _in_half(answer: Any) -> str:
    """In both formats, first all values, then formats and gradients."""
    cases = {f"{name}, in {dtype}": (name, dtype) for dtype in HALVES for name in MAPS}
    losses = {g: (_loss(answer, g, *case), _loss(dice, g, *case)) for g, case in cases.items()}
    for wrong in (_wrong_value, _wrong_gradient):
        for given, (found, right) in losses.items():
            if hint := wrong(found, right):
                said = f"found {found.value:.4g} in {found.dtype}, expected {right.value:.4g}"
                raise NotYet(f"on {given}: {said}: {hint}")
    return "within 2 % of float64 in float16 and bfloat16, even where sums exceed 65504"


half_loss = LESSON.ask(
    ("half_loss", "A loss that breaks in float16", "debug", 1),
    kit.function(
        [(name, "float32") for name in list(MAPS)[-3:]],
        dice,
        _DICE_MISTAKES,
        lambda name, dtype: f"{name}, in {dtype}",
        _in_half,
        run=_loss,
        agree=_same_value,
        otherwise="the fix has changed the loss itself",
        shown=lambda loss: f"{loss.value:.4g}",
    ),
    dice,
    "Print p.sum() and torch.tensor(1e-8, dtype=p.dtype) for a map of 360×480 in float16.",
    "A sum above 65504 is inf in float16, and 1e-8 is 0. A later cast repairs neither.",
    "Do all arithmetic in float32. Which line is the first that computes something?",
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


def _last_state(answer: Any, given: str, scale: float, growth_interval: int, steps: str) -> Any:
    """(scale, good, taken) at the end of a script, from the answer's own states."""
    good, taken = 0.0, True
    for sign in steps:
        found = kit.call(answer, scale, good, sign == "x", growth_interval, given=given)
        said = f"on {given}: found {show(found)}, expected"
        if not isinstance(found, (tuple, list)) or len(found) != 3:
            raise NotYet(f"{said} three values: (scale, good, taken)")
        if not isinstance(taken := found[2], (bool, np.bool_)):
            raise NotYet(f"{said} True or False last: is the order (scale, good, taken)?")
        scale = kit.number(found[0], f"the scale ({given})")
        good = kit.number(found[1], f"the count of good steps ({given})")
    return scale, good, bool(taken)


_BREAKS = "an overflow ends the run of good steps: the count begins again at 0"
_LATE = "that doubles one step late. Count this step first, then compare with growth_interval"
_EARLY = "that doubles one step early: growth_interval good steps are needed, counting this one"
_FIRST = "that doubles at the first step of a run. Count this step first, then compare"
_AFTER = "when the scale doubles, the run ends: the count begins again at 0"
_FULL, _GROWN, _FELL = "good == growth_interval", "scale * 2, 0, True", "scale / 2, 0, False"
_STEP_MISTAKES = kit.edits(
    step,
    (_BREAKS, _FELL, "scale / 2, good, False"),
    (_BREAKS, _FELL, "scale / 2, good + 1, False"),
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
    ("the scale never grows; growth_interval good steps in a row double it", _FULL, "False"),
    ("every good step doubles the scale; only a run should", _FULL, "True"),
    ("2 is added; the scale must be doubled", "scale * 2", "scale + 2"),
    ("the scale is squared; it must be doubled", "scale * 2", "scale ** 2"),
    ("the scale stays where the overflow was, and so will the overflows", "scale / 2", "scale"),
    ("an overflow doubles the scale; halve it", "scale / 2", "scale * 2"),
    ("2 is subtracted; the scale must be halved", "scale / 2", "scale - 2"),
    ("the scale falls to 1 at once; halve it", "scale / 2", "1"),
    ("the scale stops at 1; it may go below", "scale / 2", "max(1, scale / 2)"),
    ("half of 1 would be 0, which never comes back: divide with /", "scale / 2", "scale // 2"),
    ("growing and shrinking are swapped", "* 2", "@", "/ 2", "* 2", "@", "/ 2"),
    ("an overflow's step is taken: the weights would be inf or NaN", "False", "True"),
    ("taken is the wrong way round", "True", "None", "False", "True", "None", "False"),
    ("a step at which the scale grows is taken like any other", _GROWN, "scale * 2, 0, False"),
)

scaler = LESSON.ask(
    ("scaler", "The scaler's bookkeeping", "implement", 2),
    kit.function(
        [(*start, steps[: n + 1]) for *start, steps in SCRIPTS for n in range(len(steps))],
        step,
        _STEP_MISTAKES,
        lambda scale, interval, steps: (
            f"a run from scale {scale:g} with growth_interval {interval}, after "
            + ", ".join("overflow" if sign == "x" else "good" for sign in steps)
        ),
        "the same scale, count and decision as a real scaler's, step by step",
        run=_last_state,
        agree=lambda found, right: found == right,
        shown=lambda state: f"({state[0]:g}, {state[1]:g}, {state[2]})",
        otherwise="what happens to each at an overflow, a run's last good step, any other step?",
    ),
    step,
    "There are three cases: an overflow, a good step that completes the run, any other step.",
    "An overflow: half the scale, a count of 0, no step. Return from there.",
    "Otherwise count this step. At growth_interval, double the scale and reset the count to 0.",
)

# ---------------------------------------------------------------- five AMP loops

FAULTS = {"A": "clip", "B": "step", "C": "scale", "D": "zero", "E": "skip"}
CAUSES = {
    "scale": "backward runs on the loss without the scale",
    "clip": "the gradients are clipped while the scale is still in them",
    "step": "the optimiser steps directly, even where gradients have overflowed",
    "zero": "gradients that are still needed are set to zero",
    "skip": "a batch is skipped by hand, and the scaler is never told of its overflow",
    "new": "each batch gets a new scaler, with the initial scale",
    "inside": "backward runs inside autocast",
}
SYMPTOMS = {
    "A": "no SGD step is longer than learning rate / scale: at 65536 the weights hardly move",
    "B": "at the first overflow the weights become NaN; a sound loop skips it and halves the scale",
    "C": "with a scale of 65536, SGD moves the weights 65536 times too little; with 1 it trains",
    "D": "its weights do not depend on the first three of each four batches",
    "E": "no overflow lowers the scale: it can only grow. Once all overflow, no weight moves",
}
NOT_SO = {  # of a cause, or of a loop and a cause
    "scale": "backward runs on what scaler.scale(value) returns, as it should",
    "clip": "nothing is clipped in it",
    "B clip": "its gradients are clipped after unscale_ has divided by the scale",
    "step": "scaler.step(optimizer) is there, and skips a step that has overflowed",
    "zero": "each batch has its own step, so zero_grad belongs at the top",
    "skip": "no batch is skipped by hand: each goes through backward",
    "new": "the scaler comes from outside, one for all batches",
    "inside": "only the forward pass and the loss stand inside autocast",
}

_TOP = """\
def loop_x(model, loss, batches, optimizer, scaler, device):
    for images, target in batches:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            value = loss(model(images), target)
        scaler.scale(value).backward()
"""
_STEP = "        scaler.step(optimizer)\n        scaler.update()"
_UNSCALE = "        scaler.unscale_(optimizer)\n"
_CLIP = "        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n"
_FOUR = '''"""One step for the mean of four batches with equally many valid pixels."""
    for number, (images, target) in enumerate(batches, start=1)'''
_MEAN_OF_FOUR = _TOP.replace("for images, target in batches", _FOUR).replace("et)\n", "et) / 4\n")
_DROP = """        if not all(p.grad.isfinite().all() for p in model.parameters()):
            continue                                     # an overflow: drop this batch
"""
LOOPS = {
    "A": _TOP + _CLIP + _UNSCALE + _STEP,
    "B": _TOP + _UNSCALE + _CLIP + _STEP.replace("scaler.step(optimizer", "optimizer.step("),
    "C": _TOP.replace(".backward()", "\n        value.backward()") + _STEP,
    "D": _MEAN_OF_FOUR + "        if number % 4 == 0:\n" + _STEP.replace(" " * 8, " " * 12),
    "E": _TOP + _DROP + _STEP,
}


def show_loops() -> None:
    """Print how four of the loops begin, the rest of each, and the whole of D."""
    begin = _TOP[: _TOP.index("        scaler")]
    print("# A, B, C and E begin with\n" + begin.replace("loop_x", "loop"))
    for letter, text in LOOPS.items():
        print(f"# {letter}\n{text.removeprefix(begin)}\n".replace("loop_x", "loop_d"))


def causes() -> None:
    """Print the seven faults to choose from."""
    print("\n".join(f"{name:<8}  {text}" for name, text in CAUSES.items()))


def _refused(loop, cause):
    reason = NOT_SO.get(f"{loop} {cause}", NOT_SO[cause])
    return f"{reason}. What happens in {loop}: {SYMPTOMS[loop]}"


loops = LESSON.ask(
    ("loops", "Five AMP loops", "debug", 3),
    kit.letters(
        FAULTS,
        {x: {y: _refused(x, y) for y in CAUSES if y != FAULTS[x]} for x in FAULTS},
        "B ends in NaN at its first overflow; the others fail silently",
    ),
    FAULTS,
    "Compare line by line with amp_loop. What is missing, and what has another place?",
    "unscale_ divides the gradients by the scale; step does it if unscale_ was not called.",
    "Which two loops handle an overflow differently? What do D's gradients contain at its step?",
    variable="faults",
)

# ---------------------------------------------------------------- one large batch in parts


def accumulate(model, loss, batches):
    """Leave the gradients of one large batch, batch by batch."""
    counts = [(target != 255).sum() for _, target in batches]
    total = max(1, sum(counts))
    for (images, target), count in zip(batches, counts, strict=True):
        mean = loss(model(images), target)
        (mean * count / total).backward()  # its graph is freed here


def _batches(*images_and_void):
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
_CLUES = {
    "division by zero": "a batch of void only has the share 0: that needs no division",
    "second time": "backward frees a batch's graph, so each backward needs a new forward pass",
    "does not require grad": "a number taken with .item() has no graph: multiply the tensor",
}


def _batches_given(batches, loss):
    counts = [f"{int((target != 255).sum())} of {target.numel()}" for _, target in batches]
    return f"{len(batches)} batches ({', '.join(counts)} pixels are valid), {loss.__name__}"


def _accumulated(answer, given, batches, loss):
    """The gradient that is left, and a log: a batch's size as it goes forward, 0 for a backward."""
    torch.manual_seed(6)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    before, mine, log = deepcopy(model.state_dict()), deepcopy(batches), []

    def note(model, inputs, logits):
        if logits.requires_grad:
            log.append(len(logits))
            logits.register_hook(lambda gradient: log.append(0))

    model.register_forward_hook(note)
    with torch.enable_grad():
        run = wraps(answer)(lambda: [answer(model, loss(), mine)]) if callable(answer) else answer
        kit.call(run, given=given, clues=_CLUES)
    if any(not torch.equal(value, before[name]) for name, value in model.state_dict().items()):
        raise NotYet(f"on {given}, the weights have moved; the caller takes the step")
    pairs = zip(sum(mine, ()), sum(batches, ()), strict=False)
    if len(mine) != len(batches) or not all(torch.equal(a, b) for a, b in pairs):
        raise NotYet(f"on {given}, the batches have changed. Work on copies")
    rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([row.flatten() for row in rows]), log


def _alike(found, right):
    """Within 0.1 %: float32 sums of some hundred pixels are 0.001 % off, mistakes some per cent."""
    if not right.isfinite().all():
        return not found.isfinite().all()
    return (found - right).norm() <= 1e-3 * right.norm()


def _other_gradient(found, right):
    if not found.isfinite().all():
        return "the gradient is not finite: by what do you divide? A batch may have 0 valid pixels"
    factor = float((found @ right) / (right @ right))
    if abs(factor) > 0.001 and _alike(found, factor * right):
        return f"that is {factor:.3g} times the gradient of one large batch"
    return "weigh a batch's mean by its share of all valid pixels, counted before the loop"


def _one_at_a_time(answer: Any) -> str:
    for case in CASES[:2]:  # none of their batches is void alone, whose backward may be left out
        _, log = _accumulated(answer, given := _batches_given(*case), *case)
        said, most = f"on {given}, the gradients are right, but", max(log, default=0)
        if most > max(len(target) for _, target in case[0]):
            raise NotYet(f"{said} the model saw {most} images at once; memory may not hold them")
        if any(first and second for first, second in pairwise(log)):
            raise NotYet(
                f"{said} two batches went forward before backward freed the first one's graph"
            )
    return "the gradients of one large batch, even with one of void only, and one graph at a time"


_MEAN = "that is the mean of the means: a batch with few valid pixels counts as much as a full one"
_SO_FAR = "you divide by the valid pixels seen so far, fewer than all: count them before the loop"
_SHARE = "that weighs a batch by the share of its own pixels that are valid, not by their number"
_TWICE = "the loop divides the gradients, and divides again what earlier batches left in them"
_LAST = "only the last batch is left. Does something set the gradients to zero between them?"
_TERM, _TOTAL, _COUNT = "mean * count / total", "max(1, sum(counts))", "(target != 255).sum()"
_SEEN = (_TOTAL, "0", "mean =", "total += count; mean =")
_ZERO = ("mean =", "model.zero_grad(); mean =")
_BACK, _DIVIDE = ".backward()", ".backward(); [p.grad.div_({}) for p in model.parameters()]"
_GRADIENT_MISTAKES = kit.edits(
    accumulate,
    ("that adds up the means and divides by nothing", _TERM, "mean"),
    (_MEAN, _TERM, "mean / len(batches)"),
    (_MEAN, _TERM, "mean * (count > 0) / sum(c > 0 for c in counts)"),
    ("that weighs a batch by its images, not by its valid pixels", _COUNT, "len(target)"),
    ("you divide by all pixels, including void", _TOTAL, "sum(t.numel() for _, t in batches)"),
    ("that forgets to divide by the number of all valid pixels", _TERM, "mean * count"),
    (_SO_FAR, *_SEEN, _TERM, "mean * count / max(1, total)"),
    ("that weighs a batch by its void pixels", "!=", "=="),
    (_SHARE, _COUNT, "(target != 255).float().mean()", _TOTAL, "1"),
    (_SHARE, _COUNT, "(target != 255).float().mean()", _TOTAL, "sum(counts)"),
    ("you divide once more, by the number of batches", _TERM, f"{_TERM} / len(batches)"),
    (_TWICE, *_SEEN, _TERM, "mean * count", _BACK, _DIVIDE.format("max(1, total)")),
    (_TWICE, *_SEEN, _TERM, "mean * count", _BACK, _DIVIDE.format("total")),
    (_TWICE, _TERM, "mean * count", _BACK, _DIVIDE.format("total")),
    ("loss is a mean already: multiply by the valid pixels", _TERM, "mean / max(1, count)"),
    ("a mean divided by all valid pixels: first make it a sum again", _TERM, "mean / total"),
    (_LAST, *_ZERO),
    (_LAST, *_ZERO, _TERM, "mean / len(batches)"),
    ("only the first batch is left: what ends the loop?", ".backward()", ".backward(); break"),
    (
        "that is the gradient of cross-entropy: call the loss you are given",
        "loss(",
        "CrossEntropyLoss()(",
    ),
    ("no parameter has a gradient: call backward for each batch", ".backward()", ""),
)

accumulate = LESSON.ask(  # type: ignore[assignment]
    ("accumulate", "One large batch in parts", "implement", 4),
    kit.function(
        CASES,
        accumulate,
        _GRADIENT_MISTAKES,
        _batches_given,
        _one_at_a_time,
        run=lambda *case: _accumulated(*case)[0],
        agree=_alike,
        shown=lambda found: f"a gradient of length {found.norm():.3g}",
        otherwise=_other_gradient,
    ),
    accumulate,
    "Its loss is a sum over all valid pixels / their number. What is one batch's part?",
    "loss(…) · (valid pixels of the batch) is its sum. Divide by all valid pixels, counted before.",
    "Call backward in the loop: gradients add up by themselves, and the graph is freed.",
)
