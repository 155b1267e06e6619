"""Typical wrong answers to lesson 6: (what a reader would type, a fragment of what they hear)."""

from __future__ import annotations

PRELUDE = """
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from copy import deepcopy
from seglib.losses import CrossEntropyLoss
from seglib.models import create_model
from seglib.exercises import lesson06 as ex
"""


def _guess(
    large: str = 'float("inf")',
    odd: str = "2048",
    brain: str = "256",
    tiny: str = "0",
    range_: str = "1e-8",
    one: str = "1",
) -> str:
    return (
        f'guess = {{"float16(70000)": {large}, "float16(2049)": {odd}, "bfloat16(257)": {brain}'
        f', "float16(1e-8)": {tiny}, "bfloat16(1e-8)": {range_}, '
        f'"bfloat16(1 + 0.001)": {one}}}'
    )


def _lost(
    unscaled: str = '{"bridge", "block", "stem"}',
    scaled: str = '{"stem"}',
    overflow: str = '{"head"}',
) -> str:
    return (
        f'vanishes = {{"unscaled": {unscaled}, "scaled by 1024": {scaled}, '
        f'"overflow at 2**24": {overflow}}}'
    )


def _step(
    overflow: str = "return scale / 2, 0, False",
    count: str = "good += 1",
    full: str = "good == growth_interval",
    grown: str = "return scale * 2, 0, True",
    end: str = "return scale, good, True",
) -> str:
    return (
        f"def step(scale, good, overflow, growth_interval):\n    if overflow:\n"
        f"        {overflow}\n    {count}\n    if {full}:\n        {grown}\n    {end}"
    )


def _dice(
    p: str = "logits.softmax(1)[:, 1]",
    inside: str = "(p * g).sum()",
    whole: str = "p.sum() + g.sum()",
    eps: str = "1e-8",
    start: str = "pass",
    valid: str = "target != 255",
    end: str = "1 - 2 * inside / (whole + eps)",
) -> str:
    """The loss as the notebook shows it, with some of its parts changed."""
    return (
        "def dice(logits, target):\n"
        f"    {start}\n    eps = {eps}\n    p = {p}\n"
        f"    valid, truth = {valid}, target == 1\n"
        "    p, g = p * valid, truth.to(p.dtype)\n"
        f"    inside, whole = {inside}, {whole}\n    return {end}"
    )


def _faults(**changes: str) -> str:
    right = {"A": "clip", "B": "step", "C": "scale", "D": "zero", "E": "skip"}
    return f"faults = {right | changes!r}"


def _sum(weight: str, before: str = "pass", inside: str = "pass", after: str = "pass") -> str:
    """A loop over batches; `weight` is the factor of each mean."""
    return (
        "def accumulate(model, loss, batches):\n"
        "    valid = [(target != 255).sum() for _, target in batches]\n"
        "    total, seen = sum(valid), 0\n"
        f"    {before}\n"
        "    for n, (images, target) in enumerate(batches):\n"
        f"        seen += valid[n]\n        {inside}\n"
        f"        (loss(model(images), target) * ({weight})).backward()\n    {after}"
    )


def _factors(
    bits: str = "120 / 92",
    cache: str = "120 / 72",
    fused: str = "120 / 116",
    both: str = "120 / 44",
) -> str:
    return (
        f'factors = {{"sixteen bits": {bits}, "cached images": {cache}, '
        f'"fused optimiser": {fused}, "the first two": {both}}}'
    )


_RIGHT = "valid[n] / total"
_ALL_PIXELS = "sum(t.numel() for _, t in batches)"
_IMAGES = "len(images) / sum(len(i) for i, _ in batches)"

