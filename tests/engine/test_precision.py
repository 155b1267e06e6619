"""Half precision: what is computed in it and what is not, skipped steps, and exact resuming."""

from __future__ import annotations

import pytest
import torch
from test_resume import Killed, Mortal, MortalLoss, same_weights
from torch import nn
from toys import Toy, tiny_model, tiny_run

from seglib.data.loader import make_loader
from seglib.engine.precision import Compute, optimizer_step
from seglib.engine.schedules import make_scheduler
from seglib.losses import CrossEntropyLoss
from seglib.models import UNet
from seglib.training import epoch_randomness, evaluate, fit, train_epoch
from seglib.transforms import eval_transform, train_transform

CPU = torch.device("cpu")


def test_without_another_layout_it_is_the_plain_loop_bit_for_bit():
    """Recorded experiments rest on it: dropout, BatchNorm, clipping and the schedule included."""
    model, twin = tiny_model(), tiny_model()
    loader = make_loader(Toy(6, train_transform(16, 24)), 2, shuffle=True, seed=5)
    fit(model, loader, epochs=2, lr=0.01, seed=5, clip=0.5, channels_last=False)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=6)
    loss = CrossEntropyLoss()
    for epoch in range(2):
        with epoch_randomness(5, epoch, CPU):
            loader.sampler.set_epoch(epoch)
            twin.train()
            for images, target in loader:
                value = loss(twin(images), target)
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
                optimizer.step()
                schedule.step()
    assert same_weights(model.state_dict(), twin.state_dict())


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_the_forward_pass_is_in_half_precision_and_the_loss_is_not(amp):
    seen = []

    class Watch(CrossEntropyLoss):
        def forward(self, logits, target):
            seen.append((logits.dtype, torch.is_autocast_enabled("cpu")))
            return super().forward(logits, target)

    model = tiny_model()
    inside = []
    model[4].register_forward_hook(lambda module, given, output: inside.append(output.dtype))
    _, history = tiny_run(None, model=model, amp=amp, loss=Watch())
    assert set(seen) == {(torch.float32, False)}
    assert set(inside) == {{"bf16": torch.bfloat16, "fp16": torch.float16}[amp]}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert len(history.rows) == 2 and ("skipped_steps" in history.rows[0]) == (amp == "fp16")


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_trains_to_nearly_the_same(amp):
    full, _ = tiny_run(None)
    half, _ = tiny_run(None, amp=amp)
    for name, ours in half.state_dict().items():
        torch.testing.assert_close(ours, full.state_dict()[name], rtol=0.05, atol=0.03)
    assert not same_weights(half.state_dict(), full.state_dict())


def test_evaluation_is_in_half_precision_too():
    model = UNet(3, base_channels=4, depth=1).eval()
    seen = []
    model.head.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    loader = make_loader(Toy(2, eval_transform(24, 32)), 2)
    evaluate(model, loader)
    evaluate(model, loader, amp="bf16")
    tiny = iter(seen)
    assert [next(tiny), next(tiny)] == [torch.float32, torch.bfloat16]


def loud(factor):
    """A loss whose scaled gradients overflow float16 until the scale is low enough."""

    class Loud(CrossEntropyLoss):
        def forward(self, logits, target):
            return super().forward(logits, target) * factor

    return Loud()


def test_a_skipped_step_moves_neither_weights_nor_schedule():
    model = tiny_model()
    loader = make_loader(Toy(6, eval_transform(16, 24)), 2, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = make_scheduler("onecycle", optimizer, 0.01, 1, 3, "train_loss")
    before = [p.detach().clone() for p in model.parameters()]
    compute = Compute(CPU, "fp16")
    scaler = compute.scaler()
    train_epoch(model, loader, loud(1e7), optimizer, schedule, compute=compute, scaler=scaler)
    assert scaler.get_scale() == 65536 / 2**3  # halved after each of three steps
    assert schedule.last_epoch == 0 and not optimizer.state
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_skipped_steps_are_counted_and_the_rest_counts_for_the_schedule(tmp_path):
    _, history = tiny_run(tmp_path, epochs=5, amp="fp16", loss=loud(1e3))
    skipped = [row["skipped_steps"] for row in history.rows]
    assert 0 < sum(skipped) < 15 and skipped[0] > 0
    training = torch.load(tmp_path / "last.pt", weights_only=True)["training"]
    assert training["scheduler"]["last_epoch"] == 15 - sum(skipped)
    assert training["scaler"]["scale"] == 65536 / 2 ** sum(skipped)
    assert "skipped_steps" in (tmp_path / "history.csv").read_text().splitlines()[0]
    assert "skipped_steps" in history.table()


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_resumes_exactly(tmp_path, amp):
    """The scale that was found is kept: from 65536 the first steps would be skipped anew."""
    whole, expected = tiny_run(None, epochs=4, amp=amp, loss=MortalLoss(), clip=1.0)
    loss = MortalLoss()
    loss.life = Mortal(14)  # in the third epoch
    with pytest.raises(Killed):
        tiny_run(tmp_path, epochs=4, amp=amp, loss=loss, clip=1.0)
    loss.life = None
    resumed, history = tiny_run(tmp_path, epochs=4, amp=amp, loss=loss, clip=1.0, resume=True)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert [r["val_loss"] for r in history.rows] == [r["val_loss"] for r in expected.rows]


def test_clipping_bounds_the_true_gradient_not_the_scaled_one():
    weight = nn.Parameter(torch.tensor([1.0]))
    holder = nn.Module()
    holder.weight = weight
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(3 * weight.sum()).backward()
    assert optimizer_step(holder, optimizer, 0.5, scaler)
    assert weight.item() == pytest.approx(0.5)  # 1 − 0.5; unclipped it were −2


def test_another_precision_is_named_on_resume_and_an_unknown_one_at_once(tmp_path):
    tiny_run(tmp_path)
    with pytest.raises(ValueError, match=r"cannot resume .*: amp was None, now it is 'bf16'"):
        tiny_run(tmp_path, amp="bf16", resume=True)
    with pytest.raises(ValueError, match="there is no amp 'bf61'; did you mean 'bf16'"):
        tiny_run(None, amp="bf61")


def test_gradients_that_no_scale_makes_finite_end_the_run():
    """Else it would go on for ever without a step."""

    class Endless(CrossEntropyLoss):
        def forward(self, logits, target):
            if logits.requires_grad:
                logits.register_hook(lambda gradient: gradient * float("inf"))
            return super().forward(logits, target)

    with pytest.raises(FloatingPointError, match=r"at any scale.*amp='bf16'"):
        tiny_run(None, amp="fp16", loss=Endless(), epochs=20)
