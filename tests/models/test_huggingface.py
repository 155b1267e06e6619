"""transformers' networks behind our interface: scores by hand, trained, saved, and refused."""

import copy
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toys import CLASSES, SWIN, TINY, loader, words, write_folder

from seglib.cli.main import main
from seglib.engine.checkpoints import load_model, read_content, save_checkpoint
from seglib.engine.normalisation import normalisation
from seglib.inference import TestTimeAugmentation, photo_logits, predict
from seglib.losses import CrossEntropyLoss, MaskLoss
from seglib.models import create_model, is_model, model_options, parameter_groups
from seglib.models.hub import segformer_name
from seglib.models.huggingface import MASKS, ONE_SIZE, Queries, semantic_logits
from seglib.training import evaluate, fit
from seglib.transforms import IMAGENET_MEAN, IMAGENET_STD, normalise

transformers = pytest.importorskip("transformers")
IMAGENET = IMAGENET_MEAN, IMAGENET_STD
DETR = {"model_type": "detr", "d_model": 16, "encoder_layers": 1, "decoder_layers": 2}
DETR |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 5}
DETR |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
VIT = {"image_size": 64, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
BEIT = VIT | {"intermediate_size": 16, "out_indices": [1, 2, 3, 4]}
CONVNEXT = {"model_type": "convnext", "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 8, 8]}
CONVNEXT |= {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
SEGFORMER = {"hidden_sizes": [8, 16, 20, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}
DPT = {"intermediate_size": 16, "backbone_out_indices": [0, 1, 2, 3], "fusion_hidden_size": 16}
TYPES = {
    "mask2former": TINY,
    "maskformer": {
        "backbone_config": SWIN,
        "decoder_config": DETR,
        "use_auxiliary_loss": True,
        "fpn_feature_size": 32,
        "mask_feature_size": 32,
    },
    "eomt": VIT | {"num_blocks": 2, "num_queries": 5},
    "segformer": SEGFORMER,
    "upernet": {"backbone_config": CONVNEXT, "hidden_size": 16},
    "beit": BEIT,
    "data2vec-vision": BEIT,
    "dpt": {**VIT, **DPT, "neck_hidden_sizes": [8, 16, 16, 16]},
    "mobilenet_v2": {"depth_multiplier": 0.35},
    "mobilevit": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 16, 16, 32]},
}


def tiny(kind="mask2former", num_classes=3):
    torch.manual_seed(0)
    return create_model(f"hf:{kind}", num_classes, config=TYPES[kind])


def batches(length=4, **options):
    return loader(length, 2, height=32, width=48, **options)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_takes_any_size_and_is_saved_with_its_options(kind, tmp_path):
    model = tiny(kind).eval()
    assert is_model(model.name) and model.options == {"config": TYPES[kind]}
    with torch.no_grad():
        for height, width in ((32, 48), (33, 50), (5, 7)):
            images = torch.randn(2, 3, height, width)
            logits = model(images)
            assert logits.shape == (2, 3, height, width) and logits.isfinite().all()
        save_checkpoint(tmp_path / "a.pt", model)
        loaded = load_model(tmp_path / "a.pt")
        assert torch.equal(loaded(images), logits) and loaded.name == f"hf:{kind}"
        assert torch.equal(copy.deepcopy(model)(images), logits)
    assert hasattr(logits, "queries") == (kind in MASKS)
    if model.backbone is None:
        assert kind == "eomt"
        with pytest.raises(ValueError, match="hf:eomt has no backbone"):
            parameter_groups(model, 0.1)
    else:
        head, backbone = parameter_groups(model, 0.1)
        assert head["params"] and backbone["params"]
    if kind in ONE_SIZE:
        with pytest.raises(ValueError, match=r"65×64 pixels, but .* built for 64×64 at most"):
            model(torch.randn(1, 3, 65, 64))


def test_pixels_scores_are_those_of_the_paper():
    torch.manual_seed(1)
    found = Queries(torch.randn(1, 3, 5).double(), torch.randn(1, 3, 2, 4).double(), (16, 16))
    logits = semantic_logits(found, 9, 13)
    chance, masks = found.class_logits[0].softmax(1), found.masks(16, 16)[0].sigmoid()
    masks_at_once = F.interpolate(found.mask_logits, (16, 16), mode="bilinear")[0].sigmoid()
    torch.testing.assert_close(masks, masks_at_once)
    scores = torch.zeros(4, 9, 13, dtype=torch.float64)
    for c in range(4):
        for y in range(9):
            for x in range(13):
                for q in range(3):
                    scores[c, y, x] += chance[q, c] * masks[q, y, x]
    torch.testing.assert_close(logits[0].exp(), scores)
    torch.testing.assert_close(logits[0].softmax(0), scores / scores.sum(0))
    # float32 under autocast; a score of 0 has a finite logarithm
    with torch.autocast("cpu", torch.bfloat16):
        half = Queries(found.class_logits.bfloat16(), found.mask_logits.bfloat16(), (16, 16))
        assert semantic_logits(half, 9, 13).dtype == torch.float32
    nothing = Queries(torch.tensor([[[-200.0, 200]]]), torch.zeros(1, 1, 1, 1), (2, 2))
    assert semantic_logits(nothing, 2, 2).isfinite().all()


def test_its_argmax_is_that_of_transformers():
    torch.manual_seed(0)
    pair = {
        "class_queries_logits": 4 * torch.randn(1, 9, 5),
        "masks_queries_logits": 4 * torch.randn(1, 9, 8, 12),
    }
    process = transformers.Mask2FormerImageProcessor().post_process_semantic_segmentation
    theirs = process(SimpleNamespace(**pair))[0]
    ours = semantic_logits(Queries(*pair.values(), (384, 384)), 384, 384)[0].argmax(0)
    assert (theirs == ours).float().mean() > 0.999 and len(ours.unique()) > 1  # (but for ties)


def test_segformer_equals_ours(tmp_path):
    torch.manual_seed(0)
    theirs, ours = create_model("hf:segformer", 5).eval(), create_model("segformer", 5).eval()
    theirs.network.save_pretrained(tmp_path)  # under the published names
    from safetensors.torch import load_file

    state = load_file(tmp_path / "model.safetensors")
    ours.load_state_dict({segformer_name(key): value for key, value in state.items()})
    with torch.no_grad():
        for size in ((33, 65), (64, 48)):
            images = torch.randn(1, 3, *size)
            expected = theirs(images)
            scale = expected.abs().max()
            torch.testing.assert_close(ours(images) / scale, expected / scale, rtol=0, atol=1e-5)
            assert theirs.backbone is theirs.network.segformer


def trained(model, out=None, **options):
    settings = {"epochs": 2, "lr": 3e-3, "out": out, "channels_last": False, **options}
    train = batches(6, shuffle=True, seed=1)
    return fit(model, train, settings.pop("val", batches(2)), **settings).rows


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 8, "schedule": "constant"},
        {"amp": "bf16", "accumulate": 2},
        {"ema": 0.5},
        {"backbone_lr": 1e-4, "freeze_epochs": 1},
        {"loss": CrossEntropyLoss()},
    ],
    ids=lambda options: " ".join(options),
)
def test_it_learns_by_its_own_loss(options, tmp_path):
    model = tiny()
    rows = trained(model, tmp_path, **options)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    # val_loss is that of the weights that are kept, by their own queries
    criterion, (images, target) = options.get("loss") or MaskLoss(), next(iter(batches(2)))
    with torch.no_grad():
        loss = criterion(model.eval()(images), target)
    close = 2**-8 * 8 if "amp" in options else 1e-5  # (bfloat16 is rounded to 2⁻⁸)
    assert rows[-1]["val_loss"] == pytest.approx(loss.item(), rel=close)
    again = evaluate(model, batches(2), amp=options.get("amp"))
    assert again.miou == pytest.approx(rows[-1]["val_miou"], abs=1e-6)
    state = read_content(tmp_path / "last.pt")["state"]
    assert set(state) == set(model.state_dict())


