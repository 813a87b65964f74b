"""What goes into training and what comes out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart._core.clock import Clock
from headstart._core.records import record
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.features import FeatureStore
from headstart.heads.logistic import LinearHead
from headstart.metrics.classwise import Classwise
from headstart.tasks import Network, Task


@dataclass(frozen=True)
class TrainingData:
    """Everything about the data that training may see; the test split is not in it.

    Attributes:
        refit: the validation images were taken out of the training images here, so a method that has no further use for
            them may train on them at its end. Never true for a validation split that the user gave.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    task: Task
    classes: tuple[str, ...]
    preprocess: Preprocess
    store: FeatureStore
    seed: int
    refit: bool


@dataclass(frozen=True)
class Pace:
    """When to stop and how often to save.

    Attributes:
        folder: where checkpoints of this rung go.
        every: seconds between two checkpoints.
        planned: seconds that the schedule may be made for, where that is less than the clock has left. The first rung is
            never stopped by the budget, but it is not planned beyond it either.
        before: the best network of the rungs before this one; None where it is the first.
    """

    clock: Clock
    folder: Path
    every: float = 20.0
    planned: float = math.inf
    before: Network | None = None


@record
class Event:
    """Something that happened, one line of `history.jsonl`.

    Attributes:
        event: `rung_start`, `step`, `validation`, `note`, `rung_end`, `ladder_end`.
        rung: name of the method.
        epoch: passes over the training images so far.
        step: optimiser steps so far.
        loss: mean training loss since the event before.
        lr: learning rate of the head.
        metrics: on the validation images.
        intervals: metric -> its 95 % interval (low, high).
        seconds: since the rung began.
        kept: at `rung_end`: whether this rung's model is the best so far.
        reason: in words.
    """

    event: str
    rung: str
    epoch: float = 0.0
    step: int = 0
    loss: float | None = None
    lr: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float = 0.0
    kept: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class FitResult:
    """A trained network and its answers on the validation images.

    Attributes:
        model: on the CPU, in evaluation mode.
        val_logits: what is kept of its answers, of a network that never saw these images: uncalibrated logits (N, classes),
            or for boxes and masks the rows (N, …) of their task.
        temperature: what to divide logits by for calibrated probabilities, fitted on images the network had not seen.
        seconds: that the rung took, with what was stored before its first step and the last look at the validation images.
        ended: why training ended, in words.
        facts: what the method found out on the way (the chosen strength, the best epoch).
        crossed: cross-validated answers on the training images (N, classes), each by a head that did not see the image;
            None where the method does not cross-validate.
        head: the head that gave `val_logits`, where the model's own has since been fitted on those images too; else None.
        classwise: a scale and a shift of each class's logit that paid more than a temperature and are part of the head;
            `val_logits` and `crossed` have them too, each image by what was fitted without it. Else None.
    """

    method: str
    model: Network
    val_logits: NDArray[np.float64]
    temperature: float
    seconds: float
    ended: str
    facts: dict[str, Any]
    crossed: NDArray[np.float64] | None = None
    head: LinearHead | None = None
    classwise: Classwise | None = None
