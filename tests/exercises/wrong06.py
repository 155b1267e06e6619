"""Typical wrong answers to lesson 6: (what a reader would type, a fragment of what they hear)."""

from __future__ import annotations

import inspect

from seglib.exercises import lesson06

PRELUDE = """
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from seglib.losses import CrossEntropyLoss
from seglib.exercises import lesson06 as ex
"""


def _with(variable: str, **changes: object) -> str:
    """A dict's right answer with other values; keys by their place, as in _1=2048."""
    right = next(e for e in lesson06.LESSON.exercises.values() if e.variable == variable).answer
    places = {f"_{n}": key for n, key in enumerate(right)}
    return f"{variable} = {right | {places.get(key, key): v for key, v in changes.items()}!r}"


def _dice(
    p: str = "logits.softmax(1)[:, 1]",
    inside: str = "(p * g).sum()",
    whole: str = "p.sum() + g.sum()",
    end: str = "1 - 2 * inside / (whole + eps)",
    eps: str = "1e-8",
    start: str = "pass",
) -> str:
    """The loss as the notebook shows it, with some of its parts changed."""
    return (
        f"def dice(logits, target):\n    {start}\n    eps = {eps}\n    p = {p}\n"
        "    valid, truth = target != 255, target == 1\n"
        "    p, g = p * valid, truth.to(p.dtype)\n"
        f"    inside, whole = {inside}, {whole}\n    return {end}"
    )


CAST = "logits.float().softmax(1)[:, 1]"
ROWS = {
    "inside": "(p * g).sum(2).float().sum()",
    "whole": "p.sum(2).float().sum() + g.sum(2).float().sum()",
}


def _sum(weight: str, inside: str = "pass", after: str = "pass") -> str:
    """A loop over batches; `weight` is the factor of each mean."""
    return (
        "def accumulate(model, loss, batches):\n"
        "    valid = [(target != 255).sum() for _, target in batches]\n"
        "    total, seen = sum(valid), 0\n"
        "    for n, (images, target) in enumerate(batches):\n"
        f"        seen += valid[n]\n        {inside}\n"
        f"        (loss(model(images), target) * ({weight})).backward()\n        {after}"
    )


def _step(*changes: str) -> str:
    """The solution with parts of its text replaced: old, new, …"""
    text = inspect.getsource(lesson06.step)
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in text, old
        text = text.replace(old, new)
    return text


