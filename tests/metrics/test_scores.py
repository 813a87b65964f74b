"""Transferability scores against other ways of computing them, worked cases, and what must always hold."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from headstart import scores
from headstart._core.errors import BadInput

RNG = np.random.default_rng(0)
N, WIDTH, CLASSES = 240, 12, 4
LABELS = RNG.choice(CLASSES, N, p=[0.4, 0.3, 0.2, 0.1])
CENTRES = RNG.normal(size=(CLASSES, WIDTH))
FEATURES = RNG.normal(size=(N, WIDTH)) * np.linspace(0.5, 2, WIDTH) + CENTRES[LABELS] + 0.3
WIDE = RNG.normal(size=(60, 90)) + 0.8 * RNG.normal(size=(CLASSES, 90))[LABELS[:60]]
MANY = (FEATURES[:, :3] + RNG.normal(size=(N, 3)) > [0.5, 0.5, 2.0]).astype(np.int64)
SHUFFLED = RNG.permutation(LABELS)
ROTATION = np.linalg.qr(RNG.normal(size=(WIDTH, WIDTH)))[0]
PROBABILITIES = RNG.dirichlet(np.ones(7), N) * 0.5 + 0.5 * np.eye(7)[(LABELS + (RNG.random(N) < 0.2)) % 7]

ON_FEATURES: dict[str, Callable[..., float]] = {
    "log_me": scores.log_me,
    "h_score": scores.h_score,
    "regularised_h_score": scores.regularised_h_score,
    "knn_accuracy": scores.knn_accuracy,
    "ridge_accuracy": scores.ridge_accuracy,
}


def dense_evidence(features, column):
    """Log density of the column under N(0, I/b + F Fᵀ/a), the most likely a and b sought by SciPy."""

    def minus(logs):
        a, b = np.exp(logs)
        covariance = np.eye(len(column)) / b + features @ features.T / a
        sign, logdet = np.linalg.slogdet(covariance)
        assert sign > 0
        fit = column @ np.linalg.solve(covariance, column)
        return 0.5 * (fit + logdet + len(column) * math.log(2 * math.pi))

    starts = [(0.0, 0.0), (3.0, 1.0), (6.0, 2.0)]
    found = [
        minimize(minus, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
        for start in starts
    ]
    return -min(each.fun for each in found)


@pytest.mark.parametrize(
    ("features", "labels"), [(FEATURES[:120], LABELS[:120]), (WIDE, LABELS[:60])], ids=["tall", "wide"]
)
def test_log_me_is_the_evidence_of_the_dense_model(features, labels) -> None:
    each = [dense_evidence(features, (labels == label).astype(float)) for label in range(CLASSES)]
    assert scores.log_me(features, labels) == pytest.approx(np.mean(each) / len(labels), abs=1e-6)


def test_log_me_of_several_labels_is_the_mean_over_them_without_constant_ones() -> None:
    few, labels = FEATURES[:80], MANY[:80]
    each = [dense_evidence(few, column.astype(float)) for column in labels.T]
    never = np.column_stack([labels, np.zeros(80, np.int64)])
    assert scores.log_me(few, never) == pytest.approx(np.mean(each) / 80, abs=1e-6)


def test_leep_by_loops() -> None:
    joint = np.zeros((CLASSES, 7))
    for row, label in zip(PROBABILITIES, LABELS, strict=True):
        for z in range(7):
            joint[label, z] += row[z] / N
    total = 0.0
    for row, label in zip(PROBABILITIES, LABELS, strict=True):
        total += math.log(sum(row[z] * joint[label, z] / joint[:, z].sum() for z in range(7)))
    assert scores.leep(PROBABILITIES, LABELS) == pytest.approx(total / N, abs=1e-12)


def test_leep_of_certain_answers_is_nce_and_by_hand() -> None:
    answers, labels = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 1, 1, 1])
    by_hand = (3 * math.log(3 / 4) + math.log(1 / 4) + 2 * math.log(1)) / 6
    assert scores.nce(answers, labels) == pytest.approx(by_hand, abs=1e-12)
    assert scores.leep(np.eye(3)[answers], labels) == pytest.approx(by_hand, abs=1e-12)


def test_nce_is_minus_conditional_entropy() -> None:
    answers = PROBABILITIES.argmax(1)
    pairs = np.histogram2d(answers, LABELS, bins=[np.arange(8), np.arange(CLASSES + 1)])[0] / N
    entropy = [-np.sum(p[p > 0] * np.log(p[p > 0])) for p in (pairs, pairs.sum(1))]
    assert scores.nce(answers, LABELS) == pytest.approx(entropy[1] - entropy[0], abs=1e-12)


def test_h_score_by_its_definition() -> None:
    means = np.stack([FEATURES[label == LABELS].mean(0) for label in LABELS])
    expected = np.trace(np.linalg.pinv(np.cov(FEATURES.T)) @ np.cov(means.T))
    assert scores.h_score(FEATURES, LABELS) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("features", "labels"), [(FEATURES, LABELS), (WIDE, LABELS[:60])], ids=["tall", "wide"]
)
def test_regularised_h_score_by_its_definition(features, labels) -> None:
    centred = features - features.mean(0)
    amount = ledoit_wolf_shrinkage(features)
    assert scores.shrinkage(centred) == pytest.approx(amount, rel=1e-9)
    plain = np.cov(features.T, bias=True)
    pulled = (1 - amount) * plain + amount * np.trace(plain) / len(plain) * np.eye(len(plain))
    means = np.stack([features[labels == label].mean(0) for label in labels])
    expected = np.trace(np.linalg.inv(pulled) @ ((1 - amount) * np.cov(means.T, bias=True)))
    assert scores.regularised_h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_h_score_with_few_images_says_nothing_and_the_regularised_one_does() -> None:
    random = RNG.permutation(LABELS[:60])
    assert scores.h_score(WIDE, random) == pytest.approx(CLASSES - 1, abs=1e-6)
    assert scores.regularised_h_score(WIDE, LABELS[:60]) > 1.5 * scores.regularised_h_score(WIDE, random)


def test_nearest_neighbour_against_scikit_learn_one_at_a_time() -> None:
    hits = 0
    for held in range(N):
        others = np.delete(np.arange(N), held)
        model = KNeighborsClassifier(1, metric="cosine").fit(FEATURES[others], LABELS[others])
        hits += model.predict(FEATURES[[held]])[0] == LABELS[held]
    assert scores.knn_accuracy(FEATURES, LABELS, k=1) == hits / N


def test_neighbours_vote_and_nearness_settles_ties_only() -> None:
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    hits = 0
    for held in range(N):
        cosine = unit @ unit[held]
        cosine[held] = -2
        near = sorted(range(N), key=lambda other: -cosine[other])[:4]
        tally: dict[int, list[float]] = {}
        for other in near:
            tally.setdefault(int(LABELS[other]), []).append(float(cosine[other]))
        answer = max(tally, key=lambda label: (len(tally[label]), sum(tally[label])))
        hits += answer == LABELS[held]
    assert scores.knn_accuracy(FEATURES, LABELS, k=4) == hits / N


@pytest.mark.parametrize(
    ("features", "labels"), [(FEATURES, LABELS), (WIDE, LABELS[:60])], ids=["primal", "dual"]
)
def test_ridge_path_against_scikit_learn_each_alpha_and_fold(features, labels) -> None:
    folds = scores.fold_numbers(labels, seed=3)
    path = scores.ridge_path(features, labels, folds=folds)
    weights = (len(labels) / (CLASSES * np.bincount(labels)))[labels]
    right = np.zeros((len(labels), len(path.alphas)))
    for fold in range(5):
        held, kept = folds == fold, folds != fold
        for column, alpha in enumerate(path.alphas):
            model = RidgeClassifier(alpha=alpha).fit(
                features[kept], labels[kept], sample_weight=weights[kept]
            )
            right[held, column] = model.predict(features[held]) == labels[held]
    assert path.accuracies == pytest.approx(right.mean(0), abs=1e-12)
    assert path.errors == pytest.approx(right.std(0, ddof=1) / math.sqrt(len(labels)), abs=1e-12)
    best = np.flatnonzero(right.mean(0) == right.mean(0).max())
    assert path.alpha == path.alphas[best[len(best) // 2]]
    for fold in range(5):  # nested: a fold is judged at the penalty that the others choose
        others = right[folds != fold].mean(0)
        tied = np.flatnonzero(others == others.max())
        column = tied[len(tied) // 2]
        assert (path.correct[folds == fold] == right[folds == fold, column]).all()
    assert path.accuracy == pytest.approx(path.correct.mean())
    assert path.error == pytest.approx(path.correct.std(ddof=1) / math.sqrt(len(labels)))


def test_ridge_path_of_several_labels_against_scikit_learn() -> None:
    folds = scores.fold_numbers(MANY, seed=1)
    path = scores.ridge_path(FEATURES, MANY, folds=folds, strengths=(0.01, 1.0))
    for alpha, accuracy in zip(path.alphas, path.accuracies, strict=True):
        given = np.zeros_like(MANY)
        for fold in range(5):
            model = Ridge(alpha=alpha).fit(FEATURES[folds != fold], MANY[folds != fold])
            given[folds == fold] = model.predict(FEATURES[folds == fold]) > 0.5
        assert accuracy == pytest.approx(f1_score(MANY, given, average="samples", zero_division=1), abs=1e-12)


def test_ridge_with_one_feature_and_with_hardly_more_images_than_features() -> None:
    assert scores.ridge_accuracy(np.where(LABELS == 0, 0.0, 1.0)[:, None], (LABELS > 0).astype(int)) == 1.0
    few = scores.ridge_path(
        FEATURES[:14], LABELS[:14] > 0
    )  # 14 images, 12 features: the fold is dual, the whole is not
    assert 0 <= few.accuracy <= 1


def test_folds_spread_classes_and_keep_groups_whole() -> None:
    plain = scores.fold_numbers(LABELS, seed=5)
    table = np.histogram2d(LABELS, plain, bins=[np.arange(5), np.arange(6)])[0]
    assert (np.ptp(table, axis=1) <= 1).all()
    assert (plain != scores.fold_numbers(LABELS, seed=6)).any()
    groups = RNG.integers(0, 60, N)
    folds = scores.fold_numbers(LABELS, groups=groups)
    assert all(len(np.unique(folds[groups == name])) == 1 for name in np.unique(groups))
    assert np.bincount(folds, minlength=5).min() > 0.7 * N / 5


@pytest.mark.parametrize("score", ON_FEATURES.values(), ids=ON_FEATURES)
class TestEveryScoreOnFeatures:
    def test_rotation_changes_nothing(self, score) -> None:
        assert score(FEATURES @ ROTATION, LABELS) == pytest.approx(score(FEATURES, LABELS), rel=1e-6)

    def test_names_of_classes_change_nothing(self, score) -> None:
        other = np.array([7, 3, 9, 0])[LABELS]
        assert score(FEATURES, other) == pytest.approx(score(FEATURES, LABELS), abs=0.02)

    def test_labels_that_the_features_show_beat_shuffled_ones(self, score) -> None:
        assert score(FEATURES, LABELS) > score(FEATURES, SHUFFLED) + 0.05

    @pytest.mark.parametrize(
        ("features", "labels", "says"),
        [
            (FEATURES, np.zeros(N, int), "nothing to tell apart"),
            (FEATURES, LABELS[:-1], "do not fit"),
            (np.where(np.arange(WIDTH) == 3, np.nan, FEATURES), LABELS, "240 of 240 rows"),
            (FEATURES, LABELS / 2, "whole numbers"),
            (FEATURES, LABELS - 1, "from -1"),
        ],
    )
    def test_a_wrong_array_is_named(self, score, features, labels, says) -> None:
        with pytest.raises(BadInput, match=says):
            score(features, labels)


@pytest.mark.parametrize("name", [name for name in ON_FEATURES if name != "ridge_accuracy"])
def test_the_order_of_images_changes_nothing(name) -> None:
    order = RNG.permutation(N)
    assert ON_FEATURES[name](FEATURES[order], LABELS[order]) == pytest.approx(
        ON_FEATURES[name](FEATURES, LABELS), rel=1e-9
    )


def test_the_order_of_images_changes_no_ridge_path_when_folds_go_along() -> None:
    order, folds = RNG.permutation(N), scores.fold_numbers(LABELS)
    one = scores.ridge_path(FEATURES, LABELS, folds=folds)
    other = scores.ridge_path(FEATURES[order], LABELS[order], folds=folds[order])
    assert one.accuracies == pytest.approx(other.accuracies, abs=1e-12)
    assert (one.correct[order] == other.correct).all()


def test_answers_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(BadInput, match="add up to"):
        scores.leep(PROBABILITIES * 2, LABELS)
    with pytest.raises(BadInput, match="several labels"):
        scores.h_score(FEATURES, MANY)
    with pytest.raises(BadInput, match="the same for all images"):
        scores.ridge_accuracy(np.ones((N, 3)), LABELS)
    with pytest.raises(BadInput, match="240 neighbours"):
        scores.knn_accuracy(FEATURES, LABELS, k=N)


def test_probability_of_being_best_of_two_matches_the_normal_law() -> None:
    rng = np.random.default_rng(4)
    correct = np.column_stack([rng.random(400) < 0.72, rng.random(400) < 0.70]).astype(float)
    difference = correct[:, 0] - correct[:, 1]
    z = difference.mean() / (difference.std() / math.sqrt(400))
    expected = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    assert scores.bootstrap_best(correct)[0] == pytest.approx(expected, abs=0.04)


def test_best_and_tied_of_clear_and_of_equal_candidates() -> None:
    rng = np.random.default_rng(1)
    good = (rng.random(300) < 0.9).astype(float)
    near = good.copy()
    near[:6] = 1 - near[:6]
    poor = (rng.random(300) < 0.6).astype(float)
    chances = scores.bootstrap_best(np.column_stack([good, good, poor, near]))
    assert chances.sum() == pytest.approx(1)
    assert chances[0] == chances[1]
    assert chances[2] < 0.001
    assert scores.tied(np.column_stack([good, good, poor, near])).tolist() == [True, True, False, True]
    assert scores.tied(np.column_stack([poor, good])).tolist() == [False, True]
    with pytest.raises(BadInput, match="shape"):
        scores.tied(good)


def test_tied_is_wrong_in_about_one_of_forty_when_all_are_equally_good() -> None:
    rng, excluded = np.random.default_rng(7), 0
    for _ in range(200):
        excluded += not scores.tied((rng.random((150, 2)) < 0.7).astype(float), draws=400).all()
    assert 0 <= excluded <= 20  # 5 % of 200, plus three standard errors


def test_scores_import_neither_torch_nor_scipy_nor_scikit_learn() -> None:
    code = "import sys, headstart.scores; heavy = {'torch', 'sklearn', 'scipy'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
