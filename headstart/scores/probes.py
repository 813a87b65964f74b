"""Scores that classify: nearest neighbours, and a ridge probe cross-validated over its whole regularisation path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart._core.errors import BadInput
from headstart._core.seed import generator
from headstart.scores.checks import Floats, Labels, Wide, checked, one_hot, single_label

NEIGHBOURS = 5
FOLDS = 5
STRENGTHS = tuple(float(10.0**power) for power in np.arange(-3, 3.1, 0.5))
"""Ridge penalties in units of N times the features' mean variance, so that they mean the same for every network."""

_CHUNK = 1024  # rows of the similarity matrix at a time: constant memory
_ROUNDING = (
    1e-24  # squared share of a feature's size below which its variance is what rounding leaves of a constant
)
_PRESENT = 0.5  # regressed on 0 and 1, so a label is present above the middle


def knn_accuracy(features: Floats, labels: NDArray[Any], *, k: int = NEIGHBOURS) -> float:
    """The share of images whose k nearest other images (by cosine) vote for their class, in [0, 1]; higher is better.

    Equal votes are settled by the nearer neighbours.

    Raises:
        BadInput: for arrays that do not fit, a single class, or fewer than k + 1 images.

    Source: Wu et al. 2018, Unsupervised feature learning via non-parametric instance discrimination (the protocol).
    """
    rows, truth = single_label(features, labels)
    if not 1 <= k < len(rows):
        raise BadInput(
            f"{k} neighbours among {len(rows)} images.", hint="Give more images, or a smaller k >= 1."
        )
    unit = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)).astype(np.float32)
    hot, right = one_hot(truth), 0
    for start in range(0, len(unit), _CHUNK):
        part = np.arange(start, min(start + _CHUNK, len(unit)))
        cosine = unit[part] @ unit.T
        cosine[part - start, part] = -np.inf  # an image is not its own neighbour
        near = np.argpartition(cosine, -k, axis=1)[:, -k:]
        # at most 1/4 of a vote in all for nearness: it settles ties and nothing else
        votes = 1 + np.take_along_axis(cosine, near, axis=1) / (4 * k)
        answers = (votes[:, :, None] * hot[near]).sum(1).argmax(1)
        right += int((answers == truth[part]).sum())
    return right / len(rows)


@dataclass(frozen=True)
class RidgePath:
    """A ridge probe, cross-validated at every penalty.

    Attributes:
        alphas: the penalties (scikit-learn's `alpha`), ascending.
        accuracies: mean cross-validated correctness at each, in [0, 1].
        errors: its standard error at each.
        alpha: the penalty with the highest accuracy, of equal ones the middle one.
        accuracy: mean of `correct`: what a probe reaches whose penalty was chosen without the images it is tested on.
        error: its standard error.
        correct: (N,) correctness of each image, held out, at the penalty that the other folds choose.
    """

    alphas: tuple[float, ...]
    accuracies: tuple[float, ...]
    errors: tuple[float, ...]
    alpha: float
    accuracy: float
    error: float
    correct: Wide


def ridge_accuracy(features: Floats, targets: NDArray[Any], *, seed: int = 0) -> float:
    """The cross-validated accuracy of a ridge probe, in [0, 1]; higher is better. See `ridge_path`."""
    return ridge_path(features, targets, folds=fold_numbers(targets, seed=seed)).accuracy


