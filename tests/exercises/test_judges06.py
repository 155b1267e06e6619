"""Lesson 6: what the judges stand on, right answers of other kinds, and what the loops do."""

from __future__ import annotations

import copy
import textwrap
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from seglib.exercises import accumulate06, dice06, faulty06, formats06, lesson06, loops06, scaler06
from seglib.exercises.kit import CORRECT, NOT_YET
from seglib.losses import CrossEntropyLoss

# ---------------------------------------------------------------- formats


def bits_of_bfloat16(value):
    """The upper half of a float32's bits, rounded to nearest, ties to even."""
    bits = int(np.array(value, np.float32).view(np.uint32))
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return float(np.array(bits, np.uint32).view(np.float32))


def test_formats_by_bits():
    with np.errstate(over="ignore"):
        for key, (value, dtype) in formats06.COMPUTED.items():
            other = float(np.float16(value)) if dtype == torch.float16 else bits_of_bfloat16(value)
            assert formats06.RIGHT[key] == other
    assert list(formats06.RIGHT.values())[:4] == [float("inf"), 2048, 256, 0]


def test_what_the_scaled_gradients_become():
    with np.errstate(over="ignore", under="ignore"):
        for key, scale in formats06.SCALES.items():
            cast = {
                name: float(np.float16(np.float32(value) * np.float32(scale)))
                for name, value in formats06.gradients().items()
            }
            gone = float("inf") if key == formats06.OVERFLOW else 0.0
            assert formats06.VANISHES[key] == {name for name in cast if cast[name] == gone}
    gradients = formats06.gradients()
    gradients["stem"] = 1.0
    assert formats06.gradients()["stem"] == 1e-11


@pytest.mark.parametrize(
    "answer",
    [
        {
            "unscaled": ["stem", "block", "bridge"],
            "scaled by 1024": ("stem",),
            "overflow at 2**24": frozenset({"head"}),
        }
    ],
)
def test_lists_and_tuples_of_names_are_fine(answer):
    assert lesson06.underflow.judged(answer).state == CORRECT


def test_numbers_of_other_types_are_fine():
    kinds = (np.float32, str, torch.tensor, np.array, float)
    for kind in kinds:
        answer = {key: kind(value) for key, value in formats06.RIGHT.items()}
        assert lesson06.formats.judged(answer).state == CORRECT, kind


# ---------------------------------------------------------------- scaler


@pytest.mark.parametrize("script", scaler06.SCRIPTS)
def test_the_real_scaler_agrees(script):
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=script.scale, growth_interval=script.growth_interval
    )
    for state, sign in zip(scaler06._machine(scaler06.step, script), script.steps, strict=True):
        before = weight.item()
        optimizer.zero_grad()
        scaler.scale(weight.sum()).backward()
        if sign == "x":
            weight.grad.fill_(float("inf"))
        scaler.step(optimizer)
        scaler.update()
        kept = scaler.state_dict()
        assert state == (kept["scale"], kept["_growth_tracker"], weight.item() != before)


# ---------------------------------------------------------------- a loss in half


def other_dice(p, total=torch.sum, dtype=torch.float32):
    def dice(logits, target):
        q, valid = p(logits) * (target != 255), target == 1
        inside = total(q * valid, dtype=dtype)
        whole = total(q, dtype=dtype) + total(valid.to(dtype), dtype=dtype)
        return (1 - 2 * inside / (whole + 1e-8)).float()

    return dice


def without_autocast(logits, target):
    with torch.autocast("cpu", enabled=False):
        return lesson06.half_loss.answer(logits.double(), target).float()


def by_pixels(logits, target):
    keep = target != 255
    p, g = logits.movedim(1, 3)[keep].float().softmax(1)[:, 1], target[keep] == 1
    return (p.sum() + g.sum() - 2 * p[g].sum()) / (p.sum() + g.sum()).clamp(min=1e-6)


@pytest.mark.parametrize(
    "answer",
    [
        other_dice(lambda logits: logits.softmax(1, dtype=torch.float32)[:, 1]),
        other_dice(lambda logits: logits.double().softmax(1)[:, 1], dtype=torch.float64),
        other_dice(
            lambda logits: (logits[:, 1].float() - logits[:, 0].float()).sigmoid(), torch.mean
        ),
        without_autocast,
        by_pixels,
    ],
)
def test_other_ways_to_mend_the_loss(answer):
    found = lesson06.half_loss.judged(answer)
    assert found.state == CORRECT, str(found)


