"""Typical wrong answers to lesson 6: (what a reader would type, a fragment of what they hear)."""

from __future__ import annotations

from seglib.exercises import lesson06

PRELUDE = """
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from seglib.losses import CrossEntropyLoss
from seglib.exercises import lesson06 as ex
"""


def _with(variable: str, place: int, value: object) -> str:
    """A dict's right answer with another value at a place."""
    right = next(e for e in lesson06.LESSON.exercises.values() if e.variable == variable).answer
    return f"{variable} = {right | {list(right)[place]: value}!r}"


def _step(
    end: str = "return scale, good, True",
    full: str = "good == growth_interval",
    grown: str = "return scale * 2, 0, True",
) -> str:
    return (
        "def step(scale, good, overflow, growth_interval):\n    if overflow:\n"
        "        return scale / 2, 0, False\n    good += 1\n"
        f"    if {full}:\n        {grown}\n    {end}"
    )


def _dice(
    p: str = "logits.softmax(1)[:, 1]",
    inside: str = "(p * g).sum()",
    whole: str = "p.sum() + g.sum()",
    end: str = "1 - 2 * inside / (whole + 1e-8)",
    start: str = "pass",
) -> str:
    """The loss as the notebook shows it, with some of its parts changed."""
    return (
        f"def dice(logits, target):\n    {start}\n    p = {p}\n"
        "    valid, truth = target != 255, target == 1\n"
        "    p, g = p * valid, truth.to(p.dtype)\n"
        f"    inside, whole = {inside}, {whole}\n    return {end}"
    )


def _sum(weight: str, inside: str = "pass", after: str = "pass", mean: str = "loss(y, t)") -> str:
    """A loop over batches; `weight` is the factor of each mean."""
    return (
        "def accumulate(model, loss, batches):\n"
        "    valid, seen = [(t != 255).sum() for _, t in batches], 0\n"
        f"    for n, (x, t) in enumerate(batches):\n        {inside}\n"
        "        y, seen = model(x), seen + valid[n]\n"
        f"        ({mean} * ({weight})).backward()\n        {after}"
    )


_CAST, _LOSS = "logits.float().softmax(1)[:, 1]", "1 - 2 * inside / (whole + 1e-8)"
_BY_ROWS = ("(p * g).sum(2).float().sum()", "p.sum(2).float().sum() + g.sum(2).float().sum()")
_LARGE_EPS = "(1 - 2 * inside / (whole + 1e-4))"

