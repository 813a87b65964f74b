"""Does a mirror keep the meaning? Measured: a probe that learnt from images as they are is asked about mirrored ones."""

from __future__ import annotations

import numpy as np

from headstart._core.clock import Clock
from headstart.evidence.depths import Found, Judged, joined
from headstart.evidence.probing import Features, Floats, Labels, Probing, mean_and_error, one_thread
from headstart.evidence.records import Flips
from headstart.features import FeatureStore, View
from headstart.metrics import told_around, told_points
from headstart.scores import fold_numbers

MIRROR = View(number=1, flip=True)
"""The view that is the mirrored image."""

SURE = 2.0
"""Standard errors by which a mirror must harm before it is forbidden: one useful mirror in forty is lost by chance.

With 200 training images and Lite0 digits lose 8.5 +- 2.1 points, ants and bees 1.0 +- 1.0, satellite scenes 2.0 +- 1.6,
CIFAR-10 -3.0 +- 2.2: late depths hardly see a mirror (they learnt with one), so a loss that is seen at all is real."""

_FIRST, _OF_EACH = 64, 8
"""Images, and images of each class, after which a mirror that did no harm at all is believed to do none."""

_STRENGTHS = tuple(float(10.0**power) for power in range(-3, 3))  # times the images: columns have variance 1
_PRESENT = 0.5  # regressed on 0 and 1, so a label is present above the middle
_TINY = 1e-6  # of a column's size: what rounding leaves of a constant


def measure_flips(
    few: Probing, found: Found, *, judged: Judged, store: FeatureStore, clock: Clock | None = None
) -> Flips:
    """What a mirror does to the answers of the probe at the depth that knows most, on images it did not learn from.

    Args:
        few: the images, the first of those that were probed; where the first `_FIRST` are answered no worse in a mirror,
            the others are not asked.
        found: features of all probed images.
        judged: the probe whose depth is looked at.
        store: of the same network, for the mirrored images: one pass over `few`.
        clock: says when to end.

    Raises:
        Stopped: when somebody asked for an end.
    """
    depths = [name for name in found if name != "output"]
    first = few.first(max(_FIRST, _OF_EACH * _classes(few)))
    for part in (first, few) if len(first) < len(few) else (few,):
        mirrored = store.get_depths(part.samples, depths, clock=clock, view=MIRROR)
        plain = {name: rows[: len(part)] for name, rows in found.items()}
        with one_thread():
            own, other = (joined(rows, judged.outputs, judged.pooling) for rows in (plain, mirrored))
            right, turned = judge_both(own, other, part)
        accuracy, _ = mean_and_error(right)
        loss, error = mean_and_error(right - turned)
        error = max(
            error, 1 / len(right)
        )  # that no answer changed on these images is no proof that none ever does
        if loss <= 0:
            break
    keeps = loss <= SURE * error
    return Flips(
        images=len(part),
        accuracy=accuracy,
        loss=loss,
        error=error,
        keeps=keeps,
        told=_told(right, turned, error, keeps=keeps),
    )


def _classes(probing: Probing) -> int:
    """Classes, or labels where an image may have several."""
    targets = probing.targets
    return targets.shape[1] if targets.ndim == 2 else len(np.unique(targets))


def _told(right: Floats, turned: Floats, error: float, *, keeps: bool) -> str:
    """The finding in a clause, from the correctness (N,) of images and of their mirror images."""
    finding = "mirrored images mean the same" if keeps else "a mirror changes what the images mean"
    plain, mirrored = (told_around(*mean_and_error(each), len(each)) for each in (right, turned))
    return (
        f"{finding}: a simple classifier is right on {plain} of images it had not seen and on {mirrored} of the same in a "
        f"mirror, a loss of {told_points(float((right - turned).mean()), error)}"
    )


def judge_both(features: Features, mirrored: Features, probing: Probing) -> tuple[Floats, Floats]:
    """Correctness (N,) in [0, 1] of each image and of its mirror image, by a ridge probe that learnt from other images.

    The penalty is the one with the best mean of both, so that the choice favours neither.

    Args:
        features: (N, width) of the images.
        mirrored: (N, width) of their mirror images.
        probing: whose targets and groups are used.
    """
    folds = fold_numbers(probing.targets, groups=probing.groups)
    hot = probing.targets if probing.targets.ndim == 2 else np.eye(probing.targets.max() + 1)[probing.targets]
    right = np.zeros((2, len(hot), len(_STRENGTHS)))
    for fold in np.unique(folds):
        held = folds == fold
        centre, spread = features[~held].mean(0, dtype=np.float64), features[~held].std(0, dtype=np.float64)
        spread = np.where(spread > _TINY * np.abs(centre), spread, np.inf)  # a constant says nothing
        inner, level = (features[~held] - centre) / spread, hot[~held].mean(0)
        values, vectors = np.linalg.eigh(inner @ inner.T)
        aims = vectors.T @ (hot[~held] - level)
        for side, rows in enumerate((features, mirrored)):
            cross = ((rows[held] - centre) / spread) @ inner.T @ vectors
            for column, strength in enumerate(_STRENGTHS):
                answers = cross @ (aims / (values + strength * len(inner))[:, None]) + level
                right[side, held, column] = _right(answers, probing.targets[held])
    best = int(right.mean((0, 1)).argmax())
    return right[0, :, best], right[1, :, best]


def _right(answers: Floats, truth: Labels) -> Floats:
    """Of each image: 0 or 1 for one class an image, else F1 of the label sets (1 where both are empty)."""
    if truth.ndim == 1:
        same: Floats = (answers.argmax(1) == truth).astype(np.float64)
        return same
    given, present = answers > _PRESENT, truth > 0
    size = given.sum(1) + present.sum(1)
    return np.where(size > 0, 2 * (given & present).sum(1) / np.maximum(size, 1), 1.0)
