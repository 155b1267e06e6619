"""fit and evaluate: that they learn, what they report, and against a plain loop as oracle."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import nn
from toys import Toy, tiny_model, tiny_run

from seglib.data.loader import make_loader
from seglib.engine.history import History
from seglib.losses import CrossEntropyLoss
from seglib.models import UNet
from seglib.training import epoch_randomness, evaluate, fit
from seglib.transforms import eval_transform


def plain():
    return eval_transform(24, 32)


def test_a_small_unet_learns_the_boxes():
    torch.manual_seed(0)
    model = UNet(3, base_channels=8, depth=2)
    history = fit(
        model,
        make_loader(Toy(32, plain()), 4, shuffle=True),
        make_loader(Toy(8, plain()), 4),
        epochs=6,
        lr=0.01,
    )
    assert history.best["val_miou"] > 0.9
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"] / 3


def test_equals_a_plain_loop_of_pytorch():
    """Without schedule and augmentation, fit does what every tutorial's loop does."""
    model, twin = tiny_model(), tiny_model()
    model[3].p = twin[3].p = 0.0
    loader = make_loader(Toy(6, plain()), 2, shuffle=True, seed=5)
    fit(model, loader, epochs=2, lr=0.01, schedule="constant", seed=5, channels_last=False)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.01)
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    twin.train()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for images, target in loader:
            optimizer.zero_grad()
            criterion(twin(images), target).backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_evaluate_against_scikit_learn_and_restores_the_mode():
    torch.manual_seed(0)
    data = Toy(5, plain())
    model = UNet(3, base_channels=4, depth=1).train()
    scores = evaluate(model, make_loader(data, 2))
    assert model.training
    model.eval()
    truth = torch.stack([mask for _, mask in data])
    with torch.no_grad():
        guess = model(torch.stack([image for image, _ in data])).argmax(1)
    valid = truth != 255
    oracle = jaccard_score(truth[valid], guess[valid], average=None, labels=[0, 1, 2])
    np.testing.assert_allclose(scores.iou, oracle)
    assert scores.classes == Toy.classes


def test_frozen_layers_stay_frozen_through_an_evaluation():
    model = UNet(3, base_channels=4, depth=1).train()
    model.encoder[0].eval()
    evaluate(model, make_loader(Toy(2, plain()), 2))
    assert model.training and not model.encoder[0][1].training and model.encoder[1][1].training


def test_evaluate_does_not_depend_on_the_batch_size():
    torch.manual_seed(0)
    model = UNet(3, base_channels=4, depth=1)
    matrices = [evaluate(model, make_loader(Toy(7, plain()), n)).matrix for n in (1, 3, 7)]
    assert (matrices[0] == matrices[1]).all() and (matrices[0] == matrices[2]).all()


@pytest.mark.parametrize("weight", [None, torch.tensor([0.2, 1.0, 5.0])])
def test_val_loss_is_a_mean_over_pixels_not_over_batches(weight):
    class Uneven(Toy):
        def read(self, index):
            image, mask = super().read(index)
            mask[index:] = 255  # image i has i valid rows
            return image, mask

    torch.manual_seed(0)
    model = tiny_model()
    data = Uneven(5, plain())
    history = fit(
        model,
        make_loader(data, 2, shuffle=True),
        make_loader(data, 2),
        epochs=1,
        lr=1e-12,
        loss=CrossEntropyLoss(weight),
    )
    model.eval()
    with torch.no_grad():
        logits = model(torch.stack([image for image, _ in data]))
    target = torch.stack([mask for _, mask in data])
    oracle = nn.functional.cross_entropy(logits, target, weight, ignore_index=255).item()
    assert history.rows[0]["val_loss"] == pytest.approx(oracle, rel=1e-5)


def test_early_stopping_keeps_the_best():
    class Worse(CrossEntropyLoss):
        """Pushes away from the truth, so the first epoch stays the best."""

        def forward(self, logits, target):
            return -super().forward(logits, target)

    torch.manual_seed(0)
    history = fit(
        UNet(3, base_channels=4, depth=1),
        make_loader(Toy(8, plain()), 2, shuffle=True),
        make_loader(Toy(4, plain()), 2),
        epochs=20,
        lr=1e-3,
        loss=Worse(),
        patience=3,
        schedule="constant",
    )
    assert len(history.rows) < 20
    assert len(history.rows) == history.best["epoch"] + 3


