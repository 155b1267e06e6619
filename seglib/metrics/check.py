"""What the metrics ask of labels and logits, and of two counts before they add."""

from typing import Any

from torch import Tensor


def alike(mine: Any, theirs: Any, *names: str) -> dict[str, Any]:
    """What two counts were both made with; ValueError if it differs, for then they do not add."""
    made, other = ({name: getattr(counts, name) for name in names} for counts in (mine, theirs))
    if made != other:
        raise ValueError(f"found counts made with {made} and {other}; only equal ones add")
    return made


def check_range(labels: Any, valid: Any, num_classes: int, name: str) -> None:
    """Raise ValueError if one of the valid labels, an array or a tensor, is no class."""
    bad = valid & ((labels < 0) | (labels >= num_classes))
    if bad.any():
        raise ValueError(
            f"the {name} has label {int(labels[bad][0])} at {int(bad.sum())} pixels, expected 0 to "
            f"{num_classes - 1}"
        )


def check_not_nan(best: Tensor) -> None:
    """Raise ValueError if a pixel's highest logit is NaN, as it is if any of its logits is."""
    if best.sum().isnan() and (nan := best.isnan()).any():  # (∞ − ∞ is NaN, too)
        raise ValueError(
            f"found NaN in the logits of {int(nan.sum())} pixels, expected numbers; look for NaN "
            "in the images and in the weights, and compute in bf16 or float32 where it is fp16"
        )
