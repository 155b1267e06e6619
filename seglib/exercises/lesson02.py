"""The exercises of lesson 2, A U-Net from scratch: their judges and solutions."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.linalg import norm
from torch import Tensor, nn

from seglib.exercises import kit
from seglib.exercises.kit import Lesson, NotYet, call, show
from seglib.exercises.material02 import error_panels as error_panels
from seglib.models import unet
from seglib.models.unet import DoubleConv

LESSON = Lesson(
    "02",
    outcomes=(
        "follow a tensor's shape through an encoder and a decoder, and count the parameters of a "
        "block before you run it",
        "build a U-Net from its blocks, for images of any size, and prove it equal to the "
        "library's",
        "find out why a network does not learn, with a single batch",
        "say from measurements and from a map of errors what skip connections contribute",
        "read a learning curve, and decide from recorded runs whether augmentation will help",
    ),
)
summary = LESSON.summary

_COUNTS = [
    (840, "that counts a bias for each convolution (8 + 8); there is none here"),
    (792, "BatchNorm has parameters too: a scale and a shift for each channel"),
    (808, "that leaves out 16 of the norms' parameters: two norms, 8 scales and 8 shifts each"),
    (856, "that also counts running means and variances: buffers, which no gradient changes"),
    (872, "that counts biases (there are none) and running statistics (no gradient changes them)"),
    (232, "that is the first convolution and its norm; a second pair follows, 8 channels to 8"),
    (464, "that is twice the first pair; the second convolution sees 8 channels, not 3"),
    (824 * 72 * 96, "the number does not grow with the image: every pixel shares the same weights"),
]

parameters = LESSON.add(
    name="parameters",
    title="Parameters of a block",
    kind="predict",
    outcome=0,
    judge=kit.numbers(
        824,
        {None: _COUNTS},
        "3·8·9 + 2·8 + 8·8·9 + 2·8 = 824, for images of any size",
        what=lambda _: "parameters",
        low=0,
        otherwise="Count in order: first convolution, its norm, second convolution, its norm",
    ),
    variable="guess",
    answer=824,
    hints=(
        "A 3×3 convolution has in × out × 9 weights; with bias=False nothing else.",
        "BatchNorm2d(8) learns a scale and a shift for each of its 8 channels.",
    ),
)


class Up(nn.Module):
    """Double the size, halve the channels, join the skip, convolve twice."""

    def __init__(self, channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.conv = DoubleConv(channels, channels // 2)

    def forward(self, x, skip):
        x = self.up(x)
        missing_h = skip.shape[2] - x.shape[2]
        missing_w = skip.shape[3] - x.shape[3]
        x = F.pad(x, (0, missing_w, 0, missing_h), mode="replicate")
        return self.conv(torch.cat([skip, x], dim=1))


def _run_up(answer: Any, given: str, x: Tensor, skip: Tensor) -> Tensor:
    """What a block makes of x and skip, with weights that all answers share."""
    if not (isinstance(answer, type) and issubclass(answer, nn.Module)):
        raise NotYet(f"expected the class Up itself, found {show(answer)}")
    net = call(answer, 8, given="channels = 8").eval()  # batch statistics would mix all pixels
    torch.manual_seed(0)
    clues = {"state_dict": "leave the parts as they are in the cell's __init__"}
    call(net.load_state_dict, unet.Up(8).state_dict(), given="self.up and self.conv", clues=clues)
    clues = {"Sizes of tensors": "F.pad adds what is missing, (left, right, top, bottom)"}
    found = call(net, x, skip, given=given, clues=clues)
    if not isinstance(found, Tensor):
        raise NotYet(f"on {given}: expected a tensor, found {show(found)}")
    if found.shape == (2, 8, *skip.shape[2:]):
        raise NotYet(f"on {given}: after joining, self.conv brings 8 channels back to 4")
    return found.detach()


_ZEROS = 'mode="replicate"', 'mode="constant"'
_CROP = "x = F.pad", "skip = skip[:, :, : x.shape[2], : x.shape[3]]; F.pad"
_JOINS = (
    "you join [x, skip]; the library's order is [skip, x]",
    ("[skip, x]", "[x, skip]"),
    "the skip is missing: x is joined with itself",
    ("[skip, x]", "[x, x]"),
    "x is shifted by one pixel, down or to the right: add the row or column at the end",
    ("(0, missing_w, 0, missing_h)", "(missing_w, 0, missing_h, 0)"),
)
_UP_MISTAKES = kit.edits(
    Up,
    *_JOINS,
    *(part if isinstance(part, str) else part + _ZEROS for part in _JOINS),
    'use mode="replicate": zeros would add an artificial edge to the feature map',
    _ZEROS,
    "padding x before the up-convolution (or reflect) repeats the last row but one",
    ("replicate", "reflect"),
    "the row that output_size= adds holds only the bias: repeat the last row",
    ("self.up(x)", "self.up(x, output_size=skip.shape[2:])"),
    "x is stretched: keep its pixels where they are and add a last row and column",
    ("self.up(x)", 'F.interpolate(self.up(x), skip.shape[2:], mode="bilinear")'),
    "A cropped skip loses the last row of the image; enlarge x instead",
    _CROP,
    "the skip's last row or column is lost: pad x before you join, not the result",
    (*_CROP, "return s", "y = s", "1))", "1)); return F.pad(y, (0, missing_w, 0, missing_h))"),
)
_random = torch.Generator().manual_seed(0)

up = LESSON.add(
    name="up",
    title="Up for odd sizes",
    kind="implement",
    outcome=1,
    judge=kit.function(
        cases=[
            [torch.randn(2, c, *size, generator=_random) for c, size in ((8, (4, 6)), (4, skip))]
            for skip in ((8, 12), (9, 12), (8, 13), (9, 13))
        ],
        right=unet.Up,
        mistakes=_UP_MISTAKES,
        given=lambda x, skip: "x of 4×6 and a skip of {}×{}".format(*skip.shape[2:]),
        praise="it works for even and odd sizes, and nothing is shifted",
        read=lambda found, given: found,
        agree=kit.close(1e-4),  # sums of 72 products in float32: 1e-6
        shown=lambda y: f"{tuple(y.shape)}, mean of the last row {y[:, :, -1].mean():.3f}",
        run=_run_up,
    ),
    answer=Up,
    hints=(
        "Three steps: enlarge x, make it as large as the skip, join both and convolve.",
        "F.pad(x, (left, right, top, bottom)) adds columns and rows; how many are missing?",
        'Pooling drops at the end; F.pad(…, mode="replicate") repeats the last row or column of x.',
    ),
)


def train_steps(model, batches, loss, optimizer):
    losses = []
    model.train()
    for images, target in batches:
        value = loss(model(images), target.long())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def _run_loop(answer: Any, given: str) -> Any:
    """What a loop leaves behind: the losses that it returns, then weights and buffers."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1)
    model = nn.Sequential(*layers).eval()
    batches = [(torch.randn(2, 3, 6, 8), torch.randint(3, (2, 6, 8)).byte()) for _ in range(4)]
    rest = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1)
    clues = {"Long": "class numbers are indices, expected int64: target.long()"}
    losses = call(answer, model, batches, *rest, given=given, clues=clues)
    kinds = [type(loss).__name__ for loss in losses] if isinstance(losses, list) else []
    if kinds not in (["float"] * 4, ["float64"] * 4):
        found = f"{len(kinds)} × {' and '.join(sorted(set(kinds)))}" if kinds else show(losses)
        keep = ". A tensor keeps its whole graph in memory: value.item()" * ("Tensor" in kinds)
        raise NotYet(f"on {given}: expected a list of 4 floats, found {found}{keep}")
    state = [x.detach().ravel() for x in model.state_dict().values() if x.is_floating_point()]
    return np.concatenate([losses, *state])