def test_the_maps_are_what_they_are_for():
    large = dice06.LARGE
    assert (large.target() == 1).sum() > 65504
    logits = dice06.ABSENT.logits().half()
    assert not logits.softmax(1)[:, 1].any() and torch.tensor(1e-8).half() == 0
    assert 0.01 < dice06.truth(dice06.SURE, torch.float32)[0] < 0.03


# ---------------------------------------------------------------- loops


def batches(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            size * torch.randn(2, 3, 4, 5, generator=generator),
            torch.randint(0, 2, (2, 4, 5), generator=generator),
        )
        for size in sizes
    ]


def trained(loop, data, scale=65536.0, lr=0.1):
    """(how far each weight has moved, the scale afterwards)."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, 2, 1)
    before = copy.deepcopy(model.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    loop(model, CrossEntropyLoss(), data, torch.optim.SGD(model.parameters(), lr=lr), scaler, "cpu")
    moved = torch.cat(
        [(value - before[name]).flatten() for name, value in model.state_dict().items()]
    )
    return moved, scaler.get_scale()


def sound(model, loss, data, optimizer, scaler, device):
    for images, target in data:
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            value = loss(model(images), target)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()


UNSCALE, CLIP = (
    "        scaler.unscale_(optimizer)\n",
    "        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n",
)
GOOD, OVERFLOWS = batches([1.0] * 8), batches([100.0] * 40)


def changed(letter, *changes):
    """A loop with parts of its text replaced."""
    text = textwrap.dedent(loops06.source(letter))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    names = {"torch": torch, "nn": nn}
    exec(text, names)
    return names[f"loop_{letter.lower()}"]


SOUND_WITH_CLIP = changed("A", (CLIP + UNSCALE, UNSCALE + CLIP))
MENDED = {
    "A": SOUND_WITH_CLIP,
    "B": changed("B", ("        optimizer.step()", "        scaler.step(optimizer)")),
    "C": changed(
        "C",
        (
            "        scaler.scale(value)\n        value.backward()",
            "        scaler.scale(value).backward()",
        ),
    ),
    "E": changed(
        "E",
        (
            "        if not all(p.grad.isfinite().all() for p in model.parameters()):\n"
            "            continue  ",
            "        #  ",
        ),
    ),
}


@pytest.mark.parametrize("letter", list(MENDED))
def test_one_change_mends_a_loop(letter):
    reference = SOUND_WITH_CLIP if letter in "AB" else sound
    for data in (GOOD, OVERFLOWS, GOOD + OVERFLOWS + GOOD):
        moved, scale = trained(MENDED[letter], data)
        expected, expected_scale = trained(reference, data)
        assert torch.equal(moved, expected) and scale == expected_scale
        assert moved.isfinite().all() and moved.norm() > 1e-2
    faulty = getattr(faulty06, f"loop_{letter.lower()}")
    data = OVERFLOWS if letter in "BE" else GOOD
    assert not torch.equal(trained(faulty, data)[0], trained(reference, data)[0])


def test_a_clips_what_is_scaled():
    for scale in (65536.0, 1024.0):
        for batch in GOOD:
            far = trained(faulty06.loop_a, [batch], scale)[0].norm()
            assert 0 < far <= 1.01 * 0.1 / scale
            assert trained(SOUND_WITH_CLIP, [batch], scale)[0].norm() > 1e-3


def test_b_takes_a_step_that_overflows():
    moved, scale = trained(faulty06.loop_b, OVERFLOWS[:1])
    assert moved.isnan().any() and scale == 32768
    moved, scale = trained(SOUND_WITH_CLIP, OVERFLOWS[:1])
    assert not moved.any() and scale == 32768
    found, expected = (trained(loop, GOOD)[0] for loop in (faulty06.loop_b, SOUND_WITH_CLIP))
    assert torch.equal(found, expected)


def test_c_divides_by_a_scale_that_it_never_multiplied_with():
    found, expected = (trained(loop, GOOD[:1])[0] for loop in (faulty06.loop_c, sound))
    assert found.norm().item() == pytest.approx(expected.norm().item() / 65536, rel=0.02)
    found, expected = (trained(loop, GOOD, 1.0)[0] for loop in (faulty06.loop_c, sound))
    assert torch.equal(found, expected)


def test_d_forgets_three_of_four_batches():
    found = trained(faulty06.loop_d, GOOD)[0]
    others = batches([3.0] * 8, seed=5)
    mixed = [GOOD[n] if n % 4 == 3 else others[n] for n in range(8)]
    assert torch.equal(found, trained(faulty06.loop_d, mixed)[0])
    mended = changed(
        "D",
        ("        optimizer.zero_grad()\n", ""),
        (
            "            scaler.update()",
            "            scaler.update()\n            optimizer.zero_grad()",
        ),
    )
    means = [
        (torch.cat([b[0] for b in four]), torch.cat([b[1] for b in four]))
        for four in (GOOD[:4], GOOD[4:])
    ]
    moved, whole = trained(mended, GOOD)[0], trained(sound, means)[0]
    assert torch.allclose(moved, whole, rtol=0.02, atol=1e-4)
    assert not torch.allclose(found, whole, rtol=0.02, atol=1e-4)


def test_e_never_learns_that_its_scale_is_too_large():
    moved, scale = trained(faulty06.loop_e, OVERFLOWS)
    assert not moved.any() and scale == 65536
    moved, scale = trained(sound, OVERFLOWS)
    assert moved.norm() > 1e-2 and 1 <= scale < 65536


@pytest.mark.parametrize("letter", list(loops06.FAULTS))
def test_no_loop_complains(letter):
    """Else the exercise would be to read an error message."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(getattr(faulty06, f"loop_{letter.lower()}"), GOOD + OVERFLOWS)


