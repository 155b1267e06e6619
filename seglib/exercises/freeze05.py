"""How lesson 5's exercise on a part that must rest is judged."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from seglib.exercises.kit import NotYet, call

NORM, NESTED = "1", "4"  # in the block: a BatchNorm, and a block
_HOOKS = ("train", "eval", "forward", "requires_grad_", "__call__")


class Net(nn.Module):
    """stem → block (to be frozen; it holds one more) → head."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), inner
        )
        self.last = nn.Conv2d(4, 2, 1)
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), self.last)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block(self.stem(images)))


def network(seed: int = 0) -> Net:
    """A net in training mode whose running statistics in the block are no longer 0 and 1."""
    torch.manual_seed(seed)
    net = Net()
    for name, buffer in net.block.named_buffers():
        if "running" in name:
            buffer.uniform_(-0.5, 0.5).add_(float("var" in name))
    return net


def freeze(answer: Any) -> str:
    with torch.enable_grad():
        for times in (1, 2):
            with _classes_as_they_are():
                net = _frozen(answer, times)
            note = _chain_breaks(net)
    return (
        "three steps after model.train(): the block rests to the last bit, gradients pass "
        f"through it, and stem and head learn{note}"
    )


def _frozen(answer: Any, times: int) -> Net:
    """Freeze the block, train the net, and look at what must rest and what must not."""
    net = network()
    original = copy.deepcopy(net).eval()
    given = "the block of a small net" + (", a second time" if times == 2 else "")
    for _ in range(times):
        _apply(answer, net, given)
    _check_classes(net)
    rested = not any(part.training for part in _norms(net.block))
    try:
        call(training, net, given="a net whose block is frozen")
    except NotYet as reason:
        hint = ""
        if "argument" in str(reason):
            hint = ". model.train() hands its mode to the train of each module: train(mode=True)"
        elif "recursion" in str(reason):
            hint = ". eval() is train(False): a train that calls eval() never ends"
        elif "require grad" in str(reason):
            hint = ". Gradients are off everywhere now: only the module's own must be"
        raise NotYet(f"{reason}{hint}") from None
    _check_parameters(original, net)
    _check_buffers(original, net, rested)
    _check_output(original, net)
    _check_others(original, net)
    return net


def _apply(answer: Any, net: Net, given: str) -> None:
    """Call freeze on the net's block; what it returns does not matter."""
    if not callable(answer):
        call(answer, given=given)  # says so

    def run(block: nn.Module) -> tuple[Any]:
        return (answer(block),)

    run.__name__ = getattr(answer, "__name__", "freeze")
    block = net.block
    (found,) = call(run, block, given=given)
    copied = isinstance(found, nn.Module) and found is not block
    if copied and any(p.requires_grad for p in block.parameters()):
        raise NotYet(
            f"on {given}, freeze returns another module and leaves the one in the net as "
            "it was: change the module that you get"
        )


