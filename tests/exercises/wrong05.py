"""Wrong answers to the exercises of lesson 5, beside those that their judges' tables imply."""

from answers import code

PRELUDE = """
from copy import deepcopy
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from seglib.exercises import lesson05 as ex
from seglib.models import create_model
from seglib.models.deeplab import valid_taps
"""


def _rate(end="largest", up="-"):
    return code(
        "def largest_rate(height, width, output_stride):",
        f"h, w = {up}({up}height // output_stride), {up}({up}width // output_stride)",
        "largest = max(rate for rate in range(1, max(h, w)) if valid_taps(h, w, rate) >= 3)",
        f"return {end}",
    )


def _head(*body, end="model"):
    head = "def replace_last_layer(model, num_classes):"
    return code(head, "c = model.decoder[-1].in_channels", *body, f"return {end}")


_PUT = "model.decoder[-1] = nn.Conv2d(c, num_classes, 1)"
_DEEPLAB = "create_model('deeplabv3plus', num_classes, backbone='mobilenet_v3_small')"


def _freeze(*body, start="module.requires_grad_(False)"):
    return code("def freeze(module):", start, *body)


_STAY = "part.train = lambda mode=True, part=part: part"
_EACH = ("for part in module.modules():", "    part.eval()", f"    {_STAY}")
_FORWARD = (*_EACH, "old = module.forward")
_REST = ("        part.eval()", f"        {_STAY}")
_NORMS = ("for part in module.modules():", "    if isinstance(part, nn.BatchNorm2d):")

WRONG = {
    "field": {
        "adds the kernels, 3 + 3 + 3": "guess = {**ex.FIELD, 'rates 1, 1, 1': 9}",
        "start with 1, the pixel itself": "guess = {**ex.FIELD, 'rates 1, 2, 4': 12}",
    },
    "largest_rate": {
        "rounded down": _rate(up="+"),
        "keep the last one with 3": _rate("h"),
        "first rate that keeps too few": _rate("largest + 1"),
        "same for every map": _rate("6"),
        "expected a number": _rate("(1, 2, largest)"),
        "expected a number from 1": _rate("largest - 20"),
    },
    "replace_last_layer": {
        "out_channels is a note": _head("model.decoder[-1].out_channels = num_classes"),
        "model.num_classes is a note": _head("model.num_classes = num_classes"),
        "so are all other weights": _head(end=_DEEPLAB),
        "read in_channels from": _head("model.decoder[-1] = nn.Conv2d(128, num_classes, 1)"),
        "a lazy layer has no weights": _head("model.decoder[-1] = nn.LazyConv2d(num_classes, 1)"),
        "one more layer": _head("model.decoder.append(nn.Conv2d(11, num_classes, 1))"),
        "module around the net": _head(end="nn.Sequential(model, nn.Conv2d(11, num_classes, 1))"),
        "aspp.project.0.weight": _head("model.aspp.project[0] = nn.Conv2d(64, num_classes, 1)"),
        "model.decoder is new as a whole": _head("model.decoder = nn.Conv2d(c, num_classes, 1)"),
        "expected 1×1": _head("model.decoder[-1] = nn.Conv2d(c, num_classes, 3)"),
        "has no bias": _head("model.decoder[-1] = nn.Conv2d(c, num_classes, 1, bias=False)"),
        "expected an nn.Conv2d": _head("model.decoder[-1] = nn.Linear(c, num_classes)"),
        "no longer require gradients": _head("model.requires_grad_(False)", _PUT),
        "in training mode": _head(_PUT, "model(torch.randn(2, 3, 64, 96))"),
        "a copy has the right layer": _head("model = deepcopy(model)", _PUT),
        "expected the network": _head(_PUT, end="model.decoder[-1]"),
        "4 outputs for 3 classes": _head("model.decoder[-1] = nn.Conv2d(c, num_classes + 1, 1)"),
    },
    "freeze": {
        "eval() was undone": _freeze("module.eval()"),
        "running statistics are buffers": _freeze("pass"),
        "requires_grad_(False) leaves them without": _freeze(*_EACH, start="pass"),
        "children() goes down one level": _freeze("for part in module:", _NORMS[1], *_REST),
        "4.0.weight": _freeze(*_EACH, start="for part in module[:4]: part.requires_grad_(False)"),
        "own BatchNorm is in training mode": _freeze(
            "module[4].eval()", "module[4].train = lambda mode: 0"
        ),
        "its dropout is still on": _freeze(*_NORMS, *_REST),
        "momentum 0 keeps the running mean": _freeze(*_NORMS, "        part.momentum = 0.0"),
        "whatever track_running": _freeze(*_NORMS, "        part.track_running_stats = False"),
        "a checkpoint": _freeze(*_NORMS, "        part.running_mean = part.running_var = None"),
        "got no gradient": _freeze(*_FORWARD, "module.forward = torch.no_grad()(old)"),
        "gradients are off everywhere": _freeze("torch.set_grad_enabled(False)", *_EACH),
        "train(mode=True)": _freeze("module.train = lambda: 1"),
        "never ends": _freeze("module.eval()", "module.train = lambda mode=True: module.eval()"),
        "has changed the class": _freeze("type(module).train = lambda self, mode=True: self"),
        "block is as it was": _freeze("return frozen", start="frozen = deepcopy(module).eval()"),
        "leave the values alone": _freeze(*_EACH, "module[0].weight.data.zero_()"),
        "changed what it computes": _freeze(*_FORWARD, "module.forward = lambda x: 2 * old(x)"),
        "a second time": _freeze(*_EACH, "assert not hasattr(module, 'f')", "module.f = True"),
    },
    "choose": {
        "contains zero": "choice = {**ex.CHOICE, '367 frames': 'I '}",
        "lies above zero": "choice = {**ex.CHOICE, '20 frames': '?'}",
        "adds": "choice = {**ex.CHOICE, 'on top': 'n'}",
    },
}
