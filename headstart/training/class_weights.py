"""Class weights: none, by frequency, or by name."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headstart._core.check import suggestion
from headstart._core.errors import BadOption
from headstart.training.records import TrainingData


def class_weights(
    wish: str, classes: tuple[str, ...], counts: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Weights (classes,) with mean 1 over the images, or None for equal weights.

    Args:
        wish: `none`, `auto` (inverse to the class's frequency) or `name=weight,name=weight`; classes left out get 1.
        classes: names in output order.
        counts: training images of each class.

    Raises:
        BadOption: for an unknown class or a weight that is not a positive number.
    """
    if wish == "none":
        return None
    if wish == "auto":
        present = np.count_nonzero(counts)  # an absent class has no share in the mean
        return np.asarray(counts.sum() / (present * np.maximum(counts, 1)), np.float64)
    weights = np.ones(len(classes))
    for part in wish.split(","):
        name, _, number = part.rpartition("=")
        if name.strip() not in classes:
            hint = suggestion(name.strip(), classes) or "Write none, auto, or name=weight,name=weight."
            raise BadOption(
                f"--class-weights names {name.strip() or part!r}, which is no class of this data.", hint=hint
            )
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not 0 < weight < math.inf:
            raise BadOption(
                f"--class-weights gives {name.strip()!r} the weight {number!r}.",
                hint="It must be a positive number.",
            )
        weights[classes.index(name.strip())] = weight
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), np.float64)


def weights_of(wish: str, data: TrainingData) -> NDArray[np.float64] | None:
    """Weights (classes,) for this training data, or None for equal weights.

    Raises:
        BadOption: as `class_weights` does.
    """
    if wish == "none":
        return None
    return class_weights(
        wish, data.classes, label_counts(data, data.task.targets(data.train, len(data.classes)))
    )


def label_counts(data: TrainingData, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Training images of each class (classes,)."""
    if targets.ndim == 2:
        return np.asarray(targets.sum(0), np.int64)
    return np.bincount(targets, minlength=len(data.classes))