def training(model: Net) -> bool:
    """As `fit` does it: model.train() before each epoch, model.eval() behind it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(3):
        model.train()
        images = torch.randn(4, 3, 6, 8, generator=torch.Generator().manual_seed(step)) + 2
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
        model.eval()
    model.train()
    return True


def _norms(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def _check_parameters(original: Net, net: Net) -> None:
    before, after = dict(original.block.named_parameters()), dict(net.block.state_dict())
    lost = [name for name in original.block.state_dict() if name not in after]
    if lost:
        batch = ", and a BatchNorm without running statistics normalises by the batch"
        raise NotYet(
            f"after freeze, the block has no {lost[0]} any more: a checkpoint would not "
            f"fit{batch if 'running' in lost[0] else ''}"
        )
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    if not moved:
        return
    said = f"after three steps {len(moved)} of the block's {len(before)} parameters have moved"
    if not any(parameter.requires_grad for parameter in net.block.parameters()):
        raise NotYet(
            f"{said}, {moved[0]} for one, and none has a gradient: freeze itself must "
            "leave their values alone"
        )
    if all(name.startswith(NESTED) for name in moved):
        raise NotYet(
            f"{said}, all of them in the block inside the block: children() goes down "
            "one level, modules() and parameters() go down all the way"
        )
    raise NotYet(
        f"{said}, {moved[0]} for one: the optimiser steps along every gradient (and "
        "decays every weight that has one). module.requires_grad_(False) leaves them "
        "without"
    )


def _check_buffers(original: Net, net: Net, rested: bool) -> None:
    after = dict(net.block.named_buffers())
    moved = {
        name: (after[name] - value).abs().max().item()
        for name, value in original.block.named_buffers()
        if name in after and not torch.equal(value, after[name])
    }
    if not moved:
        return
    if all("running" not in name for name in moved):  # a counter: is that all?
        _check_output(original, net)
    name = max(moved, key=lambda key: ("running_mean" in key, moved[key]))
    said = (
        f"after model.train() and three steps, no parameter of the block has moved, but "
        f"{name} has, by up to {moved[name]:.2g}"
    )
    depth = {key.partition(".")[0] for key in moved}
    if depth == {NESTED}:
        why = (
            "the BatchNorm in the block inside the block is awake. children() goes down one "
            "level, modules() all the way"
        )
    elif depth == {NORM}:
        why = "the block's own BatchNorm is awake, the one further inside rests"
    elif not any(part.training for part in _norms(net.block)):
        why = "its BatchNorms are in eval mode now, but were not during the steps"
    elif rested:
        why = (
            "eval() was undone: model.train() calls train() of every module inside. What could "
            "the block's train do instead?"
        )
    else:
        why = (
            "running statistics are buffers, no parameters: each forward pass in training mode "
            "moves them, gradient or not. Only eval mode stops that"
        )
    raise NotYet(f"{said}: {why}")


@torch.no_grad()
def _check_output(original: Net, net: Net) -> None:
    """In training mode the block computes what it did in eval mode, before."""
    features = torch.randn(4, 4, 6, 8, generator=torch.Generator().manual_seed(7)) + 1
    expected = original.block(features)
    net.train()
    first, second = (_tensor(net.block(features)) for _ in range(2))
    if first.shape == expected.shape and torch.allclose(first, expected, atol=1e-5):
        return
    said = "no weight and no running mean moves, but after model.train() the block's output is not "
    if first.shape != expected.shape:
        raise NotYet(
            f"{said}of the shape that it had: {tuple(first.shape)}, expected "
            f"{tuple(expected.shape)}"
        )
    awake = any(part.training for part in _norms(net.block))
    if not awake and not torch.equal(first, second):
        raise NotYet(
            f"{said}the same twice: its dropout is still on. All modules inside must "
            "rest, not the BatchNorms alone"
        )
    momenta = {getattr(part, "momentum", None) for part in _norms(net.block)}
    far = (first - expected).abs().max().item()
    why = "its BatchNorms normalise by the batch. In eval mode they use the running statistics"
    if 0 in momenta:
        why = (
            "momentum 0 keeps the running mean where it is, but in training mode BatchNorm "
            "normalises by the batch all the same"
        )
    elif not all(getattr(part, "track_running_stats", True) for part in _norms(net.block)):
        why = (
            "track_running_stats=False stops the counting, and the layer then normalises by the "
            "batch"
        )
    elif not awake:
        why = "freeze has changed what it computes"
    raise NotYet(f"{said}that of eval mode (it differs by up to {far:.2g}): {why}")


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.zeros(0)


def _check_others(original: Net, net: Net) -> None:
    """What lies before and behind the block learns, and follows train() and eval()."""
    if net.stem.weight.grad is None or not net.stem.weight.grad.any():
        raise NotYet(
            "the block rests, but the convolution before it got no gradient: frozen "
            "parameters need none, what flows through them must go on. torch.no_grad() "
            "and detach() cut it off"
        )
    if torch.equal(original.last.weight, net.last.weight):
        raise NotYet(
            "the block rests, and the head behind it does not learn, either: touch "
            "nothing outside the module that you get"
        )
    for mode, name in ((False, "model.eval()"), (True, "model.train()")):
        net.train(mode)
        if net.training != mode or any(part.training != mode for part in net.head.modules()):
            raise NotYet(
                f"the block rests, but {name} no longer reaches the head: only what is "
                "inside the module must ignore it"
            )


def _chain_breaks(net: Net) -> str:
    """What to say of a train() that returns nothing."""
    with contextlib.suppress(Exception):
        if all(isinstance(part.train(), nn.Module) for part in net.block.modules()):
            return ""
    return ". (Its train() returns no module now; let it, for a chain such as block.eval()(x))"


# ---------------------------------------------------------------- answers that patch a class


def _class_methods() -> dict[tuple[type, str], Any]:
    """(class, name) -> the class's own method, or None, for all classes in the net."""
    classes = {base for part in network().modules() for base in type(part).__mro__[:-1]}
    return {(kind, name): vars(kind).get(name) for kind in classes for name in _HOOKS}


def _check_classes(net: Net) -> None:
    for kind in {type(part) for part in net.head.modules()} | {nn.Dropout, nn.Module}:
        for name in ("train", "eval"):
            method = getattr(kind, name, None)
            if method is not getattr(nn.Module, name) or method.__module__ != nn.Module.__module__:
                raise NotYet(
                    f"freeze has changed the class {kind.__name__}: now no "
                    f"{kind.__name__} of any network follows {name}(). Change the modules "
                    "inside, one by one"
                )


@contextlib.contextmanager
def _classes_as_they_are() -> Iterator[None]:
    """Undo what an answer does to the classes themselves: other cells use them, too."""
    methods = _class_methods()
    try:
        yield
    finally:
        for (kind, name), method in methods.items():
            if vars(kind).get(name) is not method:
                if method is None:
                    delattr(kind, name)
                else:
                    setattr(kind, name, method)