DIVIDED = "for p in model.parameters(): p.grad /= {}"
WRONG: dict[str, list[tuple[str, str]]] = {
    "formats": [
        (_with("guess", _5=1.0078), "that is the next number above 1"),
        (_with("guess", _5=1.00781), "that is the next number above 1. 1.001 is nearer"),
        (_with("guess", _5="one"), "expected a number for bfloat16(1 + 0.001)"),
        (_with("guess", _1=2051), "not even in the format"),
        (_with("guess", _2=264), "The nearer one is stored"),
        (_with("guess", _3=6.1e-5), "the smallest normal number. Below it there are subnormal"),
        (_with("guess", _4=6e-8), "the smallest number of float16. bfloat16 has float32's"),
        (
            'guess = {"float16(70000)": np.nan, "float16(2049)": 2048, "bfloat16(257)": 256,\n'
            '"float16(1e-8)": 0, "bfloat16(1e-8)": 1e-8, "bfloat16(1 + 0.001)": 1}',
            "nan comes of 0/0",
        ),
        ("guess = [0, 1]", "expected a dict with the keys"),
    ],
    "underflow": [
        (_with("vanishes", _0=["norm", "block", "stem"]), "bridge becomes 0, and you leave it out"),
        (_with("vanishes", _0=("up", "bridge", "block", "stem")), "up does not, 3e-05"),
        (_with("vanishes", _2={"stem"}), "head overflows, and you leave it out"),
        (_with("vanishes", _2={"foot"}), "there is no gradient named 'foot'"),
        (_with("vanishes", _2="head"), "expected a set of names"),
        (
            'vanishes = {"unscaled": {"bridge", "block", "stem"}, "scaled by 1024": '
            '{"block", "stem"}, "overflow at 2**24": {"head"}}',
            "But a cast rounds to the nearer",
        ),
    ],
    "scaler": [
        (  # compares, then counts
            "def step(scale, good, overflow, growth_interval):\n"
            "    if overflow:\n        return scale * 0.5, 0, False\n"
            "    if good == growth_interval:\n        scale, good = scale * 2, 0\n"
            "    return scale, good + 1, True",
            "doubles one step late. Count this step first",
        ),
        (
            _step("2, 0, True", "2, 1, True"),
            "when the scale doubles, the run ends: the count begin",
        ),
        (_step("good == growth_interval", "good % 1 == 0"), "every good step doubles the scale"),
        (
            "def step(scale, good, overflow, growth_interval):\n"
            "    if not overflow and good % growth_interval == 0: scale *= 2\n"
            "    return (scale / 2, 0, False) if overflow else (scale, good + 1, True)",
            "that doubles at the first step of a run",
        ),
        (_step("2, 0, False", "2, good + 1, False"), "an overflow ends the run of good steps"),
        (_step("scale * 2", "scale * 3"), "what becomes of each at an overflow"),
        (_step("scale, good, True", "scale, good"), "expected three values"),
        (_step("scale, good, True", "True, scale, good"), "is the order (scale, good, taken)?"),
        (_step("return scale, good, True", "pass"), "is the `return` missing"),
        (_step("good += 1", "good += one"), "step raised NameError"),
        (_step("scale, good, True", "'big', good, True"), "expected a number for the scale"),
    ],
    "half_loss": [
        (_dice(f"{CAST}.to(logits.dtype)", **ROWS), "for a cast back, sum. The logits are cast; "),
        (
            _dice(CAST, whole="(p.sum(2, dtype=logits.dtype).float() + g.sum(2)).sum()"),
            "The logits are cast; stay in float32",
        ),
        (_dice(), "still adds up in float16, which ends at 65504"),
        (_dice(eps="1e-4", end="(1 - 2 * inside / (whole + eps)).float()"), "after the sum"),
        (_dice(eps="1e-4", whole="(p.sum() + g.sum()).clamp(max=65504)"), "a limit hides"),
        (_dice(inside="(p * g).mean()", whole="p.mean() + g.mean()"), "0 / 0 is NaN. An eps"),
        (_dice(CAST, eps="0.0"), "An eps belongs to the divisor"),
        (_dice(**ROWS), "of float16 has 11 bits"[3:]),
        (
            _dice(
                start="logits = logits.bfloat16()", end="(1 - 2 * inside / (whole + eps)).float()"
            ),
            "the digits do not: bfloat16 has 8 bits for softmax, sum, +, /, −",
        ),
        (
            _dice(CAST, end="(1 - 2 * inside / (whole + eps)).to(logits.dtype)"),
            "come out in float32",
        ),
        (_dice("logits.double().softmax(1)[:, 1]"), "in float64, expected"),
        (_dice(CAST, end="1 - inside / (whole + eps)"), "the fix has changed the loss itself"),
        (
            _dice(CAST, "(p * g).sum((1, 2))", "p.sum((1, 2)) + g.sum((1, 2))").replace(
                "return 1 - 2 * inside / (whole + eps)",
                "return (1 - 2 * inside / (whole + eps)).mean()",
            ),
            "that is the mean of each image's loss",
        ),
        (_dice("logits.detach().float().softmax(1)[:, 1]"), "the loss has no gradient"),
        (_dice("(logits.data.float() + 0 * logits).softmax(1)[:, 1]"), "is 0 everywhere"),
        (
            _dice("torch.cat([logits[:, :1].data, logits[:, 1:]], 1).float().softmax(1)[:, 1]"),
            "but the gradient is",
        ),
        (_dice("logits.float().softmax(1)[:, 1].to(logits.dtype).float()"), "is not finite"),
        (_dice(CAST, end="(1 - 2 * inside / (whole + eps))[None]"), "a tensor without dimensions"),
        (_dice(CAST, start="target[target == 255] = 0"), "void pixels count in it as background"),
        (_dice(CAST, end="(1 - 2 * inside / (whole + eps), target.zero_())[0]"), "another one"),
        (_dice("logits.float().softmax(4)"), "dice raised IndexError"),
        (_dice(end="None"), "is the `return` missing"),
    ],
    "loops": [
        (_with("faults", E="step"), "leaves the scale as it is, so it can only grow"),
        (_with("faults", A="clipping"), "expected one of clip, inside, new,"),
        (
            'faults = {"A": "zero", "B": "zero", "C": "zero", "D": "zero", "E": "zero"}',
            "A: not zero: each batch has its own step",
        ),
        ('faults = {"A": "clip"}', "expected a dict with the keys"),
    ],
    "accumulate": [
        (
            _sum("valid[n]", after=DIVIDED.format("max(1, seen)")),
            "the loop divides the gradients, and divides again what earlier batches left",
        ),
        (
            _sum("1", after=DIVIDED.format("3")),
            "pixels are valid), CrossEntropyLoss: found a gradi",
        ),
        (_sum("valid[n] / (n * total)"), "the gradient is not finite"),
        (_sum("int(valid[n]) / int(seen)"), "the share is 0, without a division"),
        (_sum("-3 * valid[n] / total"), "the length -3 times"),
        (_sum("torch.rand(())"), "weigh a batch's mean by its share of all valid pixels"),
        (
            _sum("valid[n] / total", "torch.optim.SGD(model.parameters(), lr=0.1).step()"),
            "the weights have moved",
        ),
        (_sum("valid[n] / total", "target[target == 255] = 0"), "the batches are not what they"),
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
            "def accumulate(model, loss, batches):\n"
            "    (sum(loss(model(images), target) for images, target in batches) / 3).backward()",
            "that is the mean of the means",
        ),
        (
            "def accumulate(model, loss, batches):\n    total = 0\n"
            "    for images, target in batches:\n"
            "        total = total + loss(model(images), target)\n"
            "        (total / 3).backward()",
            "forward comes anew each time",
        ),
        (
            _sum("valid[n] / total").replace("loss(model(images), target)", "torch.tensor(1.0)"),
            "has no graph",
        ),
        ("def accumulate(model, loss, batches):\n    model.backward()", "raised AttributeError"),
    ],
    "speedup": [
        (_with("factors", _1=1.11), "12 ms are what is left of the data's 60 ms"),
        (_with("factors", _3=1.5), "the first two: 1.5 is not it: 12 ms are what is left"),
        (_with("factors", _1=1.5), "too little"),
        (_with("factors", _1=1.9), "too much"),
        (_with("factors", _0="a third"), "expected a number"),
        (
            'factors = {"sixteen bits": 1.3, "cached images": 1.67, "fused optimiser": '
            'float("inf"), "the first two": 2.73}',
            "no part makes the step infinitely fast",
        ),
        ("factors = [1.3, 1.8, 1.03, 3.2]", "expected a dict with the keys"),
    ],
}
