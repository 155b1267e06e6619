"""Learning-rate schedules by name."""

from typing import Any

from torch.optim import Optimizer, lr_scheduler

SCHEDULES = ("onecycle", "poly", "plateau", "constant")
PER_STEP = ("onecycle", "poly")  # moved after every step, the others after every epoch


def make_scheduler(
    schedule: str, optimizer: Optimizer, lr: Any, epochs: int, steps: int, best_key: str
) -> Any:
    """The scheduler for `epochs` of `steps` steps each; `best_key` is what "plateau" watches."""
    if schedule == "onecycle":
        return lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps)
    if schedule == "poly":
        return lr_scheduler.PolynomialLR(optimizer, epochs * steps, power=0.9)
    if schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, "min" if best_key.endswith("loss") else "max", factor=1 / 3, patience=5
        )
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)
