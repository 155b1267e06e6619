"""What a record says: means with 95 % intervals over seeds, and paired differences of arms."""

from __future__ import annotations

from typing import Any

from seglib.course.records import interval, paired_difference

# What is worth a list of differences
HEADLINES = ("test miou", "test exact", "test panoptic all PQ", "test panoptic things PQ")


def table(content: dict[str, Any]) -> str:
    """Of each part the means with 95 % intervals over seeds, and paired differences by seed."""
    lines = []
    for name, part in content["parts"].items():
        runs, seconds = part["runs"], sum(run["seconds"] for run in part["runs"])
        lines.append(f"{name}: {len(runs)} runs, {seconds / 60:.0f} minutes")
        found: dict[str, dict[str, dict[int, float]]] = {}
        for run in runs:
            for what, value in numbers(run):
                if not name.startswith("tuning") or what in ("dev miou", "dev exact"):
                    found.setdefault(what, {}).setdefault(run["arm"], {})[run["seed"]] = value
        for what, by_arm in found.items():
            for arm, values in by_arm.items():
                listed = list(values.values())
                text = interval(listed) if len(listed) > 1 else f"{listed[0]:.4f}"
                lines.append(f"  {what}: {arm}: {text}")
            if what in HEADLINES:
                lines += gaps(what, by_arm)
    return "\n".join(lines)


def numbers(run: dict[str, Any]) -> list[tuple[str, float]]:
    """What a run measured, by its place in the run: "shift same 16", "test miou"."""
    found: list[tuple[str, float]] = []

    def walk(place: str, value: Any) -> None:
        if isinstance(value, float):
            found.append((place, value))
        elif isinstance(value, list):
            for name, number in zip(("PQ", "SQ", "RQ"), value, strict=True):
                walk(f"{place} {name}", number)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if name != "iou":
                    walk(f"{place} {name}", inner)

    for key in ("dev", "test", "crop", "resolution", "shift"):
        walk(key, run.get(key))
    return found


def gaps(what: str, by_arm: dict[str, dict[int, float]]) -> list[str]:
    """Paired differences of arms, of those with the same number of images if they name it."""
    lines, names = [], list(by_arm)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            images = [arm.partition(", ")[2] for arm in (first, second) if "images" in arm]
            both = set(by_arm[first]) & set(by_arm[second])
            if len(both) > 1 and len(set(images)) < 2:
                pair = [{seed: by_arm[arm][seed] for seed in both} for arm in (first, second)]
                lines.append(f"  {what}: {first} − {second}: {paired_difference(*pair)}")
    return lines
