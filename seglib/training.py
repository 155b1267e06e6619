"""fit and evaluate: the training loop of the course, in one sitting.

A run is a function of its settings and its seed. The order of the images and their augmentation
depend on (seed, epoch, index), and all other random numbers of an epoch are drawn from a
generator seeded by (seed, epoch); so a run that is killed and resumed ends with the same weights,
bit for bit on a CPU, as one that was not.
"""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from seglib.engine import distributed, validation
from seglib.engine.accumulation import (
    BatchLosses,
    batch_weights,
    epoch_at,
    grouped,
    last_denominator,
    remaining,
)
from seglib.engine.batches import Batches
from seglib.engine.checkpoints import DataSpec
from seglib.engine.history import History
from seglib.engine.memory import explain_out_of_memory
from seglib.engine.precision import Compute, check_model, optimizer_step
from seglib.engine.schedules import PER_STEP
from seglib.engine.signals import Interrupted, StopOnSignal
from seglib.engine.state import EpochProgress, Run, epoch_randomness
from seglib.metrics import ConfusionMatrix, Scores
from seglib.models.freezing import backbone_of, eval_mode, frozen
from seglib.util.progress import progress


def fit(
    model: nn.Module,
    train_loader: Any,
    val_loader: Any = None,
    *,
    epochs: int,
    lr: float = 1e-3,
    loss: Any = None,
    weight_decay: float = 0.01,
    schedule: str = "onecycle",
    clip: float | None = None,
    patience: int | None = None,
    ignore_index: int = 255,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool | str = False,
    config: dict[str, Any] | None = None,
    backbone_lr: float | None = None,
    freeze_epochs: int = 0,
    amp: str | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    channels_last: bool = True,
    compile: bool = False,
    on_start: Callable[[], object] | None = None,
    on_epoch: Callable[[nn.Module, dict[str, float]], object] | None = None,
) -> History:
    """Train `model` in place with AdamW, on the device that it is on.

    After each epoch it is evaluated on `val_loader`; the best epoch is the one with the highest
    val mIoU (without `val_loader`, the lowest training loss).

    Args:
        train_loader, val_loader: of float images (N, 3, H, W) and labels (N, H, W), or lists of
            such batches. The masks of val, if a data set of ours has them, are read beforehand.
        loss: called as loss(logits, target); default cross-entropy; of masks `MaskLoss`.
        schedule: of the learning rate: "onecycle" (Smith & Topin, 2018, arXiv:1708.07120), "poly"
            (power 0.9), "plateau" (÷ 3 after 5 epochs without a better one) or "constant".
        clip: bound of the gradient's norm, or None.
        patience: stop after so many epochs without a better one, or None.
        seed: of what torch draws, dropout say. Order and augmentation of the images come from
            `make_loader(seed=…)`: without dropout, runs that differ in this seed only are equal.
            Another training needs another seed there, or other first weights.
        out: folder for last.pt, best.pt, history.csv and history.png.
        resume: go on from `out`/last.pt; without one, start anew. "extend": also to more `epochs`
            (onecycle and poly begin anew for those to come).
        config: further settings of the caller, kept in the checkpoint and compared on resume.
        backbone_lr: learning rate of `model.backbone`; the schedule scales both. None: `lr`.
        freeze_epochs: for so many epochs the backbone is frozen (see `seglib.models.freeze`).
        amp: "bf16" or "fp16": the forward pass in half precision, the loss in float32.
        accumulate: batches to a step of the optimiser (see `seglib.engine.accumulation`).
        ema: 0.999, say: `w̄ ← 0.999 w̄ + 0.001 w` after each step; these averaged weights are
            evaluated and saved, and `model` ends with them.
        channels_last: the memory layout of images and weights: faster on most machines, and the
            same numbers to rounding, but that dropout draws others.
        compile: `torch.compile` for the training steps: half a minute first.
        on_start: called once nothing has been refused, before the first step.
        on_epoch: called as on_epoch(model, row) after each epoch, with the weights that were
            evaluated, in eval mode, and the epoch's row of the history.

    Raises ValueError for settings or batches that do not fit (on resume, naming the key that
    differs), FileExistsError if `out` holds a run already, FloatingPointError, naming the batch's
    files, if the loss is not finite (on CUDA up to 50 batches later: `BatchLosses`), MemoryError
    with what to try. With `out`, SIGTERM and Ctrl-C wait for the end of a step, save where the run
    stands and raise `Interrupted`; a second acts at once. Processes: `seglib.engine.distributed`.
    """
    settings = {name: value for name, value in locals().items() if name in validation.COMPARED}
    settings["validation"] = val_loader is not None
    validation.check_settings(settings)
    check_model(model)
    compute = Compute.of(model, amp, channels_last)
    loss = validation.as_loss(loss, ignore_index, compute.device, model)
    train_loader = Batches(train_loader, ignore_index)
    validation.check_data(ignore_index, train_loader.dataset, loss)
    validation.check_trainable(model)
    validation.check_normalisation(model, train_loader.dataset)
    validation.check_masks(val_loader, "to validate")
    settings |= {**validation.describe(model, train_loader, loss), **(config or {})}
    backbone = backbone_of(model) if freeze_epochs else model
    run = Run(model, compute, settings, train_loader, out)
    train_loader.loader = distributed.split_batches(train_loader.loader)
    val_loader = distributed.split_images(val_loader)
    net: Any = distributed.wrapped(model, compute.device, freeze_epochs > 0)
    net = torch.compile(net) if compile else net  # what the steps call

    with run.open(resume), StopOnSignal(out is not None, compute.device) as stop:
        if on_start is not None:
            on_start()
        how: dict[str, Any] = {"scheduler": run.scheduler if schedule in PER_STEP else None}
        how |= {"clip": clip, "ignore_index": ignore_index, "accumulate": accumulate}
        how |= {"compute": compute, "scaler": run.scaler, "average": run.average, "stop": stop}
        for epoch in range(len(run.history.rows), epochs):
            if patience is not None and run.history.epochs_since_best() >= patience:
                break
            row, whole = run.begin_epoch(epoch), run.done.step == 0
            frozen_backbone = frozen(backbone) if epoch < freeze_epochs else nullcontext()
            randomness = epoch_randomness(seed, epoch, compute.device)
            try:
                with randomness, frozen_backbone, epoch_at(train_loader, epoch, run.done.step):
                    label = f"epoch {epoch + 1}/{epochs}{run.history.last_score()}"
                    row["train_loss"], images = train_epoch(
                        net, train_loader, loss, run.optimizer, label=label, done=run.done, **how
                    )
                if whole:
                    train_loader.check_learnt()
                validation.check_weights(model, epoch + 1)
                row |= run.measured(images)
                if val_loader is not None:
                    run.pause()  # saved, whatever happens in the evaluation
                    distributed.broadcast_buffers(run.result)
                    scores, row["val_loss"] = run_evaluation(
                        run.result, val_loader, ignore_index, loss, compute=compute, stop=stop
                    )
                    row["val_miou"] = scores.miou
                    validation.check_told_apart(scores.support, "to validate")
            except Interrupted:
                run.pause()
                raise
            run.end_epoch(row)
            if on_epoch is not None:
                with eval_mode(run.result):
                    on_epoch(run.result, run.history.rows[-1])
    run.finish()
    return run.history


