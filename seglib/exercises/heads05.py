"""How lesson 5's exercise on a new last layer is judged."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from seglib.exercises.kit import NotYet, call, show
from seglib.models import create_model
from seglib.models.deeplab import DeepLabV3Plus

CASES = ((3, 16), (5, 24), (14, 16))  # classes, channels of the decoder
CLASSES = 11  # before
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
HEAD = "decoder.2."  # how the last layer's weights are named


def network(channels: int, seed: int) -> DeepLabV3Plus:
    """A small DeepLabv3+ whose BatchNorms have seen something, too."""
    torch.manual_seed(seed)
    model = create_model(
        "deeplabv3plus",
        CLASSES,
        backbone="mobilenet_v3_small",
        atrous_rates=(1, 2),
        channels=channels,
        low_channels=8,
    )
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    assert isinstance(model, DeepLabV3Plus)
    return model


def replace_head(answer: Any) -> str:
    noted = True
    for seed, (classes, channels) in enumerate(CASES):
        model = network(channels, seed)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        given = f"a DeepLabv3+ of {CLASSES} classes with {channels} channels, num_classes={classes}"
        found = _network(call(answer, model, classes, given=given), given)
        _check_is_the_same(found, before, given)
        _check_layer(found, channels, classes, given)
        _check_rest(found, before, given)
        _check_logits(found, classes, given)
        fixed = [
            name for name, parameter in found.named_parameters() if not parameter.requires_grad
        ]
        if fixed:
            raise NotYet(
                f"on {given}, {len(fixed)} parameters no longer require gradients, "
                f"{fixed[0]} for one. All of them are to learn on; what to freeze is "
                "another decision"
            )
        if found is not model:
            raise NotYet(
                f"on {given}, a copy has the right layer, but the network that you got is "
                "as before, and whoever holds it trains the old one. Change that one"
            )
        noted = noted and found.num_classes == classes
    praise = "a new last layer for 3, 5 and 14 classes, and every other weight is where it was"
    return (
        praise
        if noted
        else (
            f"{praise}. (model.num_classes still says {CLASSES}: seglib notes it in a checkpoint, so "
            "set it, too)"
        )
    )


def _network(found: Any, given: str) -> Any:
    """What came back, if it is the network and not a part of it or something around it."""
    if isinstance(found, DeepLabV3Plus):
        return found
    if isinstance(found, (nn.Conv2d, nn.Linear)):
        what = "the new layer, expected the network that holds it"
    elif isinstance(found, nn.Module):
        inner = any(isinstance(part, DeepLabV3Plus) for part in found.modules())
        what = (
            "a new module around the network: a layer behind the old head sees its 11 logits "
            "and nothing else. Exchange the head itself, model.decoder[-1]"
            if inner
            else f"a {type(found).__name__}, expected the whole network"
        )
    else:
        what = f"{show(found)}, expected the network"
    raise NotYet(f"on {given}, replace_head returns {what}")


def _check_is_the_same(model: Any, before: dict[str, Tensor], given: str) -> None:
    after = model.state_dict()
    weights = [
        name
        for name in before
        if name.startswith("backbone.") and name.endswith("weight") and before[name].ndim == 4
    ]
    kept = [name for name in weights if name in after and torch.equal(before[name], after[name])]
    if len(kept) < len(weights) / 2:
        raise NotYet(
            f"on {given}, the head is new, and so are all other weights: {weights[0]} for "
            "one. create_model draws new ones; change the network that you get"
        )


def _check_layer(model: Any, channels: int, classes: int, given: str) -> None:
    """The decoder's last layer is a new 1×1 convolution; everything else is looked at later."""
    decoder = model.decoder
    layers = list(decoder) if isinstance(decoder, nn.Sequential) else [decoder]
    inner = layers[-1] if layers else decoder
    head = f"on {given}, model.decoder[-1]"
    if len(layers) > 3 or isinstance(inner, nn.Sequential):
        raise NotYet(
            f"{head} is not all that is new: there is one more layer than before. Behind "
            "the old head it sees 11 logits and not the features; put the new one in its "
            "place"
        )
    if len(layers) < 3:
        raise NotYet(
            f"on {given}, model.decoder is new as a whole. Its two convolutions before "
            "the last layer are trained, too; exchange model.decoder[-1] alone"
        )
    if not isinstance(inner, nn.Conv2d):
        raise NotYet(f"{head} is {show(inner)}, expected an nn.Conv2d")
    outputs = len(inner.weight)
    if inner.out_channels == classes != outputs:
        raise NotYet(
            f"{head}.out_channels says {classes}, but that is a note: its weights have "
            f"the shape {tuple(inner.weight.shape)} still, and they decide. Make a new "
            "layer"
        )
    if inner.in_channels != channels:
        raise NotYet(
            f"{head} takes {inner.in_channels} channels, but the layer before it gives "
            f"{channels}: read in_channels from the old layer"
        )
    if outputs == CLASSES and model.num_classes == classes:
        raise NotYet(
            f"{head} has 11 outputs still: model.num_classes is a note, and no layer follows it"
        )
    if inner.kernel_size != (1, 1):
        raise NotYet(
            f"{head} has a kernel of {inner.kernel_size[0]}×{inner.kernel_size[1]}, "
            "expected 1×1, as in the old one: the last layer weighs each pixel's features"
        )
    if inner.bias is None:
        raise NotYet(f"{head} has no bias; the old one has, and no norm follows that would add one")


def _check_rest(model: Any, before: dict[str, Tensor], given: str) -> None:
    """All weights and buffers but the last layer's are as they were."""
    after = model.state_dict()
    moved = [
        name
        for name, value in before.items()
        if not name.startswith(HEAD) and (name not in after or not torch.equal(after[name], value))
    ]
    added = [name for name in after if name not in before]
    if not moved and not added:
        return
    if moved and all(name.rpartition(".")[2] in _BUFFERS for name in moved):
        raise NotYet(
            f"on {given}, the buffer {moved[0]} has moved: did a batch go through the "
            "network in training mode?"
        )
    if any(name.startswith("decoder.") for name in moved):
        raise NotYet(
            f"on {given}, {next(n for n in moved if n.startswith('decoder.'))} is not "
            "what it was: of the decoder only the last layer is to be exchanged, the "
            "convolutions before it are trained"
        )
    raise NotYet(
        f"on {given}, {(moved or added)[0]} is not what it was. The last layer is "
        "model.decoder[-1], everything else is kept"
    )


def _check_logits(model: Any, classes: int, given: str) -> None:
    images, wanted = torch.randn(2, 3, 64, 96), (2, classes, 64, 96)
    with torch.inference_mode():
        logits = call(copy.deepcopy(model).eval(), images, given=f"{given}, images of 64×96")
    if tuple(logits.shape) != wanted:
        raise NotYet(
            f"on {given}, the logits of two images of 64×96 have the shape "
            f"{tuple(logits.shape)}, expected {wanted}: the new layer has as many outputs "
            "as there are classes"
        )
