"""Metrics of boxes: COCO's, from its own matching of answers to objects, and intervals over images.

Found boxes of an image are (K, 6): left, top, right, bottom, score, class; rows with a score below 0 are padding. True ones
are (M, 6): left, top, right, bottom, class, and 1 for a crowd.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Of a found and a true box, as COCO averages over them."""

SIZES = ("all", "small", "medium", "large")
"""COCO's sizes of objects: below 32^2 pixels, below 96^2, above."""

_RECALLS = np.linspace(0.0, 1.0, 101)
_CELLS = 5_000_000  # numbers in a table of resamples and answers


@dataclass(frozen=True)
class Part:
    """What became of the answers of one class at one size of object, over all images, the surest first.

    Attributes:
        scores: (D,), falling.
        images: (D,) of which image.
        right: (T, D) whether the box is a true object's at each of `OVERLAPS`.
        counted: (T, D) whether it counts; boxes on crowds, and on objects of another size, do not.
        objects: (N,) true objects of each image.
    """

    scores: Floats
    images: Ints
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    objects: Ints


@dataclass(frozen=True)
class Matches:
    """COCO's matching of answers to objects: `parts[size][class]` for each of `SIZES`, or for `all` alone."""

    images: int
    classes: int
    parts: tuple[tuple[Part, ...], ...]


def match(found: Sequence[Floats], truth: Sequence[Floats], *, classes: int, by_size: bool = True) -> Matches:
    """The matching of found to true boxes (one array an image) by COCO's rules: at most 100 boxes an image.

    Args:
        found: (K, 6) of each image.
        truth: (M, 6) of each image.
        classes: how many.
        by_size: whether the matching is done for each of `SIZES`, in four times the time of that for all objects.

    Source: Lin et al. 2014, Microsoft COCO; the matching is pycocotools' own.
    """
    evaluator = evaluated(found, truth, classes=classes, by_size=by_size)
    count, sizes = len(truth), len(SIZES) if by_size else 1
    parts = []
    for size in range(sizes):
        row = []
        for label in range(classes):
            first = (label * sizes + size) * count
            row.append(_part(evaluator.evalImgs[first : first + count]))
        parts.append(tuple(row))
    return Matches(images=count, classes=classes, parts=tuple(parts))


def evaluated(found: Sequence[Floats], truth: Sequence[Floats], *, classes: int, by_size: bool = True) -> Any:
    """The evaluator of pycocotools after its matching."""
    from pycocotools.coco import COCO  # half a second that other tasks need not pay
    from pycocotools.cocoeval import COCOeval

    rows = [(image, row) for image, boxes in enumerate(truth) for row in boxes]
    known, answers = COCO(), COCO()
    frame = {
        "images": [{"id": image + 1} for image in range(len(truth))],
        "categories": [{"id": label + 1} for label in range(classes)],
    }
    known.dataset = frame | {
        "annotations": [
            _annotation(number, image, row[:4], int(row[4])) | {"iscrowd": int(row[5])}
            for number, (image, row) in enumerate(rows)
        ]
    }
    given = [(image, row) for image, boxes in enumerate(found) for row in boxes if row[4] >= 0]
    answers.dataset = frame | {
        "annotations": [
            _annotation(number, image, row[:4], int(row[5])) | {"iscrowd": 0, "score": float(row[4])}
            for number, (image, row) in enumerate(given)
        ]
    }
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own arrays
        known.createIndex()
        answers.createIndex()
        evaluator = COCOeval(known, answers, "bbox")
        if not by_size:
            evaluator.params.areaRng = evaluator.params.areaRng[:1]
            evaluator.params.areaRngLbl = evaluator.params.areaRngLbl[:1]
        evaluator.evaluate()
    return evaluator


def _annotation(number: int, image: int, box: Floats, label: int) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in box)
    width, height = right - left, bottom - top
    return {
        "id": number + 1,
        "image_id": image + 1,
        "category_id": label + 1,
        "bbox": [left, top, width, height],
        "area": width * height,
    }


