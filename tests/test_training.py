"""fit and evaluate: that they learn, what they report, and against a plain loop as oracle."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from toys import (
    Changed,
    Toy,
    Uneven,
    loader,
    plain_loop,
    small_unet,
    tiny_model,
    tiny_run,
    write_folder,
)

from seglib.data import FolderDataset, make_loader
from seglib.engine.checkpoints import load_checkpoint
from seglib.engine.history import History
from seglib.engine.state import epoch_randomness
from seglib.losses import CrossEntropyLoss
from seglib.training import evaluate, fit
from seglib.transforms import eval_transform, train_transform


def whole(data):
    """All images and all targets of a data set."""
    return [torch.stack(parts) for parts in zip(*data, strict=True)]


def test_a_small_unet_learns_the_boxes():
    model = small_unet(base_channels=8, depth=2)
    history = fit(model, loader(32, 4, shuffle=True), loader(8, 4), epochs=6, lr=0.01)
    assert history.best["val_miou"] > 0.9
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"] / 3


@pytest.mark.parametrize(
    "criterion", [CrossEntropyLoss(), nn.CrossEntropyLoss(ignore_index=255)], ids=str
)
def test_equals_a_plain_loop_of_pytorch(criterion):
    """With our loss bit for bit, with PyTorch's to rounding: recorded experiments rest on it."""
    twin = tiny_model()
    model, _ = tiny_run(None, clip=0.5, channels_last=False)
    plain_loop(twin, criterion, clip=0.5)
    tolerance = 0 if isinstance(criterion, CrossEntropyLoss) else 1e-5
    for name, ours in model.state_dict().items():
        torch.testing.assert_close(ours, twin.state_dict()[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}], ids=str)
def test_on_epoch_sees_what_was_evaluated_and_disturbs_nothing(options):
    seen = []

    def look(model, row):
        assert not model.training
        seen.append((row, evaluate(model, loader(3, 2)).matrix, model))
        torch.rand(7)

    model, history = tiny_run(None, on_epoch=look, **options)
    assert [row for row, _, _ in seen] == history.rows
    assert (evaluate(model, loader(3, 2)).matrix == seen[-1][1]).all()
    assert (seen[0][2] is model) == (not options)  # (else the average)
    plain, _ = tiny_run(None, **options)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


@pytest.mark.parametrize("weight", [None, torch.tensor([0.2, 1.0, 5.0])])
def test_val_loss_is_a_mean_over_pixels_not_over_batches(weight):
    model, val, train = tiny_model(), loader(5, 2, Uneven), loader(5, 2, Uneven)
    val.dataset.void = (0,)
    history = fit(model, train, val, epochs=1, lr=1e-12, loss=CrossEntropyLoss(weight))
    images, target = whole(val.dataset)
    with torch.no_grad():
        logits = model.eval()(images)
    oracle = nn.functional.cross_entropy(logits, target, weight, ignore_index=255).item()
    assert history.rows[0]["val_loss"] == pytest.approx(oracle, rel=1e-5)


def test_early_stopping_keeps_the_best():
    worse = Changed(lambda loss, logits, calls: -loss)  # away from the truth: the first is the best
    options = {"epochs": 20, "loss": worse, "patience": 3, "schedule": "constant"}
    history = fit(small_unet(), loader(8, 2, shuffle=True), loader(4, 2), **options)
    assert len(history.rows) == history.best["epoch"] + 3 < 20


def test_clipping_bounds_the_gradient(monkeypatch):
    norms = []

    class Watch(torch.optim.AdamW):
        def step(self, *args, **kwargs):
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
            return super().step(*args, **kwargs)

    monkeypatch.setattr(torch.optim, "AdamW", Watch)
    tiny_run(None, clip=0.01)
    tiny_run(None)
    assert len(norms) == 12 and max(norms[:6]) <= 0.0101 < min(norms[6:])


def test_schedules_end_where_they_should():
    rates = {s: tiny_run(None, epochs=3, schedule=s)[1].rows for s in ("onecycle", "poly")}
    # Smith's cycle of 9 steps rises over the first 30 % to lr and ends at lr / 250,000
    assert rates["onecycle"][0]["lr"] == pytest.approx(0.01 / 25)
    assert rates["onecycle"][1]["lr"] > 0.008 > rates["onecycle"][2]["lr"] > 0.001
    # 9 steps in all; after 6 of them (1 − 6/9)^0.9 of the rate is left
    assert rates["poly"][2]["lr"] == pytest.approx(0.01 * (1 / 3) ** 0.9)


