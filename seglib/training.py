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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seglib.checkpoints import DataSpec, make_folder, read_training, save_checkpoint
from seglib.data.loader import SampleKey
from seglib.history import History
from seglib.losses import CrossEntropyLoss
from seglib.messages import did_you_mean
from seglib.metrics import ConfusionMatrix, Scores
from seglib.progress import progress

SCHEDULES = ("onecycle", "poly", "plateau", "constant")


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

    Raises ValueError for settings or batches that do not fit (also on resume, naming the key
    that differs), FileExistsError if `out` holds a run already, FloatingPointError, naming the
    batch and its files, if the loss is not finite. The checkpoints of before stay whole.
    """
    _check_settings(epochs=epochs, lr=lr, schedule=schedule, clip=clip, patience=patience)
    device = next(model.parameters()).device
    loss = (loss or CrossEntropyLoss(ignore_index=ignore_index)).to(device)
    data = DataSpec.of(train_loader.dataset)
    settings = {
        **_model_settings(model), "epochs": epochs, "lr": lr, "loss": repr(loss),
        "weight_decay": weight_decay, "schedule": schedule, "clip": clip, "patience": patience,
        "seed": seed, "batch_size": train_loader.batch_size, "images": len(train_loader.dataset),
        **(config or {}),
    }                                                                              # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    history = History(best_key="val_miou" if val_loader is not None else "train_loss")
    scheduler = _make_scheduler(schedule, optimizer, lr, epochs, len(train_loader), history)
    out = None if out is None else Path(out)
    if out is not None:
        make_folder(out)
        for stale in out.glob(".*.part"):                  # left by a kill in the midst of a save
            stale.unlink()
        if (out / "last.pt").exists():
            training = read_training(out / "last.pt", resume, settings)
            model.load_state_dict(training["state"])
            optimizer.load_state_dict(training["optimizer"])
            scheduler.load_state_dict(training["scheduler"])
            history.rows.extend(training["rows"])

    for epoch in range(len(history.rows), epochs):
        if patience is not None and history.epochs_since_best() >= patience:
            break
        start = time.perf_counter()
        rate = optimizer.param_groups[0]["lr"]
        with epoch_randomness(seed, epoch, device):
            if hasattr(train_loader.sampler, "set_epoch"):
                train_loader.sampler.set_epoch(epoch)
            step_scheduler = scheduler if schedule in ("onecycle", "poly") else None
            train_loss = train_epoch(
                model, train_loader, loss, optimizer, step_scheduler, clip, ignore_index,
                label=f"epoch {epoch + 1}/{epochs}{history.last_score()}",
            )                                                                      # fmt: skip
        row: dict[str, float] = {"epoch": epoch + 1, "lr": rate, "train_loss": train_loss}
        row["images_per_second"] = _drawn(train_loader) / (time.perf_counter() - start)
        if val_loader is not None:
            scores, val_loss = run_evaluation(model, val_loader, ignore_index, loss)
            row |= {"val_loss": val_loss, "val_miou": scores.miou}
        row["seconds"] = time.perf_counter() - start
        history.add(row)
        if schedule == "plateau":
            scheduler.step(row[history.best_key])
        if out is not None:
            if history.epochs_since_best() == 0:
                save_checkpoint(out / "best.pt", model, data)
            state = {
                "settings": settings, "rows": history.rows, "threads": torch.get_num_threads(),
                "torch": str(torch.__version__), "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
            }                                                                      # fmt: skip
            save_checkpoint(out / "last.pt", model, data, state)
            history.save_csv(out / "history.csv")
    if out is not None and history.rows:
        history.save_figure(out / "history.png")
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
) -> float:
    """One pass of optimisation over `loader`; returns the loss, averaged over valid pixels."""
    device = next(model.parameters()).device
    model.train()
    total, pixels = torch.zeros((), device=device, dtype=torch.float64), 0
    with progress(loader, desc=label, unit="batch") as bar:
        for step, (images, target) in enumerate(bar):
            images, target = images.to(device), target.to(device)   # (N,3,H,W), (N,H,W)
            logits = model(images)                                  # (N, C, H, W)
            if step == 0:
                _check_batch(logits, target, loader.dataset)
            value = loss(logits, target)                            # scalar
            if not math.isfinite(value.item()):
                raise FloatingPointError(_not_finite(value.item(), loader, step, images))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            count = int((target != ignore_index).sum())
            total, pixels = total + value.detach() * count, pixels + count
            bar.set_postfix_str(f"loss {float(total) / max(pixels, 1):.3f}", refresh=False)
    return float(total) / max(pixels, 1)


def evaluate(model: nn.Module, loader: Any, ignore_index: int = 255) -> Scores:
    """Scores of `model` over everything in `loader`: one confusion matrix, void dropped.

    Runs on the model's device, in eval mode, without gradients; the model's mode is restored.
    """
    return run_evaluation(model, loader, ignore_index)[0]


def run_evaluation(
    model: nn.Module, loader: Any, ignore_index: int = 255, loss: nn.Module | None = None
) -> tuple[Scores, float]:
    """Scores, and the loss averaged over valid pixels (NaN without `loss` or a valid pixel)."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    matrix, total, pixels = None, 0.0, 0
    try:
        with torch.inference_mode():
            for images, target in progress(loader, desc="evaluate", unit="batch"):
                images, target = images.to(device), target.to(device)
                logits = model(images)                              # (N, C, H, W)
                if matrix is None:
                    _check_batch(logits, target, loader.dataset)
                    matrix = ConfusionMatrix(logits.shape[1], ignore_index)
                matrix.update(logits, target)
                if loss is not None:
                    count = int((target != ignore_index).sum())
                    total += loss(logits, target).item() * count
                    pixels += count
    finally:
        model.train(was_training)
    if matrix is None:
        raise ValueError("the loader gave no batch: its data set is empty")
    scores = matrix.compute(DataSpec.of(loader.dataset).classes)
    return scores, total / pixels if pixels else math.nan


