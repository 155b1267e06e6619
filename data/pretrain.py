"""Trains the checkpoints that the course carries, on rendered scenes by day.

    python data/pretrain.py                                 # make pretrain: an hour on two cores
    python data/pretrain.py imagenet+streets                # another one: half an hour on one
    python data/pretrain.py --scenes 2000 --out DIR         # a trial, elsewhere

Every scene is seen once. Their seeds begin where no other part of the course takes seeds from;
night, dusk and rain are left to the lessons. A run that is interrupted goes on where it stopped.
Writes the weights in half precision, and beside them a manifest (.json) and a card (.md): what they
have seen, and what they score.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seglib.data import RenderedStreets, Streets, make_loader
from seglib.data.loader import EpochSampler, SampleKey
from seglib.engine.artifacts import revision
from seglib.engine.checkpoints import DataSpec, load_checkpoint, save_checkpoint
from seglib.engine.normalisation import normalisation
from seglib.losses import CombinedLoss
from seglib.models import create_model
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform, train_transform
from seglib.util.files import atomic_write
from seglib.util.machine import describe_machine

HOME = Path(__file__).resolve().parent
MODEL = "deeplabv3plus"


@dataclass(frozen=True)
class Start:
    """A checkpoint to train: its file, its backbone, and what that begins with."""

    file: str
    backbone: str
    scenes: int
    imagenet: bool = False
    backbone_lr: float | None = None  # None: as the rest

    @property
    def options(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone,
            "output_stride": 16,
            "atrous_rates": (1, 2, 3),
            "channels": 128,
        }


LITE = "timm:tf_efficientnet_lite0"
STARTS = {
    "streets": Start("streets_deeplabv3plus", "mobilenet_v3_small", 100_000),
    "imagenet+streets": Start("imagenet_streets_deeplabv3plus", LITE, 16_000, True, 6e-4),
    # not carried: what experiments/05_real.py compares it with
    "lite0+streets": Start("lite0_streets_deeplabv3plus", LITE, 16_000),
}
FIRST_SEED, LIGHT = 1_000_000, "day"
SCENE_SIZE = (144, 192)  # rendered
SIZE = (96, 128)  # what the network gets
TRAINING: dict[str, Any] = {
    "batch_size": 16,
    "lr": 3e-3,
    "weight_decay": 0.01,
    "clip": 1.0,
    "schedule": "onecycle",
    "seed": 0,
    "batch_norm_momentum": 0.01,
}
AUGMENTATION: dict[str, Any] = {"zoom": (0.9, 2.0), "stretch": 1.3, "flip": 0.5, "colour": 0.4}
EPOCHS = 20  # of different scenes: when to save
SCORED_AT = ((96, 128), (144, 192))


class FreshScenes(EpochSampler):
    """Gives every epoch the next part of the scenes, so that none is seen twice."""

    def __init__(self, scenes: int, epochs: int, seed: int) -> None:
        super().__init__(range(scenes // epochs), seed=seed)

    def __iter__(self) -> Iterator[SampleKey]:
        first = self.epoch * len(self)
        return (SampleKey(self.seed, self.epoch, first + int(i)) for i in super().__iter__())


def tints() -> list[Any]:
    """What a real camera does to colours and sharpness, more of it than rendered scenes have."""
    import albumentations as A

    return [
        A.RandomGamma((60, 160), p=0.4),
        A.RGBShift(20, 20, 20, p=0.4),
        A.ToGray(p=0.05),
        A.GaussianBlur(sigma_limit=(0.3, 1.2), blur_limit=0, p=0.2),
        A.GaussNoise(std_range=(0.01, 0.06), p=0.2),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("start", nargs="?", default="streets", choices=STARTS, metavar="START")
    parser.add_argument("--scenes", type=int, help="how many, each seen once")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--out", type=Path, default=HOME / "weights", help="folder to write into")
    parser.add_argument("--run", type=Path, help="folder of the run, which is resumed from it")
    options = parser.parse_args()
    start = STARTS[options.start]
    scenes = options.scenes or start.scenes
    folder = options.run or HOME.parent / "runs" / "pretrain" / start.file
    model = train(start, scenes, options.workers, folder)
    path = options.out / f"{start.file}.pt"
    rows = load_checkpoint(folder / "last.pt").training["rows"]
    seconds = sum(row["seconds"] for row in rows)
    save_half(model, path)
    carried = load_checkpoint(path).model
    manifest = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "model": MODEL,
        "options": start.options,
        "imagenet": start.imagenet,
        "parameters": sum(p.numel() for p in carried.parameters()),
        "scenes": {
            "first_seed": FIRST_SEED,
            "count": scenes,
            "light": LIGHT,
            "size": SCENE_SIZE,
            "times_seen": 1,
        },
        "training": {
            **TRAINING,
            "backbone_lr": start.backbone_lr,
            "size": SIZE,
            "loss": repr(CombinedLoss()),
            **AUGMENTATION,
            "further": [repr(step) for step in tints()],
            "steps": scenes // EPOCHS // TRAINING["batch_size"] * EPOCHS,
            "minutes": round(seconds / 60, 1),
        },
        "scores": scores(carried),
        "machine": describe_machine(torch.device("cpu")),
        "revision": revision(),
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    manifest = json.loads(text)
    for name, content in ((f"{start.file}.json", text), (f"{start.file}.md", card(manifest))):
        with atomic_write(options.out / name) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="\n")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; test mIoU {manifest['scores']}")


def card(manifest: dict[str, Any]) -> str:
    """What a user must know, as Markdown."""
    scenes, training, options = (manifest[key] for key in ("scenes", "training", "options"))
    machine, per_size, stem = manifest["machine"], {}, Path(manifest["file"]).stem
    kind = next(kind for kind, start in STARTS.items() if start.file == stem)
    begun = "ImageNet's weights in the backbone" if manifest.get("imagenet") else "random weights"
    for name, value in manifest["scores"].items():
        light, size = name.rsplit(" ", 1)
        per_size.setdefault(size, {})[light] = value
    lights = list(next(iter(per_size.values())))
    rows = [
        f"| {size} | {' | '.join(f'{found[light]:.3f}' for light in lights)} |"
        for size, found in per_size.items()
    ]
    table = "\n".join([f"| size | {' | '.join(lights)} |", "|---" * (len(lights) + 1) + "|", *rows])
    height, width = training["size"]
    first = scenes["first_seed"]
    photo = "any photo but ImageNet's" if manifest.get("imagenet") else "any real photo"
    return f"""# {manifest["file"]}

