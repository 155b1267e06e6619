"""What data/README.md shows of results/experiments/00_data.json, as Markdown.

It stands there between `<!-- measured: begin (python experiments/00_data.py --table) -->` and
`<!-- measured: end -->`; a test compares.
"""

from __future__ import annotations

from typing import Any


def table(record: dict[str, Any]) -> str:
    """Shares, then scores; what has not been measured is a dash."""
    found = Found(record)
    return "\n".join(
        [
            *shares(found),
            "",
            *scores(found),
            "",
            *per_class(found),
            "",
            *scans(found),
            "",
            found.where(),
        ]
    )


class Found:
    """The runs of a record by part and arm."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

    def runs(self, part: str, arm: str) -> list[dict[str, Any]]:
        runs = self.record["parts"].get(part, {"runs": []})["runs"]
        return [run for run in runs if run["arm"] == arm]

    def cell(self, part: str, arm: str, *keys: str) -> str:
        """The mean over seeds of what stands under the keys, and between which values they lie."""
        values = [dig(run, *keys) for run in self.runs(part, arm)]
        values = [value for value in values if value is not None]
        if not values:
            return "–"
        mean = f"{sum(values) / len(values):.3f}"
        low, high = f"{min(values):.3f}", f"{max(values):.3f}"
        return mean if low == high else f"{mean} ({low}–{high})"

    def where(self) -> str:
        """Machines, threads and versions of all runs, in a sentence."""
        parts = self.record["parts"].values()
        used = sorted({run["machine"] for part in parts for run in part["runs"]})
        machines = [self.record["machines"][name] for name in used]
        places = dict.fromkeys(
            f"{m['hardware']}, {m['threads']} threads, torch {m['torch']}" for m in machines
        )
        revisions = dict.fromkeys(m["revision"] for m in machines)
        return f"Measured on: {'; '.join(places) or '–'}. Revision: {', '.join(revisions) or '–'}."


def dig(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def shares(found: Found) -> list[str]:
    """Per class: of all pixels, and of the images; Streets and CamVid, their train splits."""
    first = {
        name: (found.runs("shares", f"{name} train") or [{}])[0] for name in ("Streets", "CamVid")
    }

    def percent(name: str, digits: int, *keys: str) -> str:
        value = dig(first[name], *keys)
        return "–" if value is None else f"{100 * value:.{digits}f}"

    lines = [
        "| class | % of pixels, Streets train | CamVid train | % of images that have it, "
        "Streets train | CamVid train |",
        "|---|---|---|---|---|",
    ]
    classes = list(dig(first["Streets"], "share") or dig(first["CamVid"], "share") or {})
    for label in classes:
        cells = [
            percent(name, digits, kind, label)
            for kind, digits in (("share", 1), ("images_with", 0))
            for name in first
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return [
        *lines,
        f"| void | {percent('Streets', 1, 'void')} | {percent('CamVid', 1, 'void')} | | |",
    ]


def scores(found: Found) -> list[str]:
    """mIoU of what is cheap, and of the U-Nets."""
    lines = [
        "| mIoU at 96×128 | Streets val | Streets test | CamVid val | CamVid test |",
        "|---|---|---|---|---|",
    ]
    for name in (
        "constant road",
        "location prior",
        "logistic regression on RGB",
        "MLP on RGB and position",
    ):
        cells = [
            found.cell("baselines", f"{data} {name}", split, "miou")
            for data in ("Streets", "CamVid")
            for split in ("val", "test")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    nets = (
        ("same_steps", "U-Net base 16, {images_seen} images seen", ("Streets", "CamVid")),
        (
            "short",
            "U-Net base 8, {fit_seconds} s of training ({images_seen} images seen)",
            ("Streets", None),
        ),
        (
            "long",
            "U-Net base 8, {fit_seconds} s of training ({images_seen} images seen)",
            ("Streets", None),
        ),
        (
            "transfer",
            "U-Net base 16 that has seen rendered scenes only ({images_seen} images)",
            (None, "rendered to CamVid"),
        ),
    )
    for part, title, arms in nets:
        runs = [run for arm in arms if arm for run in found.runs(part, arm)]
        cells = [
            found.cell(part, arm, split, "miou") if arm else ""
            for arm in arms
            for split in ("val", "test")
        ]
        name = (
            title.format(
                **{
                    key: spread([run[key] for run in runs])
                    for key in ("images_seen", "fit_seconds")
                }
            )
            if runs
            else part
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def spread(values: list[float]) -> str:
    """Between which whole numbers they lie."""
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return low if low == high else f"{low}–{high}"


def per_class(found: Found) -> list[str]:
    """IoU on test, class by class, of the U-Nets with base 16."""
    arms = (("same_steps", "Streets"), ("same_steps", "CamVid"), ("transfer", "rendered to CamVid"))
    runs = [run for part, arm in arms for run in found.runs(part, arm)]
    lines = [
        "| IoU on test, U-Net base 16 | Streets | CamVid | rendered to CamVid |",
        "|---|---|---|---|",
    ]
    for label in dig(runs[0], "test", "iou") if runs else ():
        cells = [found.cell(part, arm, "test", "iou", label) for part, arm in arms]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    for drive in ("0001TP", "Seq05VD"):
        cells = [found.cell(part, arm, "test", "groups", drive, "miou") for part, arm in arms[1:]]
        lines.append(f"| mIoU of the drive {drive} | | {' | '.join(cells)} |")
    return lines


def scans(found: Found) -> list[str]:
    lines = ["| IoU at 128×128 | background | lesion | vessel |", "|---|---|---|---|"]
    for arm in (
        "Scans logistic regression on grey",
        "Scans balanced logistic regression on grey",
        "Scans U-Net",
    ):
        cells = [
            found.cell("scans", arm, "test", "iou", name)
            for name in ("background", "lesion", "vessel")
        ]
        lines.append(f"| {arm.removeprefix('Scans ')}, Scans test | {' | '.join(cells)} |")
    cells = [
        found.cell("scans", "Scans to Ultrasound", "test", "iou", name)
        for name in ("other", "vessel")
    ]
    return [
        *lines,
        f"| the same U-Net, Ultrasound test (vessel against all else) | {cells[0]} "
        f"| | {cells[1]} |",
    ]
