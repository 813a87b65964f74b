"""Intervals: how far a measured number may be from the true one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator

REPEATS = 1000
Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile
_CELLS = 5_000_000  # numbers in a table of resamples; with more images there are fewer resamples
_LEAST_REPEATS = 200
_TINY = 8  # images up to which a class gets the exact interval: where several are added up, Wilson's is too short there

Floats = NDArray[np.floating]
Counts = NDArray[Any]
Statistic = Callable[[NDArray[np.int64]], float]
"""A number computed on the rows at the given positions, which may repeat."""


def wilson(successes: float, n: float, *, z: float = Z95) -> tuple[float, float]:
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
    spread = z * math.sqrt(max(0.0, share * (1 - share)) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def told(values: Floats) -> str:
    """The mean of per-image scores in [0, 1] with its interval, in words: Wilson's, wide enough for any such scores.

    Scores between 0 and 1 vary less than right and wrong with the same mean, so the interval errs towards caution.

    >>> told(np.array([1.0, 1.0, 1.0, 0.0]))
    '75.0% (30.1% to 95.4%)'
    """
    return told_share(float(np.mean(values)), len(values))


def told_share(share: float, n: int) -> str:
    """The mean of n per-image scores in [0, 1] with its interval, in words, where only the mean is known.

    >>> told_share(0.75, 4)
    '75.0% (30.1% to 95.4%)'
    """
    low, high = wilson(share * n, n)
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def told_mean(values: Floats) -> str:
    """The mean of per-image losses with its interval, in words: the mean's standard error times 1.96, not below 0.

    >>> told_mean(np.array([0.1, 0.3, 0.2, 0.2]))
    '0.200 (0.120 to 0.280)'
    """
    mean, n = float(np.mean(values)), len(values)
    reach = Z95 * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return f"{mean:.3f} ({max(0.0, mean - reach):.3f} to {mean + reach:.3f})"


def around(share: float, error: float, n: int) -> tuple[float, float]:
    """(low, high) of a mean of scores in [0, 1] from its standard error.

    Wilson's for as many independent images as would have that error: inside [0, 1], and for right and wrong answers to n
    images just Wilson's for n. Where nothing varies (all are right), the n images themselves say how sure that is.

    Args:
        share: the mean.
        error: its standard error, >= 0.
        n: images that were judged.

    Source: Korn & Graubard 1998 (the effective number of images).

    >>> [round(end, 3) for end in around(0.75, 0.0433, 100)] == [round(end, 3) for end in wilson(75, 100)]
    True
    """
    varies = error > 0 and 0 < share < 1
    images = share * (1 - share) / error**2 if varies else float(n)
    return wilson(share * images, images)


def told_around(share: float, error: float, n: int) -> str:
    """A mean of scores in [0, 1] with the interval that follows from its standard error, in words; see `around`.

    >>> told_around(0.936, 0.008, 936)
    '93.6% (91.8% to 95.0%)'
    """
    low, high = around(share, error, n)
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def told_points(difference: float, error: float) -> str:
    """A difference of shares with the interval that follows from its standard error, in words.

    >>> told_points(0.151, 0.01)
    '15.1 points (13.1 to 17.1)'
    """
    low, high = max(-1.0, difference - Z95 * error), min(1.0, difference + Z95 * error)
    return f"{100 * difference:.1f} points ({100 * low:.1f} to {100 * high:.1f})"


def wilson_many(successes: Counts, n: Counts) -> tuple[Floats, Floats]:
    """Lower and upper ends of many proportions at once; 0 and 1 where nothing was measured."""
    size = np.maximum(n, 1)
    share, z2 = successes / size, Z95**2
    centre = share + z2 / (2 * size)
    spread = Z95 * np.sqrt(np.maximum(share * (1 - share), 0) / size + z2 / (4 * size**2))
    scale = 1 + z2 / size
    low, high = np.maximum(0, (centre - spread) / scale), np.minimum(1, (centre + spread) / scale)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def parts(successes: Counts, n: Counts) -> tuple[Floats, Floats]:
    """Ends of many proportions that are to be added up: Wilson's, and the exact ones of proportions of up to 8 images.

    Source: Clopper & Pearson 1934. Simulated classifiers (bench/coverage.py) decided where the exact ones are needed.
    """
    low, high = wilson_many(successes, n)
    few = (n > 0) & (n <= _TINY)
    if few.any():
        from scipy.special import betaincinv  # only tiny classes pay for it

        x, size = successes[few].astype(np.float64), n[few].astype(np.float64)
        low, high = low.copy(), high.copy()
        low[few] = np.where(x > 0, betaincinv(np.maximum(x, 0.5), size - x + 1, 0.025), 0.0)
        high[few] = np.where(x < size, betaincinv(x + 1, np.maximum(size - x, 0.5), 0.975), 1.0)
    return low, high


def grouped_proportion(right: Floats, groups: NDArray[np.int64]) -> tuple[float, float]:
    """(low, high) of a proportion whose images come in groups (patients, videos) that are alike inside.

    Wilson's interval for the number of independent images that say as much: n divided by how much more the groups vary
    than independent images would, and by what few groups cost (Student's t in place of the normal distribution).

    Args:
        right: (N,) of 0 and 1.
        groups: (N,) integers.

    Source: Korn & Graubard 1998, confidence intervals for proportions with small expected positive counts from surveys.
    """
    n, p = len(right), float(right.mean()) if len(right) else 0.0
    sizes = np.bincount(groups)
    sums, sizes = np.bincount(groups, weights=right)[sizes > 0], sizes[sizes > 0]
    count = len(sizes)
    if count < 2:
        return 0.0, 1.0
    spread = (count / (count - 1)) * float(((sums - p * sizes) ** 2).sum()) / n**2
    plain = p * (1 - p) / n
    # Where all are right, the groups cannot show how alike they are: each counts as one image.
    effect = max(1.0, spread / plain) if plain > 0 else n / count
    effective = min(n, n / effect) * (Z95 / student(count - 1)) ** 2
    return wilson(p * effective, effective)


def student(df: int) -> float:
    """The 97.5 % quantile of Student's t distribution."""
    from scipy.special import stdtrit  # only grouped data pays for it

    return float(stdtrit(df, 0.975))


def combined(
    shares: Counts, low: Counts, high: Counts, weights: Counts, *, inflation: float = 1.0
) -> tuple[float, float]:
    """(low, high) of a weighted sum of independent numbers, from the interval of each.

    The squared distances to the ends add up as variances do, the lower and the upper ones apart.

    Args:
        shares: the numbers (K,).
        low: their lower ends.
        high: their upper ends.
        weights: (K,), >= 0.
        inflation: how much more the sum varies than one of independent numbers.

    Source: Zou & Donner 2008, construction of confidence limits about effect measures (MOVER).
    """
    value = float((weights * shares).sum())
    below = math.sqrt(inflation * float(((weights * (shares - low)) ** 2).sum()))
    above = math.sqrt(inflation * float(((weights * (high - shares)) ** 2).sum()))
    return value - below, value + above


@dataclass(frozen=True)
class Draws:
    """Bootstrap resamples as counts: how often each unit was drawn.

    Attributes:
        counts: (repeats, units); a unit is an image, or a group of images that are drawn together.
        units: (N,) the unit of each image; None where every image is one.
    """

    counts: NDArray[np.float32]
    units: NDArray[np.int64] | None = None

    @property
    def images(self) -> NDArray[np.float32]:
        """(repeats, N) how often each image was drawn."""
        return self.counts if self.units is None else self.counts[:, self.units]

    def sums(self, values: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sum and number of per-image values (N,) in each unit."""
        if self.units is None:
            return np.asarray(values, np.float64), np.ones(len(values))
        size = self.counts.shape[1]
        total = np.bincount(self.units, weights=values, minlength=size)
        number = np.bincount(self.units, weights=np.ones(len(values)), minlength=size)
        return total.astype(np.float64), number.astype(np.float64)


def draw(
    n: int,
    *,
    seed: int,
    strata: NDArray[np.int64] | None = None,
    groups: NDArray[np.int64] | None = None,
    repeats: int = REPEATS,
) -> Draws:
    """Resamples of n images: within strata (N,) where they are given, or of whole groups (N,), which goes before strata."""
    rng = generator(seed, "bootstrap", n)
    if groups is not None:
        _, units = np.unique(groups, return_inverse=True)
        return Draws(_counts(rng, int(units.max()) + 1 if n else 0, repeats), units)
    if strata is None:
        return Draws(_counts(rng, n, repeats))
    parts = [np.flatnonzero(strata == label) for label in np.unique(strata)]
    counts = np.empty((_repeats(n, repeats), n), np.float32)
    for rows in parts:
        counts[:, rows] = _counts(rng, len(rows), len(counts))
    return Draws(counts)


def _repeats(n: int, wanted: int) -> int:
    return max(1, min(wanted, max(_LEAST_REPEATS, _CELLS // max(1, n))))


def _counts(rng: np.random.Generator, n: int, repeats: int) -> NDArray[np.float32]:
    repeats = _repeats(n, repeats)
    if n == 0:
        return np.zeros((repeats, 0), np.float32)
    places = rng.integers(0, n, (repeats, n), dtype=np.int32)
    places += np.arange(repeats, dtype=np.int32)[:, None] * np.int32(n)
    return np.bincount(places.ravel(), minlength=repeats * n).reshape(repeats, n).astype(np.float32)


def mean_interval(values: Floats, draws: Draws) -> tuple[float, float]:
    """Bootstrap-t (low, high) of the mean of per-image values (N,): each resample is judged by its own standard error.

    Skewed values, such as losses, are covered as often as symmetric ones, which percentiles do not reach with few images.

    Source: Efron & Tibshirani 1993, chapter 12.5; Hesterberg 2015, what teachers should know about the bootstrap.
    """
    sums, sizes = draws.sums(values)
    mean, error = _ratio(np.ones((1, len(sums)), np.float32), sums, sizes)
    if len(sums) < 2 or error[0] == 0:
        return float(mean[0]), float(mean[0])
    means, errors = _ratio(draws.counts, sums, sizes)
    # A resample without spread (one unit drawn again and again) has no t; where many have none, percentiles are left.
    fine = errors > 1e-9 * error[0]
    if fine.mean() < 0.9:
        low, high = np.quantile(means, [0.025, 0.975])
        return float(low), float(high)
    t = (means[fine] - mean[0]) / errors[fine]
    upper, lower = np.quantile(t, [0.025, 0.975])
    return float(mean[0] - lower * error[0]), float(mean[0] - upper * error[0])


def _ratio(
    counts: NDArray[np.float32], sums: NDArray[np.float64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and its standard error in each resample, linearised where units differ in size."""
    centre = sums.sum() / max(sizes.sum(), 1)
    moved = sums - centre * sizes  # so that small differences keep their digits in float32
    columns = np.stack([moved, sizes, moved**2, moved * sizes, sizes**2], 1).astype(np.float32)
    total, number, square, cross, wide = (counts @ columns).astype(np.float64).T
    mean = total / np.maximum(number, 1e-12)
    spread = np.maximum(square - 2 * mean * cross + mean**2 * wide, 0)
    drawn = counts.sum(1, dtype=np.float64)
    correction = drawn / np.maximum(drawn - 1, 1)
    return mean + centre, np.sqrt(correction * spread) / np.maximum(number, 1e-12)


def percentile(values: Floats) -> tuple[float, float]:
    """(low, high): the 2.5 % and 97.5 % quantiles of a statistic over resamples; NaN results are left out.

    Source: Efron 1979, percentile interval.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return float("-inf"), float("inf")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def bootstrap(statistic: Statistic, draws: Draws) -> tuple[float, float]:
    """Percentile (low, high) of a statistic that has to be computed resample by resample."""
    every = np.arange(draws.images.shape[1])
    return percentile(np.array([statistic(np.repeat(every, row.astype(np.int64))) for row in draws.images]))


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


def paired_shares(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """(low, high) of the difference of two accuracies on the same n images.

    Args:
        only_a: images that only the first got right.
        only_b: images that only the second got right.
        n: images in all.

    Source: Agresti & Min 2005, simple improved confidence intervals for comparing matched proportions: half an image is
    added to each of the four outcomes.
    """
    size = n + 2.0
    b, c = only_a + 0.5, only_b + 0.5
    difference = (b - c) / size
    error = math.sqrt(max(0.0, b + c - (b - c) ** 2 / size)) / size
    return max(-1.0, difference - Z95 * error), min(1.0, difference + Z95 * error)


def fisher_more(errors: int, n: int, all_errors: int, total: int) -> float:
    """One-sided exact p-value that a part errs no more often than the rest: n of `total` images, `errors` of `all_errors`.

    Source: Fisher 1935; the upper tail of the hypergeometric distribution.

    >>> round(fisher_more(4, 5, 5, 20), 4)
    0.0049
    """
    most = min(n, all_errors)
    whole = _log_choose(total, n)
    tail = math.fsum(
        math.exp(_log_choose(all_errors, k) + _log_choose(total - all_errors, n - k) - whole)
        for k in range(errors, most + 1)
        if n - k <= total - all_errors
    )
    return min(1.0, tail)


def holm(p: Floats) -> NDArray[np.float64]:
    """p-values (K,) that allow for K looks: below 5 % only with a chance of 5 % if nothing is there at all.

    Source: Holm 1979, a simple sequentially rejective multiple test procedure.
    """
    order = np.argsort(p, kind="stable")
    grown = np.maximum.accumulate(np.asarray(p)[order] * (len(p) - np.arange(len(p))))
    out = np.empty(len(p))
    out[order] = np.minimum(1.0, grown)
    return out


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
