"""Batches that are made on the device: the same pixels as the loader's, wherever that can be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import tiny_model

from seglib.data import SegmentationDataset, Streets, make_loader
from seglib.engine import distributed
from seglib.engine.on_device import DeviceLoader, coloured, places
from seglib.engine.precision import Compute, make_optimizer
from seglib.losses import CrossEntropyLoss
from seglib.training import fit, train_epoch
from seglib.transforms import cut_window, eval_transform, resize_mask, train_transform

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
on_each_device = pytest.mark.parametrize("device", DEVICES)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Pictures(SegmentationDataset):
    """Images and masks that lie in memory."""

    def __init__(self, images, masks, transform=None):
        names = [(Path(f"image {i}"), Path(f"mask {i}")) for i in range(len(images))]
        super().__init__(names, ("a", "b", "c"), transform=transform)
        self.images, self.masks = images, masks

    def read(self, index):
        return self.images[index], self.masks[index]


def pictures(transform, count=6, height=20, width=26):
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    masks = rng.choice(np.array([0, 1, 2, 255], np.uint8), (count, height, width))
    return Pictures(images, masks, transform)


def both(data, device, shuffle=True, batch=3):
    """The loader, and the one on the device."""
    return (loader := make_loader(data, batch, shuffle=shuffle, seed=5)), DeviceLoader(
        loader, device
    )


@on_each_device
def test_evaluation_gets_the_same_pixels(device):
    """Also where they are resized: that is done once, by the same function."""
    for size in ((20, 26), (9, 13), (31, 40)):
        plain, fast = both(pictures(eval_transform(*size)), device, shuffle=False)
        assert len(plain) == len(fast) == 2
        for (image, mask), (image_, mask_) in zip(plain, fast, strict=True):
            torch.testing.assert_close(image_.cpu(), image, rtol=0, atol=1e-6)
            assert torch.equal(mask_.cpu(), mask) and mask_.device.type == device


@on_each_device
@pytest.mark.parametrize("zoom", [(1.0, 1.0), (0.4, 0.9), (1.0, 3.0)], ids=str)
@pytest.mark.parametrize("size", [(20, 26), (10, 13)], ids=str)
def test_training_gets_the_same_pixels_but_for_flips(device, zoom, size):
    """Masks to the last pixel; images where nothing is reduced (by area there, by samples here)."""
    transform = train_transform(*size, zoom=zoom, flip=0.0, colour=0.0)
    plain, fast = both(pictures(transform), device)
    for epoch in (0, 1):
        for loader in (plain, fast):
            loader.sampler.set_epoch(epoch)
        for (image, mask), (image_, mask_) in zip(plain, fast, strict=True):
            assert torch.equal(mask_.cpu(), mask)
            assert image_.shape == image.shape and image_.dtype == torch.float32
            if zoom == (1.0, 1.0) and size == (20, 26):  # (stretched by a few per cent)
                assert (image_.cpu() - image).abs().median() < 0.2


def test_a_window_as_large_as_the_output_is_cut_out_exactly():
    transform = train_transform(10, 13, zoom=(2.0, 2.0), stretch=1.0, flip=0.0, colour=0.0)
    plain, fast = both(pictures(transform), "cpu")
    for (image, _), (image_, _) in zip(plain, fast, strict=True):
        torch.testing.assert_close(image_, image, rtol=0, atol=1e-4)


def test_a_flip_mirrors_image_and_mask():
    plain = train_transform(20, 26, zoom=(0.7, 2.0), flip=0.0, colour=0.0)
    mirrored = train_transform(20, 26, zoom=(0.7, 2.0), flip=1.0, colour=0.0)
    (image, mask), (image_, mask_) = (
        next(iter(both(pictures(t), "cpu")[1])) for t in (plain, mirrored)
    )
    torch.testing.assert_close(image_.flip(3), image, rtol=0, atol=1e-3)
    assert torch.equal(mask_.flip(2), mask) and not torch.equal(mask_, mask)


def test_half_of_the_flips_and_four_fifths_of_the_colours_change():
    transform = train_transform(4, 4, zoom=(1.0, 1.0), stretch=1.0, colour=0.5)
    draws = np.array(
        [DeviceLoader._draw(transform, np.random.default_rng(seed), (4, 4)) for seed in range(2000)]
    )
    shares = draws[:, 4].mean(), (draws[:, 5:] != 1).any(axis=1).mean()
    # Binomial: three standard deviations of 2,000 draws
    assert abs(shares[0] - 0.5) < 3 * (0.25 / 2000) ** 0.5
    assert abs(shares[1] - 0.8) < 3 * (0.16 / 2000) ** 0.5
    assert 0.5 <= draws[:, 5:].min() < 0.52 and 1.48 < draws[:, 5:].max() <= 1.5


def test_colours_are_changed_as_torchvision_changes_them():
    from torchvision.transforms import functional as tv

    images = torch.rand(3, 3, 8, 9) * 255
    factors = torch.tensor([[1.0, 1.0, 1.0], [1.3, 0.6, 1.4], [0.7, 1.5, 0.2]])
    ours = coloured(images, factors) / 255
    for image, (brightness, contrast, saturation), found in zip(
        images / 255, factors.tolist(), ours, strict=True
    ):
        expected = tv.adjust_brightness(image, brightness)
        expected = tv.adjust_saturation(tv.adjust_contrast(expected, contrast), saturation)
        # Their weights of grey have four decimals, ours three: 0.0001 of the range apart
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize("start", [-7, 0, 5])
@pytest.mark.parametrize("length", [3, 10, 20, 24, 37])
def test_places_are_those_of_a_cut_and_resized_mask(start, length):
    whole, cells = 19, 10
    source = np.arange(whole, dtype=np.uint8)[:, None].repeat(2, 1)
    expected = resize_mask(cut_window(source, (start, 0, length, 2), 255), cells, 2)[:, 0]
    found, inside = places(torch.tensor([start]), torch.tensor([length]), cells, whole)
    assert torch.where(inside, found, 255)[0].tolist() == expected.tolist()


@on_each_device
def test_batches_are_the_same_again(device):
    """To the bit on a GPU as well: nothing there adds in an order that changes."""
    data, found = pictures(train_transform(20, 26)), []
    for _ in range(2):
        loader = DeviceLoader(make_loader(data, 3, shuffle=True, seed=5), device)
        found.append([part for batch in loader for part in batch])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)) and len(found[0]) == 4


def test_a_run_can_be_repeated():
    data = pictures(train_transform(20, 26))
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        model = tiny_model()
        loader = DeviceLoader(make_loader(data, 3, shuffle=True), "cpu")
        fit(model, loader, DeviceLoader(make_loader(data, 3), "cpu"), epochs=2)
        results.append(torch.cat([p.flatten() for p in model.state_dict().values()]))
    assert torch.equal(*results)


def test_what_the_device_cannot_compute_is_refused():
    with pytest.raises(ValueError, match="NoneType, expected train_transform or eval_transform"):
        DeviceLoader(make_loader(pictures(None), 2), "cpu")
    import albumentations

    extra = train_transform(8, 8, extra=[albumentations.Blur()])
    with pytest.raises(ValueError, match="extra="):
        DeviceLoader(make_loader(pictures(extra), 2), "cpu")
    data = pictures(train_transform(8, 8))
    data.images, data.masks = list(data.images), list(data.masks)
    data.images[4], data.masks[4] = data.images[4][:7], data.masks[4][:7]
    with pytest.raises(ValueError, match=r"2 sizes .7×26 and 20×26.*cache='all'"):
        DeviceLoader(make_loader(data, 2), "cpu")


def test_a_part_of_a_set_has_only_its_own_images():
    data = Streets("val", transform=eval_transform(24, 32))
    part = torch.utils.data.Subset(data, range(10, 14))
    plain, fast = make_loader(part, 3), DeviceLoader(make_loader(part, 3), "cpu")
    assert len(fast.images) == 4
    for (image, mask), (image_, mask_) in zip(plain, fast, strict=True):
        torch.testing.assert_close(image_, image, rtol=0, atol=1e-6)
        assert torch.equal(mask_, mask)


@gpu
def test_on_a_gpu_no_step_waits_for_a_number():
    """But the first, which checks its batch, and every fiftieth, when losses are read."""
    device = torch.device("cuda")
    data = pictures(train_transform(20, 26), count=40)
    loader = DeviceLoader(make_loader(data, 2, shuffle=True), device)
    model = tiny_model().to(device)
    compute = Compute.of(model, "bf16", channels_last=True)
    optimizer = make_optimizer(model.parameters(), device, 1e-3, 0.01)
    loss = CrossEntropyLoss()
    train_epoch(model, loader, loss, optimizer, compute=compute)
    seen = []

    def watch(step, *rest):
        seen.append(step)
        torch.cuda.set_sync_debug_mode("error" if 2 <= len(seen) < 19 else "default")

    handle = model.register_forward_pre_hook(watch)
    try:
        train_epoch(model, loader, loss, optimizer, clip=1.0, compute=compute)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        handle.remove()
    assert len(seen) == 20


@gpu
def test_a_gpu_names_the_batch_whose_loss_is_not_finite():
    data = pictures(train_transform(20, 26, flip=0.0), count=12)
    loader = DeviceLoader(make_loader(data, 2, shuffle=True), "cuda")
    loader.images = loader.images.float()
    poisoned = list(loader.batch_sampler)[3][0]
    loader.images[loader.place[int(poisoned)]] = float("nan")
    model = tiny_model().cuda()
    with pytest.raises(FloatingPointError, match="the loss is nan at batch 4 of epoch 1"):
        fit(model, loader, epochs=1)


@pytest.mark.parametrize("split", ["split_batches", "split_images"])
def test_several_processes_share_the_batches(monkeypatch, split):
    """What two processes get is what one would, and no image is read again."""
    transform = train_transform(20, 26) if split == "split_batches" else eval_transform(20, 26)
    whole = both(pictures(transform), "cpu", shuffle=split == "split_batches", batch=4)[1]
    whole.sampler.set_epoch(1)
    expected = torch.cat([image for image, _ in whole])
    parts = []
    monkeypatch.setattr(distributed, "world", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        part = getattr(distributed, split)(whole)
        assert isinstance(part, DeviceLoader) and part.images is whole.images
        if split == "split_batches":
            part.sampler.set_epoch(1)
        parts.append(torch.cat([image for image, _ in part]))
    assert [len(part) for part in parts] == ([2, 2] if split == "split_batches" else [3, 3])
    torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=0)
