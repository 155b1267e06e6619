"""Several batches to a step equal one big batch, however unequal their void is."""

import pytest
import torch
from accidents import training_of
from torch import nn
from toys import Uneven, loader, tiny_run

from seglib.engine.accumulation import BatchLosses, last_denominator, loss_denominator
from seglib.engine.state import EpochProgress
from seglib.losses import CombinedLoss, CrossEntropyLoss, DiceLoss, FocalLoss, LovaszSoftmaxLoss
from seglib.training import train_epoch

WEIGHT = torch.tensor([0.2, 1.0, 5.0])
EXACT = [CrossEntropyLoss(), CrossEntropyLoss(WEIGHT), FocalLoss()]
EXACT.append(CrossEntropyLoss(WEIGHT, label_smoothing=0.1))


class Double(nn.Module):
    """Two convolutions in float64; normalised by groups, so that images do not see each other."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 3, 1)
        ).double()

    def forward(self, images):
        return self.net(images.double())


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(batch_size, accumulate, loss=None, length=6, shuffle=True, void=()):
    """Weights and mean losses after two epochs of plain descent (AdamW hides a gradient's size)."""
    model, batches = Double(), loader(length, batch_size, Uneven, shuffle=shuffle)
    batches.dataset.void = void
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = [
        train_epoch(model, batches, loss or CrossEntropyLoss(), optimizer, accumulate=accumulate)[0]
        for _ in range(2)
    ]
    return weights_of(model), losses


def distance(a, b):
    return float((a[0] - b[0]).abs().max())


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("loss", EXACT, ids=str)
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
    assert distance(trained(6, 1, void=(0, 1)), trained(1, 6, void=(0, 1))) < 1e-6
    weights, losses = trained(1, 6, void=range(6))
    assert torch.isfinite(weights).all() and losses == [0.0, 0.0]


def test_the_last_step_of_an_epoch_may_have_fewer_batches():
    """7 images by 3 are steps of 3, 3 and 1; by single images, 3 to a step, the same three."""
    by_three, single = (trained(*sizes, length=7, shuffle=False) for sizes in ((3, 1), (1, 3)))
    assert distance(by_three, single) < 1e-6


def test_the_schedule_moves_once_a_step(tmp_path):
    tiny_run(tmp_path, epochs=2, accumulate=2)  # 3 batches: a step of 2 and one of 1
    scheduler = training_of(tmp_path)["scheduler"]
    assert scheduler["total_steps"] == scheduler["last_epoch"] == 4


@pytest.mark.parametrize("loss", [DiceLoss(), LovaszSoftmaxLoss(), CombinedLoss()], ids=repr)
def test_ratios_over_a_batch_do_not_decompose(loss):
    """As documented: Dice and Lovász of parts are other losses; they train all the same."""
    big, parts = trained(6, 1, loss), trained(2, 3, loss)
    assert distance(big, parts) > 1e-4 and torch.isfinite(parts[0]).all()


def losses_of(device, values):
    """What an epoch's progress says after so many batches of three images, two pixels each."""
    done = EpochProgress()
    losses = BatchLosses(done, loader(30, 3, shuffle=True), device)
    seen = []
    for value in values:
        losses.add(torch.tensor(value), torch.tensor(2), torch.zeros(3))
        seen.append(done.images // 3)
    losses.settle()
    return done, seen


def test_a_gpu_is_asked_for_its_losses_every_fifty_batches():
    values = torch.rand(120).tolist()
    cpu, each = losses_of(torch.device("cpu"), values)
    gpu, late = losses_of(torch.device("cuda"), values)  # (the tensors lie where they are)
    assert each == list(range(1, 121)) and late == [0] * 49 + [50] * 50 + [100] * 21
    assert gpu == cpu and (cpu.step, cpu.images, cpu.denominator) == (120, 360, 240)
    assert cpu.mean == pytest.approx(sum(values) / 120)


def test_a_loss_that_is_not_finite_is_named_when_it_is_read():
    with pytest.raises(FloatingPointError, match="the loss is nan at batch 8 of epoch 1"):
        losses_of(torch.device("cuda"), [1.0] * 7 + [float("nan")] * 2)


@pytest.mark.parametrize("loss", [CrossEntropyLoss(WEIGHT), DiceLoss(), CombinedLoss()], ids=str)
def test_the_denominator_is_known_after_a_call(loss):
    """By the loss itself, or else counted: Σ w over valid pixels, or their number."""
    target = torch.tensor([[[0, 2, 2, 255]]])
    loss(torch.zeros(1, 3, 1, 4), target)
    expected = 0.2 + 5 + 5 if isinstance(loss, CrossEntropyLoss) else 3
    for denominator in (last_denominator, loss_denominator):
        assert denominator(loss, target, 255) == pytest.approx(expected)
    with pytest.raises(ValueError, match="label 7"):
        loss_denominator(CrossEntropyLoss(WEIGHT), torch.tensor([[[7]]]), 255)