def test_a_run_that_was_stopped_goes_on_as_if_it_was_not(tmp_path):
    whole, stopped = tiny(), tiny()
    rows = trained(whole, tmp_path / "a", ema=0.5)

    def stop(model, row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(stopped, tmp_path / "b", ema=0.5, on_epoch=stop)
    again = trained(tiny(), tmp_path / "b", ema=0.5, resume=True)
    for key in ("train_loss", "val_loss", "val_miou"):
        assert [row[key] for row in again] == [row[key] for row in rows]
    for name, value in load_model(tmp_path / "b" / "last.pt").state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])
    with pytest.raises(ValueError, match=r"cannot resume .*: loss was 'MaskLoss"):
        trained(tiny(), tmp_path / "b", ema=0.5, resume=True, loss=CrossEntropyLoss())


def test_it_serves_wherever_a_model_does(tmp_path):
    model = tiny().eval()
    image, _ = batches().dataset.read(0)
    assert predict(model, image, (32, 48)).shape == (24, 32)
    averaged = TestTimeAugmentation(model)
    assert evaluate(averaged, batches(2)).miou >= 0
    with pytest.raises(ValueError, match="carry no queries"):
        MaskLoss()(averaged(torch.randn(1, 3, 32, 48)), torch.zeros(1, 32, 48).long())
    # a checkpoint as a start, with a head for other classes
    save_checkpoint(tmp_path / "a.pt", model)
    other = create_model("hf:mask2former", 7, pretrained=tmp_path / "a.pt")
    assert other.network.class_predictor.out_features == 8 and other.num_classes == 7
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]) or "class_predictor" in name


