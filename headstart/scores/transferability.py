"""Scores in closed form: how well features, or a source model's answers, explain the labels. No training, no choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart._core.errors import BadInput
from headstart.scores.checks import Floats, Labels, Wide, checked, one_hot, single_label

_DECADES = (
    10.0  # the ratio of the prior's precision to the noise's is sought this far to both sides of the mean
)
_GRID, _ZOOMS = 81, 4  # points a round; each later round looks between the neighbours of the best one
_EXPLAINED = 1e-14  # share of a column that rounding leaves where it is explained wholly
_SUM_TOLERANCE = 1e-3  # float16 probabilities add up to 1 no better than that


@dataclass(frozen=True)
class Estimate:
    """A score with its standard error over images, >= 0: how much it would differ on as many others.

    The error is the jackknife's: the spread of what the score loses without each of the images. That has a closed form, so
    it costs no further fits. Images drawn with replacement would not do: a copy of an image is explained by its twin, so
    that every resample would score too high.

    Source: Efron & Stein 1981, The jackknife estimate of variance.
    """

    value: float
    error: float


def _estimate(value: float, gains: Wide) -> Estimate:
    """The score with N times what it gains by each image (N,), up to a constant."""
    return Estimate(value, float(gains.std() / np.sqrt(len(gains))))


def log_me(features: Floats, targets: NDArray[Any]) -> float:
    """Log evidence of a linear model, per image; higher is better. See `log_me_estimate`."""
    return log_me_estimate(features, targets).value


def log_me_estimate(features: Floats, targets: NDArray[Any]) -> Estimate:
    """Log of the maximum evidence of a Bayesian linear model, per image, averaged over labels; higher is better.

    Each label's column of 0 and 1 is explained by `features @ w + noise`, with w ~ N(0, 1/a) and noise ~ N(0, 1/b). With
    t = a / b fixed, the best b has a closed form, so what is left is one number to search, which a grid does without the
    local maxima and slow ends of the usual fixed-point iteration. Labels that all or no images have are left out.

    Args:
        features: (N, width), as the network gives them: the score is neither centred nor scaled.
        targets: (N,) class indices, or (N, labels) of 0 and 1.

    Raises:
        BadInput: for arrays that do not fit, or a single class.

    Source: You et al. 2021, LogME: practical assessment of pre-trained models for transfer learning.
    """
    rows, truth = checked(features, targets)
    columns = one_hot(truth)
    columns = columns[:, (columns.min(0) == 0) & (columns.max(0) == 1)]
    if not rows.any():
        raise BadInput("All features are 0.", hint="Is this network loaded with its weights?")
    if len(rows) > rows.shape[1]:
        values, vectors = np.linalg.eigh(rows.T @ rows)
        sides = rows @ vectors
    else:
        values, vectors = np.linalg.eigh(rows @ rows.T)
        sides = vectors * np.sqrt(np.maximum(values, 0.0))
    values = np.maximum(values, 0.0)
    products = sides.T @ columns
    energy = (columns**2).sum(0)
    centre = np.full(columns.shape[1], np.log(values.mean()))
    reach = _DECADES * np.log(10)
    for _ in range(_ZOOMS):
        logs = centre[:, None] + np.linspace(-reach, reach, _GRID)
        evidence = np.stack(
            [
                _evidence(np.exp(row), values, products[:, column] ** 2, float(energy[column]), len(rows))
                for column, row in enumerate(logs)
            ]
        )
        centre = logs[np.arange(len(logs)), evidence.argmax(1)]
        reach = 2 * reach / (_GRID - 1)
    gains = _predicted(np.exp(centre), sides, values, columns)
    return _estimate(float(evidence.max(1).mean() / len(rows)), gains.mean(1))


def _predicted(ratios: Wide, sides: Wide, values: Wide, columns: Wide) -> Wide:
    """Log density (N, labels) of each image's label given all others, which is what the log evidence gains by the image.

    Args:
        ratios: (labels,) best t = a / b of each; they stay as they are when an image is left out.
        sides: (N, r) features in the directions of the eigenvectors.
        values: (r,) eigenvalues, the squared lengths of those columns.
        columns: (N, labels) of 0 and 1.
    """
    shrunk = 1 / (values[:, None] + ratios)
    residuals = columns - sides @ (shrunk * (sides.T @ columns))
    rest = np.maximum((columns * residuals).sum(0), (columns**2).sum(0) * _EXPLAINED)
    unseen = np.maximum(1 - sides**2 @ shrunk, _EXPLAINED)  # 1 - leverage
    precision = unseen * len(columns) / rest
    out: Wide = 0.5 * (np.log(precision / (2 * np.pi)) - precision * (residuals / unseen) ** 2)
    return out


def _evidence(ratios: Wide, values: Wide, power: Wide, energy: float, n: int) -> Wide:
    """Log evidence (T,) at each t = a / b, with b at its best.

    Args:
        ratios: (T,) of t.
        values: eigenvalues (r,) of the features' Gram matrix.
        power: (r,) squared products of the label's column with the features in the directions of the eigenvectors.
        energy: squared length of the column.
        n: images.
    """
    shifted = values + ratios[:, None]
    rest = energy - (power / shifted).sum(1)  # squared error + t * squared length of w, both at the best w
    rest = np.maximum(rest, energy * _EXPLAINED)
    determinant = np.log1p(values / ratios[:, None]).sum(1)
    out: Wide = 0.5 * (n * np.log(n / rest) - n - determinant - n * np.log(2 * np.pi))
    return out


def leep(probabilities: Floats, labels: NDArray[Any]) -> float:
    """Mean log-likelihood given the source model's answers, <= 0; higher is better. See `leep_estimate`."""
    return leep_estimate(probabilities, labels).value