@contextmanager
def epoch_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers (dropout, say) from (seed, epoch); restore the state after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(SampleKey(seed, epoch, 0).derived_seed())
        yield


def _make_scheduler(
    schedule: str,
    optimizer: torch.optim.Optimizer,
    lr: float,
    epochs: int,
    steps: int,
    history: History,
) -> Any:
    if steps == 0:
        raise ValueError("the training loader has no batch; use a smaller batch size, or more data")
    if schedule == "onecycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps)
    if schedule == "poly":
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, epochs * steps, power=0.9)
    if schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "min" if history.best_key == "train_loss" else "max", 1 / 3, patience=5
        )
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _check_settings(
    epochs: int, lr: float, schedule: str, clip: float | None, patience: int | None
) -> None:
    for name, value in (("epochs", epochs), ("lr", lr), ("clip", clip), ("patience", patience)):
        if value is not None and not value > 0:
            raise ValueError(f"found {name}={value}, expected a number above 0")
    if schedule not in SCHEDULES:
        raise ValueError(f"there is no schedule {schedule!r}{did_you_mean(schedule, SCHEDULES)}")


def _model_settings(model: nn.Module) -> dict[str, Any]:
    return {
        "model": getattr(model, "name", type(model).__name__),
        "num_classes": getattr(model, "num_classes", None),
        **getattr(model, "options", {}),
    }


def _check_batch(logits: Tensor, target: Tensor, dataset: Any) -> None:
    classes = DataSpec.of(dataset).classes
    if classes and len(classes) != logits.shape[1]:
        raise ValueError(
            f"the model predicts {logits.shape[1]} classes, but the data set has {len(classes)} "
            f"({', '.join(classes[:4])}, …); build the model with num_classes={len(classes)}"
        )
    if target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"found logits {tuple(logits.shape)} for a target {tuple(target.shape)}, expected "
            "logits (N, C, H, W) at the target's size (N, H, W)"
        )


def _not_finite(value: float, loader: Any, step: int, images: Tensor) -> str:
    """What is known about a batch with a loss that is not finite."""
    epoch = getattr(loader.sampler, "epoch", None)
    when = f"batch {step + 1}" + ("" if epoch is None else f" of epoch {epoch + 1}")
    names = []
    if epoch is not None and hasattr(loader.dataset, "files"):
        # The seeded sampler gives the same order again, so the batch's members are known.
        keys = [key for i, batch in enumerate(loader.batch_sampler) if i == step for key in batch]
        names = [loader.dataset.files[key.index][0].name for key in keys]
    cause = "" if torch.isfinite(images).all() else "; the images hold values that are not finite"
    return (
        f"the loss is {value} at {when}"
        + (f" ({', '.join(names)})" if names else "")
        + cause
        + "; lower lr, set clip=1.0, or look at these files; the checkpoints of before are whole"
    )


def _drawn(loader: Any) -> int:
    """Images that one pass over the loader draws."""
    whole = len(loader) * loader.batch_size
    return whole if loader.drop_last else min(whole, len(loader.dataset))
