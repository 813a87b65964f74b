"""The joint solver against scikit-learn's, one problem at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor

from headstart.heads import descent, probe
from headstart.heads.logistic import Solver, _Found, blocks, prepare
from headstart.heads.probe import STRENGTHS, Problem, folds, walk


@pytest.fixture(autouse=True)
def _tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with another solver, both are run to the end."""
    monkeypatch.setattr(descent, "GAP", 1e-9)


def cloud(rows: int, width: int, classes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters on columns of very different sizes and means."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    centres = rng.normal(0, 1, (classes, width))
    features = (centres[truth] + rng.normal(0, 2, (rows, width))) * rng.gamma(1, 1, width) + rng.normal(
        3, 1, width
    )
    return features.astype(np.float32), truth


def scaled(features: np.ndarray) -> np.ndarray:
    return np.asarray((features - features.mean(0)) / np.sqrt(features.var(0).mean()))


def reference(
    features: np.ndarray, truth: np.ndarray, *, strength: float, weights: dict[int, float] | None = None
):
    """scikit-learn's answer (N, classes) to all rows, its logits shifted to mean zero."""
    x = scaled(features.astype(np.float64))
    found = LogisticRegression(C=strength, tol=1e-10, max_iter=20000, class_weight=weights).fit(x, truth)
    return np.asarray(found.decision_function(x))


def centred(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - logits.mean(1, keepdims=True))


@pytest.mark.parametrize(("rows", "width"), [(60, 200), (300, 20)], ids=["more columns", "more rows"])
@pytest.mark.parametrize("strength", [0.003, 0.1, 3.0])
def test_same_answers_as_scikit_learn(rows: int, width: int, strength: float) -> None:
    features, truth = cloud(rows, width, 4)
    seen = np.ones((rows, 1), np.bool_)
    head = Solver(prepare(features), blocks(truth, seen, 4, weights=None)).solve(strength)[0]
    expected = reference(features, truth, strength=strength)
    assert np.abs(centred(head(features)) - centred(expected)).max() < 5e-3 * np.abs(expected).max()


def test_a_hundred_classes_come_to_the_end_at_every_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """As users run it, not tightly: the objective of scikit-learn's solution is missed by 1e-4 nats at most."""
    monkeypatch.undo()
    classes, rows = 60, 900
    features, truth = cloud(rows, 40, classes)
    x = scaled(features.astype(np.float64))
    solver = Solver(prepare(features), blocks(truth, np.ones((rows, 1), np.bool_), classes, weights=None))
    for strength in (0.01, 0.1, 1.0):  # on one solver, as a path is walked
        head = solver.solve(strength)[0]
        found = LogisticRegression(C=strength, tol=1e-6, max_iter=5000).fit(x, truth)
        spread = np.sqrt(features.var(0).mean())
        own, best = (
            log_loss(truth, chances) + (weight**2).sum() / (2 * strength * rows)
            for chances, weight in (
                (softmax(head(features), 1), head.weight * spread),
                (found.predict_proba(x), found.coef_),
            )
        )
        assert -1e-6 < own - best < 1e-4
        assert np.abs(softmax(head(features), 1) - found.predict_proba(x)).max() < 0.02


def test_a_walk_needs_few_passes_over_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learnt at one strength serves the next: a later one takes fewer passes than from the start."""
    monkeypatch.undo()
    features, truth = cloud(600, 40, 30)
    passes = 0
    plain = Solver._loss

    def counted(self: Solver, point: Tensor, live: Tensor, *, curved: bool = False) -> _Found:
        nonlocal passes
        passes += 1
        return plain(self, point, live, curved=curved)

    monkeypatch.setattr(Solver, "_loss", counted)
    needed = []
    for way in ((0.1,), (0.01, 0.0316, 0.1)):
        problem = blocks(truth, np.ones((600, 1), np.bool_), 30, weights=None)
        solver = Solver(prepare(features), problem)
        for strength in way:
            passes = 0
            solver.solve(strength)
        needed.append(passes)
    assert needed[1] < needed[0] <= 15


def test_what_does_not_settle_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(descent, "_ITERATIONS", 1)
    features, truth = cloud(60, 20, 4)
    Solver(prepare(features), blocks(truth, np.ones((60, 1), np.bool_), 4, weights=None)).solve(1.0)
    assert "did not settle in 1 steps" in caplog.text


def test_class_weights_mean_what_they_mean_there() -> None:
    features, truth = cloud(200, 10, 3)
    weights = np.array([0.5, 1.0, 3.0])
    head = Solver(prepare(features), blocks(truth, np.ones((200, 1), np.bool_), 3, weights=weights)).solve(
        0.1
    )[0]
    expected = reference(features, truth, strength=0.1, weights=dict(enumerate(weights)))
    assert np.abs(centred(head(features)) - centred(expected)).max() < 0.02


def test_several_labels_are_separate_problems() -> None:
    features, truth = cloud(200, 10, 3)
    labels = np.stack([truth == 0, truth != 1], 1).astype(np.int64)
    weights = np.array([2.0, 1.0])
    head = Solver(prepare(features), blocks(labels, np.ones((200, 1), np.bool_), 2, weights=weights)).solve(
        0.1
    )[0]
    for column in range(2):
        expected = reference(features, labels[:, column], strength=0.1, weights={0: 1.0, 1: weights[column]})
        assert np.abs(head(features)[:, column] - expected).max() < 0.02


def test_a_block_knows_only_its_rows() -> None:
    features, truth = cloud(90, 120, 3)
    seen = np.ones((90, 2), np.bool_)
    seen[:30, 0] = False
    changed = truth.copy()
    changed[:30] = (truth[:30] + 1) % 3
    heads = [
        Solver(prepare(features), blocks(labels, seen, 3, weights=None)).solve(0.1)
        for labels in (truth, changed)
    ]
    assert np.abs(heads[0][0](features) - heads[1][0](features)).max() < 0.01
    assert np.abs(heads[0][1](features) - heads[1][1](features)).max() > 0.1


def test_a_class_that_a_fold_lacks_is_as_good_as_impossible_there() -> None:
    features, truth = cloud(60, 20, 3)
    seen = (truth != 2)[:, None]
    head = Solver(prepare(features), blocks(truth, seen, 3, weights=None)).solve(0.1)[0]
    assert not (head(features[seen[:, 0]]).argmax(1) == 2).any()


@pytest.mark.parametrize("rows", [80, 400])
def test_the_path_is_that_of_separate_fits(rows: int) -> None:
    features, truth = cloud(rows, 100, 3, seed=1)
    problem = Problem(features, truth, np.arange(rows), 3, None)
    path = walk(problem, strengths=STRENGTHS[:4], count=4, seed=5)
    assert path.losses[path.chosen] == min(path.losses)
    scale = np.sqrt(features.var(0).mean())
    x = (features - features.mean(0)) / scale
    out = np.zeros((rows, 3))
    for kept, held in folds(problem, count=4, seed=5):
        fitted = LogisticRegression(C=path.best, tol=1e-10, max_iter=20000).fit(x[kept], truth[kept])
        out[held] = fitted.decision_function(x[held])
    assert np.abs(centred(path.logits[path.chosen]) - centred(out)).max() < 0.05


def test_the_walk_ends_where_the_loss_has_surely_risen(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = (0.003, 0.3, 3.0, 30.0)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 60)).astype(np.float32)
    truth = (features[:, 0] + rng.normal(0, 2, 400) > 0).astype(
        np.int64
    )  # much noise: weak pulls learn it by heart
    problem = Problem(features, truth, np.arange(400), 2, None)
    short = walk(problem, strengths=coarse, count=4, seed=5)
    monkeypatch.setattr(probe, "_SURE", np.inf)  # then only a second rise ends it
    long = walk(problem, strengths=coarse, count=4, seed=5)
    assert len(short.strengths) == short.chosen + 2 < len(long.strengths) < len(coarse)
    assert short.best == long.best
    assert short.losses == long.losses[: len(short.losses)]


def test_features_without_any_variation_give_the_prior() -> None:
    truth = np.array([0, 0, 0, 1])
    head = Solver(
        prepare(np.ones((4, 6), np.float32)), blocks(truth, np.ones((4, 1), np.bool_), 2, weights=None)
    ).solve(1.0)[0]
    logits = head(np.ones((1, 6), np.float32))[0]
    assert np.exp(logits[1]) / np.exp(logits).sum() == pytest.approx(0.25, abs=1e-3)


def test_views_are_seen_together_and_judged_by_the_first() -> None:
    """A problem whose second views are exact copies is the problem without them."""
    features, truth = cloud(80, 30, 3)
    alone = Problem(features, truth, np.arange(80), 3, None)
    doubled = Problem(np.concatenate([features, features]), truth, np.arange(80), 3, None)
    assert (alone.views, doubled.views) == (1, 2)
    assert np.array_equal(doubled.first(1).features, features)
    paths = [walk(problem, strengths=STRENGTHS[:4], count=4, seed=0) for problem in (alone, doubled)]
    assert np.allclose(paths[0].losses, paths[1].losses, atol=1e-4)
    assert np.abs(paths[0].heads[2](features) - paths[1].heads[2](features)).max() < 0.02
