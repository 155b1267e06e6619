"""torchvision's own segmentation networks behind this library's interface."""

from __future__ import annotations

from torch import Tensor, nn

from seglib.messages import did_you_mean
from seglib.models.aspp import warn_of_few_taps
from seglib.models.layers import auxiliary, resize_to
from seglib.models.norms import PooledBatchNorm

ARCHITECTURES = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "fcn_resnet50",
    "fcn_resnet101",
    "lraspp_mobilenet_v3_large",
)


class TorchvisionModel(nn.Module):
    """torchvision's `architecture`: images (N, 3, H, W) -> logits (N, num_classes, H, W).

    Parameters have torchvision's names, so its state dicts fit. `aux=True` adds its auxiliary
    head (not for LR-ASPP), whose logits `model(images, return_aux=True)` gives as well. What
    differs: one image is enough for training (see `PooledBatchNorm`), and a feature map that is
    too small for the rates 12, 24 and 36 brings a warning.
    """

    def __init__(self, architecture: str, num_classes: int, aux: bool = False) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            hint = did_you_mean(architecture, ARCHITECTURES)
            raise ValueError(f"torchvision has no segmentation network {architecture!r}{hint}")
        head, _, backbone = architecture.partition("_")
        if head == "lraspp" and aux:
            raise ValueError(f"{architecture} has no auxiliary head; leave aux out")
        from torchvision.models import get_model

        # (weights=None alone would still download the backbone's)
        options = {} if head == "lraspp" else {"aux_loss": aux}
        network = get_model(
            architecture, weights=None, weights_backbone=None, num_classes=num_classes, **options
        )
        self.name = f"torchvision:{architecture}"
        self.num_classes = num_classes
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
        logits = resize_to(logits, images)  # (N, num_classes, H, W)
        if not return_aux:
            return logits
        return logits, auxiliary(self.aux_classifier, features.get("aux"), images, self.name)