def test_clipping_bounds_the_gradient():
    class Watch(torch.optim.AdamW):
        norms: ClassVar[list[float]] = []

        def step(self, *args, **kwargs):
            gradients = [p.grad for g in self.param_groups for p in g["params"]]
            Watch.norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
            return super().step(*args, **kwargs)

    original, torch.optim.AdamW = torch.optim.AdamW, Watch
    try:
        tiny_run(None, clip=0.01)
        clipped, Watch.norms = Watch.norms, []
        tiny_run(None)
    finally:
        torch.optim.AdamW = original
    assert max(clipped) <= 0.0101 < min(Watch.norms)


def test_schedules_end_where_they_should():
    rates = {s: tiny_run(None, epochs=3, schedule=s)[1].rows for s in ("onecycle", "poly")}
    # Smith's cycle of 9 steps rises over the first 30 % to lr and ends at lr / 250,000
    assert rates["onecycle"][0]["lr"] == pytest.approx(0.01 / 25)
    assert rates["onecycle"][1]["lr"] > 0.008 > rates["onecycle"][2]["lr"] > 0.001
    # 9 steps in all; after 6 of them (1 − 6/9)^0.9 of the rate is left
    assert rates["poly"][2]["lr"] == pytest.approx(0.01 * (1 / 3) ** 0.9)


def test_plateau_lowers_the_rate_after_five_epochs_without_progress():
    class Nothing(CrossEntropyLoss):
        def forward(self, logits, target):
            return logits.sum() * 0 + 1

    _, history = tiny_run(
        None,
        epochs=9,
        schedule="plateau",
        loss=Nothing(),
        weight_decay=0.0,
        model=nn.Conv2d(3, 3, 1),
    )
    rates = [row["lr"] for row in history.rows]
    assert rates[0] == 0.01 and rates[-1] == pytest.approx(0.01 / 3)


def test_randomness_is_drawn_from_seed_and_epoch_and_leaves_no_trace():
    cpu = torch.device("cpu")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with epoch_randomness(1, 2, cpu):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with epoch_randomness(1, 2, cpu):
        assert torch.equal(torch.rand(3), inside)
    with epoch_randomness(1, 3, cpu):
        assert not torch.equal(torch.rand(3), inside)


def test_history_finds_the_earliest_best_and_survives_nan():
    history = History([{"val_miou": v} for v in (math.nan, 0.2, 0.5, 0.5, 0.1)])
    assert history.best is history.rows[2] and history.epochs_since_best() == 2
    losses = History([{"train_loss": v} for v in (3.0, 1.0, 2.0)], best_key="train_loss")
    assert losses.best is losses.rows[1]


def test_a_gradient_that_overflows_in_the_last_batch_is_not_saved(tmp_path):
    class Overflow(CrossEntropyLoss):
        """In the third batch, the last: a finite loss with an infinite gradient, √'s at zero."""

        calls = 0

        def forward(self, logits, target):
            self.calls += 1
            extra = (logits * 0).sum().sqrt() if self.calls == 3 else 0.0
            return super().forward(logits, target) + extra

    with pytest.raises(FloatingPointError, match=r"after epoch 1 the weights of .* set clip"):
        tiny_run(tmp_path, loss=Overflow())
    assert not (tmp_path / "last.pt").exists()


def test_a_plain_batch_sampler_works():
    from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

    data = Toy(5, plain())
    loader = DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 2, False))
    history = fit(tiny_model(), loader, epochs=1)
    assert history.rows[0]["images_per_second"] > 0


def test_a_list_of_batches_can_be_evaluated():
    images, masks = zip(*Toy(2, plain()), strict=True)
    scores = evaluate(tiny_model(), [(torch.stack(images), torch.stack(masks))])
    assert scores.support.sum() == 2 * 22 * 32
