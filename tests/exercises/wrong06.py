"""Typical wrong answers to lesson 6: (what a reader would type, a fragment of what they hear)."""

from __future__ import annotations

from seglib.exercises import lesson06

PRELUDE = """
import torch
"""


def _with(variable: str, place: int, value: object) -> str:
    """A dict's right answer with another value at a place."""
    right = next(e for e in lesson06.LESSON.exercises.values() if e.variable == variable).answer
    return f"{variable} = {right | {list(right)[place]: value}!r}"


def _edited(name: str, *changes: str) -> str:
    """A solution's source after changes: old, new, old, new, …"""
    source = lesson06.LESSON.exercises[name].source()
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source
        source = source.replace(old, new)
    return source


def _dice(*changes: str) -> str:
    return _edited("half_loss", *changes)


def _sum(weight: str, inside: str = "pass", after: str = "pass", mean: str = "loss(y, t)") -> str:
    """A loop over batches; `weight` is the factor of each mean."""
    return (
        f"{_VALID}    seen = 0\n    for n, (x, t) in enumerate(batches):\n        {inside}\n"
        "        y, seen = model(x), seen + valid[n]\n"
        f"        ({mean} * ({weight})).backward()\n        {after}"
    )


_STEP = "def step(scale, good, overflow, growth_interval):\n"
_SUM = "def accumulate(model, loss, batches):\n"
_VALID = f"{_SUM}    valid = [(t != 255).sum() for _, t in batches]\n"
_HALF = (".float()", "")
_LOSS, _SUMS = "1 - 2 * inside / (whole + 1e-8)", "(p * g).sum(), p.sum() + g.sum()"
_LARGE_EPS = "(1 - 2 * inside / (whole + 1e-4))"
_BY_ROWS = "(p * g).sum(2).float().sum(), p.sum(2).float().sum() + g.sum(2).float().sum()"
_LIMITS = "(p * g).sum().clamp(max=20000), (p.sum() + g.sum()).clamp(max=65504)"
_DIVIDES = "for p in model.parameters(): p.grad /= max(1, seen)"

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
            f"{_STEP}    if overflow: return scale * 0.5, 0, False\n"
            "    if good == growth_interval: scale, good = scale * 2, 0\n"
            "    return scale, good + 1, True",
            "doubles one step late. Count this step first",
        ),
        (
            f"{_STEP}    if not overflow and good % growth_interval == 0: scale *= 2\n"
            "    return (scale / 2, 0, False) if overflow else (scale, good + 1, True)",
            "that doubles at the first step of a run",
        ),
        (_edited("scaler", "2, 0, True", "2, 1, True"), "ends: the count begins again at 0"),
        (_edited("scaler", "== growth_interval", "> 0"), "every good step doubles the scale"),
        (_edited("scaler", "* 2", "* 3"), "what becomes of each at an overflow"),
        (_edited("scaler", "scale, good, True", "scale, good"), "expected three values"),
        (_edited("scaler", "scale, good, T", "True, scale, good #"), "is the order (scale, good"),
        (_edited("scaler", "return scale, good, True", ""), "is the `return` missing"),
        (_edited("scaler", "scale, good, T", "'big', good, T"), "expected a number for the scale"),
    ],
    "half_loss": [
        (_dice("[:, 1]", "[:, 1].to(logits.dtype)", _SUMS, _BY_ROWS), "These round: a cast back"),
        (_dice(*_HALF), "still adds up in float16, which ends at 65504"),
        (_dice(*_HALF, _LOSS, f"{_LARGE_EPS}.float()"), "you cast after the sum"),
        (_dice(*_HALF, _SUMS, _LIMITS, _LOSS, _LARGE_EPS), "a limit hides what has overflowed"),
        (_dice(*_HALF, _SUMS, "(p * g).mean(), p.mean() + g.mean()"), "0 / 0 is NaN. An eps"),
        (_dice(".float", ".bfloat16"), "These round: softmax in bfloat16, sum in"),
        (_dice(_LOSS, f"({_LOSS}).to(logits.dtype)"), "to come out in float32"),
        (_dice("1 - 2 *", "1 -"), "the fix has changed the loss itself"),
        (_dice("logits.float", "logits.detach().float"), "the loss has no gradient"),
        (_dice("logits.float()", "(logits.data.float() + 0 * logits)"), "is 0 everywhere"),
        (_dice("logits.fl", "torch.cat([logits[:, :1].data, logits[:, 1:]], 1).fl"), "% off: in"),
        (_dice("1e-8", "1e-36"), "1 / whole, which overflows where nothing"),
        (_dice(_LOSS, f"({_LOSS})[None]"), "a tensor without dimensions"),
        (_dice(_LOSS, f"({_LOSS}, target.zero_())[0]"), "the target is another one afterwards"),
    ],
    "loops": [
        (_with("faults", 4, "step"), "no overflow lowers the scale: it can only grow"),
        (_with("faults", 0, "clipping"), "expected one of clip, inside, new,"),
        ('faults = {"A": "clip"}', "expected a dict with the keys"),
    ],
    "accumulate": [
        (_sum("valid[n]", after=_DIVIDES), "divides again what earlier batches left"),
        (_sum("valid[n] / (n * sum(valid))"), "the gradient is not finite"),
        (_sum("int(valid[n]) / int(seen)"), "the share is 0, without a division"),
        (_sum("-3 * valid[n] / sum(valid)"), "that is -3 times the gradient of one big batch"),
        (_sum("torch.rand(())"), "weigh a batch's mean by its share of all valid pixels"),
        (_sum("valid[n]", "[p.data.zero_() for p in model.parameters()]"), "weights have moved"),
        (_sum("valid[n]", "t[t == 255] = 0"), "the batches are not what they were"),
        (_sum("valid[n]", mean="torch.tensor(loss(y, t).item())"), "a number taken with .item()"),
        (
            f"{_SUM}    images, target = (torch.cat(rows) for rows in zip(*batches))\n"
            "    loss(model(images), target).backward()",
            "the model saw 6 images at once",
        ),
        (
            f"{_VALID}    means = [loss(model(images), target) for images, target in batches]\n"
            "    (sum(m * v for m, v in zip(means, valid)) / sum(valid)).backward()",
            "batches went forward before a backward",
        ),
        (
            f"{_SUM}    total = 0\n    for x, t in batches:\n"
            "        total = total + loss(model(x), t)\n        (total / 3).backward()",
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
