"""How fast one GPU trains: loops, augmentation, number formats, losses and networks.

    python benchmarks/gpu/speed.py STAGE --out FOLDER [--seconds 60] [--tiny] [--root ROOT]

loops         `fit` against the loops that others use: same U-Net, same files, same augmentation
augmentation  batches alone: processes that read and augment, against images on the GPU
precision     number formats and memory layouts of training steps
compiled      the same compiled, which takes a minute for each network
kernels       losses and the metric against those of other libraries
networks      training steps of this library's networks, and of SegFormer-B0

Writes FOLDER/speed_STAGE.json anew after each measurement, so that a kill keeps what is there. What
is compared takes turns in rounds, in a new order each time; told is the median. No measurement
begins after `seconds`; one that fails is recorded with its error. ROOT holds camvid/ (a part of its
training images is enough); without it, PNGs of noise are read. --tiny tries everything on a CPU.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import importlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("SEGLIB_PROGRESS", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all networks have random weights

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import _report
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from training_speed import Meter

from seglib.data import SegmentationDataset, make_loader
from seglib.data.colours import STREET_CLASSES
from seglib.engine.on_device import DeviceLoader
from seglib.engine.precision import Compute, make_optimizer, optimizer_step
from seglib.losses import CrossEntropyLoss, DiceLoss, FocalLoss, LovaszSoftmaxLoss
from seglib.metrics import ConfusionMatrix
from seglib.models import UNet, create_model
from seglib.training import fit
from seglib.transforms import train_transform
from seglib.util.files import atomic_write
from seglib.util.machine import describe_machine

TINY = "--tiny" in sys.argv
CUDA, DEVICE = not TINY, torch.device("cpu" if TINY else "cuda")
SIZE, IMAGES, ROUNDS, BATCH = ((32, 48), 4, 1, 2) if TINY else ((360, 480), 200, 3, 8)
SHAPE, CLASSES, VOID = "×".join(map(str, SIZE)), len(STREET_CLASSES), 255
RATE, EPOCHS = 1e-3, 3
WORKERS, DEFAULT_WORKERS = (1, 1) if TINY else (8, 16)  # `seglib train`'s choice; torchvision's
LONGEST = 4.0  # seconds that one measurement of steps may take: else it has fewer steps
GRACE = 180  # seconds behind the limit after which a measurement that hangs ends the process

Files = list[tuple[Path, Path]]
Found = dict[str, Any]  # of a measurement: a list under "images_per_second" or "ms", and more
Tasks = dict[tuple[str, str], Callable[[], Found]]  # by case and contender


class Record:
    """The rows of a stage, on their way into its file."""

    def __init__(self, path: Path, seconds: float, data: str) -> None:
        self.path, self.seconds, self.start = path, seconds, time.perf_counter()
        self.machine, self.rows = {**machine(), "data": data}, dict[tuple[str, str], Found]()

    def take_turns(self, tasks: Tasks, rounds: int = ROUNDS) -> bool:
        """Measure all, round by round; False if the time was up."""
        order, listed = np.random.default_rng(0), list(tasks.items())
        for _ in range(rounds):
            for i in order.permutation(len(listed)):
                if time.perf_counter() - self.start >= self.seconds:
                    return False
                self.measure(*listed[i])
        return True

    def measure(self, key: tuple[str, str], task: Callable[[], Found]) -> None:
        first = {"case": key[0], "contender": key[1], "rounds": [], "note": ""}
        row = self.rows.setdefault(key, first)
        if "error" in row:  # it would only fail again
            return
        try:
            found = task()
            for unit in {"images_per_second", "ms"} & set(found):
                row["rounds"] += found[unit]
                found[unit] = median(row["rounds"])
            row |= found
        except Exception as error:  # whatever it is, the others are worth measuring
            row["error"] = f"{type(error).__name__}: {error}"[:600]
        gc.collect()  # models, and loaders with their processes
        if "error" in row and CUDA:
            torch.cuda.empty_cache()
        told = [f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float)]
        print(*key, row.get("error", ", ".join(told) or row["note"]), sep=" | ", flush=True)
        self.write()

    def write(self, complete: bool = False) -> None:
        content = {"machine": self.machine, "rows": list(self.rows.values())}
        content |= {"seconds": time.perf_counter() - self.start, "complete": complete}
        with atomic_write(self.path) as temporary:
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8")


def machine() -> dict[str, Any]:
    """The device, its driver where Linux tells it, the processor, and all versions."""
    _report.PEERS = (*_report.PEERS, "transformers", "timm")
    driver, shared = Path("/proc/driver/nvidia/version"), Path("/dev/shm")
    found = _report.machine() | {"device": str(DEVICE), "load": os.getloadavg()[0]}
    found["processor"] = describe_machine(torch.device("cpu"))["hardware"]
    found["driver"] = driver.read_text().splitlines()[0] if driver.exists() else "unknown"
    found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    found["free_memory"] = torch.cuda.mem_get_info()[0] if CUDA else None
    found["free_shared"] = shutil.disk_usage(shared).free if shared.is_dir() else None
    return found


def timed(call: Callable[[], Any]) -> tuple[float, Found]:
    """Seconds until the GPU has done all of it, and the peak of its memory, weights and all."""
    if not CUDA:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start, {}
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start, {"peak_gb": torch.cuda.max_memory_allocated() / 1e9}


def open_data(files: Files, cache: str | None = None) -> SegmentationDataset:
    how: dict[str, Any] = {"transform": train_transform(*SIZE), "cache": cache}
    return SegmentationDataset(files, STREET_CLASSES, label_map={11: VOID}, **how)


def on_device(data: SegmentationDataset, batch: int) -> DeviceLoader:
    return DeviceLoader(make_loader(data, batch, shuffle=True), DEVICE)


def loops(files: Files, record: Record) -> bool:
    base = 4 if TINY else 32
    cached, in_half = partial(open_data, cache="all"), partial(by_fit, amp="bf16")
    arms: dict[str, tuple[Any, Any]] = {  # how the data is opened, how one trains on it
        "fit, as seglib train without a flag": (cached, by_fit),
        "fit, bf16": (cached, in_half),
        "fit, bf16, images on the device": (lambda f: on_device(open_data(f), BATCH), in_half),
        "tutorial loop": (open_data, by_hand),
        "torchvision's shape": (open_data, partial(by_hand, meters=True)),
        "torchvision's shape, fp16": (open_data, partial(by_hand, meters=True, amp=True)),
        "Lightning, 32": (open_data, partial(by_lightning, precision="32-true")),
        "Lightning, bf16-mixed": (open_data, partial(by_lightning, precision="bf16-mixed")),
    }
    if not CUDA:
        del arms["torchvision's shape, fp16"]
    held: dict[str, Any] = {}  # the data of each, once it has been trained on

    def network() -> nn.Module:
        torch.manual_seed(0)
        return UNet(CLASSES, base_channels=base, depth=4).to(DEVICE)

    def measure(name: str) -> Found:
        (opened, train), found = arms[name], {}
        data = held.get(name)
        if data is None:
            start = time.perf_counter()
            data = opened(files)
            found["opening_s"] = time.perf_counter() - start
            train(network(), data, 1)
            if not isinstance(data, DeviceLoader):  # (it would count as the others' memory)
                held[name] = data
        model = network()
        seconds, peak = timed(lambda: train(model, data, EPOCHS))
        seen = EPOCHS * (len(files) // BATCH * BATCH)  # all drop an incomplete batch
        return {"images_per_second": [seen / seconds], **peak, **found, "note": note}

    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    note = f"{EPOCHS} epochs after one not timed; TF32: convolutions {tf32[0]}, matmul {tf32[1]}"
    case = f"training, U-Net base {base}, {len(files)} images of {SHAPE}, batch {BATCH}"
    return record.take_turns({(case, name): partial(measure, name) for name in arms})


def by_fit(model: nn.Module, data: Any, epochs: int, amp: str | None = None) -> None:
    if not isinstance(data, DeviceLoader):
        data = make_loader(data, BATCH, shuffle=True, workers=WORKERS)
    fit(model, data, epochs=epochs, lr=RATE, amp=amp)


def usual(model: nn.Module, data: Any, epochs: int, workers: int, pin: bool) -> Any:
    """Loader, optimiser and schedule of the other loops; their processes, too, stay alive."""
    how: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    how |= {"pin_memory": pin and CUDA, "shuffle": True, "drop_last": True}
    loader: Any = DataLoader(data, BATCH, **how)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    return (
        loader,
        optimizer,
        torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, epochs * len(loader)),
    )


def by_hand(
    model: nn.Module, data: Any, epochs: int, meters: bool = False, amp: bool = False
) -> None:
    """The tutorials' loop; with `meters` that of torchvision's references/segmentation."""
    workers = DEFAULT_WORKERS if meters else WORKERS
    loader, optimizer, schedule = usual(model, data, epochs, workers, pin=not meters)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=amp)  # (else it hands on)
    model.train()
    for _ in range(epochs):
        table = {name: Meter() for name in ("loss", "lr", "data_time", "iter_time")}
        running, end = 0.0, time.time()
        for number, (images, target) in enumerate(loader):
            waited = time.time() - end
            images, target = images.to(DEVICE), target.to(DEVICE)
            with torch.autocast(DEVICE.type, torch.float16, enabled=amp):
                loss = F.cross_entropy(model(images), target, ignore_index=VOID)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            running += loss.item()
            if meters:
                values = loss.item(), schedule.get_last_lr()[0], waited, time.time() - end
                for meter, value in zip(table.values(), values, strict=True):
                    meter.update(value)
                if number % 10 == 0:
                    "  ".join(f"{name}: {meter}" for name, meter in table.items())
            end = time.time()


def by_lightning(model: nn.Module, data: Any, epochs: int, precision: Any) -> None:
    import pytorch_lightning as lightning

    loader, optimizer, schedule = usual(model, data, epochs, WORKERS, pin=True)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, number: int) -> Any:
            loss = F.cross_entropy(self.model(batch[0]), batch[1], ignore_index=VOID)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            every_step = {"scheduler": schedule, "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": every_step}

    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    how: dict[str, Any] = dict.fromkeys(off, False) | {"devices": 1, "precision": precision}
    how["accelerator"] = "gpu" if CUDA else "cpu"
    lightning.Trainer(max_epochs=epochs, **how).fit(Module(), loader)


def augmentation(files: Files, record: Record) -> bool:
    batch, numbers = (2, (0, 1)) if TINY else (16, (16, 8, 4, 1))
    data = open_data(files, "all")

    def measure(workers: int | None) -> Found:
        if workers is None:
            loader: Any = on_device(data, batch)
        else:
            loader = make_loader(data, batch, shuffle=True, workers=workers)

        def epoch(number: int) -> None:
            loader.sampler.set_epoch(number)
            for images, target in loader:
                images.to(DEVICE, non_blocking=True), target.to(DEVICE, non_blocking=True)

        epoch(0)
        timings = [timed(partial(epoch, i)) for i in range(1, 21 if workers is None else 3)]
        speeds = [len(loader) * batch / seconds for seconds, _ in timings]
        return {"images_per_second": speeds, **timings[-1][1], "note": "after an epoch not timed"}

    case = f"batches of {batch} from {len(files)} images of {SHAPE}, on the device at the end"
    names = {"images on the device": None} | {f"{n} processes": n for n in numbers}
    return record.take_turns({(case, k): partial(measure, n) for k, n in names.items()}, rounds=1)


def training_steps(
    make: Any, batch: int, steps: int, amp: Any = "bf16", tf32: bool = True, **how: bool
) -> Found:
    """Forward, cross-entropy, backward, AdamW on random images that lie on the device."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.manual_seed(0)
    model = make().to(DEVICE).train()
    compute, loss = Compute.of(model, amp, how.get("channels_last", True)), CrossEntropyLoss()
    model = model.to(memory_format=compute.memory_format)
    images = torch.randn(batch, 3, *SIZE, device=DEVICE).to(memory_format=compute.memory_format)
    target = torch.randint(0, CLASSES, (batch, *SIZE), device=DEVICE)
    optimizer, scaler = make_optimizer(model.parameters(), DEVICE, RATE, 0.01), compute.scaler()
    net: Any = torch.compile(model) if how.get("compiled") else model

    def run(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            value = loss(compute.logits(net, images), target)
            (value if scaler is None else scaler.scale(value)).backward()
            optimizer_step(model, optimizer, None, scaler)

    first, _ = timed(partial(run, 1))
    run(1 if TINY else 3)
    last, _ = timed(partial(run, 1))  # to warm up; it tells how many the time is enough for
    count = min(steps, max(3, int(LONGEST / last)))
    seconds, peak = timed(partial(run, count))
    note = f"{count} steps" + (f"; first step {first:.1f} s" if how.get("compiled") else "")
    return {"images_per_second": [batch * count / seconds], **peak, "note": note}


def precision(files: Files, record: Record) -> bool:
    base, steps = (4, 2) if TINY else (64, 20)
    ways: dict[str, Any] = {"float32": {"amp": None, "tf32": False}, "bfloat16": {}}
    if CUDA:
        ways |= {"TF32": {"amp": None}, "float16": {"amp": "fp16"}}
    tasks = Tasks()
    for case, step in pair_of_networks(base, steps):
        for way, how in ways.items():
            tasks[case, way] = partial(step, channels_last=False, **how)
            tasks[case, f"{way}, channels_last"] = partial(step, **how)
    return record.take_turns(tasks)


def compiled(files: Files, record: Record) -> bool:
    tasks, left_out = Tasks(), partial(dict, note="left out with --tiny")
    for case, step in pair_of_networks(4 if TINY else 64, 2 if TINY else 20):
        tasks[case, "bfloat16, channels_last"] = step
        tasks[case, "the same compiled"] = left_out if TINY else partial(step, compiled=True)
    return record.take_turns(tasks, rounds=1)


def pair_of_networks(base: int, steps: int) -> list[tuple[str, Callable[..., Found]]]:
    deeplab = partial(create_model, "deeplabv3plus", CLASSES)
    return [
        (f"{name}, batch {batch}, {SHAPE}", partial(training_steps, make, batch, steps))
        for name, batch, make in (
            (f"U-Net base {base}", BATCH, partial(UNet, CLASSES, base_channels=base)),
            ("DeepLabV3+ ResNet-50", BATCH if TINY else 16, deeplab),
        )
    ]


class SegFormer(nn.Module):
    """Hugging Face's B0 with random weights; its logits are enlarged to the input's size."""

    def __init__(self) -> None:
        super().__init__()
        hub: Any = importlib.import_module("transformers")
        self.net = hub.SegformerForSemanticSegmentation(hub.SegformerConfig(num_labels=CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(self.net(pixel_values=images).logits, scale_factor=4, mode="bilinear")


def networks(files: Files, record: Record) -> bool:
    bases, steps = ((4,), 2) if TINY else ((16, 32, 48, 64), 10)
    own: list[tuple[str, dict[str, Any]]] = [("unet", {"base_channels": base}) for base in bases]
    own += [
        ("deeplabv3plus", {"backbone": "resnet50", "output_stride": stride}) for stride in (16, 8)
    ]
    own += [("deeplabv3plus", {"backbone": "mobilenet_v3_large"}), ("lraspp", {}), ("fcn8s", {})]
    own += [("segnet", {"base_channels": 4} if TINY else {})]
    makers: dict[str, Any] = {"SegFormer-B0 (transformers)": SegFormer}
    for name, options in own:
        make = partial(create_model, name, CLASSES, **options)
        makers[" ".join([name, *map(str, options.values())])] = make
    case = f"training steps, bfloat16, channels_last, batch {BATCH}, {SHAPE}"
    steps_of = {(case, k): partial(training_steps, m, BATCH, steps) for k, m in makers.items()}
    return record.take_turns(steps_of)


def peer(module: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Another library's loss or metric, imported only when asked for: it may not be installed."""
    return getattr(importlib.import_module(module), name)(*arguments, **options)


def smp(name: str) -> Any:
    return partial(
        peer, "segmentation_models_pytorch.losses", name, "multiclass", ignore_index=VOID
    )


def monai_dice() -> Callable[[Tensor, Tensor], Tensor]:
    """MONAI's Dice with void left out by its wrapper for masked losses."""
    options = {"softmax": True, "to_onehot_y": True, "batch": True}
    loss = peer("monai.losses", "MaskedDiceLoss", **options)

    def call(logits: Tensor, target: Tensor) -> Tensor:
        valid = (target != VOID)[:, None]
        return loss(logits, torch.where(valid, target[:, None], 0), mask=valid.float())

    return call


def jaccard(**options: bool) -> Callable[..., None]:
    module, name = "torchmetrics.classification", "MulticlassJaccardIndex"
    return peer(module, name, 12, ignore_index=VOID, **options).to(DEVICE).update


def bincount(prediction: Tensor, target: Tensor) -> Tensor:
    """The usual snippet: no check of shapes or labels."""
    valid = target != VOID
    return torch.bincount(12 * target[valid] + prediction[valid], minlength=144).reshape(12, 12)


KERNELS: dict[str, dict[str, Callable[[], Any]]] = {
    "cross-entropy": {
        "seglib": CrossEntropyLoss,
        "torch": lambda: partial(F.cross_entropy, ignore_index=VOID),
    },
    "Dice": {"seglib": DiceLoss, "smp": smp("DiceLoss"), "MONAI": monai_dice},
    "focal": {"seglib": partial(FocalLoss, 2.0), "smp": smp("FocalLoss")},
    "Lovász": {"seglib": LovaszSoftmaxLoss, "smp": smp("LovaszLoss")},
    "metric": {
        "seglib ConfusionMatrix": lambda: ConfusionMatrix(12).update,
        "torchmetrics MulticlassJaccardIndex": jaccard,
        "torchmetrics, validate_args=False": partial(jaccard, validate_args=False),
        "bare bincount": lambda: bincount,
    },
}


def kernels(files: Files, record: Record) -> bool:
    repeats, shape = 1 if TINY else 5, (BATCH, *SIZE)
    torch.manual_seed(0)
    logits = torch.randn(BATCH, 12, *SIZE, device=DEVICE, requires_grad=True)
    target, noise = (torch.randint(0, 12, shape, device=DEVICE) for _ in range(2))
    prediction = torch.where(torch.rand(shape, device=DEVICE) < 0.4, noise, target)
    target[torch.rand(shape, device=DEVICE) < 0.04] = VOID
    made: dict[Any, Any] = {}

    def once(group: str, name: str) -> tuple[float, float | None]:
        """Milliseconds, and the peak of memory above the start in MB."""
        call, logits.grad = made[group, name], None
        held = torch.cuda.memory_allocated() if CUDA else 0
        if group == "metric":
            seconds, peak = timed(lambda: call(prediction, target))
        else:
            seconds, peak = timed(lambda: call(logits, target).backward())
        return 1e3 * seconds, 1e3 * peak["peak_gb"] - held / 1e6 if peak else None

    def measure(group: str, name: str) -> Found:
        if (group, name) not in made:
            made[group, name] = KERNELS[group][name]()
        results = [once(group, name) for _ in range(2 + repeats)][2:]
        return {"ms": [ms for ms, _ in results], "peak_mb": results[-1][1]}

    whole = True
    for group, makers in KERNELS.items():
        case = f"{group}, forward and backward, {BATCH}×12×{SHAPE}"
        case = f"update of the metric, {BATCH}×{SHAPE}" if group == "metric" else case
        tasks = {(case, name): partial(measure, group, name) for name in makers}
        whole = record.take_turns(tasks, rounds=4) and whole
    return whole


def open_files(root: str | None, folder: Path) -> Files:
    """CamVid's first images and masks, or noise of their size."""
    if root is not None:
        images = sorted((Path(root) / "camvid" / "train").glob("*.png"))[:IMAGES]
        if not images:
            raise FileNotFoundError(f"found no PNG in {root}/camvid/train; leave out --root")
        return [(path, path.parents[1] / "trainannot" / path.name) for path in images]
    rng, files = np.random.default_rng(0), []
    for i in range(IMAGES):
        files.append((folder / f"{i:03}.png", folder / f"{i:03}_mask.png"))
        for path, shape in zip(files[-1], ((*SIZE, 3), SIZE), strict=True):
            Image.fromarray(rng.integers(0, CLASSES + 1, shape, dtype=np.uint8)).save(path)
    return files


def main() -> None:
    stages = {f.__name__: f for f in (loops, augmentation, precision, compiled, kernels, networks)}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tiny", action="store_true", help="very small, on a CPU")
    parser.add_argument("--root", help="folder that holds camvid/")
    options = parser.parse_args()
    if CUDA and not torch.cuda.is_available():
        parser.error("found no CUDA device; --tiny tries everything on a CPU")
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)
    faulthandler.dump_traceback_later(options.seconds + GRACE, exit=True)
    path = options.out / f"speed_{options.stage}.json"
    record = Record(path, options.seconds, "CamVid" if options.root else "noise")
    with tempfile.TemporaryDirectory() as folder:
        needed = options.stage in ("loops", "augmentation")
        files = open_files(options.root, Path(folder)) if needed else []
        complete = stages[options.stage](files, record)
    record.write(complete)
    print(f"{len(record.rows)} rows{'' if complete else ', and then the time was up'}")
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
