"""Metrics of one class an image. Counts first, ratios after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Floats = NDArray[np.floating]

_TINY = 1e-15


def confusion(truth: Labels, answers: Labels, classes: int) -> Labels:
    """Counts (classes, classes): rows are the truth, columns the answers."""
    flat = np.bincount(truth * classes + answers, minlength=classes * classes)
    return flat.reshape(classes, classes)


def accuracy(table: Labels) -> float:
    """The share of right answers, of a confusion matrix."""
    return float(np.trace(table) / max(1, table.sum()))


def recalls(table: Labels) -> Floats:
    """The share of each class's images that was found (classes,); NaN for a class without images."""
    support = table.sum(1)
    return np.where(support > 0, np.diag(table) / np.maximum(support, 1), np.nan)


def balanced_accuracy(table: Labels) -> float:
    """The mean recall over the classes that have images."""
    return float(np.nanmean(recalls(table)))


def f1_scores(table: Labels) -> Floats:
    """F1 of each class (classes,); NaN for a class that neither occurs nor was answered."""
    right = np.diag(table)
    size = table.sum(0) + table.sum(1)
    return np.where(size > 0, 2 * right / np.maximum(size, 1), np.nan)


def macro_f1(table: Labels) -> float:
    """The mean F1 over the classes that occur or were answered."""
    return float(np.nanmean(f1_scores(table)))


def hits(probability: Floats, truth: Labels, *, top: int) -> Floats:
    """1 for each image (N,) whose true class is among the `top` most probable, else 0."""
    own = probability[np.arange(len(truth)), truth]
    better = (probability > own[:, None]).sum(1)
    found: Floats = (better < top).astype(np.float64)
    return found


def log_losses(probability: Floats, truth: Labels) -> Floats:
    """Minus the logarithm of the true class's probability, for each image (N,); lower is better."""
    own = probability[np.arange(len(truth)), truth]
    losses: Floats = -np.log(np.clip(own, _TINY, 1.0))
    return losses
