"""Any number of classes for each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from headstart.data.records import Sample
from headstart.tasks.heads import Head
from headstart.tasks.records import Floats, Labels, Task
from headstart.tasks.whole import example, together

THRESHOLD = 0.5  # on calibrated probabilities: "more likely present than not"


def targets(samples: Sequence[Sample], classes: int) -> Labels:
    """0 or 1 for each image and class (N, classes)."""
    out = np.zeros((len(samples), classes), np.int64)
    for row, sample in enumerate(samples):
        out[row, list(sample.labels)] = 1
    return out


def loss(logits: Tensor, truth: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Mean binary cross-entropy; a class's weight multiplies the loss of its positives."""
    smooth = truth.float() * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights)


def probabilities(logits: Floats) -> Floats:
    """A sigmoid for each class."""
    out: Floats = expit(logits)
    return out


def decode(probability: Floats) -> list[tuple[int, ...]]:
    """Every class that is more likely present than not; possibly none."""
    return [tuple(int(index) for index in np.flatnonzero(row > THRESHOLD)) for row in probability]


def correctness(logits: Floats, truth: Labels) -> Floats:
    """F1 of each image's label set (1 where both sets are empty)."""
    given = logits > 0
    both = (given & (truth > 0)).sum(1)
    size = given.sum(1) + (truth > 0).sum(1)
    return np.where(size > 0, 2 * both / np.maximum(size, 1), 1.0)


def made(head: Head, settings: Any) -> Task:
    """The task with that head."""
    return Task(
        name="multilabel",
        head=head.spec(settings),
        build=head.on(settings),
        example=example,
        targets=targets,
        together=together,
        loss=loss,
        probabilities=probabilities,
        decode=decode,
        primary="f1_samples",  # scikit-learn's word for the mean of `correctness`; mAP is no mean over images
        correctness=correctness,
        activation="sigmoid",
    )
