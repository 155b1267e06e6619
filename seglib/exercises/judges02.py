"""How the answers of lesson 2 are judged."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from seglib.exercises.kit import NotYet, call, number, show
from seglib.models.unet import Up

# ---------------------------------------------------------------- 1: parameters


def parameters(answer: Any) -> str:
    found = round(number(answer, "the parameters", low=0))
    mistakes = {
        840: "that counts a bias for each convolution (8 + 8). Here bias=False: what could a bias "
        "do that the norm after it does not undo?",
        792: "those are the weights of both convolutions. BatchNorm has parameters as well: a "
        "scale and a shift for each channel",
        808: "that leaves out 16 of the norms' parameters: each of the two norms has a scale and a "
        "shift for each of its 8 channels",
        872: "that counts biases and the running means and variances, too. Here bias=False, and "
        "what no gradient changes is no parameter",
        856: "that counts the running mean and variance, too. They are buffers: no gradient "
        "changes them",
        232: "that is the first convolution and its norm. A second pair follows, from 8 channels "
        "to 8",
        464: "that is twice the first convolution with its norm. The second convolution sees 8 "
        "channels, not 3",
        88: "that leaves out the 3×3 window: each output channel has 9 weights for each input "
        "channel",
        120: "that leaves out the 3×3 window: each output channel has 9 weights for each input "
        "channel",
    }
    if found in mistakes:
        raise NotYet(f"{found} · {mistakes[found]}")
    if found > 10_000:
        raise NotYet(
            f"{found} is far too many: does it grow with the image? A convolution uses "
            "the same weights at every pixel"
        )
    if found != 824:
        raise NotYet(
            f"found {found}. Count in order: the weights of 3 → 8 channels with a 3×3 "
            "window, its norm, the weights of 8 → 8, its norm"
        )
    return "3·8·9 + 2·8 + 8·8·9 + 2·8 = 824, at any size of the image"


# ---------------------------------------------------------------- 2: Up


def up(answer: Any) -> str:
    if not (isinstance(answer, type) and issubclass(answer, nn.Module)):
        raise NotYet(f"expected the class Up itself, found {show(answer)}")
    torch.manual_seed(0)
    theirs = call(answer, 8, given="channels = 8").eval()  # batch statistics would mix all pixels
    ours = Up(8).eval()
    try:
        ours.load_state_dict(theirs.state_dict())
    except RuntimeError:
        raise NotYet(
            "the parts of your Up differ from those of the cell's __init__: expected "
            "self.up (8 → 4 channels) and self.conv (8 → 4)"
        ) from None
    for height, width in ((8, 12), (9, 12), (8, 13), (9, 13)):
        x = torch.randn(2, 8, height // 2, width // 2)
        skip = torch.randn(2, 4, height, width)
        given = f"x of {height // 2}×{width // 2} and a skip of {height}×{width}"
        try:
            found = call(theirs, x, skip, given=given)
        except NotYet as reason:
            order = "; F.pad can add what is missing, in the order left, right, top, bottom"
            raise NotYet(f"{reason}{order if 'Sizes of tensors' in str(reason) else ''}") from None
        if not isinstance(found, Tensor) or found.shape != skip.shape:
            _wrong_shape(found, skip, given)
        _compare_ups(ours, x, skip, found, given)
    return "even and odd sizes come out at the skip's size, and nothing has moved"


def _wrong_shape(found: Any, skip: Tensor, given: str) -> None:
    what = tuple(found.shape) if isinstance(found, Tensor) else show(found)
    hint = "the skip's size. A cropped skip loses the last row of the image; enlarge x instead"
    if isinstance(found, Tensor) and found.shape[2:] == skip.shape[2:]:
        hint = "after joining, self.conv brings 8 channels back to 4"
    raise NotYet(f"on {given}, the result is {what}, expected {tuple(skip.shape)}: {hint}")


@torch.inference_mode()
def _compare_ups(ours: Up, x: Tensor, skip: Tensor, found: Tensor, given: str) -> None:
    """Equal to the library's Up; else say which mistake it is."""
    expected = ours(x, skip)
    if torch.allclose(found, expected, atol=1e-4):
        return
    up = ours.up(x)
    old = np.s_[:, :, : up.shape[2], : up.shape[3]]
    if torch.allclose(found[old], ours.conv(torch.cat([skip[old], up], 1)), atol=1e-4):
        raise NotYet(
            f"on {given}, the skip's last row or column does not arrive: pad x before you "
            "join, not the result"
        )
    inner = np.s_[:, :, : up.shape[2] - 2, : up.shape[3] - 2]  # no added row reaches here
    if torch.allclose(found[inner], expected[inner], atol=1e-4):
        raise NotYet(
            f"on {given}, all is right but the last row or column. Fill what is missing "
            'by repeating the last row and column of the enlarged x, mode="replicate": '
            "zeros would be a dark edge, and the equality below asks for it"
        )
    rows, columns = skip.shape[2] - up.shape[2], skip.shape[3] - up.shape[3]
    grown = F.pad(up, (0, columns, 0, rows), mode="replicate")
    same = lambda other: torch.allclose(found[inner], other[inner], atol=1e-4)  # noqa: E731
    if same(ours.conv(torch.cat([grown, skip], 1))):
        raise NotYet(
            f"on {given}, you join [x, skip]; the library's order is [skip, x]. Both "
            "learn, but weights trained for one are useless for the other"
        )
    if same(ours.conv(torch.cat([grown, grown], 1))):
        raise NotYet(f"on {given}, the skip does not arrive: the result is the same whatever it is")
    if same(ours.conv(torch.cat([skip, skip], 1))):
        raise NotYet(f"on {given}, x does not arrive: only the skip does")
    before = ours.conv(torch.cat([skip, F.pad(up, (columns, 0, rows, 0))], 1))
    if (rows or columns) and torch.allclose(found[:, :, 3:, 3:], before[:, :, 3:, 3:], atol=1e-4):
        raise NotYet(
            f"on {given}, you add what is missing at the top or left, so that everything "
            "from below arrives one pixel too low or too far right. Pooling 9 rows drops "
            "the last one: add it at the end"
        )
    if rows or columns:
        raise NotYet(
            f"on {given}, even sizes come out right, odd ones differ far from the border: "
            "something has been stretched. Keep every pixel where it is and add only what "
            "pooling has dropped: the last row, the last column"
        )
    raise NotYet(
        f"on {given}, the values differ from up → join [skip, x] → conv by "
        f"{(found - expected).abs().max():.2g}"
    )


