"""The metrics of a task, each with its interval."""

from __future__ import annotations

import numpy as np

from headstart.evaluation.f1 import class_f1, macro_f1
from headstart.evaluation.records import About, Answers, Floats, Labels, SplitScores
from headstart.metrics import ClassScores, Metric, debiased_error, draw, mean_interval, wilson
from headstart.metrics import classification as single
from headstart.metrics import multilabel as multi
from headstart.metrics.intervals import Draws, combined, grouped_proportion, parts, percentile
from headstart.metrics.selective import aurc, aurc_metric
from headstart.tasks import TASKS

_TOP = 5
_TOP_CLASSES = 10  # with fewer classes, top-5 says nothing


def score(answers: Answers, about: About) -> SplitScores:
    """All metrics of the task on these answers, each with its interval."""
    metrics = _score_multi(answers, about) if answers.truth.ndim == 2 else _score_single(answers, about)
    units = answers.units
    groups = 0 if units is None else len(np.unique(units))
    return SplitScores(n=len(answers.truth), metrics=metrics, groups=groups)


def probabilities(answers: Answers, about: About) -> Floats:
    """Calibrated probabilities (N, classes)."""
    return TASKS[about.task].probabilities(answers.logits / about.temperature)


def uncalibrated(answers: Answers, about: About) -> Floats:
    """Probabilities (N, classes) by the logits as they were before anything was done to make them true."""
    logits = answers.logits if about.classwise is None else about.classwise.undone(answers.logits)
    return TASKS[about.task].probabilities(logits)


def confidences(probability: Floats, truth: Labels) -> tuple[Floats, Floats]:
    """Confidence in each answer given, and whether it was right; for multi-label every decision is an answer."""
    if truth.ndim == 1:
        return probability.max(1), (probability.argmax(1) == truth).astype(np.float64)
    present = probability > 0.5
    confidence = np.where(present, probability, 1 - probability)
    return confidence.ravel(), (present == (truth > 0)).astype(np.float64).ravel()


def proportion(values: Floats, units: Labels | None) -> Metric:
    """The mean of 0 and 1 (N,) with Wilson's interval, widened where the images come in groups."""
    if units is None:
        low, high = wilson(float(values.sum()), len(values))
    else:
        low, high = grouped_proportion(values, units)
    return Metric(value=float(values.mean()), low=low, high=high, interval="wilson", n=len(values))


def mean(values: Floats, draws: Draws, *, least: float = 0.0, most: float = float("inf")) -> Metric:
    """The mean of per-image values (N,) in [least, most] with its bootstrap interval."""
    low, high = mean_interval(values, draws)
    value = float(values.mean())
    low, high = max(least, min(low, value)), min(most, max(high, value))
    return Metric(value=value, low=low, high=high, interval="bootstrap", n=len(values))


def _resampled(value: float, found: Floats, n: int) -> Metric:
    low, high = percentile(found)
    return Metric(value=value, low=min(low, value), high=max(high, value), interval="bootstrap", n=n)


def _calibration(
    confidence: Floats, right: Floats, draws: Draws, owners: Labels | None, *, images: int
) -> Metric:
    value, (low, high) = debiased_error(confidence, right, draws, owners=owners)
    return Metric(value=value, low=low, high=high, interval="bootstrap", n=images)


def _score_single(answers: Answers, about: About) -> dict[str, Metric]:
    truth, units, n = answers.truth, answers.units, len(answers.truth)
    probability, raw = probabilities(answers, about), uncalibrated(answers, about)
    draws = draw(n, seed=about.seed, groups=units)
    confidence, right = confidences(probability, truth)
    metrics = {
        "accuracy": proportion(right, units),
        "balanced_accuracy": _balanced(truth, right, len(about.classes), draws),
        "macro_f1": macro_f1(truth, probability.argmax(1), len(about.classes), draws),
    }
    if len(about.classes) >= _TOP_CLASSES:
        metrics["top5_accuracy"] = proportion(single.hits(probability, truth, top=_TOP), units)
    metrics["log_loss"] = mean(single.log_losses(probability, truth), draws)
    metrics["calibration_error"] = _calibration(confidence, right, draws, None, images=n)
    metrics["calibration_error_before"] = _calibration(*confidences(raw, truth), draws, None, images=n)
    metrics["aurc"] = _risk_area(confidence, right, draws)
    return metrics


