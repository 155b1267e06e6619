"""Streets: rendered street scenes with the classes of CamVid."""

from __future__ import annotations

from seglib.data.embedded import EmbeddedDataset, Rendered
from seglib.data.palettes import STREET_CLASSES, STREET_PALETTE


class Streets(EmbeddedDataset):
    """360 street scenes by day, 144×192, with the 11 classes of CamVid.

    Splits: "train" (240), "val" (60) and "test" (60). Every scene is rendered, and its labels are
    exact; void, 255, is what no class describes. Other light, other sizes and as many scenes as
    you like: `seglib.data.RenderedStreets`.

    Attributes besides those of every data set: `seeds`.
    Raises ValueError for an unknown split, FileNotFoundError where the data are not complete.
    """

    name, title = "streets", "Streets"
    attribution = "Streets: rendered for Every Pixel"
    SEEDS = {"train": range(240), "val": range(1000, 1060), "test": range(2000, 2060)}  # noqa: RUF012
    SIZE = (144, 192)
    TABLE = "scenes.csv"
    COLUMNS = {"file": str, "seed": int, "light": str}  # noqa: RUF012
    SUFFIX = ".jpg"
    LIGHT = "day"
    _classes, _palette = STREET_CLASSES, STREET_PALETTE

    @classmethod
    def render(cls, seed: int) -> Rendered:
        """Make the pair of `seed` anew: image, mask, and its further columns of the table."""
        from seglib.data.render import render_scene

        scene = render_scene(seed, *cls.SIZE, light=cls.LIGHT)
        return scene.image, scene.semantic, {"light": cls.LIGHT}
