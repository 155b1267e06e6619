"""Losses of other libraries, each called as its documentation says for labels with void 255."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seglib import losses as ours

Loss = Callable[[Tensor, Tensor], Tensor]
PACKAGES = {"smp": "segmentation-models-pytorch", "MONAI": "monai", "kornia": "kornia",
            "torch": "torch"}                                                      # fmt: skip


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(package) for name, package in PACKAGES.items()}


def installed() -> bool:
    names = [package.replace("-", "_") for package in PACKAGES.values()]
    return all(importlib.util.find_spec(name) for name in names)


def losses() -> dict[str, dict[str, Loss]]:
    """Library -> kind of loss -> the loss. Kinds: cross-entropy, focal (γ 2), Dice, Lovász."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kornia.losses
        import monai.losses
        import segmentation_models_pytorch.losses as smp
    return {
        "seglib": {"cross-entropy": ours.CrossEntropyLoss(), "focal": ours.FocalLoss(2.0),
                   "Dice": ours.DiceLoss(), "Tversky": ours.TverskyLoss(0.3, 0.7),
                   "Lovász": ours.LovaszSoftmaxLoss()},
        "torch": {"cross-entropy": nn.CrossEntropyLoss(ignore_index=255)},
        "smp": {"cross-entropy": smp.SoftCrossEntropyLoss(ignore_index=255, smooth_factor=0.0),
                "focal": smp.FocalLoss("multiclass", ignore_index=255),
                "Dice": smp.DiceLoss("multiclass", ignore_index=255),
                "Tversky": smp.TverskyLoss("multiclass", ignore_index=255, alpha=0.3, beta=0.7),
                "Lovász": smp.LovaszLoss("multiclass", ignore_index=255)},
        "MONAI": {"focal": masked_focal(monai.losses), "Dice": masked_dice(monai.losses)},
        "kornia": {"focal": kornia.losses.FocalLoss(None, 2.0, "mean", ignore_index=255),
                   "Dice": kornia.losses.DiceLoss("macro", ignore_index=255),
                   "Tversky": kornia.losses.TverskyLoss(0.3, 0.7, ignore_index=255),
                   "Lovász": kornia.losses.LovaszSoftmaxLoss()},
    }                                                                              # fmt: skip


def without_focus() -> dict[str, Loss]:
    """Focal losses with γ = 0, which are cross-entropy where the focal loss has a softmax."""
    import kornia.losses
    import monai.losses
    import segmentation_models_pytorch.losses as smp

    return {"seglib": ours.FocalLoss(0.0),
            "smp": smp.FocalLoss("multiclass", gamma=0.0, ignore_index=255),
            "MONAI": masked_focal(monai.losses, gamma=0.0),
            "kornia": kornia.losses.FocalLoss(None, 0.0, "mean", ignore_index=255)}  # fmt: skip


def masked_dice(monai: Any) -> Loss:
    """MONAI leaves void out by a mask, which its MaskedDiceLoss takes."""
    loss = monai.MaskedDiceLoss(softmax=True, to_onehot_y=True, batch=True)
    return lambda logits, target: loss(logits, torch.where(target == 255, 0, target)[:, None],
                                       mask=(target != 255)[:, None].float())      # fmt: skip


def masked_focal(monai: Any, gamma: float = 2.0) -> Loss:
    """MONAI's focal loss knows no void; MaskedLoss multiplies both inputs by a mask."""
    loss = monai.MaskedLoss(monai.FocalLoss, use_softmax=True, to_onehot_y=True, gamma=gamma)
    return lambda logits, target: loss(logits, torch.where(target == 255, 0, target)[:, None],
                                       mask=(target != 255)[:, None].float())
