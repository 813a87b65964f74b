"""What is gained by answering only where the model is sure: error against the share of images that are answered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.metrics.intervals import combined, wilson, wilson_many
from headstart.metrics.records import Metric, RiskPoint

Floats = NDArray[np.floating]

_POINTS = 20
_BLOCKS, _PER_BLOCK = 5, 10  # blocks of equally sure answers for the interval, and images of each at least


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
    """`aurc` with its interval: Wilson's of each block of equally sure answers, added up as variances do."""
    n = len(confidence)
    weights, wrong = _weights(confidence), 1 - right
    blocks = int(np.clip(n // _PER_BLOCK, 1, _BLOCKS))
    place = np.empty(n, np.int64)
    place[np.argsort(-confidence, kind="stable")] = np.arange(n) * blocks // max(1, n)
    size = np.bincount(place, minlength=blocks)
    errors = np.bincount(place, weights=wrong, minlength=blocks)
    low, high = wilson_many(errors, size)
    share, mass = errors / np.maximum(size, 1), np.bincount(place, weights=weights, minlength=blocks)
    value = float((weights * wrong).sum())
    below, above = combined(share, low, high, mass)
    moved = value - float((mass * share).sum())  # inside a block the order matters too
    return Metric(
        value=value,
        low=float(np.clip(below + moved, 0.0, value)),
        high=float(np.clip(above + moved, value, 1.0)),
        interval="wilson",
        n=n,
    )


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
