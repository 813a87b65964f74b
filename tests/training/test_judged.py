"""What is told of the validation images on the way, and between which ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from headstart.metrics import draw, mean_interval, wilson
from headstart.metrics.losses import row_losses
from headstart.tasks import TASKS
from headstart.training.judged import judged
from headstart.training.records import TrainingData


def data_of(task: str) -> TrainingData:
    return cast(TrainingData, SimpleNamespace(task=cast(Any, TASKS[task]), seed=3))


def test_accuracy_and_loss_have_intervals() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    logits = 2.0 * np.eye(3)[truth] + rng.normal(0, 1, (60, 3))
    found = judged(data_of("classify"), logits, truth)
    right = int((logits.argmax(1) == truth).sum())
    assert found.metrics["accuracy"] == pytest.approx(right / 60)
    assert found.intervals["accuracy"] == wilson(right, 60)
    losses = row_losses(logits, truth)
    assert found.metrics["log_loss"] == pytest.approx(losses.mean())
    assert found.intervals["log_loss"] == mean_interval(losses, draw(60, seed=3))


def test_several_labels() -> None:
    truth = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    found = judged(data_of("multilabel"), np.where(truth > 0, 2.0, -2.0), truth)
    assert found.metrics["f1_samples"] == 1.0
    assert found.intervals["f1_samples"] == wilson(4, 4)


def test_answers_with_places_have_no_loss_here() -> None:
    counts = np.stack([np.pad(np.diag([30.0, 10.0]), ((0, 0), (0, 2)))] * 5)
    found = judged(data_of("segment"), counts, None)
    assert set(found.metrics) == set(found.intervals) == {"image_miou"}
