"""What are rendered streets worth beside ImageNet, when few real ones are labelled?

    python experiments/05_real.py --root ../shared/datasets     # hours in two processes
    python experiments/05_real.py small                         # some of the parts
    python experiments/05_real.py --table                       # what the record says

DeepLabv3+ on EfficientNet-Lite0 (output stride 16, 128 channels) from four starts: random weights;
rendered streets, from random weights; ImageNet; ImageNet, then the same rendered streets. The two
rendered starts have seen 16,000 scenes once (data/pretrain.py), and are trained first if they are
not here. Cross-entropy with ENet's class weights, of the frames at hand.

tuning  each start's learning rate and the backbone's share of it: 60 frames of the split fit at
        96×128, 800 images seen, scored on the drive dev
edges   the next rate up for what was best at the highest
small   20, 60 and 367 frames of train at 96×128, 800 images seen, scored on test
longer  as small with three times the images
large   as small at 180×240, 400 images seen, ASPP's dilations twice as large
larger  as large with three times the images
tuning_moves, moves
        the same with 60 frames, with the backbone or BatchNorm frozen
tuning_night, night
        24 rendered scenes by night: 800 images seen, tuned on other night scenes, cross-entropy +
        Dice, as in 05_pretraining.py
live    what the lesson trains itself: ImageNet by night, 144 images seen
tuning_ultrasound, real_slices
        Ultrasound at 128×128, 800 images seen, tuned on val: from scratch, from 8,000 rendered
        slices, from ImageNet

Void dropped, one confusion matrix over the split; of CamVid also each drive of test, and the
bootstrap interval over these. A seed decides which frames are taken (the same for all starts), the
head and the order; the last epoch's weights count. Without the real sets their parts are left out.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import finetuning
import numpy as np
import torch
from arms import RENDERING, InMemory
from fingerprints import ROOT
from records import Job, Part, main, summary_table

from seglib.data import CamVid, RenderedScans, RenderedStreets, Streets, Ultrasound, make_loader
from seglib.engine.checkpoints import save_checkpoint
from seglib.losses import CombinedLoss
from seglib.models import create_model
from seglib.training import fit
from seglib.transforms import eval_transform, resize_image, resize_mask, train_transform

FRAMES = (20, 60, 367)
SCRATCH, RENDERED, IMAGENET = "from scratch", "rendered streets", "ImageNet"
BOTH = "ImageNet, then rendered streets"
STARTS = (SCRATCH, RENDERED, IMAGENET, BOTH)
SLICES = (SCRATCH, "rendered slices", IMAGENET)
FILES = {
    RENDERED: "lite0_streets_deeplabv3plus.pt",
    BOTH: "imagenet_streets_deeplabv3plus.pt",
    "rendered slices": "lite0_scans_deeplabv3plus.pt",
}
FOLDER = ROOT / "runs" / "starts"  # ignored by git
FROZEN = {"head only": {"moves": "head"}, "BatchNorm frozen": {"moves": "no norms"}}
OPTIONS = {"backbone": "timm:tf_efficientnet_lite0", "output_stride": 16, "channels": 128}

# ---------------------------------------------------------------- starts


def file_of(start: str) -> Path:
    """The weights of a rendered start, trained if they are not here yet."""
    carried = ROOT / "data" / "weights" / FILES[start]
    path = carried if carried.exists() else FOLDER / FILES[start]
    if not path.exists() and start == "rendered slices":
        slices_start(path)
    elif not path.exists():
        names = {RENDERED: "lite0+streets", BOTH: "imagenet+streets"}
        script = [sys.executable, ROOT / "data" / "pretrain.py", names[start]]
        subprocess.run([*script, "--workers", "0", "--out", FOLDER], check=True)
    return path


def slices_start(path: Path) -> None:
    """The same network, from random weights, trained on rendered slices; each is seen once."""
    data = RenderedScans(range(500_000, 508_000), transform=train_transform(96, 96, **HALF))
    torch.manual_seed(0)
    model = create_model(
        finetuning.MODEL, data.num_classes, **OPTIONS, atrous_rates=tuple(SMALL["atrous_rates"])
    )
    loader = make_loader(data, 16, shuffle=True)
    fit(model, loader, epochs=1, lr=3e-3, loss=CombinedLoss(), clip=1.0, schedule="onecycle")
    save_checkpoint(path, model.half())


def build(start: str, classes: int, settings: dict[str, Any], seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    rates = tuple(settings["atrous_rates"])
    if start in FILES:
        return create_model(finetuning.MODEL, classes, file_of(start), atrous_rates=rates)
    pretrained = "imagenet" if start == IMAGENET else False
    return create_model(finetuning.MODEL, classes, pretrained, **OPTIONS, atrous_rates=rates)


@cache
def digest(start: str) -> str:
    return hashlib.sha256(file_of(start).read_bytes()).hexdigest()[:12] if start in FILES else ""


# ---------------------------------------------------------------- data


@cache
def reduced(data: Any, height: int, width: int) -> InMemory:
    """All of a split, reduced to the height and width once."""
    pairs = [data.read(i) for i in range(len(data))]
    return InMemory(
        np.stack([resize_image(image, height, width) for image, _ in pairs]),
        np.stack([resize_mask(mask, height, width) for _, mask in pairs]),
        data,
    )


def chosen(data: InMemory, frames: int, seed: int, settings: dict[str, Any]) -> InMemory:
    """Some frames of `data`, with augmentation: of a seed, the fewer are among the more."""
    order = np.random.default_rng(seed).permutation(len(data))[:frames]
    size = settings["height"], settings["width"]
    transform = train_transform(*size, **AUGMENTATION, **HALF)
    return InMemory(data.images[order], data.masks[order], data, transform)


def scored_on(data: Any, settings: dict[str, Any]) -> InMemory:
    size = settings["height"], settings["width"]
    small = reduced(data, *size)
    return InMemory(small.images, small.masks, small, eval_transform(*size, **HALF))


def night(first: int, scenes: int, settings: dict[str, Any], augmented: bool) -> InMemory:
    data = RenderedStreets(range(first, first + scenes), light="night")
    size = settings["height"], settings["width"]
    plain = eval_transform(*size, **HALF)
    found = train_transform(*size, **AT_NIGHT, **HALF) if augmented else plain
    return InMemory.copy_of(data, found)


@cache
def judged(split: str, height: int, width: int) -> InMemory:
    """Scenes to score on: "dev" and "test" by night, "day": the test scenes by day."""
    if split == "day":
        return InMemory.copy_of(Streets("test"), eval_transform(height, width, **HALF))
    first, count = (3000, 40) if split == "dev" else (Streets.SEEDS["test"][0], 60)
    return night(first, count, {"height": height, "width": width}, augmented=False)


# ---------------------------------------------------------------- CamVid


def rate(job: Job, part: str, arm: str) -> tuple[float, float]:
    """The learning rate and the backbone's share of it that won on dev."""
    parts = job.record.read()["parts"]
    runs = parts.get(part, {"runs": []})["runs"]
    if "edges" in parts and part == "tuning":
        runs = runs + parts["edges"]["runs"]
    found = [run for run in runs if run["arm"].startswith(f"{arm}, lr ")]
    if not found:
        raise ValueError(f"{arm} is not tuned yet; run the part {part}")
    best = max(found, key=lambda run: run["dev"]["miou"])
    return float(best["lr"]), float(best["share"])


