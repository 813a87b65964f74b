"""Scales and shifts of each class, where they pay."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from headstart.metrics import classwise, fit_temperature
from headstart.metrics.classwise import fit_classwise
from headstart.metrics.losses import row_losses

RNG = np.random.default_rng


def answers(count: int, seed: int, *, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are true as they are, and labels drawn from them."""
    rng = RNG(seed)
    logits = rng.normal(0, 2, (count, classes))
    truth = np.array([rng.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return logits, truth


SCALE, SHIFT = np.array([0.4, 1.0, 2.0, 3.0]), np.array([1.0, -1.0, 0.5, -0.5])


def test_what_was_put_in_is_found_and_told() -> None:
    logits, truth = answers(4000, 0)
    bent = (logits - SHIFT) / SCALE
    found = fit_classwise(bent, truth, seed=0)
    assert found is not None
    np.testing.assert_allclose(found.whole.scale, SCALE, rtol=0.12)
    np.testing.assert_allclose(found.whole.shift, SHIFT, atol=0.2)
    assert 0 < found.whole.low < found.whole.gain < found.whole.high
    np.testing.assert_allclose(found.whole.undone(found.whole(bent)), bent)
    fresh, labels = answers(4000, 1)
    bent = (fresh - SHIFT) / SCALE
    plain = row_losses(bent / found.whole.temperature, labels).mean()
    assert plain - row_losses(found.whole(bent), labels).mean() == pytest.approx(found.whole.gain, abs=0.03)


def test_it_is_the_lowest_point() -> None:
    """Against another solver without gradients of ours."""
    logits, truth = answers(600, 2, classes=3)
    bent = (logits - [1.0, -1.0, 0.0]) / [0.5, 1.0, 2.0]
    found = fit_classwise(bent, truth, seed=0)
    assert found is not None

    wanted = np.where(truth[:, None] == np.arange(3), 1 - 1 / 602, 1 / 602 / 2)

    def loss(point: np.ndarray) -> float:
        return float(-(wanted * log_softmax(bent * point[:3] + point[3:], axis=1)).sum(1).mean())

    best = minimize(loss, np.array([1.0, 1, 1, 0, 0, 0]), method="BFGS", options={"gtol": 1e-7}).fun
    assert loss(np.array([*found.whole.scale, *found.whole.shift])) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("images", [24, 49, 200])
def test_right_answers_to_few_images_are_no_certainty(images: int) -> None:
    """By hand: each class at one margin of its own and all answers right, so N + 1 to 1 is what both become at best."""
    truth = np.arange(images) % 2
    logits = np.where(truth[:, None] == 0, [3.0, 0.0], [0.0, 1.0])
    scale, shift = classwise._fit(logits, truth, fit_temperature(logits, truth))
    moved = logits * scale + shift
    margin = np.where(truth == 0, moved[:, 0] - moved[:, 1], moved[:, 1] - moved[:, 0])
    np.testing.assert_allclose(margin, np.log(images + 1), rtol=0.02)


def test_it_is_seldom_chosen_where_one_temperature_is_right() -> None:
    chosen = sum(
        fit_classwise(3 * logits, truth, seed=0) is not None
        for logits, truth in (answers(300, seed) for seed in range(40))
    )
    assert chosen <= 3


def test_too_few_images() -> None:
    logits, truth = answers(39, 0)
    assert fit_classwise((logits - SHIFT) / SCALE, truth, seed=0) is None


def test_images_are_calibrated_by_what_was_fitted_without_them() -> None:
    """Changing the label of an image changes nothing about its own logits."""
    logits, truth = answers(2000, 3)
    bent = (logits - SHIFT) / SCALE
    before, other = fit_classwise(bent, truth, seed=0), truth.copy()
    other[7] = (truth[7] + 1) % 4
    after = fit_classwise(bent, other, seed=0)
    assert before is not None
    assert after is not None
    own, neighbour = np.array([7]), np.flatnonzero(before.fold != before.fold[7])[:1]
    np.testing.assert_array_equal(before.apart(bent[own], own), after.apart(bent[own], own))
    assert not np.array_equal(
        before.apart(bent[neighbour], neighbour), after.apart(bent[neighbour], neighbour)
    )
