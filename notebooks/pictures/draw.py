"""Draw the title pictures of lessons and course: python notebooks/pictures/draw.py [01 … course]"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from seglib.course.losses import SLICE, slices
from seglib.course.metrics import street_predictions
from seglib.data import RenderedStreets, Streets, make_loader
from seglib.losses import CrossEntropyLoss
from seglib.metrics import ConfusionMatrix
from seglib.models import create_model
from seglib.plotting import colorize, legend, place_labels, show_predictions
from seglib.course.records import label_map, read_record, values
from seglib.course.transformers import NEAREST, OTHER, nearest_scenes, vehicles
from seglib.inference import predict
from seglib.training import fit
from seglib.transforms import eval_transform, resize_mask

HERE = Path(__file__).parent
SCENE = 2  # of the test scenes: the small network calls two of its vehicles nearest
LIMIT = 250_000                                        # bytes of a picture
DPI = {"01": 96}                                       # dots an inch, else 80


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


def course():
    """What the course leads to: a street of test, its labels with names, and two predictions."""
    test, height, width = Streets("test"), 144, 192
    image, mask = test.read(22)
    kept = values(read_record("04_metrics"), "checkpoint", "240 images", lambda run: run.get("maps"))
    net = create_model("deeplabv3plus", 11, pretrained="imagenet+streets").eval()
    masks = {"a name for every pixel": mask, "a U-Net trained on 240 streets": label_map(kept[0]["22"]),
             "a pretrained DeepLabv3+": predict(net, image, size=(height, width))}
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.75), layout="constrained")
    axes[0].imshow(image, interpolation="lanczos")
    axes[0].set_title("photo", fontsize=12)
    for axis, (title, labels) in zip(axes[1:], masks.items(), strict=True):
        axis.imshow(colorize(labels, test.palette), interpolation="nearest",
                    extent=(0, width, height, 0))
        axis.set_title(title, fontsize=12)
    for label in place_labels(mask, test.classes, font_size=11):
        x0, y0, x1, y1 = label.box
        dark = tuple(test.palette[label.index] / 4 / 255)
        axes[1].text((x0 + x1) / 2, (y0 + y1) / 2, label.text, color="white", fontsize=10,
                     fontweight="bold", ha="center", va="center",
                     path_effects=[withStroke(linewidth=2.2, foreground=dark)])
    for axis in axes:
        axis.axis("off")
    shown = np.unique(np.concatenate([labels.ravel() for labels in masks.values()]))
    legend(figure, test.classes, test.palette, set(shown) - {255}, void=True)
    return figure


def lesson_01():
    """A street of val, its labels, the guess of the location prior, and where that is wrong."""
    train, val = Streets("train"), Streets("val")
    masks = np.stack([train.read_mask(i) for i in range(len(train))])
    counts = np.stack([(masks == label).sum(axis=0) for label in range(train.num_classes)])
    image, mask = val.read(17)
    figure = show_predictions([image], [mask], [counts.argmax(axis=0)], val.classes, val.palette,
                              width=10, title="A guess from position alone: 26 % of pixels wrong")
    figure.axes[0].set_title("scene", fontsize=9)
    return figure


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
    """A scan, its labels, and the network that the lesson trains with cross-entropy."""
    train, test = slices(0.3, "train", augment=True), slices(0.3, "test")
    settings = read_record("03_losses")["parts"]["race"]["settings"]
    torch.manual_seed(0)
    net = create_model("unet", 3, base_channels=8)
    fit(net, make_loader(train, 4, shuffle=True), epochs=6, lr=settings["lr"],
        schedule="constant", loss=CrossEntropyLoss())
    image, mask = test.read(SLICE)
    with torch.inference_mode():
        found = net.eval()(test[SLICE][0][None]).argmax(1)[0].numpy()
    panels = {"a scan": image, "its labels": colorize(mask, test.palette),
              f"the network ({(found == mask).mean():.1%} right)": colorize(found, test.palette)}
    figure, axes = plt.subplots(1, 3, figsize=(8.2, 3), layout="constrained")
    for axis, (title, picture) in zip(axes, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    legend(figure, test.classes, test.palette, {0, 1, 2})
    return figure


def lesson_04():
    """A recorded prediction of a street, and four definitions' mIoU of all 60 scenes."""
    test, shown = Streets("test"), 15
    truths, labels = street_predictions()
    counted = ConfusionMatrix(test.num_classes, per_image=True)
    counted.update(labels, truths)
    scores = counted.compute()
    each = np.stack([one.iou for one in scores.per_image()])
    hits = np.trace(scores.matrix)
    found = {"one matrix": scores.miou, "image by image": np.nanmean(np.nanmean(each, axis=1)),
             "absent counts 1": np.nan_to_num(each, nan=1.0).mean(),
             "micro": hits / (2 * scores.matrix.sum() - hits)}
    figure, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained",
                                gridspec_kw={"width_ratios": [1, 1, 1, 1.1]})
    right = scores.per_image()[shown].pixel_accuracy
    panels = {"photo": test.read(shown)[0], "truth": colorize(truths[shown], test.palette),
              f"prediction: {right:.0%} of the pixels right": colorize(labels[shown], test.palette)}
    for axis, (title, picture) in zip(axes, panels.items(), strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    bars = axes[3].barh(list(found)[::-1], list(found.values())[::-1], color="#0072b2")
    axes[3].bar_label(bars, fmt="%.2f", padding=3)
    axes[3].set(xlim=(0, 1), xticks=[])
    axes[3].set_title("“mIoU” of all 60 scenes", fontsize=11)
    axes[3].spines[["top", "right", "bottom"]].set_visible(False)
    present = set(np.unique([truths[shown], labels[shown]])) - {255}
    legend(figure, test.classes, test.palette, present, void=True)
    return figure


def lesson_05():
    """A street of test by night, its labels, and two recorded predictions after 24 night scenes."""
    record = read_record("05_pretraining")
    night = RenderedStreets([Streets.SEEDS["test"][8]], light="night")
    image, mask = night.read(0)
    panels = {"rendered night": image,
              "truth": colorize(resize_mask(mask, 96, 128), night.palette)}
    for title, arm in (("from scratch, 24 scenes", "24 scenes, from scratch"),
                       ("fine-tuned, the same 24", "24 scenes, all weights")):
        kept = values(record, "night", arm, lambda run: run.get("maps"))[0]
        panels[title] = colorize(label_map(kept["8"]), night.palette)
    figure = in_a_row(panels, mask, night)
    for text in (*(axis.title for axis in figure.axes), *figure.legends[0].get_texts()):
        text.set_fontsize(text.get_fontsize() + 2)
    figure.set_figheight(3.3)
    return figure


def lesson_06():
    """The numbers that three formats can hold, and the gradients of four street scenes beside them."""
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
        bottom.hist(logs, edges, histtype="step", color=colour, linewidth=1.8, label=label)
    bottom.axvspan(np.log10(2**-25), np.log10(65504), color="#d55e00", alpha=0.12, lw=0)
    bottom.set(yticks=[], xlim=(-46, 39.5), xlabel="size, as a power of ten",
               title="… and the gradients at the logits of four street scenes; shaded: float16's window")
    bottom.legend(frameon=False, loc="upper left")
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def lesson_07():
    """A street, which of its vehicles is nearest, and the recorded answers of two networks."""
    scenes, record = nearest_scenes(range(70_000, 70_012)), read_record("07_transformers")
    image, instances, labels = (part[SCENE] for part in (scenes.images, scenes.instances,
                                                         scenes.labels))
    panels = {"which vehicle is nearest?": image, "truth": vehicles(image, instances, labels)}
    for title, arm in (("a network that sees 41 pixels", "3 convolutions"),
                       ("a network with attention", "attention")):
        kept = values(record, "far", arm, lambda run: run.get("maps"))[0]
        panels[title] = vehicles(image, instances, label_map(kept[str(SCENE)]))
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.6), layout="constrained")
    for axis, (title, picture) in zip(axes, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=12)
        axis.axis("off")
    handles = [Patch(color=np.array(colour) / 255, label=name)
               for name, colour in (("called nearest", NEAREST), ("another vehicle", OTHER))]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    return figure


def main() -> None:
    lessons = {name[-2:]: draw for name, draw in globals().items() if name.startswith("lesson_")}
    lessons["course"] = course
    for number in sys.argv[1:] or lessons:
        target = HERE / f"{number}.png"
        lessons[number]().savefig(target, dpi=DPI.get(number, 80))
        size = target.stat().st_size
        if size > LIMIT:
            raise SystemExit(f"{target.name} has {size:,} bytes, more than {LIMIT:,}")
        print(f"{target.name}: {size:,} bytes")


if __name__ == "__main__":
    main()