# ---------------------------------------------------------------- 3: the training loop


def _tiny(seed: int) -> tuple[nn.Sequential, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1)
    )
    batches = [
        (torch.randn(2, 3, 6, 8), torch.randint(0, 3, (2, 6, 8), dtype=torch.uint8))
        for _ in range(4)
    ]
    return model, batches


def _steps(batches: Any, model: nn.Module, *, zero: bool = True, train: bool = True) -> nn.Module:
    """The loop as it should be, or with one of the mistakes."""
    model.train(train)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for images, target in batches:
        if zero:
            optimizer.zero_grad()
        F.cross_entropy(model(images), target.long()).backward()
        optimizer.step()
    return model


def _losses(batches: Any, model: nn.Module) -> list[float]:
    """The loss of each batch before its own step."""
    found = []
    for batch in batches:
        logits = model.train()(batch[0])
        found.append(F.cross_entropy(logits, batch[1].long()).item())
        _steps([batch], model)
    return found


def train_steps(answer: Any) -> str:
    model, batches = _tiny(0)
    start = copy.deepcopy(model).eval()  # as an evaluation before has left it
    mine = copy.deepcopy(start)
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.1)
    given = "four batches whose targets are uint8 (2, 6, 8), with a model in eval mode"
    copies = [(images.clone(), target.clone()) for images, target in batches]
    try:
        losses = call(answer, mine, copies, nn.CrossEntropyLoss(), optimizer, given=given)
    except NotYet as reason:
        dtype = any(word in str(reason) for word in ("Long", "Byte", "Float", "scalar type"))
        wanted = "; class numbers are indices: expected int64, target.long()" if dtype else ""
        raise NotYet(f"{reason}{wanted}") from None

    def equals(other: nn.Module) -> bool:
        pairs = zip(mine.state_dict().values(), other.state_dict().values(), strict=True)
        return all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in pairs)

    if all(torch.equal(a, b) for a, b in zip(mine.parameters(), start.parameters(), strict=True)):
        raise NotYet(
            f"on {given}, not one weight has changed: is there an optimizer.step() after "
            "each backward(), with nothing in between that empties the gradients?"
        )
    means = [net.get_buffer("1.running_mean") for net in (mine, start)]
    still = torch.equal(*means)
    if equals(_steps(batches, copy.deepcopy(start), zero=False, train=False)):
        raise NotYet(
            f"on {given}, the weights are those of a loop with two faults: gradients of "
            "all batches add up, and BatchNorm's running mean never moved"
        )
    if equals(_steps(batches, copy.deepcopy(start), zero=False)):
        raise NotYet(
            f"on {given}, gradients of all batches add up: the second step goes along "
            "the first batch's gradient, too. backward() adds to .grad; who empties it?"
        )
    if still:
        raise NotYet(
            f"on {given}, BatchNorm's running mean never moved: the model stayed in eval "
            "mode. Who switches it to training?"
        )
    if not equals(_steps(batches, copy.deepcopy(start))):
        raise NotYet(
            f"on {given}, the weights differ from those of one step a batch: forward, "
            "loss, zero_grad, backward, step"
        )
    kinds = {type(value).__name__ for value in losses} if isinstance(losses, list) else set()
    if kinds != {"float"} or len(losses) != 4:
        found = f"{len(losses)} × {' and '.join(sorted(kinds))}" if kinds else show(losses)
        raise NotYet(
            f"the weights are right; expected a list of 4 floats, found {found}. A tensor "
            "would keep the whole graph in memory: value.item()"
        )
    if not np.allclose(losses, _losses(batches, copy.deepcopy(start)), atol=1e-4):
        raise NotYet(
            f"the weights are right, but {[round(value, 3) for value in losses]} are not "
            "the losses: keep the loss of each batch, as it was before its step"
        )
    return "the weights equal those of a loop that was written separately"


