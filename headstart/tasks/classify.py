"""One class for each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax
from torch import Tensor
from torch.nn import functional as F

from headstart.data.records import Sample
from headstart.tasks.heads import Head
from headstart.tasks.records import Floats, Labels, Task
from headstart.tasks.whole import example, together


def targets(samples: Sequence[Sample], classes: int) -> Labels:
    """Class indices (N,)."""
    del classes  # an index needs no width
    return np.array([sample.labels[0] for sample in samples], np.int64)


def loss(logits: Tensor, truth: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Mean cross-entropy."""
    return F.cross_entropy(logits, truth, weight=weights, label_smoothing=smoothing)


def probabilities(logits: Floats) -> Floats:
    """Softmax over classes."""
    out: Floats = softmax(logits, axis=1)
    return out


def decode(probability: Floats) -> list[tuple[int, ...]]:
    """The most probable class."""
    return [(int(index),) for index in probability.argmax(1)]


def correctness(logits: Floats, truth: Labels) -> Floats:
    """1 where the most probable class is the true one, else 0."""
    right: Floats = (logits.argmax(1) == truth).astype(np.float64)
    return right


def made(head: Head, settings: Any) -> Task:
    """The task with that head."""
    return Task(
        name="classify",
        head=head.spec(settings),
        build=head.on(settings),
        example=example,
        targets=targets,
        together=together,
        loss=loss,
        probabilities=probabilities,
        decode=decode,
        primary="accuracy",
        correctness=correctness,
        activation="softmax",
    )
