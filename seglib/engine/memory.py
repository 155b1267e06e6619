"""What to say, and to advise, when memory was not enough."""

from typing import Any

import torch


def explain_out_of_memory(
    error: RuntimeError,
    images: Any,
    amp: str | None = None,
    accumulate: int | None = None,
    processes: int = 1,
) -> None:
    """Raise a MemoryError that helps if `error` is one of torch's many errors of memory.

    `images` is the batch (N, 3, H, W) that was computed on, None where there was none yet.
    """
    said = ("can't allocate memory", "out of memory", "ALLOC_FAILED")  # CPU, MPS, cuDNN …
    known = isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)
    if known and images is not None:
        message = out_of_memory(tuple(images.shape), amp, accumulate, processes)
        raise MemoryError(f"{message} ({str(error).splitlines()[0][:160]})") from None


def out_of_memory(
    shape: tuple[int, ...], amp: str | None, accumulate: int | None, processes: int = 1
) -> str:
    """What was too large, and what to try; `accumulate` (batches a step) is None in an evaluation.

    >>> print(out_of_memory((8, 3, 360, 480), None, 1))
    out of memory with a batch of 8 images of 360×480; halve the batch and double the batches a \
step: batch_size=4, accumulate=2; or compute in half precision: amp='bf16'; or use smaller \
images: 256×352
    """
    count, height, width = shape[0], shape[-2], shape[-1]
    remedies = []
    if count > 1 and accumulate is None:
        remedies.append(f"evaluate with batch_size={count // 2}")
    elif count > 1 and accumulate is not None:
        settings = f"batch_size={count * processes // 2}, accumulate={2 * accumulate}"
        remedies.append(f"halve the batch and double the batches a step: {settings}")
    if amp is None:
        remedies.append("compute in half precision: amp='bf16'")
    smaller = [max(32, round(side / 2**0.5 / 32) * 32) for side in (height, width)]
    if smaller[0] < height or smaller[1] < width:
        remedies.append(f"use smaller images: {smaller[0]}×{smaller[1]}")
    advice = "; or ".join(remedies) or "use a smaller model"
    return f"out of memory with a batch of {count} images of {height}×{width}; {advice}"
