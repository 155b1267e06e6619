"""How lesson 6's exercise on the gradients of a batch in parts is judged."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seglib.exercises.kit import NotYet, call
from seglib.losses.pixels import CrossEntropyLoss, FocalLoss

VOID = 255
Batch = tuple[Tensor, Tensor]


class Watched(nn.Module):
    """A small net that notes the sizes of its batches, and whose graphs wait for backward.

    `open` counts forward passes without a backward through them, void batches left out.
    """

    def __init__(self, void: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
        self.void = tuple(void)
        self.largest = self.passes = self.open = self.most_open = 0

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        self.largest, self.passes = max(self.largest, len(images)), self.passes + 1
        counts = not any(images.shape == v.shape and torch.equal(images, v) for v in self.void)
        if logits.requires_grad and counts:
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            done = [False]

            def backward(_: Tensor) -> None:
                self.open -= not done[0]
                done[0] = True

            logits.register_hook(backward)
        return logits


class Case(NamedTuple):
    """How many images each batch has, which share of its pixels is void, and the loss."""

    images: tuple[int, ...]
    void: tuple[float, ...]
    loss: type[CrossEntropyLoss] = CrossEntropyLoss

    def batches(self) -> list[Batch]:
        generator, found = torch.Generator().manual_seed(6), []
        for count, share in zip(self.images, self.void, strict=True):
            images = torch.randn(count, 3, 6, 8, generator=generator)
            target = torch.randint(0, 5, (count, 6, 8), generator=generator)
            target[torch.rand(count, 6, 8, generator=generator) < share] = VOID
            found.append((images, target))
        return found

    def __str__(self) -> str:
        rows = [
            f"{n} image{'s' * (n > 1)} with {100 * share:.0f} % void"
            for n, share in zip(self.images, self.void, strict=True)
        ]
        return f"{len(rows)} batches ({', '.join(rows)}), {self.loss.__name__}"


CASES = (
    Case((2, 2, 2), (0, 0.9, 0.5)),
    Case((2, 1, 3), (0.8, 0.1, 0.4), FocalLoss),
    Case((2, 2, 2), (0.3, 1, 0.7)),
    Case((2, 2, 2), (1, 0.6, 0)),
)


def network(void: Sequence[Tensor] = ()) -> Watched:
    torch.manual_seed(6)
    return Watched(void)


def _flat(model: nn.Module) -> Tensor:
    rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([row.flatten() for row in rows])


def gradient(images: Tensor, target: Tensor, loss: type[CrossEntropyLoss]) -> Tensor:
    """Of one batch, by the mean over its valid pixels."""
    model = network()
    loss()(model(images), target).backward()
    return _flat(model)


def whole(case: Case, loss: type[CrossEntropyLoss] | None = None) -> Tensor:
    """The gradient of one big batch (or that of another loss than asked for)."""
    images, targets = zip(*case.batches(), strict=True)
    return gradient(torch.cat(images), torch.cat(targets), loss or case.loss)


class Parts(NamedTuple):
    """The parts' gradients, and what a reader may weigh them by."""

    gradients: Tensor  # (batches, parameters)
    valid: Tensor
    images: Tensor
    pixels: Tensor

    def weighted(self, weights: Tensor) -> Tensor:
        return (self.gradients * weights[:, None]).sum(0)


def parts(case: Case) -> Parts:
    batches = case.batches()
    columns = (
        [float((t != VOID).sum()) for _, t in batches],
        [float(len(t)) for _, t in batches],
        [float(t.numel()) for _, t in batches],
    )
    return Parts(
        torch.stack([gradient(*batch, case.loss) for batch in batches]), *map(torch.tensor, columns)
    )


_FEW = "a batch with little to learn from weighs as much as a full one"
MISTAKES: tuple[tuple[str, Callable[[Parts], Tensor]], ...] = (
    (
        "that adds up the means and divides by nothing: the gradient grows with the number of batches",
        lambda q: torch.ones_like(q.valid),
    ),
    (
        f"that is the mean of the means: {_FEW}. A pixel is to count the same in each",
        lambda q: torch.full_like(q.valid, 1 / len(q.valid)),
    ),
    (
        f"that is the mean over the batches that are not all void: {_FEW}. A pixel is to count the "
        "same in each",
        lambda q: (q.valid > 0) / (q.valid > 0).sum(),
    ),
    (
        "that weighs a batch by its images. The loss is a mean over valid pixels: their number is "
        "the weight",
        lambda q: q.images / q.images.sum(),
    ),
    (
        "the weights are right among each other, but you divide by all pixels, void ones, too",
        lambda q: q.valid / q.pixels.sum(),
    ),
    (
        "that turns the means back into sums and forgets to divide by the number of all valid pixels",
        lambda q: q.valid,
    ),
    (
        "you divide by the valid pixels seen so far. What was added before had a smaller divisor: "
        "count them all first",
        lambda q: q.valid / q.valid.cumsum(0).clamp(min=1),
    ),
    (
        "that weighs a batch by its void pixels; valid ones are target != 255",
        lambda q: (q.pixels - q.valid) / (q.pixels - q.valid).sum(),
    ),
    (
        "that weighs each batch by the share of its own pixels that are valid. Its weight is their "
        "number, out of all batches' valid pixels",
        lambda q: q.valid / q.pixels,
    ),
    (
        "that weighs each batch by the share of its own pixels that are valid, and the shares add up "
        "to 1; where batches have unequal sizes, their numbers are needed",
        lambda q: (q.valid / q.pixels) / (q.valid / q.pixels).sum(),
    ),
    (
        "the valid pixels' share is right, but divided once more by the number of batches",
        lambda q: q.valid / q.valid.sum() / len(q.valid),
    ),
    (
        "that divides by the valid pixels where it should multiply: loss is a mean already",
        lambda q: 1 / q.valid.clamp(min=1),
    ),
    (
        "that divides each mean by all valid pixels: it first has to become a sum again, times its "
        "batch's own",
        lambda q: torch.ones_like(q.valid) / q.valid.sum(),
    ),
    (
        "only the last batch is left. Does something set the gradients to zero between them?",
        lambda q: _last(q) * q.valid / q.valid.sum(),
    ),
    (
        "only the last batch is left. Does something set the gradients to zero between them?",
        lambda q: _last(q),
    ),
    (
        "only the last batch is left. Does something set the gradients to zero between them?",
        lambda q: _last(q) / len(q.valid),
    ),
    (
        "only the first batch has a gradient: is there a return or a break in the loop?",
        lambda q: _last(q).flip(0) * q.valid / q.valid.sum(),
    ),
    (
        "that is twice the gradient: is backward called twice a batch?",
        lambda q: 2 * q.valid / q.valid.sum(),
    ),
    ("that is the gradient with the wrong sign", lambda q: -q.valid / q.valid.sum()),
)


