"""Weights that others publish on the Hugging Face hub, from its cache or fetched."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from seglib.models.pretrained import read_file

SEGFORMER = {  # names in SegFormer's published files -> ours, as patterns, in this order
    "segformer.encoder.patch_embeddings": "backbone.embeddings",
    "segformer.encoder.block": "backbone.stages",
    "segformer.encoder.layer_norm": "backbone.norms",
    "layer_norm_": "norm",
    "layer_norm": "norm",
    "attention.self.sr": "attention.reduce",
    "attention.self": "attention",
    "attention.output.dense": "attention.project",
    "mlp.dense1": "ffn.expand",
    "mlp.dwconv.dwconv": "ffn.conv",
    "mlp.dense2": "ffn.shrink",
    r"decode_head.linear_c.(\d).proj": r"projections.\1",
    "decode_head.linear_fuse": "fuse.0",
    "decode_head.batch_norm": "fuse.1",
    "decode_head.classifier": "classifier",
}
FILES = ("model.safetensors", "pytorch_model.bin")  # the first is preferred


def hub_weights(repository: str) -> dict[str, Tensor]:
    """The state dict in the hub's `repository`, such as "nvidia/mit-b0".

    ValueError if huggingface_hub is missing or the file is damaged; OSError if it is neither in the
    cache nor to be fetched. Nothing but tensors is read: a stranger's file cannot run code.
    """
    path = _path(repository)
    if path.suffix != ".safetensors":
        return read_file(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as weights ({error}); delete it") from None


def segformer_weights(repository: str) -> dict[str, Tensor]:
    """The published weights of a SegFormer, under the names of `models.segformer`."""
    return {segformer_name(key): value for key, value in hub_weights(repository).items()}


def segformer_name(key: str) -> str:
    """The name in `models.segformer` of a tensor in a published file.

    >>> segformer_name("segformer.encoder.block.0.1.attention.self.sr.weight")
    'backbone.stages.0.1.attention.reduce.weight'
    """
    for theirs, ours in SEGFORMER.items():
        key = re.sub(theirs, ours, key)
    return key


def _path(repository: str) -> Path:
    """Where the weights of `repository` lie; they are fetched if they are not in the cache."""
    hub = _hub()
    for file in FILES:
        if isinstance(found := hub.try_to_load_from_cache(repository, file), str):
            return Path(found)
    for file in FILES:
        try:
            return Path(hub.hf_hub_download(repository, file))
        except Exception as error:  # of huggingface_hub, and of the library it fetches with
            offline = isinstance(error, hub.errors.LocalEntryNotFoundError)
            if isinstance(error, hub.errors.EntryNotFoundError) and not offline:
                continue  # (an older repository has only the second)
            raise OSError(
                f"the weights of {repository} could not be fetched ({type(error).__name__}); run "
                f"`hf download {repository}` where there is a network and copy its cache "
                "(~/.cache/huggingface/hub, or $HF_HOME), or leave pretrained out"
            ) from error
    raise OSError(f"{repository} on the Hugging Face hub has no {' or '.join(FILES)}")


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            f"these weights need huggingface_hub, which cannot be imported ({error}); install it: "
            "pip install 'every-pixel[lab]'"
        ) from None
    return huggingface_hub
