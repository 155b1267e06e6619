"""Instances of lesson 7: their overlaps, their picture, the record of masks."""

import matplotlib.pyplot as plt
import numpy as np

from seglib.course import instances
from seglib.data.render import render_scene
from seglib.metrics.panoptic import PanopticCounts


def test_overlaps_are_ious_of_instances():
    first, second = np.array([[1, 1, 0, 3]]), np.array([[0, 2, 2, 2]])
    assert instances.overlaps(first, second).tolist() == [[1 / 4], [1 / 3]]
    assert instances.overlaps(first, 0 * second).shape == (2, 0)
    scene = render_scene(9008, 144, 192)
    cars = np.where(scene.semantic == instances.CAR, scene.instance, 0)
    found = instances.overlaps(instances.blobs(scene.semantic), cars)
    counts = PanopticCounts(11)
    counts.update((scene.semantic, instances.blobs(scene.semantic)), (scene.semantic, cars))
    assert (found > 0.5).sum() == counts.compute().counts[instances.CAR, 0]


def test_instances_are_numbered_in_the_picture():
    scene = render_scene(9008, 144, 192)
    cars = np.where(scene.semantic == instances.CAR, scene.instance, 0)
    instances.show_instances(scene, {"true": cars})
    picture = plt.gcf().axes[2].images[0].get_array()
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert (0, 0, 0) in colours and len(colours) > len(np.unique(cars))  # digits, regions, ground
    plt.close("all")


def test_the_record_of_masks_is_printed(capsys):
    instances.print_masks()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3 and lines[3].count("[") == 3 and lines[1].count("[") == 2
