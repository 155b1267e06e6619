"""Networks of Hugging Face's transformers behind our interface: models named "hf:…".

A network of *mask classification* (MaskFormer, Cheng et al., 2021, arXiv:2107.06278; Mask2Former,
2022, arXiv:2112.01527) gives a set of queries, each with a class, or "no object", and a mask.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.util.suggest import did_you_mean

MASKS = ("mask2former", "maskformer", "eomt")  # the types that classify masks
ONE_SIZE = ("beit", "data2vec-vision", "dpt", "eomt")  # that take config["image_size"] only
OURS = {  # entries of a configuration that follow from num_classes, or that are of no use here
    *("num_labels", "id2label", "label2id", "model_type", "architectures", "transformers_version"),
    *("dtype", "torch_dtype", "_name_or_path", "name_or_path", "return_dict"),
}


OF_THE_LOSS = {  # entries for their own loss, of which `MaskLoss` knows nothing
    *("class_weight", "mask_weight", "dice_weight", "cross_entropy_weight", "no_object_weight"),
    *("ignore_value", "train_num_points", "oversample_ratio", "importance_sample_ratio"),
}


@dataclass(frozen=True)
class Queries:
    """What a network says of N images by Q queries, each with a class and a mask.

    `class_logits` are (N, Q, C + 1), the last for "no object"; `mask_logits` (N, Q, h, w) cover
    `size` = (height, width) pixels, of which an image is the upper left part. `auxiliary` holds
    such pairs (class_logits, mask_logits) from the decoder's earlier layers.
    """

    class_logits: Tensor
    mask_logits: Tensor
    size: tuple[int, int]
    auxiliary: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def masks(self, height: int, width: int) -> Tensor:
        """The mask logits of the images' pixels, enlarged bilinearly: float32 (N, Q, H, W)."""
        logits = self.mask_logits.to(torch.promote_types(self.mask_logits.dtype, torch.float32))
        return F.interpolate(logits, self.size, mode="bilinear")[..., :height, :width]


def semantic_logits(queries: Queries, height: int, width: int) -> Tensor:
    """Logits (N, C, H, W) from queries: log Σ_q softmax(class)[q, c] · sigmoid(mask)[q].

    "No object" is left out behind the softmax, as in the papers' code, so the argmax is theirs;
    softmax over the classes gives scores that add up to 1. In float32 also under autocast.
    """
    with torch.autocast(queries.class_logits.device.type, enabled=False):
        masks = queries.masks(height, width).sigmoid()  # (N, Q, H, W)
        chance = queries.class_logits.to(masks.dtype).softmax(-1)[..., :-1]  # (N, Q, C)
        scores = torch.einsum("nqc,nqhw->nchw", chance, masks)
        return scores.clamp(min=torch.finfo(torch.float32).tiny).log()