def train_epoch(
    model: nn.Module,
    loader: Any,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any = None,
    clip: float | None = None,
    ignore_index: int = 255,
    label: str = "train",
    *,
    compute: Compute | None = None,
    scaler: Any = None,
    accumulate: int = 1,
    average: AveragedModel | None = None,
    done: EpochProgress | None = None,
    stop: StopOnSignal | None = None,
) -> tuple[float, int]:
    """One pass of optimisation over `loader`: the mean loss over valid pixels, and the images.

    `average` follows the weights, `done` is how far it has got, `stop` may end it after a step.
    """
    compute, done = compute or Compute.of(model), done or EpochProgress()
    processes, net, images = distributed.world(), cast(Any, model), None
    model.train()
    losses = BatchLosses(done, loader, compute.device)
    rest = remaining(loader, done, compute.device, ignore_index)
    with progress(rest, desc=label, unit="batch", initial=done.step, total=len(loader)) as bar:
        try:
            for group in grouped(bar, accumulate):  # the batches of one step
                targets = [compute.target(target) for _, target in group]
                weights = batch_weights(loss, targets, ignore_index, processes)
                optimizer.zero_grad(set_to_none=True)
                for i, (images, labels) in enumerate(group):
                    last = i + 1 == len(group)  # only then processes average their gradients
                    with nullcontext() if last or processes == 1 else net.no_sync():
                        logits = compute.logits(model, images)  # (N, C, H, W)
                        if done.step == 0:
                            validation.check_batch(logits, labels, loader.dataset)
                        validation.check_before_gpu(logits, labels, loader, ignore_index)
                        value = loss(logits, targets[i])  # scalar
                        whole = last_denominator(loss, targets[i], ignore_index)
                        losses.add(value, whole, images)
                        value = value if weights[i] == 1 else value * weights[i]
                        (value if scaler is None else scaler.scale(value)).backward()
                    bar.set_postfix_str(f"loss {done.mean:.3f}", refresh=False)
                stepped = optimizer_step(model, optimizer, clip, scaler)
                done.skipped += not stepped
                if stepped and scheduler is not None:
                    scheduler.step()
                if stepped and average is not None:
                    average.update_parameters(model)
                if stop is not None:
                    stop.check(done)
            losses.settle()
        except RuntimeError as error:
            explain_out_of_memory(error, images, compute.amp, accumulate, processes)
            raise
        except Interrupted:
            losses.settle()
            raise
    done = done.over_processes()
    return done.mean, done.images