(Written by `python data/pretrain.py {kind}`, which trains it anew.)

**What.** {manifest["model"]} on {options["backbone"]}, {options["channels"]} channels, output
stride {options["output_stride"]}, ASPP rates {options["atrous_rates"]}, for the eleven classes of
Streets: {manifest["parameters"]:,} parameters in half precision.
`create_model("{manifest["model"]}", 11, pretrained="{kind}")` builds it in single precision;
another number of classes gets a new last layer.

**Seen.** {training["steps"] * training["batch_size"]:,} rendered scenes by {scenes["light"]}, each
once, with seeds from {first:,} to {first + scenes["count"] - 1:,}, rendered at
{scenes["size"][0]}×{scenes["size"][1]}, cut out at
{height}×{width} with zoom, stretch, flips, and changes of colour, brightness and sharpness. From
{begun}, {training["steps"]:,} steps of {training["batch_size"]}, AdamW with one-cycle up to
{training["lr"]:g}, cross-entropy + Dice. {training["minutes"]:.0f} minutes on
{machine["hardware"]}, torch {machine["torch"]}, revision {manifest["revision"]}. One seed. All
settings are in {stem}.json.

**Never seen.** Any scene of Streets (train, val and test), any seed that another part of the
course uses, dusk, night, rain, {photo}. A test compares the seeds.

**Scores.** Mean IoU on Streets test, by day, and of the same sixty streets in other light; void
dropped, one confusion matrix.

{table}

**Not for.** It knows one kind of town, drawn from boxes and polygons. Lesson 5 measures what it is
worth as a start for other light, for photos of streets (CamVid), and for pictures of another kind.
Licence as the data: CC BY 4.0.
"""


def train(start: Start, scenes: int, workers: int, folder: Path) -> torch.nn.Module:
    """Train on all scenes, or go on with that; the last weights count."""
    batch_size, seed = TRAINING["batch_size"], TRAINING["seed"]
    torch.manual_seed(seed)
    pretrained = "imagenet" if start.imagenet else False
    model = create_model(MODEL, len(Streets("val").classes), pretrained, **start.options)
    mean, std = normalisation(model)
    transform = train_transform(*SIZE, **AUGMENTATION, extra=tints(), mean=mean, std=std)
    data = RenderedStreets(
        range(FIRST_SEED, FIRST_SEED + scenes), *SCENE_SIZE, transform, light=LIGHT
    )
    loader = torch.utils.data.DataLoader(
        data,
        batch_size,
        sampler=FreshScenes(scenes, EPOCHS, seed),
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )
    val = make_loader(Streets("val", transform=eval_transform(*SIZE, mean, std)), 20)
    for part in model.backbone.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = TRAINING["batch_norm_momentum"]  # a long run: steadier statistics
    rest = {key: TRAINING[key] for key in ("lr", "weight_decay", "clip", "schedule", "seed")}
    rest["backbone_lr"] = start.backbone_lr
    fit(model, loader, val, epochs=EPOCHS, loss=CombinedLoss(), **rest, out=folder, resume=True)
    return model


def save_half(model: torch.nn.Module, path: Path) -> None:
    """Write the weights in half precision; a model that is built from them has single precision."""
    spec = DataSpec.of(Streets("train", transform=eval_transform(*SIZE, *normalisation(model))))
    save_checkpoint(path, model.half(), spec)


def scores(model: torch.nn.Module) -> dict[str, Any]:
    """Test mIoU of the stored weights, by light and size: void dropped, one confusion matrix."""
    found = {}
    for height, width in SCORED_AT:
        for light in ("day", "dusk", "night", "rain"):
            transform = eval_transform(height, width, *normalisation(model))
            data = (
                Streets("test", transform=transform)
                if light == "day"
                else RenderedStreets(Streets.SEEDS["test"], *SCENE_SIZE, transform, light=light)
            )
            miou = evaluate(model, make_loader(data, 20)).miou
            found[f"{light} {height}×{width}"] = round(miou, 4)
    return found


if __name__ == "__main__":
    main()
