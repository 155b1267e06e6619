"""What a day with a GPU has measured: its record, the run in results/runs, and the tables of both.

python benchmarks/gpu/record.py store FOLDER NAME   # FOLDER: --out of gpu_day.py; NAME: the run's
python benchmarks/gpu/record.py training|speed      # the tables that README files contain
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from seglib.data.colours import STREET_CLASSES
from seglib.util.files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "results" / "experiments" / "gpu_day.json"
TRAINING = ("trials", "main", "render", "streets", "second", "score")
SPEED = ("loops", "augmentation", "precision", "compiled", "kernels", "networks")
# Test mIoU at 360×480 that others have published: name, from random weights, trained on, test
PUBLISHED = (
    ("ENet", "train", 0.513),
    ("FC-DenseNet103", "train", 0.669),
    ("DABNet", "train and val", 0.667),
    ("LMFFNet", "train and val", 0.691),
    ("LETNet", "train and val", 0.705),
)


def collect(folder: Path) -> dict[str, Any]:
    """The stages' records as one, numbers with four digits."""
    names = [*TRAINING, *(f"speed_{name}" for name in SPEED), "tests", "lessons"]
    paths = {name: folder / f"{name}.json" for name in names}
    content = {n: json.loads(p.read_text("utf-8")) for n, p in paths.items() if p.exists()}
    return {"schema": 1, "revision": revision(), "stages": rounded(content)}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k != "file"}
        return {k: rounded(v) for k, v in kept.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def revision() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "seglib", "benchmarks")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def run_record(record: dict[str, Any], name: str) -> dict[str, Any]:
    """The main run as results/runs.py has them; its last epoch is what counts."""
    stages = record["stages"]
    told, scores = stages["main"], stages["score"]["main"]
    recipe, machine = told["recipe"], told["machine"]
    last = {"split": "val", "miou": scores["val"]["miou"], "epoch": told["epochs"]}
    groups = {g: with_dice(part) for g, part in scores["test_groups"].items()}
    return {
        "schema": 1,
        "name": name,
        "dataset": "camvid",
        "train_split": "train",
        "pretrained": None,
        "model": {"model": recipe["model"], **recipe["options"]},
        "amp": recipe["amp"],
        "size": [360, 480],
        "seed": 0,
        "epochs": told["epochs"],
        "images_seen": told["images_seen"],
        "classes": list(STREET_CLASSES),
        "chosen": "last epoch",
        "val": {**last, "miou_last_epoch": last["miou"]},
        "test": with_dice(scores["test"]),
        "test_groups": groups,
        "test_miou_last_epoch": scores["test"]["miou"],
        "images": sum(part["images"] for part in groups.values()),
        "minutes": round(told["seconds"] / 60, 1),
        "images_per_second": told["images_per_second"],
        "peak_gb": round(told["peak_gb"], 2),
        "hardware": machine["hardware"],
        "threads": machine["threads"],
        "versions": machine["versions"],
        "revision": record["revision"],
    }


def with_dice(scores: dict[str, Any]) -> dict[str, Any]:
    dice = [None if iou is None else round(2 * iou / (1 + iou), 4) for iou in scores["iou"]]
    return {**scores, "dice": dice}


# ---------------------------------------------------------------- tables


def training_table(record: dict[str, Any]) -> str:
    """CamVid's runs beside what is published."""
    stages = record["stages"]
    lines = [
        "| CamVid, 360×480, 11 classes, test | trained on | from | GPU, minutes | mIoU "
        "| 0001TP · Seq05VD | mirrored, too | and at four scales |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for stage, start, splits in (
        ("main", "random weights", "train"),
        ("second", "rendered streets", "train and val"),
    ):
        scores, told = stages["score"][stage], stages[stage]
        drives = " · ".join(f"{part['miou']:.3f}" for part in scores["test_groups"].values())
        augmented = (scores[f"test_{name}"]["miou"] for name in ("flip", "flip_scales"))
        options = ", ".join(f"{k.replace('_channels', '')} {v}" for k, v in options_of(told))
        lines.append(
            f"| U-Net, {options} | {splits} | {start} | {told['seconds'] / 60:.1f} "
            f"| **{scores['test']['miou']:.3f}** | {drives} | "
            + " | ".join(f"{value:.3f}" for value in augmented)
            + " |"
        )
    lines += [
        f"| {name}, published | {on} | random weights | | {miou:.3f} | | | |"
        for name, on, miou in PUBLISHED
    ]
    return "\n".join(lines)


def options_of(told: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(told["recipe"]["options"].items())


def speed_table(record: dict[str, Any]) -> str:
    """Every measured row, by case."""
    lines = [
        "| case | contender | images/s | ms | peak, GB | measurements |",
        "|---|---|---|---|---|---|",
    ]
    for stage in SPEED:
        rows = record["stages"].get(f"speed_{stage}", {}).get("rows", [])
        for case in dict.fromkeys(row["case"] for row in rows):
            group = [row for row in rows if row["case"] == case]
            if len(group) < 2:  # (the time was up)
                continue
            group.sort(key=lambda row: (-row.get("images_per_second", 0), row.get("ms", 0)))
            for i, row in enumerate(group):
                cells = [case if i == 0 else "", row["contender"]]
                if "error" in row:
                    cells += [row["error"].partition(":")[0], "", "", ""]
                else:
                    peak = row.get("peak_gb") or (row.get("peak_mb") or 0) / 1000
                    cells += [number(row.get("images_per_second")), number(row.get("ms"))]
                    cells += [number(peak), str(len(row["rounds"]))]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


TABLES = {"training": training_table, "speed": speed_table}


def store(folder: Path, name: str) -> None:
    record = collect(folder)
    run = ROOT / "results" / "runs" / f"{name}.json"
    for path, content in ((RECORD, record), (run, run_record(record, name))):
        with atomic_write(path) as temporary:
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("store", *TABLES))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("name", nargs="?")
    options = parser.parse_args()
    if options.what == "store":
        store(options.folder, options.name)
    else:
        print(TABLES[options.what](json.loads(RECORD.read_text("utf-8"))))


if __name__ == "__main__":
    main()
