"""The exercises of lesson 5: what DeepLab sees, and which part of a trained network learns."""

# mypy: allow-untyped-defs

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from seglib.exercises.kit import Lesson, NotYet, call, function, letters, number, numbers, show
from seglib.models.deeplab import DeepLabV3Plus, valid_taps

LESSON = Lesson(
    "05",
    outcomes=(
        "predict what a dilated convolution sees: receptive field and valid taps",
        "choose ASPP rates for an image size and output stride, and tell DeepLabv3 from v3+",
        "load pretrained weights, replace the last layer, and check what moves in training",
        "freeze a part of a network, including its BatchNorm statistics",
        "decide from measurements which pretrained weights to start from",
    ),
)
summary = LESSON.summary

FIELD = {"rates 1, 1, 1": 7, "rates 1, 2, 4": 15, "stride 2, then rates 1, 2": 15}
_FIELDS: dict[str, dict[int, str]] = {
    "rates 1, 1, 1": {
        9: "that adds the kernels, 3 + 3 + 3. They overlap: each layer after the first adds 2",
        27: "that multiplies the kernels, 3 · 3 · 3. Layers add: each widens both sides",
        3: "that is how far the field reaches to one side; give its whole width",
        5: "that leaves out one of the three layers",
        6: "the centre pixel itself counts, too",
        49: "that is the area; give the length of one side",
    },
    "rates 1, 2, 4": {
        7: "that is the field with all rates 1, or without the last layer; each adds 2 · rate",
        21: "that adds 3 · rate for each layer. From its first to its last tap it is 2 · rate",
        13: "that leaves out the first layer",
        17: "that adds the layers' own widths, 3 + 5 + 9. Each widens the field by its width − 1",
        135: "that multiplies the layers' own widths, 3 · 5 · 9. A stack adds, width − 1 for each",
        23: "that multiplies the rates as if they were strides; a rate does not shrink the map",
    },
    "stride 2, then rates 1, 2": {
        9: "that forgets the stride: after it, neighbours on the map are two pixels apart",
        17: "that counts the stride for its own layer; only those after it stand on the halved map",
        14: "that doubles what the later layers see of the map. Neighbours' windows overlap",
        5: "that is the last layer alone, on its own input. Those before it see more than a pixel",
    },
}

field = LESSON.add(
    name="field",
    title="What three layers see",
    kind="predict",
    outcome=0,
    judge=numbers(
        FIELD,
        {key: list(readings.items()) for key, readings in _FIELDS.items()},
        praise="rates 1 see 7; growing rates or a stride see 15, but a stride shrinks the map",
        what=lambda key: f"the field of {key}",
        low=1,
        otherwise="start with 1, the pixel itself, and add 2 · rate · (strides before) per layer",
    ),
    variable="guess",
    answer=dict(FIELD),
    hints=(
        "The last layer reads three taps in a row. How much of the layer before does each see?",
        "A 3×3 convolution of rate r widens the field by r steps on each side.",
        "A step is one pixel of the image; after a stride of 2 it is two pixels.",
    ),
)

IMAGES = (96, 128, 16), (96, 128, 8), (180, 240, 8), (360, 480, 16), (512, 512, 16), (101, 75, 8)