def tuned(job: Job, start: str, named: str, how: dict[str, Any], tune: Any, *data: Any) -> None:
    """`tune` with every rate and share (of a frozen backbone only 1)."""
    shares = [1] if how.get("moves") == "head" else job.settings["shares"]
    for lr in job.settings["rates"]:
        for share in shares:
            arm, settings = {**how, "share": share}, {**job.settings, "lr": lr}
            name = f"{named}, lr {lr:g}, share {share:g}"
            job.once(name, job.settings["tuning_seed"], tune, start, arm, settings, *data)


def tuning(job: Job) -> None:
    data, dev = job.open(CamVid, "fit"), job.open(CamVid, "dev")
    if data is None:
        return
    for start in STARTS:
        tuned(job, start, start, {}, tune, data, dev)


def tuning_moves(job: Job) -> None:
    data, dev = job.open(CamVid, "fit"), job.open(CamVid, "dev")
    if data is None:
        return
    for start in (IMAGENET, BOTH):
        for name, how in FROZEN.items():
            tuned(job, start, f"{start}, {name}", how, tune, data, dev)


def edges(job: Job) -> None:
    data, dev = job.open(CamVid, "fit"), job.open(CamVid, "dev")
    if data is None:
        return
    for start, frozen in AT_THE_EDGE:
        named = f"{start}, {frozen}" if frozen else start
        tuned(job, start, named, FROZEN.get(frozen, {}), tune, data, dev)


def tune(start: str, how: dict[str, Any], settings: dict[str, Any], data: Any, dev: Any) -> Any:
    seed = settings["tuning_seed"]
    model, budget = trained(start, data, settings["frames"], how, settings, seed)
    return {**budget, "dev": finetuning.score(model, scored_on(dev, settings))}