WRONG: dict[str, list[tuple[str, str]]] = {
    "formats": [
        (_guess(large="70000"), "float16 ends at 65504"),
        (_guess(large="65504"), "A cast does not stop there"),
        (_guess(large="65535"), "unsigned integer of 16 bits"),
        (_guess(large="65536"), "five bits of exponent no longer reach"),
        (_guess(large="4464"), "integers wrap round"),
        (_guess(large='float("nan")'), "nan comes of 0/0"),
        (_guess(large="70016"), "no finite number above 65504"),
        (_guess(odd="2049"), "11 significant bits count every integer up to 2048"),
        (_guess(odd="2050"), "2050 lies as far above as 2048 below"),
        (_guess(odd="2000"), "no digits of the decimal system"),
        (_guess(odd='float("inf")'), "the range ends at 65504. What runs out here"),
        (_guess(odd="2051"), "is not even in the format"),
        (_guess(brain="257"), "8 significant bits count every integer up to 256"),
        (_guess(brain="258"), "258 lies as far above as 256 below"),
        (_guess(brain="255"), "where integers of 8 bits end"),
        (_guess(brain="np.inf"), "its range. What runs out here"),
        (_guess(brain="260"), "the step is 2, not 4"),
        (_guess(brain="264"), "The nearer one is stored"),
        (_guess(tiny="1e-8"), "six times as large"),
        (_guess(tiny="2 ** -24"), "1e-8 is nearer to 0"),
        (_guess(tiny="6.1e-5"), "the smallest normal number. Below it there are subnormal"),
        (_guess(tiny='float("inf")'), "infinity is what lies beyond the largest number"),
        (_guess(range_="0"), "it begins at about 1e-38"),
        (_guess(range_="6e-8"), "the smallest number of float16. bfloat16 has float32's"),
        (_guess(range_="6.1e-5"), "the smallest normal number of float16. bfloat16"),
        (_guess(one="1.001"), "the step of bfloat16 is 2^-7"),
        (_guess(one="1 + 2 ** -10"), "that is what float16 makes of it"),
        (_guess(one="1.0078125"), "that is the next number above 1"),
        (_guess(one="0.001"), "0.001 alone would be stored well"),
        (_guess(one="'one'"), "expected a number for 'bfloat16(1 + 0.001)'"),
        ("guess = [0, 1]", "expected a dict with the keys"),
    ],
    "underflow": [
        (_lost(unscaled='{"up", "norm", "bridge", "block", "stem"}'), "takes 6.1e-5 as the limit"),
        (_lost(unscaled='{"norm", "bridge", "block", "stem"}'), "takes 2^-24 = 5.96e-8 as"),
        (_lost(unscaled='{"block", "stem"}'), "the limit is not 1e-8"),
        (_lost(unscaled='{"head", "up", "norm"}'), "that is what survives"),
        (_lost(unscaled="set()"), "so it is in bfloat16"),
        (_lost(unscaled="list(ex.gradients())"), "that is all of them"),
        (_lost(unscaled='{"norm", "block", "stem"}'), "bridge becomes 0, and you leave it out"),
        (_lost(unscaled='{"up", "bridge", "block", "stem"}'), "up does not, 3e-05"),
        (_lost(scaled='{"norm", "bridge", "block", "stem"}'), "'scaled by 1024': ['block', "),
        (_lost(scaled='{"block", "stem"}'), "But a cast rounds to the nearer"),
        (_lost(scaled='{"bridge", "block", "stem"}'), "those are the same as without scaling"),
        (_lost(scaled='{"up", "norm", "bridge", "block", "stem"}'), "divides by the scale"),
        (_lost(scaled="set()"), "'scaled by 1024': [] is not it: nothing, you say"),
        (_lost(overflow="set()"), "but one does overflow"),
        (_lost(overflow="set(ex.gradients())"), "that all overflow: the scale itself"),
        (_lost(overflow='{"head", "up"}'), "those are the products above 1"),
        (_lost(overflow='{"up", "norm", "bridge", "block", "stem"}'), "what does not overflow"),
        (_lost(overflow='{"stem"}'), "head overflows, and you leave it out"),
        (_lost(overflow='{"foot"}'), "there is no gradient named 'foot'"),
        (_lost(overflow='"head"'), "expected a set of names"),
        ('vanishes = {"bridge"}', "expected a dict with the keys"),
    ],
    "scaler": [
        (_step(overflow="return scale / 2, good, False"), "begins again at 0"),
        (_step(full="good > growth_interval"), "doubles one step late"),
        (_step(full="good >= growth_interval - 1"), "doubles one step early"),
        (_step(overflow="return scale / 2, 0, True"), "the weights would be inf or NaN"),
        (
            _step(
                "return scale / 2, 0, True",
                grown="return scale * 2, 0, False",
                end="return scale, good, False",
            ),
            "taken is the wrong way round",
        ),
        (
            _step(full="good >= growth_interval", grown="return scale * 2, good, True"),
            "doubles again at the very next step",
        ),
        (_step(grown="return scale * 2, good, True"), "never is growth_interval again"),
        (
            _step(full="good % growth_interval == 0", grown="return scale * 2, good, True"),
            "the scale is right, but the count",
        ),
        (_step(grown="return scale + 2, 0, True"), "2 is added"),
        (_step(grown="return scale ** 2, 0, True"), "the scale is squared"),
        (_step(overflow="return scale, 0, False"), "the scale stays where the overflow was"),
        (_step(overflow="return scale * 2, 0, False"), "an overflow doubles the scale"),
        (_step(overflow="return max(1, scale / 2), 0, False"), "the scale stops at 1"),
        (_step(overflow="return scale // 2, 0, False"), "half of 1 would be 0"),
        (_step(overflow="return 1, 0, False"), "falls to 1 at once"),
        (_step(overflow="return scale - 2, 0, False"), "2 is taken off"),
        (
            _step("return scale * 2, 0, False", grown="return scale / 2, 0, True"),
            "growing and falling are exchanged",
        ),
        (_step(full="good == 2000"), "the scale never grows"),
        (
            _step(overflow="return scale / 2, good + 1, False"),
            "what becomes of good at an overflow?",
        ),
        (_step(count="pass"), "the count never rises"),
        (_step(grown="return scale * 2, 0, False"), "is taken like any other"),
        (_step(grown="return scale * 3, 0, True"), "what becomes of scale at a good step?"),
        (_step(end="return scale, good"), "expected three values"),
        (_step(end="return True, scale, good"), "is the order (scale, good, taken)?"),
        (_step(end="pass"), "is the `return` missing"),
        (_step(count="good += one"), "step raised NameError"),
        (_step(end="return 'big', good, True"), "expected a number for the scale"),
    ],
    "half_loss": [
        (_dice(), "still adds up in float16, which ends at 65504"),
        (_dice(eps="1e-4"), "eps is mended, the sums are not"),
        (
            _dice(eps="1e-4", end="(1 - 2 * inside / (whole + eps)).float()"),
            "you cast after the sum",
        ),
        (
            _dice(inside="(p * g).sum().float()", whole="p.sum().float() + g.sum().float()"),
            "the sum was infinite when you cast it",
        ),
        (_dice(end="(1 - 2 * inside / (whole + eps)).float()"), "NaN stays NaN in float32"),
        (
            _dice(
                whole="(p.sum() + g.sum()).clamp(max=65504)",
                eps="1e-4",
                inside="(p * g).sum().clamp(max=20000)",
            ),
            "hides it; the sum is gone",
        ),
        (_dice(inside="(p * g).mean()", whole="p.mean() + g.mean()"), "0 / 0 is NaN"),
        (
            _dice(inside="(p * g).mean()", whole="p.mean() + g.mean()", eps="1e-4"),
            "to float32, before softmax",
        ),
        (
            _dice(
                start="dtype, logits = logits.dtype, logits.float()",
                end="(1 - 2 * inside / (whole + eps)).to(dtype)",
            ),
            "but of float16 logits the loss is float16",
        ),
        (
            _dice(
                start="logits = logits.bfloat16()", end="(1 - 2 * inside / (whole + eps)).float()"
            ),
            "the range suffices, the digits do not",
        ),
        (
            _dice(start="logits = logits.float() if logits.dtype == torch.float16 else logits"),
            "in bfloat16, found",
        ),
        (
            _dice("logits.float().softmax(1)[:, 1]", valid="torch.ones_like(target)"),
            "void pixels count in it",
        ),
        (_dice("logits.float().softmax(1)[:, 1]", eps="1.0"), "an eps of 1 is large"),
        (
            _dice("logits.float().softmax(1)[:, 1]", end="2 * inside / (whole + eps)"),
            "that is the Dice index",
        ),
        (
            _dice("logits.float().softmax(1)[:, 1]", end="1 - inside / (whole + eps)"),
            "the mend has changed the loss itself",
        ),
        (_dice("logits.float().softmax(1)[:, 1]", eps="0.0"), "An eps belongs to the divisor"),
        (_dice("logits.detach().float().softmax(1)[:, 1]"), "the loss has no gradient"),
        (
            _dice(
                inside="(p * g).sum(dtype=torch.float32)",
                whole="p.sum(dtype=torch.float32) + g.sum(dtype=torch.float32)",
            ),
            "to float32, before softmax",
        ),
        (_dice("(logits.data.float() + 0 * logits).softmax(1)[:, 1]"), "is 0 everywhere"),
        (
            _dice("logits.float().softmax(1)[:, 1]", end="1 - 2 * inside / (whole + eps), 1"),
            "expected one number: a tensor without",
        ),
        (
            _dice(
                "logits.float().softmax(1)[:, 1]",
                end="(1 - 2 * inside / (whole + eps), target.masked_fill_(target == 255, 0))[0]",
            ),
            "the target is another one afterwards",
        ),
        (_dice("logits.float().softmax(4)"), "dice raised IndexError"),
        (_dice(end="None"), "is the `return` missing"),
        (
            _dice(
                "logits.float().softmax(1)[:, 1]",
                inside="(p * g).sum((1, 2))",
                whole="p.sum((1, 2)) + g.sum((1, 2))",
                end="(1 - 2 * inside / (whole + eps)).mean()",
            ),
            "that is the mean of each image's loss",
        ),
        (
            _dice("logits[:1].float().softmax(1)[:, 1]", start="target = target[:1]"),
            "only the first image of the batch counts",
        ),
        (
            _dice("logits.float().softmax(1)[:, 1]", end="(1 - 2 * inside / (whole + eps))[None]"),
            "a tensor without dimensions",
        ),
        (_dice("logits.double().softmax(1)[:, 1]"), "float64, expected float32"),
    ],
    "loops": [
        (_faults(A="scale"), "backward runs on what scaler.scale(value) returns"),
        (_faults(A="step"), "scaler.step(optimizer) is there"),
        (_faults(A="inside"), "only the forward pass and the loss stand inside"),
        (_faults(B="clip"), "clipped where unscale_ has taken the scale out"),
        (_faults(B="zero"), "so zero_grad belongs at the top"),
        (_faults(C="clip"), "nothing is clipped in it"),
        (_faults(C="step"), "With a scale of 1".lower()),
        (_faults(D="new"), "the scaler comes from outside"),
        (_faults(D="skip"), "whatever the first three of each four batches hold"),
        (_faults(E="step"), "if all overflow, no weight ever moves"),
        (_faults(E="schedule"), "there is no schedule in it"),
        (_faults(A="zero", B="zero", C="zero", E="zero"), "1 of 5 are right"),
        (_faults(A="clipping"), "for A expected one of scale, clip"),
        ('faults = {"A": "clip"}', "expected a dict with the keys"),
    ],
    "accumulate": [
        (_sum("1"), "divides by nothing"),
        (_sum("1 / len(batches)"), "that is the mean of the means"),
        (_sum("(valid[n] > 0) / sum(v > 0 for v in valid)"), "the batches that are not all void"),
        (_sum(_IMAGES), "weighs a batch by its images"),
        (_sum(f"valid[n] / {_ALL_PIXELS}"), "you divide by all pixels"),
        (_sum("valid[n]"), "forgets to divide by the number of all valid"),
        (_sum("valid[n] / max(1, seen)"), "seen so far"),
        (_sum("valid[n] / (n * total)"), "the gradient is not finite"),
        (_sum("int(valid[n]) / int(seen)"), "its share is 0, without a division"),
        (_sum("1 / max(1, valid[n])"), "loss is a mean already"),
        (_sum("1 / total"), "it first has to become a sum again"),
        (_sum(f"(target == 255).sum() / ({_ALL_PIXELS} - total)"), "by its void pixels"),
        (_sum("valid[n] / target.numel()"), "the share of its own pixels"),
        (
            _sum("valid[n] / target.numel() / sum((t != 255).float().mean() for _, t in batches)"),
            "the shares add up to 1",
        ),
        (_sum(f"{_RIGHT} / len(batches)"), "divided once more by the number of batches"),
        (_sum(_RIGHT, inside="model.zero_grad()"), "only the last batch is left"),
        (_sum(_RIGHT, inside="if n: break"), "only the first batch has a gradient"),
        (_sum(f"-{_RIGHT}"), "the wrong sign"),
        (_sum(f"3 * {_RIGHT}"), "the direction is right"),
        (
            _sum(_RIGHT, after="torch.optim.SGD(model.parameters(), lr=0.1).step()"),
            "the weights have moved",
        ),
        (_sum(_RIGHT, before="pass", after="model.zero_grad()"), "no parameter has a gradient"),
        (_sum(_RIGHT, inside="target[target == 255] = 0"), "the batches are not what they were"),
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
            "    for images, target in batches:\n        total = total + loss(model(images), target)\n"
            "        (total / 3).backward()",
            "forward comes anew each time",
        ),
        (
            "def accumulate(model, loss, batches):\n"
            "    for images, target in batches:\n"
            "        torch.tensor(loss(model(images), target).item()).backward()",
            "has no graph: multiply the tensor",
        ),
        (
            "def accumulate(model, loss, batches):\n    model.backward()",
            "accumulate raised AttributeError",
        ),
        (_sum("torch.rand(())"), "what may the divisor not know"),
        (
            "def accumulate(model, loss, batches):\n"
            "    total = sum((target != 255).sum() for _, target in batches)\n"
            "    for images, target in batches:\n"
            "        (F.cross_entropy(model(images), target, ignore_index=255, reduction='sum')\n"
            "         / total).backward()",
            "it is that of cross-entropy",
        ),
    ],
    "speedup": [
        (_factors(bits="2"), "what the part gains for itself"),
        (_factors(bits="92"), "milliseconds that are left"),
        (_factors(bits="28"), "milliseconds that are saved"),
        (_factors(bits="92 / 120"), "the factor is its inverse"),
        (_factors(bits="28 / 120"), "share of the time that is saved"),
        (_factors(bits="23.3"), "the time saved in per cent"),
        (_factors(bits="30.4"), "the gain in per cent"),
        (_factors(bits="0.304"), "that is the gain; asked is the factor"),
        (_factors(cache="1.5"), "too little"),
        (_factors(cache="1.9"), "too much"),
        (_factors(fused="1"), "4 ms are little"),
        (_factors(fused='float("inf")'), "does not make the step infinitely fast"),
        (_factors(both="120 / 92 * 120 / 72"), "do not multiply"),
        (_factors(both="120 / 92 + 120 / 72"), "do not add up"),
        ("factors = [1.3, 1.8, 1.03, 3.2]", "expected a dict with the keys"),
        (_factors(bits='"a third"'), "expected a number"),
    ],
}
