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


def test_masks_have_the_percentiles_of_mean_iou_over_resampled_images() -> None:
    rng = np.random.default_rng(4)
    counts = np.pad(rng.integers(0, 20, (9, 3, 3)) + 40 * np.eye(3), ((0, 0), (0, 0), (0, 2)))
    found, task = judged(data_of("segment"), counts, None), TASKS["segment"]
    assert set(found.metrics) == set(found.intervals) == {"image_miou", "1 - mIoU"}
    assert found.metrics["1 - mIoU"] == task.judge(counts, None)
    drawn = draw(9, seed=3).images.astype(int)
    values = [task.judge(np.repeat(counts, row, axis=0), None) for row in drawn]
    assert found.intervals["1 - mIoU"] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_masks_that_are_all_alike_are_sure() -> None:
    counts = np.stack([np.pad(np.diag([30.0, 10.0]), ((0, 0), (0, 2)))] * 5)
    assert judged(data_of("segment"), counts, None).intervals["1 - mIoU"] == (0.0, 0.0)


def test_boxes_have_the_percentiles_of_map_over_resampled_images() -> None:
    """Twelve images, an object each: found well, or a second place where there is nothing, surer or less sure."""
    rng, task = np.random.default_rng(5), TASKS["detect"]
    truth = [np.array([[10.0, 10, 50, 50, k % 2, 0]]) for k in range(12)]
    rows = np.full((12, 100, 6), -1.0)
    for k in range(12):
        rows[k, 0] = [10, 10, 50, rng.uniform(30, 50), rng.random(), k % 2]
        rows[k, 1] = [100, 100, 140, 140, rng.random(), k % 2]
    found = judged(data_of("detect"), rows, truth)
    assert set(found.metrics) == set(found.intervals) == {"image_ap", "1 - mAP"}
    assert found.metrics["1 - mAP"] == task.judge(rows, truth)
    assert found.metrics["image_ap"] == pytest.approx(task.correctness(rows, truth).mean())
    values = []
    for row in draw(12, seed=3, repeats=200).images.astype(int):
        places = np.repeat(np.arange(12), row)
        values.append(task.judge(rows[places], [truth[place] for place in places]))
    assert found.intervals["1 - mAP"] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)


def test_without_an_object_nothing_is_known() -> None:
    found = judged(data_of("detect"), np.full((4, 100, 6), -1.0), [np.zeros((0, 6))] * 4)
    assert found.metrics["1 - mAP"] == 1.0
    assert found.intervals["1 - mAP"] == (0.0, 1.0)
