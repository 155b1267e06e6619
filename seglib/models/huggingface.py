"""Networks of Hugging Face's transformers behind our interface: models named "hf:…".

A network of *mask classification* (MaskFormer, Cheng et al., 2021, arXiv:2107.06278; Mask2Former,
2022, arXiv:2112.01527) gives a set of queries, each with a class, or "no object", and a mask.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglib.models.huggingface_config import (
    MASKS,
    configured,
    known_types,
    load_transformers,
    not_fetched,
    preprocessing,
    published,
)

ONE_SIZE = ("beit", "data2vec-vision", "dpt", "eomt")  # that take config["image_size"] only


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
        kind, changes = published(which) if self.repository else (which, {})
        changes = copy.deepcopy({**changes, **(config or {})})
        self.config = configured(kind, num_classes, changes)
        self.network: Any = getattr(load_transformers(), known_types()[kind])(self.config)
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

        `normalisation(model)` is then what the repository says of its images. A network that wants
        blue first (MobileViT) gets its first weights turned round: images are R, G, B here.

        ValueError if anything else does not fit, or without a repository; OSError if a file can
        neither be found nor fetched.
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
            raise not_fetched(self.repository, "weights", error) from error
        heads = self._heads()
        wrong = [
            f"{key} {tuple(a)} for {tuple(b)}"
            for key, a, b in told["mismatched_keys"]
            if key not in heads or a[1:] != b[1:]
        ]
        wrong += [k for k in told["missing_keys"] if not k.startswith("criterion.")]
        if wrong:
            raise ValueError(
                f"the weights of {self.repository} do not fit {self.name}: {', '.join(wrong[:3])}"
                f"{', …' if len(wrong) > 3 else ''}; leave config out"
            )
        how = preprocessing(self.repository)
        if how.get("do_flip_channel_order"):
            first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
            first.weight.data = first.weight.data.flip(1)
        if how:  # theirs are of images of any scale, ours of 0 to 1
            scale = 255 * (how.get("rescale_factor") or 1 / 255)
            scale = 255 if how.get("do_rescale") is False else scale
            mean, std = how.get("image_mean") or 0, how.get("image_std") or 1
            mean, std = (mean, std) if how.get("do_normalize") else (0, 1)
            self.mean, self.std = (
                tuple(round(float(value) / scale, 6) for value in np.broadcast_to(each, 3))
                for each in (mean, std)
            )
        network.criterion = None
        self.network = network.train(self.training)

    def _heads(self) -> set[str]:
        """The names of the tensors whose shape depends on the number of classes."""
        more = copy.deepcopy(self.config)
        more.num_labels = self.num_classes + 1
        with torch.device("meta"):  # shapes without numbers
            other = type(self.network)(more).state_dict()
        sizes = {key: value.shape for key, value in self.network.state_dict().items()}
        return {key for key, value in other.items() if value.shape != sizes.get(key)}
