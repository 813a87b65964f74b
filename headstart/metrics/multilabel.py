"""Metrics of any number of classes an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Floats = NDArray[np.floating]

_TINY = 1e-15


def average_precision(scores: Floats, truth: Labels) -> float:
    """Area under the precision-recall curve as a sum over recall steps, in [0, 1]; NaN without a positive.

    Tied scores are one step, so the order of equal scores does not matter.

    Args:
        scores: (N,), higher means more likely present.
        truth: (N,) of 0 and 1.
    """
    positives = int(truth.sum())
    if positives == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(truth[order])
    ends = np.flatnonzero(
        np.append(np.diff(scores[order]) != 0, True)
    )  # the last of each run of equal scores
    precision, recall = found[ends] / (ends + 1), found[ends] / positives
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_average_precision(scores: Floats, truth: Labels) -> float:
    """The mean average precision over the classes that have a positive; scores and truth are (N, classes)."""
    each = [average_precision(scores[:, column], truth[:, column]) for column in range(truth.shape[1])]
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def f1_from_counts(right: NDArray[Any], given: NDArray[Any], present: NDArray[Any]) -> Floats:
    """F1 of counts: right answers, answers given, labels present; NaN where there is neither."""
    size = given + present
    return np.where(size > 0, 2 * right / np.maximum(size, 1), np.nan)


def micro_f1(given: Labels, truth: Labels) -> float:
    """F1 over all decisions together, of (N, classes) of 0 and 1."""
    return float(np.nan_to_num(f1_from_counts((given & truth).sum(), given.sum(), truth.sum())))


def macro_f1(given: Labels, truth: Labels) -> float:
    """The mean of the classes' F1, over classes that occur or were given."""
    each = f1_from_counts((given & truth).sum(0), given.sum(0), truth.sum(0))
    return float(np.nanmean(each)) if np.isfinite(each).any() else 0.0


def log_losses(probability: Floats, truth: Labels) -> Floats:
    """Mean binary log-loss over the classes of each image (N,); lower is better."""
    clipped = np.clip(probability, _TINY, 1 - _TINY)
    losses: Floats = -(truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped)).mean(1)
    return losses
