"""The promise of the palettes: colours one can tell apart, measured with OpenCV's CIELAB."""

import cv2
import numpy as np
import pytest

from seglib.data import colours as known
from seglib.data.colours import check_palette, default_palette, read_palette


def smallest_distance(colours):
    """Smallest ΔE 1976 between two of `colours`, through OpenCV instead of our own conversion."""
    lab = cv2.cvtColor(np.float32(colours)[None] / 255, cv2.COLOR_RGB2Lab)[0]
    gaps = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    return gaps[np.triu_indices(len(lab), 1)].min()


# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
DEUTERANOPIA = "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 -0.011820 0.042940 0.968881"
PROTANOPIA = "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998"


def test_every_pair_is_far_apart_and_void_too_and_for_colour_blind_readers():
    for name in ("STREET", "ULTRASOUND", "SCAN"):
        classes, palette = getattr(known, f"{name}_CLASSES"), getattr(known, f"{name}_PALETTE")
        assert palette.shape == (len(classes), 3) and palette.dtype == np.uint8
        assert smallest_distance([*palette, known.VOID_COLOUR]) >= 40
    rgb = np.array([*known.STREET_PALETTE, known.VOID_COLOUR]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for matrix in (DEUTERANOPIA, PROTANOPIA):
        seen = np.clip(linear @ np.array(matrix.split(), float).reshape(3, 3).T, 0, 1)
        srgb = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
        assert smallest_distance(srgb * 255) >= 16


def test_default_colours_are_distinct_however_many_are_asked_for():
    for n, distance in ((1, 30), (5, 30), (12, 26), (21, 26), (60, 20), (255, 12)):
        colours = default_palette(n)
        assert colours.shape == (n, 3) and colours.dtype == np.uint8
        assert smallest_distance([*colours, known.VOID_COLOUR]) >= distance
        np.testing.assert_array_equal(colours, default_palette(255)[:n])
    for n in (0, -3, 256):
        with pytest.raises(ValueError, match=f"found n = {n}, expected 1 to 255: pass the number"):
            default_palette(n)


def test_bad_palettes_and_palettes_from_a_file(tmp_path):
    for palette, message in (
        ([0, 1, 2], r"shape \(3,\), but \(C, 3\)"),
        ([(0.0, 0.5, 1.0)], "whole numbers 0–255"),
        ([(0, 0, 256)], "whole numbers 0–255"),
        ([(1, 2, 3), (0, 0, 0), (1, 2, 3)], r"colour \(1, 2, 3\) twice"),
    ):
        with pytest.raises(ValueError, match=message):
            check_palette(palette)
    path = tmp_path / "colours.txt"
    path.write_text("128 64 128 road\n\n0 0 142\n")
    assert read_palette(str(path)) == [[128, 64, 128], [0, 0, 142]] and read_palette("") is None
    path.write_text("road 128 64 128")
    with pytest.raises(ValueError, match=r"cannot read colours from .*128 64 128 road"):
        read_palette(str(path))
