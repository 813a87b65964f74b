"""Is an image like those that the model was trained on? Its distance to them, and how little any class speaks for it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record

Floats = NDArray[np.floating]

KEEP = 0.95
"""Share of images like the training images that are not called unlike them."""

NEIGHBOURS = 5
_BLOCK = 1024  # images whose distances are computed at once


@record
class Novelty:
    """How unlike an image is, on the scale of images like the training images.

    The score is the sum of two numbers, each standardised by its mean and deviation over such images: the mean cosine
    distance to the nearest of the training images' features, and the energy (minus the log of the summed exponentials of
    the calibrated logits). Higher is stranger.

    Attributes:
        neighbours: how many of the nearest training images.
        distance: mean and standard deviation.
        energy: the same; None where the distance alone is used (several labels an image).
        threshold: above this score an image is called unlike; 95 of 100 images like the training images are below it.
        n: images that the figures come from; none of them counts itself among its neighbours.

    Source: Sun et al. 2022, out-of-distribution detection with deep nearest neighbors; Liu et al. 2020, energy-based
    out-of-distribution detection.
    """

    neighbours: int
    distance: tuple[float, float]
    energy: tuple[float, float] | None
    threshold: float
    n: int

    def scores(self, distance: Floats, logits: Floats | None) -> NDArray[np.float64]:
        """The score (N,) of images with these distances (N,) and calibrated logits (N, classes)."""
        out = (distance.astype(np.float64) - self.distance[0]) / self.distance[1]
        if self.energy is not None and logits is not None:
            out = out + (energies(logits) - self.energy[0]) / self.energy[1]
        return np.asarray(out, np.float64)


def distances(
    features: Floats, bank: Floats, *, neighbours: int, own: NDArray[np.int64] | None = None
) -> Floats:
    """The mean cosine distance (N,) of each row to its nearest rows in the bank.

    Args:
        features: (N, width).
        bank: (M, width), M >= neighbours.
        neighbours: how many.
        own: (N,) the row of the bank that is the image itself, which does not count; -1 where none is.
    """
    known, out = unit(bank), np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        alike = unit(features[start : start + _BLOCK]) @ known.T
        if own is not None:
            part = own[start : start + _BLOCK]
            rows = np.flatnonzero(part >= 0)
            alike[rows, part[rows]] = -np.inf
        nearest = np.partition(alike, alike.shape[1] - neighbours, axis=1)[:, -neighbours:]
        out[start : start + _BLOCK] = 1 - nearest.mean(1)
    return out


def unit(rows: Floats) -> NDArray[np.float32]:
    """The rows with length one."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    out: NDArray[np.float32] = (rows / np.maximum(length, 1e-12)).astype(np.float32)
    return out


def energies(logits: Floats) -> NDArray[np.float64]:
    """Minus log-sum-exp of each row (N,): high where no class speaks for the image."""
    wide = logits.astype(np.float64)
    most = wide.max(1)
    out: NDArray[np.float64] = -(most + np.log(np.exp(wide - most[:, None]).sum(1)))
    return out


def fit_novelty(distance: Floats, logits: Floats | None, *, neighbours: int = NEIGHBOURS) -> Novelty:
    """The scale and the threshold, from images like the training images.

    The threshold is the ceil((n + 1) * 0.95)-th smallest score: one more such image is below it with a chance of 95 %.

    Args:
        distance: (N,) of images that are not among their own neighbours.
        logits: (N, classes) calibrated, by heads that did not see the image; None: the distance alone.
        neighbours: of the distance.
    """
    energy = None if logits is None else _scale(energies(logits))
    plain = Novelty(
        neighbours=neighbours, distance=_scale(distance), energy=energy, threshold=0.0, n=len(distance)
    )
    found = np.sort(plain.scores(distance, logits))
    rank = min(len(found), math.ceil((len(found) + 1) * KEEP - 1e-9))
    return Novelty(
        neighbours=neighbours,
        distance=plain.distance,
        energy=energy,
        threshold=float(found[rank - 1]),
        n=len(distance),
    )


def _scale(values: Floats) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-6)
