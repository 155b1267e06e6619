"""Records of full training runs, and the table of them in results/README.md.

python results/runs.py record OUT NAME [--root FOLDER]   # OUT: the folder of a finished run
python results/runs.py table                             # what results/README.md must contain
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "runs"


def record(out: Path, name: str, root: str | None) -> dict[str, Any]:
    """Evaluate a run's best checkpoint on the test split, whole and per group, and note it all.

    Settings, machine and revision are those that the run itself wrote when it began (run.json).
    """
    from seglib.data import DATASETS, make_loader
    from seglib.engine.checkpoints import load_checkpoint, read_content
    from seglib.training import evaluate
    from seglib.transforms import eval_transform

    best, last = load_checkpoint(out / "best.pt"), load_checkpoint(out / "last.pt")
    content = read_content(out / "last.pt")
    training, rows = content["training"], content["training"]["rows"]
    described = json.loads((out / "run.json").read_text(encoding="utf-8"))
    settings = described["settings"]
    assert best.data.size is not None
    data = DATASETS[settings["data"]]("test", root, eval_transform(*best.data.size))
    top = max(rows, key=lambda row: row["val_miou"])
    batch, images = settings["batch_size"], training["settings"]["images"]
    peaks = [row["peak_gb"] for row in rows if "peak_gb" in row]  # (on CUDA)
    scores = evaluate(best.model, make_loader(data, 8), per_image=True)
    groups = scores.by_group(data.groups) if settings["data"] == "camvid" else {}
    return {
        "schema": 1,
        "name": name,
        "dataset": settings["data"],
        "train_split": settings["train_split"],
        "pretrained": None if settings["pretrained"] == "none" else settings["pretrained"],
        "model": {"model": content["model"], **content["options"]},
        "amp": settings["amp"],
        "size": list(best.data.size),
        "seed": settings["seed"],
        "epochs": len(rows),
        "images_seen": len(rows) * (images // batch * batch),
        "classes": list(best.data.classes),
        "val": {
            "split": settings["val_split"],
            "miou": round(top["val_miou"], 4),
            "epoch": top["epoch"],
            "miou_last_epoch": round(rows[-1]["val_miou"], 4),
        },
        "test": short(scores),
        "test_groups": {
            group: {"images": data.groups.count(group), **short(part)}
            for group, part in groups.items()
        },
        "test_miou_last_epoch": round(evaluate(last.model, make_loader(data, 8)).miou, 4),
        "images": len(data),
        "minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
        "images_per_second": round(sum(r["images_per_second"] for r in rows) / len(rows), 1),
        "peak_gb": round(max(peaks), 2) if peaks else None,
        "hardware": described["machine"]["hardware"],
        "threads": described["machine"]["threads"],
        "versions": described["machine"]["versions"],
        "revision": described["revision"],
    }


def short(scores: Any) -> dict[str, Any]:
    rounded = lambda values: [None if v is None else round(v, 4) for v in values]  # noqa: E731
    content = scores.as_dict()
    return {
        "miou": round(content["miou"], 4),
        "iou": rounded(content["iou"]),
        "dice": rounded(content["dice"]),
        "pixel_accuracy": round(content["pixel_accuracy"], 4),
    }


def table() -> str:
    """The Markdown table of all records."""
    lines = [
        "| run | size | images seen | val mIoU, best epoch | test mIoU, best epoch "
        "| test mIoU, last epoch | minutes | machine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(FOLDER.glob("*.json")):
        r = json.loads(path.read_text(encoding="utf-8"))
        groups = ", ".join(f"{g} {v['miou']:.3f}" for g, v in r["test_groups"].items())
        test = f"**{r['test']['miou']:.3f}**{f' ({groups})' if groups else ''}"
        last = f"{r['test_miou_last_epoch']:.3f}"
        chosen = [f"{r['val']['miou']:.3f}", test, last]
        if r.get("chosen") == "last epoch":  # nothing was chosen on val
            chosen = [f"({r['val']['miou']:.3f} at the last)", "", test]
        cells = [r["name"], f"{r['size'][0]}×{r['size'][1]}", f"{r['images_seen']:,}"]
        cells += [*chosen, str(r["minutes"]), r["hardware"]]
        lines.append(f"| {' | '.join(cells)} |")
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
