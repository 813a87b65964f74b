"""Scales and shifts of the classes become part of the head, and nothing behind it need know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart import evaluation
from headstart.evaluation import About, Answers
from headstart.heads.logistic import LinearHead
from headstart.metrics.classwise import Classwise, Fitted
from headstart.training.calibrating import Calibration

WHOLE = Classwise(
    scale=(0.5, 2.0, 1.0), shift=(1.0, -1.5, 0.5), temperature=1.2, gain=0.1, low=0.05, high=0.15, n=500
)
FOUND = Calibration(1.0, Fitted(WHOLE, np.array([[WHOLE.scale, WHOLE.shift]] * 5), np.zeros(500, np.int64)))


def test_folded_head_gives_scaled_logits() -> None:
    rng = np.random.default_rng(0)
    head = LinearHead(rng.standard_normal((3, 8)), rng.standard_normal(3))
    rows = rng.standard_normal((20, 8)).astype(np.float32)
    np.testing.assert_allclose(FOUND.folded(head)(rows), WHOLE(head(rows)), atol=1e-5)
    assert Calibration(1.3).folded(head) is head


def test_the_evaluation_tells_what_there_was_before() -> None:
    rng = np.random.default_rng(0)
    raw, truth = rng.normal(0, 2, (200, 3)), rng.integers(0, 3, 200)
    about = About(
        task="classify", classes=("a", "b", "c"), method="m", weights="w", temperature=1.0, seed=0, seconds={}
    )
    names = tuple(map(str, range(200)))
    plain = Answers(names=names, truth=truth, logits=raw)
    scaled = Answers(names=names, truth=truth, logits=WHOLE(raw))
    before = evaluation.score(plain, about).metrics["calibration_error"]
    told = evaluation.evaluate(scaled, val=None, baselines={}, about=replace(about, classwise=WHOLE))
    after = told.splits["test"].metrics["calibration_error_before"]
    assert after.value == pytest.approx(before.value)
    assert told.classwise == WHOLE