def ridge_path(
    features: Floats,
    targets: NDArray[Any],
    *,
    folds: Labels | None = None,
    strengths: tuple[float, ...] = STRENGTHS,
) -> RidgePath:
    """Cross-validated accuracy along the regularisation path, one factorisation a fold for all of it.

    One-hot targets; with one class an image, images weigh so that every class counts alike. A fold's Gram matrix, of
    features or of images, whichever is smaller, is brought to tridiagonal form once, after which a penalty costs next to
    nothing; that form takes a third of the time of eigenvalues.

    Args:
        features: (N, width).
        targets: (N,) class indices: correctness is 0 or 1; or (N, labels) of 0 and 1: F1 of the image's label set.
        folds: (N,) number of the fold in which an image is held out; None: `fold_numbers(targets)`.
        strengths: penalties in units of N times the mean variance of the features, ascending, > 0.

    Raises:
        BadInput: for arrays that do not fit, a single class, one fold, or features without variance.

    Source: Kolesnikov et al., big_vision, few-shot linear probes (closed form); Householder 1958 (tridiagonal form).
    """
    rows, truth = checked(features, targets)
    places = fold_numbers(targets) if folds is None else np.asarray(folds)
    names = np.unique(places)
    if places.shape != (len(rows),) or len(names) < 2:
        raise BadInput(
            f"Folds of shape {places.shape} with {len(names)} numbers for {len(rows)} images.",
            hint="Give each image the number of its fold, two folds or more.",
        )
    problem = _problem(rows, truth, strengths)
    right = np.zeros((len(rows), len(problem.alphas)))
    for name in names:
        held = places == name
        for column, answers in enumerate(_answers(problem, held)):
            right[held, column] = _correctness(answers, problem.targets[held], single=truth.ndim == 1)
    chosen = np.array([_best(right[places != name]) for name in names])
    correct = right[np.arange(len(rows)), chosen[np.searchsorted(names, places)]]
    return RidgePath(
        alphas=tuple(problem.alphas.tolist()),
        accuracies=tuple(right.mean(0).tolist()),
        errors=tuple(_standard_error(right).tolist()),
        alpha=float(problem.alphas[_best(right)]),
        accuracy=float(correct.mean()),
        error=float(_standard_error(correct)),
        correct=correct,
    )


def fold_numbers(
    targets: NDArray[Any], *, count: int = FOLDS, seed: int = 0, groups: Labels | None = None
) -> Labels:
    """The fold (N,) in 0 … count - 1 where each image is held out: classes spread evenly, groups whole.

    Args:
        targets: (N,) class indices, or (N, labels), which are dealt out at random.
        count: of folds.
        seed: of the shuffle.
        groups: (N,) integers; images of one group are held out together.
    """
    truth = np.asarray(targets)
    labels = np.unique(truth, return_inverse=True)[1] if truth.ndim == 1 else np.zeros(len(truth), np.int64)
    rng = generator(seed, "folds", len(truth))
    out = np.zeros(len(truth), np.int64)
    if groups is None:
        order = rng.permutation(len(truth))
        order = order[
            np.argsort(labels[order], kind="stable")
        ]  # by class, shuffled inside it, then dealt in turn
        out[order] = np.arange(len(truth)) % count
        return out
    held = np.zeros((count, int(labels.max()) + 1))
    names, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    members, ends = np.argsort(place, kind="stable"), np.cumsum(sizes)
    shuffled = rng.permutation(len(names))
    for name in shuffled[
        np.argsort(-sizes[shuffled], kind="stable")
    ]:  # large groups first: small ones level out
        own = members[ends[name] - sizes[name] : ends[name]]
        counts = np.bincount(labels[own], minlength=held.shape[1])
        load = held[:, counts.argmax()] + held.sum(1) / (1 + held.sum())  # its main class first, then size
        out[own] = fold = int(load.argmin())
        held[fold] += counts
    return out


@dataclass(frozen=True)
class _Problem:
    """Features and targets, both times the root of the images' weights, around the weighted means of all images.

    Attributes:
        plain: (N, width) features before the weights.
        roots: (N,) roots of the weights.
        gram: of all weighted features (width, width), or None where images are fewer than features.
    """

    plain: Wide
    targets: Wide
    roots: Wide
    alphas: Wide
    gram: Wide | None


