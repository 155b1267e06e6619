"""A pair through a pipeline of albumentations: `A.Compose` as the transform of a data set."""

from typing import Any

from seglib.data.loader import SampleKey


def composed(pipeline: Any, image: Any, mask: Any, index: int) -> Any:
    """A float tensor (C, H, W), bytes as 0…1, and int64 labels (H, W); seeded by a `SampleKey`."""
    import torch

    if isinstance(index, SampleKey):
        pipeline.set_random_seed(index.derived_seed())
    out = pipeline(image=image, mask=mask)
    image, mask = torch.as_tensor(out["image"]), torch.as_tensor(out["mask"]).long()
    image = image if torch.is_tensor(out["image"]) else image.permute(2, 0, 1)  # (C, H, W)
    return (image if image.is_floating_point() else image / 255), mask
