"""Lesson 6: what the judges stand on, right answers of other kinds, and what the loops do."""

import copy
import re
import warnings

import numpy as np
import pytest
import torch
from answers import accepted
from torch import nn

from seglib.exercises import lesson06
from seglib.exercises.kit import NOT_YET
from seglib.losses import CrossEntropyLoss


def test_what_the_formats_keep():
    stored = [float("inf"), 2048, 0, 1.0012e-8, 1]  # bfloat16's neighbours are 0.4 % apart
    right = lesson06.formats.judge.right
    assert list(right.values()) == pytest.approx(stored, rel=1e-4, abs=0)


def test_answers_of_other_types_are_fine():
    for kind in (np.float32, str, torch.tensor, np.array, float):
        right = lesson06.formats.judge.right
        accepted(lesson06.formats, {key: kind(value) for key, value in right.items()})


@pytest.mark.parametrize("start, interval, steps", lesson06.SCRIPTS)
def test_the_real_scaler_agrees(start, interval, steps):
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=interval)
    state = (start, 0, True)
    for sign in steps:
        before = weight.item()
        optimizer.zero_grad()
        scaler.scale(weight.sum()).backward()
        if sign == "x":
            weight.grad.fill_(float("inf"))
        scaler.step(optimizer)
        scaler.update()
        kept = scaler.state_dict()
        state = lesson06.step(*state[:2], sign == "x", interval)
        assert state == (kept["scale"], kept["_growth_tracker"], weight.item() != before)


def other_dice(p, total=torch.sum, dtype=torch.float32):
    def dice(logits, target):
        q, valid = p(logits) * (target != 255), target == 1
        inside, whole = total(q * valid, dtype=dtype), total(q + valid, dtype=dtype)
        return (1 - 2 * inside / (whole + 1e-8)).float()

    return dice


def by_pixels(logits, target):
    keep = target != 255
    with torch.autocast("cpu", enabled=False):
        p, g = logits.movedim(1, 3)[keep].double().softmax(1)[:, 1], target[keep] == 1
    return ((p.sum() + g.sum() - 2 * p[g].sum()) / (p.sum() + g.sum()).clamp(min=1e-6)).float()


@pytest.mark.parametrize(
    "answer",
    [
        other_dice(lambda logits: logits.softmax(1, dtype=torch.float32)[:, 1]),
        other_dice(lambda logits: logits.double().softmax(1)[:, 1], dtype=torch.float64),
        other_dice(lambda x: (x[:, 1].float() - x[:, 0].float()).sigmoid(), torch.mean),
        by_pixels,
    ],
)
def test_other_ways_to_fix_the_loss(answer):
    accepted(lesson06.half_loss, answer)


def test_the_maps_are_what_they_are_for():
    large, nearly, absent, _, sure = list(lesson06.MAPS)[:5]
    target = lesson06._drawn(large)[1]
    assert (target == 1).sum() > 65504
    assert not lesson06._drawn(absent)[0].half().softmax(1)[:, 1].any()
    for name, low, high in ((nearly, 0.01, 0.03), (sure, 1e-4, 2e-4)):
        logits, target = lesson06._drawn(name)
        exact = lesson06.dice(logits.double(), target).item()
        p, g = logits.double().softmax(1)[:, 1] * (target != 255), target == 1
        value = (1 - 2 * (p * g).sum() / (p.sum() + g.sum())).item()
        assert low < value < high and abs(exact - value) < 0.1 * lesson06.CLOSE * value


def function(text):
    names = {"torch": torch, "nn": nn}
    exec(text, names)
    return names["loop_x"]


TOP, UNSCALE, CLIP, STEP = lesson06._TOP, lesson06._UNSCALE, lesson06._CLIP, lesson06._STEP
LOOPS = {letter: function(text) for letter, text in lesson06.LOOPS.items()}
sound, sound_with_clip = function(TOP + STEP), function(TOP + UNSCALE + CLIP + STEP)


def batches(sizes, seed=0):
    draw, found = torch.Generator().manual_seed(seed), []
    for size in sizes:
        images = size * torch.randn(2, 3, 4, 5, generator=draw)
        found.append((images, torch.randint(0, 2, (2, 4, 5), generator=draw)))
    return found


GOOD, OVERFLOWS = batches([1.0] * 8), batches([100.0] * 40)