def leep_estimate(probabilities: Floats, labels: NDArray[Any]) -> Estimate:
    """Mean log-likelihood of the labels under the source model's answers, <= 0; higher is better.

    The source model answers z with some probability; P(y | z) is counted on the data; a label's likelihood is the mean of
    P(y | z) over the answers.

    Args:
        probabilities: (N, source classes), rows that add up to 1.
        labels: (N,) class indices.

    Raises:
        BadInput: for rows that are no probabilities, and arrays that do not fit.

    Source: Nguyen et al. 2020, LEEP: a new measure to evaluate transferability of learned representations.
    """
    rows, truth = single_label(probabilities, labels, what="probabilities")
    if rows.min() < 0 or np.abs(rows.sum(1) - 1).max() > _SUM_TOLERANCE:
        raise BadInput(
            f"Rows add up to {rows.sum(1).min():g} … {rows.sum(1).max():g}, the smallest entry is {rows.min():g}.",
            hint="Give probabilities: a softmax over the source classes.",
        )
    hot = one_hot(truth)
    joint = hot.T @ rows / len(rows)
    mass = np.maximum(joint.sum(0), np.finfo(np.float64).tiny)
    conditional = joint / mass
    expected = (rows * conditional[truth]).sum(1)
    # An image also moves the counts that the likelihood of all images rests on: to first order, by so much.
    pull = (hot / expected[:, None]).T @ rows / len(rows)
    moved = (rows * (pull[truth] - (pull * conditional).sum(0)) / mass).sum(1)
    return _estimate(float(np.log(expected).mean()), np.log(expected) + moved)


def nce(source_labels: NDArray[Any], labels: NDArray[Any]) -> float:
    """Minus the entropy of the labels given the source model's answers, in nats, <= 0; higher is better.

    Args:
        source_labels: (N,) index of the source class that the model answers.
        labels: (N,) class indices.

    Raises:
        BadInput: for arrays that do not fit.

    Source: Tran et al. 2019, Transferability and hardness of supervised classification tasks.
    """
    answers = np.asarray(source_labels)
    _, truth = single_label(answers.reshape(len(answers), -1), labels, what="source labels")
    place = np.unique(answers, return_inverse=True)[1]
    joint = np.zeros((place.max() + 1, truth.max() + 1))
    np.add.at(joint, (place, truth), 1 / len(truth))
    given = joint / joint.sum(1, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(given[seen])).sum())


def h_score(features: Floats, labels: NDArray[Any]) -> float:
    """trace(cov(features)⁻¹ · cov(class means)), in [0, classes - 1]; higher is better.

    The pseudo-inverse is used; with fewer images than features the score says little (it nears its maximum for any
    labels), which is what `regularised_h_score` mends.

    Raises:
        BadInput: for arrays that do not fit, or a single class.

    Source: Bao et al. 2019, An information-theoretic approach to transferability in task transfer learning.
    """
    rows, truth = single_label(features, labels)
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    kept = values > values[-1] * max(rows.shape) * np.finfo(np.float64).eps
    between = _mean_roots(centred, truth) @ vectors[:, kept]
    return float((between**2 / values[kept]).sum())


def regularised_h_score(features: Floats, labels: NDArray[Any]) -> float:
    """The H-score with a Ledoit-Wolf covariance, >= 0; higher is better. See `regularised_h_score_estimate`."""
    return regularised_h_score_estimate(features, labels).value


