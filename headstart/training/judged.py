"""What the validation images say of a network on the way, with intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.metrics import draw, mean_interval, wilson
from headstart.metrics.losses import row_losses
from headstart.training.records import TrainingData


class Judged(NamedTuple):
    """What an event tells of some answers.

    Attributes:
        metrics: name -> value.
        intervals: metric -> (low, high), 95 %.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def judged(data: TrainingData, rows: NDArray[np.float64], targets: Any) -> Judged:
    """The score of answers to the validation images, and what chooses among epochs, with intervals.

    That is the log-loss; where answers have places, 1 - mAP or 1 - mean IoU, with percentiles over resamples of the images.

    Args:
        data: with the task.
        rows: what is kept of the answers (N, …).
        targets: their truth.
    """
    task = data.task
    found = None if task.places is None else task.places.glance(rows, targets, data.seed)
    scores = np.asarray(task.correctness(rows, targets) if found is None else found.scores, np.float64)
    metrics = {task.primary: float(scores.mean())}
    intervals = {task.primary: wilson(float(scores.sum()), len(scores))}
    if found is not None:
        span = (found.low, found.high)
        return Judged(metrics | {task.judged_by: found.value}, intervals | {task.judged_by: span})
    losses = row_losses(rows, targets)
    low, high = mean_interval(losses, draw(len(losses), seed=data.seed))
    return Judged(
        metrics | {task.judged_by: float(losses.mean())}, intervals | {task.judged_by: (max(0.0, low), high)}
    )
