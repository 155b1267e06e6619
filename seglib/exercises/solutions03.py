"""Solutions to the exercises of lesson 3, as they would stand in the notebook."""

# mypy: allow-untyped-defs

from __future__ import annotations

import torch.nn.functional as F

from seglib.losses.combined import CombinedLoss


def soft_dice(logits, target):
    """One minus the mean soft Dice of the classes in the truth; void is 255."""
    valid = target != 255  # (N, H, W)
    p = logits.softmax(1).movedim(1, 3)[valid]  # (P, C): the valid pixels
    g = F.one_hot(target[valid], logits.shape[1])  # (P, C)
    hits, whole = (p * g).sum(0), p.sum(0) + g.sum(0)  # (C,) each
    present = g.sum(0) > 0
    losses = 1 - 2 * hits[present] / whole[present]
    return losses.sum() / present.sum().clamp(min=1)


def build_loss(train_set):
    return CombinedLoss(), 5e-3
