"""Sets of classes that hold the true one as often as was asked for, whatever the model and its calibration."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headstart._core.errors import BadOption
from headstart._core.records import record

Floats = NDArray[np.floating]

COVERAGE = 0.95
"""The coverage that is reported where none is asked for."""

_KEPT = 1000  # order statistics that a bundle carries: coverages to three digits stay exact


@record
class Conformal:
    """How improbable the true class looked on images that the model was not fitted to; enough for any coverage.

    Attributes:
        n: how many images that were.
        ranks: of the scores below among all n, rising from 1.
        scores: one minus the probability of the true class, rising.
    """

    n: int
    ranks: tuple[int, ...]
    scores: tuple[float, ...]

    def threshold(self, coverage: float) -> float:
        """The score up to which classes belong to the set; 1 (all classes) where n images cannot promise the coverage.

        The ceil((n + 1) * coverage)-th smallest score: for one more image like these n, the chance that its true class is
        in the set is at least the coverage.

        Source: Vovk et al. 2005; Lei et al. 2018, distribution-free predictive inference.

        Raises:
            BadOption: for a coverage outside (0, 1).
        """
        if not 0 < coverage < 1:
            raise BadOption(
                f"--coverage is {coverage:g}.", hint="It must lie between 0 and 1, for example 0.9."
            )
        wanted = math.ceil((self.n + 1) * coverage - 1e-9)
        return next(
            (score for rank, score in zip(self.ranks, self.scores, strict=True) if rank >= wanted), 1.0
        )


def calibrate(probability: Floats, truth: NDArray[np.int64]) -> Conformal:
    """What sets are made from.

    Args:
        probability: (N, classes) calibrated, of images that the model was not fitted to.
        truth: (N,) class indices.
    """
    n = len(truth)
    scores = np.sort(1 - probability[np.arange(n), truth].astype(np.float64))
    ranks = np.arange(1, n + 1)
    if n > _KEPT:
        ranks = np.unique(np.ceil((n + 1) * np.arange(1, _KEPT) / _KEPT - 1e-9).astype(np.int64))
    return Conformal(n=n, ranks=tuple(map(int, ranks)), scores=tuple(map(float, scores[ranks - 1])))


def sets(probability: Floats, threshold: float, *, keep_best: bool = True) -> NDArray[np.bool_]:
    """Which classes (N, classes) belong to the set of each image: those with one minus probability <= threshold.

    These are the smallest sets on average with that coverage. The most probable class always belongs to it: where the
    model is right more often than the coverage asks, the sets are its answers.

    Args:
        probability: (N, classes), calibrated.
        threshold: from `Conformal.threshold`.
        keep_best: whether the most probable class belongs to it in any case; without it sets can be empty.

    Source: Sadinle, Lei & Wasserman 2019, least ambiguous set-valued classifiers.
    """
    inside: NDArray[np.bool_] = 1 - probability.astype(np.float64) <= threshold
    if keep_best and len(probability):
        inside[np.arange(len(inside)), probability.argmax(1)] = True
    return inside
