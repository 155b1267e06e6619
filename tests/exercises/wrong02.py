"""Typical wrong answers to lesson 2: (what a reader would type, a fragment of what they hear)."""

from __future__ import annotations

PRELUDE = """
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
import seglib.models
from seglib.models.unet import DoubleConv
"""

_UP = """
class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.conv = DoubleConv(channels, channels // 2)

    def forward(self, x, skip):
        {body}
"""


def _up(*lines: str) -> str:
    return _UP.format(body="\n        ".join(lines))


def _loop(*lines: str, before: str = "model.train()", end: str = "losses") -> str:
    body = "\n        ".join(lines)
    return (
        f"def train_steps(model, batches, loss, optimizer):\n    losses = []\n    {before}\n"
        f"    for images, target in batches:\n        {body}\n    return {end}\n"
    )


_FORWARD, _ZERO = "value = loss(model(images), target.long())", "optimizer.zero_grad()"
_BACK, _STEP, _KEEP = "value.backward()", "optimizer.step()", "losses.append(value.item())"

WRONG: dict[str, list[tuple[str, str]]] = {
    "parameters": [
        ("guess = 840", "a bias for each convolution"),
        ("guess = 792", "BatchNorm has parameters as well"),
        ("guess = 232", "the first convolution and its norm"),
        ("guess = 856", "buffers"),
        ("guess = 872", "no gradient changes"),
        ("guess = 808", "16 of the norms' parameters"),
        ("guess = 824 * 72 * 96", "the same weights at every pixel"),
        ("guess = 'many'", "expected a number"),
        ("guess = 900", "Count in order"),
    ],
    "up": [
        (_up("return self.conv(torch.cat([skip, self.up(x)], 1))"), "left, right, top, bottom"),
        (
            _up(
                "x = self.up(x)",
                "x = F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]))",
                "return self.conv(torch.cat([skip, x], 1))",
            ),
            'mode="replicate"',
        ),
        (
            _up(
                "x = self.up(x)",
                "rows, columns = skip.shape[2:]",
                "out = self.conv(torch.cat([skip[:, :, :x.shape[2], :x.shape[3]], x], 1))",
                "return F.pad(out, (0, columns - x.shape[3], 0, rows - x.shape[2]))",
            ),
            "pad x before you join",
        ),
        (
            _up("return torch.cat([skip, F.interpolate(self.up(x), skip.shape[2:])], 1)"),
            "brings 8 channels back to 4",
        ),
        (
            _up(
                "x = self.up(x)",
                "skip = skip[:, :, :x.shape[2], :x.shape[3]]",
                "return self.conv(torch.cat([skip, x], 1))",
            ),
            "A cropped skip loses",
        ),
        (
            _up(
                "x = self.up(x)",
                "x = F.pad(x, (skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2], 0))",
                "return self.conv(torch.cat([skip, x], 1))",
            ),
            "one pixel too low",
        ),
        (
            _up(
                "x = F.interpolate(self.up(x), skip.shape[2:], mode='bilinear')",
                "return self.conv(torch.cat([skip, x], 1))",
            ),
            "has been stretched",
        ),
        (
            _up(
                "x = self.up(x)",
                "x = F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]))",
                "return self.conv(torch.cat([x, skip], 1))",
            ),
            "order is [skip, x]",
        ),
        (
            _up(
                "x = self.up(x)",
                "x = F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]))",
                "return self.conv(torch.cat([x, x], 1))",
            ),
            "the skip does not arrive",
        ),
        (_up("x = self.up(x)", "self.conv(torch.cat([skip, x], 1))"), "returned None"),
        ("Up = 3", "expected the class Up itself"),
    ],
    "train_steps": [
        (
            _loop("value = loss(model(images), target.long())", _BACK, _STEP, _KEEP, before="pass"),
            "two faults",
        ),
        (_loop(_FORWARD, _BACK, _STEP, _KEEP), "gradients of all batches add up: the second"),
        (_loop(_FORWARD, _ZERO, _BACK, _STEP, _KEEP, before="pass"), "stayed in eval mode"),
        (
            _loop("value = loss(model(images), target)", _ZERO, _BACK, _STEP, _KEEP),
            "train_steps raised",
        ),
        (_loop(_FORWARD, _BACK, _ZERO, _STEP, _KEEP), "not one weight has changed"),
        (_loop(_FORWARD, _ZERO, _BACK, _STEP, "losses.append(value)"), "value.item()"),
        (_loop(_FORWARD, _ZERO, _BACK, _STEP, _KEEP, end="None"), "returned None"),
        (
            _loop("value = loss(model(images), target.float())", _ZERO, _BACK, _STEP, _KEEP),
            "class numbers are indices",
        ),
        (_loop(_FORWARD, _ZERO, _BACK, _STEP, _KEEP, end="[0.0] * 4"), "are not the losses"),
    ],
    "error_maps": [
        ("letter = 'A'", "15 images only"),
        ("letter = 'c'", "It has skips"),
        ("letter = 'D'", "shifted by three pixels"),
        ("letter = 'E'", "a letter from A to D"),
    ],
    "advice": [
        ('advice = {"15 images": "d", "240 images": "a"}', "gave 0.384 on test"),
        ('advice = {"15 images": "c", "240 images": "c"}', "hardly a gap left"),
        ('advice = {"15 images": "b", "240 images": "b"}', "gap of 0.64"),
        ('advice = {"15 images": "zoom", "240 images": "a"}', "a letter from a to d"),
        ('advice = "c"', "expected a dict"),
    ],
    "small_net": [
        (
            "def build(num_classes):\n    return seglib.models.UNet(num_classes, base_channels=8)",
            "486,643 parameters",
        ),
        ("def build(num_classes):\n    return nn.Conv2d(3, num_classes, 3)", "at the input's size"),
        (
            "def build(num_classes):\n    seglib.models.UNet(num_classes, base_channels=8, depth=3)",
            "returned None",
        ),
        (
            "def build(num_classes):\n"
            "    return nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, num_classes, 1))",
            "sees 1 row of",
        ),
    ],
}
