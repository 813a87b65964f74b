"""F1 with intervals that hold on few images too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.records import Floats, Labels
from headstart.metrics import Metric
from headstart.metrics.intervals import Draws, combined, parts, percentile
from headstart.metrics.multilabel import f1_from_counts, mean_of_known


def class_f1(right: Labels, given: Labels, support: Labels) -> tuple[Floats, Floats, Floats]:
    """F1 of each class (K,) with the ends of its interval; NaN for a class that neither occurs nor was answered.

    F1 is 2 J / (1 + J) of the share J of right answers among all images that have the class or were given it; J is a
    proportion and has Wilson's interval.
    """
    low, high = parts(right, given + support - right)
    return f1_from_counts(right, given, support), 2 * low / (1 + low), 2 * high / (1 + high)


def macro_f1(truth: Labels, chosen: Labels, classes: int, draws: Draws) -> Metric:
    """The mean F1 over the classes that occur or were answered, with its interval.

    Of independent images: from the interval of each class, and how much their sum varies, since a wrong answer lowers two
    of them. Of groups: by a bootstrap over groups.
    """
    hit = truth == chosen
    right = np.bincount(truth[hit], minlength=classes)
    given, support = np.bincount(chosen, minlength=classes), np.bincount(truth, minlength=classes)
    f1, low, high = class_f1(right, given, support)
    there = np.isfinite(f1)
    value, n = float(f1[there].mean()), len(truth)
    if draws.units is not None:
        ends = percentile(_grouped(truth, chosen, classes, draws.images))
        kind = "bootstrap"
    else:
        weights = np.full(int(there.sum()), 1 / there.sum())
        varies = _variation(truth, chosen, np.nan_to_num(f1), (right, given, support))
        ends = combined(f1[there], low[there], high[there], weights, inflation=varies)
        kind = "wilson"
    return Metric(
        value=value,
        low=max(0.0, min(ends[0], value)),
        high=min(1.0, max(ends[1], value)),
        interval=kind,
        n=n,
    )


def _variation(truth: Labels, chosen: Labels, f1: Floats, counts: tuple[Labels, Labels, Labels]) -> float:
    """How much more (or less) the sum of the classes' F1 varies than one of independent proportions would.

    Above: the variance of each image's influence on the sum, within the classes, whose sizes are fixed. Below: that of
    independent proportions J, carried over to F1 (its derivative is 2 / (1 + J)^2). 1 where nothing is wrong.
    """
    right, given, support = counts
    size = np.maximum(given + support, 1)
    hit = truth == chosen
    own = np.where(hit, 2 - 2 * f1[truth], -f1[truth]) / size[truth]
    both = own + np.where(hit, 0.0, -f1[chosen] / size[chosen])
    mean = np.bincount(truth, weights=both, minlength=len(f1)) / np.maximum(support, 1)
    joint = float(((both - mean[truth]) ** 2).sum())
    union = np.maximum(given + support - right, 1)
    share = right / union
    apart = float((4 / (1 + share) ** 4 * share * (1 - share) / union).sum())
    return joint / apart if apart > 0 else 1.0


def _grouped(truth: Labels, chosen: Labels, classes: int, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Macro F1 in each resample."""
    hit = (truth == chosen).astype(np.float32)
    right = _by_class(images * hit, truth, classes)
    size = _by_class(images, truth, classes) + _by_class(images, chosen, classes)
    return mean_of_known(np.where(size > 0, 2 * right / np.maximum(size, 1), np.nan))


def _by_class(weights: NDArray[np.float32], labels: Labels, classes: int) -> NDArray[np.float32]:
    """(repeats, classes): the weights (repeats, N) summed over the images of each class."""
    order = np.argsort(labels, kind="stable")
    ranked = labels[order]
    starts = np.flatnonzero(np.diff(ranked, prepend=-1))
    out = np.zeros((len(weights), classes), np.float32)
    out[:, ranked[starts]] = np.add.reduceat(weights[:, order], starts, axis=1)
    return out
