"""What `python -m seglib train` does, in one process or, started by torchrun, in several."""

import argparse
import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Any

from seglib.cli.data import device_of, open_dataset
from seglib.cli.settings import MODEL_OPTIONS, TrainSettings, read_settings, setting_names


def train(options: argparse.Namespace) -> int:
    from seglib.engine import distributed

    names = (*setting_names(), *MODEL_OPTIONS)
    flags = {name: value for name, value in vars(options).items() if name in names}
    settings = read_settings(options.recipe, flags)
    if len(settings.zoom) != 2:
        raise ValueError(f"found zoom = {settings.zoom}, expected two numbers: low,high")
    with distributed.process_group(settings.device) as device:
        return _train(options, settings, device)


def _train(options: argparse.Namespace, s: TrainSettings, name: str) -> int:
    import torch

    from seglib.engine import distributed
    from seglib.engine.artifacts import write_description
    from seglib.engine.checkpoints import make_folder
    from seglib.engine.normalisation import normalisation
    from seglib.losses import class_weights
    from seglib.models import create_model
    from seglib.models.pretrained import read_content, set_normalisation
    from seglib.training import fit
    from seglib.transforms import eval_transform, train_transform

    out, first, device = Path(options.out), distributed.rank() == 0, device_of(name)
    make_folder(out)
    train_set, val_set = open_dataset(s, s.train_split), open_dataset(s, s.val_split)
    statistics = counted(train_set, val_set, s)
    method = s.class_weights
    weights = None if method is None else class_weights(statistics[s.train_split], method)
    torch.manual_seed(s.seed)  # the first weights
    going_on = (out / "last.pt").exists()
    published = (None, "imagenet", "coco", "ade20k", "hub")  # (others bring options of the model)
    fixed = s.pretrained in published
    replaced = (options.resume or options.extend) and going_on and fixed  # by the checkpoint's
    pretrained = False if s.pretrained is None or replaced else s.pretrained
    model = create_model(s.model, train_set.num_classes, pretrained, **s.options).to(device)
    own = "mask" if getattr(model, "classifies_masks", False) else "cross-entropy"
    if replaced:
        set_normalisation(model, read_content(out / "last.pt"))
    mean, std = normalisation(model)
    augment: Any = {key: getattr(s, key) for key in ("zoom", "stretch", "flip", "colour")}
    train_set.transform = train_transform(s.height, s.width, mean=mean, std=std, **augment)
    val_set.transform = eval_transform(s.height, s.width, mean, std)
    if s.sync_batchnorm:
        distributed.synchronise_batchnorm(model, device)
    if first:
        images = f"{len(train_set)} images to train on, {len(val_set)} to validate"
        size = sum(p.numel() for p in model.parameters())
        print(f"{s.data}: {images}, {s.height}×{s.width}; {s.model} with {size:,} parameters")
        void = (f"{x.void / (x.void + x.pixels.sum()):.1%} of {n}" for n, x in statistics.items())
        print(f"void: {' and '.join(void)}")
    described = partial(write_description, out, dataclasses.asdict(s), device)
    history = fit(
        model,
        *loaders(train_set, val_set, s, device),
        loss=create_loss(own if s.loss == "auto" else s.loss, weights, s.label_smoothing),
        out=out,
        resume="extend" if options.extend else options.resume,
        config=s.compared(),
        on_start=described if first and (options.extend or not going_on) else None,
        **{key: getattr(s, key) for key in FIT},
    )
    if first:
        write_examples(out, val_set)
        best = history.best
        found = f"{s.val_split} mIoU {best['val_miou']:.4f}; weights in {out / 'best.pt'}"
        print(f"{history.table()}\nbest epoch {best['epoch']:.0f}: {found}")
    return 0


FIT = (  # the settings that `fit` takes as they are
    *("epochs", "lr", "weight_decay", "schedule", "clip", "patience", "backbone_lr", "seed"),
    *("freeze_epochs", "amp", "accumulate", "ema", "channels_last", "compile"),
)


