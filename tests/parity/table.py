"""Who holds what: python tests/parity/table.py writes results/parity.json and prints it."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import peers  # noqa: E402
import properties  # noqa: E402

from seglib.paths import written_beside  # noqa: E402

# What is no defect, but defined in another way
OTHERWISE = {
    "smp focal": "a sigmoid for each class, as Lin et al. (2017); with γ = 0 not cross-entropy",
    "smp cross-entropy": "divides by all pixels, also those that are ignored",
    "MONAI focal": "divides by pixels times classes; a mask multiplies the logits by 0, so void "
    "counts as a pixel of which all classes are equally likely",
    "MONAI Dice": "void as in its focal loss",
    "kornia focal": "divides by all pixels, and by the number of classes",
}

RECORD = HERE.parents[1] / "results" / "parity.json"


def measure() -> dict[str, Any]:
    """Library -> loss -> property -> precision -> "" or what happened."""
    warnings.simplefilter("ignore")
    found = {library: {kind: {name: {precision: properties.ask(name, loss, precision)
                                     for precision in properties.PRECISIONS}
                              for name in properties.PROPERTIES}
                       for kind, loss in losses.items()}
             for library, losses in peers.losses().items()}                        # fmt: skip
    logits, target = properties.case(void=0.0)         # without void, which some count
    cross_entropy = torch.nn.functional.cross_entropy(logits, target).item()
    ratios = {library: round(loss(logits, target).item() / cross_entropy, 3)
              for library, loss in peers.without_focus().items()}                  # fmt: skip
    return {"schema": 1, "versions": peers.versions(), "found": found,
            "focal without focus / cross-entropy": ratios, "otherwise": OTHERWISE}  # fmt: skip


def failures(record: dict[str, Any], library: str, kind: str) -> list[str]:
    """The properties that fail, with the precisions in which they do."""
    lines = []
    for name, answers in record["found"][library][kind].items():
        bad = [precision for precision, said in answers.items() if said]
        if bad:
            where = "everywhere" if len(bad) == len(answers) else ", ".join(bad)
            lines.append(f"{name}: {answers[bad[0]]} ({where})")
    return lines


def main() -> None:
    record = measure()
    with written_beside(RECORD) as path:
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(", ".join(f"{name} {version}" for name, version in record["versions"].items()))
    print("focal without focus / cross-entropy:", record["focal without focus / cross-entropy"])
    for library, losses in record["found"].items():
        for kind in losses:
            lines = failures(record, library, kind)
            print(f"{library} {kind}: {len(lines)} of {len(properties.PROPERTIES)} fail")
            for line in lines:
                print(f"    {line}")


if __name__ == "__main__":
    main()
