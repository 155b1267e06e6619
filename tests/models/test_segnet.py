"""SegNet's unpooling by hand."""

import torch
from torch import nn

from seglib.models import SegNet


def identity_blocks(model):
    """Leave only pooling and unpooling of the network: all convolutions become identities."""
    for blocks in (model.encoder, model.decoder):
        for i in range(len(blocks)):
            blocks[i] = nn.Identity()
    model.head = nn.Identity()
    return model.eval()


def test_unpooling_by_hand():
    model = identity_blocks(SegNet(1, in_channels=1, base_channels=1, depth=1))
    image = torch.tensor([[1, 2, 5, 3], [4, 3, 1, 0], [7, 1, 2, 2], [0, 6, 8, 9]]).float()[
        None, None
    ]
    expected = torch.tensor([[0, 0, 5, 0], [4, 0, 0, 0], [7, 0, 0, 0], [0, 0, 0, 9]]).float()[
        None, None
    ]
    assert torch.equal(model(image), expected)


def test_two_levels_keep_the_largest_only():
    model = identity_blocks(SegNet(1, in_channels=1, base_channels=1, depth=2))
    image = torch.rand(1, 1, 4, 4)
    found = model(image)
    assert (found != 0).sum() == 1 and found.max() == image.max()
    assert found.argmax() == image.argmax()


def test_an_odd_row_is_empty_after_unpooling():
    model = identity_blocks(SegNet(1, in_channels=1, base_channels=1, depth=1))
    found = model(torch.rand(1, 1, 5, 7) + 1)
    assert found.shape == (1, 1, 5, 7)
    assert not found[..., 4, :].any() and not found[..., 6].any() and (found > 0).sum() == 6
