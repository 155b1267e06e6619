"""Freezing a part of a network, and learning rates of its own for the backbone.

`requires_grad=False` alone leaves BatchNorm's running statistics moving, and `eval()` alone is
undone by the next `model.train()`; `freeze` does both, and stays.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn


def freeze(module: nn.Module) -> None:
    """Stop `module` from changing: no gradients, eval mode, also after `model.train()`.

    BatchNorm inside uses its running statistics and leaves them as they are; dropout is off. A
    part can be woken again: `unfreeze(module.part)`.
    """
    module.requires_grad_(False)
    for part in module.modules():
        part.training = False
        vars(part)["train"] = partial(_stay, part)  # hides the method; copies and pickles well


def _stay(part: nn.Module, mode: bool = True) -> nn.Module:
    """`train` of a frozen module: it stays in eval mode, its children decide for themselves."""
    part.training = False
    for child in part.children():
        child.train(mode)
    return part


def unfreeze(module: nn.Module) -> None:
    """Undo `freeze` for `module` and all inside it; the next `model.train()` reaches it again."""
    module.requires_grad_(True)
    for part in module.modules():
        vars(part).pop("train", None)


def is_frozen(module: nn.Module) -> bool:
    """Whether `freeze` holds this very module (not only something inside it)."""
    return "train" in vars(module)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """`freeze(module)` for a block; what was frozen before it stays so behind it."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    parts = [part for part in module.modules() if not is_frozen(part)]
    with eval_mode(module):  # puts the modes back
        freeze(module)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)
            for part in parts:
                vars(part).pop("train", None)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` into eval mode for a block, and then every module back into its own mode."""
    # (`model.train()` afterwards would also wake layers that were frozen by `.eval()`.)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def backbone_of(model: nn.Module) -> nn.Module:
    """The model's backbone. ValueError if it has none."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        name = getattr(model, "name", type(model).__name__)
        raise ValueError(
            f"{name} has no backbone to freeze or to train at a rate of its own; leave "
            "freeze_epochs and backbone_lr out, or choose a model with one, such as deeplabv3plus"
        )
    return backbone


def parameter_groups(
    model: nn.Module, lr: float, backbone_lr: float | None = None
) -> list[dict[str, Any]]:
    """Two groups for an optimiser: the head at `lr`, then the backbone at `backbone_lr`.

    Without `backbone_lr` the backbone learns ten times slower: it has learnt already, the head
    starts from nothing. Use: `torch.optim.AdamW(parameter_groups(model, lr=1e-3))`.
    """
    inside = set(backbone_of(model).parameters())
    head = [p for p in model.parameters() if p not in inside]
    backbone = [p for p in model.parameters() if p in inside]
    slower = lr / 10 if backbone_lr is None else backbone_lr
    return [{"params": head, "lr": lr}, {"params": backbone, "lr": slower}]
