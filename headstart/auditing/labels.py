"""Labels that a cross-fitted probe does not believe: confident learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Doubts:
    """What the probe says of N given labels.

    Attributes:
        confidence: (N,) probability of the given label, by a probe that was fitted without the image.
        suggested: (N,) the most probable class.
        confident: (N,) whether the image counts as a confident member of another class: likely an error.
        order: (N,) places, the least believable label first.
        joint: (classes, classes) images given the row's label that confidently belong to the column's class.
    """

    confidence: Floats
    suggested: Labels
    confident: NDArray[np.bool_]
    order: Labels
    joint: Labels


def doubts(probability: Floats, given: Labels) -> Doubts:
    """How believable each given label is.

    An image belongs confidently to the class, of those whose probability is at least what that class's own images have on
    average, that is most probable. So a class that the probe is never sure of is not held against its images.

    Args:
        probability: (N, classes) by probes that were fitted without the image.
        given: (N,) labels.

    Source: Northcutt, Jiang & Chuang 2021, Confident learning (equations 1 and 2; ranking by self-confidence).
    """
    count = probability.shape[1]
    rows = np.arange(len(given))
    own = probability[rows, given]
    images = np.bincount(given, minlength=count)
    sums = np.bincount(given, weights=own, minlength=count)
    thresholds = np.where(images > 0, sums / np.maximum(images, 1), np.inf)
    thresholds *= 1 - 1e-12  # the mean of equal numbers may lie a digit above them
    above = np.where(probability >= thresholds, probability, -1.0)
    member = np.where(above.max(1) >= 0, above.argmax(1), given)
    joint = np.zeros((count, count), np.int64)
    np.add.at(joint, (given, member), (above.max(1) >= 0).astype(np.int64))
    return Doubts(
        confidence=own,
        suggested=probability.argmax(1),
        confident=member != given,
        order=np.lexsort((rows, own)),
        joint=joint,
    )


@dataclass(frozen=True)
class SetDoubts:
    """What the probes say of N given sets of labels.

    Attributes:
        doubtful: (N, classes) whether the label is likely wrong: given and not there, or there and not given.
        confidence: (N,) probability that the least believable of the doubtful labels is right; 1 where none is doubtful.
        order: (N,) places, the least believable set first.
    """

    doubtful: NDArray[np.bool_]
    confidence: Floats
    order: Labels


def set_doubts(probability: Floats, given: Labels) -> SetDoubts:
    """How believable each given set of labels is: each label is a question with two answers, judged as `doubts` does.

    Args:
        probability: (N, classes) of each label by itself, by probes that were fitted without the image.
        given: (N, classes) of 0 and 1.

    Source: Northcutt, Jiang & Chuang 2021; one class against the rest, as Thyagarajan et al. 2022, Identifying incorrect
    annotations in multi-label classification data.
    """
    doubtful = np.zeros(given.shape, np.bool_)
    for column, (chance, told) in enumerate(zip(probability.T, given.T, strict=True)):
        doubtful[:, column] = doubts(np.stack([1 - chance, chance], 1), told).confident
    own = np.where(given > 0, probability, 1 - probability)
    confidence = np.where(doubtful, own, 1.0).min(1, initial=1.0)
    return SetDoubts(doubtful, confidence, np.lexsort((np.arange(len(given)), confidence)))


def softmax(logits: Floats) -> Floats:
    """Probabilities (N, classes) of logits."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    out: Floats = shifted / shifted.sum(1, keepdims=True)
    return out
