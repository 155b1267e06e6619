"""Several batches to a step equal one big batch, however unequal their void is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toys import Toy, tiny_run

from seglib.data.loader import make_loader
from seglib.losses import CombinedLoss, CrossEntropyLoss, DiceLoss, FocalLoss, LovaszSoftmaxLoss
from seglib.training import train_epoch
from seglib.transforms import eval_transform

WEIGHT = torch.tensor([0.2, 1.0, 5.0])


class Uneven(Toy):
    """Image i keeps about i/6 of its rows; `void` has none at all."""

    void = ()

    def read(self, index):
        image, mask = super().read(index)
        mask[(3 + 3 * index) :] = 255
        if index in self.void:
            mask[:] = 255
        return image, mask


class Blind(Uneven):
    void = (0, 1)


class Double(nn.Module):
    """Two convolutions in float64; normalised by groups, so that images do not see each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 3, 1)
        ).double()

    def forward(self, images):
        return self.net(images.double())


def trained(batch_size, accumulate, loss=None, data=Uneven, length=6, shuffle=True, epochs=2):
    """Weights and mean losses after some epochs of plain gradient descent, which shows what
    AdamW hides: a gradient that is too large."""
    model = Double()
    loader = make_loader(data(length, eval_transform(24, 32)), batch_size, shuffle=shuffle)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = [
        train_epoch(model, loader, loss or CrossEntropyLoss(), optimizer, accumulate=accumulate)[0]
        for _ in range(epochs)
    ]
    return torch.cat([p.detach().flatten() for p in model.parameters()]), losses


def distance(a, b):
    return float((a[0] - b[0]).abs().max())


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropyLoss(),
        CrossEntropyLoss(WEIGHT),
        FocalLoss(),
        CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_equals_one_big_batch(loss, batch_size):
    big, parts = trained(6, 1, loss), trained(batch_size, 6 // batch_size, loss)
    assert distance(big, parts) < 1e-6
    assert big[1] == pytest.approx(parts[1])


def test_means_of_means_would_not_do():
    """The oracle of the test above bites: the plain mean of the batches' losses is far off."""
    mean = CrossEntropyLoss()
    mean.denominator = lambda target: torch.tensor(1.0)
    assert distance(trained(6, 1), trained(2, 3, mean)) > 1e-4


def test_batches_without_a_valid_pixel():
    assert distance(trained(6, 1, data=Blind), trained(1, 6, data=Blind)) < 1e-6

    class Void(Uneven):
        void = range(6)

    weights, losses = trained(1, 6, data=Void)
    assert torch.isfinite(weights).all() and losses == [0.0, 0.0]


def test_the_last_step_of_an_epoch_may_have_fewer_batches():
    """7 images by 3 are steps of 3, 3 and 1; by single images, 3 to a step, the same three."""
    assert (
        distance(trained(3, 1, length=7, shuffle=False), trained(1, 3, length=7, shuffle=False))
        < 1e-6
    )


def test_the_schedule_moves_once_a_step(tmp_path):
    tiny_run(tmp_path, epochs=2, accumulate=2)  # 3 batches: a step of 2 and one of 1
    training = torch.load(tmp_path / "last.pt", weights_only=True)["training"]
    assert training["scheduler"]["total_steps"] == training["scheduler"]["last_epoch"] == 4
    assert training["settings"]["accumulate"] == 2
    with pytest.raises(ValueError, match=r"cannot resume .*: accumulate was 2, now it is None"):
        tiny_run(tmp_path, epochs=2, resume=True)


@pytest.mark.parametrize(
    "loss",
    [DiceLoss(), LovaszSoftmaxLoss(), CombinedLoss({CrossEntropyLoss(): 1.0, DiceLoss(): 1.0})],
    ids=["dice", "lovasz", "sum"],
)
def test_ratios_over_a_batch_do_not_decompose(loss):
    """As documented: Dice and Lovász of parts are other losses; they train all the same."""
    big, parts = trained(6, 1, loss), trained(2, 3, loss)
    assert distance(big, parts) > 1e-4
    assert torch.isfinite(parts[0]).all()


def test_labels_beyond_the_weights_are_named():
    class Odd(Toy):
        def read(self, index):
            image, mask = super().read(index)
            mask[0, 0] = 7
            return image, mask

    with pytest.raises(ValueError, match="label 7"):
        trained(2, 3, CrossEntropyLoss(WEIGHT), data=Odd)


def test_accumulate_below_one_is_refused():
    with pytest.raises(ValueError, match="accumulate=0, expected a number above 0"):
        tiny_run(None, accumulate=0)
