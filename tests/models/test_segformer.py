"""SegFormer: equal to the published design, attention by hand, weights from the hub's cache."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attend

from seglib.models import create_model, freeze, parameter_groups
from seglib.models.hub import hub_weights, segformer_name
from seglib.models.segformer import VARIANTS, Attention, Block, MixFFN

MIT, ADE = "nvidia/mit-b0", "nvidia/segformer-b0-finetuned-ade-512-512"
# of the paper's table 1 in millions for ADE20K; exact by Hugging Face's modules (5.24)
PUBLISHED = {"b0": (3_752_694, 3.8), "b1": (13_715_798, 13.7), "b2": (27_461_974, 27.5)}
PUBLISHED |= {"b3": (47_337_814, 47.3), "b4": (64_108_374, 64.1), "b5": (84_708_694, 84.7)}


def hugging_face(num_classes, variant):
    """Hugging Face's module with random weights of every kind, in float64."""
    transformers = pytest.importorskip("transformers")
    channels, depths, decoder = VARIANTS[variant]
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_labels=num_classes, hidden_sizes=channels, depths=depths, decoder_hidden_size=decoder
    )
    model = transformers.SegformerForSemanticSegmentation(config).double().eval()
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.1)
        elif isinstance(layer, nn.LayerNorm | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    model.decode_head.batch_norm.running_mean.normal_()
    model.decode_head.batch_norm.running_var.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize("variant", ["b0", "b1"])
def test_it_equals_hugging_faces_with_the_weights_that_it_saves(variant, tmp_path):
    theirs = hugging_face(7, variant)
    theirs.save_pretrained(tmp_path)  # under the published names
    from safetensors.torch import load_file

    state = load_file(tmp_path / "model.safetensors")
    ours = create_model("segformer", 7, variant=variant).double().eval()
    ours.load_state_dict({segformer_name(key): value for key, value in state.items()})
    for size in ((64, 64), (96, 128), (97, 131), (33, 65)):
        images = torch.randn(2, 3, *size, dtype=torch.float64)
        with torch.inference_mode():
            expected = F.interpolate(theirs(images).logits, size=size, mode="bilinear")
            torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-10)
            expected = F.interpolate(theirs.float()(images.float()).logits, size, mode="bilinear")
            scale = expected.abs().max()  # so that 1e-5 is relative to logits of any size
            found = ours.float()(images.float())
        torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)
        ours, theirs = ours.double(), theirs.double()


def test_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        for variant, (exact, millions) in PUBLISHED.items():
            model = create_model("segformer", 150, variant=variant)
            assert sum(p.numel() for p in model.parameters()) == exact
            assert round(exact / 1e6, 1) == millions


def test_attention_is_the_softmax_of_dot_products():
    torch.manual_seed(0)
    attention = Attention(8, heads=2, reduction=2).double()
    x = torch.randn(1, 5, 6, 8, dtype=torch.float64)  # the fifth row fills no window of 2×2
    query, key, value = (part.detach() for part in attention.queries_keys_values(x))
    assert query.shape == (1, 2, 30, 4) and key.shape == value.shape == (1, 2, 6, 4)
    mixed = torch.zeros(30, 8, dtype=torch.float64)
    for head in range(2):
        for place in range(30):
            scores = [math.exp(query[0, head, place] @ k / 2) for k in key[0, head]]  # √4 = 2
            parts = [s / sum(scores) * v for s, v in zip(scores, value[0, head], strict=True)]
            mixed[place, 4 * head : 4 * head + 4] = sum(parts)
    expected = attention.project(mixed).reshape(1, 5, 6, 8)
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(attend(query, key, value)[0, 1], mixed[:, 4:], rtol=0, atol=1e-12)


def test_keys_are_means_of_windows_where_the_reduction_averages():
    attention = Attention(4, heads=1, reduction=2)
    nn.init.zeros_(attention.reduce.bias)
    attention.reduce.weight.data.zero_()
    for i in range(4):
        attention.reduce.weight.data[i, i] = 0.25
    x = torch.randn(1, 4, 4, 4)
    _, key, _ = attention.queries_keys_values(x)
    means = F.avg_pool2d(x.permute(0, 3, 1, 2), 2).flatten(2).transpose(1, 2)  # (1, 4, 4)
    torch.testing.assert_close(key[:, 0], attention.key(F.layer_norm(means, (4,))))


def test_the_depthwise_convolution_of_mix_ffn_knows_where_the_border_is():
    torch.manual_seed(0)
    x = torch.ones(1, 5, 5, 4)  # the same everywhere, so only zero padding can tell places apart
    found = MixFFN(4)(x)
    assert torch.allclose(found[:, 1:-1, 1:-1], found[:, 2:3, 2:3])
    assert not torch.allclose(found[:, 0, 0], found[:, 2, 2])