def _part(results: Sequence[dict[str, Any] | None]) -> Part:
    objects = np.array([0 if r is None else int((np.asarray(r["gtIgnore"]) == 0).sum()) for r in results])
    there = [(image, result) for image, result in enumerate(results) if result is not None]
    scores = np.concatenate([np.asarray(r["dtScores"], np.float64) for _, r in there] or [np.zeros(0)])
    images = np.concatenate([np.full(len(r["dtScores"]), i) for i, r in there] or [np.zeros(0)]).astype(
        np.int64
    )
    empty = np.zeros((len(OVERLAPS), 0), np.bool_)
    right = np.concatenate([np.asarray(r["dtMatches"]) > 0 for _, r in there] or [empty], axis=1)
    ignored = np.concatenate([np.asarray(r["dtIgnore"]) > 0 for _, r in there] or [empty], axis=1)
    order = np.argsort(-scores, kind="mergesort")  # as pycocotools does, so that ties fall alike
    return Part(
        scores=scores[order],
        images=images[order],
        right=right[:, order],
        counted=~ignored[:, order],
        objects=objects.astype(np.int64),
    )


def average_precisions(part: Part, weights: Floats | None = None) -> Floats:
    """(T,) average precision at each of `OVERLAPS`, interpolated at 101 recalls as COCO does; NaN without an object.

    Args:
        part: a class at a size.
        weights: (N,) how often each image counts; None: once.
    """
    times = np.ones(len(part.objects)) if weights is None else weights
    positives = float((part.objects * times).sum())
    if positives == 0:
        return np.full(len(OVERLAPS), np.nan)
    if not len(part.scores):
        return np.zeros(len(OVERLAPS))
    own = times[part.images]
    hits = np.cumsum((part.right & part.counted) * own, axis=1)
    wrong = np.cumsum((~part.right & part.counted) * own, axis=1)
    recall = hits / positives
    precision = hits / (hits + wrong + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    out = np.zeros(len(OVERLAPS))
    for row in range(len(OVERLAPS)):
        places = np.searchsorted(recall[row], _RECALLS, side="left")
        inside = places < recall.shape[1]
        out[row] = best[row, places[inside]].sum() / len(_RECALLS)
    return out


def class_precisions(matches: Matches, *, size: str = "all", weights: Floats | None = None) -> Floats:
    """(classes, T) average precision of each class; NaN for a class without objects."""
    parts = matches.parts[SIZES.index(size)]
    return np.stack([average_precisions(part, weights) for part in parts])


def resampled_precisions(matches: Matches, draws: NDArray[np.floating], *, size: str = "all") -> Floats:
    """(repeats, classes, T): `class_precisions` of resampled images, all resamples at once.

    Precision is highest right at an answer that is right, so it is computed there alone: of a few hundred places instead of
    some thousands.

    Args:
        matches: of all images.
        draws: (repeats, N) how often each image was drawn.
        size: of `SIZES`.
    """
    times = np.asarray(draws, np.float64)
    out = np.empty((len(times), matches.classes, len(OVERLAPS)))
    for label, part in enumerate(matches.parts[SIZES.index(size)]):
        step = max(1, _CELLS // max(1, len(part.scores)))
        for first in range(0, len(times), step):
            out[first : first + step, label] = _resampled(part, times[first : first + step])
    return out


def _resampled(part: Part, draws: Floats) -> Floats:
    """(repeats, T) average precisions of a class; NaN in a resample without an object."""
    positives = draws @ part.objects
    out = np.zeros((len(draws), len(OVERLAPS)))
    own, known, given = draws[:, part.images], None, np.zeros((len(draws), 0))
    for row, (right, counted) in enumerate(zip(part.right, part.counted, strict=True)):
        hits = np.flatnonzero(right & counted)
        if not len(hits):
            continue
        if known is None or (counted != known).any():  # it hardly ever depends on the overlap
            known, given = counted, np.cumsum(own * counted, axis=1)
        found = np.cumsum(own[:, hits], axis=1)
        best = np.maximum.accumulate((found / (given[:, hits] + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
        recall = found / np.maximum(positives, 1)[:, None]
        reached = np.searchsorted(_RECALLS, recall.ravel(), side="right").reshape(recall.shape)
        out[:, row] = (best * np.diff(reached, axis=1, prepend=0)).sum(1) / len(_RECALLS)
    out[positives == 0] = np.nan
    return out


def mean_precision(each: NDArray[np.floating]) -> float:
    """The mean of average precisions, those that there are; NaN where there is none."""
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def mean_precisions(each: NDArray[np.floating]) -> Floats:
    """(repeats,): `mean_precision` of each resample's average precisions (repeats, …)."""
    known = np.isfinite(each)
    axes = tuple(range(1, each.ndim))
    count = known.sum(axis=axes)
    total = np.where(known, each, 0.0).sum(axis=axes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def image_scores(matches: Matches) -> Floats:
    """(N,) average precision of each image alone, classes together, over `OVERLAPS`; without objects 1 - the surest score.

    A mean over images of this is no mAP: it orders models image by image, which a paired comparison needs.
    """
    parts = matches.parts[0]
    scores = np.concatenate([part.scores for part in parts])
    images = np.concatenate([part.images for part in parts])
    right = np.concatenate([part.right for part in parts], axis=1)
    counted = np.concatenate([part.counted for part in parts], axis=1)
    objects = np.sum([part.objects for part in parts], axis=0)
    order = np.argsort(-scores, kind="mergesort")
    out = np.ones(matches.images)
    for image in range(matches.images):
        own = order[images[order] == image]
        if objects[image]:
            part = Part(
                scores=scores[own],
                images=np.zeros(len(own), np.int64),
                right=right[:, own],
                counted=counted[:, own],
                objects=objects[[image]],
            )
            out[image] = average_precisions(part).mean()
        elif len(own):
            out[image] = 1.0 - scores[own].max()
    return out


def curve(part: Part, *, overlap: float = 0.5) -> tuple[Floats, Floats, Floats]:
    """(scores, recall, precision) of a class as the least score falls; recall and precision are 0 without an object."""
    row = int(np.argmin(np.abs(OVERLAPS - overlap)))
    keep = part.counted[row]
    hits = np.cumsum(part.right[row, keep])
    given = np.arange(1, int(keep.sum()) + 1)
    return part.scores[keep], hits / max(1, part.objects.sum()), hits / given


def pooled(matches: Matches) -> Part:
    """All classes as one, the surest answers first."""
    parts = matches.parts[0]
    scores = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores, kind="mergesort")
    return Part(
        scores=scores[order],
        images=np.concatenate([part.images for part in parts])[order],
        right=np.concatenate([part.right for part in parts], axis=1)[:, order],
        counted=np.concatenate([part.counted for part in parts], axis=1)[:, order],
        objects=np.asarray(np.sum([part.objects for part in parts], axis=0)),
    )


def best_threshold(matches: Matches, *, precision: float | None = None) -> float:
    """The least score at which answers are shown: that of the best F1 at an overlap of 0.5, or the lowest one at which the
    answers above it reach that precision (the highest score where none does); 0.5 where nothing was found.
    """
    scores, recall, exact = curve(pooled(matches))
    if not len(scores):
        return 0.5
    if precision is not None:
        good = np.flatnonzero(exact >= precision)
        return float(scores[good[-1]]) if len(good) else float(scores[0])
    f1 = 2 * exact * recall / np.maximum(exact + recall, 1e-12)
    return float(scores[int(np.argmax(f1))])


Calibration = tuple[float, float]
"""Slope > 0 and offset: a score s becomes the probability sigmoid(slope * logit(s) + offset) that the answer is right."""

PLAIN: Calibration = (1.0, 0.0)
"""The calibration that changes nothing."""

_LEAST_KIND = 5  # right answers, and wrong ones, from which a calibration is fitted


def fit_calibration(matches: Matches) -> Calibration:
    """The slope and offset with which scores say best how often answers are right at an overlap of 0.5.

    `PLAIN` where fewer than five answers are right or wrong, and where surer answers are not right more often.

    Args:
        matches: of images that the network was not trained on.

    Source: Platt 1999, probabilistic outputs for support vector machines, with its smoothed targets; of boxes: Kueppers
    et al. 2020, multivariate confidence calibration for object detection.
    """
    from scipy.optimize import minimize  # 0.2 s that only fitting needs to pay

    scores, right, _ = answered(matches)
    good, bad = float(right.sum()), float((1 - right).sum())
    if min(good, bad) < _LEAST_KIND:
        return PLAIN
    logits = _logits(scores)
    targets = np.where(right > 0, (good + 1) / (good + 2), 1 / (bad + 2))

    def loss(point: Floats) -> tuple[float, Floats]:
        said = point[0] * logits + point[1]
        gap = 1 / (1 + np.exp(-said)) - targets
        value = (np.logaddexp(0, said) - targets * said).mean()
        return float(value), np.array([(gap * logits).mean(), gap.mean()])

    slope, offset = minimize(loss, np.array(PLAIN), jac=True, method="BFGS").x
    return (float(slope), float(offset)) if slope > 0 else PLAIN


def calibrated(scores: Floats, calibration: Calibration) -> Floats:
    """Probabilities of scores of any shape; what is negative, which pads, stays as it is."""
    if calibration == PLAIN:
        return scores
    slope, offset = calibration
    said = 1 / (1 + np.exp(-(slope * _logits(np.clip(scores, 0, 1)) + offset)))
    return np.asarray(np.where(scores < 0, scores, said))


def _logits(scores: Floats) -> Floats:
    inside = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(inside / (1 - inside)))


def answered(matches: Matches, *, overlap: float = 0.5) -> tuple[Floats, Floats, Ints]:
    """Score, 1 for right or 0, and image of each answer (K,) that counts at that overlap, the surest first."""
    part = pooled(matches)
    row = int(np.argmin(np.abs(OVERLAPS - overlap)))
    keep = part.counted[row]
    return part.scores[keep], part.right[row, keep].astype(np.float64), part.images[keep]


def overlaps(first: Floats, second: Floats) -> Floats:
    """(K, M) intersection over union of boxes (K, 4) and (M, 4)."""
    left = np.maximum(first[:, None, :2], second[None, :, :2])
    right = np.minimum(first[:, None, 2:4], second[None, :, 2:4])
    both = np.clip(right - left, 0, None).prod(2)
    sizes = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first, second)]
    return np.asarray(both / np.maximum(sizes[0][:, None] + sizes[1][None] - both, 1e-12))


ERRORS = ("right", "confused", "misplaced", "double", "background", "missed")
"""What can become of an answer (or an object): the right class in the right place; another class there; the right class at
an overlap of 0.1 to 0.5; a second time; nothing there; an object without an answer."""

_TOUCHING = 0.1


def error_kinds(
    found: Sequence[Floats], truth: Sequence[Floats], *, classes: int, threshold: float
) -> tuple[dict[str, int], Ints]:
    """How often each of `ERRORS` happened among answers of that score or more, and the confusion (classes + 1, classes + 1).

    Rows of the confusion are true classes, columns answers; the last of each is the background.

    Source: the kinds are those of Bolya et al. 2020, TIDE, in its order.
    """
    counts = dict.fromkeys(ERRORS, 0)
    table = np.zeros((classes + 1, classes + 1), np.int64)
    for boxes, objects in zip(found, truth, strict=True):
        given = boxes[boxes[:, 4] >= max(threshold, 0)]
        given = given[np.argsort(-given[:, 4], kind="stable")]
        crowd = objects[:, 5] > 0
        place = overlaps(given, objects)
        taken = np.zeros(len(objects), np.bool_)
        for row, box in zip(place, given, strict=True):
            same = objects[:, 4] == box[5]
            free = row * (same & ~taken & ~crowd)
            if len(row) and free.max() >= 0.5:
                taken[free.argmax()] = True
                counts["right"] += 1
                table[int(box[5]), int(box[5])] += 1
                continue
            if (row * crowd >= 0.5).any():
                continue
            kind, true = _kind(row, same, objects, classes)
            counts[kind] += 1
            table[true, int(box[5])] += 1
        for label in objects[~taken & ~crowd, 4]:
            counts["missed"] += 1
            table[int(label), classes] += 1
    return counts, table


def _kind(row: Floats, same: NDArray[np.bool_], objects: Floats, classes: int) -> tuple[str, int]:
    """The kind of a wrong answer, and the class that is truly there."""
    if len(row) and (row * same).max() >= 0.5:
        return "double", classes
    if len(row) and (row * ~same).max() >= 0.5:
        return "confused", int(objects[(row * ~same).argmax(), 4])
    if len(row) and (row * same).max() >= _TOUCHING:
        return "misplaced", classes
    return "background", classes
