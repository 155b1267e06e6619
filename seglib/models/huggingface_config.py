"""Configurations of Hugging Face's transformers: of a type, of a repository on the hub."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from seglib.util.suggest import did_you_mean

MASKS = ("mask2former", "maskformer", "eomt")  # the types that classify masks
OURS = {  # entries of a configuration that follow from num_classes, or that are of no use here
    *("num_labels", "id2label", "label2id", "model_type", "architectures", "transformers_version"),
    *("dtype", "torch_dtype", "_name_or_path", "name_or_path", "return_dict"),
}
OF_THE_LOSS = {  # entries for their own loss, of which `MaskLoss` knows nothing
    *("class_weight", "mask_weight", "dice_weight", "cross_entropy_weight", "no_object_weight"),
    *("ignore_value", "train_num_points", "oversample_ratio", "importance_sample_ratio"),
}


def configured(kind: str, num_classes: int, changes: Mapping[str, Any]) -> Any:
    """The configuration of type `kind` with these changes; ValueError for unknown ones."""
    known = known_types()
    if kind not in known:
        raise ValueError(f"there is no model 'hf:{kind}'{did_you_mean(kind, known)}")
    nested = {}
    default = load_transformers().CONFIG_MAPPING[kind]()
    _check_keys(default, changes, f"hf:{kind}")
    for key, value in changes.items():
        if isinstance(value, Mapping) and hasattr(before := getattr(default, key), "to_dict"):
            which = value.get("model_type", before.model_type)
            configurations = load_transformers().CONFIG_MAPPING
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


def published(repository: str) -> tuple[str, dict[str, Any]]:
    """The type of a hub's repository, and how its configuration differs from the type's."""
    transformers = load_transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(repository)
    except Exception as error:
        raise not_fetched(repository, "configuration", error) from error
    return config.model_type, _difference(config)


def preprocessing(repository: str) -> dict[str, Any]:
    """How the images of a hub's repository are made ready; nothing if it does not say."""
    transformers = load_transformers()
    try:
        said, _ = transformers.ImageProcessingMixin.get_image_processor_dict(repository)
    except Exception as error:
        if _says_nothing(repository):
            return {}
        raise not_fetched(repository, "preprocessing", error) from error
    try:
        return transformers.AutoImageProcessor.from_pretrained(repository).to_dict()
    except Exception:  # of a class of its own, or of a name that transformers has given up
        return {"do_normalize": "image_mean" in said, **said}


def _says_nothing(repository: str) -> bool:
    """Whether a repository is known to lack the files that describe its images."""
    from huggingface_hub import try_to_load_from_cache

    if os.path.isdir(repository):
        return True
    files = ("preprocessor_config.json", "processor_config.json")
    found = [try_to_load_from_cache(repository, file) for file in files]
    return all(place is not None and not isinstance(place, str) for place in found)


def _difference(config: Any) -> dict[str, Any]:
    """What of a configuration differs from its type's, as plain values, without OURS."""
    default, found = load_transformers().CONFIG_MAPPING[config.model_type](), {}
    usual = default.to_dict()
    for key, value in config.to_dict().items():
        if key not in OURS | OF_THE_LOSS and key in usual and value != usual[key]:
            inner: Any = getattr(config, key, None)
            if hasattr(inner, "to_dict"):
                value = {"model_type": inner.model_type, **_difference(inner)}
            found[key] = value
    return found


def known_types() -> dict[str, str]:
    """The types of transformers that fit our interface, and the names of their classes."""
    load_transformers()
    from transformers.models.auto import modeling_auto as auto

    names = dict(auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES)
    universal = dict(auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES)
    return names | {kind: universal[kind] for kind in MASKS if kind in universal}


def not_fetched(repository: str, what: str, error: Exception) -> OSError:
    """The error that says what of a repository is missing, and how to get it."""
    return OSError(
        f"the {what} of {repository} could not be fetched ({type(error).__name__}); run `hf "
        f"download {repository}` where there is a network and copy its cache "
        "(~/.cache/huggingface/hub, or $HF_HOME)"
        + (", or leave pretrained out" if what == "weights" else "")
    )


def load_transformers() -> Any:
    """The library; ValueError with the command that installs it if it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"models named hf:… need transformers, which cannot be imported ({error}); install it: "
            "pip install 'every-pixel[hub]'"
        ) from None
    return transformers