def test_plateau_lowers_the_rate_after_five_epochs_without_progress():
    nothing = Changed(lambda loss, logits, calls: logits.sum() * 0 + 1)
    options = {"schedule": "plateau", "weight_decay": 0.0, "model": nn.Conv2d(3, 3, 1)}
    rows = tiny_run(None, epochs=9, loss=nothing, **options)[1].rows
    assert rows[0]["lr"] == 0.01 and rows[-1]["lr"] == pytest.approx(0.01 / 3)


def test_a_gradient_that_overflows_in_the_last_batch_is_not_saved(tmp_path):
    """A finite loss with an infinite gradient, √'s at zero."""
    overflow = Changed(lambda loss, x, n: loss + (x * 0).sum().sqrt() if n == 3 else loss)
    with pytest.raises(FloatingPointError, match=r"after epoch 1 the weights of .* set clip"):
        tiny_run(tmp_path, loss=overflow)
    assert not (tmp_path / "last.pt").exists()


def test_a_loss_that_becomes_nan_leaves_the_last_checkpoint_whole(tmp_path):
    nan = Changed(lambda loss, logits, calls: loss if calls < 6 else loss * math.nan)
    with pytest.raises(FloatingPointError):
        tiny_run(tmp_path, epochs=6, loss=nan)
    assert load_checkpoint(tmp_path / "last.pt", tiny_model()).training["rows"]


