"""Metrics against scikit-learn and SciPy, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics as reference

from headstart.metrics import calibration_error, fit_temperature, mcnemar, reliability, wilson
from headstart.metrics import classification as single
from headstart.metrics import multilabel as multi
from headstart.metrics.intervals import bootstrap, draw, mean_interval

RNG = np.random.default_rng(0)
N, CLASSES = 400, 7
TRUTH = RNG.choice(CLASSES, N, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.04, 0.01])
LOGITS = RNG.normal(size=(N, CLASSES)) + 1.5 * np.eye(CLASSES)[TRUTH]
PROBABILITY = softmax(LOGITS, axis=1)
ANSWERS = PROBABILITY.argmax(1)
TABLE = single.confusion(TRUTH, ANSWERS, CLASSES)
MANY = (RNG.random((N, 5)) < [0.5, 0.3, 0.1, 0.05, 0.0]).astype(np.int64)
SCORES = np.round(RNG.random((N, 5)) + 0.5 * MANY, 2)  # rounded: ties matter


def test_confusion_has_truth_in_rows() -> None:
    assert (reference.confusion_matrix(TRUTH, ANSWERS, labels=range(CLASSES)) == TABLE).all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (single.accuracy(TABLE), reference.accuracy_score(TRUTH, ANSWERS)),
        (single.balanced_accuracy(TABLE), reference.balanced_accuracy_score(TRUTH, ANSWERS)),
        (single.macro_f1(TABLE), reference.f1_score(TRUTH, ANSWERS, average="macro")),
        (
            single.hits(PROBABILITY, TRUTH, top=5).mean(),
            reference.top_k_accuracy_score(TRUTH, PROBABILITY, k=5, labels=range(CLASSES)),
        ),
        (
            single.log_losses(PROBABILITY, TRUTH).mean(),
            reference.log_loss(TRUTH, PROBABILITY, labels=range(CLASSES)),
        ),
        (
            multi.micro_f1((SCORES > 0.7).astype(int), MANY),
            reference.f1_score(MANY, SCORES > 0.7, average="micro"),
        ),
        (
            multi.log_losses(np.clip(SCORES / 2, 0, 1), MANY).mean(),
            _binary := np.mean(
                [
                    reference.log_loss(MANY[:, c], np.clip(SCORES[:, c] / 2, 0, 1), labels=[0, 1])
                    for c in range(5)
                ]
            ),
        ),
    ],
)
def test_equals_scikit_learn(ours: float, theirs: float) -> None:
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("column", range(4))
def test_average_precision_with_ties(column: int) -> None:
    ours = multi.average_precision(SCORES[:, column], MANY[:, column])
    assert ours == pytest.approx(
        reference.average_precision_score(MANY[:, column], SCORES[:, column]), abs=1e-12
    )


def test_a_class_without_positives_is_left_out_of_map() -> None:
    each = [reference.average_precision_score(MANY[:, c], SCORES[:, c]) for c in range(4)]
    assert multi.mean_average_precision(SCORES, MANY) == pytest.approx(np.mean(each))


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (146, 153), (5, 10), (0, 40), (4999, 5000)])
def test_wilson_equals_scipy(right: int, n: int) -> None:
    theirs = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (10, 2), (30, 31), (0, 25), (400, 460)])
def test_mcnemar_equals_the_binomial_test(a: int, b: int) -> None:
    expected = 1.0 if a + b == 0 else binomtest(a, a + b).pvalue
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-6)


def test_bootstrap_intervals_cover_a_known_mean_of_skewed_values() -> None:
    covered = 0
    for seed in range(400):
        values = np.random.default_rng(seed).exponential(size=50)
        low, high = mean_interval(values, draw(50, seed=seed))
        covered += low <= 1.0 <= high
    assert 0.92 <= covered / 400 <= 0.98  # percentiles alone reach 0.91 here


def test_stratified_resamples_keep_the_counts() -> None:
    for counts in draw(N, seed=1, strata=TRUTH, repeats=5).images:
        drawn = np.bincount(TRUTH, weights=counts, minlength=CLASSES)
        assert (drawn == np.bincount(TRUTH, minlength=CLASSES)).all()


def test_groups_are_drawn_whole() -> None:
    groups = np.repeat(np.arange(20), 5)
    for counts in draw(100, seed=1, groups=groups, repeats=20).images:
        assert (counts.reshape(20, 5) == counts.reshape(20, 5)[:, :1]).all()
        assert counts.reshape(20, 5)[:, 0].sum() == 20


def test_percentiles_of_a_general_statistic() -> None:
    values = RNG.random(60)
    draws = draw(60, seed=3)
    by_hand = np.quantile((draws.images @ values) / 60, [0.025, 0.975])
    assert bootstrap(lambda rows: float(values[rows].mean()), draws) == pytest.approx(
        tuple(by_hand), abs=1e-6
    )


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_temperature_recovers_what_was_put_in(true_temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 4)) * 2
    truth = np.array([rng.choice(4, p=row) for row in softmax(logits, axis=1)])
    assert fit_temperature(logits * true_temperature, truth) == pytest.approx(true_temperature, rel=0.05)


@pytest.mark.parametrize("images", [8, 49, 400])
def test_no_mistake_among_few_images_is_no_certainty(images: int) -> None:
    """By hand: of N right answers with one margin d, confidence becomes (N + 1) / (N + 2), so T = d / log(N + 1)."""
    truth = np.arange(images) % 2
    logits = np.where(truth[:, None] == np.arange(2), 4.0, 0.0)
    assert fit_temperature(logits, truth) == pytest.approx(4.0 / np.log(images + 1), rel=1e-3)
    labels = np.eye(2, dtype=np.int64)[truth]
    assert fit_temperature(8.0 * labels - 4.0, labels) == pytest.approx(4.0 / np.log(images + 1), rel=1e-3)


def test_temperature_for_many_labels() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 3)) * 2
    truth = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    assert fit_temperature(logits * 2, truth) == pytest.approx(2, rel=0.05)


def test_calibration_error_by_hand() -> None:
    confidence, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([1.0, 0.0, 1.0, 1.0])
    assert calibration_error(confidence, right, bins=10) == pytest.approx(0.5 * 0.45 + 0.5 * 0.45)


def test_reliability_bins_hold_every_image_once() -> None:
    confidence = PROBABILITY.max(1)
    bins = reliability(confidence, (ANSWERS == TRUTH).astype(float))
    assert sum(part.n for part in bins) == N
    for part in bins:
        assert part.low <= part.confidence <= part.high
        assert part.accuracy.low <= part.accuracy.value <= part.accuracy.high


def test_probabilities_of_zero_and_one_have_finite_losses() -> None:
    assert np.isfinite(single.log_losses(np.array([[1.0, 0.0]]), np.array([1]))).all()
    assert np.isfinite(multi.log_losses(np.array([[1.0, 0.0]]), np.array([[0, 1]]))).all()
    assert calibration_error(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0
