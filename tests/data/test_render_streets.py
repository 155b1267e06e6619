"""Street scenes: what is where, told from geometry, not from the renderer's own maps."""

import numpy as np
import pytest

from seglib.data.colours import STREET_CLASSES
from seglib.data.render import render_scene
from seglib.data.render.canvas import SCALE, Camera, Canvas, Surface, facing

NAMED = ["Road", "Car", "Pedestrian", "Bicyclist", "Pole"]
ROAD, CAR, PEDESTRIAN, BICYCLIST, POLE = map(STREET_CLASSES.index, NAMED)
SEEDS = range(40)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed) for seed in SEEDS]


def test_any_size_always_the_same_and_of_the_same_street():
    for size in ((32, 47), (96, 128), (145, 191), (240, 320)):
        scene = render_scene(3, *size)
        assert scene.semantic.shape == size == scene.depth.shape == scene.image.shape[:2]
        assert (scene.image.dtype, scene.semantic.dtype) == (np.uint8, np.uint8)
        assert (scene.instance.dtype, scene.depth.dtype) == (np.int32, np.float32)
        assert set(np.unique(scene.semantic)) <= {*range(11), 255}
        for before, now in zip(scene, render_scene(3, *size), strict=True):
            np.testing.assert_array_equal(before, now)
    small, large = render_scene(5, 72, 96).semantic, render_scene(5, 216, 288).semantic
    assert (small == large[::3, ::3]).mean() > 0.97  # row 0 and column 0 are the same rays


@pytest.mark.parametrize("light", ["dusk", "night", "rain"])
def test_light_changes_the_picture_and_nothing_else(light, scenes):
    for seed in range(4):
        other = render_scene(seed, light=light)
        for name in ("semantic", "instance", "depth"):
            np.testing.assert_array_equal(getattr(other, name), getattr(scenes[seed], name))
        assert np.abs(other.image.astype(int) - scenes[seed].image).mean() > 5


def test_shares_are_those_of_camvid(scenes):
    """facts of CamVid's train split, within a factor of two where a class is rare."""
    semantic = np.stack([scene.semantic for scene in scenes])
    share = {name: (semantic == label).mean() for label, name in enumerate(STREET_CLASSES)}
    limits = """Sky 0.12 0.25; Building 0.17 0.30; Road 0.24 0.36; Tree 0.06 0.15; Pole 0.006 0.02;
        Car 0.03 0.09; Pedestrian 0.003 0.012; Bicyclist 0.0015 0.006; Fence 0.005 0.02;
        SignSymbol 0.005 0.02"""
    for name, low, high in map(str.split, limits.split(";")):
        assert float(low) < share[name] < float(high), (name, share[name])
    assert 0.02 < (semantic == 255).mean() < 0.05


def test_road_depth_is_that_of_a_flat_ground(scenes):
    """On a level road 1/z grows linearly down the picture: one plane fits all road pixels."""
    for scene in scenes[:10]:
        rows, columns = np.nonzero(scene.semantic == ROAD)
        near = 1 / scene.depth[rows, columns].astype(float)
        plane = np.stack([rows, columns, np.ones(len(rows))], 1)
        fitted, *_ = np.linalg.lstsq(plane, near, rcond=None)
        off = np.abs(plane @ fitted - near)
        # contact shadows of cars are not named, so only lane paint and tar are road
        assert np.median(off) < 1e-6 and np.quantile(off, 0.99) < 1e-3
    for scene in scenes:  # the sky is infinitely far, and nothing else is
        np.testing.assert_array_equal(np.isinf(scene.depth), scene.semantic == 0)


def test_instances_are_cars_people_and_cyclists_numbered_without_gaps(scenes):
    for scene in scenes:
        numbers = np.unique(scene.instance)
        np.testing.assert_array_equal(numbers[numbers > 0], np.arange(1, numbers.max() + 1))
        things = np.isin(scene.semantic, (CAR, PEDESTRIAN, BICYCLIST))
        np.testing.assert_array_equal(things, scene.instance > 0)
        for number in numbers[numbers > 0]:
            assert len(np.unique(scene.semantic[scene.instance == number])) == 1


