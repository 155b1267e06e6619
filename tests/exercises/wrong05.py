"""Typical wrong answers to lesson 5: (what a reader would type, a fragment of what they hear)."""

from __future__ import annotations

PRELUDE = """
from copy import deepcopy
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from seglib.exercises import lesson05 as ex
from seglib.models import create_model

taps = ex.taps.answer
"""


def _guess(first: object, second: object, third: object) -> str:
    return (
        f'guess = {{"rates 1, 1, 1": {first}, "rates 1, 2, 4": {second}, '
        f'"stride 2, then rates 1, 2": {third}}}'
    )


def _taps(rows: str, columns: str = "", end: str = "rows * columns") -> str:
    columns = columns or rows.replace("height", "width")
    return (
        f"def taps(height, width, rate):\n    rows = {rows}\n    columns = {columns}\n"
        f"    return {end}"
    )


_ROWS = "1 + 2 * max(0, height - rate) / height"
_MAP = (
    "def taps(height, width, rate):\n    ones = torch.ones(1, 1, height, width)\n"
    "    found = F.conv2d(ones, torch.ones(1, 1, 3, 3), padding={padding}, dilation={rate})\n"
    "    return {end}"
)

_CEIL = "h, w = -(-height // output_stride), -(-width // output_stride)"
_THREE = "largest // 3, 2 * largest // 3, largest"


def _rates(size: str = _CEIL, passes: str = "taps(h, w, rate) >= 3", end: str = _THREE) -> str:
    return (
        f"def rates(height, width, output_stride):\n    {size}\n"
        f"    largest = max(rate for rate in range(1, max(h, w)) if {passes})\n"
        f"    return {end}"
    )


def _head(*body: str, end: str = "model") -> str:
    lines = "\n    ".join((*body, f"return {end}"))
    return f"def replace_head(model, num_classes):\n    {lines}"


_NEW = "new = nn.Conv2d(model.decoder[-1].in_channels, num_classes, 1)"
_PUT = "model.decoder[-1] = new"


def _freeze(*body: str, start: str = "module.requires_grad_(False)") -> str:
    return "def freeze(module):\n    " + "\n    ".join((start, *body))


_STAY = "part.train = lambda mode=True, part=part: part"
_EACH = ("for part in module.modules():", "    part.eval()", f"    {_STAY}")


def _choice(night: str, both: str, slices: str) -> str:
    return (
        f'choice = {{"by night": "{night}", "by night and by day": "{both}", "slices": "{slices}"}}'
    )


