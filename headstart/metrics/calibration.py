"""Calibration: does a probability of 80 % mean right in 80 of 100 cases?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headstart.metrics.intervals import wilson
from headstart.metrics.records import Metric, ReliabilityBin

Floats = NDArray[np.floating]

BINS = 15
"""Equal-width bins, as Guo et al. 2017 use."""

_LOG_BOUNDS = (math.log(0.05), math.log(20.0))


def fit_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """The number T > 0 for which logits / T have the lowest log-loss; 1 where nothing can be fitted.

    Args:
        logits: (N, classes), of images that the network was not trained on.
        truth: (N,) class indices, or (N, classes) of 0 and 1.

    Source: Guo et al. 2017, On calibration of modern neural networks.
    """
    from scipy.optimize import minimize_scalar  # 0.2 s that only fitting needs to pay

    if not len(logits):
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        if truth.ndim == 2:
            return float((np.logaddexp(0, scaled) - truth * scaled).mean())
        shifted = scaled - scaled.max(1, keepdims=True)
        own = shifted[np.arange(len(truth)), truth]
        return float((np.log(np.exp(shifted).sum(1)) - own).mean())

    return math.exp(float(minimize_scalar(loss, bounds=_LOG_BOUNDS, method="bounded").x))


def calibration_error(confidence: Floats, right: Floats, *, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over bins, weighted by their size, in [0, 1]; lower is better.

    Args:
        confidence: (N,) probability of the answer given.
        right: (N,) of 0 and 1.
        bins: how many, of equal width.

    Source: Naeini et al. 2015, expected calibration error.
    """
    place = _places(confidence, bins)
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / max(1, len(confidence)))


def reliability(confidence: Floats, right: Floats, *, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """The bins that have images, from low to high confidence."""
    place, out = _places(confidence, bins), []
    for index in range(bins):
        rows = place == index
        n = int(rows.sum())
        if n == 0:
            continue
        hits = float(right[rows].sum())
        low, high = wilson(hits, n)
        share = Metric(value=hits / n, low=low, high=high, interval="wilson", n=n)
        mean = float(confidence[rows].mean())
        out.append(
            ReliabilityBin(low=index / bins, high=(index + 1) / bins, confidence=mean, accuracy=share, n=n)
        )
    return tuple(out)


def _places(confidence: Floats, bins: int) -> NDArray[np.int64]:
    return np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
