"""What one gets without a network: a constant, a prior, and a classifier of single pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from seglib.metrics import ConfusionMatrix, Scores
from seglib.transforms import resize_image, resize_mask
from seglib.util.progress import progress

VOID = 255


def arrays(dataset: Any, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All images (N, H, W, 3) and masks (N, H, W), reduced as `eval_transform` does."""
    images, masks = [], []
    for i in progress(range(len(dataset)), desc="reading"):
        image, mask = dataset.read(i)
        images.append(resize_image(image, height, width))
        masks.append(resize_mask(mask, height, width))
    return np.stack(images), np.stack(masks)


def location_prior(masks: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
    """The most frequent class of each position (H, W), of the smaller label if two are equal;
    where a position is void in all masks, the most frequent class of all."""
    counts = np.stack([(masks == label).sum(axis=0) for label in range(num_classes)])  # (C, H, W)
    most = counts.argmax(axis=0)
    most[counts.sum(axis=0) == 0] = counts.sum(axis=(1, 2)).argmax()
    return most.astype(np.uint8)


def features(images: NDArray[np.uint8], kind: str) -> NDArray[np.float32]:
    """One row a pixel: "grey" (1), "rgb" (3), or "rgb and position" (5: with row and column)."""
    n, height, width, _ = images.shape
    values = images.astype(np.float32) / 255  # (N, H, W, 3)
    if kind == "grey":
        values = values.mean(axis=-1, keepdims=True)
    if kind == "rgb and position":
        row, column = np.mgrid[:height, :width].astype(np.float32)
        where = np.stack([row / (height - 1), column / (width - 1)], axis=-1)
        values = np.concatenate([values, np.broadcast_to(where, (n, height, width, 2))], axis=-1)
    return values.reshape(-1, values.shape[-1])


class PixelClassifier:
    """A classifier of standardised pixel features, fitted on a random sample of valid pixels.

    `method` is "logistic regression" (multinomial, until it converges), "balanced logistic
    regression" (each class weighs the same) or "mlp" (two hidden layers of 64, 20 epochs of Adam).
    """

    def __init__(self, method: str, kind: str, pixels: int, seed: int) -> None:
        self.kind, self.pixels, self.seed = kind, pixels, seed
        steps = {
            "logistic regression": LogisticRegression(max_iter=1000),
            "balanced logistic regression": LogisticRegression(
                max_iter=1000, class_weight="balanced"
            ),
            "mlp": MLPClassifier(
                (64, 64),
                batch_size=512,
                learning_rate_init=2e-3,
                max_iter=20,
                n_iter_no_change=20,
                random_state=seed,
            ),
        }
        self.pipeline = make_pipeline(StandardScaler(), steps[method])

    def fit(self, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> PixelClassifier:
        import warnings

        from sklearn.exceptions import ConvergenceWarning

        valid = np.flatnonzero(masks.ravel() != VOID)
        chosen = np.random.default_rng(self.seed).permutation(valid)[: self.pixels]
        with warnings.catch_warnings():  # twenty epochs are meant to be the end
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.pipeline.fit(features(images, self.kind)[chosen], masks.ravel()[chosen])
        return self

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels (N, H, W), a few images at a time."""
        parts = [
            self.pipeline.predict(features(images[i : i + 16], self.kind))
            for i in range(0, len(images), 16)
        ]
        return np.concatenate(parts).astype(np.uint8).reshape(images.shape[:3])


def score(prediction: NDArray[np.uint8], masks: NDArray[np.uint8], num_classes: int) -> Scores:
    """Scores of label maps (N, H, W); a prediction (H, W) stands for all images."""
    matrix = ConfusionMatrix(num_classes, VOID)
    matrix.update(np.broadcast_to(prediction, masks.shape).copy(), masks)
    return matrix.compute()
