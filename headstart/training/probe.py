"""Logistic regression on frozen features: strength by cross-validation, then one convex problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from headstart._core.progress import track
from headstart._core.seed import derive
from headstart.data.records import Sample

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Logits = NDArray[np.float64]

STRENGTHS = tuple(float(10.0**power) for power in np.arange(-3, 2.6, 0.5))
"""Values of scikit-learn's C (inverse strength) on features scaled to unit variance on average, strongest pull first."""

_TOLERANCE, _ITERATIONS = 1e-3, 300
_FEW, _REPEATS = 1000, 3  # below this many images, cross-validation is repeated with other folds


@dataclass(frozen=True)
class LinearHead:
    """logits = features @ weight.T + bias, with weight (classes, width) and bias (classes,)."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, features: Features) -> Logits:
        """Logits (N, classes)."""
        out: Logits = features @ self.weight.T + self.bias
        return out


@dataclass(frozen=True)
class Problem:
    """Features (N, width) with targets, and how the classes weigh.

    Attributes:
        targets: (N,) class indices or (N, classes) of 0 and 1.
        groups: (N,) integers: samples of one group stay in one fold.
        weights: (classes,) or None.
    """

    features: Features
    targets: Labels
    groups: Labels
    classes: int
    weights: NDArray[np.float64] | None

    def part(self, rows: NDArray[np.int64]) -> Problem:
        """The same problem on some of its rows."""
        return Problem(self.features[rows], self.targets[rows], self.groups[rows], self.classes, self.weights)


def fit_head(problem: Problem, *, strength: float) -> LinearHead:
    """The head that minimises the regularised log-loss.

    Features are centred and divided by one number (their root mean variance), so that a strength means the same for every
    network; the head returned works on raw features.
    """
    centre = problem.features.mean(0, dtype=np.float64)
    scale = float(np.sqrt(problem.features.var(0, dtype=np.float64).mean())) or 1.0
    scaled = ((problem.features - centre) / scale).astype(np.float32)
    if problem.targets.ndim == 1:
        weight, bias = _multinomial(scaled, problem, strength)
    else:
        rows = [_binary(scaled, problem, column, strength) for column in range(problem.classes)]
        weight, bias = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
    weight = weight / scale
    return LinearHead(weight=weight, bias=bias - weight @ centre)


def _solver(strength: float, class_weight: dict[int, float] | None) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=_ITERATIONS, tol=_TOLERANCE, class_weight=class_weight)


def _multinomial(
    scaled: Features, problem: Problem, strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weighting = None if problem.weights is None else dict(enumerate(problem.weights.tolist()))
    present = np.unique(problem.targets)
    if weighting is not None:
        weighting = {int(label): weighting[int(label)] for label in present}
    weight = np.zeros((problem.classes, scaled.shape[1]))
    bias = np.full(problem.classes, -30.0)  # a class without images in this part: as good as impossible
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    found = _solver(strength, weighting).fit(scaled, problem.targets)
    if len(present) == 2:  # scikit-learn gives two classes one row; spread it so that softmax says the same
        half = found.coef_[0] / 2
        weight[present[0]], weight[present[1]] = -half, half
        bias[present[0]], bias[present[1]] = -found.intercept_[0] / 2, found.intercept_[0] / 2
    else:
        weight[present], bias[present] = found.coef_, found.intercept_
    return weight, bias


def _binary(
    scaled: Features, problem: Problem, column: int, strength: float
) -> tuple[NDArray[np.float64], float]:
    truth = problem.targets[:, column]
    rate = float(truth.mean())
    if rate in (0.0, 1.0):  # nothing to separate: the prior, with half an image's doubt
        doubt = 0.5 / (len(truth) + 1)
        rate = min(max(rate, doubt), 1 - doubt)
        return np.zeros(scaled.shape[1]), float(np.log(rate / (1 - rate)))
    weighting = None if problem.weights is None else {0: 1.0, 1: float(problem.weights[column])}
    found = _solver(strength, weighting).fit(scaled, truth)
    return np.asarray(found.coef_[0], np.float64), float(found.intercept_[0])


def folds(
    problem: Problem, *, count: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(training rows, held-out rows) of each fold: stratified where there is one class an image, groups kept whole."""
    state = derive(seed, "folds") % 2**32
    singles = len(np.unique(problem.groups)) == len(problem.groups)
    blank = np.zeros(len(problem.targets))
    if problem.targets.ndim == 1 and singles and np.bincount(problem.targets).max() >= count:
        smallest = min(np.bincount(problem.targets)[np.unique(problem.targets)])
        if smallest >= count:
            yield from StratifiedKFold(count, shuffle=True, random_state=state).split(blank, problem.targets)
            return
    if problem.targets.ndim == 1 and not singles and len(np.unique(problem.groups)) >= count:
        yield from StratifiedGroupKFold(count, shuffle=True, random_state=state).split(
            blank, problem.targets, problem.groups
        )
        return
    names = np.unique(problem.groups)
    for kept, held in KFold(min(count, len(names)), shuffle=True, random_state=state).split(names):
        yield (
            np.flatnonzero(np.isin(problem.groups, names[kept])),
            np.flatnonzero(np.isin(problem.groups, names[held])),
        )


def cross_fit(problem: Problem, *, strength: float, count: int, seed: int) -> Logits:
    """Logits (N, classes) of every row, each from a head that was fitted without it."""
    out = np.zeros((len(problem.targets), problem.classes))
    for kept, held in folds(problem, count=count, seed=seed):
        out[held] = fit_head(problem.part(kept), strength=strength)(problem.features[held])
    return out


@dataclass(frozen=True)
class Path:
    """Cross-validated mean log-loss, with its standard error, for each strength tried."""

    strengths: tuple[float, ...]
    losses: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def best(self) -> float:
        """The strength with the lowest loss."""
        return self.strengths[int(np.argmin(self.losses))]


def choose_strength(problem: Problem, *, count: int, seed: int) -> Path:
    """The regularisation path, from strong to weak, walked until the loss has turned upwards.

    On few images one division into folds is a game of chance, so several are averaged.
    """
    repeats = _REPEATS if len(problem.targets) < _FEW else 1
    tried: list[tuple[float, float, float]] = []
    for strength in track(STRENGTHS, label="choosing the strength"):
        rounds = [
            cross_fit(problem, strength=strength, count=count, seed=seed + turn) for turn in range(repeats)
        ]
        losses = np.mean([row_losses(logits, problem.targets) for logits in rounds], axis=0)
        tried.append((strength, float(losses.mean()), float(losses.std() / np.sqrt(len(losses)))))
        if len(tried) >= 3 and min(loss for _, loss, _ in tried) < min(tried[-1][1], tried[-2][1]):
            break
    return Path(*(tuple(column) for column in zip(*tried, strict=True)))


def row_losses(logits: Logits, targets: Labels) -> NDArray[np.float64]:
    """Log-loss of each row (for multi-label the mean over classes)."""
    if targets.ndim == 1:
        shifted = logits - logits.max(1, keepdims=True)
        chosen = shifted[np.arange(len(targets)), targets]
        out: NDArray[np.float64] = np.log(np.exp(shifted).sum(1)) - chosen
        return out
    losses: NDArray[np.float64] = (np.logaddexp(0, logits) - targets * logits).mean(1)
    return losses


def group_numbers(samples: Sequence[Sample]) -> Labels:
    """An integer for each sample, the same for samples of one group or of identical content."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(sample.group or sample.digest, len(numbers)) for sample in samples], np.int64
    )
