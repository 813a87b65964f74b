"""What is gained by answering only where the model is sure: error against the share of images that are answered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.metrics.intervals import Z95, wilson
from headstart.metrics.records import Metric, RiskPoint

Floats = NDArray[np.floating]

_POINTS = 20


def risk_curve(confidence: Floats, right: Floats) -> tuple[RiskPoint, ...]:
    """The share of wrong answers among the surest 5 %, 10 % … 100 % of the images, each with its Wilson interval."""
    n = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(1 - right[order])
    out: list[RiskPoint] = []
    for step in range(1, _POINTS + 1):
        count = max(1, round(n * step / _POINTS))
        if n == 0 or (out and out[-1].risk.n == count):
            continue
        errors = float(wrong[count - 1])
        low, high = wilson(errors, count)
        risk = Metric(value=errors / count, low=low, high=high, interval="wilson", n=count)
        out.append(RiskPoint(coverage=count / n, confidence=float(confidence[order[count - 1]]), risk=risk))
    return tuple(out)


def aurc(confidence: Floats, right: Floats) -> float:
    """The mean share of wrong answers over all shares of images answered, surest first; lower is better.

    Equal confidences count as drawn in random order.

    Source: Geifman & El-Yaniv 2017, selective classification for deep neural networks.
    """
    return float((_weights(confidence) * (1 - right)).sum())


def aurc_metric(confidence: Floats, right: Floats) -> Metric:
    """`aurc` with its interval: from each image's influence on the area, on a logarithmic scale, since areas are skewed.

    Where nothing is wrong, the upper end is Wilson's for the share of wrong answers, which the area cannot exceed then.

    Source: Hampel 1974, the influence curve and its role in robust estimation (standard errors from influences).
    """
    n, value = len(confidence), aurc(confidence, right)
    if value == 0 or n < 2:
        low, high = 0.0, max(value, wilson(0, n)[1])
        return Metric(value=value, low=low, high=high, interval="wilson", n=n)
    wrong = 1 - right[np.argsort(-confidence, kind="stable")]
    rank = np.arange(1, n + 1)
    risk = np.cumsum(wrong) / rank
    later, missed = (np.cumsum(part[::-1])[::-1] for part in (1 / rank, risk / rank))
    influence = risk - risk.mean() + wrong * later - missed
    error = float(np.sqrt((influence**2).sum() / (n * (n - 1))))
    factor = float(np.exp(min(50.0, Z95 * error / value)))
    return Metric(value=value, low=value / factor, high=min(1.0, value * factor), interval="influence", n=n)


def _weights(confidence: Floats) -> NDArray[np.float64]:
    """What one wrong answer at each place adds to the area (N,)."""
    n = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    at_rank = np.cumsum((1 / np.arange(1, n + 1))[::-1])[::-1] / max(1, n)
    _, tied = np.unique(-confidence[order], return_inverse=True)
    mean = np.bincount(tied, weights=at_rank) / np.bincount(tied) if n else at_rank
    out = np.empty(n)
    out[order] = mean[tied]
    return out
