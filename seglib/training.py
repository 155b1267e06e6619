"""fit and evaluate: the training loop of the course, in one sitting.

A run is a function of its settings and its seed. The order of the images and their augmentation
depend on (seed, epoch, index), and all other random numbers of an epoch are drawn from a
generator seeded by (seed, epoch); so a run that is killed and resumed ends with the same weights,
bit for bit on a CPU, as one that was not.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seglib import checks
from seglib.checkpoints import DataSpec, make_folder, read_training, save_checkpoint
from seglib.data.loader import SampleKey
from seglib.history import History
from seglib.losses import CrossEntropyLoss, check_labels
from seglib.machine import describe_machine
from seglib.metrics import ConfusionMatrix, Scores
from seglib.models.freezing import backbone_of, frozen, parameter_groups
from seglib.models.modes import eval_mode
from seglib.progress import progress
from seglib.schedules import PER_STEP, make_scheduler

FILES = ("last.pt", "best.pt", "history.csv", "history.png")       # what a run leaves in `out`


def fit(
    model: nn.Module,
    train_loader: Any,
    val_loader: Any = None,
    *,
    epochs: int,
    lr: float = 1e-3,
    loss: nn.Module | None = None,
    weight_decay: float = 0.01,
    schedule: str = "onecycle",
    clip: float | None = None,
    patience: int | None = None,
    ignore_index: int = 255,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    config: dict[str, Any] | None = None,
    backbone_lr: float | None = None,
    freeze_epochs: int = 0,
) -> History:
    """Train `model` in place with AdamW, on the device that it is on.

    After each epoch it is evaluated on `val_loader`; the best epoch is the one with the highest
    val mIoU (without `val_loader`, the lowest training loss).

    Args:
        train_loader, val_loader: yield float images (N, 3, H, W) and int64 labels (N, H, W);
            see `seglib.data.make_loader`.
        loss: called as loss(logits, target); default `CrossEntropyLoss(ignore_index=…)`.
        schedule: of the learning rate: "onecycle" (Smith & Topin, 2018, arXiv:1708.07120),
            "poly" (power 0.9, as DeepLab), "plateau" (÷ 3 after 5 epochs without a better val
            mIoU) or "constant".
        clip: bound of the gradient's norm, or None.
        patience: stop after so many epochs without a better one, or None.
        out: folder for last.pt, best.pt, history.csv and history.png.
        resume: go on from `out`/last.pt; without one, start anew.
        config: further settings of the caller, kept in the checkpoint and compared on resume.
        backbone_lr: learning rate of `model.backbone`, lower than `lr` if it is pretrained; the
            schedule scales both. None: `lr` for all.
        freeze_epochs: for so many epochs the backbone is frozen (see `seglib.models.freeze`).

    Raises ValueError for settings or batches that do not fit (also on resume, naming the key
    that differs), FileExistsError if `out` holds a run already, FloatingPointError, naming the
    batch and its files, if the loss is not finite. The checkpoints of before stay whole.
    """
    checks.check_settings(epochs, lr, schedule, clip, patience, seed, backbone_lr, freeze_epochs)
    backbone = backbone_of(model) if freeze_epochs else model
    device = next(model.parameters()).device
    loss = (loss or CrossEntropyLoss(ignore_index=ignore_index)).to(device)
    checks.check_ignore_index(ignore_index, train_loader.dataset, loss)
    if not len(train_loader):
        raise ValueError("the training loader has no batch; use a smaller batch size or more data")
    data = DataSpec.of(train_loader.dataset)
    settings = {
        **_model_settings(model), "epochs": epochs, "lr": lr, "loss": repr(loss),
        "weight_decay": weight_decay, "schedule": schedule, "clip": clip, "patience": patience,
        "seed": seed, "ignore_index": ignore_index, "validation": val_loader is not None,
        "backbone_lr": backbone_lr, "freeze_epochs": freeze_epochs or None,
        **checks.loader_settings(train_loader), **(config or {}),
    }                                                                              # fmt: skip
    groups: Any = model.parameters() if backbone_lr is None else \
        parameter_groups(model, lr, backbone_lr)                                   # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
    rates: Any = lr if backbone_lr is None else [lr, backbone_lr]          # (one, or one a group)
    history = History(best_key="val_miou" if val_loader is not None else "train_loss")
    scheduler = make_scheduler(
        schedule, optimizer, rates, epochs, len(train_loader), history.best_key
    )
    out = None if out is None else Path(out)
    if out is not None:
        _open_folder(out, resume, settings, model, optimizer, scheduler, history)

    for epoch in range(len(history.rows), epochs):
        if patience is not None and history.epochs_since_best() >= patience:
            break
        start = time.perf_counter()
        row: dict[str, float] = {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"]}
        resting = frozen(backbone) if epoch < freeze_epochs else nullcontext()
        with epoch_randomness(seed, epoch, device), resting:
            if hasattr(train_loader.sampler, "set_epoch"):
                train_loader.sampler.set_epoch(epoch)
            row["train_loss"], images = train_epoch(
                model, train_loader, loss, optimizer, scheduler if schedule in PER_STEP else None,
                clip, ignore_index, label=f"epoch {epoch + 1}/{epochs}{history.last_score()}",
            )                                                                      # fmt: skip
        checks.check_weights(model, epoch + 1)
        row["images_per_second"] = images / (time.perf_counter() - start)
        if val_loader is not None:
            scores, val_loss = run_evaluation(model, val_loader, ignore_index, loss)
            row |= {"val_loss": val_loss, "val_miou": scores.miou}
        row["seconds"] = time.perf_counter() - start
        history.add(row)
        if schedule == "plateau":
            scheduler.step(row[history.best_key])
        if out is not None:
            _save(out, settings, model, optimizer, scheduler, history, data)
    if out is not None and history.rows:
        history.save(out, figure=True)                     # also where a kill came before them
    return history


def train_epoch(
    model: nn.Module,
    loader: Any,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any = None,
    clip: float | None = None,
    ignore_index: int = 255,
    label: str = "train",
) -> tuple[float, int]:
    """One pass of optimisation over `loader`: the mean loss over valid pixels, and the images."""
    device = next(model.parameters()).device
    model.train()
    total, mass, seen = 0.0, 0.0, 0
    with progress(loader, desc=label, unit="batch") as bar:
        for step, (images, target) in enumerate(bar):
            logits = model(images.to(device))                       # (N, C, H, W)
            if step == 0:
                checks.check_batch(logits, target, loader.dataset)
            if device.type != "cpu":
                check_labels(target, logits.shape[1], ignore_index)
            target = target.to(device)                              # (N, H, W)
            value = loss(logits, target)                            # scalar
            number = value.item()
            if not math.isfinite(number):
                raise FloatingPointError(checks.not_finite(number, loader, step, images))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            count = _mass(loss, target, ignore_index)
            total, mass, seen = total + number * count, mass + count, seen + len(images)
            bar.set_postfix_str(f"loss {total / (mass or 1):.3f}", refresh=False)
    return total / (mass or 1), seen


def evaluate(
    model: nn.Module, loader: Any, ignore_index: int = 255, per_image: bool = False
) -> Scores:
    """Scores of `model` over everything in `loader`: one confusion matrix, void dropped.

    Runs on the model's device, in eval mode, without gradients; the model's mode is restored.
    With `per_image` the images are kept apart, for `scores.interval(groups=dataset.groups)`.
    """
    return run_evaluation(model, loader, ignore_index, per_image=per_image)[0]


def run_evaluation(
    model: nn.Module, loader: Any, ignore_index: int = 255, loss: nn.Module | None = None,
    per_image: bool = False,
) -> tuple[Scores, float]:                                                         # fmt: skip
    """Scores, and the loss averaged over valid pixels (NaN without `loss` or a valid pixel)."""
    device = next(model.parameters()).device
    dataset = getattr(loader, "dataset", None)
    checks.check_ignore_index(ignore_index, dataset, loss)
    matrix, total, mass = None, 0.0, 0.0
    with eval_mode(model), torch.inference_mode():
        for images, target in progress(loader, desc="evaluate", unit="batch"):
            logits = model(images.to(device))                       # (N, C, H, W)
            if matrix is None:
                checks.check_batch(logits, target, dataset)
                matrix = ConfusionMatrix(logits.shape[1], ignore_index, per_image)
            if device.type != "cpu":
                check_labels(target, logits.shape[1], ignore_index)
            target = target.to(device)                              # (N, H, W)
            matrix.update(logits, target)
            if loss is not None:
                count = _mass(loss, target, ignore_index)
                total, mass = total + loss(logits, target).item() * count, mass + count
    if matrix is None:
        raise ValueError("the loader gave no batch: its data set is empty")
    return matrix.compute(DataSpec.of(dataset).classes), total / mass if mass else math.nan


@contextmanager
def epoch_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers (dropout, say) from (seed, epoch); restore the state after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(SampleKey(seed, epoch, 0).derived_seed())
        yield


def _open_folder(
    out: Path, resume: bool, settings: dict[str, Any], model: nn.Module,
    optimizer: torch.optim.Optimizer, scheduler: Any, history: History,
) -> None:                                                                         # fmt: skip
    """Make the run's folder ready; restore what an interrupted run left there."""
    make_folder(out)
    checks.check_out(out, resume)
    if (out / "last.pt").exists():
        training = read_training(out / "last.pt", resume, settings)
        model.load_state_dict(training["state"])
        optimizer.load_state_dict(training["optimizer"])
        scheduler.load_state_dict(training["scheduler"])
        history.rows.extend(training["rows"])
    for stale in (part for name in FILES for part in out.glob(f".{name}.*.part")):
        stale.unlink()                                     # left by a kill in the midst of a save


def _save(
    out: Path, settings: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer,
    scheduler: Any, history: History, data: DataSpec,
) -> None:                                                                         # fmt: skip
    """Save the epoch. best.pt comes first: after a kill between the two, the epoch is run again
    and writes it again, whereas a best.pt that came too late would be missing for good."""
    if history.epochs_since_best() == 0:
        save_checkpoint(out / "best.pt", model, data)
    device = next(model.parameters()).device
    state = {
        "settings": settings, "rows": history.rows, "machine": describe_machine(device),
        "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
    }                                                                              # fmt: skip
    save_checkpoint(out / "last.pt", model, data, state)
    history.save(out, figure=False)


def _model_settings(model: nn.Module) -> dict[str, Any]:
    return {
        "model": getattr(model, "name", type(model).__name__),
        "num_classes": getattr(model, "num_classes", None),
        **getattr(model, "options", {}),
    }


def _mass(loss: nn.Module, target: torch.Tensor, ignore_index: int) -> float:
    """What the loss of a batch was divided by: weighing by it makes means of batches exact."""
    measure: Any = getattr(loss, "mass", None)
    if measure is not None:
        return float(measure(target))
    return float((target != ignore_index).sum())