def test_randomness_is_drawn_from_seed_and_epoch_and_leaves_no_trace():
    def drawn(epoch):
        with epoch_randomness(1, epoch, torch.device("cpu")):
            return torch.rand(3)

    before = torch.get_rng_state()
    assert torch.equal(drawn(2), drawn(2)) and not torch.equal(drawn(2), drawn(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_plain_batch_sampler_works():
    batches = torch.utils.data.BatchSampler(range(5), 2, False)
    data = torch.utils.data.DataLoader(Toy(5, eval_transform(24, 32)), batch_sampler=batches)
    history = fit(tiny_model(), data, epochs=1)
    assert history.rows[0]["images_per_second"] > 0


def test_history_finds_the_earliest_best_and_survives_nan():
    history = History([{"val_miou": v} for v in (math.nan, 0.2, 0.5, 0.5, 0.1)])
    assert history.best is history.rows[2] and history.epochs_since_best() == 2
    losses = History([{"train_loss": v} for v in (3.0, 1.0, 2.0)], best_key="train_loss")
    assert losses.best is losses.rows[1]


def test_evaluate_against_scikit_learn_and_restores_the_mode():
    data, model = loader(5, 2), small_unet().train()
    model.encoder[0].eval()  # (as frozen layers are)
    scores = evaluate(model, data)
    assert model.training and not model.encoder[0][1].training and model.encoder[1][1].training
    images, truth = whole(data.dataset)
    with torch.no_grad():
        guess = model.eval()(images).argmax(1)
    valid = truth != 255
    oracle = jaccard_score(truth[valid], guess[valid], average=None, labels=[0, 1, 2])
    np.testing.assert_allclose(scores.iou, oracle)
    assert scores.classes == Toy.classes


def test_evaluate_does_not_depend_on_the_batch_size_nor_on_what_holds_the_batches():
    model = small_unet()
    expected = evaluate(model, [whole(loader(7, 7).dataset)]).matrix  # a list of one batch
    for size in (1, 3, 7):
        assert (evaluate(model, loader(7, size)).matrix == expected).all()


class Other(Toy):
    """Toys whose samples `change` turns into another kind."""

    def __init__(self, length, change):
        super().__init__(length, eval_transform(24, 32))
        self.change = change

    def __getitem__(self, key):
        return self.change(*super().__getitem__(key))


def trained(batches, model=None, **options):
    """The weights after an epoch on a loader or a list of batches."""
    model = model or small_unet()
    fit(model, batches, epochs=1, **{"channels_last": False, **options})
    return torch.cat([value.flatten().float() for value in model.state_dict().values()])


def test_what_other_people_hand_over_is_read_as_ours():
    """Precision, integer types, lists, parts of data sets: the weights are those of our loader."""
    expected, toys = trained(loader(4, 2)), Toy(4, eval_transform(24, 32))
    changes = (lambda x, y: (x.double(), y), lambda x, y: (x, y.byte()), lambda x, y: [x, y.int()])
    for same in (
        *(make_loader(Other(4, change), 2) for change in changes),
        list(loader(4, 2)),
        DataLoader(toys, 2),
        DataLoader(Subset(Toy(9, toys.transform), range(4)), 2),
        make_loader(Subset(Toy(9, toys.transform), range(4)), 2),
        make_loader(ConcatDataset([toys]), 2),
        make_loader(ConcatDataset([Subset(toys, [0, 1]), Subset(toys, [2, 3])]), 2),
    ):
        torch.testing.assert_close(trained(same), expected, rtol=0, atol=0)


def test_a_function_as_loss_leaves_void_out():
    """The toys have void rows, which F.cross_entropy by itself takes for class 255."""
    cross_entropy = nn.functional.cross_entropy
    expected = trained(loader(4, 2), loss=nn.CrossEntropyLoss(ignore_index=255))
    torch.testing.assert_close(trained(loader(4, 2), loss=cross_entropy), expected)
    ours = CrossEntropyLoss()
    by_hand = trained(loader(4, 2), loss=lambda logits, target: ours(logits, target))
    torch.testing.assert_close(by_hand, expected)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_network_of_torchvision_that_returns_a_dict(wrapped):
    class Out(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net(images)["out"]

    torch.manual_seed(0)
    net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    history = fit(Out(net) if wrapped else net, loader(4, 2), loader(2, 2), epochs=1, lr=1e-12)
    images, target = whole(loader(2, 2).dataset)
    with torch.no_grad():
        oracle = nn.functional.cross_entropy(net.eval()(images)["out"], target, ignore_index=255)
    assert history.rows[0]["val_loss"] == pytest.approx(oracle.item(), rel=1e-5)


class Broken(Other):
    """Validation data whose second image cannot be read while `broken`."""

    broken = True

    def __getitem__(self, key):
        if self.broken and int(key) == 1:
            raise OSError("the disk is gone")
        return super().__getitem__(key)


def test_an_epoch_whose_validation_fails_is_not_lost(tmp_path):
    expected, rows = tiny_run(None, val=loader(3, 2))
    val = Broken(3, lambda x, y: (x, y))
    with pytest.raises(OSError, match="the disk is gone"):
        tiny_run(tmp_path, val=make_loader(val, 2))
    steps = load_checkpoint(tmp_path / "last.pt", tiny_model()).training["partial"]["step"]
    assert steps == 3  # all of the epoch's
    val.broken = False
    model, history = tiny_run(tmp_path, val=make_loader(val, 2), resume=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    for key in ("train_loss", "val_loss", "val_miou"):
        assert [row[key] for row in history.rows] == [row[key] for row in rows.rows]
    assert history.rows[0]["seconds"] > 0


def test_the_seed_of_fit_is_not_that_of_the_order():
    """As its docstring says: without dropout two of them give the same run."""
    first, second = (trained(loader(4, 2, shuffle=True, seed=5), seed=seed) for seed in (1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, trained(loader(4, 2, shuffle=True, seed=6), seed=1))


def test_windows_that_miss_the_object_do_not_end_a_training(tmp_path):
    """One label in an epoch's windows, but two in the masks: the next epoch may see it."""
    root = write_folder(tmp_path)
    transform = train_transform(4, 4, zoom=(8, 8))
    transform.window = lambda rng, height, width: (0, 0, 1, 1)  # (a corner: ground)
    data = FolderDataset(root / "train/images", root / "train/masks", Toy.classes)
    data.transform = transform
    assert len(fit(small_unet(), make_loader(data, 2), epochs=2).rows) == 2


def test_a_network_without_parameters_can_be_evaluated():
    class Brighter(nn.Module):
        def forward(self, images):
            return torch.cat([-images[:, :1], images[:, :1], images[:, :1] * 0 - torch.inf], dim=1)

    images, truth = whole(Toy(3, eval_transform(24, 32)))
    valid = truth != 255
    right = ((images[:, 0] > 0).long() == truth)[valid].float().mean().item()
    assert evaluate(Brighter(), loader(3, 2)).pixel_accuracy == pytest.approx(right)
