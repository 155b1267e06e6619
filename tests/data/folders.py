"""Folders of pairs under construction, for the tests of whatever reads them."""

import numpy as np
from PIL import Image

from seglib.data import FolderDataset

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
MASK = np.array([[0, 1, 255], [1, 1, 0]], dtype=np.uint8)
CLASSES = ("ground", "house")


def save(path, array, **options):
    Image.fromarray(np.asarray(array)).save(path, **options)
    return path


def indexed(path, indices, table):
    """A palette PNG of these indices; the rest of its table is black."""
    picture = Image.fromarray(np.asarray(indices, np.uint8))
    colours = np.asarray(table, np.uint8)
    picture.putpalette(colours.tobytes().ljust(768, b"\0"))
    picture.save(path)
    return path


class Folder:
    """Two folders of pairs that have the same name."""

    def __init__(self, path):
        self.images, self.masks = path / "images", path / "masks"
        self.images.mkdir()
        self.masks.mkdir()

    def add(self, stem, mask=MASK, image=IMAGE, **options):
        save(self.images / f"{stem}.png", image, **options)
        save(self.masks / f"{stem}.png", np.asarray(mask, np.uint8))
        return self

    def open(self, classes=CLASSES, **options):
        return FolderDataset(self.images, self.masks, classes, **options)
