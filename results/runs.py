"""Records of full training runs, and the table of them that README.md shows.

    python results/runs.py record OUT NAME [--root FOLDER]   # OUT: the folder of a finished run
    python results/runs.py table                             # what README.md must contain
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "runs"


def record(out: Path, name: str, root: str | None) -> dict[str, Any]:
    """Evaluate a run's best checkpoint on the test split, whole and per group, and note it all."""
    import torch

    from seglib.checkpoints import load_checkpoint, read_content
    from seglib.data import DATASETS, make_loader
    from seglib.training import evaluate
    from seglib.transforms import eval_transform

    best = load_checkpoint(out / "best.pt")
    training = read_content(out / "last.pt")["training"]
    settings, rows = training["settings"], training["rows"]
    assert best.data.size is not None
    data = DATASETS[settings["data"]]("test", root, eval_transform(*best.data.size))
    scores = evaluate(best.model, make_loader(data, 8))
    last = evaluate(load_checkpoint(out / "last.pt").model, make_loader(data, 8))
    groups = {}
    if settings["data"] == "camvid":
        for group in sorted(set(data.groups)):
            chosen = [i for i, name in enumerate(data.groups) if name == group]
            part = make_loader(torch.utils.data.Subset(data, chosen), 8)
            groups[group] = {"images": len(chosen), **short(evaluate(best.model, part))}
    top = max(rows, key=lambda row: row["val_miou"])
    return {
        "schema": 1,
        "name": name,
        "dataset": settings["data"],
        "train_split": settings["train_split"],
        "pretrained": None,
        "model": {k: settings[k] for k in ("model", "base_channels", "depth", "norm", "up")},
        "size": list(best.data.size),
        "seed": settings["seed"],
        "epochs": len(rows),
        "images_seen": len(rows) * (settings["images"] // settings["batch_size"])
        * settings["batch_size"],
        "classes": list(best.data.classes),
        "val": {"split": settings["val_split"], "miou": round(top["val_miou"], 4),
                "epoch": top["epoch"], "miou_last_epoch": round(rows[-1]["val_miou"], 4)},
        "test": short(scores),
        "test_groups": groups,
        "test_miou_last_epoch": round(last.miou, 4),
        "images": len(data),
        "minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
        "images_per_second": round(sum(r["images_per_second"] for r in rows) / len(rows), 1),
        "hardware": training["machine"]["hardware"],
        "threads": training["machine"]["threads"],
        "versions": training["machine"]["versions"],
        "revision": revision(),
    }


def short(scores: Any) -> dict[str, Any]:
    rounded = lambda values: [None if v is None else round(v, 4) for v in values]  # noqa: E731
    content = scores.as_dict()
    return {"miou": round(content["miou"], 4), "iou": rounded(content["iou"]),
            "dice": rounded(content["dice"]),
            "pixel_accuracy": round(content["pixel_accuracy"], 4)}


def revision() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=FOLDER,
                          capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def table() -> str:
    """The Markdown table of all records."""
    lines = ["| run | size | images seen | val mIoU, best epoch | test mIoU, best epoch "
             "| test mIoU, last epoch | minutes | machine |",
             "|---|---|---|---|---|---|---|---|"]
    for path in sorted(FOLDER.glob("*.json")):
        r = json.loads(path.read_text(encoding="utf-8"))
        groups = ", ".join(f"{g} {v['miou']:.3f}" for g, v in r["test_groups"].items())
        lines.append(
            f"| {r['name']} | {r['size'][0]}×{r['size'][1]} | {r['images_seen']:,} "
            f"| {r['val']['miou']:.3f} | **{r['test']['miou']:.3f}**"
            f"{f' ({groups})' if groups else ''} | {r['test_miou_last_epoch']:.3f} "
            f"| {r['minutes']} | {r['hardware']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("out", type=Path)
    recording.add_argument("name")
    recording.add_argument("--root")
    commands.add_parser("table")
    options = parser.parse_args()
    if options.command == "table":
        print(table())
        return
    content = record(options.out, options.name, options.root)
    target = FOLDER / f"{options.name}.json"
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{target}: test mIoU {content['test']['miou']}")


if __name__ == "__main__":
    main()
