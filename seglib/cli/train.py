"""What `python -m seglib train` does, in one process or, started by torchrun, in several."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seglib.cli.data import device_of, open_dataset

if TYPE_CHECKING:
    from seglib.cli.settings import TrainSettings
    from seglib.data import SegmentationDataset


def train(options: argparse.Namespace) -> int:
    from seglib.cli.settings import read_settings
    from seglib.engine import distributed

    settings = read_settings(options.recipe, options.flags)
    if len(settings.zoom) != 2:
        raise ValueError(f"found zoom = {settings.zoom}, expected two numbers: low,high")
    with distributed.process_group(settings.device) as device:
        return _train(options, settings, device)


def _train(options: argparse.Namespace, s: TrainSettings, device: str) -> int:
    import torch

    from seglib.data import make_loader
    from seglib.engine import distributed
    from seglib.engine.artifacts import write_description, write_examples
    from seglib.engine.checkpoints import make_folder
    from seglib.losses.combined import create_loss
    from seglib.models import create_model
    from seglib.training import fit
    from seglib.transforms import eval_transform, train_transform

    first = distributed.rank() == 0
    augment = train_transform(
        s.height,
        s.width,
        zoom=(s.zoom[0], s.zoom[1]),
        stretch=s.stretch,
        flip=s.flip,
        colour=s.colour,
    )
    train_set = open_dataset(s, s.train_split, augment)
    val_set = open_dataset(s, s.val_split, eval_transform(s.height, s.width))
    weights = loss_weights(train_set, s.class_weights, look=s.data == "folder")
    loss = create_loss(s.loss, weights, s.label_smoothing)
    torch.manual_seed(s.seed)  # the first weights
    going_on = options.resume and (Path(options.out) / "last.pt").exists()
    skip = s.pretrained == "none" or (going_on and s.pretrained != "streets")  # (to be replaced)
    pretrained = False if skip else s.pretrained
    model = create_model(s.model, train_set.num_classes, pretrained, **s.options)
    model = model.to(device_of(device))
    parameters = sum(p.numel() for p in model.parameters())
    if first:
        print(
            f"{s.data}: {len(train_set)} images to train on, {len(val_set)} to validate, "
            f"{s.height}×{s.width}; {s.model} with {parameters:,} parameters"
        )
    if first and not (Path(options.out) / "last.pt").exists():  # (else it is resumed)
        make_folder(Path(options.out))
        write_description(options.out, dataclasses.asdict(s), device_of(device))
    history = fit(
        model,
        make_loader(train_set, s.batch_size, shuffle=True, seed=s.seed, workers=s.workers),
        make_loader(val_set, s.batch_size, workers=s.workers),
        epochs=s.epochs,
        lr=s.lr,
        loss=loss,
        weight_decay=s.weight_decay,
        schedule=s.schedule,
        clip=s.clip or None,
        patience=s.patience or None,
        backbone_lr=s.backbone_lr or None,
        freeze_epochs=s.freeze_epochs,
        seed=s.seed,
        out=options.out,
        resume=options.resume,
        config=s.compared(),
        amp=None if s.amp == "none" else s.amp,
        accumulate=s.accumulate,
        ema=s.ema or None,
        channels_last=s.channels_last,
        compile=s.compile,
        sync_batchnorm=s.sync_batchnorm,
    )
    if not first:
        return 0
    write_examples(Path(options.out), val_set)
    print(history.table())
    best = history.best
    print(
        f"best epoch {best['epoch']:.0f}: {s.val_split} mIoU {best['val_miou']:.4f}; "
        f"weights in {Path(options.out) / 'best.pt'}"
    )
    return 0


def loss_weights(dataset: SegmentationDataset, method: str, look: bool) -> Any:
    """The loss's class weights, or None for "none".

    Data of one's own (`look`) are counted in any case: masks of 0 and 255 would train on nothing.
    """
    from seglib.data import class_statistics
    from seglib.data.statistics import void_trap
    from seglib.losses.weights import class_weights

    if method == "none" and not look:
        return None
    statistics = class_statistics(dataset)
    if statistics.only_background and dataset.ignore_index:
        raise ValueError(void_trap(statistics, dataset.ignore_index))
    return None if method == "none" else class_weights(statistics, method)
