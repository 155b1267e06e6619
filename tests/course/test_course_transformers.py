"""The nearest vehicle: its scenes, and networks that see so far."""

import numpy as np
import pytest
import torch

from seglib.course import transformers
from seglib.data.render import render_scene


def test_the_nearest_vehicle_is_the_one_with_the_least_depth():
    scenes = transformers.nearest_scenes(range(70_000, 70_006))
    assert scenes.images.shape == (*scenes.labels.shape, 3) == (len(scenes.labels), 72, 96, 3)
    scene = render_scene(70_000, 144, 192)  # (the first seed is among those that are taken)
    vehicles = np.unique(scene.instance[scene.semantic == 8]).tolist()
    depths = {k: np.median(scene.depth[scene.instance == k]) for k in vehicles}
    nearest = min(depths, key=depths.get)
    full = np.kron(scenes.labels[0] == 1, np.ones((2, 2), bool))
    assert (full & (scene.instance == nearest)).sum() > 0.8 * full.sum() > 0
    for labels, order in zip(scenes.labels, scenes.instances, strict=True):
        assert np.array_equal(labels == 255, order == 0)
        assert np.array_equal(labels == 1, order == 1) and order.max() >= 2
        assert min(np.bincount(order.ravel())[1:]) >= 12


def test_a_vehicle_is_called_nearest_by_most_of_its_pixels():
    order = np.array([[[1, 1, 1, 0], [2, 2, 3, 0]]], np.uint8)
    says = torch.tensor([[[1, 1, 0, 1], [1, 0, 1, 1]]])  # two of three, one of two, one of one
    logits = torch.stack([1 - says, says], dim=1).float()
    assert transformers.called_nearest(logits, order) == [[True, False, True]]


@pytest.mark.parametrize(("kind", "field"), [("3 convolutions", 37), ("9 convolutions", 85)])
def test_the_field_of_a_network_is_what_its_gradient_reaches(kind, field):
    # 4 convolutions, two with stride 2: 3, 5, 9, 13 pixels; each further one sees 8 more
    net = transformers.NearestNet(kind).double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.1)  # (no ReLU is closed)
    images = torch.ones(1, 3, 160, 160, dtype=torch.float64, requires_grad=True)
    net.body(net.stem(images))[0, :, 20, 20].sum().backward()
    seen = images.grad.abs().sum((0, 1)) > 0
    assert seen.sum() == field**2 and seen.any(0).sum() == field
    assert net(images).shape == (1, 2, 160, 160)


def test_attention_sees_everything_and_an_unknown_kind_is_refused():
    net = transformers.NearestNet("attention").double().eval()
    images = torch.randn(1, 3, 72, 96, dtype=torch.float64, requires_grad=True)
    net(images)[0, :, 0, 0].sum().backward()
    assert (images.grad.abs().sum((0, 1)) > 0)[::4, ::4].double().mean() > 0.99
    with pytest.raises(ValueError, match="found kind='pooling', expected one of 3 convolutions"):
        transformers.NearestNet("pooling")


def test_only_vehicles_are_coloured():
    image = np.full((2, 3, 3), 100, np.uint8)
    instances, nearest = np.array([[0, 1, 2]] * 2), np.array([[255, 1, 0]] * 2)
    found = transformers.vehicles(image, instances, nearest)
    assert found[0].tolist() == [[160] * 3, [*transformers.NEAREST], [*transformers.OTHER]]
