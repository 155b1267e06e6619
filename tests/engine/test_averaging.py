"""The moving average of the weights; memory layouts and compiled steps change no result."""

from __future__ import annotations

import signal

import pytest
import torch
from test_resume import Killed, Mortal, MortalLoss, same_weights
from test_signals import Alarm
from toys import Toy, tiny_model, tiny_run

from seglib.data.loader import make_loader
from seglib.engine import state as run_module
from seglib.engine.checkpoints import load_checkpoint
from seglib.losses import CrossEntropyLoss
from seglib.models import create_model
from seglib.training import epoch_randomness, evaluate, fit
from seglib.transforms import eval_transform, train_transform


def averaged_by_hand(decay, epochs=2):
    """The loop of a tutorial, with the average as a dict of tensors."""
    model = tiny_model()
    loader = make_loader(Toy(6, train_transform(16, 24)), 2, shuffle=True, seed=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=3 * epochs)
    average = None
    for epoch in range(epochs):
        with epoch_randomness(3, epoch, torch.device("cpu")):
            loader.sampler.set_epoch(epoch)
            model.train()
            for images, target in loader:
                optimizer.zero_grad()
                CrossEntropyLoss()(model(images), target).backward()
                optimizer.step()
                schedule.step()
                now = {k: v.detach().double() for k, v in model.state_dict().items()}
                average = (
                    now
                    if average is None
                    else {k: decay * average[k] + (1 - decay) * v for k, v in now.items()}
                )
    return average


def test_the_average_of_weights_and_statistics_is_that_of_the_formula():
    model, _ = tiny_run(None, ema=0.8, channels_last=False)  # (else dropout draws others)
    expected = averaged_by_hand(0.8)
    compared = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    assert {"0.weight", "1.running_mean", "1.running_var"} <= set(compared)
    for name, value in compared.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)
    plain, _ = tiny_run(None)
    assert not torch.equal(plain[0].weight, model[0].weight)
    assert not torch.equal(plain[1].running_mean, model[1].running_mean)


def test_the_average_is_evaluated_and_saved_and_the_model_ends_with_it(tmp_path):
    val = make_loader(Toy(3, eval_transform(16, 24)), 2)
    model, history = tiny_run(tmp_path, ema=0.9)
    assert evaluate(model, val).miou == history.rows[-1]["val_miou"]
    last = load_checkpoint(tmp_path / "last.pt", tiny_model())
    assert same_weights(last.model.state_dict(), model.state_dict())
    best = load_checkpoint(tmp_path / "best.pt", tiny_model()).model
    assert evaluate(best, val).miou == history.best["val_miou"]
    plain, _ = tiny_run(None)  # averaging does not disturb training
    assert same_weights(last.training["trained"], plain.state_dict())


def test_the_average_resumes_exactly(tmp_path):
    whole, _ = tiny_run(None, epochs=4, ema=0.9)
    loss = MortalLoss()
    loss.life = Mortal(14)  # in the third epoch
    with pytest.raises(Killed):
        tiny_run(tmp_path, epochs=4, ema=0.9, loss=loss)
    loss.life = None
    resumed, _ = tiny_run(tmp_path, epochs=4, ema=0.9, loss=loss, resume=True)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    again, _ = tiny_run(tmp_path, epochs=4, ema=0.9, loss=loss, resume=True)  # a finished run
    assert same_weights(whole.state_dict(), again.state_dict())


def test_a_frozen_backbone_is_averaged_as_it_is():
    torch.manual_seed(0)
    model = create_model("fcn32s", 3, backbone="mobilenet_v3_small")
    before = model.backbone.state_dict()
    before = {k: v.clone() for k, v in before.items()}
    fit(
        model,
        make_loader(Toy(4, eval_transform(32, 48)), 2, shuffle=True),
        epochs=1,
        lr=0.01,
        freeze_epochs=1,
        ema=0.5,
    )
    for name, value in model.backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ema", [0, 1, 1.5, -1])
def test_a_decay_out_of_range_is_refused(ema):
    with pytest.raises(ValueError, match=f"found ema={ema}, expected a number between 0 and 1"):
        tiny_run(None, ema=ema)


