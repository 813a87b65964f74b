"""What every score asks of its arrays, in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart._core.errors import BadInput

Floats = NDArray[np.floating[Any]]
Wide = NDArray[np.float64]
Labels = NDArray[np.int64]


def checked(features: Floats, targets: NDArray[Any], *, what: str = "features") -> tuple[Wide, Labels]:
    """Features (N, width) in double precision and targets, (N,) class indices or (N, labels) of 0 and 1.

    Raises:
        BadInput: for shapes that do not fit, numbers that are not finite, or targets with a single value.
    """
    rows, truth = np.asarray(features, np.float64), np.asarray(targets)
    if rows.ndim != 2 or truth.ndim not in (1, 2) or len(rows) != len(truth):
        raise BadInput(
            f"{what} of shape {rows.shape} do not fit targets of shape {truth.shape}.",
            hint="Give (N, width), and (N,) class indices or (N, labels) of 0 and 1.",
        )
    if not np.isfinite(rows).all():
        raise BadInput(
            f"{int((~np.isfinite(rows)).any(1).sum())} of {len(rows)} rows of the {what} hold NaN or infinity.",
            hint="Leave these images out, or compute the network's answers in float32.",
        )
    if not np.issubdtype(truth.dtype, np.integer) and truth.dtype != np.bool_:
        raise BadInput(
            f"Targets are {truth.dtype}, not whole numbers.", hint="Give class indices, or 0 and 1."
        )
    low, high = (int(truth.min()), int(truth.max())) if truth.size else (0, 0)
    if low < 0 or (truth.ndim == 2 and high > 1):
        raise BadInput(
            f"Targets run from {low} to {high}.", hint="Give class indices from 0, or columns of 0 and 1."
        )
    if low == high:
        raise BadInput(
            f"All {len(rows)} targets are {low}: there is nothing to tell apart.",
            hint="Give images of two classes or more.",
        )
    return rows, truth.astype(np.int64)


def single_label(features: Floats, labels: NDArray[Any], *, what: str = "features") -> tuple[Wide, Labels]:
    """`checked`, with the classes that occur numbered 0, 1, … without gaps; for scores of one class an image.

    Raises:
        BadInput: as `checked`, and for targets with several labels an image.
    """
    rows, truth = checked(features, labels, what=what)
    if truth.ndim == 2:
        raise BadInput(
            f"Targets of shape {truth.shape} have several labels an image.",
            hint="Use log_me or ridge_path, which take them, or score one column at a time.",
        )
    return rows, np.unique(truth, return_inverse=True)[1].astype(np.int64)


def one_hot(labels: Labels) -> Wide:
    """(N, classes) of 0 and 1 for indices without gaps; columns of 0 and 1 come back as they are."""
    return labels.astype(np.float64) if labels.ndim == 2 else np.eye(int(labels.max()) + 1)[labels]
