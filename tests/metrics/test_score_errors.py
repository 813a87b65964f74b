"""Standard errors of transferability scores: against leaving out one image after the other, and against fresh images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart import scores

Arrays = tuple[NDArray[np.float64], NDArray[np.int64]]
CLASSES = 3
PULL = np.random.default_rng(0).normal(size=(CLASSES, 200))


def features(rng: np.random.Generator, n: int, width: int) -> Arrays:
    labels = rng.integers(0, CLASSES, n)
    rows = rng.normal(size=(n, width)) + PULL[labels, :width] * min(1.0, 4 / np.sqrt(width))
    return rows / np.sqrt(1 + np.arange(width) / 10) + 0.5, labels


def answers(rng: np.random.Generator, n: int, width: int) -> Arrays:
    labels = rng.integers(0, CLASSES, n)
    raised = np.exp(PULL[labels, :width] + 1.5 * rng.normal(size=(n, width)))
    return raised / raised.sum(1, keepdims=True), labels


ROWS: dict[str, tuple[Callable[..., scores.Estimate], Callable[..., float], Callable[..., Arrays]]] = {
    "log_me": (scores.log_me_estimate, scores.log_me, features),
    "h_score": (scores.regularised_h_score_estimate, scores.regularised_h_score, features),
    "leep": (scores.leep_estimate, scores.leep, answers),
}


@pytest.mark.parametrize("width", [8, 120], ids=["tall", "wide"])
@pytest.mark.parametrize("name", ROWS)
def test_the_error_is_that_of_leaving_out_each_image_in_turn(name: str, width: int) -> None:
    estimate, score, make = ROWS[name]
    rows, labels = make(np.random.default_rng(1), 60, width)
    without = [score(np.delete(rows, each, 0), np.delete(labels, each)) for each in range(60)]
    found = estimate(rows, labels)
    assert found.value == score(rows, labels)
    assert found.error == pytest.approx(np.sqrt(59 * np.var(without)), rel=0.2)


@pytest.mark.parametrize("name", ROWS)
def test_on_fresh_images_the_score_differs_by_about_its_error(name: str) -> None:
    """A wrong factor of two would show."""
    estimate, _, make = ROWS[name]
    found = [estimate(*make(np.random.default_rng(seed), 100, 40)) for seed in range(60)]
    spread = np.std([each.value for each in found], ddof=1)
    assert 0.65 < np.mean([each.error for each in found]) / spread < 1.6


def test_more_images_have_smaller_errors() -> None:
    for estimate, _, make in ROWS.values():
        few, many = (estimate(*make(np.random.default_rng(2), n, 8)).error for n in (50, 800))
        assert many < few / 2


def test_a_class_of_one_image_and_features_that_are_all_alike_have_errors_too() -> None:
    rows, labels = features(np.random.default_rng(3), 40, 8)
    labels[0] = CLASSES
    for estimate, _, make in ROWS.values():
        given = answers(np.random.default_rng(3), 40, 8)[0] if make is answers else rows
        assert 0 < estimate(given, labels).error < np.inf
    assert scores.regularised_h_score_estimate(np.ones((40, 3)), labels) == scores.Estimate(0.0, 0.0)
