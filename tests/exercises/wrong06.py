"""Wrong answers to the exercises of lesson 6, beside those that their judges' tables imply."""

from answers import code

from seglib.exercises import lesson06

PRELUDE = """
import torch
from seglib.exercises import lesson06 as ex
"""


def _edited(name, *changes):
    """A solution's source after changes: old, new, old, new, …"""
    source = lesson06.LESSON.exercises[name].source()
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source
        source = source.replace(old, new)
    return source


def _dice(*changes):
    return _edited("half_loss", *changes)


def _accumulate(*lines):
    head = "def accumulate(model, loss, batches):"
    return code(head, "valid, total = [(t != 255).sum() for _, t in batches], 0", *lines)


def _sum(weight, inside="pass", after="pass", mean="loss(y, t)"):
    """A loop over batches; `weight` is the factor of each mean."""
    return _accumulate(
        "for n, (x, t) in enumerate(batches):",
        f"    {inside}",
        "    y, total = model(x), total + valid[n]",
        f"    ({mean} * ({weight})).backward()",
        f"    {after}",
    )


_STEP = "def step(scale, good, overflow, growth_interval):"
_HALF = (".float()", "")
_LOSS, _SUMS = "1 - 2 * inside / (whole + 1e-8)", "(p * g).sum(), p.sum() + g.sum()"
_LARGE_EPS = "(1 - 2 * inside / (whole + 1e-4))"
_BY_ROWS = "(p * g).sum(2).float().sum(), p.sum(2).float().sum() + g.sum(2).float().sum()"
_LIMITS = "(p * g).sum().clamp(max=20000), (p.sum() + g.sum()).clamp(max=65504)"
_DIVIDES = "for p in model.parameters(): p.grad /= max(1, total)"

WRONG = {
    "formats": {
        "1.001 is nearer to 1": "guess = {**ex.formats.answer, 'bfloat16(1 + 0.001)': 1.0078}",
        "not even in the format": "guess = {**ex.formats.answer, 'float16(2049)': 2051}",
        "The nearer one is stored": "guess = {**ex.formats.answer, 'float16(2049)': 2056}",
        "nan comes from 0/0": "guess = {**ex.formats.answer, 'float16(70000)': 'nan'}",
    },
    "scaler": {
        "doubles one step late. Count this step first": code(
            _STEP,
            "if overflow: return scale * 0.5, 0, False",
            "if good == growth_interval: scale, good = scale * 2, 0",
            "return scale, good + 1, True",
        ),
        "that doubles at the first step of a run": code(
            _STEP,
            "if not overflow and good % growth_interval == 0: scale *= 2",
            "return (scale / 2, 0, False) if overflow else (scale, good + 1, True)",
        ),
        "ends: the count begins again at 0": _edited("scaler", "2, 0, True", "2, 1, True"),
        "what happens to each at an overflow": _edited("scaler", "* 2", "* 3"),
        "expected three values": _edited("scaler", "scale, good, True", "scale, good"),
        "is the order (scale, good": _edited("scaler", "scale, good, T", "True, scale, good #"),
    },
    "half_loss": {
        "These round: a cast back": _dice("[:, 1]", "[:, 1].to(logits.dtype)", _SUMS, _BY_ROWS),
        "still adds up in float16, which ends at 65504": _dice(*_HALF),
        "you cast after the sum": _dice(*_HALF, _LOSS, f"{_LARGE_EPS}.float()"),
        "clamping hides the overflow": _dice(*_HALF, _SUMS, _LIMITS, _LOSS, _LARGE_EPS),
        "0 / 0 is NaN. The divisor": _dice(*_HALF, _SUMS, "(p * g).mean(), p.mean() + g.mean()"),
        "These round: softmax in bfloat16, sum in": _dice(".float", ".bfloat16"),
        "must come out in float32": _dice(_LOSS, f"({_LOSS}).to(logits.dtype)"),
        "the fix has changed the loss itself": _dice("1 - 2 *", "1 -"),
        "the loss has no gradient": _dice("logits.float", "logits.detach().float"),
        "is 0 everywhere": _dice("logits.float()", "(logits.data.float() + 0 * logits)"),
        "% off: in": _dice("logits.fl", "torch.cat([logits[:, :1].data, logits[:, 1:]], 1).fl"),
        "1 / whole, which overflows where nothing": _dice("1e-8", "1e-36"),
        "a tensor without dimensions": _dice(_LOSS, f"({_LOSS})[None]"),
        "the target has changed afterwards": _dice(_LOSS, f"({_LOSS}, target.zero_())[0]"),
    },
    "loops": {
        "no overflow lowers the scale": "faults = {**ex.loops.answer, 'E': 'step'}",
        "expected one of clip, inside, new,": "faults = {**ex.loops.answer, 'A': 'clipping'}",
    },
    "accumulate": {
        "divides again what earlier batches left": _sum("valid[n]", after=_DIVIDES),
        "the gradient is not finite": _sum("valid[n] / (n * sum(valid))"),
        "the share 0: that needs no division": _sum("int(valid[n]) / int(total)"),
        "that is -3 times the gradient of one large batch": _sum("-3 * valid[n] / sum(valid)"),
        "weigh a batch's mean by its share of all valid pixels": _sum("torch.rand(())"),
        "weights have moved": _sum("valid[n]", "[p.data.zero_() for p in model.parameters()]"),
        "the batches have changed": _sum("valid[n]", "t[t == 255] = 0"),
        "a number taken with .item()": _sum("valid[n]", mean="torch.tensor(loss(y, t).item())"),
        "the model saw 6 images at once": _accumulate(
            "images, target = (torch.cat(rows) for rows in zip(*batches))",
            "loss(model(images), target).backward()",
        ),
        "two batches went forward before backward": _accumulate(
            "means = [loss(model(images), target) for images, target in batches]",
            "(sum(m * v for m, v in zip(means, valid)) / sum(valid)).backward()",
        ),
        "each backward needs a new forward pass": _accumulate(
            "for x, t in batches:",
            "    total = total + loss(model(x), t)",
            "    (total / 3).backward()",
        ),
    },
}
