"""Which of several candidates is best, when each was measured on the same few images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart._core.errors import BadInput
from headstart._core.seed import generator
from headstart.scores.checks import Floats, Wide

DRAWS = 2000
_LEVEL = 0.95


def bootstrap_best(correct: Floats, *, draws: int = DRAWS, seed: int = 0) -> Wide:
    """The probability (K,) of each candidate being the best on such images; they add up to 1.

    The images are drawn again with replacement, the same ones for all candidates, so what is common to them (an image
    that nobody gets right) does not count. Equal means share a draw.

    Args:
        correct: (N, K) correctness in [0, 1] of K candidates on the same N images.
        draws: how often to resample.
        seed: of the resamples.

    Raises:
        BadInput: for an array that is not (N, K), or is empty.

    Source: Efron 1979 (bootstrap).
    """
    means = resampled_means(correct, draws, seed)
    best = means >= means.max(1, keepdims=True) - 1e-12  # the same images in another order of summation
    out: Wide = (best / best.sum(1, keepdims=True)).mean(0)
    return out


def tied(correct: Floats, *, level: float = _LEVEL, draws: int = DRAWS, seed: int = 0) -> NDArray[np.bool_]:
    """Which candidates (K,) are within noise of the best: their paired interval of the difference reaches 0.

    The best is tied with itself; a mask with one True says that it is shown to be better than every other.

    Args:
        correct: (N, K) correctness in [0, 1] of K candidates on the same N images.
        level: of the two-sided interval, in (0, 1).
        draws: how often to resample.
        seed: of the resamples.

    Raises:
        BadInput: for an array that is not (N, K), or is empty.
    """
    means = resampled_means(correct, draws, seed)
    first = int(np.asarray(correct, np.float64).mean(0).argmax())
    lowest = np.quantile(means[:, [first]] - means, (1 - level) / 2, axis=0)
    return np.asarray(lowest <= 1e-12)


def resampled_means(correct: Any, draws: int = DRAWS, seed: int = 0) -> Wide:
    """Means (draws, K) over images drawn with replacement, the same ones for all candidates in a draw.

    Args:
        correct: (N, K) correctness in [0, 1] of K candidates on the same N images.
        draws: how often to resample.
        seed: of the resamples.

    Raises:
        BadInput: for an array that is not (N, K), or is empty.
    """
    rows = np.asarray(correct, np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise BadInput(
            f"Correctness has shape {rows.shape}.", hint="Give (images, candidates), one or more of each."
        )
    n = len(rows)
    drawn = generator(seed, "best", n).integers(0, n, (draws, n))
    drawn += (
        n * np.arange(draws)[:, None]
    )  # one count for all draws at once: row by row takes ten times as long
    counts = np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n)
    out: Wide = counts @ rows / n
    return out
