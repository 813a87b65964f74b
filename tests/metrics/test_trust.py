"""Calibration, conformal sets and risk-coverage: against scikit-learn, SciPy, worked cases and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from headstart._core.errors import BadOption
from headstart.metrics import debiased_error, draw
from headstart.metrics import multilabel as multi
from headstart.metrics.calibration import _erf
from headstart.metrics.conformal import calibrate, sets
from headstart.metrics.intervals import wilson
from headstart.metrics.selective import aurc, aurc_metric, risk_curve


def _says(n: int, seed: int, *, power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, and whether the answer was right: right with the probability `confidence ** power`."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, n)
    return confidence, (rng.random(n) < confidence**power).astype(float)


def test_a_calibrated_model_has_no_calibration_error_but_chance() -> None:
    plain, debiased = [], []
    for seed in range(100):
        confidence, right = _says(300, seed)
        order = np.argsort(confidence)
        gaps = [abs((right - confidence)[part].mean()) for part in np.array_split(order, 15)]
        plain.append(np.mean(gaps))
        debiased.append(debiased_error(confidence, right)[0])
    assert np.mean(plain) > 0.05
    assert np.mean(debiased) < 0.6 * np.mean(plain)


def test_a_true_calibration_error_is_found_and_covered() -> None:
    confidence, right = _says(400_000, 1, power=2.0)
    true = float(np.abs(confidence**2 - confidence).mean())
    assert debiased_error(confidence, right)[0] == pytest.approx(true, abs=0.003)
    held = 0
    for seed in range(200):
        confidence, right = _says(200, seed + 10, power=2.0)
        value, (low, high) = debiased_error(confidence, right, draw(200, seed=seed))
        assert low <= value <= high
        held += low <= true <= high
    assert 0.9 <= held / 200 <= 0.99


def test_the_error_function() -> None:
    from scipy.special import erf

    x = np.linspace(0, 4, 50)
    assert _erf(x) == pytest.approx(erf(x), abs=2e-7)


def test_the_conformal_quantile_by_hand() -> None:
    probability = np.array([[p, 1 - p] for p in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)])
    found = calibrate(probability, np.zeros(9, np.int64))
    assert found.threshold(0.8) == pytest.approx(0.8)  # ceil(10 * 0.8) = the 8th of 0.1, 0.2 ... 0.9
    assert found.threshold(0.9) == pytest.approx(0.9)
    assert found.threshold(0.95) == 1.0  # nine images cannot promise it: every class belongs
    assert sets(np.array([[0.1, 0.9]]), found.threshold(0.95)).all()
    with pytest.raises(BadOption, match="coverage"):
        found.threshold(1.0)


@pytest.mark.parametrize("asked", [0.8, 0.9, 0.95])
def test_sets_cover_as_asked(asked: float) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        truth = rng.integers(0, 4, 400)
        probability = softmax(3 * (rng.normal(size=(400, 4)) + np.eye(4)[truth]), axis=1)  # far too sure
        threshold = calibrate(probability[:100], truth[:100]).threshold(asked)
        plain = sets(probability[100:], threshold, keep_best=False)
        covered.append(plain[np.arange(300), truth[100:]].mean())
    assert np.mean(covered) == pytest.approx(np.ceil(101 * asked) / 101, abs=0.01)


def test_a_large_calibration_set_keeps_its_quantiles() -> None:
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(3), 25_000)
    truth = rng.integers(0, 3, 25_000)
    found = calibrate(probability, truth)
    assert len(found.ranks) == 999
    every = np.sort(1 - probability[np.arange(25_000), truth])
    for asked in (0.5, 0.9, 0.999):
        assert found.threshold(asked) == every[int(np.ceil(25_001 * asked - 1e-9)) - 1]


def test_the_best_class_is_always_in_the_set() -> None:
    inside = sets(np.array([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04]]), 0.2)
    assert inside.tolist() == [[True, False, False], [True, False, False]]
    assert not sets(np.array([[0.5, 0.3, 0.2]]), 0.2, keep_best=False).any()


def test_the_area_under_the_risk_curve_by_hand() -> None:
    confidence, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 0.0, 1.0, 1.0])
    assert aurc(confidence, right) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert aurc(np.full(4, 0.5), right) == pytest.approx(
        0.25
    )  # nothing is surer than the rest: the mean error
    curve = risk_curve(confidence, right)
    assert [(point.coverage, point.risk.value) for point in curve] == [
        (0.25, 0),
        (0.5, 0.5),
        (0.75, 1 / 3),
        (1, 0.25),
    ]


def test_the_area_has_an_interval_where_nothing_is_wrong() -> None:
    found = aurc_metric(np.linspace(0.5, 1, 60), np.ones(60))
    assert found.value == found.low == 0
    assert found.high == pytest.approx(wilson(0, 60)[1])


def test_the_error_of_the_area_equals_the_jackknifes() -> None:
    confidence, right = _says(400, 3)
    found = aurc_metric(confidence, right)
    each = [aurc(np.delete(confidence, row), np.delete(right, row)) for row in range(400)]
    error = np.sqrt(399 * np.var(each))
    assert np.log(found.high / found.value) == pytest.approx(1.96 * error / found.value, rel=0.03)
    assert found.high / found.value == pytest.approx(found.value / found.low)


def test_resampled_average_precision_equals_the_plain_one_on_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((40, 3)) < 0.3).astype(np.int64)
    scores = np.round(rng.random((40, 3)) + 0.4 * truth, 1)
    weights = rng.integers(0, 3, (5, 40)).astype(np.float32)
    found = multi.average_precisions(scores, truth, weights)
    for row in range(5):
        rows = np.repeat(np.arange(40), weights[row].astype(int))
        for column in range(3):
            assert found[row, column] == pytest.approx(
                multi.average_precision(scores[rows, column], truth[rows, column])
            )
