"""What more labels would buy: the probe's learning curve, a power law through it, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import derive
from headstart.evidence.probing import Features, Floats, Probing, one_thread, spread
from headstart.evidence.records import Curve, CurvePoint, Forecast
from headstart.heads.logistic import Solver, blocks, prepare
from headstart.metrics.losses import row_losses
from headstart.scores import fold_numbers
from headstart.tasks import Task

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the images that a fold leaves for learning."""

FOLDS = 5
_STRENGTHS = tuple(
    float(10.0**power) for power in range(-2, 3)
)  # scikit-learn's C, on features of unit variance
_LEAST_IMAGES = 40
_AHEAD = (1, 1.5, 2, 3, 4, 6, 8, 12, 16)  # multiples of the images there are, for which accuracy is foretold
_QUANTILES = (0.025, 0.5, 0.975)

# The grid on which the power law's posterior is summed: accuracy at the last point, what is missing to the limit, rate.
_LEVELS, _DROPS, _RATES = 25, 41, 25
_REACH = 4  # standard errors by which the accuracy at the last point may be off
_SMALL_DROPS = 1.5  # power that makes the grid finer towards a curve that has ended
_RATE_RANGE = (0.1, 2.0)
_RATE_MIDDLE, _RATE_SPREAD = (
    0.5,
    0.6,
)  # log-normal prior: measured curves of classifiers lie around the root law
_MISFIT = 0.004  # standard deviation by which a real curve leaves any power law
_ROUGH = 0.25  # share of a point's own variance that chance in the choice of images adds, at least


@dataclass(frozen=True)
class Measured:
    """Learning curve as measured.

    Attributes:
        counts: (P,) images learnt from, rising.
        accuracies: (P,) correctness, averaged over all images, each judged by heads that did not see it.
        covariance: (P, P) of these accuracies.
    """

    counts: Floats
    accuracies: Floats
    covariance: Floats


def learning_curve(
    features: Features, probing: Probing, task: Task, *, total: int, seed: int = 0
) -> Curve | None:
    """The curve of logistic regression on frozen features; None where there are too few images for three points.

    In each of five folds the images that may be learnt from are halved three times, by class. So every point is judged on
    the same images, and differences between points are far surer than the points themselves. For each share the strength
    with the lowest log-loss counts.

    Args:
        features: (N, width), the network's own output.
        probing: the images.
        task: says what is right.
        total: how many training images there are altogether; forecasts are for multiples of it.
        seed: of the choice of images.
    """
    with one_thread():
        measured = measure_points(features, probing, task, seed=seed)
    return None if measured is None else fit_curve(measured, total=total)


def measure_points(features: Features, probing: Probing, task: Task, *, seed: int) -> Measured | None:
    """The points of the curve, or None where there are too few images."""
    count = len(probing)
    if count < _LEAST_IMAGES:
        return None
    classes = int(probing.targets.max()) + 1 if probing.targets.ndim == 1 else probing.targets.shape[1]
    folds = fold_numbers(probing.targets, count=FOLDS, groups=probing.groups)
    present = len(np.unique(probing.targets)) if probing.targets.ndim == 1 else 2
    shares = [share for share in SHARES if share * count * (FOLDS - 1) / FOLDS >= max(8, 2 * present)]
    if len(shares) < 3:
        return None
    parts = [[_part(probing, folds, fold, share, seed) for fold in range(FOLDS)] for share in shares]
    right = np.stack(
        [_point(features, probing, task, parts=each, folds=folds, classes=classes) for each in parts], 1
    )
    counts = np.array([np.mean([part.sum() for part in each]) for each in parts])
    return Measured(counts=counts, accuracies=right.mean(0), covariance=_covariance(right, folds))


def _point(  # what one point needs, and nothing to bundle it in
    features: Features,
    probing: Probing,
    task: Task,
    *,
    parts: list[NDArray[np.bool_]],
    folds: NDArray[np.int64],
    classes: int,
) -> Floats:
    """Correctness (N,) of heads that learnt from one part for each fold, at the strength with the lowest log-loss."""
    solvers = []
    for part in parts:
        truth = probing.targets[part]
        problem = blocks(truth, np.ones((len(truth), 1), bool), classes, weights=None)
        solvers.append(Solver(prepare(features[part]), problem))
    lowest, best = np.inf, np.zeros(0)
    for strength in _STRENGTHS:
        logits = np.empty((len(probing), classes))
        for fold, solver in enumerate(solvers):
            held = folds == fold
            logits[held] = solver.solve(strength)[0](features[held])
        loss = float(row_losses(logits, probing.targets).mean())
        if loss >= lowest:
            break  # the path has turned upwards
        lowest, best = loss, np.asarray(task.correctness(logits, probing.targets), np.float64)
    return best


