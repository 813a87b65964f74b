"""Intervals, claims and corrections against SciPy, formulas written out, and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from headstart.metrics import mcnemar, wilson
from headstart.metrics.claims import BETTER, UNSHOWN, WORSE, meaning, verdict
from headstart.metrics.intervals import (
    around,
    combined,
    draw,
    fisher_more,
    grouped_proportion,
    holm,
    mean_interval,
    paired_shares,
    parts,
    told_around,
    told_points,
    wilson_many,
)
from headstart.metrics.selection import without_luck


def test_many_wilson_intervals_at_once() -> None:
    right, n = np.array([0, 1, 146, 0]), np.array([0, 1, 153, 40])
    low, high = wilson_many(right, n)
    for place in range(4):
        assert (low[place], high[place]) == pytest.approx(wilson(right[place], n[place]))


@pytest.mark.parametrize(("right", "n"), [(30, 40), (153, 160), (1, 50)])
def test_the_interval_of_an_accuracy_and_its_error_is_wilsons(right: int, n: int) -> None:
    share = right / n
    exact = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert around(share, math.sqrt(share * (1 - share) / n), n) == pytest.approx((exact.low, exact.high))


def test_where_nothing_varies_the_images_say_how_sure_it_is() -> None:
    exact = stats.binomtest(40, 40).proportion_ci(0.95, method="wilson")
    assert around(1.0, 0.0, 40) == pytest.approx((exact.low, exact.high))
    assert around(0.0, 0.0, 0) == (0.0, 1.0)
    assert told_around(1.0, 0.0, 40) == f"100.0% ({exact.low:.1%} to 100.0%)"


@pytest.mark.parametrize("n", [40, 200])
def test_graded_scores_are_covered_from_their_standard_error(n: int) -> None:
    """F1 of images: half of them 1, the others anything between; the truth is 0.75."""
    rng, covered = np.random.default_rng(n), 0
    for _ in range(1000):
        scores = np.where(rng.random(n) < 0.5, 1.0, rng.random(n))
        low, high = around(float(scores.mean()), float(scores.std(ddof=1) / math.sqrt(n)), n)
        covered += low <= 0.75 <= high
    assert 930 <= covered <= 975


def test_a_difference_is_told_with_its_interval() -> None:
    assert told_points(0.025, 0.1) == "2.5 points (-17.1 to 22.1)"
    assert told_points(-0.99, 0.01) == "-99.0 points (-100.0 to -97.0)"


def test_tiny_parts_have_exact_ends() -> None:
    right, n = np.array([1, 2, 0, 90, 0]), np.array([2, 2, 5, 100, 0])
    low, high = parts(right, n)
    for place in range(3):
        exact = stats.binomtest(int(right[place]), int(n[place])).proportion_ci(0.95, method="exact")
        assert (low[place], high[place]) == pytest.approx((exact.low, exact.high))
    assert (low[3], high[3]) == pytest.approx(wilson(90, 100))
    assert (low[4], high[4]) == (0, 1)


def test_one_group_an_image_is_nearly_no_grouping() -> None:
    right = np.repeat([1.0, 0.0], [180, 20])
    grouped = grouped_proportion(right, np.arange(200))
    assert grouped == pytest.approx(
        wilson(180, 200), abs=0.003
    )  # Student's t with 199 degrees is a little wider


def test_groups_that_are_alike_inside_count_as_one_image_each() -> None:
    right = np.repeat(
        (np.arange(20) % 5 > 0).astype(float), 10
    )  # each of 20 patients is right or wrong as a whole
    low, high = grouped_proportion(right, np.repeat(np.arange(20), 10))
    few = wilson(16, 20)
    assert low == pytest.approx(few[0], abs=0.03)
    assert high == pytest.approx(few[1], abs=0.03)
    assert high - low > 2 * np.subtract(*wilson(160, 200)[::-1])


def test_grouped_intervals_cover_where_plain_ones_do_not() -> None:
    held = {"plain": 0, "grouped": 0}
    groups = np.repeat(np.arange(30), 8)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        right = (rng.random(240) < np.repeat(rng.beta(4, 1, 30), 8)).astype(float)  # true share: 0.8
        for name, ends in (
            ("plain", wilson(right.sum(), 240)),
            ("grouped", grouped_proportion(right, groups)),
        ):
            held[name] += ends[0] <= 0.8 <= ends[1]
    assert held["plain"] / 300 < 0.9
    assert 0.92 <= held["grouped"] / 300 <= 0.985


def test_the_mean_of_clustered_values_has_a_wider_interval() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=25), 8) + 0.1 * rng.normal(size=200)
    alone = mean_interval(values, draw(200, seed=0))
    grouped = mean_interval(values, draw(200, seed=0, groups=np.repeat(np.arange(25), 8)))
    expected = 2 * stats.t.ppf(0.975, 24) * values.reshape(25, 8).mean(1).std(ddof=1) / 5
    assert grouped[1] - grouped[0] == pytest.approx(expected, rel=0.15)
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])


def test_combined_intervals_are_the_usual_ones_for_symmetric_parts() -> None:
    shares, half = np.array([0.5, 0.7]), np.array([0.03, 0.04])
    low, high = combined(shares, shares - half, shares + half, np.array([0.5, 0.5]))
    assert (low, high) == pytest.approx((0.6 - 0.025, 0.6 + 0.025))


@pytest.mark.parametrize(("b", "c", "n"), [(10, 2, 100), (0, 0, 30), (25, 31, 500)])
def test_paired_shares_are_agresti_and_mins(b: int, c: int, n: int) -> None:
    cells = np.array([b, c, n - b - c]) + np.array([0.5, 0.5, 1.0])
    share = cells / cells.sum()
    middle = share[0] - share[1]
    error = math.sqrt((share[0] + share[1] - middle**2) / cells.sum())
    assert paired_shares(b, c, n) == pytest.approx(
        (middle - stats.norm.ppf(0.975) * error, middle + stats.norm.ppf(0.975) * error)
    )


@pytest.mark.parametrize(
    ("errors", "n", "all_errors", "total"), [(4, 5, 5, 20), (0, 8, 3, 30), (9, 40, 12, 153)]
)
def test_fisher_equals_scipy(errors: int, n: int, all_errors: int, total: int) -> None:
    table = [[errors, n - errors], [all_errors - errors, total - n - all_errors + errors]]
    assert fisher_more(errors, n, all_errors, total) == pytest.approx(
        stats.fisher_exact(table, alternative="greater").pvalue
    )


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])


def test_a_claim_needs_the_interval_and_the_exact_test() -> None:
    assert [verdict(0.01, 0.1), verdict(-0.1, -0.01), verdict(-0.01, 0.1)] == [BETTER, WORSE, UNSHOWN]
    assert mcnemar(4, 0) == pytest.approx(
        0.125
    )  # four images cannot show it, whatever a percentile interval says
    assert verdict(*paired_shares(4, 0, 100), p=mcnemar(4, 0)) == UNSHOWN
    assert "does not confirm" in meaning(UNSHOWN, 0.01, 0.1)
    assert "includes zero" in meaning(UNSHOWN, -0.01, 0.1)


@pytest.mark.parametrize("n", [50, 1000])
def test_equals_are_said_to_differ_in_less_than_five_of_a_hundred(n: int) -> None:
    rng = np.random.default_rng(n)
    said = 0
    for _ in range(600):
        a, b = rng.random(n) < 0.8, rng.random(n) < 0.8
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        said += verdict(*paired_shares(only_a, only_b, n), p=mcnemar(only_a, only_b)) != UNSHOWN
    assert said / 600 <= 0.05


def test_the_luck_of_the_chosen_one_is_taken_off() -> None:
    plain, corrected = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scores = (rng.random((12, 80)) < 0.7).astype(float)  # twelve candidates, all as good: 70 %
        order = np.argsort(-scores.mean(1), kind="stable")
        found = without_luck(scores[order], draw(80, seed=seed))
        plain.append(scores.mean(1).max())
        corrected.append(found.value)
        assert found.low <= found.value <= found.high
    assert np.mean(plain) > 0.77
    assert np.mean(corrected) == pytest.approx(0.7, abs=0.02)
