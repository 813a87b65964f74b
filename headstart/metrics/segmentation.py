"""Metrics of a class for each pixel. Counts first, of each image; ratios after, of any selection of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BAND = 0.02
"""Width of the boundary's band in shares of the image's diagonal, as Cheng et al. 2021 choose it."""


def counts(truth: NDArray[np.int16], answers: NDArray[np.int16], *, classes: int) -> Ints:
    """(classes, classes + 2) of one image: its confusion (rows truth, columns answers), and of the boundary's band the
    intersection and the union.

    Args:
        truth: (H, W) class indices, below 0 where a pixel counts neither way.
        answers: (H, W) class indices.
        classes: how many.

    Source: Cheng et al. 2021, Boundary IoU: the parts of both regions that lie within a band of their own boundary.
    """
    known = truth >= 0
    flat = truth[known].astype(np.int64) * classes + answers[known]
    table = np.bincount(flat, minlength=classes * classes).reshape(classes, classes)
    width = max(1, round(BAND * float(np.hypot(*truth.shape))))
    first, second = _near_boundary(truth, width) & known, _near_boundary(answers, width) & known
    agree = first & second & (truth == answers)
    both = np.bincount(truth[agree].astype(np.int64), minlength=classes)
    ours = np.bincount(truth[first].astype(np.int64), minlength=classes)
    theirs = np.bincount(answers[second].astype(np.int64), minlength=classes)
    return np.concatenate([table, both[:, None], (ours + theirs - both)[:, None]], axis=1)


def _near_boundary(labels: NDArray[np.int16], width: int) -> NDArray[np.bool_]:
    """Where another label lies within that many pixels (in either direction, or both)."""
    from scipy.ndimage import maximum_filter, minimum_filter  # only masks need it

    size = 2 * width + 1
    near: NDArray[np.bool_] = maximum_filter(labels, size, mode="nearest") != minimum_filter(
        labels, size, mode="nearest"
    )
    return near


def confusion(rows: Floats | Ints) -> Floats:
    """(classes, classes) of all images (N, classes, classes + 2) together."""
    return np.asarray(rows[..., :-2].sum(0), np.float64)


def ious(rows: Floats | Ints) -> Floats:
    """(classes,) intersection over union of each class over all images together; NaN for one that is nowhere."""
    table = confusion(rows)
    right, whole = np.diag(table), table.sum(0) + table.sum(1) - np.diag(table)
    return np.where(whole > 0, right / np.maximum(whole, 1), np.nan)


def resampled_ious(rows: Floats | Ints, draws: NDArray[np.floating]) -> Floats:
    """(repeats, classes): `ious` of resampled images, of draws (repeats, N) as counts."""
    sums = np.tensordot(draws, rows[..., :-2], 1)
    right = np.diagonal(sums, axis1=1, axis2=2)
    whole = sums.sum(1) + sums.sum(2) - right
    return np.where(whole > 0, right / np.maximum(whole, 1), np.nan)


def dices(rows: Floats | Ints) -> Floats:
    """(classes,) Dice coefficient (the F1 of pixels) of each class; NaN for one that is nowhere."""
    table = confusion(rows)
    size = table.sum(0) + table.sum(1)
    return np.where(size > 0, 2 * np.diag(table) / np.maximum(size, 1), np.nan)


def boundary_ious(rows: Floats | Ints) -> Floats:
    """(classes,) intersection over union within the boundary's band; NaN for a class without a boundary."""
    both, whole = rows[..., -2].sum(0), rows[..., -1].sum(0)
    return np.where(whole > 0, both / np.maximum(whole, 1), np.nan)


def pixel_accuracy(rows: Floats | Ints) -> float:
    """The share of pixels whose class is right."""
    table = confusion(rows)
    return float(np.trace(table) / max(1.0, table.sum()))


def mean_of(each: Floats) -> float:
    """The mean over the classes that occur; NaN where none does."""
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def image_scores(rows: Floats | Ints) -> Floats:
    """(N,) mean IoU of each image alone, over the classes that it has or was given; 1 where no pixel counts."""
    table = np.asarray(rows[..., :-2], np.float64)
    right = np.diagonal(table, axis1=1, axis2=2)
    whole = table.sum(1) + table.sum(2) - right
    there = whole > 0
    shares = np.where(there, right / np.maximum(whole, 1), 0.0).sum(1)
    number = there.sum(1)
    return np.where(number > 0, shares / np.maximum(number, 1), 1.0)
