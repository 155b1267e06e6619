"""The trainings of a day with a GPU: candidates on another drive, then CamVid's main run.

    python benchmarks/gpu/training.py STAGE --out FOLDER [--root ROOT] [--seconds 60] [--tiny]

trials     each candidate on split "fit", scored on the drive "dev", which it has never seen
main       the best of them on split "train", from random weights
render     street scenes of the size of CamVid's frames
streets    the main run's network on these: weights that have seen no label of a person
second     from these weights, on train and val
score      the checkpoints of `main` and `second` on test: whole, by drive, with test-time
           augmentation; and those saved on the way, for the curve

Each stage writes FOLDER/STAGE.json; where that is, the stage is done. A training takes `seconds`:
its speed over a few epochs gives the number of epochs, and so the schedule. Nothing is ever chosen
on test: the last weights (a moving average) are what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("SEGLIB_PROGRESS", "0")

import numpy as np
import torch
from torch import nn

from seglib.data import CamVid, class_statistics, make_loader
from seglib.data.colours import STREET_CLASSES, STREET_PALETTE
from seglib.data.dataset import SegmentationDataset
from seglib.engine.checkpoints import DataSpec, save_checkpoint
from seglib.engine.on_device import DeviceLoader
from seglib.inference import TestTimeAugmentation
from seglib.losses import CombinedLoss, CrossEntropyLoss, LovaszSoftmaxLoss, class_weights
from seglib.models import create_model
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform, train_transform
from seglib.util.files import atomic_write
from seglib.util.machine import describe_machine

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZE = (360, 480)
STATES = 20  # weights kept on the way, for the curve
SCALES = (0.75, 1.0, 1.25, 1.5)
FRAMES = {"train": 367, "val": 101, "test": 233, "dev": 101, "fit": 266}


@dataclass(frozen=True)
class Recipe:
    """What a training is told; `model` and `options` go to `create_model`."""

    model: str
    options: dict[str, Any]
    lr: float = 1e-3
    batch_size: int = 8
    weights: str | None = "dabnet"
    lovasz: float = 0.0
    zoom: tuple[float, float] = (0.5, 2.0)
    colour: float = 0.4
    weight_decay: float = 0.05
    clip: float | None = 1.0
    ema_share: float = 0.04  # of all steps that the average of the weights looks back on
    amp: str | None = "bf16"

    def create(self) -> nn.Module:
        torch.manual_seed(0)
        return create_model(self.model, len(STREET_CLASSES), **self.options).to(DEVICE)

    def loss(self, data: Any) -> nn.Module:
        found = self.weights and class_weights(class_statistics(data), self.weights)
        pixelwise = CrossEntropyLoss(found if self.weights else None)
        if not self.lovasz:
            return pixelwise
        return CombinedLoss({pixelwise: 1.0, LovaszSoftmaxLoss(): self.lovasz})

    def augmentation(self, size: tuple[int, int]) -> Any:
        return train_transform(*size, zoom=self.zoom, colour=self.colour)


CANDIDATES = {
    "U-Net, base 64": Recipe("unet", {"base_channels": 64}),
    "U-Net, base 32, depth 5": Recipe("unet", {"base_channels": 32, "depth": 5}),
    "DeepLabv3+, ResNet-34, stride 8": Recipe(
        "deeplabv3plus", {"backbone": "resnet34", "output_stride": 8}, batch_size=16
    ),
    "DeepLabv3+, ResNet-50, stride 16": Recipe(
        "deeplabv3plus", {"backbone": "resnet50"}, batch_size=16
    ),
}
TINY = {
    "U-Net, base 2": Recipe("unet", {"base_channels": 2, "depth": 2}, amp=None),
    "U-Net, base 4": Recipe("unet", {"base_channels": 4, "depth": 2}, amp=None),
}


class Parcels(CamVid):
    """CamVid of which a split may be all that has arrived."""

    @classmethod
    def find(cls, root: Any = None) -> Path | None:
        return Path(root) / "camvid"


class Stages:
    """Everything a stage needs: where files lie, how long it may take."""

    def __init__(self, out: Path, root: Path, seconds: float, tiny: bool) -> None:
        self.out, self.root, self.seconds, self.tiny = out, root, seconds, tiny
        self.size = (32, 48) if tiny else SIZE
        self.candidates = TINY if tiny else CANDIDATES

    def frames(self, split: str, transform: Any = None) -> SegmentationDataset:
        """A split of CamVid; "trainval" is both, as published results from them have it."""
        if split == "trainval":
            train, val = self.frames("train"), self.frames("val")
            files, groups = train.files + val.files, train.groups + val.groups
            return SegmentationDataset(
                files, train.classes, 255, train.palette, groups, train.label_map, transform
            )
        data = Parcels(split, self.root, transform)
        if not self.tiny and len(data) != FRAMES[split]:
            raise ValueError(f"{split} has {len(data)} frames, expected {FRAMES[split]}")
        return data

    def evaluation(self, split: str) -> Any:
        return self.loader(self.frames(split, eval_transform(*self.size)), 16)

    def loader(self, data: Any, batch: int, shuffle: bool = False) -> Any:
        batch = min(batch, len(data))
        return DeviceLoader(make_loader(data, batch, shuffle=shuffle), DEVICE)

    def record(self, stage: str, content: dict[str, Any]) -> None:
        machine = {**describe_machine(DEVICE), "processor": processor()}
        machine["versions"] = machine["versions"] | {"cuda": torch.version.cuda}
        with atomic_write(self.out / f"{stage}.json") as path:
            path.write_text(json.dumps({**content, "machine": machine}, indent=1))

    def read(self, stage: str) -> Any:
        return json.loads((self.out / f"{stage}.json").read_text())

    # ---------------------------------------------------------------- training

    def train(
        self,
        recipe: Recipe,
        data: Any,
        seconds: float,
        start: Path | None = None,
        keep: Callable[[nn.Module, float, int], None] | None = None,
        counting_start: bool = True,
    ) -> tuple[nn.Module, dict[str, Any]]:
        """A network that was trained for about `seconds`, and what it took."""
        began = time.perf_counter()
        loader = self.loader(data, recipe.batch_size, shuffle=True)
        loss = recipe.loss(data)
        how: dict[str, Any] = {
            "loss": loss,
            "lr": recipe.lr,
            "weight_decay": recipe.weight_decay,
            "clip": recipe.clip,
            "amp": recipe.amp,
        }
        rows = fit(recipe.create(), loader, epochs=3, ema=0.9, **how).rows
        speed = max(row["images_per_second"] for row in rows)
        each = rows[-1]["seconds"]
        if counting_start:  # loading, first kernels and the search for fast convolutions
            seconds -= time.perf_counter() - began
        epochs = 2 if self.tiny else max(2, round(seconds / each))
        how["ema"] = 1 - 1 / max(2, recipe.ema_share * epochs * len(loader))
        model = recipe.create()
        if start is not None:
            model.load_state_dict(torch.load(start, map_location=DEVICE, weights_only=True))
        began = time.perf_counter()

        def after(shown: nn.Module, row: dict[str, float]) -> None:
            epoch = int(row["epoch"])
            if keep is not None and (epoch == epochs or epoch % max(1, epochs // STATES) == 0):
                keep(shown, time.perf_counter() - began, epoch)

        rows = fit(model, loader, epochs=epochs, on_epoch=after, **how).rows
        taken = time.perf_counter() - began
        images = len(loader) * loader.batch_size
        return model, {
            "recipe": asdict(recipe),
            "loss": repr(loss),
            "parameters": sum(p.numel() for p in model.parameters()),
            "images": len(data),
            "epochs": epochs,
            "ema": how["ema"],
            "images_seen": epochs * images,
            "seconds": round(taken, 1),
            "images_per_second": round(epochs * images / taken, 1),
            "speed_before": round(speed, 1),
            "peak_gb": max((row.get("peak_gb", 0.0) for row in rows), default=None),
            "train_loss": [round(row["train_loss"], 4) for row in rows],
            "load": os.getloadavg()[0],
        }

    def trials(self) -> None:
        found, dev = {}, self.evaluation("dev")
        # What comes before a training takes 5 to 20 s, another time for each: it must not decide
        share = max(5.0, self.seconds / len(self.candidates) - 15)
        for name, recipe in self.candidates.items():
            data = self.frames("fit", recipe.augmentation(self.size))
            try:
                model, told = self.train(recipe, data, share, counting_start=False)
                scores = evaluate(model, dev, amp=recipe.amp)
                found[name] = {**told, "dev": short(scores)}
                print(f"{name}: dev {scores.miou:.4f}, {told['images_per_second']} images/s")
            except (RuntimeError, ValueError, MemoryError, FloatingPointError) as error:
                found[name] = {"error": f"{type(error).__name__}: {error}"}
                print(f"{name}: {found[name]['error'][:200]}")
            self.record("trials_so_far", {"candidates": found})
        scored = {name: told["dev"]["miou"] for name, told in found.items() if "dev" in told}
        best = max(scored, key=lambda name: scored[name])
        self.record("trials", {"candidates": found, "best": best})

    def main(self) -> None:
        recipe = self.chosen()
        data = self.frames("train", recipe.augmentation(self.size))
        self.long_run("main", recipe, data, None)

    def chosen(self) -> Recipe:
        """The best of the trials, or of those that were done when their time was up."""
        if not (self.out / "trials_so_far.json").exists():
            return next(iter(self.candidates.values()))
        told = self.read("trials_so_far")["candidates"]
        scored = {name: one["dev"]["miou"] for name, one in told.items() if "dev" in one}
        return self.candidates[max(scored, key=lambda name: scored[name])]

    def long_run(self, stage: str, recipe: Recipe, data: Any, start: Path | None) -> None:
        """Train, keep weights on the way, and write the last ones as a checkpoint."""
        states: list[dict[str, Any]] = []

        def keep(model: nn.Module, seconds: float, epoch: int) -> None:
            path = self.out / f"{stage}_{len(states):02}.pt"
            torch.save(halved(model), path)
            states.append({"file": path.name, "seconds": round(seconds, 1), "epoch": epoch})

        model, told = self.train(recipe, data, self.seconds, start, keep)
        save_checkpoint(self.out / f"{stage}.pt", model, DataSpec.of(data))
        started = None if start is None else "rendered streets, 360×480"
        self.record(stage, {**told, "started_from": started, "states": states})
        print(f"{stage}: {told['epochs']} epochs, {told['images_per_second']} images/s")

    # ---------------------------------------------------------------- the second arm

    def render(self) -> None:
        """As many scenes as there is time for, by all cores."""
        began, count = time.perf_counter(), 8 if self.tiny else 4000
        work = partial(scene, size=self.size)
        images, masks = [], []
        with ProcessPoolExecutor(max(1, (os.cpu_count() or 2) - 2)) as pool:
            for image, mask in pool.map(work, range(100_000, 100_000 + count), chunksize=4):
                images.append(image)
                masks.append(mask)
                if time.perf_counter() - began > self.seconds:
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
        np.save(self.out / "streets_images.npy", np.stack(images))
        np.save(self.out / "streets_masks.npy", np.stack(masks))
        taken = time.perf_counter() - began
        speed = len(images) / taken
        self.record("render", {"scenes": len(images), "seconds": taken, "scenes_per_second": speed})
        print(f"render: {len(images)} scenes, {speed:.0f} a second")

    def streets(self) -> None:
        recipe = self.chosen()
        images = np.load(self.out / "streets_images.npy")
        masks = np.load(self.out / "streets_masks.npy")
        data = Rendered(images, masks, recipe.augmentation(self.size))
        model, told = self.train(recipe, data, self.seconds)
        torch.save(model.state_dict(), self.out / "streets.pt")
        dev = evaluate(model, self.evaluation("dev"), amp=recipe.amp)
        self.record("streets", {**told, "scenes": len(images), "dev_without_a_label": short(dev)})
        print(f"streets: {told['epochs']} epochs; dev, without a label: {dev.miou:.4f}")

    def second(self) -> None:
        recipe = self.chosen()
        data = self.frames("trainval", recipe.augmentation(self.size))
        self.long_run("second", recipe, data, self.out / "streets.pt")

    # ---------------------------------------------------------------- test

    def score(self) -> None:
        path = self.out / "score.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        for stage in ("main", "second"):
            if stage not in content and (self.out / f"{stage}.json").exists():
                content[stage] = self.scored(stage)
                self.record("score", {**content, "complete": "second" in content})

    def scored(self, stage: str) -> dict[str, Any]:
        """The last weights on test and val, then those of before."""
        told, recipe = self.read(stage), self.chosen()
        model = recipe.create()
        saved = torch.load(self.out / f"{stage}.pt", map_location=DEVICE, weights_only=True)
        model.load_state_dict(saved["state"])
        data = self.frames("test", eval_transform(*self.size))
        plain = make_loader(data, min(16, len(data)), workers=0 if self.tiny else 4)
        exact = evaluate(model, plain, per_image=True)
        test = self.loader(data, 16)
        found = {"test": short(exact), "test_groups": by_group(exact, data)}
        blocks = [f"{group} {i // 29}" for i, group in enumerate(data.groups)]
        interval = exact.interval(groups=blocks)  # (two drives are too few groups)
        found["interval_blocks_of_29"] = [round(interval.low, 4), round(interval.high, 4)]
        found["test_in_bf16"] = short(evaluate(model, test, amp=recipe.amp))
        print(f"{stage}: test {exact.miou:.4f}", flush=True)
        for name, scales in (("flip", (1.0,)), ("flip_scales", SCALES)):
            several = TestTimeAugmentation(model, scales, flip=True)
            scores = evaluate(several, self.loader(data, 4), amp=recipe.amp, per_image=True)
            found[f"test_{name}"] = {**short(scores), "groups": by_group(scores, data)}
            print(f"{stage}: test with {name} {scores.miou:.4f}", flush=True)
        if stage == "main":  # (val is in the second one's training)
            found["val"] = short(evaluate(model, self.evaluation("val"), amp=recipe.amp))
        curve = []
        for state in told["states"]:
            half = torch.load(self.out / state["file"], map_location=DEVICE, weights_only=True)
            model.load_state_dict(
                {k: v.float() if v.is_floating_point() else v for k, v in half.items()}
            )
            miou = evaluate(model, test, amp=recipe.amp).miou
            curve.append({**state, "test_miou": round(miou, 4)})
        return {**found, "curve": curve}


class Rendered(SegmentationDataset):
    """Scenes that were rendered before, in memory."""

    def __init__(self, images: np.ndarray, masks: np.ndarray, transform: Any) -> None:
        names = [(Path(f"scene_{i}"), Path(f"scene_{i}")) for i in range(len(images))]
        super().__init__(names, STREET_CLASSES, palette=STREET_PALETTE, transform=transform)
        self.images, self.masks = images, masks

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.images[index], self.masks[index]

    def read_mask(self, index: int) -> np.ndarray:
        return self.masks[index]


def scene(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One street; one in five is in rain."""
    from seglib.data.render import render_scene

    shown = render_scene(seed, *size, light="rain" if seed % 5 == 0 else "day")
    return shown.image, shown.semantic


def halved(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights in half precision, on the CPU."""
    state = model.state_dict()
    return {k: (v.half() if v.is_floating_point() else v).cpu() for k, v in state.items()}


def processor() -> str:
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'}, {os.cpu_count()} cores"


def short(scores: Any) -> dict[str, Any]:
    content = scores.as_dict()
    iou = [None if value is None else round(value, 4) for value in content["iou"]]
    accuracy = round(content["pixel_accuracy"], 4)
    return {"miou": round(content["miou"], 4), "iou": iou, "pixel_accuracy": accuracy}


def by_group(scores: Any, data: Any) -> dict[str, Any]:
    found = scores.by_group(data.groups).items()
    return {group: {"images": data.groups.count(group), **short(part)} for group, part in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stage", choices=("trials", "main", "render", "streets", "second", "score"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path("data"), help="the folder with camvid/")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: sizes for a CPU")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.stage != "score" and (options.out / f"{options.stage}.json").exists():
        print(f"{options.stage} is done: {options.out / options.stage}.json")
        return
    torch.backends.cudnn.benchmark = True  # sizes do not change
    stages = Stages(options.out, options.root, options.seconds, options.tiny)
    getattr(stages, options.stage)()


if __name__ == "__main__":
    main()