def _last(q: Parts) -> Tensor:
    return torch.eye(len(q.valid))[-1]


def accumulate(answer: Any) -> str:
    with torch.enable_grad():
        models = [_run(answer, case) for case in CASES]
        found = [_flat(model) for model in models]
        rights = [whole(case) for case in CASES]
        wrong = [n for n in range(len(CASES)) if not _close(found[n], rights[n])]
        if wrong:
            raise NotYet(_diagnosis(found, rights, wrong[0]))
        _check_memory(models)
    return (
        f"the gradients of one big batch, on {len(CASES)} sets of batches, two of them with a "
        "batch of void alone, and one graph at a time"
    )


def _run(answer: Any, case: Case) -> Watched:
    batches = case.batches()
    model = network([images for images, target in batches if bool((target == VOID).all())])
    before = copy.deepcopy(model.state_dict())

    def run() -> tuple[Any]:
        return (answer(model, case.loss(), batches),)

    run.__name__ = getattr(answer, "__name__", "accumulate")
    if not callable(answer):
        call(answer, given="")  # says so
    try:
        call(run, given=str(case))
    except NotYet as reason:
        text = " ".join(str(reason).split())
        hint = ""
        if "division by zero" in text or "ZeroDivision" in text:
            hint = ". A batch of void alone has no valid pixel: its share is 0, without a division"
        elif "second time" in text:
            hint = ". The graph of a batch is freed by its backward: forward comes anew each time"
        elif "does not require grad" in text:
            hint = ". A number taken with .item() has no graph: multiply the tensor"
        raise NotYet(f"{text}{hint}") from None
    after = model.state_dict()
    if any(not torch.equal(value, after[name]) for name, value in before.items()):
        raise NotYet(
            f"on {case}, the weights have moved: accumulate only leaves gradients, the "
            "step is for the caller"
        )
    if any(
        not torch.equal(a, b)
        for old, new in zip(case.batches(), batches, strict=False)
        for a, b in zip(old, new, strict=True)
    ) or len(batches) != len(case.images):
        raise NotYet(
            f"on {case}, the batches are not what they were: the next epoch needs them. "
            "Work on copies"
        )
    return model


def _diagnosis(found: list[Tensor], rights: list[Tensor], n: int) -> str:
    case, here, right = CASES[n], found[n], rights[n]
    said = f"on {case}, "
    if not bool(here.isfinite().all()):
        return (
            f"{said}the gradient is not finite: by what do you divide? A batch of void alone "
            "has 0 valid pixels, and its share of the whole is 0"
        )
    if not here.any():
        return f"{said}no parameter has a gradient: backward is to be called for each batch"
    error = 100 * float((here - right).norm() / right.norm())
    said += f"the gradient is {error:.0f} % off that of one big batch: "
    if case.loss is not CrossEntropyLoss and _close(here, whole(case, CrossEntropyLoss)):
        return f"{said}it is that of cross-entropy. Call the loss that you are given"
    split = [parts(case) for case in CASES]
    for text, weights in MISTAKES:
        if all(_close(a, q.weighted(weights(q))) for a, q in zip(found, split, strict=True)):
            return f"{said}{text}"
    factor = float((here @ right) / (right @ right))
    if factor > 0 and _close(here, factor * right):
        return f"{said}the direction is right, the length {factor:.3g} times what it should be"
    return (
        f"{said}each batch's mean is to count by its share of all valid pixels; and what may "
        "the divisor not know while the loop still runs?"
    )


def _check_memory(models: Sequence[Watched]) -> None:
    for model, case in zip(models, CASES, strict=True):
        said = f"on {case}, the gradients are right, but "
        if model.largest > max(case.images):
            raise NotYet(
                f"{said}the model saw {model.largest} images at once: that is the big "
                "batch, which may not fit into memory. One batch after the other"
            )
        if model.most_open > 1:
            raise NotYet(
                f"{said}{model.most_open} batches went forward before a backward freed "
                "the first: their graphs take as much memory as the big batch. Call "
                "backward within the loop"
            )


def _close(found: Tensor, right: Tensor) -> bool:
    return bool((found - right).norm() <= 1e-3 * right.norm())
