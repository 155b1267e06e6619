"""Number formats, memory layout and compilation: images a second, peak memory, first step.

    python benchmarks/precision.py [--height 96 --width 128 --batch 8 --base 8] [--record]
    python benchmarks/precision.py --height 360 --width 480 --base 64 --record      # on a GPU

Training steps of a U-Net (forward, loss, backward, AdamW) on random images that lie on the device
already. Each way runs in a process of its own, so that memory and compilation are its own; all
ways take turns in rounds, and of each round the fastest step counts; told are the medians of the
speeds, and of the ratios within a round (of compiled ways, which have fewer, the ratio of medians).
The first step's seconds hold the compilation, which may use nothing compiled by an earlier process.
tf32 is a way of GPUs only. The ways with AVX2 are of CPUs only, and forbid all later instructions,
those for bfloat16 among them. Memory is the peak above what was held before the first step; on a
CPU it is the whole process's, the compiler included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch
from _report import Row, report

from seglib.engine.precision import Compute, make_optimizer, optimizer_step
from seglib.losses import CrossEntropyLoss
from seglib.models import UNet

WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, channels_last": {"channels_last": True},
    "tf32": {"tf32": True},
    "tf32, channels_last": {"tf32": True, "channels_last": True},
    "bfloat16": {"amp": "bf16"},
    "bfloat16, channels_last": {"amp": "bf16", "channels_last": True},
    "float16, channels_last": {"amp": "fp16", "channels_last": True},
    "float32, compiled": {"compile": True},
    "float32, channels_last, compiled": {"channels_last": True, "compile": True},
    "bfloat16, channels_last, compiled": {"amp": "bf16", "channels_last": True, "compile": True},
    "float32, channels_last, AVX2": {"channels_last": True, "avx2": True},
    "bfloat16, channels_last, AVX2": {"amp": "bf16", "channels_last": True, "avx2": True},
}
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
STEPS, COMPILED_ROUNDS = 12, 3  # (compiling takes most of a minute)


def work(way: str, batch: int, height: int, width: int, base: int) -> None:
    """Print the fastest step's images a second, the peak of memory in MB, the first step's s."""
    how = WAYS[way]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high" if how.get("tf32") else "highest")
    torch.backends.cudnn.allow_tf32 = bool(how.get("tf32"))
    torch.manual_seed(0)
    images = torch.randn(batch, 3, height, width)
    target = torch.randint(0, 11, (batch, height, width)).to(device)
    model = UNet(11, base_channels=base).to(device)
    compute = Compute.of(model, how.get("amp"), how.get("channels_last", False))
    model = model.to(memory_format=compute.memory_format)
    images = images.to(device, memory_format=compute.memory_format)
    optimizer, scaler = make_optimizer(model.parameters(), device, 1e-3, 0.01), compute.scaler()
    net: Any = torch.compile(model) if how.get("compile") else model
    loss, seconds, held = CrossEntropyLoss(), [], megabytes(device)
    for _ in range(STEPS):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        value = loss(compute.logits(net, images), target)
        (value if scaler is None else scaler.scale(value)).backward()
        optimizer_step(model, optimizer, None, scaler)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    print("RESULT", batch / min(seconds[1:]), megabytes(device) - held, seconds[0], flush=True)


def megabytes(device: torch.device) -> float:
    """The peak until now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measured(way: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """What `work` says in a process of its own."""
    sizes = [f"--{name}={getattr(options, name)}" for name in ("batch", "height", "width", "base")]
    done = subprocess.run(
        [sys.executable, __file__, f"--work={way}", *sizes],
        env={
            **os.environ,
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
            **(AVX2 if "avx2" in WAYS[way] else {}),
        },
        capture_output=True,
        text=True,
    )
    line = next((text for text in done.stdout.splitlines() if "RESULT" in text), None)
    if line is None:
        raise RuntimeError(f"{way} gave no result:\n{done.stderr[-2000:]}")
    speed, memory, first = map(float, line.split()[1:])
    return speed, memory, first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("batch", 8), ("height", 96), ("width", 128), ("base", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--work", choices=list(WAYS), help="measure one way (a process of its own)")
    parser.add_argument("--record", action="store_true", help="see _report.py")
    options = parser.parse_args()
    sizes = options.batch, options.height, options.width, options.base
    if options.work:
        work(options.work, *sizes)
        return
    shape = f"{options.batch}×{options.height}×{options.width}"
    case = f"U-Net base {options.base}, {shape}"
    found: dict[str, list[tuple[float, float, float]]] = {}
    elsewhere = "avx2" if torch.cuda.is_available() else "tf32"
    ways = [way for way, how in WAYS.items() if elsewhere not in how]
    for turn in range(options.rounds):
        for way in ways[:: 1 if turn % 2 == 0 else -1]:
            if turn < COMPILED_ROUNDS or "compile" not in WAYS[way]:
                found.setdefault(way, []).append(measured(way, options))
    rows = []
    for way, results in found.items():
        speeds, memory, first = zip(*results, strict=True)
        plain = tuple(speed for speed, _, _ in found["float32"])
        paired = len(speeds) == len(plain)  # else there is no ratio within a round
        rows.append(
            Row(f"{case}: {way}", way, median(speeds), "images/s", speeds if paired else ())
        )
        if way != "float32":
            rows.append(
                Row(f"{case}: {way}", "float32", median(plain), "images/s", plain if paired else ())
            )
        rows += [
            Row(f"{case}: {way}", way, max(memory), "MB"),
            Row(f"{case}: {way}", way, min(first), "s to the first step"),
        ]
    report(__file__, rows)


if __name__ == "__main__":
    main()
