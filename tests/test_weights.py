"""The checkpoint that the course carries: what it has seen, what it scores, and how it is made."""

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

from seglib.data import Streets, make_loader
from seglib.engine.checkpoints import load_checkpoint
from seglib.models import create_model
from seglib.training import evaluate
from seglib.transforms import eval_transform

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "data" / "weights"
CARD = json.loads((WEIGHTS / "streets_deeplabv3plus.json").read_text(encoding="utf-8"))
FILE = WEIGHTS / CARD["file"]


@pytest.fixture(scope="module")
def pretrain():
    """The command data/pretrain.py as a module."""
    spec = importlib.util.spec_from_file_location("pretrain", ROOT / "data" / "pretrain.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_manifest_belongs_to_the_file_and_no_scene_of_streets_and_no_night_was_seen():
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == CARD["sha256"]
    assert FILE.stat().st_size <= 8_000_000
    scenes = CARD["scenes"]
    seen = range(scenes["first_seed"], scenes["first_seed"] + scenes["count"])
    embedded = {seed for split in Streets.SEEDS.values() for seed in split}
    assert embedded and not embedded & set(seen)
    assert scenes["light"] == "day" and scenes["times_seen"] == 1


def test_no_seed_of_the_course_was_seen():
    """Whatever is rendered to be scored on, or trained on by night, has seeds far below."""
    first = CARD["scenes"]["first_seed"]
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


def test_the_manifest_is_what_the_script_does(pretrain):
    training = CARD["training"]
    assert CARD["options"] == json.loads(json.dumps(pretrain.STARTS["streets"].options))
    seen = (CARD["scenes"]["first_seed"], CARD["scenes"]["light"])
    assert seen == (pretrain.FIRST_SEED, pretrain.LIGHT)
    for key, value in {**pretrain.TRAINING, **pretrain.AUGMENTATION}.items():
        assert training[key] == (list(value) if isinstance(value, tuple) else value), key
    assert training["steps"] * training["batch_size"] <= CARD["scenes"]["count"]
    told = FILE.with_suffix(".md").read_text(encoding="utf-8")
    assert told == pretrain.card(CARD) and 'pretrained="streets"' in told and "random" in told
    told = pretrain.card({**CARD, "file": "imagenet_streets_deeplabv3plus.pt", "imagenet": True})
    assert 'pretrained="imagenet+streets"' in told and "From\nImageNet's weights" in told


def test_weights_are_stored_in_half_precision_and_used_in_single():
    state = torch.load(FILE, weights_only=True)["state"]
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    model = create_model("deeplabv3plus", 11, pretrained="streets")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(p.numel() for p in model.parameters()) == CARD["parameters"]
    checkpoint = load_checkpoint(FILE)
    assert checkpoint.data.classes == Streets("test").classes
    assert list(checkpoint.data.size) == CARD["training"]["size"]

    # and it scores what its card says
    test = make_loader(Streets("test", transform=eval_transform(96, 128)), 20)
    assert evaluate(model, test).miou == pytest.approx(CARD["scores"]["day 96×128"], abs=0.003)


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

    again = pretrain.train(
        pretrain.STARTS["streets"], 64, 0, tmp_path / "run"
    )  # nothing is left to train
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-6)
