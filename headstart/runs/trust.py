"""What a model needs to say how far it can be trusted: scores for sets of classes."""

from __future__ import annotations

import numpy as np

from headstart.ladder import Climbed
from headstart.metrics.conformal import Conformal, calibrate
from headstart.tasks import TASKS
from headstart.training import TrainingData


def conformal_of(climbed: Climbed, data: TrainingData) -> Conformal | None:
    """What sets of classes are made from; None for several labels an image, or without an image to calibrate on.

    It comes from the validation images and, of a method that cross-validates, from the training images too: each answered
    by a head that did not see it. Those heads had fewer images than the final one, which makes the sets a little too large.
    """
    if data.task.name != "classify" or not len(data.val):
        return None
    logits, samples = [climbed.val_logits], list(data.val)
    if climbed.crossed is not None:
        logits.append(climbed.crossed)
        samples += data.train
    truth = data.task.targets(tuple(samples), len(data.classes))
    calibrated = np.concatenate(logits) / climbed.outcome.temperature
    return calibrate(TASKS[data.task.name].probabilities(calibrated), truth)
