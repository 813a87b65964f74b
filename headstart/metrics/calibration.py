"""Calibration: does a probability of 80 % mean right in 80 of 100 cases?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator
from headstart.metrics.intervals import Draws, percentile, wilson
from headstart.metrics.records import Metric, ReliabilityBin

Floats = NDArray[np.floating]

BINS = 15
"""Equal-width bins, as Guo et al. 2017 use."""

_PER_BIN = 20  # images of a bin, at least: with fewer its share of right answers says nothing
_LOG_BOUNDS = (math.log(0.05), math.log(20.0))


def doubted(truth: NDArray[np.int64], *, classes: int) -> Floats:
    """The truth (N, classes) with the doubt that N images leave, however rightly all of them are answered: 1 / (N + 2).

    Args:
        truth: (N,) class indices, or (N, classes) of 0 and 1.
        classes: how many there are.

    Source: Laplace's rule of succession; for calibration Platt 1999, Probabilistic outputs for support vector machines.
    """
    doubt = 1 / (len(truth) + 2)
    if truth.ndim == 2:
        return np.asarray(truth + doubt * (1 - 2 * truth), np.float64)
    wanted = np.full((len(truth), classes), doubt / max(1, classes - 1))
    wanted[np.arange(len(truth)), truth] = 1 - doubt
    return wanted


def fit_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """The number T > 0 for which logits / T have the lowest log-loss; 1 where nothing can be fitted.

    Where every one of N images is answered rightly, the log-loss falls for ever as T goes to 0, and the first mistake in
    use would be made with all certainty. So the truth is taken with the doubt that N images leave, 1 / (N + 2).

    Args:
        logits: (N, classes), of images that the network was not trained on.
        truth: (N,) class indices, or (N, classes) of 0 and 1.

    Source: Guo et al. 2017, On calibration of modern neural networks; for the doubt see `doubted`.
    """
    from scipy.optimize import minimize_scalar  # 0.2 s that only fitting needs to pay

    if not len(logits):
        return 1.0

    wanted = doubted(truth, classes=logits.shape[1])

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        if truth.ndim == 2:
            return float((np.logaddexp(0, scaled) - wanted * scaled).mean())
        shifted = scaled - scaled.max(1, keepdims=True)
        return float((np.log(np.exp(shifted).sum(1)) - (wanted * shifted).sum(1)).mean())

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


def debiased_error(
    confidence: Floats,
    right: Floats,
    draws: Draws | None = None,
    *,
    owners: NDArray[np.int64] | None = None,
) -> tuple[float, tuple[float, float]]:
    """The calibration error without the part that chance alone would show, and its bootstrap (low, high).

    Bins hold equally many images each. A perfectly calibrated model has gaps too, because each bin's share of right answers
    is a sample; their expected size, from the folded normal distribution, is taken off.

    Args:
        confidence: (N,) probability of the answer given.
        right: (N,) of 0 and 1.
        draws: resamples of the images; None for no interval: the ends are then the value.
        owners: (N,) the image of each answer, where images have several.

    Source: Kumar, Liang & Ma 2019, verified uncertainty calibration (the debiased estimator); Roelofs et al. 2022,
    mitigating bias in calibration error estimation (bins of equal mass).
    """
    n = len(confidence)
    if n == 0:
        return 0.0, (0.0, 1.0)
    bins = int(np.clip(n // _PER_BIN, 1, BINS))
    place = np.empty(n, np.int64)
    place[np.argsort(confidence, kind="stable")] = np.arange(n) * bins // n
    inside = (place[:, None] == np.arange(bins)).astype(np.float32)
    columns = (right - confidence, confidence * (1 - confidence), np.ones(n))
    table = np.concatenate([inside * column[:, None] for column in columns], 1).astype(np.float32)
    value = float(_debiased(table.sum(0, dtype=np.float64)[None], bins, noise=1.0)[0])
    if draws is None:
        return value, (value, value)
    if owners is not None:
        images = draws.images.shape[1]  # of which the last may have no answer
        sums = [np.bincount(owners, weights=column, minlength=images) for column in table.T]
        table = np.stack(sums, 1).astype(np.float32)
    # A resample carries the noise of the sample and its own: twice as much is taken off.
    low, high = percentile(_debiased(draws.images @ table, bins, noise=2.0))
    if _may_be_calibrated(table, bins, draws):
        low = 0.0
    return value, (max(0.0, min(low, value)), max(high, value))


def _may_be_calibrated(table: Floats, bins: int, draws: Draws) -> bool:
    """Whether gaps like these are usual for a model whose probabilities are true: then the error may as well be zero.

    In each resample's place, every image's gap gets a random sign instead: under a true model its mean is zero.
    """
    gaps, size = table[:, :bins], table[:, 2 * bins :].sum(0)
    rng = generator(len(table), "calibrated")
    units = draws.units if draws.units is not None else np.arange(len(table))
    signs = rng.choice(np.array([-1.0, 1.0], np.float32), (min(len(draws.counts), 400), int(units.max()) + 1))
    null = np.abs(signs[:, units] @ gaps).sum(1)
    return bool(np.abs(gaps.sum(0)).sum() <= np.quantile(null, 0.95)) if size.sum() else True


def _debiased(sums: Floats, bins: int, *, noise: float) -> Floats:
    gap, variance, size = (part.astype(np.float64) for part in np.split(sums, 3, axis=1))
    held = np.maximum(size, 1)
    gap, spread = np.abs(gap) / held, np.sqrt(noise * np.maximum(variance, 0)) / held
    ratio = gap / np.maximum(spread, 1e-12)
    expected = spread * math.sqrt(2 / math.pi) * np.exp(-(ratio**2) / 2) + gap * _erf(ratio / math.sqrt(2))
    found: Floats = ((2 * gap - expected) * size).sum(1) / np.maximum(size.sum(1), 1)
    return np.maximum(found, 0.0)


def _erf(x: Floats) -> Floats:
    """The error function for x >= 0, to 2e-7. Source: Abramowitz & Stegun 1964, formula 7.1.26."""
    t = 1 / (1 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    out: Floats = 1 - series * np.exp(-(x**2))
    return out


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