def test_a_dropped_branch_leaves_the_mean_as_it_is():
    torch.manual_seed(0)
    block = Block(4, heads=1, reduction=1, drop=0.25)
    ones = torch.ones(4000, 1, 1, 4)
    found = block._dropped(ones)
    assert found.unique().tolist() == [0, pytest.approx(4 / 3)]
    kept = (found[:, 0, 0, 0] > 0).float().mean()
    assert abs(kept - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 4000)  # five standard errors
    assert torch.equal(block.eval()._dropped(ones), ones)
    drops = [
        part.drop for part in create_model("segformer", 2).modules() if isinstance(part, Block)
    ]
    assert drops == pytest.approx([0.1 * i / 7 for i in range(8)])


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 40), (33, 31)])
def test_small_images_are_labelled_too(size):
    model = create_model("segformer", 3).eval()
    assert model(torch.randn(1, 3, *size)).shape == (1, 3, *size)


def test_the_backbone_freezes_and_learns_at_a_rate_of_its_own():
    model = create_model("segformer", 3, norm="group")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    groups = parameter_groups(model, 1e-3, 1e-4)
    assert [group["lr"] for group in groups] == [1e-3, 1e-4]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    freeze(model.backbone)
    assert {k.split(".")[0] for k, p in model.named_parameters() if p.requires_grad} == {
        *("projections", "fuse", "classifier")
    }


def in_cache(folder, repository, file, state):
    """The hub's cache in `folder` with one file, as huggingface_hub lays it out."""
    place = folder / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "snapshots" / ("0" * 40)).mkdir(parents=True)
    path = place / "snapshots" / ("0" * 40) / file
    if file.endswith(".bin"):
        torch.save(state, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def published(model, backbone_only):
    """Random weights for `model` under the published names."""
    theirs = {segformer_name(name): name for name in names_of_b0()}
    state = {
        theirs[key]: torch.randn_like(v.float())
        for key, v in model.state_dict().items()
        if not backbone_only or key.startswith("backbone.")
    }
    if backbone_only:
        return {
            **state,
            "classifier.weight": torch.zeros(1000, 256),
            "classifier.bias": torch.zeros(1000),
        }
    state["decode_head.batch_norm.num_batches_tracked"] = torch.tensor(3)
    return state


def names_of_b0():
    """The names in the published files of B0, written down independently of the mapping."""
    two = ("weight", "bias")
    for i in range(4):
        yield from (
            f"segformer.encoder.patch_embeddings.{i}.{part}.{kind}"
            for part in ("proj", "layer_norm")
            for kind in two
        )
        yield from (f"segformer.encoder.layer_norm.{i}.{kind}" for kind in two)
        yield from (f"decode_head.linear_c.{i}.proj.{kind}" for kind in two)
        for j in range(2):
            parts = ["layer_norm_1", "layer_norm_2", "attention.output.dense", "mlp.dense1"]
            parts += ["mlp.dense2", "mlp.dwconv.dwconv"]
            parts += [f"attention.self.{part}" for part in ("query", "key", "value")]
            parts += [f"attention.self.{part}" for part in ("sr", "layer_norm") if i < 3]
            yield from (
                f"segformer.encoder.block.{i}.{j}.{part}.{kind}" for part in parts for kind in two
            )
    yield "decode_head.linear_fuse.weight"
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    yield from (f"decode_head.batch_norm.{kind}" for kind in norm)
    yield from (f"decode_head.classifier.{kind}" for kind in two)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_imagenets_weights_come_from_the_hubs_cache(cache, file):
    state = published(create_model("segformer", 3), backbone_only=True)
    in_cache(cache, MIT, file, state)
    model = create_model("segformer", 3, pretrained="imagenet")
    for name, value in state.items():
        if name.startswith("segformer."):
            assert torch.equal(model.state_dict()[segformer_name(name)], value), name


def test_ade20ks_weights_keep_their_head_or_get_a_new_one(cache):
    state = published(create_model("segformer", 150), backbone_only=False)
    in_cache(cache, ADE, "pytorch_model.bin", state)
    whole = create_model("segformer", 150, pretrained="ade20k").state_dict()
    assert all(torch.equal(whole[segformer_name(name)], value) for name, value in state.items())
    fewer = create_model("segformer", 3, pretrained="ade20k").state_dict()
    unlike = {name for name in whole if not torch.equal(whole[name], fewer[name])}
    assert unlike == {"classifier.weight", "classifier.bias"}


def test_weights_that_are_not_there_or_damaged_are_refused(cache):
    with pytest.raises(OSError, match=f"weights of {MIT} could not be fetched .*hf download"):
        create_model("segformer", 3, pretrained="imagenet")
    path = in_cache(cache, MIT, "model.safetensors", {"a": torch.zeros(2)})
    with pytest.raises(ValueError, match="the weights of mit_b0 do not fit: of 192 tensors"):
        create_model("segformer", 3, pretrained="imagenet")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"model.safetensors cannot be read as weights"):
        hub_weights(MIT)
    with pytest.raises(ValueError, match="no ADE20K weights for unet; there are for segformer"):
        create_model("unet", 3, pretrained="ade20k")
    with pytest.raises(ValueError, match="found variant='b9', expected one of b0, b1, b2"):
        create_model("segformer", 3, variant="b9")
    with pytest.raises(ValueError, match="found drop_path=1, expected a probability below 1"):
        create_model("segformer", 3, drop_path=1)
