"""Losses for semantic segmentation: `loss(logits, target) -> scalar`, right about ignored pixels.

Every mean runs over the valid pixels of the batch: an ignored pixel changes neither the value
nor the gradient, and a batch without a valid pixel gives zero, with a gradient path.
"""

from seglib.losses.check import check_labels
from seglib.losses.combined import CombinedLoss
from seglib.losses.masks import MaskLoss, mask_targets, match
from seglib.losses.overlap import DiceLoss, LovaszSoftmaxLoss, TverskyLoss
from seglib.losses.pixels import CrossEntropyLoss, FocalLoss
from seglib.losses.weights import class_weights

__all__ = ["CombinedLoss", "CrossEntropyLoss", "DiceLoss", "FocalLoss", "LovaszSoftmaxLoss"]
__all__ += ["MaskLoss", "TverskyLoss", "check_labels", "class_weights", "mask_targets", "match"]