def regularised_h_score_estimate(features: Floats, labels: NDArray[Any]) -> Estimate:
    """The H-score with a Ledoit-Wolf covariance, >= 0; higher is better, and of use with few images too.

    trace(cov_s⁻¹ · (1 - s) · cov(class means)), where cov_s = (1 - s) · cov + s · (mean variance) · I.

    Raises:
        BadInput: for arrays that do not fit, or a single class.

    Source: Ibrahim et al. 2021, Newer is not always better: rethinking transferability metrics, their peculiarities,
    stability and performance.
    """
    rows, truth = single_label(features, labels)
    centred = rows - rows.mean(0)
    amount = shrinkage(centred)
    plain = centred.T @ centred / len(rows)
    level = float(np.trace(plain)) / len(plain)
    if level == 0:
        return Estimate(0.0, 0.0)
    covariance = (1 - amount) * plain
    covariance[np.diag_indices_from(covariance)] += max(amount * level, 1e-12 * level)
    between = _mean_roots(centred, truth)
    solved = np.linalg.solve(covariance, np.vstack([between, centred]).T).T
    aims, solved = solved[: len(between)], solved[len(between) :]
    raw = float((between * aims).sum())
    # how the score changes with the shrinkage, which an image left out changes too
    slope = (1 - amount) * (((centred @ aims.T) ** 2).sum() / len(rows) - level * (aims**2).sum()) - raw
    without = _h_without(centred, truth, solved, amount)
    without += slope * (_shrinkage_without(centred, plain) - amount)
    return _estimate((1 - amount) * raw, -len(rows) * without)


def _h_without(centred: Wide, labels: Labels, solved: Wide, amount: float) -> Wide:
    """The regularised H-score (N,) without each image, by a rank-one change of the covariance.

    Args:
        centred: (N, width) features around their mean.
        labels: (N,) without gaps.
        solved: (N, width) those features over the covariance.
        amount: of shrinkage; it stays as it is.
    """
    n, rows, hot = len(centred), np.arange(len(centred)), one_hot(labels)
    count = hot.sum(0)
    means = (hot / count).T @ centred
    cross = solved @ means.T  # (N, classes): each image against each mean
    own = (centred * solved).sum(1)
    weight = (1 - amount) / (n - 1)
    left = np.maximum(1 - weight * own, _EXPLAINED)
    lengths = (hot / count).T @ cross  # (classes, classes): the means against each other
    squares = np.diagonal(lengths) + weight * cross**2 / left[:, None]
    mine = count[labels]
    fewer = np.maximum(mine - 1, 1)  # a class of one image goes with it
    moved = mine**2 * squares[rows, labels] - 2 * mine * cross[rows, labels] / left + own / left
    total = squares @ count - mine * squares[rows, labels] + np.where(mine > 1, moved / fewer, 0.0)
    out: Wide = (1 - amount) * (total / (n - 1) - own / left / (n - 1) ** 2) * (n - 1) / n
    return out


def shrinkage(centred: Wide) -> float:
    """How far the covariance of centred rows (N, width) is best pulled to a multiple of the identity, in [0, 1].

    Source: Ledoit & Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices.
    """
    n, width = centred.shape
    side = centred @ centred.T if n < width else centred.T @ centred
    squares = float((side**2).sum()) / n**2  # squared Frobenius norm of the covariance, from the smaller side
    mean = float((centred**2).sum()) / (n * width)
    spread = squares / width - mean**2
    noise = (float(((centred**2).sum(1) ** 2).sum()) / n - squares) / (n * width)
    return min(1.0, max(0.0, noise / spread)) if spread > 0 else 1.0


def _shrinkage_without(centred: Wide, covariance: Wide) -> Wide:
    """`shrinkage` (N,) without each image, the centre as it is; `covariance` (width, width) is that of all."""
    n, width = centred.shape
    lengths = (centred**2).sum(1)
    grown = n / (n - 1)
    within = ((centred @ covariance) * centred).sum(1)
    squares = grown**2 * ((covariance**2).sum() - 2 * within / (n - 1) + (lengths / (n - 1)) ** 2)
    mean = grown * (np.trace(covariance) - lengths / (n - 1)) / width
    spread = squares / width - mean**2
    noise = (((lengths**2).sum() - lengths**2) / (n - 1) - squares) / ((n - 1) * width)
    out: Wide = np.where(spread > 0, np.clip(noise / np.where(spread > 0, spread, 1.0), 0.0, 1.0), 1.0)
    return out


def _mean_roots(centred: Wide, labels: Labels) -> Wide:
    """(classes, width): class means of centred rows times the root of their share; its Gram is their covariance."""
    hot = one_hot(labels)
    count = hot.sum(0)
    out: Wide = (hot.T @ centred) / np.sqrt(count * len(labels))[:, None]
    return out
