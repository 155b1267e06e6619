"""Wrong answers to the exercises of lesson 2, beside those that their judges' tables imply."""

from answers import code

PRELUDE = """
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from seglib.models.unet import DoubleConv
"""

_JOIN = "return self.conv(torch.cat([skip, x], 1))"


def _up(*lines):
    return code(
        "class Up(nn.Module):",
        "def __init__(self, channels):",
        "    super().__init__()",
        "    self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)",
        "    self.conv = DoubleConv(channels, channels // 2)",
        "def forward(self, x, skip):",
        *(f"    {line}" for line in lines),
    )


def _loop(
    forward="value = loss(model(images), target.long())",
    keep="losses.append(value.item())",
    end="return losses",
):
    return code(
        "def train_steps(model, batches, loss, optimizer):",
        "losses = []",
        "model.train()",
        "for images, target in batches:",
        f"    {forward}",
        "    optimizer.zero_grad(); value.backward(); optimizer.step()",
        f"    {keep}",
        end,
    )


WRONG = {
    "parameters": {
        "a bias for each convolution": "guess = 3 * 8 * 9 + 8 + 2 * 8 + 8 * 8 * 9 + 8 + 2 * 8",
        "Count in order": "guess = 900",
    },
    "up": {
        "left, right, top, bottom": _up("x = self.up(x)", _JOIN),
        "padding x before the up-convolution": _up(
            "h, w = skip.shape[2:]",
            "x = F.pad(x, (0, w - 2 * x.shape[3], 0, h - 2 * x.shape[2]), mode='replicate')",
            "x = self.up(x)[:, :, :h, :w]",
            _JOIN,
        ),
        "holds only the bias": _up("x = self.up(x, output_size=skip.shape[2:])", _JOIN),
        "brings 8 channels back to 4": _up(
            "return torch.cat([skip, F.interpolate(self.up(x), skip.shape[2:])], 1)"
        ),
        "expected a tensor": _up("return (skip,)"),
        "expected the class Up itself": "Up = 3",
        "leave the parts as they are": _up(_JOIN).replace("self.up", "self.enlarge"),
    },
    "train_steps": {
        "there is a softmax before": _loop("value = loss(model(images).softmax(1), target.long())"),
        "class numbers are indices": _loop("value = loss(model(images), target)"),
        "value.item()": _loop(keep="losses.append(value)"),
        "found 1 × float": _loop(keep="return [value.item()]"),
        "found losses [0.0, 0.0, 0.0, 0.0]": _loop(end="return [0.0] * 4"),
    },
    "error_maps": {"so it has skips": "letter = 'c'"},
    "advice": {"0.298 on val": 'advice = {"15 images": "b", "240 images": "a"}'},
}
