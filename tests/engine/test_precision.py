"""Half precision: what is computed in it and what is not, skipped steps; memory layouts."""

import pytest
import torch
from accidents import same_weights, terminated, training_of
from torch import nn
from toys import Changed, loader, tiny_loaders, tiny_model, tiny_run

from seglib.engine.checkpoints import load_checkpoint
from seglib.engine.precision import Compute, optimizer_step
from seglib.engine.schedules import make_scheduler
from seglib.training import evaluate, train_epoch

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def watched_model():
    """The tiny model, and a list of the dtypes of its logits."""
    model, inside = tiny_model(), []
    model[4].register_forward_hook(lambda module, given, output: inside.append(output.dtype))
    return model, inside


@pytest.mark.parametrize("amp", AMP)
def test_the_forward_pass_is_in_half_precision_and_the_loss_is_not(amp):
    (model, inside), seen = watched_model(), set()

    def look(loss, logits, calls):
        seen.add((logits.dtype, torch.is_autocast_enabled("cpu")))
        return loss

    _, history = tiny_run(None, model=model, amp=amp, loss=Changed(look))
    assert seen == {(torch.float32, False)} and set(inside) == {AMP[amp]}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert len(history.rows) == 2 and ("skipped_steps" in history.rows[0]) == (amp == "fp16")
    full, _ = tiny_run(None)  # and trains to nearly the same
    for name, ours in model.state_dict().items():
        torch.testing.assert_close(ours, full.state_dict()[name], rtol=0.05, atol=0.03)
    assert not same_weights(model.state_dict(), full.state_dict())


def test_evaluation_is_in_half_precision_too():
    model, inside = watched_model()
    for amp in (None, "bf16"):
        evaluate(model, loader(2, 2), amp=amp)
    assert inside == [torch.float32, torch.bfloat16]


def loud(factor):
    """A loss whose scaled gradients overflow float16 until the scale is low enough (inf: never)."""

    def change(loss, logits, calls):
        if logits.requires_grad:
            logits.register_hook(lambda gradient: gradient * factor)
        return loss

    return Changed(change)


def test_a_skipped_step_moves_neither_weights_nor_schedule():
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = make_scheduler("onecycle", optimizer, 0.01, 1, 3, "train_loss")
    before = [p.detach().clone() for p in model.parameters()]
    compute = Compute(torch.device("cpu"), "fp16")
    scaler, batches = compute.scaler(), tiny_loaders()[0]
    train_epoch(model, batches, loud(1e7), optimizer, schedule, compute=compute, scaler=scaler)
    assert scaler.get_scale() == 65536 / 2**3  # halved after each of three steps
    assert schedule.last_epoch == 0 and not optimizer.state
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_skipped_steps_are_counted_and_the_rest_counts_for_the_schedule(tmp_path):
    _, history = tiny_run(tmp_path, epochs=5, amp="fp16", loss=loud(1e3))
    skipped = [row["skipped_steps"] for row in history.rows]
    assert 0 < sum(skipped) < 15 and skipped[0] > 0
    training = training_of(tmp_path)
    assert training["scheduler"]["last_epoch"] == 15 - sum(skipped)
    assert training["scaler"]["scale"] == 65536 / 2 ** sum(skipped)
    for text in ((tmp_path / "history.csv").read_text(), history.table()):
        assert "skipped_steps" in text.splitlines()[0]


def test_gradients_that_no_scale_makes_finite_end_the_run():
    with pytest.raises(FloatingPointError, match=r"at any scale.*amp='bf16'"):
        tiny_run(None, amp="fp16", loss=loud(float("inf")), epochs=20)


def test_clipping_bounds_the_true_gradient_not_the_scaled_one():
    holder = nn.Module()
    holder.weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD(holder.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(3 * holder.weight.sum()).backward()
    assert optimizer_step(holder, optimizer, 0.5, scaler)
    assert holder.weight.item() == pytest.approx(0.5)  # 1 − 0.5; unclipped it were −2


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_channels_are_last_unless_told_otherwise(channels_last):
    """And it computes the same. (Digits of weights differ: AdamW enlarges rounding.)"""
    model, seen, layout = tiny_model(), [], torch.channels_last
    model[0].register_forward_pre_hook(
        lambda module, given: seen.append(given[0].is_contiguous(memory_format=layout))
    )
    options = {} if channels_last else {"channels_last": False}
    _, history = tiny_run(None, model=model, **options)
    assert set(seen) == {channels_last} and len(seen) == 2 * 3 + 2 * 2
    assert model[0].weight.is_contiguous(memory_format=layout) == channels_last
    _, other = tiny_run(None, channels_last=not channels_last)
    for key in ("train_loss", "val_loss"):
        losses = [[row[key] for row in each.rows] for each in (history, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_compiled_steps_train_the_model_itself(monkeypatch, tmp_path):
    """(A stand-in that holds the model as torch's does: the compiler takes minutes here.)"""

    class Compiled(torch.nn.Module):
        def __init__(self, model):
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
    assert training_of(tmp_path)["optimizer"]["param_groups"][0]["fused"] is None
    assert "peak_gb" not in history.rows[0]
    assert tiny_loaders()[0].pin_memory == torch.cuda.is_available()


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
ON_GPU = [{}, {"channels_last": False, "ema": 0.9}, {"amp": "bf16"}, {"amp": "fp16", "clip": 1.0}]


@gpu
@pytest.mark.parametrize("options", ON_GPU, ids=str)
def test_on_a_gpu(tmp_path, options):
    model, history = tiny_run(tmp_path, model=tiny_model().cuda(), epochs=4, **options)
    assert history.rows[-1]["peak_gb"] > 0 and "peak_gb" in history.table()
    assert training_of(tmp_path)["optimizer"]["param_groups"][0]["fused"] is True
    resumed, same = tiny_run(tmp_path, model=tiny_model().cuda(), epochs=4, resume=True, **options)
    assert same_weights(model.state_dict(), resumed.state_dict()) and same.rows == history.rows


@gpu
@pytest.mark.parametrize("options", ON_GPU[:2], ids=str)
@pytest.mark.parametrize("before", ["same", "plain optimiser", "other layout"])
def test_a_gpu_goes_on_where_another_kind_of_run_stopped(tmp_path, options, before):
    """As from files of before there were fused optimisers, from a CPU, in another memory layout."""
    layout = options.get("channels_last", True) != (before == "other layout")
    first = {**options, "channels_last": layout, "loss": terminated(2)}
    with pytest.raises(KeyboardInterrupt):
        tiny_run(tmp_path, model=tiny_model().cuda(), **first)
    if before == "plain optimiser":
        content = torch.load(tmp_path / "last.pt", weights_only=True)
        optimizer = content["training"]["optimizer"]
        for group in optimizer["param_groups"]:
            group["fused"] = None
        for state in optimizer["state"].values():
            state["step"] = state["step"].cpu()
        torch.save(content, tmp_path / "last.pt")
    second = {**options, "loss": terminated(), "resume": True}
    model, history = tiny_run(tmp_path, model=tiny_model().cuda(), **second)
    assert len(history.rows) == 2 and torch.isfinite(next(model.parameters())).all()
