"""What is a checkpoint of rendered days worth at night, with 8, 24 or 80 labelled scenes?

    python experiments/05_pretraining.py                  # all parts, an hour in two processes
    python experiments/05_pretraining.py tuning night     # some of them
    python experiments/05_pretraining.py --table          # what the record says

tuning  each arm's learning rate with 24 scenes: three of them, scored on dev
edges   the next rate up for the arms whose best one was the highest of the three
night   zero-shot; from scratch; from scratch with five times the images; head only; all weights;
        all with the backbone ten times slower; all with BatchNorm frozen. Night test and, for what
        was forgotten, the day's
scans   slices instead of streets: from scratch, and from the same checkpoint with a new last layer
longer  the same slices with five times the images seen, at the same rates
edges_scans, edges_norms  the next rate up, as above
norms   fine-tuning in batches of 1, 2, 4 and 8: BatchNorm as usual, frozen, and its place taken by
        GroupNorm
live    what the lesson trains itself: all weights on 24 scenes, 144 images seen
adapted the checkpoint's BatchNorm statistics taken anew from 24 night scenes without a label:
        exact, or moved by a momentum of 0.1 a batch
mixed   all weights on 24 night scenes and as many by day, at the rate of "all weights"

DeepLabv3+ on MobileNetV3-Small at output stride 16, 96×128, cross-entropy + Dice. A seed decides
which scenes are labelled, the head and the order; the last epoch's weights count. Void dropped,
one confusion matrix over the split. Several processes may run this at once, one thread each
(OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from functools import cache
from typing import Any

import arms
import finetuning
import nets
import numpy as np
import torch
from arms import RENDERED_SLICES, RENDERING, InMemory
from records import Job, Part, main, summary_table

from seglib.data import RenderedScans, RenderedStreets, Scans, Streets, make_loader
from seglib.models import adapt_batchnorm
from seglib.models.blocks import to_group_norm
from seglib.transforms import eval_transform

SCENES = (8, 24, 80)
ARMS: dict[str, dict[str, Any]] = {
    "from scratch": {},
    "from scratch, five times the images": {"budget": 5},
    "head only": {"pretrained": True, "moves": "head"},
    "all weights": {"pretrained": True},
    "all weights, backbone slower": {"pretrained": True, "share": 0.1},
    "all weights, BatchNorm frozen": {"pretrained": True, "moves": "no norms"},
}
BEYOND = {
    "from scratch": 3e-2,
    "from scratch, five times the images": 3e-2,
    "head only": 1e-2,
    "all weights, backbone slower": 1e-2,
    "all weights, BatchNorm frozen": 1e-2,
}
NORMS = {"BatchNorm": {}, "BatchNorm frozen": {"moves": "no norms"}, "GroupNorm": {}}
BATCHES = (1, 2, 4, 8)
AT_THE_EDGE = (
    *(("GroupNorm", batch) for batch in BATCHES),
    ("BatchNorm frozen", 4),
    ("BatchNorm frozen", 8),
)
SLICES = {"from scratch": {}, "all weights": {"pretrained": True}}

# ---------------------------------------------------------------- data


def night_seeds(seed: int, scenes: int) -> range:
    """The labelled scenes of a run: of a seed, the fewer are the first of the more."""
    first = 20_000 + 100 * seed
    return range(first, first + scenes)


@cache
def night(seed: int, scenes: int, height: int, width: int) -> InMemory:
    settings = {**AUGMENTATION, "height": height, "width": width}
    return InMemory.copy_of(
        RenderedStreets(night_seeds(seed, scenes), light="night"), arms.augmentation(settings)
    )


@cache
def judged(split: str, height: int, width: int) -> InMemory:
    """Scenes to score on: "dev" and "test" by night, "day": the test scenes by day."""
    plain = eval_transform(height, width)
    if split == "day":
        return InMemory.copy_of(Streets("test"), plain)
    seeds = range(3000, 3040) if split == "dev" else Streets.SEEDS["test"]
    return InMemory.copy_of(RenderedStreets(seeds, light="night"), plain)


@cache
def slices(split: str, seed: int, count: int, height: int, width: int) -> InMemory:
    if split == "train":
        settings = {**AUGMENTATION, "height": height, "width": width}
        return InMemory.copy_of(
            RenderedScans(night_seeds(seed, count)), arms.augmentation(settings)
        )
    data = RenderedScans(range(3000, 3040)) if split == "dev" else Scans("test")
    return InMemory.copy_of(data, eval_transform(height, width))


# ---------------------------------------------------------------- parts


def label(scenes: int, arm: str) -> str:
    return f"{scenes} scenes, {arm}"


def tuning(job: Job) -> None:
    for arm, how in ARMS.items():
        for lr in job.settings["rates" if how.get("pretrained") else "scratch_rates"]:
            job.once(
                f"{arm}, lr {lr:g}",
                job.settings["tuning_seed"],
                tune,
                how,
                {**job.settings, "lr": lr},
            )


def edges(job: Job) -> None:
    for arm, lr in BEYOND.items():
        job.once(
            f"{arm}, lr {lr:g}",
            job.settings["tuning_seed"],
            tune,
            ARMS[arm],
            {**job.settings, "lr": lr},
        )


def tune(how: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    size, seed = (settings["height"], settings["width"]), settings["tuning_seed"]
    data = night(seed, settings["scenes"], *size)
    model = finetuning.build(data.num_classes, how.get("pretrained", False), seed)
    budget = finetuning.train(model, data, settings, seed, how)
    return {**budget, "dev": finetuning.score(model, judged("dev", *size))}


def rate(job: Job, part: str, arm: str, number: int) -> float:
    """The learning rate that won on dev, of `number` that were tried."""
    runs = job.record.read()["parts"][part]["runs"]
    found = [run for run in runs if run["arm"].startswith(f"{arm}, lr ")]
    if len(found) < number:
        raise ValueError(f"{arm}: its learning rate is not tuned yet; run the part {part}")
    return float(max(found, key=lambda run: run["dev"]["miou"])["lr"])


def by_night(job: Job) -> None:
    size = job.settings["height"], job.settings["width"]
    job.once("zero-shot", 0, zero_shot, size, job.settings["shown"])
    for scenes in SCENES:
        for seed in job.seeds:
            for arm, how in ARMS.items():
                name = label(scenes, arm)
                settings = {**job.settings, "lr": rate(job, "tuning", arm, 3)}
                job.once(name, seed, measure, scenes, how, settings, seed)


def zero_shot(size: tuple[int, int], shown: list[int]) -> dict[str, Any]:
    model = finetuning.build(len(Streets("test").classes), True, 0)
    return scored(model, size, shown)


def scored(model: torch.nn.Module, size: tuple[int, int], shown: list[int]) -> dict[str, Any]:
    """Test by night and by day, and the label maps of some night scenes."""
    result = {
        "test": finetuning.score(model, judged("test", *size)),
        "day": finetuning.score(model, judged("day", *size)),
    }
    if shown:
        maps = nets.label_maps(model, judged("test", *size), shown)
        result["maps"] = {str(i): nets.as_text(one) for i, one in zip(shown, maps, strict=True)}
    return result


def measure(
    scenes: int, how: dict[str, Any], settings: dict[str, Any], seed: int
) -> dict[str, Any]:
    size = settings["height"], settings["width"]
    data = night(seed, scenes, *size)
    model = finetuning.build(data.num_classes, how.get("pretrained", False), seed)
    budget = finetuning.train(model, data, settings, seed, how)
    return {**budget, **scored(model, size, settings["shown"] if seed == 0 else [])}


def live(job: Job) -> None:
    for seed in job.seeds:
        job.once("all weights", seed, measure, 24, ARMS["all weights"], job.settings, seed)


def adapted(job: Job) -> None:
    for seed in job.seeds:
        for name, momentum in (("exact", None), ("momentum 0.1", 0.1)):
            job.once(name, seed, adapt, momentum, job.settings, seed)


def adapt(momentum: float | None, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    size = settings["height"], settings["width"]
    seen = night(seed, settings["scenes"], *size)
    data = InMemory(seen.images, seen.masks, seen, eval_transform(*size))
    model = finetuning.build(data.num_classes, True, seed)
    adapt_batchnorm(model, make_loader(data, settings["batch_size"]), momentum)
    return scored(model, size, [])


def mixed(job: Job) -> None:
    for seed in job.seeds:
        settings = {**job.settings, "lr": rate(job, "tuning", "all weights", 3)}
        job.once("night and day", seed, on_both, settings, seed)


def on_both(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    size, scenes = (settings["height"], settings["width"]), settings["scenes"]
    dark = night(seed, scenes, *size)
    bright = InMemory.copy_of(RenderedStreets(night_seeds(seed, scenes), light="day"))
    pairs = [
        np.concatenate(pair) for pair in ((dark.images, bright.images), (dark.masks, bright.masks))
    ]
    data = InMemory(*pairs, dark, dark.transform)
    model = finetuning.build(data.num_classes, True, seed)
    budget = finetuning.train(model, data, settings, seed, {})
    return {**budget, **scored(model, size, [])}


def tuning_scans(job: Job) -> None:
    for arm, how in SLICES.items():
        for lr in job.settings["rates"]:
            job.once(
                f"{arm}, lr {lr:g}",
                job.settings["tuning_seed"],
                on_slices,
                "dev",
                how,
                {**job.settings, "lr": lr},
                job.settings["tuning_seed"],
            )


def edges_scans(job: Job) -> None:
    for arm, how in SLICES.items():
        settings = {**job.settings, "lr": job.settings["rate"]}
        job.once(
            f"{arm}, lr {settings['lr']:g}",
            job.settings["tuning_seed"],
            on_slices,
            "dev",
            how,
            settings,
            job.settings["tuning_seed"],
        )


def scans(job: Job) -> None:
    for seed in job.seeds:
        for arm, how in SLICES.items():
            settings = {**job.settings, "lr": rate(job, "tuning_scans", arm, 3)}
            job.once(arm, seed, on_slices, "test", how, settings, seed)


def on_slices(
    split: str, how: dict[str, Any], settings: dict[str, Any], seed: int
) -> dict[str, Any]:
    size = settings["height"], settings["width"]
    data = slices("train", seed, settings["slices"], *size)
    model = finetuning.build(data.num_classes, how.get("pretrained", False), seed)
    budget = finetuning.train(model, data, settings, seed, how)
    return {**budget, split: finetuning.score(model, slices(split, 0, 0, *size))}


def tuning_norms(job: Job) -> None:
    for norm in NORMS:
        for batch in BATCHES:
            for lr in job.settings["rates"]:
                job.once(
                    f"{norm}, batch {batch}, lr {lr:g}",
                    job.settings["tuning_seed"],
                    in_batches,
                    "dev",
                    norm,
                    batch,
                    {**job.settings, "lr": lr},
                    job.settings["tuning_seed"],
                )


def edges_norms(job: Job) -> None:
    for norm, batch in AT_THE_EDGE:
        settings = {**job.settings, "lr": job.settings["rate"]}
        job.once(
            f"{norm}, batch {batch}, lr {settings['lr']:g}",
            job.settings["tuning_seed"],
            in_batches,
            "dev",
            norm,
            batch,
            settings,
            job.settings["tuning_seed"],
        )


def norms(job: Job) -> None:
    for seed in job.seeds:
        for norm in NORMS:
            for batch in BATCHES:
                name = f"{norm}, batch {batch}"
                settings = {**job.settings, "lr": rate(job, "tuning_norms", name, 3)}
                job.once(name, seed, in_batches, "test", norm, batch, settings, seed)


def in_batches(
    split: str, norm: str, batch: int, settings: dict[str, Any], seed: int
) -> dict[str, Any]:
    size = settings["height"], settings["width"]
    data = night(seed, settings["scenes"], *size)
    model = finetuning.build(data.num_classes, True, seed)
    if norm == "GroupNorm":
        to_group_norm(model)
    budget = finetuning.train(model, data, {**settings, "batch_size": batch}, seed, NORMS[norm])
    return {**budget, split: finetuning.score(model, judged(split, *size))}


# ---------------------------------------------------------------- settings

AUGMENTATION = {"zoom": [0.9, 1.6], "stretch": 1.2, "flip": 0.5, "colour": 0.2}
NET = {"height": 96, "width": 128, "batch_size": 8, "weight_decay": 0.01, "tuning_seed": 100}
RATES = {"rates": [3e-4, 1e-3, 3e-3], "scratch_rates": [1e-3, 3e-3, 1e-2]}

CODE = (*finetuning.CODE, "AUGMENTATION night_seeds")
STREETS = (*CODE, "night judged", "data/streets/test", *RENDERING)
SCANS = (*CODE, "SLICES slices on_slices", "data/scans/test", *RENDERED_SLICES)

PARTS = {
    "tuning": Part(
        tuning, (*STREETS, "ARMS tuning tune"), {**NET, **RATES, "images": 800, "scenes": 24}
    ),
    "edges": Part(
        edges, (*STREETS, "ARMS BEYOND edges tune"), {**NET, "images": 800, "scenes": 24}
    ),
    "night": Part(
        by_night,
        (*STREETS, "ARMS SCENES label rate measure scored zero_shot"),
        {**NET, **RATES, "images": 800, "shown": [3, 8, 20]},
        seeds=5,
    ),
    "live": Part(
        live,
        (*STREETS, "ARMS measure scored"),
        {**NET, "lr": 1e-3, "images": 144, "shown": []},
        seeds=20,
    ),
    "adapted": Part(
        adapted,
        (*STREETS, "adapt scored adapt_batchnorm"),
        {**NET, "batch_size": 24, "scenes": 24},
        seeds=5,
    ),
    "mixed": Part(
        mixed,
        (*STREETS, "on_both rate scored"),
        {**NET, **RATES, "images": 800, "scenes": 24},
        seeds=5,
    ),
    "tuning_scans": Part(
        tuning_scans,
        (*SCANS, "tuning_scans"),
        {**NET, "width": 96, "rates": [1e-3, 3e-3, 1e-2], "images": 800, "slices": 24},
    ),
    "scans": Part(
        scans,
        (*SCANS, "scans rate"),
        {**NET, "width": 96, "rates": [1e-3, 3e-3, 1e-2], "images": 800, "slices": 24},
        seeds=5,
    ),
    "longer": Part(
        scans,
        (*SCANS, "scans rate"),
        {**NET, "width": 96, "rates": [1e-3, 3e-3, 1e-2], "images": 4000, "slices": 24},
        seeds=5,
    ),
    "tuning_norms": Part(
        tuning_norms,
        (*STREETS, "NORMS BATCHES tuning_norms in_batches"),
        {**NET, "rates": [3e-4, 1e-3, 3e-3], "images": 480, "scenes": 24},
    ),
    "edges_scans": Part(
        edges_scans,
        (*SCANS, "edges_scans"),
        {**NET, "width": 96, "rate": 3e-2, "images": 800, "slices": 24},
    ),
    "edges_norms": Part(
        edges_norms,
        (*STREETS, "NORMS AT_THE_EDGE edges_norms in_batches"),
        {**NET, "rate": 1e-2, "images": 480, "scenes": 24},
    ),
    "norms": Part(
        norms,
        (*STREETS, "NORMS BATCHES norms rate in_batches"),
        {**NET, "rates": [3e-4, 1e-3, 3e-3], "images": 480, "scenes": 24},
        seeds=5,
    ),
}

if __name__ == "__main__":
    main(__file__, __doc__, PARTS, summary_table)
