"""SegFormer-B0: our module and Hugging Face's, forward pass and training step.

Both have the same random weights and enlarge their logits to the image's size (Hugging Face's
model returns a quarter of it). Batches of 8 at 96×128 and single images at 360×480, float32. The
two take turns for 15 rounds; the median of the ratios and their middle half are told.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from _report import Row, report
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from seglib.models import create_model
from seglib.models.hub import segformer_name

CLASSES, ROUNDS = 11, 15


class Theirs(nn.Module):
    """Hugging Face's model behind our interface."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images).logits
        return F.interpolate(logits, images.shape[-2:], mode="bilinear")


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    torch.manual_seed(0)
    theirs, ours = Theirs(), create_model("segformer", CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        theirs.network.save_pretrained(folder)  # under the published names
        state = load_file(Path(folder) / "model.safetensors")
    ours.load_state_dict({segformer_name(name): value for name, value in state.items()})
    images = torch.randn(2, 3, 96, 128)
    with torch.inference_mode():  # (before BatchNorm sees what dropout leaves)
        found, expected = ours.eval()(images), theirs.eval()(images)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    arms = {"create_model('segformer')": ours, "SegformerForSemanticSegmentation": theirs}
    optimizers = {name: torch.optim.SGD(arm.parameters(), lr=0) for name, arm in arms.items()}
    rows = []
    for count, height, width in ((8, 96, 128), (1, 360, 480)):
        images = torch.randn(count, 3, height, width)
        target = torch.randint(CLASSES, (count, height, width))

        def step(name: str, images: Tensor = images, target: Tensor = target) -> None:
            optimizers[name].zero_grad()
            F.cross_entropy(arms[name](images), target).backward()
            optimizers[name].step()

        spent: dict[tuple[str, str], list[float]] = {}
        for number in range(ROUNDS + 1):
            turns = list(arms.items())[:: 1 if number % 2 else -1]
            for name, arm in turns:
                arm.eval()
                with torch.inference_mode():
                    forward = timed(lambda arm=arm, images=images: arm(images))
                arm.train()
                training = timed(lambda name=name, step=step: step(name))
                if number:  # (the first round warms up)
                    spent.setdefault(("forward", name), []).append(1e3 * forward)
                    spent.setdefault(("training step", name), []).append(1e3 * training)
        for what in ("forward", "training step"):
            case = f"SegFormer-B0, {count}×{height}×{width}, {what}"
            for name in arms:
                rounds = spent[what, name]
                median = sorted(rounds)[len(rounds) // 2]
                rows.append(Row(case, name, median, "ms", tuple(rounds)))
    report(__file__, rows)


if __name__ == "__main__":
    main()
