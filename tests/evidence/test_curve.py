"""The learning curve: intervals that hold on curves whose law is known, and points that learn from what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from headstart.data.records import Sample
from headstart.evidence.curve import FOLDS, Measured, _part, fit_curve, learning_curve, measure_points
from headstart.evidence.probing import Probing, spread
from headstart.evidence.records import Curve, Forecast
from headstart.scores import fold_numbers
from headstart.tasks import TASKS

COUNTS = np.array([50.0, 100.0, 200.0, 400.0])


def observed(
    limit: float, scale: float, rate: float, rng: np.random.Generator, *, judged: int = 500
) -> Measured:
    """A curve as `judged` images would show it: the same images at every point, and other ones to learn from at each."""
    truth = limit - scale * COUNTS**-rate
    skill = rng.random(judged)  # an image is got right where the head's accuracy exceeds what the image asks
    blur = rng.normal(0, 0.1, (judged, len(COUNTS)))
    right = np.clip(skill[:, None] + blur, 0, 1) < truth + rng.normal(0, 0.008, len(COUNTS))
    covariance = np.cov(right, rowvar=False) / judged + np.eye(len(COUNTS)) * 0.008**2
    return Measured(counts=COUNTS, accuracies=right.mean(0), covariance=covariance)


def test_intervals_hold_on_known_laws() -> None:
    """At least 85 % of the 95 % intervals contain the truth, at twice and at four times the images, over many laws."""
    rng = np.random.default_rng(0)
    inside: list[bool] = []
    widths: list[float] = []
    for _ in range(150):
        limit, rate = rng.uniform(0.7, 0.99), rng.uniform(0.3, 1.0)
        scale = rng.uniform(0.05, 0.4) * COUNTS[0] ** rate  # 5 to 40 points are missing at 50 images
        curve = fit_curve(observed(limit, scale, rate, rng), total=400)
        for multiple, (_, low, high) in ((2, curve.twice), (4, curve.fourfold)):
            truth = limit - scale * (400.0 * multiple) ** -rate
            inside.append(low <= truth <= high)
            widths.append(high - low)
    assert np.mean(inside) >= 0.85
    assert np.median(widths) < 0.15, "an interval that says nothing is no forecast"


def test_a_curve_without_noise_is_found_again() -> None:
    truth = 0.9 - 2.0 * COUNTS**-0.5
    curve = fit_curve(Measured(COUNTS, truth, np.eye(4) * 1e-8), total=400)
    assert curve.twice[0] == pytest.approx(0.9 - 2.0 * 800**-0.5, abs=0.01)
    assert curve.limit - curve.scale * 400**-curve.rate == pytest.approx(truth[-1], abs=0.01)
    assert [step.n for step in curve.forecast[:3]] == [400, 600, 800]


def test_labels_for_reads_the_forecast_and_its_interval() -> None:
    steps = tuple(
        Forecast(n=n, value=v, low=v - 0.1, high=v + 0.1) for n, v in ((100, 0.7), (400, 0.8), (1600, 0.9))
    )
    none = (0.0, 0.0, 0.0)
    curve = Curve(points=(), limit=1, scale=1, rate=1, twice=none, fourfold=none, forecast=steps)
    found = curve.labels_for(0.75)
    assert found.n == 200, "half way between 100 and 400 by ratio"
    assert found.low == 100
    assert found.high == 800
    assert curve.labels_for(0.95).n is None


def probing(count: int, *, classes: int = 3, seed: int = 0) -> Probing:
    targets = np.random.default_rng(seed).integers(0, classes, count)
    blank = np.zeros((2, 2, 3), np.uint8)
    samples = tuple(Sample(name=str(n), source=blank, labels=(int(t),)) for n, t in enumerate(targets))
    return Probing(samples=samples, targets=targets, groups=None)


def test_parts_are_nested_by_class_and_never_touch_their_fold() -> None:
    images = probing(150)
    folds = fold_numbers(images.targets, count=FOLDS)
    parts = [_part(images, folds, 2, share, 0) for share in (1 / 8, 1 / 4, 1 / 2, 1.0)]
    for small, large in itertools.pairwise(parts):
        assert (large[small]).all()
        assert large.sum() > small.sum()
    assert not any(part[folds == 2].any() for part in parts)
    assert set(images.targets[parts[0]]) == {0, 1, 2}


def test_more_images_help_and_noise_stays_at_chance() -> None:
    images = probing(300)
    rng = np.random.default_rng(1)
    centres = rng.normal(0, 1, (3, 20))
    features = (centres[images.targets] + rng.normal(0, 2.2, (300, 20))).astype(np.float32)
    learned = measure_points(features, images, TASKS["classify"], seed=0)
    assert learned is not None
    assert learned.accuracies[-1] > learned.accuracies[0] + 0.05
    assert learned.counts.tolist() == [30, 60, 120, 240]
    noise = rng.normal(0, 1, (300, 20)).astype(np.float32)
    nothing = measure_points(noise, images, TASKS["classify"], seed=0)
    assert nothing is not None
    assert (abs(nothing.accuracies - 1 / 3) < 0.12).all()


def test_too_few_images_give_no_curve() -> None:
    images = probing(30)
    assert learning_curve(np.zeros((30, 4), np.float32), images, TASKS["classify"], total=30) is None


def test_every_beginning_of_the_order_is_stratified() -> None:
    targets = np.array([0] * 90 + [1] * 9 + [2])
    order = spread(targets, seed=0)
    assert sorted(order) == list(range(100))
    assert set(targets[order[:5]]) == {0, 1, 2}, "two of every class come first"
    assert 40 <= (targets[order[:50]] == 0).sum() <= 48