class HuggingFaceModel(nn.Module):
    """transformers' network `which`: images (N, 3, H, W) -> logits (N, num_classes, H, W).

    `which` is a type of theirs: "mask2former", "maskformer" or "eomt", or one for semantic
    segmentation, such as "segformer", "upernet", "beit" or "dpt". Or it is a repository on the hub,
    as "facebook/mask2former-swin-tiny-ade-semantic", whose configuration is read from the hub's
    cache or fetched. `config` holds what differs from the type's configuration, or from the
    repository's; a nested one, such as backbone_config, from that of its own model_type. The
    weights are random until `load_hub`.

    The logits of types that classify masks have an attribute more, `queries`, which `MaskLoss` and
    `predict_panoptic` read. Images are padded by their border to multiples of 32 (for `ONE_SIZE` to
    config["image_size"]), and the logits cut.

    >>> backbone = {"model_type": "swin", "embed_dim": 24, "depths": [1, 1, 2, 1], "window_size": 4}
    >>> backbone |= {"num_heads": [1, 2, 4, 8], "out_features": [f"stage{i}" for i in range(1, 5)]}
    >>> config = {"backbone_config": backbone, "num_queries": 20, "decoder_layers": 4}
    >>> config |= {"feature_size": 64, "mask_feature_size": 64, "hidden_dim": 64}
    >>> config |= {"num_attention_heads": 4, "encoder_layers": 2, "encoder_feedforward_dim": 128}
    >>> model = HuggingFaceModel("mask2former", 11, config | {"dim_feedforward": 128})
    >>> round(sum(p.numel() for p in model.parameters()) / 1e6, 1)
    1.1

    Raises ValueError for an unknown type or entry of `config`; OSError if the configuration can
    neither be found nor fetched.
    """

    def __init__(
        self, which: str, num_classes: int, config: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.repository = which if "/" in which else None
        kind, changes = _published(which) if self.repository else (which, {})
        changes = copy.deepcopy({**changes, **(config or {})})
        self.config = _configured(kind, num_classes, changes)
        self.network: Any = getattr(_transformers(), _known()[kind])(self.config)
        self.network.criterion = None  # (theirs counts void as outside of every mask)
        self.name, self.num_classes = f"hf:{kind}", num_classes
        self.options = {"config": changes}
        self.kind, self.classifies_masks = kind, kind in MASKS

    @property
    def backbone(self) -> nn.Module | None:
        """The part that a classifier would share; None if the network has no such part."""
        if self.kind in ("mask2former", "maskformer"):
            return self.network.model.pixel_level_module.encoder
        base = getattr(self.network, "backbone", self.network.base_model)
        return None if base is self.network else base

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.classifies_masks:
            queries = self.queries(images)
            logits: Any = semantic_logits(queries, height, width)
            logits.queries = queries
            return logits
        x = self._padded(images)
        logits = self.network(x).logits  # (N, C, h, w)
        return F.interpolate(logits, x.shape[-2:], mode="bilinear")[..., :height, :width]

    def queries(self, images: Tensor) -> Queries:
        """What the network says by queries; ValueError if it scores pixels instead."""
        if not self.classifies_masks:
            raise ValueError(f"{self.name} has no queries; {' and '.join(MASKS)} have")
        x, more = self._padded(images), {}
        if self.kind != "eomt":  # (which gives its last layer only)
            more = {"output_auxiliary_logits": True, "output_hidden_states": True}
        found = self.network(x, **more)
        earlier = found.auxiliary_logits if more and self.config.use_auxiliary_loss else ()
        return Queries(
            found.class_queries_logits,
            found.masks_queries_logits,
            (x.shape[-2], x.shape[-1]),
            [(pair["class_queries_logits"], pair["masks_queries_logits"]) for pair in earlier],
        )

    def _padded(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.kind in ONE_SIZE:
            side = self.config.image_size
            if max(height, width) > side:
                raise ValueError(
                    f"found images of {height}×{width} pixels, but {self.name} is built for "
                    f'{side}×{side} at most; pass config={{"image_size": …}}, or predict with a '
                    "smaller size"
                )
            missing = (0, side - width, 0, side - height)
        elif self.kind == "segformer":  # (takes any size from 32 up)
            missing = (0, max(0, 32 - width), 0, max(0, 32 - height))
        else:
            missing = (0, -width % 32, 0, -height % 32)
        return F.pad(images, missing, mode="replicate") if any(missing) else images

    def load_hub(self) -> None:
        """Fill in the repository's weights; its head only if that has as many classes.

        ValueError if anything else does not fit, or without a repository; OSError if the weights
        can neither be found nor fetched.
        """
        if self.repository is None:
            raise ValueError(
                f'pretrained="hub" needs a repository, as in "hf:OWNER/REPOSITORY", not {self.name}'
            )
        try:
            network, told = type(self.network).from_pretrained(
                self.repository,
                config=self.config,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except Exception as error:  # of transformers, and of the library it fetches with
            raise _not_fetched(self.repository, "weights", error) from error
        heads = [(tuple(a), tuple(b)) for _, a, b in told["mismatched_keys"]]
        rows = self.num_classes + self.classifies_masks
        wrong = [f"{a} for {b}" for a, b in heads if a[1:] != b[1:] or b[0] != rows]
        wrong += [k for k in told["missing_keys"] if not k.startswith("criterion.")]
        if wrong:
            raise ValueError(
                f"the weights of {self.repository} do not fit {self.name}: {', '.join(wrong[:3])}"
                f"{', …' if len(wrong) > 3 else ''}; leave config out"
            )
        network.criterion = None
        self.network = network


def _configured(kind: str, num_classes: int, changes: Mapping[str, Any]) -> Any:
    """The configuration of type `kind` with these changes; ValueError for unknown ones."""
    known = _known()
    if kind not in known:
        raise ValueError(f"there is no model 'hf:{kind}'{did_you_mean(kind, known)}")
    nested = {}
    default = _transformers().CONFIG_MAPPING[kind]()
    _check_keys(default, changes, f"hf:{kind}")
    for key, value in changes.items():
        if isinstance(value, Mapping) and hasattr(before := getattr(default, key), "to_dict"):
            which = value.get("model_type", before.model_type)
            configurations = _transformers().CONFIG_MAPPING
            if which not in configurations:
                hint = did_you_mean(which, configurations).split(" (known")[0]
                raise ValueError(f"there is no model_type {which!r}{hint}")
            _check_keys(configurations[which](), value, f"{key} ({which})")
            nested[key] = {**value, "model_type": which}
    try:
        mine = copy.deepcopy({**changes, **nested})  # (they write into what they are given)
        return type(default)(**mine, num_labels=num_classes)
    except Exception as error:  # of transformers' own checks, each of another kind
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"hf:{kind} cannot be configured by {dict(changes)}: {reason[-1]}"
        ) from None


def _check_keys(default: Any, changes: Mapping[str, Any], where: str) -> None:
    known = {*default.to_dict(), *default.attribute_map} - OURS - OF_THE_LOSS
    for key in changes:
        if key in OF_THE_LOSS:
            raise ValueError(f"leave {key} out of config: it belongs to the loss, as MaskLoss(…)")
        if key in OURS and key != "model_type":
            raise ValueError(f"leave {key} out of config: it follows from num_classes or the name")
        if key not in known and key != "model_type":
            hint = did_you_mean(key, sorted(known)).split(" (known")[0]
            raise ValueError(f"the configuration of {where} has no entry {key!r}{hint}")


def _published(repository: str) -> tuple[str, dict[str, Any]]:
    """The type of a hub's repository, and how its configuration differs from the type's."""
    transformers = _transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(repository)
    except Exception as error:
        raise _not_fetched(repository, "configuration", error) from error
    return config.model_type, _difference(config)


def _difference(config: Any) -> dict[str, Any]:
    """What of a configuration differs from its type's, as plain values, without OURS."""
    default, found = _transformers().CONFIG_MAPPING[config.model_type](), {}
    usual = default.to_dict()
    for key, value in config.to_dict().items():
        if key not in OURS | OF_THE_LOSS and key in usual and value != usual[key]:
            inner: Any = getattr(config, key, None)
            if hasattr(inner, "to_dict"):
                value = {"model_type": inner.model_type, **_difference(inner)}
            found[key] = value
    return found


def _known() -> dict[str, str]:
    """The types of transformers that fit our interface, and the names of their classes."""
    _transformers()
    from transformers.models.auto import modeling_auto as auto

    names = dict(auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES)
    universal = dict(auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES)
    return names | {kind: universal[kind] for kind in MASKS if kind in universal}


def _not_fetched(repository: str, what: str, error: Exception) -> OSError:
    return OSError(
        f"the {what} of {repository} could not be fetched ({type(error).__name__}); run `hf "
        f"download {repository}` where there is a network and copy its cache "
        "(~/.cache/huggingface/hub, or $HF_HOME)"
        + (", or leave pretrained out" if what == "weights" else "")
    )


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"models named hf:… need transformers, which cannot be imported ({error}); install it: "
            "pip install 'every-pixel[hub]'"
        ) from None
    return transformers
