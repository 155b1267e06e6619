"""What lesson 7's experiment measures, by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import load_script

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

import mask_training  # noqa: E402
import transformers_nets as tn  # noqa: E402

script = load_script(EXPERIMENTS / "07_transformers.py")


@pytest.mark.parametrize(
    ("found", "rates"),
    [
        ({}, [1e-3, 3e-3, 1e-2]),
        ({1e-3: 0.1, 3e-3: 0.2}, [1e-3, 3e-3, 1e-2]),  # not complete yet
        ({1e-3: 0.1, 3e-3: 0.3, 1e-2: 0.2}, [1e-3, 3e-3, 1e-2]),
        ({1e-3: 0.1, 3e-3: 0.2, 1e-2: 0.3}, [1e-3, 3e-3, 1e-2, 3e-2]),
        ({1e-3: 0.3, 3e-3: 0.2, 1e-2: 0.1, 3e-4: 0.4}, [1e-3, 3e-3, 1e-2, 3e-4, 1e-4]),
        ({1e-3: 0.3, 3e-3: 0.2, 1e-2: 0.1, 3e-4: 0.2}, [1e-3, 3e-3, 1e-2, 3e-4]),
    ],
)
def test_rates_go_on_beyond_the_edge(found, rates):
    assert script.schedule(found, [1e-3, 3e-3, 1e-2]) == rates


def test_networks_cost_alike():
    from torch.utils.flop_counter import FlopCounterMode

    for net in tn.NETS:
        model = tn.build(net, 11, 0).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, 96, 128, device=tn.DEVICE))
        assert counter.get_total_flops() / 2e9 == pytest.approx(0.319, rel=0.02), net


def brightness(images):
    """Logits of two classes: is the pixel above 0?"""
    return torch.cat([torch.zeros_like(images[:, :1]), images[:, :1]], dim=1)


class AtBorder(torch.nn.Module):
    """Says 1 in the first column of what it sees, else 0."""

    def forward(self, images):
        found = torch.zeros(len(images), 2, *images.shape[2:])
        found[:, 0], found[:, 1, :, 0] = 0.5, 1
        return found


def test_a_shift_and_a_crop_by_hand():
    class Pixel(torch.nn.Module):
        def forward(self, images):
            return brightness(images)

    images = torch.randn(2, 3, 12, 20)
    truth = (images[:, 0] > 0).long()
    found = tn.shifted(Pixel(), images, truth, [1, 4], (8, 12))
    assert found["same"] == {"1": 1.0, "4": 1.0} and found["first"] == found["moved"]
    assert tn.cropped(Pixel(), images, truth) == {"whole": 1.0, "alone": 1.0}
    # of the 11 and 8 common columns the moved window's first is 1, in the first window all are 0
    found = tn.shifted(AtBorder(), images, truth, [1, 4], (8, 12))
    assert found["same"] == {"1": round(10 / 11, 5), "4": round(7 / 8, 5)}


def test_replicated_borders_tell_nothing_and_learned_positions_do():
    grey = torch.full((1, 3, 96, 128), 0.3, device=tn.DEVICE)
    models = {arm: tn.positioned(arm, 3, 0, 96, 128).eval() for arm in tn.POSITIONS}
    spread = {arm: model(grey).flatten(2).std(2).max().item() for arm, model in models.items()}
    # (of logits of about 1: rounding in float32, or the borders)
    assert spread["replicated borders"] < 1e-5 < 1e-3 < spread["zero padding"]
    assert spread["replicated borders, learned positions"] > 1e-3
    count = {arm: sum(p.numel() for p in model.parameters()) for arm, model in models.items()}
    places = sum(c * 768 // 4**i for i, c in enumerate((32, 64, 160, 256)))
    assert count["replicated borders"] == count["zero padding"]
    assert count["replicated borders, learned positions"] == count["zero padding"] + places
    assert all(model(grey[..., :72, :96]).shape == (1, 3, 72, 96) for model in models.values())


def test_codes_hold_class_and_instance():
    semantic = np.array([[0, 8, 8, 10], [255, 8, 9, 10]], np.uint8)
    instance = np.array([[0, 4, 7, 9], [0, 4, 8, 9]], np.int32)
    codes = mask_training.encoded(semantic, instance)
    assert codes.tolist() == [[0, 11, 12, 171], [255, 11, 91, 171]]
    labels, numbers = mask_training.decoded(torch.from_numpy(codes.astype(np.int64)))
    assert labels.tolist() == semantic.tolist()
    assert numbers.tolist() == [[0, 1, 2, 161], [0, 1, 81, 161]]


def test_connected_parts_and_panoptic_quality_by_hand():
    labels = np.array([[8, 8, 0, 8, 8], [9, 9, 9, 0, 8]], np.uint8)
    parts = mask_training.components(labels, smallest=3)
    assert parts.tolist() == [[0, 0, 0, 1, 1], [2, 2, 2, 0, 1]]
    truth = mask_training.truth_of(labels.astype(int), np.array(parts, int), smallest=4)
    assert truth[0].tolist() == [[8, 8, 0, 255, 255], [255, 255, 255, 0, 255]]
    scores = mask_training.panoptic_scores([(labels, parts)], [(labels, parts)])
    assert scores == {"all": [1.0] * 3, "things": [1.0] * 3, "stuff": [1.0] * 3}


def test_scores_of_the_nearest_by_distance():
    data = tn.NearestScenes(
        np.zeros((2, 8, 40, 3), np.uint8), *(np.zeros((2, 8, 40), np.uint8) for _ in range(2))
    )
    data.instances[:, 2:4, 2:6], data.instances[0, 2:4, 8:12] = 1, 2
    data.instances[1, 2:4, 30:34] = 2
    assert [tn.distance(instances) for instances in data.instances] == [6, 28]

    class Left(torch.nn.Module):  # calls nearest what lies in the first ten columns
        def forward(self, images):
            logits = torch.zeros(len(images), 2, 8, 40, device=images.device)
            logits[:, 1, :, :10], logits[:, 0, :, 10:] = 1, 1
            return logits

    found = tn.nearest_scores(Left(), data, fields=[20])
    assert found["found"] == 1 and found["others"] == 0 and found["exact"] == 1
    data.instances[0, 2:4, 8:12], data.instances[0, 2:4, 6:9] = 0, 2
    found = tn.nearest_scores(Left(), data, fields=[20])
    assert (found["exact"], found["others"], found["scenes"]) == (0.5, 0.5, "01")
    assert found["by_distance"]["0–20"] == {"scenes": 1, "exact": 0.0}
    assert found["by_distance"]["over 20"] == {"scenes": 1, "exact": 1.0}


@pytest.mark.parametrize("name", ["images", "positions", "far", "masks"])
def test_every_run_used_the_learning_rate_that_won_on_dev(name):
    path = EXPERIMENTS.parent / "results" / "experiments" / "07_transformers.json"
    if not path.exists():
        pytest.skip("07_transformers.py has no record yet")
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
    tuning = "tuning" if name == "images" else f"tuning_{name}"
    scores = {}
    for run in parts[tuning]["runs"]:
        assert run["seed"] == 100 and "test" not in run
        arm = run["arm"].rpartition(", lr ")[0]
        scores.setdefault(arm, {})[run["lr"]] = run["dev"].get("miou", run["dev"].get("exact"))
    for run in parts[name]["runs"]:
        found = scores[run["arm"].replace("240 images", "960 images")]
        assert found[run["lr"]] == max(found.values()) and "dev" not in run, run["arm"]
        inside = min(found) < run["lr"] < max(found)
        assert inside or len(found) == len(script.PARTS[tuning].settings["rates"]) + 2