def _up_to(height: int, width: int, stride: int, least: int = 3, more: int = 0) -> int:
    """The last rate (plus `more`) that keeps `least` taps."""
    h, w = -(-height // stride), -(-width // stride)
    return more + max(r for r in range(1, max(h, w)) if valid_taps(h, w, r) >= least)


_RATES: dict[str, Any] = {
    "18 is the paper's largest rate, for images of 513×513": lambda h, w, s: 18,
    "that is the largest rate on the image, not on the map": lambda h, w, s: _up_to(h, w, 1),
    "your map is rounded down; a stride rounds up": lambda h, w, s: _up_to(h - h % s, w - w % s, s),
    "that is right at output stride 16: use output_stride": lambda h, w, s: _up_to(h, w, 16),
    "that is right at output stride 8: use output_stride": lambda h, w, s: _up_to(h, w, 8),
    "that keeps two taps, where the library warns": lambda h, w, s: _up_to(h, w, s, least=2),
    "that keeps four taps; three are enough": lambda h, w, s: _up_to(h, w, s, least=4),
    "that is right for a square map as high as this one": lambda h, w, s: _up_to(h, h, s),
    "that is right for a square map as wide as this one": lambda h, w, s: _up_to(w, w, s),
    "that is the first rate that keeps too few taps": lambda h, w, s: _up_to(h, w, s, more=1),
    "that is the second largest rate that keeps 3 taps": lambda h, w, s: _up_to(h, w, s, more=-1),
    "that is the smallest rate that keeps 3 taps": lambda h, w, s: 1,
}
_SAME = "your rate is the same for every map: it must follow the map's size"


def largest_rate(height, width, output_stride):
    """The largest rate that keeps 3 valid taps on average."""
    h, w = -(-height // output_stride), -(-width // output_stride)  # rounded up
    return max(rate for rate in range(1, max(h, w)) if valid_taps(h, w, rate) >= 3)


largest_rate = LESSON.add(  # type: ignore[assignment]
    name="largest_rate",
    title="The largest rate for a map",
    kind="implement",
    outcome=1,
    judge=function(
        IMAGES,
        right=_up_to,
        mistakes=[*_RATES.items(), *((_SAME, lambda *_, n=n: n) for n in range(2, 18))],
        given=lambda h, w, s: f"{h}×{w} at output stride {s}, a map of {-(-h // s)}×{-(-w // s)}",
        praise="on 6 maps the largest rate goes from 4 to 20",
        read=lambda found, given: number(found, f"the largest rate on {given}", low=1),
        otherwise="go through the rates and keep the last one with 3 taps or more",
    ),
    answer=largest_rate,
    hints=(
        "How large is the map? A stride rounds up: 101 rows at output stride 8 become 13.",
        "valid_taps(h, w, rate) falls as the rate grows: find the last rate with 3 or more.",
        "max(rate for rate in range(1, …) if …) finds the largest of all that pass a test.",
    ),
)

CLASSES = 11  # before


def _judge_head(answer: Any) -> str:
    for seed, (classes, channels) in enumerate(((3, 16), (5, 24), (14, 16))):
        torch.manual_seed(seed)
        model = DeepLabV3Plus(CLASSES, "mobilenet_v3_small", 16, (1, 2), channels, 8)
        for name, buffer in model.named_buffers():
            if "running" in name:  # as if it had been trained
                buffer.uniform_(0.5, 1.5)
        before = copy.deepcopy(model)
        given = f"a DeepLabv3+ of {CLASSES} classes with {channels} channels, num_classes={classes}"
        found = call(answer, model, classes, given=given)
        for fault in _head_faults(found, before, classes):
            raise NotYet(f"on {given}, {fault}")
        if found is not model:
            raise NotYet(f"on {given}, a copy has the right layer: modify the network in place")
    note = f" (model.num_classes still says {CLASSES}: seglib notes it in a checkpoint)"
    praise = "a new last layer for 3, 5 and 14 classes, and every other weight is unchanged"
    return praise + note * (found.num_classes != classes)


def _head_faults(model: Any, original: Any, classes: int) -> Iterator[str]:
    """What is wrong with a network that came back, the most telling first."""
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    if not isinstance(model, DeepLabV3Plus):
        if any(isinstance(part, DeepLabV3Plus) for part in parts):
            yield "you return a new module around the network: exchange model.decoder[-1] itself"
        yield f"replace_last_layer returns {show(model)}, expected the network"
    if any(isinstance(part, nn.modules.lazy.LazyModuleMixin) for part in parts):
        yield "a lazy layer has no weights yet, and later cells compare them: make an nn.Conv2d"
    was, now = original.state_dict(), model.state_dict()
    kept = {name for name in was if name in now and torch.equal(was[name], now[name])}
    kernels = {name for name in was if name.startswith("backbone") and was[name].ndim == 4}
    if 2 * len(kept & kernels) < len(kernels):
        yield "the last layer is new, and so are all other weights: modify the network in place"
    layers = list(model.decoder.children())
    if len(layers) < 3:
        yield "model.decoder is new as a whole: exchange its last layer, the others are trained"
    last, head, channels = layers[-1], "model.decoder[-1]", original.decoder[-1].in_channels
    if len(layers) > 3 or isinstance(last, nn.Sequential):
        yield "the decoder has one more layer, which sees 11 logits: put it in the old one's place"
    if not isinstance(last, nn.Conv2d):
        yield f"{head} is {show(last)}, expected an nn.Conv2d"
    lost = [name for name in was if name not in kept and not name.startswith("decoder.2.")]
    for name in (name for name in lost if name.endswith(("weight", "bias"))):
        yield f"{name} has changed: keep all but {head}, in the decoder, too"
    if lost:
        yield f"the buffer {lost[0]} has moved: did a batch go through it in training mode?"
    outputs, inputs, *kernel = last.weight.shape
    if outputs != last.out_channels:
        yield f"{head}.out_channels is a note; the weights have {outputs} outputs: make a new layer"
    if inputs != channels:
        yield f"{head} takes {inputs} channels, not {channels}: read in_channels from the old one"
    if outputs != classes:
        noted = outputs == CLASSES and model.num_classes == classes
        note = ": model.num_classes is a note" * noted
        yield f"{head} has {outputs} outputs for {classes} classes{note}"
    if kernel != [1, 1] or last.stride != (1, 1) or last.padding not in ((0, 0), "same", "valid"):
        yield f"{head} is {show(last)}, expected 1×1 without stride or padding, as in the old one"
    if last.bias is None:
        yield f"{head} has no bias; the old one has one, and no norm follows that would add it"
    if not all(parameter.requires_grad for parameter in model.parameters()):
        yield "parameters no longer require gradients, but all must keep learning"


def replace_last_layer(model, num_classes):
    """The same network with a new last layer."""
    old = model.decoder[-1]
    model.decoder[-1] = nn.Conv2d(old.in_channels, num_classes, kernel_size=1)
    model.num_classes = num_classes  # seglib notes it in checkpoints
    return model


replace_last_layer = LESSON.add(  # type: ignore[assignment]
    name="replace_last_layer",
    title="A last layer for other classes",
    kind="implement",
    outcome=2,
    judge=_judge_head,
    answer=replace_last_layer,
    hints=(
        "print(model.decoder[-1]): which of its numbers may change, and which must not?",
        "Layers of an nn.Sequential can be assigned: model.decoder[-1] = nn.Conv2d(…).",
        "The old layer knows how many channels come in: old.in_channels.",
    ),
)

_FREEZE = {  # what is found: what it comes from
    "values": "none has a gradient: freeze itself must leave the values alone",
    "inner": "what moves lies deeper: children() goes down one level, modules() all the way",
    "weights": "module.requires_grad_(False) leaves them without a gradient",
    "outer": "the block's own BatchNorm is in training mode; only the one further inside is not",
    "undone": "eval() was undone: model.train() calls train() of every module inside",
    "awake": "running statistics are buffers, which move in training mode, gradient or not",
    "momentum": "momentum 0 keeps the running mean, but in training mode the batch's is used",
    "batch": "BatchNorm in training mode uses the batch's, whatever track_running_stats is",
    "computes": "freeze has changed what it computes",
}
_CLUES = {  # of errors in training
    "argument": "model.train() hands its mode to the train of each module: train(mode=True)",
    "recursion": "eval() is train(False), so that a train that calls eval() never ends",
    "require grad": "gradients are off everywhere now; only the module's own must be",
}


def small_net() -> Any:
    """Stem, block (to be frozen; it holds one more), head; the block's statistics have moved."""
    torch.manual_seed(0)
    inner: Any = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    first = nn.Conv2d(4, 4, 3, padding=1)
    block: Any = nn.Sequential(first, nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), inner)
    for norm in (block[1], inner[1]):
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 1.5)
    head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), block, head)


