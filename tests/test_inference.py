"""predict: at the photo's own size, resized before the argmax, aligned."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from seglib.data import read_image
from seglib.inference import TestTimeAugmentation, enlarged_argmax, predict
from seglib.transforms import IMAGENET_MEAN, IMAGENET_STD


class Brightness(nn.Module):
    """Class 1 where a pixel is brighter than middle grey: the truth is known."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        grey = images[:, :1] * IMAGENET_STD[0] + IMAGENET_MEAN[0] - 0.5
        return torch.cat([-grey, grey], dim=1)


def test_labels_have_the_photos_size_and_place():
    image = np.zeros((75, 101, 3), np.uint8)
    image[20:50, 30:80] = 255
    model = Brightness().train()
    labels = predict(model, image, size=(25, 34))
    assert labels.shape == (75, 101) and labels.dtype == np.uint8
    assert model.sizes == [(25, 34)] and model.training
    truth = image[..., 0] > 127
    y, x = np.nonzero(labels)
    ty, tx = np.nonzero(truth)
    assert abs(y.mean() - ty.mean()) < 0.5 and abs(x.mean() - tx.mean()) < 0.5
    assert (labels == truth).mean() > 0.97
    # without a size the photo is taken as it is
    image = np.random.default_rng(0).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    labels = predict(Brightness(), image)
    assert np.array_equal(labels, image[..., 0] >= 128)


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_classes_one_at_a_time_give_what_all_at_once_give(classes):
    torch.manual_seed(0)
    logits = torch.randn(1, classes, 9, 11)
    whole = F.interpolate(logits, (40, 53), mode="bilinear").argmax(1)[0]
    assert torch.equal(enlarged_argmax(logits, (40, 53)).long(), whole)


class Leftwards(nn.Module):
    """Logits that depend on where a pixel is: a mirror image has other ones."""

    def forward(self, images):
        ramp = torch.linspace(-1, 1, images.shape[3]).expand_as(images[:, :1])
        return torch.cat([images[:, :1] + ramp, images[:, 1:2]], dim=1)


def test_versions_of_an_image_are_averaged_as_probabilities():
    images, model = torch.randn(2, 3, 6, 8), Leftwards()
    plain, mirrored = model(images).softmax(1), model(images.flip(3)).softmax(1).flip(3)
    found = TestTimeAugmentation(model)(images)
    torch.testing.assert_close(found.exp(), (plain + mirrored) / 2)
    once = TestTimeAugmentation(model, flip=False)(images)
    torch.testing.assert_close(once.exp(), plain)
    twice = TestTimeAugmentation(model, (0.5, 1.0), flip=False)(images)
    half = F.interpolate(images, (3, 4), mode="bilinear", antialias=True)
    small = F.interpolate(model(half), (6, 8), mode="bilinear").softmax(1)
    torch.testing.assert_close(twice.exp(), (plain + small) / 2)


def test_a_model_that_is_symmetric_gains_nothing_from_mirrors():
    image = torch.rand(1, 3, 9, 12)
    model = Brightness()
    expected = model(image).argmax(1)
    assert torch.equal(TestTimeAugmentation(model)(image).argmax(1), expected)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,)])
def test_scales_must_be_positive(scales):
    with pytest.raises(ValueError, match="expected numbers above 0"):
        TestTimeAugmentation(Leftwards(), scales)


def test_a_path_and_a_picture_are_read_as_the_photo_that_one_sees(tmp_path):
    """A camera held upright notes a turn by 90°; grey has three equal channels."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    for picture in (Image.fromarray(pixels), Image.fromarray(pixels[..., 0])):
        picture.save(path, exif=exif)
        expected = predict(Brightness(), read_image(path))
        assert expected.shape == (30, 20)
        for image in (path, str(path), Image.open(path)):
            np.testing.assert_array_equal(predict(Brightness(), image), expected)


def test_a_dict_with_out_and_images_from_0_to_1():
    class Wrapped(Brightness):
        def forward(self, images):
            return {"aux": None, "out": super().forward((images - mean) / std)}

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    image = np.random.default_rng(0).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    found = predict(Wrapped(), image, mean=(0, 0, 0), std=(1, 1, 1))
    assert np.array_equal(found, image[..., 0] >= 128)


@pytest.mark.parametrize("size", [(6, 7), (13, 17)])
def test_infinite_logits_are_very_high_or_low_ones(size):
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 6, 7)
    expected = enlarged_argmax(logits[:, [1, 2, 3]], size) + 1
    logits[:, 0] = -torch.inf  # (a class that is masked out)
    assert torch.equal(enlarged_argmax(logits, size), expected)
    logits[:, 3] = torch.inf
    assert (enlarged_argmax(logits, size) == 3).all()