def trained(
    start: str, data: Any, frames: int, how: dict[str, Any], settings: dict[str, Any], seed: int
) -> tuple[torch.nn.Module, dict[str, Any]]:
    kept = reduced(data, round(1.5 * settings["height"]), round(1.5 * settings["width"]))
    subset = chosen(kept, frames, seed, settings)
    model = build(start, data.num_classes, settings, seed)
    budget = finetuning.train(model, subset, settings, seed, how)
    return model, {**budget, "share": how["share"], "start": digest(start)}


def compare(job: Job) -> None:
    data, test = job.open(CamVid, "train"), job.open(CamVid, "test")
    if data is None:
        return
    for start in (RENDERED, BOTH):
        job.once(f"{start}, zero-shot", 0, zero_shot, start, test, job.settings)
    for seed in job.seeds:
        for frames in FRAMES:
            for start in STARTS:
                lr, share = rate(job, "tuning", start)
                settings, how = {**job.settings, "lr": lr}, {"share": share}
                name = f"{start}, {frames} frames"
                job.once(name, seed, measure, start, data, test, frames, how, settings, seed)


def moves(job: Job) -> None:
    data, test = job.open(CamVid, "train"), job.open(CamVid, "test")
    if data is None:
        return
    for seed in job.seeds:
        for start in (IMAGENET, BOTH):
            for name, how in FROZEN.items():
                arm = f"{start}, {name}"
                lr, share = rate(job, "tuning_moves", arm)
                settings, full = {**job.settings, "lr": lr}, {**how, "share": share}
                job.once(
                    arm, seed, measure, start, data, test, settings["frames"], full, settings, seed
                )


def zero_shot(start: str, test: Any, settings: dict[str, Any]) -> dict[str, Any]:
    model = build(start, test.num_classes, settings, 0)
    return {"test": finetuning.score(model, scored_on(test, settings), test.groups)}