def _problem(rows: Wide, truth: Labels, strengths: tuple[float, ...]) -> _Problem:
    labels = truth if truth.ndim == 2 else np.unique(truth, return_inverse=True)[1]
    targets = one_hot(labels)
    weights = np.ones(len(rows))
    if truth.ndim == 1:
        counts = targets.sum(0)
        weights = (len(rows) / (len(counts) * counts))[labels]
    plain = rows - (weights @ rows) / weights.sum()
    roots = np.sqrt(weights)
    weighted = plain * roots[:, None]
    scale = float((weighted**2).sum()) / rows.shape[1]
    if scale <= _ROUNDING * float((rows**2).mean()) * len(rows):
        raise BadInput(
            "The features are the same for all images.", hint="Is this network loaded with its weights?"
        )
    gram = weighted.T @ weighted if len(rows) > rows.shape[1] else None
    return _Problem(plain, targets, roots, np.asarray(strengths) * scale, gram)


def _answers(problem: _Problem, held: NDArray[np.bool_]) -> Iterator[Wide]:
    """Regressed targets (held, classes) of the held-out images, for one penalty after the other."""
    kept, roots = ~held, problem.roots[~held, None]
    total = float((roots**2).sum())
    mean, level = ((roots**2 * part[kept]).sum(0) / total for part in (problem.plain, problem.targets))
    inner = (problem.plain[kept] - mean) * roots
    aims = (problem.targets[kept] - level) * roots
    outer = problem.plain[held] - mean
    if problem.gram is not None and len(inner) > inner.shape[1]:
        away = (
            problem.plain[held] * problem.roots[held, None]
        )  # fewer images than those kept: cheaper to take away
        gram = problem.gram - away.T @ away - total * np.outer(mean, mean)
        for weights in _shifted_solutions(gram, inner.T @ aims, problem.alphas):
            yield outer @ weights + level
        return
    cross = outer @ inner.T
    for weights in _shifted_solutions(inner @ inner.T, aims, problem.alphas):
        yield cross @ weights + level


def _shifted_solutions(matrix: Wide, right: Wide, shifts: Wide) -> Iterator[Wide]:
    """(matrix + shift · I)⁻¹ right for each shift, of a symmetric matrix (r, r) and right sides (r, classes).

    Q · T · Qᵀ = matrix with T tridiagonal; Q stays in the form of its reflectors.
    """
    from scipy.linalg import get_lapack_funcs, solveh_banded  # 0.2 s that only fitting needs to pay

    if len(matrix) == 1:
        yield from (right / (matrix + shift) for shift in shifts)
        return
    reduce, workspace, rotate = get_lapack_funcs(("sytrd", "sytrd_lwork", "ormqr"), (matrix,))
    room = int(workspace(len(matrix), lower=1)[0])
    packed, diagonal, beside, tau, _ = reduce(matrix, lower=1, lwork=room)
    reflectors, space = np.asfortranarray(packed[1:, :-1]), 64 * right.shape[1]

    def turned(columns: Wide, way: str) -> Wide:
        out = columns.copy()
        out[1:] = rotate("L", way, reflectors, tau, np.asfortranarray(columns[1:]), space)[0]
        return out

    inside = turned(right, "T")
    for shift in shifts:
        bands = np.stack([diagonal + shift, np.append(beside, 0.0)])
        yield turned(solveh_banded(bands, inside, lower=True), "N")


def _correctness(answers: Wide, truth: Wide, *, single: bool) -> Wide:
    """Of each image, in [0, 1]: 0 or 1 for one class an image, else F1 of the label sets (1 where both are empty)."""
    if single:
        right: Wide = (answers.argmax(1) == truth.argmax(1)).astype(np.float64)
        return right
    given, present = answers > _PRESENT, truth > 0
    size = given.sum(1) + present.sum(1)
    return np.where(size > 0, 2 * (given & present).sum(1) / np.maximum(size, 1), 1.0)


def _best(right: Wide) -> int:
    """The column (of ascending penalties) with the highest mean; of equal ones the middle, furthest from both cliffs."""
    means = right.mean(0)
    equal = np.flatnonzero(means == means.max())
    return int(equal[len(equal) // 2])


def _standard_error(right: Wide) -> Wide:
    return np.asarray(right.std(0, ddof=1) / np.sqrt(len(right)))
