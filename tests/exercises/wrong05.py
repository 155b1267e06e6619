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
from seglib.models.deeplab import valid_taps

taps = ex.taps.answer
"""


def _taps(end: str, rows: str = "1 + 2 * max(0, height - rate) / height", first: str = "") -> str:
    body = f"rows, columns = {rows}, {rows.replace('height', 'width')}"
    return f"def taps(height, width, rate):\n    {first}{body}\n    return {end}"


def _map(end: str = "found.mean()", kernel: str = "*[[1, 1, 1]] * 3") -> str:
    return (
        "def taps(height, width, rate):\n    ones = torch.ones(1, 1, height, width)\n"
        f"    kernel = torch.tensor([[[{kernel}]]]).float()\n"
        "    found = F.conv2d(ones, kernel, padding=rate, dilation=rate)[0, 0]\n"
        f"    return {end}"
    )


def _rates(end: str = "2, 3, largest", passes: str = "taps(h, w, rate) >= 3", up: str = "-") -> str:
    return (
        "def rates(height, width, output_stride):\n"
        f"    h, w = {up}({up}height // output_stride), {up}({up}width // output_stride)\n"
        f"    largest = max(rate for rate in range(1, max(h, w)) if {passes})\n    return {end}"
    )


def _head(*body: str, end: str = "model") -> str:
    lines = "\n    ".join(("c = model.decoder[-1].in_channels", *body, f"return {end}"))
    return f"def replace_head(model, num_classes):\n    {lines}"


_PUT = "model.decoder[-1] = nn.Conv2d(c, num_classes, 1)"
_DEEPLAB = "create_model('deeplabv3plus', num_classes, backbone='mobilenet_v3_small')"


def _freeze(*body: str, start: str = "module.requires_grad_(False)") -> str:
    return "def freeze(module):\n    " + "\n    ".join((start, *body))


_STAY = "part.train = lambda mode=True, part=part: part"
_EACH = ("for part in module.modules():", "    part.eval()", f"    {_STAY}")
_FORWARD = (*_EACH, "old = module.forward")
_REST = ("        part.eval()", f"        {_STAY}")
_NORMS = ("for part in module.modules():", "    if isinstance(part, nn.BatchNorm2d):")

WRONG: dict[str, list[tuple[str, str]]] = {
    "field": [
        ("guess = {**ex.FIELD, 'rates 1, 1, 1': 9}", "adds the kernels, 3 + 3 + 3"),
        ("guess = {**ex.FIELD, 'rates 1, 2, 4': 12}", "start with 1, the pixel itself"),
        ("guess = [7, 15, 15]", "expected a dict with the keys"),
    ],
    "taps": [
        (_map(kernel="[0, 1, 0], [1, 1, 1], [0, 1, 0]"), "cross of five"),
        (_map(kernel="[1, 1, 1], [1, 0, 1], [1, 1, 1]"), "forgets the middle tap"),
        (_taps("rows * columns", "2 * max(0, height - rate) / height"), "middle row and column"),
        (_taps("rows ** 2", first="height = min(height, width); "), "shorter side"),
        (_map("found"), "number for the mean"),
        (_taps("rows * columns / 2"), "begin with the tap"),
    ],
    "rates": [
        ("def rates(h, w, output_stride):\n    return [2, 4, 8]", "must follow its size"),
        (_rates(up="+"), "rounded down"),
        (_rates("2, 3, h"), "keep the last one that passes"),
        (_rates("0, largest // 2, largest"), "rate 0 is none"),
        (_rates("largest // 2, largest // 2, largest"), "two branches of one rate"),
        (_rates("np.array([largest, 2, 1])"), "put the smallest first"),
        (_rates("torch.linspace(1, largest, 3)"), "// divides ints"),
        (_rates("largest"), "expected three rates"),
    ],
    "replace_head": [
        (_head("model.decoder[-1].out_channels = num_classes"), "out_channels is a note"),
        (_head("model.num_classes = num_classes"), "model.num_classes is a note"),
        (_head(end=_DEEPLAB), "so are all other weights"),
        (_head("model.decoder[-1] = nn.Conv2d(128, num_classes, 1)"), "read in_channels from"),
        (_head("model.decoder[-1] = nn.LazyConv2d(num_classes, 1)"), "a lazy layer has no weights"),
        (_head("model.decoder.append(nn.Conv2d(11, num_classes, 1))"), "one more layer"),
        (_head(end="nn.Sequential(model, nn.Conv2d(11, num_classes, 1))"), "module around the net"),
        (_head("model.aspp.project[0] = nn.Conv2d(64, num_classes, 1)"), "aspp.project.0.weight"),
        (_head("model.decoder = nn.Conv2d(c, num_classes, 1)"), "model.decoder is new as a whole"),
        (_head("model.decoder[-1] = nn.Conv2d(c, num_classes, 3)"), "expected 1×1"),
        (_head("model.decoder[-1] = nn.Conv2d(c, num_classes, 1, bias=False)"), "has no bias"),
        (_head("model.decoder[-1] = nn.Linear(c, num_classes)"), "expected an nn.Conv2d"),
        (_head("model.requires_grad_(False)", _PUT), "no longer require gradients"),
        (_head(_PUT, "model(torch.randn(2, 3, 64, 96))"), "in training mode"),
        (_head("model = deepcopy(model)", _PUT), "a copy has the right layer"),
        (_head(_PUT, end="model.decoder[-1]"), "expected the network"),
        (_head("model.decoder[-1] = nn.Conv2d(c, num_classes + 1, 1)"), "4 outputs for 3 classes"),
    ],
    "freeze": [
        (_freeze("module.eval()"), "eval() was undone"),
        (_freeze("pass"), "running statistics are buffers"),
        (_freeze(*_EACH, start="pass"), "requires_grad_(False) leaves them without"),
        (_freeze("for part in module:", _NORMS[1], *_REST), "children() goes down one level"),
        (_freeze(*_EACH, start="for part in module[:4]: part.requires_grad_(False)"), "4.0.weight"),
        (_freeze("module[4].eval()", "module[4].train = lambda mode: 0"), "own BatchNorm is awake"),
        (_freeze(*_NORMS, *_REST), "its dropout is still on"),
        (_freeze(*_NORMS, "        part.momentum = 0.0"), "momentum 0 keeps the running mean"),
        (_freeze(*_NORMS, "        part.track_running_stats = False"), "whatever track_running"),
        (_freeze(*_NORMS, "        part.running_mean = part.running_var = None"), "a checkpoint"),
        (_freeze(*_FORWARD, "module.forward = torch.no_grad()(old)"), "got no gradient"),
        (_freeze("torch.set_grad_enabled(False)", *_EACH), "gradients are off everywhere"),
        (_freeze("module.train = lambda: 1"), "train(mode=True)"),
        (_freeze("module.eval()", "module.train = lambda mode=True: module.eval()"), "never ends"),
        (_freeze("type(module).train = lambda self, mode=True: self"), "has changed the class"),
        (_freeze("return frozen", start="frozen = deepcopy(module).eval()"), "block is as it was"),
        (_freeze(*_EACH, "module[0].weight.data.zero_()"), "leave the values alone"),
        (_freeze(*_FORWARD, "module.forward = lambda x: 2 * old(x)"), "changed what it computes"),
        (_freeze(*_EACH, "assert not hasattr(module, 'f')", "module.f = True"), "a second time"),
    ],
    "choose": [
        ("choice = {**ex.CHOICE, 'by night': 'h'}", "another arm is better by 0.014"),
        ("choice = {**ex.CHOICE, 'by night and by day': 'N '}", "trains fewer weights"),
        ("choice = {**ex.CHOICE, 'slices': None}", "expected one of ?, a, s"),
        ("choice = {'by night': 'a'}", "expected a dict with the keys"),
    ],
}