def measure(
    start: str,
    data: Any,
    test: Any,
    frames: int,
    how: dict[str, Any],
    settings: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    model, budget = trained(start, data, frames, how, settings, seed)
    return {**budget, "test": finetuning.score(model, scored_on(test, settings), test.groups)}


# ---------------------------------------------------------------- night


def tuning_night(job: Job) -> None:
    for start in STARTS:
        tuned(job, start, start, {}, tune_night)


def tune_night(start: str, how: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return by_night(start, how, settings, settings["tuning_seed"], ["dev"])


def nights(job: Job) -> None:
    for start in (RENDERED, BOTH):
        job.once(f"{start}, zero-shot", 0, night_scores, start, job.settings)
    for seed in job.seeds:
        for start in STARTS:
            lr, share = rate(job, "tuning_night", start)
            settings, how = {**job.settings, "lr": lr}, {"share": share}
            job.once(start, seed, by_night, start, how, settings, seed, ["test", "day"])


def night_scores(start: str, settings: dict[str, Any]) -> dict[str, Any]:
    model = build(start, 11, settings, 0)
    size = settings["height"], settings["width"]
    return {split: finetuning.score(model, judged(split, *size)) for split in ("test", "day")}


def by_night(
    start: str, how: dict[str, Any], settings: dict[str, Any], seed: int, splits: list[str]
) -> dict[str, Any]:
    data = night(20_000 + 100 * seed, settings["scenes"], settings, augmented=True)
    model = build(start, data.num_classes, settings, seed)
    budget = finetuning.train(model, data, settings, seed, how)
    size = settings["height"], settings["width"]
    scores = {split: finetuning.score(model, judged(split, *size)) for split in splits}
    return {**budget, "share": how["share"], "start": digest(start), **scores}


def live(job: Job) -> None:
    how = {"share": job.settings["share"]}
    for seed in job.seeds:
        job.once(IMAGENET, seed, by_night, IMAGENET, how, job.settings, seed, ["test"])


# ---------------------------------------------------------------- ultrasound


def tuning_ultrasound(job: Job) -> None:
    data, val = job.open(Ultrasound, "train"), job.open(Ultrasound, "val")
    if data is None:
        return
    for start in SLICES:
        tuned(job, start, start, {}, on_ultrasound, data, val, "dev", job.settings["tuning_seed"])


def ultrasound(job: Job) -> None:
    data, test = job.open(Ultrasound, "train"), job.open(Ultrasound, "test")
    if data is None:
        return
    for seed in job.seeds:
        for start in SLICES:
            lr, share = rate(job, "tuning_ultrasound", start)
            settings, how = {**job.settings, "lr": lr}, {"share": share}
            job.once(start, seed, on_ultrasound, start, how, settings, data, test, "test", seed)


def on_ultrasound(
    start: str,
    how: dict[str, Any],
    settings: dict[str, Any],
    data: Any,
    other: Any,
    split: str,
    seed: int,
) -> dict[str, Any]:
    model, budget = trained(start, data, len(data), how, settings, seed)
    return {**budget, split: finetuning.score(model, scored_on(other, settings))}


# ---------------------------------------------------------------- settings

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # what the network expects
AUGMENTATION: dict[str, Any] = {"zoom": (0.9, 2.0), "stretch": 1.2, "flip": 0.5, "colour": 0.3}
AT_NIGHT: dict[str, Any] = {"zoom": (0.9, 1.6), "stretch": 1.2, "flip": 0.5, "colour": 0.2}
AT_THE_EDGE = tuple((start, "") for start in STARTS)
NET = {"batch_size": 8, "weight_decay": 0.01, "tuning_seed": 100, "class_weights": "enet"}
RATES = {"rates": [1e-3, 3e-3, 1e-2], "shares": [1, 0.2]}
SMALL = {**NET, "height": 96, "width": 128, "atrous_rates": [1, 2, 3], "images": 800}
LARGE = {**NET, "height": 180, "width": 240, "atrous_rates": [2, 4, 6], "images": 400}
SQUARE = {**SMALL, "height": 128}
SCENES = {**SMALL, "class_weights": None, "scenes": 24}
CODE = (
    *finetuning.TUNED,
    "TimmBackbone _features carried_weights timm_backbone.CARRIED OPTIONS HALF build",
)
FRAMED = (*CODE, "AUGMENTATION reduced chosen scored_on trained", "CamVid")
MEASURED = (*FRAMED, "FRAMES STARTS rate measure zero_shot")
BY_NIGHT = (*CODE, "AT_NIGHT night judged by_night", "data/streets/test", *RENDERING)
ON_SLICES = (*CODE, "AUGMENTATION reduced chosen scored_on trained on_ultrasound", "Ultrasound")
# What the rendered starts depend on
SCENES_SEEN = (
    "pretrain.LITE pretrain.STARTS pretrain.TRAINING pretrain.AUGMENTATION pretrain.FreshScenes "
    "pretrain.tints pretrain.train pretrain.SIZE pretrain.SCENE_SIZE"
)
STREETS = {RENDERED: SCENES_SEEN, BOTH: SCENES_SEEN}
SLICES_SEEN = {"rendered slices": "slices_start"}

PARTS = {
    "tuning": Part(
        tuning, (*FRAMED, "STARTS tuned tune"), {**SMALL, **RATES, "frames": 60}, 1, STREETS
    ),
    "edges": Part(
        edges,
        (*FRAMED, "FROZEN AT_THE_EDGE tuned tune"),
        {**SMALL, "rates": [3e-2], "shares": [1, 0.2], "frames": 60},
        1,
        STREETS,
    ),
    "small": Part(compare, MEASURED, SMALL, 5, STREETS),
    "large": Part(compare, MEASURED, LARGE, 5, STREETS),
    "longer": Part(compare, MEASURED, {**SMALL, "images": 2400}, 5, STREETS),
    "larger": Part(compare, MEASURED, {**LARGE, "images": 1200}, 5, STREETS),
    "tuning_night": Part(
        tuning_night, (*BY_NIGHT, "STARTS tuned tune_night"), {**SCENES, **RATES}, 1, STREETS
    ),
    "night": Part(nights, (*BY_NIGHT, "STARTS rate night_scores nights"), SCENES, 5, STREETS),
    "live": Part(
        live, (*BY_NIGHT, "live"), {**SCENES, "lr": 1e-2, "share": 0.2, "images": 144}, 20
    ),
    "tuning_moves": Part(
        tuning_moves, (*FRAMED, "FROZEN tuned tune"), {**SMALL, **RATES, "frames": 60}, 1, STREETS
    ),
    "tuning_ultrasound": Part(
        tuning_ultrasound,
        (*ON_SLICES, "SLICES tuned"),
        {**SQUARE, **RATES, "rates": [3e-3, 1e-2, 3e-2]},
        1,
        SLICES_SEEN,
    ),
    "real_slices": Part(ultrasound, (*ON_SLICES, "SLICES rate"), SQUARE, 5, SLICES_SEEN),
    "moves": Part(moves, (*MEASURED, "FROZEN moves"), {**SMALL, "frames": 60}, 5, STREETS),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, summary_table)