WRONG: dict[str, list[tuple[str, str]]] = {
    "field": [
        (_guess(9, 15, 15), "adds the kernels, 3 + 3 + 3"),
        (_guess(27, 15, 15), "multiplies the kernels"),
        (_guess(3, 15, 15), "how far the field reaches to one side"),
        (_guess(5, 15, 15), "leaves out the last layer"),
        (_guess(6, 15, 15), "the centre pixel itself counts"),
        (_guess(49, 15, 15), "that is the area"),
        (_guess(7, 7, 15), "the field with all rates 1"),
        (_guess(7, 21, 15), "adds 3 · rate for each layer"),
        (_guess(7, 13, 15), "leaves out the first layer"),
        (_guess(7, 17, 15), "adds the layers' own widths, 3 + 5 + 9"),
        (_guess(7, 135, 15), "multiplies the layers' own widths"),
        (_guess(7, 23, 15), "as if they were strides"),
        (_guess(7, 15, 9), "that forgets the stride"),
        (_guess(7, 15, 17), "counts the stride for its own layer"),
        (_guess(7, 15, 14), "that doubles what the later layers see"),
        (_guess(7, 15, 5), "the last layer alone, on its own input"),
        (_guess(7, 15, 12), "start with 1, the pixel itself"),
        (_guess("'seven'", 15, 15), "expected a number for the field of"),
        (_guess(-7, 15, 15), "expected a number from 1"),
        ("guess = [7, 15, 15]", "expected a dict with the keys"),
    ],
    "taps": [
        (_MAP.format(padding="rate", rate="rate", end="9"), "counts the zeros of the padding"),
        (_taps(_ROWS, end="rows * columns / 9"), "that is the share"),
        (_MAP.format(padding="rate", rate="rate", end="found.sum().item()"), "that is the total"),
        (_MAP.format(padding=1, rate=1, end="found.mean()"), "that is the number at rate 1"),
        (
            _MAP.format(padding="rate", rate="rate", end="found[0, 0, height // 2, width // 2]"),
            "at the centre of the map",
        ),
        (_MAP.format(padding="rate", rate="rate", end="found.min()"), "the worst position"),
        (_MAP.format(padding="rate", rate="rate", end="found[0, 0, 0, 0]"), "in the corner"),
        (_MAP.format(padding="rate", rate="rate", end="found"), "expected one number: the mean"),
        (_MAP.format(padding="0", rate="rate", end="found.mean()"), "taps raised RuntimeError"),
        (_taps("1 + 2 * (height - rate) / height"), "and not fewer. max(0, …)"),
        (_taps(_ROWS, end="rows"), "counts rows alone, out of 3"),
        (_taps(_ROWS, end="columns"), "counts columns alone, out of 3"),
        (_taps(_ROWS, "3"), "loses taps above and below only"),
        (_taps("3", _ROWS.replace("height", "width")), "loses taps at the left and the right only"),
        (_taps(_ROWS, _ROWS), "knows the height alone"),
        (_taps(_ROWS, end="columns ** 2"), "knows the width alone"),
        (_taps(_ROWS, end="rows + columns"), "adds rows and columns"),
        (
            _MAP.format(padding="rate", rate="rate", end="round(found.mean().item(), 1)"),
            "rounded to one decimal",
        ),
        (
            _taps("1 + max(0, height - rate) / height + max(0, height - rate + 1) / height"),
            "are outside already",
        ),
        (_taps("3 * max(0, height - 2 * rate) / height"), "only positions where all nine"),
        (_taps("3 * max(0, height - rate) / height"), "loses the centre with the others"),
        (_taps("1 + 2 * max(0, height - 2 * rate) / height"), "in r rows at its own side"),
        (_taps("1 + max(0, height - rate) / height"), "one outer row and one outer column"),
        (_taps(_ROWS, end="round(rows * columns)"), "rounded to a whole number"),
        (_taps(_ROWS, end="int(rows * columns)"), "cut to a whole number"),
        (_taps(_ROWS, end="-rows * columns"), "from 1 to 9 taps inside"),
        (_taps("1 + 2 * max(0, height - rate - 1) / height"), "begin with the tap above"),
        (_taps(_ROWS, end="None"), "is the `return` missing"),
        (_taps(_ROWS, end="'many'"), "expected a number for the mean number of taps"),
        (_taps(_ROWS, end="float('nan')"), "found nan"),
    ],
    "rates": [
        ("def rates(height, width, output_stride):\n    return 6, 12, 18", "the paper's rates"),
        (
            "def rates(height, width, output_stride):\n"
            "    return (6, 12, 18) if output_stride == 16 else (12, 24, 36)",
            "with twice of them",
        ),
        ("def rates(height, width, output_stride):\n    return 1, 2, 4", "must follow its size"),
        (_rates("h, w = height, width"), "the largest rate on the image"),
        (_rates("h, w = height // output_stride, width // output_stride"), "rounded down"),
        (_rates("h, w = -(-height // 16), -(-width // 16)"), "right at output stride 16"),
        (_rates("h, w = -(-height // 8), -(-width // 8)"), "right at output stride 8"),
        (_rates(passes="taps(h, w, rate) >= 2"), "keeps two taps"),
        (_rates(passes="taps(h, h, rate) >= 3"), "a square map as high as"),
        (_rates(passes="taps(w, w, rate) >= 3"), "a square map as wide as"),
        (_rates(end="largest // 3, largest // 2, largest + 1"), "first rate that keeps too few"),
        (_rates(passes="taps(h, w, rate) >= 4"), "Yours is too careful"),
        (_rates(end="2, 3, h"), "keep the last one that passes"),
        (_rates(end="0, largest // 2, largest"), "Rate 0 is none"),
        (_rates(end="largest // 2, largest // 2, largest"), "two branches of one rate"),
        (_rates(end="largest, 2 * largest // 3, largest // 3"), "expected the smallest first"),
        (_rates(end="largest / 3, largest / 2, largest"), "// divides ints"),
        (_rates(end="largest"), "expected three rates"),
        (_rates(end="largest // 4, largest // 2, 3 * largest // 4, largest"), "a tuple (a, b, c)"),
        (_rates(end="None"), "is the `return` missing"),
        (_rates(end="taps(h, w, largest, 3)"), "rates raised TypeError"),
    ],
    "replace_head": [
        (_head("model.decoder[-1].out_channels = num_classes"), "that is a note: its weights"),
        (_head("model.num_classes = num_classes"), "model.num_classes is a note"),
        (
            _head(end="create_model('deeplabv3plus', num_classes, backbone='mobilenet_v3_small')"),
            "so are all other weights",
        ),
        (_head("model.decoder[-1] = nn.Conv2d(128, num_classes, 1)"), "read in_channels from"),
        (_head(_NEW, "model.decoder.append(nn.Conv2d(11, num_classes, 1))"), "one more layer"),
        (
            _head(end="nn.Sequential(model, nn.Conv2d(11, num_classes, 1))"),
            "a new module around the network",
        ),
        (
            _head("model.aspp.project[0] = nn.Conv2d(64, num_classes, 1)"),
            "aspp.project.0.weight is not what it was",
        ),
        (
            _head(
                "c = model.decoder[-1].in_channels",
                "model.decoder = nn.Sequential(nn.Conv2d(c + 8, c, 3, padding=1), nn.ReLU(),",
                "                              nn.Conv2d(c, num_classes, 1))",
            ),
            "of the decoder only the last layer",
        ),
        (_head("model.decoder = nn.Conv2d(24, num_classes, 1)"), "model.decoder is new as a whole"),
        (_head(_NEW, _PUT, "nn.init.zeros_(model.low[0].weight)"), "low.0.weight is not what"),
        (
            _head("model.decoder[-1] = nn.Conv2d(model.decoder[-1].in_channels, num_classes, 3)"),
            "a kernel of 3×3",
        ),
        (
            _head(
                "c = model.decoder[-1].in_channels",
                "model.decoder[-1] = nn.Conv2d(c, num_classes, 1, bias=False)",
            ),
            "has no bias",
        ),
        (_head("model.decoder[-1] = nn.Linear(16, num_classes)"), "expected an nn.Conv2d"),
        (_head("model.requires_grad_(False)", _NEW, _PUT), "no longer require gradients"),
        (_head(_NEW, _PUT, "model(torch.randn(2, 3, 64, 96))"), "in training mode"),
        (_head(_NEW, _PUT, end="new"), "returns the new layer"),
        (_head("model = deepcopy(model)", _NEW, _PUT), "a copy has the right layer"),
        (_head(_NEW, _PUT, end="model.decoder"), "expected the whole network"),
        (_head(_NEW, _PUT, end="None"), "is the `return` missing"),
        (_head(_NEW, _PUT, end="model.state_dict()"), "expected the network"),
        (
            _head("new = nn.Conv2d(model.decoder[-1].in_channels, num_classes + 1, 1)", _PUT),
            "as many outputs as there are classes",
        ),
    ],
    "freeze": [
        (_freeze("module.eval()"), "eval() was undone"),
        (_freeze("pass"), "running statistics are buffers"),
        (_freeze(*_EACH, start="pass"), "requires_grad_(False) leaves them without"),
        (
            _freeze(
                "for part in module.children():",
                "    part.train = lambda mode=True: part",
                start="for part in module: part.requires_grad_(False); part.training = False",
            ),
            "the BatchNorm in the block inside the block is awake",
        ),
        (
            _freeze(
                *_EACH,
                start="for part in module.children():\n"
                "        for p in part._parameters.values():\n"
                "            p.requires_grad_(False) if p is not None else None",
            ),
            "all of them in the block inside the block: children()",
        ),
        (
            _freeze("module[4].eval()", "module[4].train = lambda mode=True: module[4]"),
            "the block's own BatchNorm is awake",
        ),
        (
            _freeze(
                "for part in module.modules():",
                "    if isinstance(part, nn.BatchNorm2d):",
                "        part.eval()",
                f"        {_STAY}",
            ),
            "its dropout is still on",
        ),
        (
            _freeze(
                "for part in module.modules():",
                "    if isinstance(part, nn.BatchNorm2d):",
                "        part.momentum = 0.0",
            ),
            "momentum 0 keeps the running mean",
        ),
        (
            _freeze(
                "for part in module.modules():",
                "    if isinstance(part, nn.BatchNorm2d):",
                "        part.track_running_stats = False",
            ),
            "track_running_stats=False stops the counting",
        ),
        (
            _freeze(
                "for part in module.modules():",
                "    if isinstance(part, nn.BatchNorm2d):",
                "        part.running_mean = part.running_var = None",
            ),
            "any more: a checkpoint",
        ),
        (
            _freeze(
                *_EACH, "old = module.forward", "module.forward = lambda x: torch.no_grad()(old)(x)"
            ),
            "got no gradient",
        ),
        (_freeze("torch.set_grad_enabled(False)", *_EACH), "Gradients are off everywhere"),
        (
            _freeze(
                "module.eval()", "for part in module.modules():", "    part.train = lambda: part"
            ),
            "train(mode=True)",
        ),
        (
            _freeze(
                "for part in module.modules():",
                "    part.train = lambda mode=True, p=part: p.eval()",
            ),
            "a train that calls eval()",
        ),
        (
            _freeze(
                "module.eval()",
                "for part in module.modules():",
                "    type(part).train = lambda self, mode=True: self",
            ),
            "has changed the class",
        ),
        (
            _freeze(
                "frozen.requires_grad_(False)",
                "return frozen",
                start="frozen = deepcopy(module).eval()",
            ),
            "leaves the one in the net",
        ),
        (_freeze(*_EACH, "module[0].weight.data.zero_()"), "freeze itself must leave"),
        (
            _freeze(*_EACH, "old = module.forward", "module.forward = lambda x: 2 * old(x)"),
            "has changed what it computes",
        ),
        (
            _freeze(*_EACH, "old = module.forward", "module.forward = lambda x: old(x)[:, :2]"),
            "training raised RuntimeError",
        ),
        (_freeze(start="module.freeze_all()"), "freeze raised AttributeError"),
        (
            _freeze(
                *_EACH,
                "if not next(module.parameters()).requires_grad and hasattr(module, 'f'):",
                "    raise ValueError('frozen already')",
                "module.f = True",
            ),
            "a second time",
        ),
    ],
    "choose": [
        (_choice("s", "h", "a"), "800 images are few"),
        (_choice("f", "h", "a"), "five times the images make up"),
        (_choice("z", "h", "a"), "has never seen a night"),
        (_choice("a", "z", "a"), "by night and by day: zero-shot has"),
        (_choice("a", "b", "a"), "by night and by day: all weights, backbone slower"),
        (_choice("a", "h", "s"), "you chose 's'"),
        (_choice("a", "h", "?"), "you chose '?'"),
        (_choice("a", "h", "n"), "expected one of s a ?"),
        (_choice("head", "h", "a"), "expected one of z s f h a b n"),
        ("choice = {'by night': 'a'}", "expected a dict with the keys"),
    ],
}
