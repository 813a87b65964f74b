"""Calibration that treats the classes apart, for where one temperature for all of them is too little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record
from headstart._core.seed import generator
from headstart.metrics.calibration import doubted, fit_temperature
from headstart.metrics.intervals import Z95
from headstart.metrics.losses import row_losses

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

_FOLDS = 5
_LEAST = 10  # images for each class: two numbers a class from fewer are noise
_ITERATIONS = 100
_STRETCH = math.log(
    20.0
)  # how far a class's scale may go from that of the temperature: what cannot be told stays near


@record
class Classwise:
    """Calibrated logits are `logits * scale + shift`, each class by itself.

    Attributes:
        scale: of each class, > 0.
        shift: of each class; they add up to zero.
        temperature: what all logits would have been divided by instead.
        gain: by how much the log-loss was lower than with the temperature, on images that neither was fitted to.
        low: lower end of the gain's 95 % interval.
        high: upper end.
        n: images that it was fitted on.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    temperature: float
    gain: float
    low: float
    high: float
    n: int

    def __call__(self, logits: NDArray[np.floating[Any]]) -> Floats:
        """Calibrated logits (N, classes)."""
        return np.asarray(logits * np.array(self.scale) + np.array(self.shift), np.float64)

    def undone(self, calibrated: NDArray[np.floating[Any]]) -> Floats:
        """The logits (N, classes) that became these."""
        return np.asarray((calibrated - np.array(self.shift)) / np.array(self.scale), np.float64)


@dataclass(frozen=True)
class Fitted:
    """What was fitted to N images.

    Attributes:
        whole: to all of them.
        parts: (folds, 2, classes) scale and shift, each without the images of that fold.
        fold: (N,) of each image.
    """

    whole: Classwise
    parts: Floats
    fold: Labels

    def apart(self, logits: NDArray[np.floating[Any]], images: Labels) -> Floats:
        """Calibrated logits of some of the N images, each by what was fitted without it.

        Args:
            logits: (M, classes).
            images: (M,) which of the N images they belong to.
        """
        scale, shift = self.parts[self.fold[images]].transpose(1, 0, 2)
        return np.asarray(logits * scale + shift, np.float64)


def fit_classwise(logits: NDArray[np.floating[Any]], truth: Labels, *, seed: int) -> Fitted | None:
    """Scale and shift of each class's logit, where that pays; None where one temperature does as well.

    Both are fitted on four fifths of the images and judged on the rest, five times. It pays where the log-loss is lower and
    the 95 % interval of the paired difference excludes zero.

    Args:
        logits: (N, classes), of images that the network was not trained on.
        truth: (N,) class indices.
        seed: of the division.

    Source: Guo et al. 2017, On calibration of modern neural networks (vector scaling).
    """
    n, classes = logits.shape
    if n < _LEAST * classes:
        return None
    given = np.asarray(logits, np.float64)
    temperature = fit_temperature(given, truth)
    scale, shift = _fit(given, truth, temperature)
    # 2 (classes - 1) numbers more explain as much of the images they were fitted to by chance (Akaike 1974): the five fits
    # are not worth their time
    explained = (row_losses(given / temperature, truth) - row_losses(given * scale + shift, truth)).sum()
    if explained < 2 * (classes - 1):
        return None
    fold = generator(seed, "classwise", n).permutation(n) % _FOLDS
    parts, gain = np.empty((_FOLDS, 2, classes)), np.empty(n)
    for turn in range(_FOLDS):
        seen, held = fold != turn, fold == turn
        one = fit_temperature(given[seen], truth[seen])
        parts[turn] = _fit(given[seen], truth[seen], one)
        many = given[held] * parts[turn, 0] + parts[turn, 1]
        gain[held] = row_losses(given[held] / one, truth[held]) - row_losses(many, truth[held])
    mean, reach = float(gain.mean()), Z95 * float(gain.std(ddof=1)) / math.sqrt(n)
    if mean - reach <= 0:
        return None
    whole = Classwise(
        scale=tuple(map(float, scale)),
        shift=tuple(map(float, shift)),
        temperature=temperature,
        gain=mean,
        low=mean - reach,
        high=mean + reach,
        n=n,
    )
    return Fitted(whole, parts, fold)


def _fit(logits: Floats, truth: Labels, temperature: float) -> tuple[Floats, Floats]:
    """Scale and shift (classes,) with the lowest log-loss against the truth with its doubt, as the temperature has."""
    from scipy.optimize import minimize  # as in fit_temperature

    n, classes = logits.shape
    wanted, start = doubted(truth, classes=classes), -math.log(temperature)

    def loss(point: Floats) -> tuple[float, Floats]:
        scale, shift = np.exp(point[:classes]), point[classes:]
        moved = logits * scale + shift
        moved -= moved.max(1, keepdims=True)
        mass = np.exp(moved)
        total = mass.sum(1)
        value = float((np.log(total) - (wanted * moved).sum(1)).mean())
        step = mass / total[:, None] - wanted
        return value, np.concatenate([(step * logits).sum(0) * scale, step.sum(0)]) / n

    found = minimize(
        loss,
        np.concatenate([np.full(classes, start), np.zeros(classes)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(start - _STRETCH, start + _STRETCH)] * classes + [(None, None)] * classes,
        options={"maxiter": _ITERATIONS},
    )
    shift = found.x[classes:]
    return np.exp(found.x[:classes]), shift - shift.mean()
