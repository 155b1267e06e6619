"""Who holds what: python tests/parity/table.py writes its record, parity.json, and prints it."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import metric_peers  # noqa: E402
import metric_properties  # noqa: E402
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

# Title -> the number of classes with which the toy images are scored
TOYS = {"three classes": metric_properties.CLASSES,
        "with a fourth that nobody has": metric_properties.CLASSES + 1}            # fmt: skip

RECORD = HERE.parents[1] / "results" / "experiments" / "parity.json"


def measure() -> dict[str, Any]:
    """The losses: library -> loss -> property -> precision -> "" or what happened."""
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


def measure_metrics() -> dict[str, Any]:
    """The metrics: metric -> property -> "" or what happened; and metric -> value on the toy."""
    warnings.simplefilter("ignore")
    metrics, toy = metric_peers.metrics(), metric_properties.toy()
    pooled = metric_properties.reference(*toy[0])
    values = {
        title: {name: round(metric(toy, classes), 4) for name, metric in metrics.items()}
        | {"scikit-learn jaccard_score, pooled": round(pooled, 4)}
        for title, classes in TOYS.items()
    }
    found = {name: {asked: metric_properties.ask(asked, metric)
                    for asked in metric_properties.PROPERTIES}
             for name, metric in metrics.items()}                                  # fmt: skip
    return {"versions": metric_peers.versions(), "found": found, "values": values,
            "otherwise": metric_peers.OTHERWISE, "void": metric_peers.VOID,
            "not measured": metric_peers.NOT_MEASURED}                             # fmt: skip


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
    record = measure() | {"metrics": measure_metrics()}
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
    print_metrics(record["metrics"])


def print_metrics(record: dict[str, Any]) -> None:
    print("\nOne prediction, many mean IoUs (" + ", ".join(
        f"{name} {version}" for name, version in record["versions"].items()) + ")")  # fmt: skip
    first, second = record["values"]
    print(f"{'':38}{first:>15}{second:>32}")
    for name, value in record["values"][first].items():
        print(f"{name:38}{value:15.4f}{record['values'][second][name]:32.4f}")
    for name, reason in record["not measured"].items():
        print(f"{name:38}not measured: {reason}")
    for name, answers in record["found"].items():
        bad = {asked: said for asked, said in answers.items() if said}
        print(f"{name}: {len(bad)} of {len(answers)} fail")
        if name in record["otherwise"]:
            print(f"    defined otherwise: {record['otherwise'][name]}")
        for asked, said in bad.items():
            print(f"    {asked}: {said}")


if __name__ == "__main__":
    main()