WRONG: dict[str, list[tuple[str, str]]] = {
    "formats": [
        (_with("guess", 5, 1.0078), "that is the next number above 1. 1.001 is nearer to 1"),
        (_with("guess", 5, "one"), "expected a number for bfloat16(1 + 0.001)"),
        (_with("guess", 1, 2051), "not even in the format"),
        (_with("guess", 2, 264), "The nearer one is stored"),
        (_with("guess", 3, 6.1e-5), "the smallest normal number. Below it there are subnormal"),
        (_with("guess", 0, "nan"), "nan comes of 0/0"),
        ("guess = [0, 1]", "expected a dict with the keys"),
    ],
    "underflow": [
        (_with("vanishes", 0, ["norm", "block", "stem"]), "bridge becomes 0, and you leave it out"),
        (_with("vanishes", 0, ("up", "bridge", "block", "stem")), "up does not, 3e-05"),
        (_with("vanishes", 2, {"stem"}), "head overflows, and you leave it out"),
        (_with("vanishes", 2, {"foot"}), "there is no gradient named 'foot'"),
        (_with("vanishes", 2, "head"), "expected a set of names"),
    ],
    "scaler": [
        (
            "def step(scale, good, overflow, growth_interval):\n    if overflow:\n"
            "        return scale * 0.5, 0, False\n    if good == growth_interval:\n"
            "        scale, good = scale * 2, 0\n    return scale, good + 1, True",
            "doubles one step late. Count this step first",
        ),
        (
            "def step(scale, good, overflow, growth_interval):\n"
            "    if not overflow and good % growth_interval == 0: scale *= 2\n"
            "    return (scale / 2, 0, False) if overflow else (scale, good + 1, True)",
            "that doubles at the first step of a run",
        ),
        (_step(grown="return scale * 2, 1, True"), "the run ends: the count begins again at 0"),
        (_step(full="good > 0"), "every good step doubles the scale"),
        (_step(grown="return scale * 3, 0, True"), "what becomes of each at an overflow"),
        (_step("return scale, good"), "expected three values"),
        (_step("return True, scale, good"), "is the order (scale, good, taken)?"),
        (_step("pass"), "is the `return` missing"),
        (_step("return 'big', good, True"), "expected a number for the scale"),
    ],
    "half_loss": [
        (_dice(f"{_CAST}.to(logits.dtype)", *_BY_ROWS), "do not. These round: a cast back in"),
        (_dice(), "still adds up in float16, which ends at 65504"),
        (_dice(end=f"{_LARGE_EPS}.float()"), "you cast after the sum"),
        (
            _dice(
                inside="(p * g).sum().clamp(max=20000)",
                whole="(p.sum() + g.sum()).clamp(max=65504)",
                end=_LARGE_EPS,
            ),
            "a limit hides what has overflowed; the sum is gone",
        ),
        (_dice(inside="(p * g).mean()", whole="p.mean() + g.mean()"), "0 / 0 is NaN. An eps"),
        (_dice("logits.bfloat16().softmax(1)[:, 1]"), "These round: softmax in bfloat16, sum in"),
        (_dice(inside=_BY_ROWS[0], whole=_BY_ROWS[1]), "sum in float16. Cast to float32, before"),
        (_dice(_CAST, end=f"({_LOSS}).to(logits.dtype)"), "to come out in float32"),
        (_dice(_CAST, end="1 - inside / (whole + 1e-8)"), "the fix has changed the loss itself"),
        (_dice("logits.detach().float().softmax(1)[:, 1]"), "the loss has no gradient"),
        (_dice("(logits.data.float() + 0 * logits).softmax(1)[:, 1]"), "is 0 everywhere"),
        (
            _dice("torch.cat([logits[:, :1].data, logits[:, 1:]], 1).float().softmax(1)[:, 1]"),
            "the value is right, but the gradient is",
        ),
        (_dice(_CAST, end=_LOSS.replace("-8", "-36")), "1 / whole, which overflows where nothing"),
        (_dice(_CAST, end=f"({_LOSS})[None]"), "a tensor without dimensions"),
        (_dice(_CAST, end=f"({_LOSS}, target.zero_())[0]"), "the target is another one afterwards"),
        (_dice("logits.float().softmax(4)"), "dice raised IndexError"),
    ],
    "loops": [
        (_with("faults", 4, "step"), "no overflow lowers the scale: it can only grow"),
        (_with("faults", 0, "clipping"), "expected one of clip, inside, new,"),
        ('faults = {"A": "clip"}', "expected a dict with the keys"),
    ],
    "accumulate": [
        (
            _sum("valid[n]", after="for p in model.parameters(): p.grad /= max(1, seen)"),
            "the loop divides the gradients, and divides again what earlier batches left",
        ),
        (_sum("valid[n] / (n * sum(valid))"), "the gradient is not finite"),
        (_sum("int(valid[n]) / int(seen)"), "the share is 0, without a division"),
        (_sum("-3 * valid[n] / sum(valid)"), "that is -3 times the gradient of one big batch"),
        (_sum("torch.rand(())"), "weigh a batch's mean by its share of all valid pixels"),
        (
            _sum("valid[n]", "torch.optim.SGD(model.parameters(), lr=0.1).step()"),
            "the weights have moved",
        ),
        (_sum("valid[n]", "t[t == 255] = 0"), "the batches are not what they were"),
        (_sum("valid[n]", mean="torch.tensor(loss(y, t).item())"), "a number taken with .item()"),
        (
            "def accumulate(model, loss, batches):\n"
            "    images, target = (torch.cat(rows) for rows in zip(*batches))\n"
            "    loss(model(images), target).backward()",
            "the model saw 6 images at once",
        ),
        (
            "def accumulate(model, loss, batches):\n"
            "    valid = [(target != 255).sum() for _, target in batches]\n"
            "    means = [loss(model(images), target) for images, target in batches]\n"
            "    (sum(m * v for m, v in zip(means, valid)) / sum(valid)).backward()",
            "batches went forward before a backward",
        ),
        (
            "def accumulate(model, loss, batches):\n    total = 0\n"
            "    for images, target in batches:\n"
            "        total = total + loss(model(images), target)\n        (total / 3).backward()",
            "forward comes anew each time",
        ),
    ],
    "speedup": [
        (_with("factors", 1, 1.11), "12 ms are what is left of the data's 60 ms"),
        (_with("factors", 1, 1.5), "too little"),
        (_with("factors", 1, 1.9), "too much"),
        (_with("factors", 0, "a third"), "expected a number"),
    ],
}