def test_what_is_said_of_wrong_causes_holds():
    """Each refusal stands on the loop's text."""
    for letter, fault in loops06.FAULTS.items():
        text = loops06.source(letter)
        assert ("scaler.scale(value).backward()" in text) == (fault != "scale")
        assert ("scaler.step(optimizer)" in text) == (fault != "step")
        assert ("continue" in text) == (fault == "skip")
        assert ("% 4" in text) == (fault == "zero") and "schedule" not in text
        assert "GradScaler" not in text
        clips = text.find("clip_grad_norm_"), text.find("unscale_")
        assert (clips[0] < clips[1]) == (fault == "clip") and (clips[0] < 0) == (clips[1] < 0)
        inside = [line for line in text.splitlines() if line.startswith(" " * 12)]
        assert "backward" not in "".join(inside) and "value = loss" in inside[0]
        for choice in loops06.CAUSES:
            if choice != fault:
                found = lesson06.loops.judged(loops06.FAULTS | {letter: choice})
                assert found.state == NOT_YET and f"{letter} is not {choice!r}" in found.message


def test_printing(capsys):
    lesson06.loop("A")
    assert capsys.readouterr().out.startswith("def loop_a(model, loss, batches")
    lesson06.causes()
    assert len(capsys.readouterr().out.splitlines()) == len(loops06.CAUSES)
    with pytest.raises(ValueError, match="found 'F', expected one of A, B"):
        lesson06.loop("F")


# ---------------------------------------------------------------- accumulate


def by_mass(model, loss, batches):
    total = sum(loss.mass(target) for _, target in batches)
    for images, target in batches:
        if loss.mass(target):
            (loss(model(images), target) * loss.mass(target) / total).backward()


def divides_the_gradients(model, loss, batches):
    total = 0
    for images, target in batches:
        count = int((target != 255).sum())
        (loss(model(images), target) * count).backward()
        total += count
    for parameter in model.parameters():
        parameter.grad /= total


def one_by_one(model, loss, batches):
    by_mass(
        model,
        loss,
        [
            (i[None], t[None])
            for images, target in batches
            for i, t in zip(images, target, strict=True)
        ],
    )


def looks_first(model, loss, batches):
    with torch.no_grad():
        for images, _ in batches:
            model(images)
    lesson06.accumulate.answer(model, loss, batches)
    return "done"


@pytest.mark.parametrize("answer", [by_mass, divides_the_gradients, one_by_one, looks_first])
def test_other_ways_to_accumulate(answer):
    found = lesson06.accumulate.judged(answer)
    assert found.state == CORRECT, str(found)


def test_gradients_switched_off_are_told_and_switched_on_again():
    def off(model, loss, batches):
        torch.set_grad_enabled(False)
        lesson06.accumulate.answer(model, loss, batches)

    found = lesson06.accumulate.judged(off)
    assert found.state == NOT_YET and torch.is_grad_enabled()


def test_mistakes_of_accumulation_differ():
    """Else a message may name a mistake that was not made."""
    right = [accumulate06.whole(case) for case in accumulate06.CASES]
    split = [accumulate06.parts(case) for case in accumulate06.CASES]
    found = [
        (text, [q.weighted(weights(q)) for q in split]) for text, weights in accumulate06.MISTAKES
    ]
    for n, (text, gradients) in enumerate(found):
        assert not all(map(accumulate06._close, gradients, right)), text
        for other, others in found[:n]:
            assert text == other or not all(map(accumulate06._close, gradients, others)), text
