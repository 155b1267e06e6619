"""Networks of segmentation_models_pytorch, with random weights (skipped where it is missing)."""

import sys
from unittest.mock import Mock

import pytest
import torch

from seglib.engine.checkpoints import load_model, save_checkpoint
from seglib.models import create_model, model_options, parameter_groups

NAME = "smp:unet/resnet18"
smp = pytest.importorskip("segmentation_models_pytorch")


def test_an_smp_network(tmp_path):
    torch.manual_seed(0)
    model = create_model(NAME, 4).eval()
    theirs = smp.create_model("unet", "resnet18", encoder_weights=None, classes=4).eval()
    theirs.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        x = torch.randn(1, 3, 32, 64)
        torch.testing.assert_close(model(x), theirs(x))
        odd = torch.randn(2, 3, 33, 50)
        assert model(odd).shape == (2, 4, 33, 50)
        save_checkpoint(tmp_path / "a.pt", model)
        torch.testing.assert_close(load_model(tmp_path / "a.pt")(odd), model(odd))
    head, backbone = parameter_groups(model, 0.1)
    assert len(backbone["params"]) == len(list(theirs.encoder.parameters()))
    assert len(head["params"]) + len(backbone["params"]) == len(list(theirs.parameters()))


def test_its_encoder_is_fetched_with_weights(monkeypatch):
    offline = Mock(side_effect=ConnectionError("no route to host"))
    monkeypatch.setattr(smp.encoders, "hf_hub_download", offline)
    with pytest.raises(OSError, match=r"resnet18 could not .*download smp-hub/resnet18\.imagenet"):
        create_model(NAME, 4, pretrained="imagenet")
    torch.manual_seed(1)
    trained, asked = smp.encoders.get_encoder("resnet18", weights=None), []
    whole = smp.Unet("resnet18", encoder_weights=None, classes=4)
    fetch = lambda name, depth, weights: asked.append((name, depth, weights)) or trained  # noqa: E731
    monkeypatch.setattr(smp.encoders, "get_encoder", fetch)
    monkeypatch.setattr(smp, "create_model", lambda *a, **k: whole)
    model = create_model(NAME, 4, pretrained="imagenet")
    assert asked == [("resnet18", 5, "imagenet")]
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key])


def test_bad_names_and_a_missing_package(monkeypatch):
    for name, message in (
        ("smp:unett/resnet18", "no decoder 'unett'; did you mean 'unet'"),
        ("smp:unet/resnet19", r"no encoder 'resnet19'; did you mean 'resnet1.*\(it knows"),
        ("smp:unet/", "expected smp:DECODER/ENCODER"),
    ):
        with pytest.raises(ValueError, match=message):
            create_model(name, 4)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ValueError, match=r"pip install 'every-pixel\[hub\]'"):
        create_model(NAME, 4)
    assert model_options(NAME) == {}