def trained(loop, data, scale=65536.0, lr=0.1, **settings):
    """(how far each weight has moved, the scale afterwards)."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, 2, 1)
    before = copy.deepcopy(model.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, **settings)
    loop(model, CrossEntropyLoss(), data, torch.optim.SGD(model.parameters(), lr=lr), scaler, "cpu")
    moved = [(value - before[name]).flatten() for name, value in model.state_dict().items()]
    return torch.cat(moved), scaler.get_scale()


def test_a_clips_what_is_scaled_and_b_takes_a_step_that_overflows():
    for scale in (65536.0, 1024.0):
        assert 0 < trained(LOOPS["A"], GOOD[:1], scale)[0].norm() <= 1.01 * 0.1 / scale
        assert trained(sound_with_clip, GOOD[:1], scale)[0].norm() > 1e-3
    for loop, is_nan in ((LOOPS["B"], True), (sound_with_clip, False)):
        moved, scale = trained(loop, OVERFLOWS[:1])
        assert moved.isnan().any() == is_nan and moved.any() == is_nan and scale == 32768


def test_c_divides_by_a_scale_that_it_never_multiplied_with():
    found, expected = (trained(loop, GOOD[:1])[0] for loop in (LOOPS["C"], sound))
    assert found.norm().item() == pytest.approx(expected.norm().item() / 65536, rel=0.02)
    found, expected = (trained(loop, GOOD, 1.0)[0] for loop in (LOOPS["C"], sound))
    assert torch.equal(found, expected)


def test_d_forgets_three_of_four_batches():
    found, others = trained(LOOPS["D"], GOOD)[0], batches([3.0] * 8, seed=5)
    mixed = [GOOD[n] if n % 4 == 3 else others[n] for n in range(8)]
    assert torch.equal(found, trained(LOOPS["D"], mixed)[0])
    zero = "        optimizer.zero_grad()\n"  # belongs after scaler.update()
    fixed = function(lesson06.LOOPS["D"].replace(zero, "") + f"\n    {zero}")
    means = [tuple(map(torch.cat, zip(*four, strict=True))) for four in (GOOD[:4], GOOD[4:])]
    whole = trained(sound, means)[0]
    for moved, same in ((trained(fixed, GOOD)[0], True), (found, False)):
        assert torch.allclose(moved, whole, rtol=0.02, atol=1e-4) == same


def test_e_never_learns_that_its_scale_is_too_large_and_may_still_raise_it():
    moved, scale = trained(LOOPS["E"], OVERFLOWS)
    assert not moved.any() and scale == 65536
    moved, scale = trained(sound, OVERFLOWS)
    assert moved.norm() > 1e-2 and 1 <= scale < 65536
    assert trained(LOOPS["E"], GOOD + OVERFLOWS, 1024.0, growth_interval=4)[1] >= 4096


@pytest.mark.parametrize("letter", list(LOOPS))
def test_no_loop_complains(letter):
    """Else the exercise would be to read an error message."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(LOOPS[letter], GOOD + OVERFLOWS)


def test_what_is_said_of_wrong_causes_holds():
    for letter, fault in lesson06.FAULTS.items():
        text = lesson06.LOOPS[letter]
        assert ("scaler.scale(value).backward()" in text) == (fault != "scale")
        assert ("scaler.step(optimizer)" in text) == (fault != "step")
        assert ("continue" in text) == (fault == "skip") and ("% 4" in text) == (fault == "zero")
        assert "GradScaler" not in text
        clips = text.find("clip_grad_norm_"), text.find("unscale_")
        assert (clips[0] < clips[1]) == (fault == "clip") and (clips[0] < 0) == (clips[1] < 0)


def test_printing(capsys):
    lesson06.show_loops()
    begin, *rest = re.split("(?m)^# [^b]$|^# .*begin with\n", capsys.readouterr().out)[1:]
    for letter, part in zip("ABCDE", rest, strict=True):
        text = lesson06.LOOPS[letter].replace("loop_x", "loop_d" if letter == "D" else "loop")
        assert text == ((begin.rstrip() if letter != "D" else "") + part).strip()
    lesson06.causes()
    assert len(capsys.readouterr().out.splitlines()) == 7


@pytest.mark.parametrize("case", lesson06.CASES)
def test_the_solution_leaves_the_gradient_of_one_big_batch(case):
    def whole(model, loss, batches):
        images, target = (torch.cat(rows) for rows in zip(*batches, strict=True))
        loss(model(images), target).backward()

    answers = lesson06.accumulate.answer, whole
    found, right = (lesson06._accumulated(answer, "", *case)[0] for answer in answers)
    assert torch.allclose(found, right, rtol=1e-4, atol=1e-6)


def without_void(model, loss, batches):
    total = sum(float((target != 255).sum()) for _, target in batches)
    for images, target in batches:
        if count := np.count_nonzero(target.numpy() != 255):
            (count / total * loss(model(images), target)).backward()


def divides_the_gradients(model, loss, batches):
    counts = [(target != 255).sum() for _, target in batches]
    for (images, target), count in zip(batches, counts, strict=True):
        (loss(model(images), target) * count).backward()
    for parameter in model.parameters():
        parameter.grad /= sum(counts)


def one_by_one(model, loss, batches):
    pairs = [zip(*batch, strict=True) for batch in batches]
    without_void(model, loss, [(i[None], t[None]) for pair in pairs for i, t in pair])


def looks_first(model, loss, batches):
    with torch.no_grad():
        for images, _ in batches:
            model(images)
    lesson06.accumulate.answer(model, loss, batches)
    return "done"


@pytest.mark.parametrize("answer", [without_void, divides_the_gradients, one_by_one, looks_first])
def test_other_ways_to_accumulate(answer):
    accepted(lesson06.accumulate, answer)


def test_gradients_switched_off_are_told_and_switched_on_again():
    def off(model, loss, batches):
        torch.set_grad_enabled(False)
        lesson06.accumulate.answer(model, loss, batches)

    assert lesson06.accumulate.judged(off).state == NOT_YET and torch.is_grad_enabled()
