"""Labels, shift, confounds and groups, each on arrays whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.auditing.confounds import Trait, binned, confounds, table_answers
from headstart.auditing.labels import doubts, set_doubts, softmax
from headstart.auditing.shift import roc_area, shift

RNG = np.random.default_rng


def test_confident_joint_by_hand() -> None:
    """Northcutt's rule on six images: thresholds are the mean self-confidence of each class."""
    probability = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.95, 0.05]])
    given = np.array([0, 0, 0, 1, 1, 1])
    found = doubts(probability, given)
    # class 0: (0.9 + 0.7 + 0.1) / 3 = 0.567; class 1: (0.8 + 0.7 + 0.05) / 3 = 0.517
    assert found.joint.tolist() == [[2, 1], [1, 2]]
    assert np.flatnonzero(found.confident).tolist() == [2, 5]
    assert found.order[:2].tolist() == [5, 2]
    assert found.suggested.tolist() == [0, 0, 1, 1, 1, 0]


def test_a_class_that_is_never_sure_is_not_held_against_its_images() -> None:
    """Class 1 is only ever believed at 0.4; its image at 0.35 is no suspect although class 0 has 0.65."""
    probability = np.array([[0.99, 0.01]] * 5 + [[0.6, 0.4], [0.6, 0.4], [0.65, 0.35]])
    found = doubts(probability, np.array([0] * 5 + [1] * 3))
    assert not found.confident.any()


def test_planted_label_errors_come_first() -> None:
    rng = RNG(0)
    true = rng.integers(0, 3, 300)
    given = true.copy()
    wrong = rng.choice(300, 15, replace=False)
    given[wrong] = (given[wrong] + 1) % 3
    logits = 4.0 * np.eye(3)[true] + rng.normal(0, 1, (300, 3))
    found = doubts(softmax(logits), given)
    assert np.isin(found.order[:15], wrong).mean() > 0.8


def test_sets_of_labels_by_hand() -> None:
    """Each column is a question of its own: the joint rule on (1 - p, p)."""
    probability = np.array([[0.9, 0.2], [0.8, 0.1], [0.1, 0.2], [0.2, 0.9], [0.1, 0.8], [0.95, 0.1]])
    given = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 0]])
    found = set_doubts(probability, given)
    # first label, thresholds: given (0.9 + 0.8 + 0.1) / 3 = 0.6, not given (0.8 + 0.9 + 0.05) / 3 = 0.583
    assert np.argwhere(found.doubtful).tolist() == [[2, 0], [5, 0]]
    np.testing.assert_allclose(found.confidence, [1, 1, 0.1, 1, 1, 0.05])
    assert found.order[:2].tolist() == [5, 2]


def test_planted_errors_in_sets_of_labels_come_first() -> None:
    rng = RNG(0)
    true = (rng.random((400, 5)) < [0.5, 0.3, 0.2, 0.1, 0.05]).astype(np.int64)
    wrong = rng.choice(400, 20, replace=False)
    given, column = true.copy(), rng.integers(0, 5, 20)
    given[wrong, column] = 1 - given[wrong, column]
    probability = 1 / (1 + np.exp(-(6.0 * true - 3 + rng.normal(0, 0.8, true.shape))))
    found = set_doubts(probability, given)
    assert np.isin(found.order[:20], wrong).mean() > 0.8
    named = found.doubtful[wrong, column]
    assert named.mean() > 0.8
    assert found.doubtful.sum() < 2 * named.sum()


def test_roc_area_against_scikit_learn_and_against_its_spread() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng, areas, told = RNG(0), [], []
    for _ in range(300):
        truth = np.repeat([0, 1], [40, 60])
        scores = np.round(rng.normal(truth * 0.8, 1), 1)  # rounding makes ties
        area, error = roc_area(scores, truth)
        assert area == pytest.approx(metrics.roc_auc_score(truth, scores))
        areas.append(area)
        told.append(error)
    assert np.std(areas) == pytest.approx(np.mean(told), rel=0.15)


def test_shift_is_seen_and_its_absence_too() -> None:
    rng = RNG(0)
    train, test = (rng.standard_normal((count, 20)).astype(np.float32) for count in (200, 100))
    none, some = shift(train, test), shift(train, test + 1.0)
    assert none is not None
    assert some is not None
    assert not none.shown
    assert some.shown
    assert some.auc > 0.9
    assert shift(train, test[:5]) is None


def test_a_trait_that_tells_the_label_is_named() -> None:
    rng = RNG(0)
    labels = np.repeat([0, 1], 50)
    quality = np.where(labels == 1, 60.0, 85.0)
    noise = rng.normal(0, 1, 100)
    found = confounds(
        [Trait("JPEG quality", quality[:, None]), Trait("mean brightness", noise[:, None])],
        labels,
        ("cat", "dog"),
    )
    assert [each.trait for each in found] == ["JPEG quality"]
    assert (found[0].accuracy, found[0].majority, found[0].technical) == (1.0, 0.5, True)
    assert "about 60" in found[0].told
    assert "about 85" in found[0].told


def test_one_class_of_seven_is_named() -> None:
    labels = np.repeat(np.arange(7), 40)
    size = np.where(labels == 3, 9000.0, 20000.0) + RNG(0).normal(0, 800, 280)
    found = confounds([Trait("file size", size[:, None])], labels, tuple("abcdefg"))
    assert len(found) == 1
    assert found[0].told.startswith("d: ")


def test_chance_is_not_called_a_confound() -> None:
    """Over many draws, traits that know nothing are named in fewer than one of fifty."""
    rng, named = RNG(0), 0
    for _ in range(100):
        labels = rng.integers(0, 2, 80)
        some = [
            Trait("file size", rng.normal(size=(80, 1))),
            Trait("border colour", rng.normal(size=(80, 3))),
        ]
        named += len(confounds(some, labels, ("a", "b")))
    assert named <= 2


def test_binning() -> None:
    listed = binned(Trait("format", np.array([[1.0], [2.0], [1.0], [5.0]]), listed=True))
    assert listed.tolist() == [0, 1, 0, 2]
    shared = binned(Trait("JPEG quality", np.array([70.0] * 9 + [71.0, 69.0, 90.0])[:, None]))
    assert len(set(shared[:9])) == 1
    assert shared[9] != shared[0]
    assert shared[10] != shared[0]


def test_table_answers_do_not_see_the_image_itself() -> None:
    """Every image alone in its cell: what remains is the majority of the other folds."""
    labels = np.array([0, 0, 0, 1])
    answers = table_answers(np.arange(4), labels, np.array([0, 1, 0, 1]), classes=2)
    assert answers.tolist() == [0, 0, 0, 0]
