"""Losses of other libraries, each called as its documentation says for labels with void 255."""

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seglib import losses as ours

Loss = Callable[[Tensor, Tensor], Tensor]
PACKAGES = {
    "smp": "segmentation-models-pytorch",
    "MONAI": "monai",
    "kornia": "kornia",
    "torch": "torch",
}


def versions(packages: dict[str, str]) -> dict[str, str]:
    return {name: importlib.metadata.version(package) for name, package in packages.items()}


def installed(packages: dict[str, str]) -> bool:
    modules = {"scikit-learn": "sklearn"}
    return all(
        importlib.util.find_spec(modules.get(package, package.replace("-", "_")))
        for package in packages.values()
    )


def quietly(name: str) -> Any:
    """A module of a library, imported only when it is asked for: not every test has them all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def of_seglib() -> dict[str, Loss]:
    return {
        "cross-entropy": ours.CrossEntropyLoss(),
        "focal": ours.FocalLoss(2.0),
        "Dice": ours.DiceLoss(),
        "Tversky": ours.TverskyLoss(0.3, 0.7),
        "Lovász": ours.LovaszSoftmaxLoss(),
    }


def of_torch() -> dict[str, Loss]:
    return {"cross-entropy": nn.CrossEntropyLoss(ignore_index=255)}


def of_smp() -> dict[str, Loss]:
    smp = quietly("segmentation_models_pytorch.losses")
    return {
        "cross-entropy": smp.SoftCrossEntropyLoss(ignore_index=255, smooth_factor=0.0),
        "focal": smp.FocalLoss("multiclass", ignore_index=255),
        "Dice": smp.DiceLoss("multiclass", ignore_index=255),
        "Tversky": smp.TverskyLoss("multiclass", ignore_index=255, alpha=0.3, beta=0.7),
        "Lovász": smp.LovaszLoss("multiclass", ignore_index=255),
    }


def of_monai() -> dict[str, Loss]:
    """With the argument ignore_index, which these three losses have."""
    monai = quietly("monai.losses")
    options = {"softmax": True, "to_onehot_y": True, "batch": True, "ignore_index": 255}
    focal = {"use_softmax": True, "to_onehot_y": True, "ignore_index": 255}
    return {
        "focal": with_channel(monai.FocalLoss(gamma=2.0, **focal)),
        "Dice": with_channel(monai.DiceLoss(**options)),
        "Tversky": with_channel(monai.TverskyLoss(alpha=0.3, beta=0.7, **options)),
    }


def of_masked_monai() -> dict[str, Loss]:
    """Void left out by MONAI's masked losses, as was usual before ignore_index."""
    monai = quietly("monai.losses")
    return {"focal": masked_focal(monai), "Dice": masked_dice(monai)}


def of_kornia() -> dict[str, Loss]:
    kornia = quietly("kornia.losses")
    return {
        "focal": kornia.FocalLoss(None, 2.0, "mean", ignore_index=255),
        "Dice": kornia.DiceLoss("macro", ignore_index=255),
        "Tversky": kornia.TverskyLoss(0.3, 0.7, ignore_index=255),
        "Lovász": kornia.LovaszSoftmaxLoss(),
    }


# Library -> what gives its losses by kind: cross-entropy, focal (γ 2), Dice, Tversky, Lovász
LOSSES = {
    "seglib": of_seglib,
    "torch": of_torch,
    "smp": of_smp,
    "MONAI": of_monai,
    "MONAI, masked": of_masked_monai,
    "kornia": of_kornia,
}

# Library -> what gives its focal loss with γ = 0, which is cross-entropy where it has a softmax
WITHOUT_FOCUS: dict[str, Callable[[], Loss]] = {
    "seglib": lambda: ours.FocalLoss(0.0),
    "smp": lambda: quietly("segmentation_models_pytorch.losses").FocalLoss(
        "multiclass", gamma=0.0, ignore_index=255
    ),
    "MONAI": lambda: with_channel(
        quietly("monai.losses").FocalLoss(use_softmax=True, to_onehot_y=True, gamma=0.0)
    ),
    "MONAI, masked": lambda: masked_focal(quietly("monai.losses"), gamma=0.0),
    "kornia": lambda: quietly("kornia.losses").FocalLoss(None, 0.0, "mean", ignore_index=255),
}


def masked_dice(monai: Any) -> Loss:
    """MONAI's MaskedDiceLoss takes a mask, by which it leaves void out."""
    return masked(monai.MaskedDiceLoss(softmax=True, to_onehot_y=True, batch=True))


def masked_focal(monai: Any, gamma: float = 2.0) -> Loss:
    """MONAI's MaskedLoss multiplies both inputs of its focal loss by a mask."""
    options = {"use_softmax": True, "to_onehot_y": True, "gamma": gamma}
    return masked(monai.MaskedLoss(monai.FocalLoss, **options))


def with_channel(loss: Any) -> Loss:
    """MONAI's losses take labels (N, 1, H, W)."""
    return lambda logits, target: loss(logits, target[:, None])


def masked(loss: Any) -> Loss:
    def call(logits: Tensor, target: Tensor) -> Tensor:
        valid = target != 255
        return loss(logits, torch.where(valid, target, 0)[:, None], mask=valid[:, None].float())

    return call