def loaders(train_set: Any, val_set: Any, s: TrainSettings, device: Any) -> list[Any]:
    """Batches of both, to train on in a random order."""
    from seglib.data import make_loader
    from seglib.engine.on_device import DeviceLoader

    workers = choose_workers(device) if s.workers == "auto" else s.workers
    workers = 0 if s.cache == "device" else workers
    found: list[Any] = [
        make_loader(train_set, s.batch_size, shuffle=True, seed=s.seed, workers=workers),
        make_loader(val_set, s.batch_size, workers=workers),
    ]
    return [DeviceLoader(x, device) for x in found] if s.cache == "device" else found


def choose_workers(device: Any) -> int:
    """How many processes read and augment: on a CPU none, since training takes all its cores."""
    allowed: Any = getattr(os, "sched_getaffinity", None)  # (not on macOS and Windows)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return 0 if device.type == "cpu" else min(8, cores)


def counted(train_set: Any, val_set: Any, s: TrainSettings) -> dict[str, Any]:
    """The class statistics of both splits, once it is sure that they can be learnt from.

    Raises ValueError for masks that cannot be read or from which nothing is learnt, and for images
    that both splits have.
    """
    from seglib.data import class_statistics
    from seglib.data.statistics import nothing_to_learn

    images, others = ({p.resolve() for p, _ in data.files} for data in (train_set, val_set))
    if both := sorted(images & others):
        raise ValueError(
            f"{len(both)} of {len(others)} images of {s.val_split} are in {s.train_split} too, "
            f"such as {both[0].name}: scores on what was trained on say nothing; choose another "
            "val_split"
        )
    found = {}
    for split, data in ((s.train_split, train_set), (s.val_split, val_set)):
        found[split] = class_statistics(data)
        if reason := nothing_to_learn(found[split], data.ignore_index):
            raise ValueError(f"split {split!r}: {reason}")
    return found


def create_loss(name: str, weight: Any = None, label_smoothing: float = 0.0) -> Any:
    """A loss by its name in recipes, or the sum of several, as in "cross-entropy+dice".

    `weight` goes to each of them. Raises ValueError for what there is not.
    """
    from seglib import losses
    from seglib.util.suggest import did_you_mean

    makers: dict[str, Any] = {
        "cross-entropy": lambda: losses.CrossEntropyLoss(weight, label_smoothing=label_smoothing),
        "focal": lambda: losses.FocalLoss(weight=weight),
        "dice": lambda: losses.DiceLoss(weight),
        "tversky": lambda: losses.TverskyLoss(weight=weight),
        "mask": losses.MaskLoss,
        "lovasz": lambda: losses.LovaszSoftmaxLoss(weight),
    }
    names = name.split("+")
    for part in names:
        if part not in makers:
            hint = did_you_mean(part, makers)
            raise ValueError(f"there is no loss {part!r}{hint}; several are joined by +")
    if label_smoothing and "cross-entropy" not in names:
        raise ValueError(f"the loss {name!r} has no label_smoothing; only cross-entropy has it")
    if weight is not None and "mask" in names:
        raise ValueError("the loss 'mask' has no class_weights; leave them out, or choose another")
    found = [makers[part]() for part in names]
    return found[0] if len(found) == 1 else losses.CombinedLoss(dict.fromkeys(found, 1.0))


def write_examples(out: Path, dataset: Any, count: int = 4) -> None:
    """What best.pt makes of `count` images, in `out`/examples: truth left, prediction right."""
    import numpy as np
    from PIL import Image

    from seglib.engine.checkpoints import load_checkpoint, make_folder
    from seglib.inference import predict
    from seglib.plotting import overlay
    from seglib.util.files import atomic_write

    best = load_checkpoint(out / "best.pt")
    data, folder = best.data, out / "examples"
    make_folder(folder)
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    for index in dict.fromkeys(chosen.tolist()):
        image, truth = dataset.read(index)
        guess = predict(best.model, image, data.size, data.mean, data.std)
        names, colours = dataset.classes, dataset.palette
        halves = [overlay(image, labels, colours, classes=names) for labels in (truth, guess)]
        with atomic_write(folder / f"{dataset.files[index][0].stem}.png") as temporary:
            Image.fromarray(np.concatenate(halves, axis=1)).save(temporary, format="PNG")
