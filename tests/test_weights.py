"""The checkpoints that the course carries: what they have seen, their scores, how they are made."""

import ast
import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import torch
import workbook

from seglib.course.transformers import (
    called_nearest,
    nearest_input,
    nearest_network,
    nearest_scenes,
)
from seglib.data import Streets, make_loader
from seglib.engine.checkpoints import load_checkpoint
from seglib.engine.normalisation import normalisation
from seglib.models import create_model
from seglib.models.pretrained import CARRIED
from seglib.training import evaluate
from seglib.transforms import eval_transform

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "data" / "weights"
CARDS = {
    kind: json.loads((WEIGHTS / f"{kind.replace('+', '_')}_deeplabv3plus.json").read_text("utf-8"))
    for kind in CARRIED
}
each = pytest.mark.parametrize(("kind", "card"), CARDS.items(), ids=str)


@pytest.fixture(scope="module")
def pretrain():
    """The command data/pretrain.py as a module."""
    spec = importlib.util.spec_from_file_location("pretrain", ROOT / "data" / "pretrain.py")
    module = sys.modules["pretrain"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each
def test_the_manifest_belongs_to_the_file_and_no_scene_of_streets_and_no_night_was_seen(kind, card):
    file = WEIGHTS / card["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card["sha256"]
    assert file.stat().st_size <= 8_000_000
    scenes = card["scenes"]
    seen = range(scenes["first_seed"], scenes["first_seed"] + scenes["count"])
    embedded = {seed for split in Streets.SEEDS.values() for seed in split}
    assert embedded and not embedded & set(seen)
    assert scenes["light"] == "day" and scenes["times_seen"] == 1


def test_lesson_7s_network_is_the_recorded_one():
    card = json.loads((WEIGHTS / "nearest_attention.json").read_text("utf-8"))
    file, named = WEIGHTS / card["file"], card["record"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card["sha256"]
    path = ROOT / "results" / "experiments" / f"{named['experiment']}.json"
    runs = json.loads(path.read_text("utf-8"))["parts"][named["part"]]["runs"]
    chosen = [r for r in runs if (r["arm"], r["seed"]) == (named["arm"], named["seed"])]
    assert [run["test"]["exact"] for run in chosen] == [card["exact"]]
    network, scenes = nearest_network(), nearest_scenes(range(70_000, 70_040))
    with torch.inference_mode():
        called = called_nearest(network(nearest_input(scenes.images)), scenes.instances)
    mine = [first and not any(others) for first, *others in called]
    theirs = [flag == "1" for flag in chosen[0]["test"]["scenes"][: len(mine)]]
    same = sum(a == b for a, b in zip(mine, theirs, strict=True))
    assert len(mine) > 30 and same >= len(mine) - 2  # (a half may turn in half precision)


def test_no_seed_of_the_course_was_seen():
    """Whatever is rendered to be scored on, or trained on by night, has seeds far below."""
    first = min(card["scenes"]["first_seed"] for card in CARDS.values())
    scripts = [*(ROOT / "experiments").glob("*.py"), *(ROOT / "seglib").rglob("*.py")]
    nodes = [node for path in scripts for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    arguments = [a for call in calls if ast.unparse(call.func) == "range" for a in call.args]
    numbers = [a.value for a in arguments if isinstance(a, ast.Constant)]
    for path in workbook.originals(ROOT / "notebooks"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        numbers += [int(n.replace("_", "")) for n in re.findall(r"range\(([\d_]+)", text)]
    assert len(numbers) > 10 and max(numbers) < first


@each
def test_the_manifest_is_what_the_script_does(kind, card, pretrain):
    training, start = card["training"], pretrain.STARTS[kind]
    assert card["options"] == json.loads(json.dumps(start.options))
    assert card["scenes"]["count"] == start.scenes
    assert card.get("imagenet", False) == start.imagenet
    assert training.get("backbone_lr") == start.backbone_lr
    seen = (card["scenes"]["first_seed"], card["scenes"]["light"])
    assert seen == (pretrain.FIRST_SEED, pretrain.LIGHT)
    for key, value in {**pretrain.TRAINING, **pretrain.AUGMENTATION}.items():
        assert training[key] == (list(value) if isinstance(value, tuple) else value), key
    assert training["steps"] * training["batch_size"] <= card["scenes"]["count"]
    told = (WEIGHTS / card["file"]).with_suffix(".md").read_text(encoding="utf-8")
    begun = "ImageNet's weights" if start.imagenet else "random weights"
    assert told == pretrain.card(card) and f'pretrained="{kind}"' in told and begun in told


@each
def test_weights_are_stored_in_half_precision_and_used_in_single(kind, card):
    file = WEIGHTS / card["file"]
    state = torch.load(file, weights_only=True)["state"]
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    model = create_model("deeplabv3plus", 11, pretrained=kind)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(p.numel() for p in model.parameters()) == card["parameters"]
    data = load_checkpoint(file).data
    assert data.classes == Streets("test").classes
    assert list(data.size) == card["training"]["size"]
    assert (data.mean, data.std) == normalisation(model)

    # and it scores what its card says
    transform = eval_transform(96, 128, data.mean, data.std)
    test = make_loader(Streets("test", transform=transform), 20)
    assert evaluate(model, test).miou == pytest.approx(card["scores"]["day 96×128"], abs=0.003)


@pytest.mark.parametrize("stride, rates", [(8, (2, 4, 6)), (32, (1, 2, 3))])
def test_stride_and_rates_may_be_others(stride, rates):
    """No weight depends on them: at stride 8 each meets the same pixels as at 16."""
    options = {"output_stride": stride, "atrous_rates": rates}
    plain = create_model("deeplabv3plus", 11, pretrained="streets")
    other = create_model("deeplabv3plus", 11, pretrained="streets", **options)
    assert other.options == {**plain.options, **options}
    for key, value in plain.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    with pytest.raises(ValueError, match=r"found atrous_rates=\(1, 2\), but .* trained with"):
        create_model("deeplabv3plus", 11, pretrained="streets", atrous_rates=(1, 2))


def test_every_epoch_has_other_scenes(pretrain):
    sampler = pretrain.FreshScenes(scenes=45, epochs=4, seed=0)
    seen = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert [key.epoch for key in keys] == [epoch] * 11
        assert sorted(keys) != keys  # shuffled
        seen += keys
    assert sorted(seen) == list(range(44))


@pytest.mark.slow
def test_a_small_run_writes_all_and_resumes(tmp_path, monkeypatch, pretrain):
    render = pretrain.RenderedStreets

    def few(seeds, *args, **settings):
        """All scenes to train on, six to be scored on in other light."""
        return render(seeds if seeds.start >= pretrain.FIRST_SEED else seeds[:6], *args, **settings)

    monkeypatch.setattr(pretrain, "RenderedStreets", few)
    monkeypatch.setattr(pretrain, "SCORED_AT", ((64, 96),))
    monkeypatch.setattr(pretrain, "EPOCHS", 2)
    words = f"pretrain.py --scenes 64 --workers 0 --out {tmp_path / 'out'} --run {tmp_path / 'run'}"
    monkeypatch.setattr(sys, "argv", words.split())
    pretrain.main()
    card = json.loads((tmp_path / "out" / "streets_deeplabv3plus.json").read_text("utf-8"))
    assert card["scenes"]["count"] == 64 and card["training"]["steps"] == 4
    assert set(card["scores"]) == {f"{light} 64×96" for light in ("day", "dusk", "night", "rain")}
    model = load_checkpoint(tmp_path / "out" / card["file"]).model
    assert sum(p.numel() for p in model.parameters()) == card["parameters"]
    assert "4 steps of 16" in (tmp_path / "out" / "streets_deeplabv3plus.md").read_text("utf-8")

    start = pretrain.STARTS["streets"]
    again = pretrain.train(start, 64, 0, tmp_path / "run")  # nothing is left to train
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-6)
