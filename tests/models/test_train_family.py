"""The command line with models of the family: options, pretrained weights, frozen epochs."""

import pytest
import torch
from test_main import NAMES, write_folder
from torchvision import models as zoo

from seglib.cli.main import main
from seglib.cli.settings import read_settings
from seglib.engine.checkpoints import load_model, read_content
from seglib.models.pretrained import weights_url

pytestmark = pytest.mark.filterwarnings("ignore:on a feature map of")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pairs"))


def flags(folder, **more):
    settings = {
        "data": "folder",
        "root": folder,
        "classes": NAMES,
        "height": 24,
        "width": 32,
        "epochs": 2,
        "batch_size": 2,
        "model": "deeplabv3plus",
        "backbone": "mobilenet_v3_small",
        "atrous_rates": "1,2",
        "channels": 16,
        "output_stride": 8,
        **more,
    }
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


@pytest.mark.slow
def test_train_resume_and_predict_with_pretrained_weights(folder, tmp_path, monkeypatch, capsys):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    out = str(tmp_path / "run")
    words = [
        "train",
        *flags(
            folder,
            pretrained="backbone",
            freeze_epochs=1,
            backbone_lr=0.0002,
            norm="batch",
            aux="false",
        ),
        "--out",
        out,
    ]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "mobilenet_v3_small-047dcff4.pth could not be fetched (no network)" in error

    weights = (
        tmp_path
        / "hub"
        / "checkpoints"
        / weights_url("mobilenet_v3_small", "IMAGENET1K_V1").rsplit("/", 1)[1]
    )
    torch.save(zoo.mobilenet_v3_small().state_dict(), weights)
    assert main(words) == 0
    assert "deeplabv3plus with" in capsys.readouterr().out
    settings = read_content(tmp_path / "run" / "last.pt")["training"]["settings"]
    assert settings["pretrained"] == "backbone" and settings["freeze_epochs"] == 1
    weights.unlink()
    assert main([*words, "--resume"]) == 0  # needs no weights but the run's own
    model = load_model(tmp_path / "run" / "best.pt")
    assert model.options == {
        "backbone": "mobilenet_v3_small",
        "output_stride": 8,
        "atrous_rates": (1, 2),
        "channels": 16,
        "low_channels": 48,
        "norm": "batch",
        "aux": False,
    }
    photo = str(folder / "test" / "images" / "009.png")
    assert main(["predict", f"{out}/best.pt", photo, "--out", str(tmp_path / "seen")]) == 0
    assert (tmp_path / "seen" / "009_labels.png").exists()


def test_another_option_is_named_on_resume(folder, tmp_path, capsys):
    words = ["train", *flags(folder, epochs=1), "--out", str(tmp_path / "run")]
    assert main(words) == 0
    words[words.index("--atrous_rates") + 1] = "1,3"
    assert main([*words, "--resume"]) == 1
    assert "atrous_rates was (1, 2), now it is (1, 3)" in capsys.readouterr().err


def test_a_run_without_pretrained_weights_is_compared_as_before(tmp_path):
    assert "pretrained" not in read_settings(None, {}).compared()
    assert read_settings(None, {"pretrained": "coco"}).compared()["pretrained"] == "coco"


def test_options_from_toml_and_from_flags(tmp_path):
    recipe = tmp_path / "a.toml"
    recipe.write_text('model = "deeplabv3"\natrous_rates = [2, 4, 6]\naux = true\n')
    read = read_settings(recipe, {"backbone": "resnet18"})
    assert read.options == {"atrous_rates": (2, 4, 6), "aux": True, "backbone": "resnet18"}
    read = read_settings(None, {"model": "torchvision:fcn_resnet50", "aux": "False"})
    assert read.options == {"aux": False}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"aux": "yes"}, "found aux = 'yes', expected true or false"),
        ({"atrous_rates": "1,x"}, "found atrous_rates = 'x', expected a whole number"),
        ({"backbones": "resnet18"}, "no setting 'backbones'; did you mean 'backbone'"),
        ({"model": "deeplabv4"}, "no model 'deeplabv4'; did you mean 'deeplabv3'"),
    ],
)
def test_bad_options(given, message):
    with pytest.raises(ValueError, match=message):
        read_settings(None, {"model": "deeplabv3", **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"freeze_epochs": -1}, "found freeze_epochs=-1"),
        ({"pretrained": "imagenet"}, "pretrained='imagenet', expected False"),
        ({"pretrained": "streets"}, "no weights streets_deeplabv3plus.pt"),
    ],
)
def test_bad_settings(folder, tmp_path, capsys, monkeypatch, given, message):
    monkeypatch.setenv("SEGLIB_DATA", str(tmp_path))
    monkeypatch.setattr("seglib.models.pretrained.find_dataset", lambda *a: None)
    assert main(["train", *flags(folder, **given), "--out", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
