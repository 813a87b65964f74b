"""What scores of boxes mean and which are shown: against scikit-learn, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headstart.evaluation import About, Answers, Shown, evaluate_places
from headstart.metrics import detection, draw
from headstart.metrics.calibration import calibration_error, debiased_error
from headstart.metrics.detection import PLAIN, Floats, calibrated, fit_calibration, match


def answers_of(scores: Floats, right: Floats, each: int = 20) -> tuple[list[Floats], list[Floats]]:
    """Found and true boxes of images with `each` answers: the right ones lie on an object, the others on nothing."""
    found, truth = [], []
    for start in range(0, len(scores), each):
        corner = np.stack([np.arange(each) * 20.0, np.zeros(each)], 1)
        boxes = np.concatenate([corner, corner + 10], 1)
        found.append(np.concatenate([boxes, scores[start : start + each, None], np.zeros((each, 1))], 1))
        there = boxes[right[start : start + each] > 0]
        truth.append(np.concatenate([there, np.zeros((len(there), 2))], 1))
    return found, truth


def overconfident(seed: int, count: int = 2000) -> tuple[Floats, Floats]:
    """Scores, and whether answers with them are right: by sigmoid(0.6 * logit(score) - 0.5)."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.uniform(0.06, 0.97, count))[rng.permutation(count)]
    chance = 1 / (1 + np.exp(-(0.6 * np.log(scores / (1 - scores)) - 0.5)))
    return scores, (rng.random(count) < chance).astype(np.float64)


def test_the_calibration_is_a_logistic_regression() -> None:
    scores, right = overconfident(0)
    slope, offset = fit_calibration(match(*answers_of(scores, right), classes=1))
    logits = np.log(scores / (1 - scores))[:, None]
    peer = LogisticRegression(C=np.inf).fit(logits, right)
    assert slope == pytest.approx(peer.coef_[0, 0], abs=0.01)  # Platt's targets differ by 1 of a thousand
    assert offset == pytest.approx(peer.intercept_[0], abs=0.01)
    said = calibrated(scores, (slope, offset))
    assert said == pytest.approx(1 / (1 + np.exp(-(slope * logits[:, 0] + offset))))
    new, new_right = overconfident(1)
    assert calibration_error(calibrated(new, (slope, offset)), new_right) < 0.05
    assert calibration_error(new, new_right) > 0.1


def test_a_calibration_keeps_the_order_and_the_padding() -> None:
    scores = np.array([[0.9, 0.5, 0.05, -1.0], [1.0, 0.0, 0.3, -1.0]])
    said = calibrated(scores, (0.5, -1.0))
    assert (said[:, 3] == -1).all()
    assert (np.argsort(said, axis=1) == np.argsort(scores, axis=1)).all()
    assert ((said[:, :3] >= 0) & (said[:, :3] <= 1)).all()
    assert calibrated(scores, PLAIN) is scores


@pytest.mark.parametrize(("good", "bad"), [(4, 50), (50, 4), (0, 0)])
def test_too_few_of_a_kind_change_nothing(good: int, bad: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.1, 0.9, good + bad)
    found, truth = answers_of(scores, np.repeat([1.0, 0.0], [good, bad]), each=1)
    assert fit_calibration(match(found, truth, classes=1)) == PLAIN


def test_surer_answers_that_are_wrong_more_often_change_nothing() -> None:
    scores, right = overconfident(2, 400)
    assert fit_calibration(match(*answers_of(1 - scores, right), classes=1)) == PLAIN


@pytest.mark.parametrize("precision", [0.5, 0.7, 0.8])
def test_the_shown_boxes_have_the_precision_that_was_asked_for(precision: float) -> None:
    scores, right = overconfident(3)
    matches = match(*answers_of(scores, right), classes=1)
    least = detection.best_threshold(matches, precision=precision)
    assert right[scores >= least].mean() >= precision
    lower = np.sort(scores[scores < least])[::-1][:200]
    assert all(right[scores >= value].mean() < precision for value in lower)


def test_images_without_answers_count_in_the_interval() -> None:
    """The last images have no answer: the resamples are of all images."""
    scores, right = overconfident(4, 200)
    owners = np.repeat(np.arange(10), 20)
    value, (low, high) = debiased_error(scores, right, draw(14, seed=0), owners=owners)
    assert low <= value <= high
    assert value == debiased_error(scores, right)[0]


def test_an_evaluation_says_how_far_its_scores_can_be_trusted() -> None:
    scores, right = overconfident(5, 400)
    found, truth = answers_of(scores, right)
    missed = np.array([[0.0, 50, 10, 60, 0, 0]])
    truth[0] = np.concatenate([truth[0], missed])  # an object that no answer is near
    calibration = fit_calibration(match(found, truth, classes=1))
    (threshold,) = calibrated(np.array([0.6]), calibration)
    about = About(
        task="detect",
        classes=("a",),
        method="m",
        weights="w",
        temperature=1.0,
        seed=0,
        seconds={"total": 1.0},
    )
    answers = Answers(names=tuple(str(n) for n in range(20)), truth=truth, logits=np.stack(found))  # type: ignore[arg-type]
    shown = Shown(threshold=float(threshold) - 1e-9, calibration=calibration, precision=0.7)
    result = evaluate_places(answers, val=None, rivals={}, about=about, shown=shown)
    assert result.places is not None
    trust = result.places.trust
    assert trust is not None
    assert trust.precision is not None
    assert trust.recall is not None
    kept = scores >= 0.6
    assert trust.precision.value == pytest.approx(right[kept].mean())
    assert trust.recall.value == pytest.approx(right[kept].sum() / (right.sum() + 1))
    for metric in (trust.precision, trust.recall, trust.before, trust.after):
        assert metric.low <= metric.value <= metric.high
        assert metric.n == 20
    assert trust.after.value < 0.5 * trust.before.value
    assert (trust.slope, trust.offset, trust.asked) == (*calibration, 0.7)
    assert result.places.errors["right"] == int(right[kept].sum())  # errors count what is shown
    plain = evaluate_places(answers, val=None, rivals={}, about=about, shown=Shown(threshold=0.6))
    assert plain.places is not None
    assert plain.places.metrics["map50"].value == pytest.approx(result.places.metrics["map50"].value)
