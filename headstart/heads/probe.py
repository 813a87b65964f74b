"""Logistic regression on frozen features: strength by cross-validation, then one convex problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart._core.progress import track
from headstart._core.seed import derive
from headstart.data.records import Sample
from headstart.heads.logistic import LinearHead, Solver, blocks, prepare
from headstart.metrics.losses import row_losses
from headstart.scores import fold_numbers

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Logits = NDArray[np.float64]

STRENGTHS = tuple(float(10.0**power) for power in np.arange(-3, 2.6, 0.5))
"""Values of scikit-learn's C (inverse strength) on features scaled to unit variance on average, strongest pull first."""

_SURE = 2.0  # standard errors by which the loss must have risen
_FEW, _REPEATS = 1000, 3  # below this many images, cross-validation is repeated with other folds


@dataclass(frozen=True)
class Problem:
    """Features of N images with targets, and how the classes weigh.

    Attributes:
        features: (views * N, width): the images as they are, then the second view of each, and so on.
        targets: (N,) class indices or (N, classes) of 0 and 1.
        groups: (N,) integers: samples of one group stay in one fold.
        weights: (classes,) or None.
    """

    features: Features
    targets: Labels
    groups: Labels
    classes: int
    weights: NDArray[np.float64] | None

    @property
    def views(self) -> int:
        """How many rows stand for one image."""
        return len(self.features) // len(self.targets)

    def first(self, count: int) -> Problem:
        """The same problem with that many views of each image."""
        return replace(self, features=self.features[: count * len(self.targets)])


def folds(
    problem: Problem, *, count: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(training rows, held-out rows) of each fold: stratified where there is one class an image, groups kept whole."""
    names = len(np.unique(problem.groups))
    groups = None if names == len(problem.groups) else problem.groups
    number = fold_numbers(problem.targets, count=min(count, names), seed=derive(seed, "folds"), groups=groups)
    for turn in np.unique(number):
        yield np.flatnonzero(number != turn), np.flatnonzero(number == turn)


@dataclass(frozen=True)
class Path:
    """Cross-validated mean log-loss, with its standard error, for each strength tried.

    Attributes:
        heads: fitted on all rows, one for each strength.
        logits: (N, classes) for each strength, every row's from a head that was fitted without it (the first division's).
    """

    strengths: tuple[float, ...]
    losses: tuple[float, ...]
    errors: tuple[float, ...]
    heads: tuple[LinearHead, ...]
    logits: tuple[Logits, ...]

    @property
    def chosen(self) -> int:
        """The position of the strength with the lowest loss."""
        return int(np.argmin(self.losses))

    @property
    def best(self) -> float:
        """The strength with the lowest loss."""
        return self.strengths[self.chosen]


def walk(
    problem: Problem, *, strengths: Sequence[float], count: int, seed: int, repeats: int | None = None
) -> Path:
    """The regularisation path, from strong to weak, walked until the loss has turned upwards: surely, or twice.

    On few images one division into folds is a game of chance, so several are averaged. All folds of all divisions and the
    fit on all rows are solved together, each strength from the solution of the one before. An image's views are seen or
    unseen together, and it is judged by its first view alone.

    Args:
        problem: what is fitted.
        strengths: values of C, rising.
        count: folds of each division.
        seed: of the divisions.
        repeats: how many divisions; None: several on few images, else one.
    """
    if repeats is None:
        repeats = _REPEATS if len(problem.targets) < _FEW else 1
    divisions = [list(folds(problem, count=count, seed=seed + turn)) for turn in range(repeats)]
    held = [rows for division in divisions for _, rows in division]
    seen = np.ones((len(problem.targets), len(held) + 1), np.bool_)
    for column, rows in enumerate(held):
        seen[rows, column] = False
    copies = problem.views
    told = np.concatenate([problem.targets] * copies)
    joined = blocks(told, np.tile(seen, (copies, 1)), problem.classes, weights=problem.weights, copies=copies)
    solver = Solver(prepare(problem.features), joined)
    found, lowest = Path((), (), (), (), ()), None
    for strength in track(strengths, label="choosing the strength"):
        *parts, head = solver.solve(strength)
        logits = np.zeros((repeats, len(problem.targets), problem.classes))
        places = [turn for turn, division in enumerate(divisions) for _ in division]
        for turn, part, rows in zip(places, parts, held, strict=True):
            logits[turn, rows] = part(problem.features[rows])
        losses = np.mean([row_losses(one, problem.targets) for one in logits], axis=0)
        found = _longer(found, strength, losses, head, logits[0])
        if lowest is None or losses.mean() < lowest.mean():
            lowest = losses
        elif _surely_above(losses, lowest) or min(found.losses) < min(found.losses[-2:]):
            break
    return found


def _surely_above(losses: Logits, lowest: Logits) -> bool:
    """Whether the mean of paired losses (N,) is higher by more than chance explains: still weaker pulls cost the most."""
    risen = losses - lowest
    return bool(risen.mean() > _SURE * risen.std() / np.sqrt(len(risen)))


def _longer(path: Path, strength: float, losses: Logits, head: LinearHead, logits: Logits) -> Path:
    error = float(losses.std() / np.sqrt(len(losses)))
    return Path(
        strengths=(*path.strengths, strength),
        losses=(*path.losses, float(losses.mean())),
        errors=(*path.errors, error),
        heads=(*path.heads, head),
        logits=(*path.logits, logits),
    )


def group_numbers(samples: Sequence[Sample]) -> Labels:
    """An integer for each sample, the same for samples of one group or of identical content."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(sample.group or sample.digest, len(numbers)) for sample in samples], np.int64
    )
