"""The bundled photographs, the masks drawn for two of them, and polygons as masks."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Outline
from skimage import data

from seglib.course.photos import PHOTOS, photo, photo_mask
from seglib.course.polygons import polygon_mask

ROOT = Path(__file__).resolve().parents[2]
SQUARE = [(1, 1), (3, 1), (3, 3), (1, 3)]

# name: height, width, and the digest of the file, which is the same in scikit-image 0.20 to 0.26
FILES = {
    "cat": (300, 451, "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    "coffee": (400, 600, "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    "coins": (303, 384, "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba"),
    "cell": (660, 550, "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515"),
    "retina": (1411, 1411, "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6"),
    "astronaut": (512, 512, "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_those_of_scikit_image(name):
    height, width, digest = FILES[name]
    folder = Path(importlib.util.find_spec("skimage").submodule_search_locations[0]) / "data"
    assert hashlib.sha256((folder / PHOTOS[name][0]).read_bytes()).hexdigest() == digest
    image, theirs = photo(name), getattr(data, PHOTOS[name][0].split(".")[0])()
    assert image.dtype == np.uint8 and image.shape == (height, width, 3)
    assert np.array_equal(image, np.dstack([theirs] * 3) if theirs.ndim == 2 else theirs)


def test_photos_need_no_network_no_cache_folder_and_nothing_heavy(tmp_path):
    code = """
