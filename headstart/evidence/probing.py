"""The images that all probes share, and probes that can be compared image by image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from headstart._core.errors import BadInput
from headstart._core.seed import generator
from headstart.data.records import Sample
from headstart.heads.probe import group_numbers
from headstart.scores import fold_numbers, ridge_path
from headstart.tasks import Task

LEAST = 10
"""Images below which no probe says anything."""

_STRENGTHS = tuple(float(10.0**power) for power in range(-3, 3))
"""Penalties that are tried, in units of N times the features' mean variance: a decade apart is fine enough to compare."""

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Probing:
    """Images (N) with targets and folds, in an order in which any first part has the classes' shares.

    Attributes:
        samples: the images.
        targets: (N,) class indices, or (N, classes) of 0 and 1.
        groups: (N,) integers, images of one group are judged together; None where there are no groups.
    """

    samples: tuple[Sample, ...]
    targets: Labels
    groups: Labels | None

    def __len__(self) -> int:
        """How many images."""
        return len(self.samples)

    def first(self, count: int) -> Probing:
        """The first of them."""
        groups = None if self.groups is None else self.groups[:count]
        return Probing(self.samples[:count], self.targets[:count], groups)

    @property
    def fault(self) -> str:
        """Why these images cannot be probed, or an empty string."""
        if len(self) < LEAST:
            return f"{len(self)} training images are too few to learn from some and test on others"
        if self.targets.min() == self.targets.max():
            return "all training images have the same labels"
        return ""


def choose_images(samples: Sequence[Sample], task: Task, *, classes: int, limit: int, seed: int) -> Probing:
    """At most `limit` images whose classes have the shares that they have among all; two of every class in any case."""
    targets = task.targets(samples, classes)
    order = spread(targets, seed=seed)[:limit]
    groups = group_numbers([samples[place] for place in order])
    alone = len(np.unique(groups)) == len(groups)
    return Probing(
        samples=tuple(samples[place] for place in order),
        targets=targets[order],
        groups=None if alone else groups,
    )


def spread(targets: Labels, *, seed: int) -> Labels:
    """An order of all images whose every beginning is stratified; two images of each class come first.

    Args:
        targets: (N,) class indices; or (N, classes), which are shuffled.
        seed: of the order inside a class.
    """
    rng = generator(seed, "spread", len(targets))
    if targets.ndim == 2:
        return rng.permutation(len(targets))
    keys = np.empty(len(targets))
    for label in np.unique(targets):
        own = rng.permutation(np.flatnonzero(targets == label))
        keys[own] = (np.arange(len(own)) + rng.random()) / len(own)
        keys[own[:2]] -= 2.0
    return np.argsort(keys, kind="stable")


def correctness(features: Features, probing: Probing) -> Floats | None:
    """Of each image (N,), in [0, 1]: how right a cross-validated ridge probe is; None where features say nothing at all.

    Ridge, not logistic regression: it takes a hundredth of the time, and orders depths and sizes alike.
    """
    if not np.isfinite(features).all():
        return None
    folds = fold_numbers(probing.targets, groups=probing.groups)
    try:
        with one_thread():
            return ridge_path(features, probing.targets, folds=folds, strengths=_STRENGTHS).correct
    except BadInput:  # the same features for all images: a random network may be dead at a depth
        return None


def one_thread() -> AbstractContextManager[object]:
    """A context in which linear algebra keeps to one thread.

    On matrices this small several gain little, and where the processors are busy they wait for each other: 33 s for what
    one does in 0.6 were seen.
    """
    context: AbstractContextManager[object] = _threads().limit(limits=1)
    return context


@cache
def _threads() -> ThreadpoolController:
    """The thread pools of all numeric libraries of this process."""
    return ThreadpoolController()


def mean_and_error(values: Floats) -> tuple[float, float]:
    """The mean of (N,) values and its standard error; of a difference image by image, the paired one."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