def evaluate(
    model: nn.Module,
    loader: Any,
    ignore_index: int = 255,
    per_image: bool = False,
    *,
    amp: str | None = None,
) -> Scores:
    """Scores of `model` over everything in `loader`: one confusion matrix, void dropped.

    Runs on the model's device, in eval mode, without gradients; the model's mode is restored.
    With `per_image` the images are kept apart, for `scores.interval(groups=dataset.groups)`.
    `amp` as in `fit`. Several processes share the images, each of them once, and get the same
    scores; all of them must call this. ValueError for NaN, or if there is nothing to measure.
    """
    check_model(model)
    compute, loader = Compute.of(model, amp), distributed.split_images(loader)
    scores = run_evaluation(model, loader, ignore_index, None, per_image, compute=compute)[0]
    validation.check_told_apart(scores.support, "to evaluate on")
    return scores


def run_evaluation(
    model: nn.Module,
    loader: Any,
    ignore_index: int = 255,
    loss: Any = None,
    per_image: bool = False,
    *,
    compute: Compute | None = None,
    stop: StopOnSignal | None = None,
) -> tuple[Scores, float]:
    """Scores, and the loss averaged over valid pixels (NaN without `loss` or a valid pixel)."""
    compute, loader = compute or Compute.of(model), Batches(loader, ignore_index)
    dataset = loader.dataset
    validation.check_data(ignore_index, dataset, loss)
    matrix, done, images = None, EpochProgress(), None
    common = distributed.common_batches(loader)
    with eval_mode(model), torch.inference_mode():
        try:
            bar = progress(loader, desc="evaluate", unit="batch")
            for number, (images, labels) in enumerate(bar):
                logits = compute.logits(model, images)  # (N, C, H, W)
                if matrix is None:
                    validation.check_batch(logits, labels, dataset)
                    matrix = ConfusionMatrix(logits.shape[1], ignore_index, per_image)
                validation.check_before_gpu(logits, labels, loader, ignore_index)
                target = compute.target(labels)  # (N, H, W)
                matrix.update(logits, target)
                if loss is not None:
                    value = loss(logits, target).item()
                    whole = float(last_denominator(loss, target, ignore_index))
                    done.step += 1
                    done.add(value, whole, len(images))
                if stop is not None and number < common:
                    stop.check()
        except RuntimeError as error:
            explain_out_of_memory(error, images, compute.amp)
            raise
    classes = distributed.max_over_processes(0 if matrix is None else matrix.num_classes)
    if classes == 0:
        raise ValueError("the loader gave no batch: its data set is empty")
    matrix = matrix or ConfusionMatrix(classes, ignore_index, per_image)
    matrix.matrix = matrix.matrix.to(compute.device)
    done = done.over_processes()
    scores = matrix.all_reduce().compute(DataSpec.of(dataset).classes)
    return scores, done.mean if done.denominator else math.nan
