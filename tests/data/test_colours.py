"""The promise of the palettes: colours that everyone can distinguish."""

import os

import cv2
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from seglib.data import colours as known
from seglib.data.colours import check_palette, default_palette, read_palette
from seglib.plotting import paint_errors


def smallest_distance(colours):
    """Smallest ΔE 1976 between two of `colours`, through OpenCV instead of our own conversion."""
    lab = cv2.cvtColor(np.float32(colours)[None] / 255, cv2.COLOR_RGB2Lab)[0]
    gaps = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    return gaps[np.triu_indices(len(lab), 1)].min()


# Linear RGB as others see it: Machado, Oliveira and Fernandes (2009) at severity 1, and of Brettel,
# Viénot and Mollon (1997) the two half planes and what divides them, as libDaltonLens has them.
SEEN = {
    "protan": "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998",
    "deutan": "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 -0.011820 0.042940 0.968881",
    "tritan": "1.01277 0.13548 -0.14826 -0.01243 0.86812 0.14431 0.07589 0.80500 0.11911",
    "tritan, else": "0.93678 0.18979 -0.12657 0.06154 0.81526 0.12320 -0.37562 1.12767 0.24796",
    "usual": "1 0 0 0 1 0 0 0 1",
}
MATRICES = {eyes: np.array(text.split(), float).reshape(3, 3).T for eyes, text in SEEN.items()}
DIVIDE = (0.03901, -0.02788, -0.01113)
PAIRS = (  # of colours in CIELAB and their distance, from Sharma, Wu and Dalal (2005), table 1
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
)


def smallest_difference(colours, eyes):
    """Smallest CIEDE2000, by scikit-image, between two of `colours` as these eyes see them."""
    rgb = np.array(colours) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = linear @ MATRICES[eyes]
    if eyes == "tritan":
        other = (linear @ DIVIDE < 0)[:, None]
        seen = np.where(other, linear @ MATRICES["tritan, else"], seen)
    seen = seen.clip(0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    gaps = deltaE_ciede2000(lab[:, None], lab[None])
    return gaps[np.triu_indices(len(lab), 1)].min()


def test_the_measure_gives_what_its_authors_published():
    for one, other, distance in PAIRS:
        assert deltaE_ciede2000([one], [other])[0] == pytest.approx(distance, abs=1e-4)


@pytest.mark.parametrize("name", ["STREET", "ULTRASOUND", "SCAN"])
def test_every_pair_is_far_apart_whatever_eyes_look(name):
    """Void, the violet of errors and, on streets, the white of lanes are among them."""
    classes, palette = getattr(known, f"{name}_CLASSES"), getattr(known, f"{name}_PALETTE")
    assert palette.shape == (len(classes), 3) and palette.dtype == np.uint8
    shown = [*palette, known.VOID_COLOUR, paint_errors(np.array([1]))[0]]
    assert smallest_difference(shown, "usual") >= 19
    for eyes in ("protan", "deutan", "tritan"):
        assert smallest_difference(shown, eyes) >= (12.6 if name == "STREET" else 11)
        assert name != "STREET" or smallest_difference([*shown, (255, 255, 255)], eyes) >= 11


def test_default_colours_are_distinct_however_many_are_asked_for():
    for n, distance in ((1, 30), (5, 30), (12, 26), (21, 26), (60, 20), (255, 12)):
        colours = default_palette(n)
        assert colours.shape == (n, 3) and colours.dtype == np.uint8
        assert smallest_distance([*colours, known.VOID_COLOUR]) >= distance
        np.testing.assert_array_equal(colours, default_palette(255)[:n])
    for n in (0, -3, 256):
        with pytest.raises(ValueError, match=f"found n = {n}, expected 1 to 255: pass the number"):
            default_palette(n)


def test_bad_palettes():
    for palette, message in (
        ([0, 1, 2], r"shape \(3,\), but \(C, 3\)"),
        ([(0.0, 0.5, 1.0)], "whole numbers 0–255"),
        ([(0, 0, 256)], "whole numbers 0–255"),
        ([(1, 2, 3), (1, 2)], "rows of several lengths; expected three numbers"),
        ([(1, 2, 3), (0, 0, 0), (1, 2, 3)], r"colour \(1, 2, 3\) twice"),
    ):
        with pytest.raises(ValueError, match=message):
            check_palette(palette)


ROWS = [[128, 64, 128], [0, 0, 142]]


def test_palettes_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "colours.txt"
    for content in (
        "128 64 128 road\n\n0 0 142\n",
        "128,64,128\n0,0,142\n",
        "128, 64, 128, road\r\n0, 0, 142, car\r\n",
        "128;64;128\n0;0;142",
        "128\t64\t128\tClass 1: roads\n0\t0\t142\t2-wheeler\n",
        "# label:color_rgb:parts:actions\nroad:128,64,128::\nparked car:0,0,142:wheel,door:drive\n",
    ):
        for mark in (b"", b"\xef\xbb\xbf"):
            path.write_bytes(mark + content.encode())
            assert read_palette(str(path)) == read_palette(path, ["road", "car"]) == ROWS
    monkeypatch.setenv("HOME" if os.name == "posix" else "USERPROFILE", str(tmp_path))
    assert read_palette("~/colours.txt") == ROWS
    assert read_palette("") is read_palette(None) is None
    for content, message in (
        ("road 128 64 128", "'road 128 64 128'"),
        ("128 64", "found '128 64'"),
        ("0 128 64 128 road", "found '0 128 64 128 road'"),  # a label in front
        ("1 2 3 255", "found '1 2 3 255'"),
        ("0.5 0.25 0.5", "found"),
        ("-1 0 0", "found"),
        ("# only this", "it has none"),
        ("\n", "it has none"),
        ("road:1,2,3::\ncar:3,2,1::", "'road' is label 0 there, but 1 in the classes"),
        ("1 2 3 sky\n3 2 1 car", "'car' is label 1 there, but 0 in the classes"),
    ):
        path.write_text(content)
        words = rf"cannot read colours from .*{message}.*128 64 128 road.*order of the classes"
        with pytest.raises(ValueError, match=words):
            read_palette(path, ["car", "road"])
    for foreign in (tmp_path, tmp_path / "no.txt", "Ä".encode("utf-16")):
        if isinstance(foreign, bytes):
            path.write_bytes(foreign)
            foreign = path
        with pytest.raises(ValueError, match=r"cannot read colours from .*128 64 128 road"):
            read_palette(foreign)
