"""Freezing that stays, learning rates of the backbone, and both in runs that are resumed."""

import copy
import pickle

import pytest
import torch
from torch import nn
from toys import Toy, tiny_run

from seglib import training
from seglib.data.loader import make_loader
from seglib.engine.checkpoints import load_checkpoint
from seglib.models import create_model, freeze, parameter_groups, unfreeze
from seglib.models.freezing import frozen, is_frozen
from seglib.training import fit
from seglib.transforms import eval_transform


class Small(nn.Module):
    """A backbone and a head with all that has state or chance."""

    def __init__(self):
        super().__init__()
        parts = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3)]
        last = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.backbone = nn.Sequential(*parts, last)
        self.head = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))

    def forward(self, x):
        return self.head(self.backbone(x))


def small():
    torch.manual_seed(7)
    return Small()


model = pytest.fixture(small)


def three_steps(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for step in range(3):
        model.train()  # as every loop does
        torch.manual_seed(step)
        model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def moved(module, before):
    """The names of what has changed."""
    after = module.state_dict()
    assert after.keys() == before.keys()
    return {key for key, value in before.items() if not torch.equal(value, after[key])}


def test_frozen_is_frozen_through_three_steps_which_requires_grad_alone_is_not(model):
    model.backbone.requires_grad_(False)
    before = state(model.backbone)
    three_steps(model)  # the reason for `freeze`: BatchNorm's statistics move
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert moved(model.backbone, before) == {f"{i}.{n}" for i in ("1", "4.1") for n in statistics}
    before = state(model)
    freeze(model.backbone)
    three_steps(model)
    assert moved(model, before) == {key for key in before if key.startswith("head.")}
    assert model.training and model.head.training
    assert not any(part.training for part in model.backbone.modules())


def test_unfreeze_wakes_all_or_a_part_of_something_frozen(model):
    freeze(model.backbone)
    unfreeze(model.backbone[4])
    before = state(model.backbone)
    three_steps(model)
    assert model.backbone[4].training and model.backbone[4][1].training
    assert not model.backbone.training and not model.backbone[1].training
    assert moved(model.backbone, before) == {key for key in before if key.startswith("4.")}
    freeze(model)
    unfreeze(model)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(is_frozen(part) for part in model.modules())
    before = state(model)
    three_steps(model)
    assert all(part.training for part in model.modules())
    assert moved(model, before) == set(before)


def test_copies_stay_frozen_and_are_their_own_and_frozen_restores_what_was(model):
    freeze(model.backbone)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not twin.train().backbone[1].training and twin.head.training
        unfreeze(twin)
        assert twin.train().backbone[1].training and not model.train().backbone[1].training
    unfreeze(model)

    def flags():
        return [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]

    freeze(model.backbone[4])
    model.backbone[1].bias.requires_grad_(False)
    model.train()
    model.backbone[3].eval()
    was = flags()
    with pytest.raises(KeyError), frozen(model.backbone):
        model.train()
        assert not any(p.requires_grad for p in model.backbone.parameters())
        assert not model.backbone[1].training and model.head.training
        raise KeyError
    assert was == flags()
    assert is_frozen(model.backbone[4]) and not is_frozen(model.backbone[1])


def test_parameter_groups_cover_everything_once():
    model = create_model("deeplabv3plus", 3, backbone="mobilenet_v3_small", channels=8)
    head, backbone = parameter_groups(model, lr=0.01)
    assert (head["lr"], backbone["lr"]) == (0.01, 0.001)
    assert parameter_groups(model, 0.01, backbone_lr=0.004)[1]["lr"] == 0.004
    ids = [id(p) for group in (head, backbone) for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    assert {id(p) for p in backbone["params"]} == {id(p) for p in model.backbone.parameters()}
    plain = create_model("unet", 3, base_channels=2, depth=1)
    told = "unet has no backbone to freeze .* deeplabv3plus"
    with pytest.raises(ValueError, match=told):
        parameter_groups(plain, 0.1)
    for options in ({"freeze_epochs": 1}, {"backbone_lr": 0.1}):
        with pytest.raises(ValueError, match=told):
            tiny_run(None, model=plain, **options)
    for name, bad in (("freeze_epochs", -1), ("backbone_lr", 0), ("backbone_lr", -1)):
        with pytest.raises(ValueError, match=f"found {name}="):
            tiny_run(None, model=model, **{name: bad})


@pytest.mark.parametrize(("epochs", "steps"), [(2, 0), (3, 3)])
def test_fit_freezes_for_the_first_epochs(model, epochs, steps):
    before = state(model.backbone)
    tiny_run(None, model=model, epochs=epochs, freeze_epochs=2)
    assert moved(model.backbone, before) == (set(before) if steps else set())
    assert model.backbone[1].num_batches_tracked == steps  # of the last epoch alone
    assert not is_frozen(model.backbone)
    # what the caller froze stays so
    model = small()
    freeze(model.backbone[4])
    before = state(model.backbone[4])
    tiny_run(None, model=model, epochs=2, freeze_epochs=1)
    assert not moved(model.backbone[4], before) and is_frozen(model.backbone[4])
    assert model.backbone[1].num_batches_tracked == 3


def test_backbone_lr_against_a_plain_loop(model):
    twin = small()
    model.backbone[3].p = twin.backbone[3].p = 0.0
    data = make_loader(Toy(6, eval_transform(16, 24)), 2, shuffle=True, seed=5)
    settings = {"schedule": "constant", "seed": 5, "channels_last": False}  # rounds as the loop
    fit(model, data, epochs=2, lr=0.01, backbone_lr=0.002, **settings)
    slow = {"params": twin.backbone.parameters(), "lr": 0.002}
    groups = [{"params": twin.head.parameters()}, slow]
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.01)
    for epoch in range(2):
        data.sampler.set_epoch(epoch)
        for images, target in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(twin(images), target, ignore_index=255).backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", ["onecycle", "poly", "plateau", "constant"])
def test_the_schedule_scales_both_rates(model, tmp_path, schedule):
    _, history = tiny_run(tmp_path, model=model, schedule=schedule, backbone_lr=0.001)
    groups = load_checkpoint(tmp_path / "last.pt", small()).training["optimizer"]["param_groups"]
    assert groups[1]["lr"] == pytest.approx(groups[0]["lr"] / 10)
    first = {"onecycle": 0.01 / 25}.get(schedule, 0.01)  # the history shows the head's rate
    assert history.rows[0]["lr"] == pytest.approx(first)


@pytest.mark.parametrize("schedule", ["onecycle", "constant"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_equals_uninterrupted(tmp_path, schedule, stop, monkeypatch):
    """Stopped in the frozen epochs, between them and the others, and later."""
    settings = {"epochs": 4, "freeze_epochs": 2, "backbone_lr": 0.002, "schedule": schedule}
    whole, expected = tiny_run(None, model=small(), **settings)
    run_epoch, epochs = training.train_epoch, iter(range(stop))

    def stopping(*args, **kwargs):
        if next(epochs, None) is None:
            raise KeyboardInterrupt
        return run_epoch(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "train_epoch", stopping)
        tiny_run(tmp_path, model=small(), **settings)
    resumed, history = tiny_run(tmp_path, resume=True, model=small(), **settings)
    assert not moved(resumed, state(whole))
    for row, other in zip(history.rows, expected.rows, strict=True):
        assert row["train_loss"] == other["train_loss"]
