"""How lesson 2's exercise of designing a small net is judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seglib.exercises.kit import NotYet, call, show

LIMIT, BAR, HIDDEN = 200_000, 0.25, (41, 42)


def small_net(build: Any) -> str:
    torch.manual_seed(HIDDEN[0])
    model = call(build, 11, given="num_classes = 11")
    if not isinstance(model, nn.Module):
        raise NotYet(f"expected build to return a network (nn.Module), found {show(model)}")
    count = sum(p.numel() for p in model.parameters())
    if count > LIMIT:
        raise NotYet(
            f"your net has {count:,} parameters, allowed are {LIMIT:,}. Halving all "
            "channels divides them by four"
        )
    for height, width in ((72, 96), (75, 101)):
        logits = call(model, torch.randn(2, 3, height, width), given=f"images of {height}×{width}")
        if not isinstance(logits, Tensor) or logits.shape != (2, 11, height, width):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else show(logits)
            raise NotYet(
                f"on two images of {height}×{width} your net gives {shape}, expected "
                f"(2, 11, {height}, {width}): logits at the input's size"
            )
    scores = [score_after_training(build, seed) for seed in HIDDEN]
    mean = float(np.mean(scores))
    found = f"mIoU {mean:.3f} on 30 hidden scenes (mean of {len(HIDDEN)} seeds)"
    if mean < BAR:
        raise NotYet(f"{count:,} parameters, {found}; the bar is {BAR}. {_advice(model, count)}")
    return f"{count:,} parameters, {found}; the bar is {BAR}"


def _advice(model: nn.Module, count: int) -> str:
    """What a net below the bar lacks: sight, norms, or width."""
    images = torch.randn(1, 3, 128, 128, requires_grad=True)
    model.eval()(images)[0, :, 64, 64].abs().sum().backward()
    rows = torch.nonzero(images.grad.abs().sum((0, 1, 3)))  # type: ignore[union-attr]
    sight = int(rows.max() - rows.min()) + 1 if len(rows) else 0
    if sight < 9:
        return (
            f"Each output pixel sees {sight} row{'s' * (sight != 1)} of the image: let it see "
            "what stands around it"
        )
    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    if not any(isinstance(part, norms) for part in model.modules()):
        return "It has no normalisation: four epochs are too few for a net without"
    return (
        f"It uses {count / LIMIT:.0%} of the parameters that are allowed: make it wider at the "
        "top first"
    )


def score_after_training(build: Any, seed: int, images: int = 960) -> float:
    """mIoU on hidden scenes after four epochs on Streets train at 72×96: lesson 2's recipe."""
    from seglib.data import RenderedStreets, Streets, class_statistics, make_loader
    from seglib.losses.pixels import CrossEntropyLoss
    from seglib.losses.weights import class_weights
    from seglib.training import evaluate, fit
    from seglib.transforms import eval_transform, train_transform

    plain = train_transform(72, 96, zoom=(1, 1), stretch=1, colour=0)
    train = Streets("train", transform=plain)
    loss = CrossEntropyLoss(class_weights(class_statistics(train, progress=False), "enet"))
    torch.manual_seed(seed)
    model = build(train.num_classes)
    loader = make_loader(train, 4, shuffle=True, seed=seed)
    fit(
        model,
        loader,
        epochs=images // len(train),
        lr=4e-3,
        loss=loss,
        seed=seed,
        channels_last=True,
    )  # (faster)
    hidden = RenderedStreets(range(6000, 6030), 144, 192, eval_transform(72, 96))
    return evaluate(model, make_loader(hidden, 10)).miou