def training(model: nn.Module) -> bool:
    """As `fit` does it: model.train() before each epoch, model.eval() behind it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(3):
        model.train()
        images = torch.randn(4, 3, 6, 8, generator=torch.Generator().manual_seed(step)) + 2
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
        model.eval()
    return True


def _judge_freeze(answer: Any) -> str:
    # what freeze returns does not matter
    run = functools.wraps(answer)(lambda block: [answer(block)]) if callable(answer) else answer
    for again in ("", ", a second time"):
        net = small_net()
        original, block = copy.deepcopy(net).eval(), net[1]
        with torch.enable_grad(), _classes_as_they_are() as changed:
            for _ in range(1 + bool(again)):
                (found,) = call(run, block, given=f"the block of a small net{again}")
            learns = any(parameter.requires_grad for parameter in block.parameters())
            if isinstance(found, nn.Module) and found is not block and learns:
                raise NotYet("the net's block is as it was: change it, and return no other module")
            for name in sorted(kind.__name__ for kind, _ in changed()):
                raise NotYet(f"freeze has changed the class {name}: change each module itself")
            rested = not any(m.training for m in block.modules() if isinstance(m, nn.BatchNorm2d))
            call(training, net, given="a net whose block is frozen", clues=_CLUES)
            for fault in _freeze_faults(net, original, rested):
                raise NotYet(fault)
    praise = "three steps after model.train(), the block has not moved at all; stem and head learn"
    note = ". (Its train() returns no module now; let it, as in block.eval()(x))"
    return praise + note * (not isinstance(block.train(True), nn.Module))


def _freeze_faults(net: Any, original: Any, rested: bool) -> Iterator[str]:
    """What moved and should not, or the other way round, after three steps of training."""
    stem, block, head = net.train()
    awake = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    was, now = original[1].state_dict(), block.state_dict()
    for name in (name for name in was if name not in now):
        yield f"after freeze, the block has no {name} any more: a checkpoint would not fit"
    moved = [name for name in was if not torch.equal(was[name], now[name])]
    weights = [name for name in moved if name.endswith(("weight", "bias"))]
    if weights:
        inner = all(name.startswith("4.") for name in weights)
        learns = any(parameter.requires_grad for parameter in block.parameters())
        why = _FREEZE["values" if not learns else "inner" if inner else "weights"]
        yield f"{len(weights)} of the block's 8 parameters have moved, {weights[0]} for one: {why}"
    running = [name for name in moved if "running" in name]
    if running:
        where = "".join({name[0] for name in running})  # 1: the block's own, 4: further inside
        key = {"1": "outer", "4": "inner"}.get(where, "undone" if rested and awake else "awake")
        yield f"no parameter of the block has moved, but {running[0]} has: {_FREEZE[key]}"
    features = torch.randn(4, 4, 6, 8, generator=torch.Generator().manual_seed(7)) + 1
    with torch.no_grad():
        expected, first, second = (part(features) for part in (original[1], block, block))
    said = "no weight and no running mean moves, but after model.train() the block's output is not"
    if getattr(first, "shape", None) != expected.shape:
        yield f"{said} {show(expected)}, but {show(first)}: {_FREEZE['computes']}"
    if not torch.allclose(first, expected, atol=1e-5):
        if not awake and not torch.equal(first, second):
            yield f"{said} the same twice: its dropout is still on; eval mode is for all inside"
        zero = any(norm.momentum == 0 for norm in awake)
        why = _FREEZE["momentum" if zero else "batch" if awake else "computes"]
        yield f"{said} that of eval mode: {why}"
    for name in moved:
        yield f"weights and statistics are fixed, but {name} has moved: buffers must stay, too"
    if stem.weight.grad is None or not stem.weight.grad.any():
        yield "the convolution before the block got no gradient: no_grad() and detach() cut it off"
    if torch.equal(original[2][3].weight, head[3].weight):
        yield "the head behind the block does not learn, either: change the block alone"
    for mode, name in ((False, "model.eval()"), (True, "model.train()")):
        net.train(mode)
        if any(part.training != mode for part in (net, *head.modules())):
            yield f"{name} no longer reaches the head: only what is inside the block must ignore it"


@contextlib.contextmanager
def _classes_as_they_are() -> Iterator[Callable[[], list[tuple[type, str]]]]:
    """Undo what an answer does to the classes themselves: other cells use them, too."""
    parts = small_net().modules()
    before = {kind: dict(vars(kind)) for part in parts for kind in type(part).__mro__[:-1]}

    def changed() -> list[tuple[type, str]]:
        names = [(kind, name) for kind in before for name in {**before[kind], **vars(kind)}]
        return [(k, name) for k, name in names if vars(k).get(name) is not before[k].get(name)]

    try:
        yield changed
    finally:
        for kind, name in changed():
            setattr(kind, name, before[kind].get(name))
            if name not in before[kind]:
                delattr(kind, name)


def freeze(module):
    """Keep everything inside from changing, also after model.train()."""
    module.requires_grad_(False)
    for part in module.modules():
        part.eval()
        part.train = lambda mode=True, part=part: part  # stays as it is


freeze = LESSON.add(  # type: ignore[assignment]
    name="freeze",
    title="Freeze completely",
    kind="debug",
    outcome=3,
    judge=_judge_freeze,
    answer=freeze,
    hints=(
        "model.train() calls train() of every child, and so on down: what undoes your eval()?",
        "Replace the train of each part in module.modules() by one that only returns the part.",
        "Parameters need requires_grad=False; torch.no_grad() would cut off the stem as well.",
    ),
)

CHOICE = {"20 frames": "i", "367 frames": "?", "by night": "r", "on top": "y"}
_20, _367, _TOP = "+0.044 [+0.006, +0.082]", "+0.025 [-0.002, +0.052]", "+0.077 [+0.057, +0.097]"
_NIGHT = "-0.022 [-0.036, -0.008]"
_GAP, _ABOVE = (
    "ImageNet − rendered streets is",
    "this interval lies above zero, so these runs can tell",
)
_ZERO = "and the interval contains zero"
_WHY = {
    "20 frames": {
        "r": f"{_GAP} {_20}: on which side of zero is that?",
        "?": f"{_GAP} {_20}: {_ABOVE}",
    },
    "367 frames": {
        "i": f"{_GAP} {_367}: the mean is higher, but the interval contains zero",
        "r": f"{_GAP} {_367}: the mean is in ImageNet's favour, {_ZERO}",
    },
    "by night": {
        "i": f"{_GAP} {_NIGHT}: on which side of zero is that?",
        "?": f"{_GAP} {_NIGHT}: this interval lies below zero, so these runs can tell",
    },
    "on top": {
        "n": f"ImageNet, then rendered streets − ImageNet is {_TOP}: that adds something",
        "?": f"ImageNet, then rendered streets − ImageNet is {_TOP}: {_ABOVE}",
    },
}

choose = LESSON.add(
    name="choose",
    title="Which start?",
    kind="interpret",
    outcome=4,
    judge=letters(
        CHOICE, _WHY, "each source is ahead on its own ground, and together they are best"
    ),
    variable="choice",
    answer=dict(CHOICE),
    hints=(
        "The brackets hold both ends of the 95 % interval of ImageNet − rendered streets.",
        "Both ends above 0: ImageNet is better; both below 0: rendered streets; else ?.",
        'For "on top": the right panel of the figure shows that difference.',
    ),
)