import socket, sys
def blocked(*args, **options):
    raise AssertionError("asked for the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = blocked
from seglib.course.photos import PHOTOS, photo, photo_mask
print(sum(photo(name).shape[0] for name in PHOTOS), photo_mask("cat").mask.shape)
heavy = {"skimage", "scipy", "pooch", "torch", "cv2", "matplotlib", "albumentations"}
print(sorted(heavy & set(sys.modules)))
"""
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    settings = {"cwd": ROOT, "env": os.environ | home, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code], **settings)
    assert done.stdout.split("\n")[:2] == ["3586 (300, 451)", "[]"], done.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_unknown_or_missing_is_told_with_a_remedy(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"'coin'; did you mean 'coins'\? \(known: cat, coffee,"):
        photo("coin")
    with pytest.raises(ValueError, match=r"no mask of ours for 'coins'.*\(known: cat, coffee\)"):
        photo_mask("coins")
    with pytest.raises(ValueError, match="found border -1, expected 0 to 20 px"):
        photo_mask("cat", border=-1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="not installed; install it: python -m pip install"):
        photo("cat")
    empty = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: empty)
    with pytest.raises(FileNotFoundError, match=r"no file .*chelsea\.png.*--force-reinstall"):
        photo("cat")


def test_a_mask_by_hand():
    # centres inside: the first column is left of x = 0.5; (3, 2) lies beyond the slanting side
    drawn = polygon_mask([(7, [(0.5, 0.5), (4.4, 0.5), (1.9, 3.0), (0.5, 3.0)])], 4, 5)
    assert drawn.dtype == np.uint8
    assert drawn.tolist() == [[0, 0, 0, 0, 0], [0, 7, 7, 7, 0], [0, 7, 7, 0, 0], [0, 0, 0, 0, 0]]
    # centres on an outline belong to the left and upper side
    drawn = polygon_mask([(1, SQUARE)], 4, 4)
    assert np.argwhere(drawn).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


@pytest.mark.parametrize("seed", range(20))
def test_masks_agree_with_matplotlibs_point_in_polygon(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 30)))
    radii = rng.uniform(4, 28, len(angles))  # star-shaped, partly outside the picture
    points = np.stack([18 + radii * np.cos(angles), 14 + radii * np.sin(angles)], axis=1)
    points = (np.round(points * 8) + 0.5) / 8  # whole sixteenths, so rounding changes nothing
    ys, xs = np.mgrid[:30, :40]
    centres = np.stack([xs.ravel(), ys.ravel()], axis=1)
    a, b = points, np.roll(points, -1, axis=0)
    along, apart = (b - a)[:, None], centres - a[:, None]
    cross = along[..., 0] * apart[..., 1] - along[..., 1] * apart[..., 0]  # 0 on an edge's line
    clear = (cross != 0).all(axis=0).reshape(30, 40)
    inside = Outline(np.vstack([points, points[:1]]), closed=True).contains_points(centres)
    for order in (points, points[::-1], np.roll(points, 2, axis=0)):
        drawn = polygon_mask([(1, order)], 30, 40)
        assert np.array_equal(drawn[clear], inside.reshape(30, 40)[clear])
    assert clear.mean() > 0.95


def test_neighbours_leave_no_gap_and_do_not_overlap():
    rng = np.random.default_rng(3)
    centre, ring = rng.integers(8, 12, 2), [(0, 0), (9, 0), (20, 0), (20, 13), (20, 20), (0, 20)]
    covered = np.zeros((20, 20), int)
    for corner, following in zip(ring, ring[1:] + ring[:1], strict=True):
        covered += polygon_mask([(1, [corner, following, centre])], 20, 20)
    assert (covered == 1).all()


def test_later_polygons_cover_earlier_ones_and_crossed_outlines_are_even_odd():
    inner = [(1.5, 1.5), (2.5, 1.5), (2.5, 2.5), (1.5, 2.5)]
    outer = [(-9, -9), (99, -9), (99, 99), (-9, 99)]
    drawn = polygon_mask([(1, outer), (255, inner)], 4, 4)
    assert (drawn == 255).sum() == 1 and drawn[2, 2] == 255 and (drawn == 1).sum() == 15
    hole = polygon_mask([(1, outer), (0, inner)], 4, 4)
    assert hole[2, 2] == 0 and (hole == 1).sum() == 15
    twice = [(0, 0), (6, 0), (6, 6), (0, 6), (0, 0), (2, 2), (4, 2), (4, 4), (2, 4), (2, 2)]
    ring = polygon_mask([(1, twice)], 7, 7)
    assert ring.sum() == 36 - 4 and ring[3, 3] == 0
    assert not polygon_mask([], 2, 3).any() and polygon_mask([], 2, 3).shape == (2, 3)


BAD_POLYGONS = [
    ([(1, SQUARE[:2])], r"polygon 0 has vertices of shape \(2, 2\), expected .* at least 3"),
    ([(1, SQUARE), (1, [(1, 1), (2, float("nan")), (3, 3)])], "polygon 1 .*nan.* no finite"),
    ([(1, [(1, 1), (1e30, 2), (3, 3)])], "no finite pixels"),
    ([(1, [(50, 50), (60, 50), (60, 60)])], r"\(x 50 to 60, y 50 to 60\) covers no pixel"),
    ([(1, [(1, 1), (2, 2), (3, 3)])], "covers no pixel"),
    ([(1, [(15, 5), (25, 5), (25, 9)])], r"fits if x and y are swapped.*for y, x in points"),
    ([(256, SQUARE)], "polygon 0 has label 256, expected a whole number 0–254, or 255"),
    ([(-1, SQUARE)], "label -1"),
    ([("cat", SQUARE)], "label 'cat', expected a whole number"),
    (SQUARE, r"found \(1, 1\) where a polygon is expected; pass a list of \(label, vertices\)"),
    ((1, SQUARE), "found 1 where a polygon is expected"),
    ([(1, [(1, 2), (3,), (4, 5)])], "where a polygon is expected"),
    ([(1, [(1, 2, 3)] * 3)], r"vertices of shape \(3, 3\), expected \(N, 2\)"),
]


@pytest.mark.parametrize("polygons, message", BAD_POLYGONS)
def test_mistakes_in_polygons_are_explained(polygons, message):
    with pytest.raises(ValueError, match=message):
        polygon_mask(polygons, 30, 12)


def test_a_hand_that_slips_over_the_edge_is_no_mistake_but_no_height_is():
    assert polygon_mask([(1, [(-1, 20), (12, 20), (12, 30), (-1, 30)])], 30, 12).sum() == 120
    with pytest.raises(ValueError, match="found height 0 and width 5"):
        polygon_mask([], 0, 5)


CAT = "background cat eye nose", (20.39, 68.93, 3.07, 0.69), "a3c729bb97e59871"
SHARES = (52.06, 22.90, 15.42, 4.96, 2.54)
COFFEE = "background saucer cup coffee spoon", SHARES, "ada389e737c7e220"


@pytest.mark.parametrize(("name", "expected"), [("cat", CAT), ("coffee", COFFEE)])
def test_masks_are_the_same_on_every_machine(name, expected):
    classes, shares, digest = expected
    mask, names, palette = photo_mask(name)
    assert mask.dtype == np.uint8 and mask.shape == photo(name).shape[:2]
    assert names == tuple(classes.split()) and palette.shape == (len(names), 3)
    percent = 100 * np.bincount(mask.ravel(), minlength=256) / mask.size
    assert percent[: len(names)] == pytest.approx(shares, abs=0.01)
    assert percent[: len(names)].sum() + percent[255] == pytest.approx(100)
    assert hashlib.sha256(mask.tobytes()).hexdigest()[:16] == digest


def distance_to(pixels):
    away = (~pixels).astype(np.uint8)
    return cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


@pytest.mark.parametrize("name", ["cat", "coffee"])
def test_a_border_is_what_lies_within_its_width_of_another_class(name):
    whole = photo_mask(name, border=0).mask
    expected = whole.copy()
    for label in set(np.unique(whole).tolist()) - {255}:
        others = (whole != label) & (whole != 255)
        expected[(whole == label) & (distance_to(others) <= 3 + 1e-3)] = 255
    assert np.array_equal(photo_mask(name, border=3).mask, expected)
    ours = photo_mask(name).mask
    assert (ours[ours != 255] == whole[ours != 255]).all()  # only void is added
    assert 0.01 < (ours == 255).mean() - (whole == 255).mean() < 0.025


def edge_profile(image, mask, label):
    """Mean change of colour (CIELAB per px) by distance from the outline, inside positive."""
    smooth = cv2.GaussianBlur(image.astype(np.float32) / 255, (0, 0), 1)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
    change = np.sqrt(sum((g**2).sum(axis=-1) for g in np.gradient(lab, axis=(0, 1))))
    inside = mask == label
    inward = np.where(inside, distance_to(~inside) - 0.5, 0.5 - distance_to(inside))
    counted = distance_to(mask == 255) > 8  # where nobody can tell there is no edge to be met
    counted[:8] = counted[-8:] = counted[:, :8] = counted[:, -8:] = False
    return {k: float(change[counted & (abs(inward - k) <= 0.75)].mean()) for k in range(-6, 7)}


@pytest.mark.parametrize("name", ["cat", "coffee"])
def test_outlines_lie_on_the_edges_of_the_picture(name):
    image, (mask, classes, _) = photo(name), photo_mask(name, border=0)
    for label, word in enumerate(classes):
        profile = edge_profile(image, mask, label)
        assert max(profile, key=profile.get) in (-1, 0), (word, profile)
        assert profile[0] > 1.5 * max(profile[-6], profile[6]), (word, profile)


def test_the_polygons_travel_with_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "course/*.json" in project["tool"]["setuptools"]["package-data"]["seglib"]