train_steps = LESSON.add(  # type: ignore[assignment]
    name="train_steps",
    title="Repair a training loop",
    kind="debug",
    outcome=2,
    judge=kit.function(
        cases=[()],
        right=train_steps,
        mistakes=kit.edits(
            train_steps,
            "two faults: gradients of all batches add up, and the model stayed in eval mode",
            ("optimizer.zero_grad()", "pass", "model.train()", "pass"),
            "gradients of all batches add up: the second step needs an empty .grad",
            ("optimizer.zero_grad()", "pass"),
            "BatchNorm's running mean never moved: the model stayed in eval mode",
            ("model.train()", "pass"),
            "there is a softmax before the loss, which takes logits and applies softmax itself",
            ("model(images)", "model(images).softmax(1)"),
            "not one weight has changed: step() comes after backward() and before zero_grad()",
            ("optimizer.step()", "pass"),
        ),
        given=lambda: "four batches whose targets are uint8 (2, 6, 8), with a model in eval mode",
        praise="the weights equal those of an independent loop",
        read=lambda found, given: found,
        agree=kit.close(1e-5),  # four steps in float32
        shown=lambda y: f"losses {y[:4].round(3).tolist()}, weights of norm {norm(y[4:]):.4f}",
        run=_run_loop,
        otherwise="the order is forward, loss (keep it), zero_grad, backward, step",
    ),
    answer=train_steps,
    hints=(
        "Three things are wrong: one raises an error, two raise no error but train badly.",
        "Which dtype does cross-entropy expect for class numbers? Which mode lets BatchNorm learn?",
        "What does backward() do with a gradient that is already there?",
    ),
)

_MAPS = {
    "A": "ragged patches, also far from any border: it has skips, but was trained on 15 images",
    "C": "few errors, and thin ones: this network finds most borders, so it has skips",
    "D": "errors below and to the right of most borders: a prediction shifted by three pixels",
}

error_maps = LESSON.add(
    name="error_maps",
    title="Which network has no skips?",
    kind="interpret",
    outcome=3,
    judge=kit.letters(
        "B",
        {None: _MAPS},
        "broad bands with smooth edges on both sides of roofs and pavement: the coarse map cannot "
        "place them",
        what=lambda _: "the network without skips",
    ),
    variable="letter",
    answer="B",
    hints=(
        "Without skips the decoder draws everything from 4×6 cells: which edges can it draw?",
        "Look at one border of an object: do the errors lie on one side of it, or on both?",
    ),
)

ADVICE = {"15 images": "c", "240 images": "a"}
_SCORED = {  # what the other choices scored on val
    "15 images": {"a": 0.267, "b": 0.298},
    "240 images": {"b": 0.490, "c": 0.409},
}
_GAPS = {"15 images": 0.72, "240 images": 0.04}  # without augmentation: training images − val
_LESS = "{:.3f} on val; another choice has more. Without augmentation, training is {:.2f} above val"

advice = LESSON.add(
    name="advice",
    title="What does the record advise?",
    kind="interpret",
    outcome=4,
    judge=kit.letters(
        ADVICE,
        {k: {x: _LESS.format(y, _GAPS[k]) for x, y in gave.items()} for k, gave in _SCORED.items()},
        "0.405 and 0.507. At 240 images the short training limits the score, and augmentation "
        "makes the task harder. With longer training the answer may change: measure it",
    ),
    variable="advice",
    answer=ADVICE,
    hints=(
        "The right panel shows gains over no augmentation: which rows lie above zero?",
        "Left panel: at which number of images is training far above val, at which is it not?",
    ),
)
