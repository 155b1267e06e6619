"""Draw the title pictures of the lessons: python notebooks/pictures/draw.py [01 …]"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from seglib.data import RenderedScans, RenderedStreets, Streets
from seglib.losses import CrossEntropyLoss, DiceLoss, FocalLoss, LovaszSoftmaxLoss
from seglib.metrics import ConfusionMatrix
from seglib.models import create_model
from seglib.plotting import colorize, legend, show_predictions
from seglib.course.records import label_map, read_record, values
from seglib.transforms import eval_transform, resize_mask

HERE = Path(__file__).parent
LIMIT = 150_000                                        # bytes of a picture


def in_a_row(panels, mask, dataset):
    """Four pictures by title, and a legend of the classes in `mask`."""
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.1), layout="constrained")
    for axis, (title, picture) in zip(axes, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    present = set(np.unique(mask)) - {255}
    legend(figure, dataset.classes, dataset.palette, present, void=True)
    return figure


def lesson_01():
    """A street of val, its labels, the guess of the location prior, and where that is wrong."""
    train, val = Streets("train"), Streets("val")
    masks = np.stack([train.read_mask(i) for i in range(len(train))])
    counts = np.stack([(masks == label).sum(axis=0) for label in range(train.num_classes)])
    image, mask = val.read(17)
    return show_predictions([image], [mask], [counts.argmax(axis=0)], val.classes, val.palette,
                            width=12, title="One street, its labels, and what a guess by position "
                            "gets wrong")


def lesson_02():
    """A street of test, its labels, and two recorded predictions: without skips and with."""
    record, test = read_record("02_unet"), Streets("test")
    image, mask = test.read(8)
    panels = {"photo": image, "truth": colorize(resize_mask(mask, 72, 96), test.palette)}
    for name in ("U-Net without skips", "U-Net"):
        kept = values(record, "arms", f"{name}, 240 images, flips", lambda run: run.get("maps"))[0]
        panels[name] = colorize(label_map(kept["8"]), test.palette)
    return in_a_row(panels, mask, test)


def lesson_03():
    """A scan with its lesion, a prediction beside it, and where four losses push that."""
    truth = RenderedScans([2000], 64, 64, lesion=True, lesion_size=0.04, contrast=3.0).read(0)
    image, lesion = truth[0] // 16 * 16 + 8, torch.from_numpy(truth[1] == 1).long()
    row, column = (part.float().mean() for part in lesion.nonzero(as_tuple=True))
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    away = ((rows - row) ** 2 + (columns - column - 6) ** 2).sqrt()
    logit = (1.2 * ((lesion.sum() / torch.pi).sqrt() - away)).clamp(min=-5)
    logits = torch.stack([torch.zeros_like(logit), logit])[None]
    figure, axes = plt.subplots(1, 6, figsize=(12, 2.3), layout="constrained")
    axes[0].imshow(image, interpolation="nearest")
    axes[1].imshow(logits.softmax(1)[0, 1], cmap="gray", interpolation="nearest")
    for axis, (name, loss) in zip(axes[2:], {
        "cross-entropy": CrossEntropyLoss(), "focal": FocalLoss(), "Dice": DiceLoss(),
        "Lovász": LovaszSoftmaxLoss(),
    }.items(), strict=True):
        x = logits.clone().requires_grad_()
        loss(x, lesion[None]).backward()
        push = -x.grad[0, 1]
        axis.imshow(push / push.abs().max(), cmap="RdBu", vmin=-1, vmax=1,
                    interpolation="nearest")
        axis.set_title(name, fontsize=11)
    for axis, title in zip(axes, ("scan and lesion", "a prediction"), strict=False):
        axis.set_title(title, fontsize=11)
    for axis in axes:
        axis.contour(lesion, [0.5], colors="#f0e442" if axis is axes[0] else "#009e73",
                     linewidths=1.2)
        axis.set(xlim=(12, 63), ylim=(36, 0), xticks=[], yticks=[])
    return figure


def lesson_04():
    """One recorded prediction of a street, and what definitions of mIoU make of all 60."""
    record, test = read_record("04_metrics"), Streets("test")
    kept = values(record, "checkpoint", "240 images", lambda run: run.get("maps"))[0]
    labels = [label_map(kept[str(i)]) for i in range(len(test))]
    truths = [resize_mask(test.read_mask(i), 72, 96) for i in range(len(test))]
    counted = ConfusionMatrix(test.num_classes, per_image=True)
    counted.update(np.stack(labels), np.stack(truths))
    scores = counted.compute()
    each = np.stack([one.iou for one in scores.per_image()])
    hits = np.trace(scores.matrix)
    found = {"one matrix": scores.miou, "image by image": np.nanmean(np.nanmean(each, axis=1)),
             "absent counts 1": np.nan_to_num(each, nan=1.0).mean(),
             "all pixels in one pot": hits / (2 * scores.matrix.sum() - hits)}
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.6), layout="constrained",
                                gridspec_kw={"width_ratios": [1, 1, 1, 1.1]})
    panels = {"photo": test.read(8)[0], "truth": colorize(truths[8], test.palette),
              "prediction": colorize(labels[8], test.palette)}
    for axis, (title, picture) in zip(axes, panels.items(), strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    bars = axes[3].barh(list(found)[::-1], list(found.values())[::-1], color="#0072b2")
    axes[3].bar_label(bars, fmt="%.2f", padding=3)
    axes[3].set(xlim=(0, 1), xticks=[])
    axes[3].set_title("“mIoU” of these predictions", fontsize=11)
    axes[3].spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def lesson_05():
    """A street of test by night, its labels, and two recorded predictions after 24 night scenes."""
    record = read_record("05_pretraining")
    night = RenderedStreets([Streets.SEEDS["test"][8]], light="night")
    image, mask = night.read(0)
    panels = {"photo": image // 8 * 8 + 4,
              "truth": colorize(resize_mask(mask, 96, 128), night.palette)}
    for title, arm in (("from scratch, 24 scenes", "24 scenes, from scratch"),
                       ("fine-tuned, the same 24", "24 scenes, all weights")):
        kept = values(record, "night", arm, lambda run: run.get("maps"))[0]
        panels[title] = colorize(label_map(kept["8"]), night.palette)
    return in_a_row(panels, mask, night)


def lesson_06():
    """The numbers that three formats can hold, and the gradients of four streets beside them."""
    scenes, model = Streets("val", transform=eval_transform(96, 128)), create_model(
        "deeplabv3plus", 11, pretrained="streets").eval()
    images, target = (torch.stack(part) for part in zip(*(scenes[i] for i in range(4)),
                                                        strict=True))
    logits = model(images).detach().requires_grad_()
    CrossEntropyLoss()(logits, target).backward()
    sizes = logits.grad[logits.grad != 0].abs()
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(12, 4.2), layout="constrained", sharex=True,
                                         gridspec_kw={"height_ratios": [1.2, 1]})
    formats = {"float32\n7 digits": torch.float32, "bfloat16\n2 to 3 digits": torch.bfloat16,
               "float16\n3 to 4 digits": torch.float16}
    for row, (name, dtype) in enumerate(formats.items()):
        info = torch.finfo(dtype)
        ends = np.log10([info.smallest_normal * info.eps, info.smallest_normal, info.max])
        colour = ["#777777", "#0072b2", "#d55e00"][row]
        top.barh(-row, ends[2] - ends[1], left=ends[1], color=colour, height=0.62)
        top.barh(-row, ends[1] - ends[0], left=ends[0], color=colour, height=0.62, alpha=0.4)
    top.set(yticks=[0, -1, -2], yticklabels=list(formats),
            title="What each format can hold (paler: with fewer digits) …")
    edges = np.linspace(-16, 2, 61)
    for scale, colour, label in ((1, "#555555", "as they are"), (2**16, "#009e73", "times 65,536")):
        logs = (sizes * scale).log10().clamp(-16, 2).numpy()
        bottom.hist(logs, edges, color=colour, alpha=0.7, label=label)
    bottom.axvspan(np.log10(2**-25), np.log10(65504), color="#d55e00", alpha=0.12, lw=0)
    bottom.set(yticks=[], xlim=(-46, 39.5), xlabel="size, as a power of ten",
               title="… and the gradients at the logits of four streets; shaded: float16's window")
    bottom.legend(frameon=False, loc="upper left")
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    lessons = {name[-2:]: draw for name, draw in globals().items() if name.startswith("lesson_")}
    for number in sys.argv[1:] or lessons:
        target = HERE / f"{number}.png"
        lessons[number]().savefig(target, dpi=80)
        size = target.stat().st_size
        if size > LIMIT:
            raise SystemExit(f"{target.name} has {size:,} bytes, more than {LIMIT:,}")
        print(f"{target.name}: {size:,} bytes")


if __name__ == "__main__":
    main()