def test_the_command_line_trains_it_from_a_recipe_or_flags(tmp_path, capsys):
    folder, out = write_folder(tmp_path / "pairs"), tmp_path / "run"
    data = {"data": "folder", "root": folder, "classes": ",".join(CLASSES)}
    loop = {"height": 32, "width": 48, "epochs": 1, "batch_size": 3}
    command = ["train", *words(model="hf:mask2former", out=out, **data, **loop)]
    assert main([*command, "--config", json.dumps(TINY)]) == 0
    settings = read_content(out / "last.pt")["training"]["settings"]
    assert settings["config"] == TINY and settings["loss"].startswith("MaskLoss")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[config]\nnum_querys = 3\n")
    assert main([*command, str(recipe)]) == 1
    assert "no entry 'num_querys'; did you mean 'num_queries'" in capsys.readouterr().err
    for more, message in (
        (["--config", "3,4"], "found config = '3,4', expected a table"),
        (["--class_weights", "median"], "the loss 'mask' has no class_weights"),
        (["--pretrained", "imagenet"], "pretrained='imagenet' for hf:mask2former, but \"hub\""),
    ):
        given = [] if "--config" in more else ["--config", json.dumps(TINY)]
        assert main([*command[:-2], *command[-2:], *given, *more]) == 1
        assert message in capsys.readouterr().err


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub with one repository, written as it would be fetched."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)

    def put(model, name="someone/masks"):
        model.network.save_pretrained(tmp_path / name)  # (transformers takes a folder for one)
        return name

    return put


def test_published_weights(hub):
    torch.manual_seed(0)
    config = transformers.Mask2FormerConfig(**copy.deepcopy(TINY), num_labels=4)
    before = create_model("hf:mask2former", 4, config=TINY)
    before.network.config = config
    name = hub(before)
    same = create_model(f"hf:{name}", 4, pretrained="hub").eval()
    assert same.name == "hf:mask2former" and model_options(same.name) == {"config": None}
    for key, value in before.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
    rebuilt = create_model(same.name, 4, **same.options).eval()  # without the repository
    rebuilt.load_state_dict(same.state_dict())
    images = torch.randn(1, 3, 33, 48)
    with torch.no_grad():
        assert torch.equal(rebuilt(images), same(images))
    fewer = create_model(f"hf:{name}", 2, pretrained="hub").state_dict()
    unlike = [k for k, v in before.state_dict().items() if not torch.equal(v, fewer[k])]
    assert unlike == ["network.class_predictor.weight", "network.class_predictor.bias"]
    fresh = create_model(f"hf:{name}", 4).state_dict()
    assert not torch.equal(fresh[unlike[0]], before.state_dict()[unlike[0]])
    with pytest.raises(ValueError, match=r"weights of someone/masks do not fit .*leave config out"):
        create_model(f"hf:{name}", 4, pretrained="hub", config={"num_queries": 6})
    with pytest.raises(ValueError, match=r"do not fit .*queries"):  # (3 rows, as heads of 2 have)
        create_model(f"hf:{name}", 2, pretrained="hub", config={"num_queries": 3})
    assert create_model(f"hf:{name}", 4, pretrained="hub").network.training


@pytest.mark.parametrize("kind", TYPES)
def test_another_number_of_classes_gets_a_new_head(kind, hub):
    before = tiny(kind)
    fewer = create_model(f"hf:{hub(before)}", 2, pretrained="hub").state_dict()
    unlike = [k for k, v in before.state_dict().items() if not torch.equal(v, fewer[k])]
    assert {fewer[k].shape[0] for k in unlike} == {2 + (kind in MASKS)}
    assert all(k.endswith((".weight", ".bias")) for k in unlike) and len(unlike) <= 4


@pytest.mark.parametrize("kind", ["Beit", "MobileViT", "Segformer", "MobileNet_V2"])
def test_images_are_normalised_as_the_repository_says(kind, hub, tmp_path):
    model = tiny(kind.lower())
    for parameter in model.parameters():  # (some start with logits that no image changes)
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    name = hub(model)
    assert normalisation(create_model(f"hf:{name}", 3, pretrained="hub")) == IMAGENET
    theirs = transformers.AutoImageProcessor.from_pretrained
    text = {"image_processor_type": f"{kind.replace('_', '')}ImageProcessor"}
    if kind == "Segformer":  # (of pixels from 0 to 255)
        text |= {"do_rescale": False, "image_mean": [100, 110, 120], "image_std": [50, 60, 70]}
    (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(text), encoding="utf-8")
    ours = create_model(f"hf:{name}", 3, pretrained="hub").eval()
    image = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    ready = theirs(name)(image, do_resize=False, do_center_crop=False, return_tensors="pt")
    with torch.no_grad():
        expected = model.eval().network(ready["pixel_values"].float()).logits
        found = ours.network(normalise(image, *normalisation(ours))[None]).logits
    scale = expected.std().item()
    near = {"rtol": 1e-4, "atol": 1e-4 * scale}  # rounding; another mean moves more, see below
    torch.testing.assert_close(found, expected, **near)
    save_checkpoint(tmp_path / "a.pt", ours)
    again = create_model(ours.name, 2, pretrained=tmp_path / "a.pt")
    loaded = load_model(tmp_path / "a.pt")
    assert normalisation(again) == normalisation(loaded) == normalisation(ours)
    scores = photo_logits(loaded, image)
    known = photo_logits(ours, image, None, *normalisation(ours))
    torch.testing.assert_close(scores, known, **near)
    assert (scores - photo_logits(ours, image, None, *IMAGENET)).std() > 1e-2 * scale


