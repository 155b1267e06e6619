"""Who holds what, measured with the libraries of the extra "bench".

python benchmarks/parity/table.py             writes the record, parity.json, and prints it
python benchmarks/parity/table.py --check     says what the record tells otherwise than it is now
"""

import argparse
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

from seglib.course.metrics import street_predictions  # noqa: E402
from seglib.util.files import atomic_write  # noqa: E402

# What is no defect, but defined in another way
OTHERWISE = {
    "smp focal": "a sigmoid for each class, as Lin et al. (2017); with γ = 0 not cross-entropy",
    "smp cross-entropy": "divides by all pixels, also those that are ignored",
    "MONAI focal": "divides by valid pixels times classes",
    "MONAI, masked focal": "divides by all pixels times classes; the mask multiplies the logits by "
    "0, so void counts as a pixel of which all classes are equally likely",
    "MONAI, masked Dice": "void as in its masked focal loss",
    "kornia focal": "divides by all pixels, and by the number of classes",
}


def streets() -> metric_properties.Batches:
    """The prediction that lesson 4 scores: 60 scenes."""
    truths, labels = map(torch.from_numpy, street_predictions())
    return [(labels.long(), truths.long())]


# Title -> what is scored, and with how many classes
SCORED = {
    "three classes": (metric_properties.toy, metric_properties.CLASSES),
    "with a fourth that nobody has": (metric_properties.toy, metric_properties.CLASSES + 1),
    "60 scenes of lesson 4": (streets, 11),
}

RECORD = HERE.parents[1] / "results" / "experiments" / "parity.json"
PACKAGES = peers.PACKAGES | metric_peers.PACKAGES


def answers(library: str) -> dict[str, Any]:
    """Of a library's losses: loss -> property -> precision -> "" or what happened."""
    return {
        kind: {
            name: {
                precision: properties.ask(name, loss, properties.World(precision))
                for precision in properties.PRECISIONS
            }
            for name in properties.PROPERTIES
        }
        for kind, loss in peers.LOSSES[library]().items()
    }


def ratio(library: str) -> float:
    """A library's focal loss without focus / cross-entropy, without void, which some count."""
    logits, target = properties.case(void=0.0)
    cross_entropy = torch.nn.functional.cross_entropy(logits, target).item()
    return round(peers.WITHOUT_FOCUS[library]()(logits, target).item() / cross_entropy, 3)


def measure() -> dict[str, Any]:
    """The losses and, under "metrics", the metrics."""
    warnings.simplefilter("ignore")
    return {
        "schema": 1,
        "versions": peers.versions(peers.PACKAGES),
        "found": {library: answers(library) for library in peers.LOSSES},
        "focal without focus / cross-entropy": {
            library: ratio(library) for library in peers.WITHOUT_FOCUS
        },
        "otherwise": OTHERWISE,
        "metrics": measure_metrics(),
    }


def metric_answers(metric: metric_properties.Metric) -> dict[str, str]:
    return {name: metric_properties.ask(name, metric) for name in metric_properties.PROPERTIES}


def measure_metrics() -> dict[str, Any]:
    """The metrics: metric -> property -> "" or what happened; and metric -> value by SCORED."""
    metrics = metric_peers.metrics()
    metrics_and_reference = metrics | {
        "scikit-learn jaccard_score, pooled": lambda b, _: metric_properties.reference(*b[0])
    }
    return {
        "versions": peers.versions(metric_peers.PACKAGES),
        "found": {name: metric_answers(metric) for name, metric in metrics.items()},
        "values": {
            title: {k: round(score(batches(), n), 4) for k, score in metrics_and_reference.items()}
            for title, (batches, n) in SCORED.items()
        },
        "otherwise": metric_peers.OTHERWISE,
        "void": metric_peers.VOID,
        "not measured": metric_peers.NOT_MEASURED,
    }


def leaves(content: Any, *path: str) -> dict[tuple[str, ...], Any]:
    """Every value of nested dicts, by its path."""
    if not isinstance(content, dict):
        return {path: content}
    return {
        key: value
        for name, inner in content.items()
        for key, value in leaves(inner, *path, name).items()
    }


def differences(record: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Where a property holds that did not (or fails that did), and other values.

    What a failure says may depend on the machine; versions are no answer.
    """
    then, found, lines = leaves(record), leaves(now), []
    for path in [*then, *(path for path in found if path not in then)]:
        old, new = then.get(path, "absent"), found.get(path, "absent")
        if "versions" in path:
            continue
        if isinstance(old, float) and isinstance(new, float):
            same = abs(old - new) <= (2e-3 if path[0].startswith("focal") else 2e-4)
        elif "found" in path and path in then and path in found:
            same = (old == "") == (new == "")
        else:
            same = old == new
        if not same:
            lines.append(f"{', '.join(path)}: the record says {old!r}, now it is {new!r}")
    return lines


def main(argv: list[str]) -> int:
    about = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(**about)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check = parser.parse_args(argv).check
    if not peers.installed(PACKAGES):
        missing = f"some of these are not installed: {', '.join(PACKAGES.values())}"
        print(f'{missing}; they are the extra "bench": `make bench` installs it', file=sys.stderr)
        return 1
    return compare(measure()) if check else write(measure())


def compare(now: dict[str, Any]) -> int:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    told = differences(record, now)
    for then, here in ((record, now), (record["metrics"], now["metrics"])):
        if then["versions"] != here["versions"]:
            print(f"measured with {then['versions']}, here are {here['versions']}")
    again = "python benchmarks/parity/table.py writes it anew; lessons 3 and 4 draw it"
    print("\n".join([*told, again]) if told else f"{RECORD.name} is what comes out")
    return int(bool(told))


def write(record: dict[str, Any]) -> int:
    """Write the record, and print it but for the properties that hold."""
    with atomic_write(RECORD) as path:
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(f"{', '.join(path)}: {said}" for path, said in leaves(record).items() if said))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
