"""The command line with models of the family: options, pretrained weights, frozen epochs."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models as zoo
from toys import CLASSES, words, write_folder

from seglib.cli.main import main
from seglib.engine.checkpoints import load_checkpoint, load_model, read_content
from seglib.models.pretrained import weights_url

pytestmark = pytest.mark.filterwarnings("ignore:on a feature map of")
BACKBONE = {"backbone": "mobilenet_v3_small", "output_stride": 8, "channels": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pairs"))


def command(folder, out, **more):
    data = {"data": "folder", "root": folder, "classes": ",".join(CLASSES)}
    loop = {"height": 24, "width": 32, "epochs": 2, "batch_size": 2, "out": out}
    net = {"model": "deeplabv3plus", "atrous_rates": "1,2", **BACKBONE}
    return ["train", *words(**{**data, **loop, **net, **more})]


@pytest.mark.slow
def test_train_resume_and_predict_with_pretrained_weights(folder, tmp_path, monkeypatch, capsys):
    offline = Mock(side_effect=OSError("no network"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    out = tmp_path / "run"
    more = {"freeze_epochs": 1, "backbone_lr": 0.0002, "norm": "batch", "aux": "false"}
    train = command(folder, out, pretrained="imagenet", **more)
    assert main(train) == 1
    file = weights_url("mobilenet_v3_small", "IMAGENET1K_V1").rsplit("/", 1)[1]
    assert f"{file} could not be fetched (no network)" in capsys.readouterr().err

    weights = tmp_path / "hub" / "checkpoints" / file
    torch.save(zoo.mobilenet_v3_small().state_dict(), weights)
    assert main(train) == 0
    assert "deeplabv3plus with" in capsys.readouterr().out
    settings = read_content(out / "last.pt")["training"]["settings"]
    assert settings["pretrained"] == "imagenet" and settings["freeze_epochs"] == 1
    weights.unlink()
    assert main([*train, "--resume"]) == 0  # needs no weights but the run's own
    others = {"atrous_rates": (1, 2), "low_channels": 48, "norm": "batch", "aux": False}
    assert load_model(out / "best.pt").options == {**BACKBONE, **others}
    photo = str(folder / "test" / "images" / "009.png")
    assert main(["predict", f"{out}/best.pt", photo, "--out", str(tmp_path / "seen")]) == 0
    assert (tmp_path / "seen" / "009_labels.png").exists()


def test_images_are_normalised_as_timms_backbone_knows_them(folder, tmp_path, monkeypatch):
    out, photo = tmp_path / "run", folder / "test" / "images" / "009.png"
    net = {"model": "fcn32s", "backbone": "timm:tf_efficientnet_lite0", "epochs": 1}
    loop = {"data": "folder", "root": folder, "classes": ",".join(CLASSES), "out": out}
    shape = {"height": 48, "width": 64, "batch_size": 2}
    assert main(["train", *words(**net, **loop, **shape)]) == 0
    found = load_checkpoint(out / "best.pt")
    assert (found.data.mean, found.data.std) == ((0.5,) * 3, (0.5,) * 3)
    assert found.data.size == (48, 64)
    assert main(["predict", str(out / "best.pt"), str(photo), "--out", str(tmp_path)]) == 0
    image = np.asarray(Image.open(photo).resize((64, 48), Image.Resampling.BILINEAR)) / 127.5 - 1
    with torch.no_grad():
        logits = found.model(torch.from_numpy(image).float().movedim(2, 0)[None])
        logits = torch.nn.functional.interpolate(logits, (24, 32), mode="bilinear")
    labels = np.asarray(Image.open(tmp_path / "009_labels.png"))
    assert (logits[0].argmax(0).numpy() == labels).mean() > 0.97  # (Pillow enlarges otherwise)


def test_bad_settings(folder, tmp_path, capsys):
    for name, value, message in (
        ("aux", "yes", "found aux = 'yes', expected true or false"),
        ("atrous_rates", "1,x", "found atrous_rates = 'x', expected a whole number"),
        ("model", "deeplabv4", "no model 'deeplabv4'; did you mean 'deeplabv3'"),
    ):
        assert main(command(folder, tmp_path / "run", **{name: value})) == 1
        assert message in capsys.readouterr().err
