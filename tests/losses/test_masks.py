"""The loss of masks: the best matching, equal to transformers' without void, void left out."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seglib.losses import CrossEntropyLoss, MaskLoss, mask_targets, match
from seglib.losses.masks import sampled

N, Q, C, H, W = 2, 6, 4, 32, 48


def queries(seed=0, layers=2, dtype=torch.float64, size=(H, W)):
    """Random queries of `layers` layers, masks at a quarter of the size; all want gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return (2 * values).to(dtype).requires_grad_()

    pairs = [(draw(N, Q, C + 1), draw(N, Q, size[0] // 4, size[1] // 4)) for _ in range(layers)]
    (classes, masks), earlier = pairs[-1], pairs[:-1]
    return SimpleNamespace(class_logits=classes, mask_logits=masks, size=size, auxiliary=earlier)


def labels(seed=0):
    """Blocks of 8×8 of one class each, (N, H, W)."""
    blocks = np.random.default_rng(seed).integers(0, C, (N, H // 8, W // 8))
    return torch.from_numpy(blocks.repeat(8, 1).repeat(8, 2))


def carrying(found, target):
    """Logits as a model of masks returns them."""
    logits = torch.zeros(len(target), C, *target.shape[1:])
    logits.queries = found
    return logits


def layers_of(found):
    return [*found.auxiliary, (found.class_logits, found.mask_logits)]


def gradients(found):
    return torch.cat([part.grad.flatten() for pair in layers_of(found) for part in pair])


def theirs(monkeypatch, found, target):
    """transformers' loss of Mask2Former, looking at every pixel's centre once instead of points."""
    module = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
    config = module.Mask2FormerConfig(num_labels=C, train_num_points=H * W, no_object_weight=0.125)
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    rows, columns = np.divmod(np.arange(H * W), W)
    centres = torch.from_numpy(np.stack([(columns + 0.5) / W, (rows + 0.5) / H], axis=1))

    def at_centres(features, coordinates, **options):
        where = centres.expand(len(features), -1, -1)[:, :, None] * 2 - 1
        options |= {"padding_mode": "border"}  # (as interpolation does, and ours)
        return F.grid_sample(features, where.to(features), **options)[..., 0]

    monkeypatch.setattr(module, "sample_point", at_centres)
    loss = module.Mask2FormerLoss(config, weights).to(found.class_logits.dtype)
    targets = [mask_targets(image) for image in target]
    parts = loss(
        found.mask_logits,
        found.class_logits,
        [masks.to(found.mask_logits) for _, masks in targets],
        [classes for classes, _ in targets],
        [{"class_queries_logits": c, "masks_queries_logits": m} for c, m in found.auxiliary],
    )
    return sum(
        weight * value
        for key, weight in weights.items()
        for name, value in parts.items()
        if name.startswith(key)
    )


def test_it_equals_transformers_where_all_pixels_count(monkeypatch):
    target, mine, other = labels(), queries(), queries()
    # (their weight is a float32, in which 1/8 is exact)
    value = MaskLoss(no_object_weight=0.125)(carrying(mine, target), target)
    expected = theirs(monkeypatch, other, target)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)  # float64: some 10⁴ roundings
    value.backward()
    expected.backward()
    torch.testing.assert_close(gradients(mine), gradients(other), rtol=1e-9, atol=1e-14)


def test_void_pixels_change_nothing_here_and_something_there(monkeypatch):
    target = labels(1)
    target[:, :8, :16] = 255
    hidden = target == 255
    values, others = [], []
    for change in (0.0, 7.0):
        found = queries(size=(H, W))
        big = F.interpolate(found.mask_logits.detach(), (H, W), mode="bilinear")
        big[hidden[:, None].expand_as(big)] += change  # (masks at full size: no pixel is mixed)
        found.mask_logits, found.auxiliary = big.requires_grad_(), []
        value = MaskLoss()(carrying(found, target), target)
        value.backward()
        assert not found.mask_logits.grad[hidden[:, None].expand_as(big)].any()
        assert found.mask_logits.grad.any()
        values.append(value)
        others.append(theirs(monkeypatch, found, target))
    assert values[0] == values[1] and abs(others[0] - others[1]) > 0.1


def test_the_best_of_all_matchings():
    generator = torch.Generator().manual_seed(3)
    for seed in range(20):
        logits = torch.randn(3, C + 1, generator=generator, dtype=torch.float64)
        masks = torch.randn(3, 9, generator=generator, dtype=torch.float64)
        truth = torch.rand(3, 9, generator=generator) > 0.5
        classes = torch.tensor([seed % C, 1, 2])

        def cost(query, target, logits=logits, masks=masks, truth=truth, classes=classes):
            p, g = 1 / (1 + np.exp(-masks[query].numpy())), truth[target].numpy().astype(float)
            crossed = -(g * np.log(p) + (1 - g) * np.log(1 - p)).mean()
            dice = 1 - (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)
            chance = np.exp(logits[query].numpy())
            return -2 * (chance / chance.sum())[classes[target]] + 5 * crossed + 5 * dice

        best = min(
            permutations(range(3)), key=lambda order: sum(cost(q, t) for q, t in enumerate(order))
        )
        found, own = match(logits, masks, classes, truth)
        assert found.tolist() == [0, 1, 2] and own.tolist() == list(best)
    # more queries than targets, more targets than queries, none; what is broken comes last
    assert [len(x) for x in match(logits, masks, classes[:2], truth[:2])] == [2, 2]
    assert [len(x) for x in match(logits[:1], masks[:1], classes, truth)] == [1, 1]
    assert [len(x) for x in match(logits, masks, classes[:0], truth[:0])] == [0, 0]
    masks[1] = torch.nan
    assert 1 not in match(logits, masks, classes[:2], truth[:2])[0]


def test_masks_of_classes_and_of_instances():
    semantic = torch.tensor([[0, 0, 1, 1], [0, 255, 1, 2]])
    instance = torch.tensor([[0, 0, 3, 4], [0, 9, 3, 0]])
    classes, masks = mask_targets(semantic)
    assert classes.tolist() == [0, 1, 2]
    assert masks.int().tolist() == [
        [[1, 1, 0, 0], [1, 0, 0, 0]], [[0, 0, 1, 1], [0, 0, 1, 0]], [[0, 0, 0, 0], [0, 0, 0, 1]]
    ]  # fmt: skip
    classes, masks = mask_targets(semantic, instance)
    assert classes.tolist() == [0, 1, 1, 2] and masks.dtype == torch.bool
    assert masks[1:3].int().tolist() == [
        [[0, 0, 1, 0], [0, 0, 1, 0]], [[0, 0, 0, 1], [0, 0, 0, 0]]
    ]  # fmt: skip
    assert [len(part) for part in mask_targets(torch.full((2, 3), 255))] == [0, 0]
    with pytest.raises(ValueError, match="negative instance numbers"):
        mask_targets(semantic, -instance)
    with pytest.raises(ValueError, match=r"shapes \(2, 4\) and \(2, 3\)"):
        mask_targets(semantic, instance[:, :3])


def test_places_are_those_of_bilinear_enlargement():
    maps = queries().mask_logits.detach()[0]
    pixels = torch.ones(H, W).nonzero(as_tuple=True)
    found = sampled(maps, pixels, (H, W)).unflatten(1, (H, W))
    expected = F.interpolate(maps[None], (H, W), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_an_image_of_void_has_no_part_in_the_loss():
    target, alone = labels(), queries()
    target[1] = 255
    value = MaskLoss()(carrying(alone, target), target)
    value.backward()
    first = queries()
    for name in ("class_logits", "mask_logits"):
        setattr(first, name, getattr(first, name)[:1])
    first.auxiliary = [(a[:1], b[:1]) for a, b in first.auxiliary]
    assert value == MaskLoss()(carrying(first, target[:1]), target[:1])
    assert not any(part.grad[1].any() for pair in layers_of(alone) for part in pair)
    found, void = queries(), torch.full_like(target, 255)
    value = MaskLoss()(carrying(found, void), void)
    value.backward()
    assert value == 0 and not gradients(found).any() and gradients(found).isfinite().all()


def test_points_are_drawn_to_learn_and_fixed_to_judge():
    target = labels()
    found = queries(layers=1)
    whole, some = MaskLoss(points=None), MaskLoss(points=400)
    few = [some(carrying(found, target), target).item() for _ in range(8)]
    exact = whole(carrying(found, target), target).item()
    assert len(set(few)) == 8 and abs(np.mean(few) - exact) < 4 * np.std(few)
    assert MaskLoss(points=H * W)(carrying(found, target), target).item() == exact
    with torch.no_grad():
        assert len({some(carrying(found, target), target).item() for _ in range(3)}) == 1


def test_points_to_judge_lie_in_all_columns():
    """Evenly spaced ones would lie in a few: 4,096 of 128×128 pixels are every fourth column."""
    _, columns = MaskLoss(points=4096)._chosen(torch.ones(128, 128, dtype=torch.bool))
    with torch.no_grad():
        _, judged = MaskLoss(points=4096)._chosen(torch.ones(128, 128, dtype=torch.bool))
    for found in (columns, judged):
        counts = torch.bincount(found, minlength=128).double()
        # of 128 pixels each is drawn with probability 1/4: 32 a column, standard deviation 4.9
        assert counts.min() > 32 - 5 * 4.9 and counts.max() < 32 + 5 * 4.9


def test_nothing_to_name_counts_nothing():
    """Without a target and a weight for "no object" there is no class to learn."""
    found, valid = queries(1), torch.ones(N, H, W, dtype=torch.bool)
    nothing = torch.zeros(0, dtype=torch.long), torch.zeros(0, H, W, dtype=torch.bool)
    value = MaskLoss(no_object_weight=0).compare(found, [nothing] * N, valid)
    value.backward()
    assert value == 0 and not gradients(found).any()


def test_half_precision_is_computed_in_float32():
    target, half = labels(), queries(dtype=torch.bfloat16)
    single = SimpleNamespace(
        class_logits=half.class_logits.float(),
        mask_logits=half.mask_logits.float(),
        size=half.size,
        auxiliary=[(a.float(), b.float()) for a, b in half.auxiliary],
    )
    with torch.autocast("cpu", torch.bfloat16):
        value = MaskLoss()(carrying(half, target), target)
    assert value.dtype == torch.float32
    assert value == MaskLoss()(carrying(single, target), target)


def test_instances_in_a_loop_of_ones_own():
    """A query for each segment, whose masks are right: only the classes are left to learn."""
    semantic, instance = labels(2)[0], torch.zeros(H, W, dtype=torch.long)
    instance[semantic == 3] = 1
    instance[:16][semantic[:16] == 3] = 2
    classes, masks = mask_targets(semantic, instance)
    found = SimpleNamespace(
        class_logits=20 * F.one_hot(classes, C + 1)[None].float(),
        mask_logits=40 * masks[None].float() - 20,
        size=(H, W),
        auxiliary=[],
    )
    valid = torch.ones(1, H, W, dtype=torch.bool)
    assert MaskLoss().compare(found, [(classes, masks)], valid) < 1e-3
    found.class_logits = found.class_logits.roll(1, 1)
    assert MaskLoss().compare(found, [(classes, masks)], valid) > 10
    with pytest.raises(ValueError, match="queries for 1 images, 2 targets, 1 valid maps"):
        MaskLoss().compare(found, [(classes, masks)] * 2, valid)


def test_bad_input():
    target = labels()
    with pytest.raises(ValueError, match=r"carry no queries.*another loss"):
        MaskLoss()(torch.zeros(N, C, H, W), target)
    logits = carrying(queries(), target)
    assert CrossEntropyLoss()(logits, target).isfinite()
    with pytest.raises(ValueError, match="carry no queries"):
        MaskLoss()(logits * 1, target)
    with pytest.raises(ValueError, match=r"label 9 \(1 pixels"):
        target[0, 0, 0] = 9
        MaskLoss()(logits, target)
    classes, masks = mask_targets(labels(1)[0])
    valid = torch.ones(N, H, W, dtype=torch.bool)
    found = queries(1)
    for targets, message in (
        ((classes, masks[:, :5]), r"masks \(\d, 5, \d+\) for image 0, expected .* as mask_targets"),
        ((classes + C, masks), rf"for image 0, expected 0 to {C - 1}"),
        ((classes[:1], masks), r"classes \(1,\) and masks"),
    ):
        with pytest.raises(ValueError, match=message):
            MaskLoss().compare(found, [targets] * N, valid)
    with pytest.raises(ValueError, match=r"negative labels; void is 255"):
        mask_targets(torch.tensor([[0, -1]]))
    for options, message in (
        ({"points": 0}, "points=0, expected a number from 1"),
        ({"mask_weight": -1}, "expected numbers ≥ 0"),
    ):
        with pytest.raises(ValueError, match=message):
            MaskLoss(**options)
    assert repr(MaskLoss()) == repr(MaskLoss())
