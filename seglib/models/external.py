"""Networks of other libraries behind our interface: torchvision's own, and those of smp."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from seglib.models.deeplab import PooledBatchNorm, outputs, warn_of_few_taps
from seglib.util.suggest import did_you_mean

ARCHITECTURES = (
    *("deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "deeplabv3_resnet101"),
    *("fcn_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large"),
)


class TorchvisionModel(nn.Module):
    """torchvision's `architecture`: images (N, 3, H, W) -> logits (N, num_classes, H, W).

    Parameters have torchvision's names, so its state dicts fit. `aux` (not for LR-ASPP) as in
    `DeepLabV3`. What differs: one image is enough for training (see `PooledBatchNorm`), and a
    feature map that is too small for the rates 12, 24 and 36 brings a warning.
    """

    def __init__(self, architecture: str, num_classes: int, aux: bool = False) -> None:
        super().__init__()
        head, _, backbone = architecture.partition("_")
        if head == "lraspp" and aux:
            raise ValueError(f"{architecture} has no auxiliary head; leave aux out")
        from torchvision.models import get_model

        # weights=None alone would still download the backbone's
        options: dict[str, Any] = {"weights": None, "weights_backbone": None}
        if head != "lraspp":
            options["aux_loss"] = aux
        network = get_model(architecture, num_classes=num_classes, **options)
        self.name, self.num_classes = f"torchvision:{architecture}", num_classes
        self.options = {"aux": aux}
        self.backbone: nn.Module = network.backbone
        self.backbone.name = backbone
        self.classifier: nn.Module = network.classifier
        self.aux_classifier: nn.Module | None = getattr(network, "aux_classifier", None)
        self.rates: tuple[int, ...] = ()
        if head == "deeplabv3":
            branches = network.classifier[0].convs
            self.rates = tuple(branch[0].dilation[0] for branch in branches[1:-1])
            branches[-1][2] = PooledBatchNorm(branches[-1][2].num_features)

    def forward(self, images: Tensor, return_aux: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        features = self.backbone(images)  # {"out": …, "aux": …} or "low", "high"
        if "low" in features:
            logits = self.classifier(features)  # (N, num_classes, H/8, W/8)
        else:
            x = features["out"]  # (N, C, h, w)
            warn_of_few_taps(x.shape[-2], x.shape[-1], self.rates)
            logits = self.classifier(x)  # (N, num_classes, h, w)
        return outputs(self, logits, features.get("aux"), images, return_aux)


class SMPModel(nn.Module):
    """An smp network, `which` = "decoder/encoder": images (N, 3, H, W) -> logits (N, C, H, W).

    smp wants multiples of 32, so images are padded by their border and the logits cut. The weights
    are random until `load_imagenet`.
    """

    def __init__(self, which: str, num_classes: int) -> None:
        super().__init__()
        decoder, _, encoder = which.partition("/")
        if not decoder or not encoder:
            raise ValueError(
                f"found {'smp:' + which!r}, expected smp:DECODER/ENCODER, as smp:unet/resnet34"
            )
        smp = _smp()
        decoders = smp.MODEL_ARCHITECTURES_MAPPING
        if decoder not in decoders:
            raise ValueError(f"smp has no decoder {decoder!r}{did_you_mean(decoder, decoders)}")
        encoders = smp.encoders.get_encoder_names()
        if encoder not in encoders and not encoder.startswith("tu-"):
            hint = did_you_mean(encoder, encoders).split(" (known")[0]
            raise ValueError(f"smp has no encoder {encoder!r}{hint} (it knows {len(encoders)})")
        self.name, self.num_classes, self.encoder_name = f"smp:{which}", num_classes, encoder
        self.options: dict[str, Any] = {}
        self.network = smp.create_model(
            decoder, encoder_name=encoder, encoder_weights=None, classes=num_classes
        )

    @property
    def backbone(self) -> nn.Module:
        return self.network.encoder

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        missing = (0, -width % 32, 0, -height % 32)
        x = F.pad(images, missing, mode="replicate") if any(missing) else images
        return self.network(x)[..., :height, :width]  # (N, num_classes, H, W)

    def load_imagenet(self) -> None:
        """Fetch the encoder's ImageNet weights (safetensors, from the Hugging Face hub)."""
        smp, name = _smp(), self.encoder_name
        weights: Any = True if name.startswith("tu-") else "imagenet"
        try:
            encoder = smp.encoders.get_encoder(name, depth=self.backbone._depth, weights=weights)
        except KeyError:
            raise ValueError(f"smp has no ImageNet weights for {name}") from None
        except Exception as error:  # of huggingface_hub, and of the library it fetches with
            known = smp.encoders.encoders.get(name, {}).get("pretrained_settings", {})
            repository = known.get("imagenet", {}).get("repo_id", f"timm/{name[3:]}")
            raise OSError(
                f"the weights of {name} could not be fetched ({type(error).__name__}); run `hf "
                f"download {repository}` where there is a network and copy its cache "
                "(~/.cache/huggingface/hub, or $HF_HOME), or leave pretrained out"
            ) from error
        self.backbone.load_state_dict(encoder.state_dict())


def _smp() -> Any:
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise ValueError(
            "models named smp:… need segmentation_models_pytorch, which cannot be imported "
            f"({error}); install it: pip install 'every-pixel[hub]'"
        ) from None
    return segmentation_models_pytorch