def test_channels_last_computes_the_same_in_another_layout():
    seen = []
    model = tiny_model()
    model[0].register_forward_pre_hook(
        lambda module, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    other, history = tiny_run(None, model=model, channels_last=True)
    assert all(seen) and len(seen) == 2 * 3 + 2 * 2
    assert other[0].weight.is_contiguous(memory_format=torch.channels_last)
    _, plain = tiny_run(None)
    for key in ("train_loss", "val_loss"):  # (digits of weights: AdamW enlarges rounding)
        assert [row[key] for row in history.rows] == pytest.approx(
            [r[key] for r in plain.rows], rel=1e-2
        )


def test_compiled_steps_train_the_model_itself(monkeypatch, tmp_path):
    """(A stand-in that holds the model as torch's does: the compiler takes minutes here.)"""

    class Compiled(torch.nn.Module):
        def __init__(self, model) -> None:
            super().__init__()
            self._orig_mod, self.calls = model, 0
            made.append(self)

        def forward(self, images):
            self.calls += 1
            return self._orig_mod(images)

    made = []
    monkeypatch.setattr(torch, "compile", Compiled)
    model, _ = tiny_run(tmp_path, compile=True, ema=0.9)
    assert made[0]._orig_mod is model and made[0].calls == 2 * 3  # steps, not evaluations
    load_checkpoint(tmp_path / "last.pt", tiny_model())  # names as without
    plain, _ = tiny_run(None, ema=0.9)
    assert same_weights(model.state_dict(), plain.state_dict())


def test_memory_and_kernels_of_a_gpu_are_left_out_on_a_cpu(tmp_path):
    _, history = tiny_run(tmp_path)
    training = torch.load(tmp_path / "last.pt", weights_only=True)["training"]
    assert training["optimizer"]["param_groups"][0]["fused"] is None
    assert "peak_gb" not in history.rows[0]
    loader = make_loader(Toy(2, eval_transform(16, 24)), 2)
    assert loader.pin_memory == torch.cuda.is_available()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(
    "options",
    [{}, {"amp": "bf16"}, {"amp": "fp16", "clip": 1.0}, {"channels_last": True, "ema": 0.9}],
    ids=str,
)
def test_on_a_gpu(tmp_path, options):
    model, history = tiny_run(tmp_path, model=tiny_model().cuda(), epochs=4, **options)
    assert history.rows[-1]["peak_gb"] > 0 and "peak_gb" in history.table()
    training = torch.load(tmp_path / "last.pt", weights_only=True)["training"]
    assert training["optimizer"]["param_groups"][0]["fused"] is True
    resumed, same = tiny_run(tmp_path, model=tiny_model().cuda(), epochs=4, resume=True, **options)
    assert same_weights(model.state_dict(), resumed.state_dict()) and same.rows == history.rows


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("options", [{}, {"channels_last": True, "ema": 0.9}], ids=str)
@pytest.mark.parametrize("before", ["same", "plain optimiser", "other layout"])
def test_a_gpu_goes_on_where_another_kind_of_run_stopped(tmp_path, options, before):
    """As from files of before there were fused optimisers, from a CPU, in another memory layout."""
    first = dict(options)
    if before == "other layout":
        first["channels_last"] = not options.get("channels_last", False)
    with pytest.raises(KeyboardInterrupt):
        tiny_run(tmp_path, model=tiny_model().cuda(), loss=Alarm(2, signal.SIGINT), **first)
    if before == "plain optimiser":
        content = torch.load(tmp_path / "last.pt", weights_only=True)
        optimizer = content["training"]["optimizer"]
        for group in optimizer["param_groups"]:
            group["fused"] = None
        for state in optimizer["state"].values():
            state["step"] = state["step"].cpu()
        torch.save(content, tmp_path / "last.pt")
    model, history = tiny_run(
        tmp_path, model=tiny_model().cuda(), loss=Alarm(), resume=True, **options
    )
    assert len(history.rows) == 2 and torch.isfinite(next(model.parameters())).all()


def test_the_optimisers_moments_take_the_layout_of_the_weights(tmp_path, monkeypatch):
    """A fused optimiser refuses any other, in a run that goes on with another layout."""
    made, make = [], run_module.make_optimizer

    def watched(*args):
        made.append(make(*args))
        return made[-1]

    monkeypatch.setattr(run_module, "make_optimizer", watched)
    with pytest.raises(KeyboardInterrupt):
        tiny_run(tmp_path, loss=Alarm(2, signal.SIGINT))
    tiny_run(tmp_path, loss=Alarm(), resume=True, channels_last=True)
    assert len(made) == 2
    for parameter, state in made[1].state.items():
        assert {state[key].stride() for key in ("exp_avg", "exp_avg_sq")} == {parameter.stride()}
    assert next(p for p in made[1].state if p.dim() == 4).shape[2:] == (3, 3)