def _balanced(truth: Labels, right: Floats, classes: int, draws: Draws) -> Metric:
    """The mean recall: of independent images by Wilson's interval of each class, else by a bootstrap over groups."""
    support = np.bincount(truth, minlength=classes)
    found = np.bincount(truth, weights=right, minlength=classes)
    there = support > 0
    share = found[there] / support[there]
    value = float(share.mean())
    if draws.units is None:
        low, high = combined(share, *parts(found[there], support[there]), np.full(len(share), 1 / len(share)))
        return Metric(
            value=value,
            low=max(0.0, min(low, value)),
            high=min(1.0, max(high, value)),
            interval="wilson",
            n=len(truth),
        )
    order, images = np.argsort(truth, kind="stable"), draws.images
    starts = np.flatnonzero(np.diff(truth[order], prepend=-1))
    size = np.add.reduceat(images[:, order], starts, axis=1)
    hits = np.add.reduceat((images * right.astype(np.float32))[:, order], starts, axis=1)
    each = np.where(size > 0, hits / np.maximum(size, 1), np.nan)
    return _resampled(value, np.nanmean(each, axis=1), len(truth))


def _risk_area(confidence: Floats, right: Floats, draws: Draws) -> Metric:
    """Area under the risk-coverage curve, with its interval."""
    if draws.units is None:
        return aurc_metric(confidence, right)
    order, images = np.argsort(-confidence, kind="stable"), draws.images
    drawn = np.cumsum(images[:, order], axis=1, dtype=np.float64)
    wrong = np.cumsum(images[:, order] * (1 - right[order]), axis=1, dtype=np.float64)
    risk = wrong / np.maximum(drawn, 1)
    return _resampled(
        aurc(confidence, right), (risk * images[:, order]).sum(1) / drawn[:, -1], len(confidence)
    )


def _score_multi(answers: Answers, about: About) -> dict[str, Metric]:
    truth, units, n = answers.truth, answers.units, len(answers.truth)
    probability, raw = probabilities(answers, about), uncalibrated(answers, about)
    given = (probability > 0.5).astype(np.int64)
    draws = draw(n, seed=about.seed, groups=units)
    owners = np.repeat(np.arange(n), truth.shape[1])
    images = draws.images
    right, size = (given & truth).astype(np.float32), (given + truth).astype(np.float32)
    hits, all_of = images @ right, images @ size
    with np.errstate(invalid="ignore"):
        each = np.where(all_of > 0, 2 * hits / np.maximum(all_of, 1), np.nan)
        micro = 2 * hits.sum(1) / np.maximum(all_of.sum(1), 1)
    ranked = multi.average_precisions(probability, truth, images)
    exact = (given == truth).all(1).astype(np.float64)
    return {
        "map": _resampled(multi.mean_average_precision(probability, truth), multi.mean_of_known(ranked), n),
        "f1_micro": _resampled(multi.micro_f1(given, truth), micro, n),
        "f1_macro": _resampled(multi.macro_f1(given, truth), multi.mean_of_known(each), n),
        "subset_accuracy": proportion(exact, units),
        "log_loss": mean(multi.log_losses(probability, truth), draws),
        "calibration_error": _calibration(*confidences(probability, truth), draws, owners, images=n),
        "calibration_error_before": _calibration(*confidences(raw, truth), draws, owners, images=n),
    }


def confusion(probability: Floats, truth: Labels) -> tuple[tuple[int, ...], ...]:
    """Counts, rows truth, columns answers; empty for multi-label."""
    if truth.ndim == 2:
        return ()
    table = single.confusion(truth, probability.argmax(1), probability.shape[1])
    return tuple(tuple(int(count) for count in row) for row in table)


def per_class(probability: Floats, truth: Labels, classes: tuple[str, ...]) -> tuple[ClassScores, ...]:
    """Precision, recall and F1 of each class with Wilson's intervals."""
    if truth.ndim == 1:
        table = single.confusion(truth, probability.argmax(1), len(classes))
        right, given, support = np.diag(table), table.sum(0), table.sum(1)
    else:
        present = probability > 0.5
        right, given, support = (present & (truth > 0)).sum(0), present.sum(0), truth.sum(0)
    f1, low, high = class_f1(right, given, support)
    return tuple(
        ClassScores(
            name=name,
            precision=_ratio(int(right[index]), int(given[index])),
            recall=_ratio(int(right[index]), int(support[index])),
            f1=float(np.nan_to_num(f1[index])),
            support=int(support[index]),
            f1_low=float(low[index]),
            f1_high=float(high[index]),
        )
        for index, name in enumerate(classes)
    )


def _ratio(successes: int, n: int) -> Metric:
    low, high = wilson(successes, n)
    return Metric(value=successes / n if n else 0.0, low=low, high=high, interval="wilson", n=n)
