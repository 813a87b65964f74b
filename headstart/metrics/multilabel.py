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


def average_precisions(scores: Floats, truth: Labels, weights: Floats) -> Floats:
    """`average_precision` of each class with images that count more than once or not at all (repeats, classes).

    Args:
        scores: (N, classes).
        truth: (N, classes) of 0 and 1.
        weights: (repeats, N) how often each image counts.
    """
    out = np.full((len(weights), scores.shape[1]), np.nan)
    for column in range(scores.shape[1]):
        order = np.argsort(-scores[:, column], kind="stable")
        ends = np.flatnonzero(np.append(np.diff(scores[order, column]) != 0, True))
        drawn = weights[:, order]
        seen = np.cumsum(drawn, axis=1, dtype=np.float64)[:, ends]
        found = np.cumsum(drawn * truth[order, column], axis=1, dtype=np.float64)[:, ends]
        positives = found[:, -1]
        steps = np.diff(found, axis=1, prepend=0.0)
        area = (steps * found / np.maximum(seen, 1)).sum(1)
        out[:, column] = np.where(positives > 0, area / np.maximum(positives, 1), np.nan)
    return out


def mean_of_known(table: Floats) -> NDArray[np.float64]:
    """The mean of each row (repeats,) over the columns that are not NaN; NaN where all are."""
    known = np.isfinite(table)
    total = np.where(known, table, 0).sum(1, dtype=np.float64)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)


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
