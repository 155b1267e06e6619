"""What an image and a label map must be, before anything is done with them."""

import numpy as np


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless `image` is uint8 (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"found an image of shape {image.shape} and dtype {image.dtype}, expected uint8 "
            "(H, W, 3) RGB; seglib.data.read_image(path) gives that for any image file"
        )


def check_pair(image: np.ndarray, mask: np.ndarray) -> None:
    """Raise ValueError unless `image` is uint8 RGB and `mask` a label map of its size."""
    check_image(image)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(
            f"found a mask of shape {mask.shape} and dtype {mask.dtype}, expected integer labels "
            "(H, W); a colour picture of labels must be turned into labels first"
        )
    if image.shape[:2] != mask.shape:
        image_size, mask_size = (f"{h}×{w}" for h, w in (image.shape[:2], mask.shape))
        raise ValueError(
            f"found an image of {image_size} and a mask of {mask_size}, expected equal sizes"
        )
