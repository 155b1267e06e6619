"""Scores of a prediction: the confusion matrix, what follows from it, borders and calibration."""

from seglib.metrics.confusion import ConfusionMatrix
from seglib.metrics.scores import Scores

__all__ = ["ConfusionMatrix", "Scores"]