def _part(
    probing: Probing, folds: NDArray[np.int64], fold: int, share: float, seed: int
) -> NDArray[np.bool_]:
    """(N,) which images a head may learn from: that share of those outside the fold, small parts inside large."""
    outside = np.flatnonzero(folds != fold)
    order = outside[spread(probing.targets[outside], seed=derive(seed, "curve", fold))]
    out = np.zeros(len(folds), bool)
    out[order[: round(share * len(order))]] = True
    return out


def _covariance(right: Floats, folds: NDArray[np.int64]) -> Floats:
    """(P, P) of the mean correctness: of the images judged (common to all points), and of the images learnt from.

    The second is what folds differ by beyond what judging few images explains.
    """
    count = len(right)
    judged = np.atleast_2d(np.cov(right, rowvar=False)) / count
    means = np.stack([right[folds == fold].mean(0) for fold in np.unique(folds)])
    chance = np.stack([right[folds == fold].var(0) / (folds == fold).sum() for fold in np.unique(folds)])
    learnt = np.maximum(means.var(0, ddof=1) - chance.mean(0), 0.0) / len(means)
    learnt = np.maximum(learnt, _ROUGH * np.diag(judged))
    return np.asarray(judged + np.diag(learnt))


def fit_curve(measured: Measured, *, total: int) -> Curve:
    """The power law `limit - scale * n ** -rate` most probable for these points, and what all probable ones foretell.

    The law's three numbers are summed over a grid, each weighing by how well it explains the points, so that noisy
    points give a wide interval instead of one arbitrary best fit.

    Args:
        measured: three points or more.
        total: how many images there are now.
    """
    counts, values = measured.counts, measured.accuracies
    noise = measured.covariance + _MISFIT**2 * np.eye(len(counts))
    levels, shares, rates = (each.ravel() for each in np.meshgrid(*_grid(values, noise), indexing="ij"))
    drops = shares * (1 - levels)  # from the last point to the limit
    limits = levels + drops
    gaps = values - (limits[:, None] - drops[:, None] * (counts / counts[-1])[None, :] ** -rates[:, None])
    misfit = np.einsum("gp,pq,gq->g", gaps, np.linalg.inv(noise), gaps)
    prior = ((np.log(rates) - np.log(_RATE_MIDDLE)) / _RATE_SPREAD) ** 2
    logs = -0.5 * (misfit + prior)
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    best = int(weight.argmax())

    def foretold(n: float) -> tuple[float, float, float]:
        law = np.clip(limits - drops * (n / counts[-1]) ** -rates, 0.0, 1.0)
        order = np.argsort(law)
        places = np.searchsorted(np.cumsum(weight[order]), _QUANTILES).clip(0, len(law) - 1)
        low, middle, high = law[order[places]].tolist()
        return middle, low, high

    steps = [(round(total * multiple), foretold(total * multiple)) for multiple in _AHEAD]
    known = dict(zip(_AHEAD, (found for _, found in steps), strict=True))
    return Curve(
        points=tuple(
            CurvePoint(n=round(n), accuracy=float(value), error=float(error))
            for n, value, error in zip(counts, values, np.sqrt(np.diag(measured.covariance)), strict=True)
        ),
        limit=float(limits[best]),
        scale=float(drops[best] * counts[-1] ** rates[best]),
        rate=float(rates[best]),
        twice=known[2],
        fourfold=known[4],
        forecast=tuple(Forecast(n=n, value=v, low=low, high=high) for n, (v, low, high) in steps),
    )


def _grid(values: Floats, noise: Floats) -> tuple[Floats, Floats, Floats]:
    """Accuracies at the last point, shares of what is missing there to 1 that more images would bring, and rates."""
    reach = _REACH * float(np.sqrt(noise[-1, -1]))
    level = float(values[-1])
    return (
        np.linspace(max(0.0, level - reach), min(1.0, level + reach), _LEVELS),
        np.linspace(0.0, 1.0, _DROPS) ** _SMALL_DROPS,
        np.geomspace(*_RATE_RANGE, _RATES),
    )
