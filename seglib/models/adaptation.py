"""Another kind of picture without labels: BatchNorm's statistics, estimated anew.

What a network has learnt about a domain's brightness and contrast sits in its BatchNorm layers; Li
et al., 2016 (AdaBN, arXiv:1603.04779) exchange these numbers alone, for those of the new domain.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from seglib.models.freezing import eval_mode, is_frozen
from seglib.util.progress import progress

BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def adapt_batchnorm(
    model: nn.Module, loader: Iterable[Any], momentum: float | None = None
) -> nn.Module:
    """Give every BatchNorm of `model` the mean and variance of the loader's images, in place.

    Weights stay as they are, and so do frozen layers and those that a forward pass does not reach.
    Each batch is normalised by its own statistics, so batches should be as large as in training.

    Args:
        loader: of float images (N, 3, H, W), normalised as for training, or of (images, labels),
            whose labels are not looked at. Runs on the model's device.
        momentum: None: what all images, as one batch, would give: means weighted by the number of
            pixels, variances with the differences between batches; nothing of before is left. Or m:
            `running ← (1 − m) · running + m · batch` after each batch, from what the layer has now.

    Returns `model`, all modes as they were. ValueError if no BatchNorm can be adapted, for a
    `momentum` outside (0, 1], a loader without batches, and for what is no finite float image.
    """
    if momentum is not None and not 0 < momentum <= 1:
        raise ValueError(f"found momentum={momentum}, expected None or a number above 0, up to 1")
    layers: list[Any] = [m for m in model.modules() if isinstance(m, BATCHNORM)]
    layers = [m for m in layers if m.running_mean is not None and not is_frozen(m)]
    if not layers:
        raise ValueError(
            "the model has no BatchNorm to adapt (those that are frozen stay as they are); "
            'unfreeze them, or choose a network that was trained with norm="batch"'
        )
    sums: dict[Any, Tensor] = {}  # layer -> (3, channels): number of values, sum, sum of squares

    def add(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]  # (N, C, …)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        found = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
        var, mean = (value.cpu().double() for value in found)
        moments = torch.stack([torch.ones_like(mean), mean, var + mean**2])
        sums[layer] = sums.get(layer, 0) + x.numel() / x.shape[1] * moments

    before = [layer.momentum for layer in layers]
    hooks = [] if momentum else [layer.register_forward_pre_hook(add) for layer in layers]
    empty = True
    with eval_mode(model), torch.no_grad():
        try:
            for layer in layers:
                layer.training, layer.momentum = True, momentum or 0.0
            for batch in progress(loader, desc="BatchNorm", unit="batch"):
                empty = False
                model(checked_images(batch, model).to(layers[0].running_mean))
        finally:
            for layer, value in zip(layers, before, strict=True):
                layer.training, layer.momentum = False, value
            for hook in hooks:
                hook.remove()
        if empty:
            raise ValueError("the loader gave no batch, so there is nothing to adapt to")
        for layer, (number, total, squares) in sums.items():
            if (count := number[0]) > 1:
                mean = total / count
                layer.running_mean.copy_(mean)
                layer.running_var.copy_((squares - count * mean**2).clamp(min=0) / (count - 1))
    return model


def checked_images(batch: Any, model: Any) -> Tensor:
    """The images of a batch; ValueError unless they are finite floats (N, channels, H, W)."""
    images: Any = batch[0] if isinstance(batch, list | tuple) and batch else batch
    options, tensor = getattr(model, "options", None), torch.is_tensor(images)
    channels = options.get("in_channels", 3) if isinstance(options, dict) else "C"
    fits = tensor and images.is_floating_point() and images.ndim == 4
    if not fits or channels not in ("C", images.shape[1]):
        found = f"{images.dtype} {tuple(images.shape)}" if tensor else type(images).__name__
        raise ValueError(
            f"found a batch of {found}, expected float images (N, {channels}, H, W), or (images, "
            "labels); give the data set transform=eval_transform(height, width)"
        )
    if not images.isfinite().all():
        raise ValueError(
            "found images with values that are not finite; look at files and transform"
        )
    return images
