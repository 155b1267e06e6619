"""Solutions to the exercises of lesson 6, as they would stand in the notebook."""

# mypy: allow-untyped-defs

from __future__ import annotations


def step(scale, good, overflow, growth_interval):
    """The scaler's next scale and count of good steps, and whether the optimiser may step."""
    if overflow:
        return scale / 2, 0, False
    good += 1
    if good == growth_interval:
        return scale * 2, 0, True
    return scale, good, True


def dice(logits, target):
    """Soft Dice loss of the foreground, in float32 whatever the logits are."""
    p = logits.float().softmax(1)[:, 1]  # before softmax, products and sums
    valid, truth = target != 255, target == 1
    p, g = p * valid, truth.to(p.dtype)
    inside, whole = (p * g).sum(), p.sum() + g.sum()
    return 1 - 2 * inside / (whole + 1e-8)


def accumulate(model, loss, batches):
    """Leave the gradients of one big batch, batch by batch."""
    counts = [(target != 255).sum() for _, target in batches]
    total = max(1, sum(counts))
    for (images, target), count in zip(batches, counts, strict=True):
        mean = loss(model(images), target)
        (mean * count / total).backward()  # its graph is freed here