def test_a_nearer_thing_hides_a_farther_one():
    """Two upright squares of known size: the pinhole formula says which pixels each covers."""
    canvas = Canvas(Camera(100.0, 1.5, 32.0, 24.0, 0.0), 48, 64)
    square = np.array([(-1, 0.5, 0), (1, 0.5, 0), (1, 2.5, 0), (-1, 2.5, 0)], float)
    for depth, label in ((20.0, 1), (10.0, 2)):
        moved = square + np.array([0.4 * (label == 2), 0, depth])
        canvas.paint([moved], (200, 0, 0), Surface(label, facing(depth)))
    canvas.finish()
    middle = canvas.named[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
    labels = canvas.table[0].astype(int)[middle]
    columns, rows = np.meshgrid(np.arange(64), np.arange(48))
    for depth, label, shift in ((20.0, 1, 0.0), (10.0, 2, 0.4)):
        x, y = (columns - 32) * depth / 100, 1.5 - (rows - 24) * depth / 100
        inside = (np.abs(x - shift) < 1) & (np.abs(y - 1.5) < 1)
        pixel = depth / 100
        edge = (np.abs(np.abs(x - shift) - 1) < pixel) | (np.abs(np.abs(y - 1.5) - 1) < pixel)
        if label == 1:
            near_x = (columns - 32) * 10 / 100
            hidden = (np.abs(near_x - 0.4) < 1.2) & (np.abs((rows - 24) * 10 / 100) < 1.2)
            inside, edge = inside & ~hidden, edge | hidden
        np.testing.assert_array_equal((labels == label)[~edge], inside[~edge])


def test_a_polygon_behind_the_camera_is_cut_not_mirrored():
    canvas = Canvas(Camera(100.0, 1.5, 32.0, 24.0, 0.0), 48, 64)
    floor = Surface(3, (0.0, 1 / 1.5, 0.0), ground=True)
    corners = [(-50, 0, -30), (50, 0, -30), (50, 0, 1000), (-50, 0, 1000)]
    canvas.paint([corners], (90, 90, 90), floor)
    canvas.finish()
    named = canvas.named[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE] > 0
    assert named[26:].all() and not named[:24].any()


def test_clutter_and_thin_change_how_much_there_is():
    def count(label, **knobs):
        return sum((render_scene(seed, **knobs).semantic == label).sum() for seed in range(8))

    assert count(CAR, clutter=0.0) == count(PEDESTRIAN, clutter=0.0) == count(POLE, thin=0.0) == 0
    assert count(PEDESTRIAN, clutter=3.0) > 1.5 * count(PEDESTRIAN, clutter=1.0)
    assert count(POLE, thin=3.0) > 1.4 * count(POLE)


def test_label_noise_renames_this_share_of_the_things_and_void_border_by_brute_force(scenes):
    things = wrong = 0
    for seed in SEEDS:
        clean, noisy = scenes[seed], render_scene(seed, label_noise=0.25)
        np.testing.assert_array_equal(clean.image, noisy.image)
        np.testing.assert_array_equal(clean.instance, noisy.instance)
        for number in range(1, clean.instance.max() + 1):
            here = clean.instance == number
            assert len(np.unique(noisy.semantic[here])) == 1  # a thing is renamed as a whole
            things += 1
            wrong += bool((clean.semantic[here] != noisy.semantic[here]).all())
    assert abs(wrong / things - 0.25) < 3.5 * np.sqrt(0.25 * 0.75 / things), (wrong, things)
    for pixels in (1, 2):
        clean, found = scenes[2].semantic, render_scene(2, void_border=pixels).semantic
        padded, near_another = np.pad(clean, pixels, mode="edge"), np.zeros_like(clean, bool)
        for row, column in np.ndindex(2 * pixels + 1, 2 * pixels + 1):
            near_another |= padded[row : row + 144, column : column + 192] != clean
        np.testing.assert_array_equal(found, np.where(near_another, 255, clean))


def test_lane_markings_are_road_unless_asked_for(scenes):
    marked = [render_scene(seed, lane=True).semantic for seed in range(8)]
    for plain, lanes in zip(scenes, marked, strict=False):
        np.testing.assert_array_equal(np.where(lanes == 11, ROAD, lanes), plain.semantic)
    share = np.mean([(lanes == 11).mean() for lanes in marked])
    assert 0.003 < share < 0.05
    seen = [(scene.image, lanes) for scene, lanes in zip(scenes, marked, strict=False)]
    paint = np.mean([image[lanes == 11].mean() for image, lanes in seen if (lanes == 11).any()])
    tar = np.mean([image[lanes == ROAD].mean() for image, lanes in seen])
    assert paint > tar + 15


def test_a_wrong_knob_is_named():
    for name, value, words in (
        ("light", "nite", "night"),
        ("light", None, "expected one of day, dusk, night, rain"),
        ("clutter", -1, "clutter is -1; pass a number from 0 to 5"),
        ("noise", "much", "noise is 'much'; pass a number from 0 to 20"),
        ("label_noise", 20, "label_noise is 20; pass a number from 0 to 1"),
        ("void_border", 1.5, r"void_border is 1\.5; pass a whole number from 0 to 10"),
        ("height", 16, "height is 16; pass a whole number from 32 to 4096"),
        ("seed", -3, "seed is -3; pass a whole number from 0 to 4294967295"),
        ("thin", float("nan"), "thin is nan"),
    ):
        with pytest.raises(ValueError, match=words):
            render_scene(**{"seed": 0, name: value})
