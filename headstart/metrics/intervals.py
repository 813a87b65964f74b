"""Intervals: how far a measured number may be from the true one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator

REPEATS = 1000
_Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile

Statistic = Callable[[NDArray[np.int64]], float]
"""A number computed on the rows at the given positions, which may repeat."""


def wilson(successes: float, n: int, *, z: float = _Z95) -> tuple[float, float]:
    """(low, high) of a proportion; (0, 1) where nothing was measured.

    Source: Wilson 1927; the interval of choice for small n (Brown, Cai & DasGupta 2001).

    >>> low, high = wilson(146, 153)
    >>> round(low, 4), round(high, 4)
    (0.9086, 0.9777)
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def resamples(
    n: int, *, seed: int, strata: NDArray[np.int64] | None = None, repeats: int = REPEATS
) -> NDArray[np.int64]:
    """Positions (repeats, n) drawn with replacement; within each stratum where strata (n,) are given."""
    rng = generator(seed, "bootstrap", n)
    if strata is None:
        return rng.integers(0, n, (repeats, n))
    parts = []
    for label in np.unique(strata):
        rows = np.flatnonzero(strata == label)
        parts.append(rows[rng.integers(0, len(rows), (repeats, len(rows)))])
    return np.concatenate(parts, axis=1)


def bootstrap(statistic: Statistic, draws: NDArray[np.int64]) -> tuple[float, float]:
    """(low, high): the 2.5 % and 97.5 % quantiles of the statistic over resamples; NaN results are left out.

    Source: Efron 1979, percentile interval.
    """
    values = np.array([statistic(rows) for rows in draws])
    values = values[np.isfinite(values)]
    if not len(values):
        return float("-inf"), float("inf")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def mean_interval(values: NDArray[np.floating], draws: NDArray[np.int64]) -> tuple[float, float]:
    """Bootstrap (low, high) of the mean of per-image values (n,), all resamples at once."""
    means = np.concatenate(
        [values[part].mean(1) for part in np.array_split(draws, max(1, draws.size // 5_000_000))]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value for images that only one of two classifiers got right.

    Source: McNemar 1947, with the binomial distribution instead of its approximation.

    >>> round(mcnemar(10, 2), 4)
    0.0386
    """
    n, smaller = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0
    tail = math.fsum(math.exp(_log_choose(n, k) - n * math.log(2)) for k in range(smaller + 1))
    return min(1.0, 2 * tail)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