def test_a_run_from_the_hub_goes_on_with_its_normalisation(hub, tmp_path):
    name, out = hub(tiny("beit")), tmp_path / "run"
    (tmp_path / name / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "BeitImageProcessor"})
    )
    folder = write_folder(tmp_path / "pairs")
    data = {"data": "folder", "root": folder, "classes": ",".join(CLASSES)}
    command = ["train", *words(model=f"hf:{name}", pretrained="hub", out=out, **data)]
    command += words(height=32, width=48, epochs=1, batch_size=3)
    assert main(command) == 0
    assert main([*command, "--resume"]) == 0
    content = read_content(out / "last.pt")
    assert content["mean"] == content["std"] == (0.5,) * 3


def test_what_a_repository_does_not_say_is_told_from_what_is_out_of_reach(monkeypatch, tmp_path):
    """As the hub's cache has it: files, or a note that the repository lacks one."""
    name, commit = "someone/beit", "0" * 40
    cache = tmp_path / "models--someone--beit"
    (cache / "snapshots" / commit).mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path), raising=False)
    tiny("beit").network.save_pretrained(cache / "snapshots" / commit)
    with pytest.raises(OSError, match=f"preprocessing of {name} could not .*hf download"):
        create_model(f"hf:{name}", 3, pretrained="hub")
    for file in ("preprocessor_config.json", "processor_config.json"):
        (cache / ".no_exist" / commit).mkdir(parents=True, exist_ok=True)
        (cache / ".no_exist" / commit / file).touch()
    assert normalisation(create_model(f"hf:{name}", 3, pretrained="hub")) == IMAGENET
    (cache / ".no_exist" / commit / "preprocessor_config.json").unlink()
    said = {"image_processor_type": "NoSuchImageProcessor", "image_mean": 0.5, "image_std": 0.25}
    (cache / "snapshots" / commit / "preprocessor_config.json").write_text(json.dumps(said))
    known = normalisation(create_model(f"hf:{name}", 3, pretrained="hub"))
    assert known == ((0.5,) * 3, (0.25,) * 3)


def test_bad_names_and_options(monkeypatch):
    for name, options, message in (
        ("hf:mask2fromer", {}, "no model 'hf:mask2fromer'; did you mean 'mask2former'"),
        ("hf:bert", {}, "no model 'hf:bert'"),
        ("hf:mask2former", {"config": {"num_query": 3}}, "did you mean 'num_queries'"),
        ("hf:mask2former", {"config": {"num_labels": 3}}, "leave num_labels out"),
        (
            "hf:mask2former",
            {"config": {"no_object_weight": 0.4}},
            "belongs to the loss, as MaskLoss",
        ),
        (
            "hf:mask2former",
            {"config": {"backbone_config": {"model_type": "swin", "embed_dims": 3}}},
            r"configuration of backbone_config \(swin\) has no entry 'embed_dims'; did you mean",
        ),
        (
            "hf:mask2former",
            {"config": {"backbone_config": {"model_type": "swim"}}},
            "no model_type 'swim'; did you mean 'swin'",
        ),
        ("hf:segformer", {"configs": {}}, "hf:segformer has no option 'configs'"),
        ("hf:segformer", {"pretrained": "imagenet"}, "go together"),
        ("unet", {"pretrained": "hub"}, "'hub' for unet.* go together"),
        ("hf:segformer", {"pretrained": "hub"}, "needs a repository"),
    ):
        with pytest.raises(ValueError, match=message):
            create_model(name, 4, **options)
    with pytest.raises(ValueError, match=r"hf:segformer has no queries; mask2former"):
        tiny("segformer").queries(torch.randn(1, 3, 32, 32))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"configuration of no/one could not .*`hf download no/one`"):
        create_model("hf:no/one", 4)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'every-pixel\[hub\]'"):
        create_model("hf:mask2former", 4)
