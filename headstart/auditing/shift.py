"""How well training and test images can be told apart."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record
from headstart._core.seed import generator
from headstart.heads.probe import Problem, walk

MOST = 2000
"""Images of each side that are used; more say little more."""

_LEAST = 10  # images on each side
_STRENGTHS = (0.001, 0.01, 0.1)  # weak heads: the question is whether there is a difference, not how large
_FOLDS = 5
_Z95 = 1.959963984540054

Features = NDArray[np.float32]


@record
class Shift:
    """Whether test images look as if they came from where the training images came from.

    Attributes:
        auc: chance that the probe takes the test image for one, of a training and a test image; 0.5: it cannot tell.
        low: lower end of the 95 % interval.
        high: upper end.
        train: training images that were used.
        test: test images that were used.
    """

    auc: float
    low: float
    high: float
    train: int
    test: int

    @property
    def shown(self) -> bool:
        """Whether the interval excludes that they cannot be told apart."""
        return self.low > 0.5


def shift(
    train: Features, test: Features, *, groups: NDArray[np.int64] | None = None, seed: int = 0
) -> Shift | None:
    """The area under the ROC curve of a cross-fitted probe between the two sets; None where one has too few images.

    Args:
        train: (N, width) frozen features of training images.
        test: (M, width) of test images.
        groups: (N + M,) images of one group are held out together; such images, copies say, would tell the probe nothing.
        seed: of the choice of images and of the folds.
    """
    if min(len(train), len(test)) < _LEAST:
        return None
    rng = generator(seed, "shift")
    picks = [np.sort(rng.permutation(len(rows))[:MOST]) for rows in (train, test)]
    names = np.arange(len(train) + len(test)) if groups is None else groups
    chosen = np.concatenate([picks[0], picks[1] + len(train)])
    truth = np.repeat([0, 1], [len(pick) for pick in picks]).astype(np.int64)
    problem = Problem(
        features=np.concatenate([train[picks[0]], test[picks[1]]]),
        targets=truth,
        groups=names[chosen],
        classes=2,
        weights=None,
    )
    path = walk(problem, strengths=_STRENGTHS, count=_FOLDS, seed=seed, repeats=1)
    logits = path.logits[path.chosen]
    area, error = roc_area(logits[:, 1] - logits[:, 0], truth)
    return Shift(
        auc=area,
        low=max(0.0, area - _Z95 * error),
        high=min(1.0, area + _Z95 * error),
        train=len(picks[0]),
        test=len(picks[1]),
    )


def roc_area(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, float]:
    """(area under the ROC curve, its standard error): the chance that a positive scores above a negative, ties half.

    Source: DeLong, DeLong & Clarke-Pearson 1988, by ranks as Sun & Xu 2014.

    >>> area, error = roc_area(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    >>> area, round(error, 4)
    (0.75, 0.3536)
    """
    high, low = scores[truth == 1], scores[truth == 0]
    m, n = len(high), len(low)
    above = _ranks(np.concatenate([high, low]))
    of_high = (above[:m] - _ranks(high)) / n  # share of negatives below each positive
    of_low = 1 - (above[m:] - _ranks(low)) / m
    variance = _variance(of_high) / m + _variance(of_low) / n
    return float(of_high.mean()), math.sqrt(variance)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1 (N,), equal values sharing their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    out: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return out


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