# ---------------------------------------------------------------- 4: four error maps

SHOWN = "3"  # of Streets test
PANELS = {
    "A": "U-Net, 15 images, flips",
    "B": "U-Net without skips, 240 images, flips",
    "C": "U-Net, 240 images, flips",
    "D": "U-Net, 240 images, flips",
}


def error_panels() -> Figure:
    """Photo, truth, and four error maps by letter; the predictions of D are shifted."""
    import matplotlib.pyplot as plt

    from seglib.course.records import label_map, read_record, values
    from seglib.data import Streets
    from seglib.plotting import colorize, error_map, paint_errors
    from seglib.transforms import resize_image, resize_mask

    record, streets = read_record("02_unet"), Streets("test")
    image, mask = streets.read(int(SHOWN))
    truth = resize_mask(mask, 72, 96)
    panels = {"photo": resize_image(image, 72, 96), "truth": colorize(truth, streets.palette)}
    for letter, arm in PANELS.items():
        labels = label_map(values(record, "arms", arm, lambda run: run.get("maps"))[0][SHOWN])
        if letter == "D":
            labels = np.pad(labels, ((3, 0), (3, 0)), mode="edge")[:72, :96]
        errors, share = error_map(truth, labels)
        panels[f"{letter}: {share:.0%} wrong"] = paint_errors(errors)
    figure, axes = plt.subplots(2, 3, figsize=(8.5, 4.8), layout="constrained")
    plt.close(figure)
    for axis, (title, picture) in zip(axes.flat, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    figure.suptitle("Four predictions of one scene: wrong pixels violet, void grey", fontsize=11)
    return figure


def error_maps(answer: Any) -> str:
    letter = str(answer).strip().upper()
    reasons = {
        "A": "ragged patches and speckles are wrong, also far from any border: this net sees "
        "detail and gives it the wrong name. It has skips, and has seen 15 images only",
        "C": "few errors, and thin ones: this net finds most borders. It has skips",
        "D": "look at one side of each object and then at the other: the errors lie on the lower "
        "right edges and leave a ghost of every thin thing. This is a good prediction that "
        "was shifted by three pixels",
    }
    if letter in reasons:
        raise NotYet(f"{letter} · {reasons[letter]}")
    if letter != "B":
        raise NotYet(f"expected a letter from A to D, found {show(answer)}")
    return "broad bands with smooth edges along the roofs and the pavement, thin things gone"


# ---------------------------------------------------------------- 5: what the record advises

ADVICE = {"15 images": "c", "240 images": "a"}
_RECORDED = {
    "15 images": {"a": "0.258", "b": "0.298", "c": "0.406", "d": "0.384"},
    "240 images": {"a": "0.501", "b": "0.480", "c": "0.410", "d": "0.477"},
}
_OFFERS = {
    "a": "no augmentation",
    "b": "flips",
    "c": "zoom and colour",
    "d": "more images with flips",
}


def advice(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != set(ADVICE):
        raise NotYet(f"expected a dict with the keys {list(ADVICE)}, found {show(answer)}")
    for images, right in ADVICE.items():
        letter = str(answer[images]).strip().lower()
        if letter not in _OFFERS:
            raise NotYet(f"for {images} expected a letter from a to d, found {show(letter)}")
        if letter != right:
            hint = (
                "there is a gap of 0.64 to close between seen and test"
                if images == "15 images"
                else "there is hardly a gap left, and each variation makes the task harder"
            )
            raise NotYet(
                f"{images}: {_OFFERS[letter]} gave {_RECORDED[images][letter]} on test, "
                f"and one of the others gave more. Look at the two tables again: {hint}"
            )
    return "0.406 and 0.501: augmentation closes a gap, and costs where there is none"
