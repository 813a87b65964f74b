"""How good is it, against what, and how sure is that: answers to labelled images become numbers with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record
from headstart.metrics import (
    ClassScores,
    Comparison,
    Metric,
    ReliabilityBin,
    bootstrap,
    calibration_error,
    mcnemar,
    mean_interval,
    reliability,
    resamples,
    wilson,
)
from headstart.metrics import classification as single
from headstart.metrics import multilabel as multi
from headstart.tasks import TASKS

Labels = NDArray[np.int64]
Floats = NDArray[np.floating]

_MISTAKES = 12  # pictures in the report
_TOP = 5
_TOP_CLASSES = 10  # with fewer classes, top-5 says nothing


@dataclass(frozen=True)
class Answers:
    """What a network said about some images, and what is true.

    Attributes:
        names: of the images.
        truth: (N,) class indices, or (N, classes) of 0 and 1.
        logits: (N, classes), before the temperature.
    """

    names: tuple[str, ...]
    truth: Labels
    logits: NDArray[np.float64]


@record
class About:
    """What is evaluated.

    Attributes:
        temperature: by which logits are divided.
        seed: of the bootstrap.
        seconds: spent so far, by stage, with `total`.
    """

    task: str
    classes: tuple[str, ...]
    method: str
    weights: str
    temperature: float
    seed: int
    seconds: dict[str, float]


@record
class SplitScores:
    """All metrics on one split."""

    n: int
    metrics: dict[str, Metric]


@record
class Mistake:
    """A wrong answer.

    Attributes:
        probability: of the wrong answer (multi-label: of the most confidently wrong decision).
        explained: the class of that answer or decision: the one that `overlay` explains.
        thumbnail: picture of what the network saw, relative to the run folder; empty where there is none.
        overlay: the same with what it looked at.
    """

    name: str
    truth: str
    predicted: str
    probability: float
    explained: str = ""
    thumbnail: str = ""
    overlay: str = ""


@record
class Evaluation:
    """`evaluation.json`.

    Attributes:
        per_class: on the test split; for multi-label of the decisions at a probability of 0.5.
        confusion: counts on the test split, rows truth, columns answers; empty for multi-label.
        comparisons: of the method with each baseline, on the test split.
        baselines: the baselines' own scores on the test split.
        test_opened: how often the test split was looked at: 1.
        seconds: by stage, with `total`.
    """

    task: str
    method: str
    weights: str
    splits: dict[str, SplitScores]
    per_class: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    temperature: float
    reliability_before: tuple[ReliabilityBin, ...]
    reliability_after: tuple[ReliabilityBin, ...]
    comparisons: tuple[Comparison, ...]
    mistakes: tuple[Mistake, ...]
    baselines: dict[str, SplitScores]
    classes: tuple[str, ...]
    seconds: dict[str, float]
    test_opened: int = 1


def evaluate(
    test: Answers, *, val: Answers | None, baselines: Mapping[str, Answers], about: About
) -> Evaluation:
    """Everything that is reported about a model.

    Args:
        test: answers to images that no choice was made on.
        val: answers to the images that choices were made on, for comparison; None where there are none.
        baselines: answers of simpler models to the test images.
        about: what is evaluated.
    """
    splits = {"test": score(test, about)}
    if val is not None:
        splits["val"] = score(val, about)
    probability = _probability(test, about)
    confidence, right = _confidence(probability, test.truth)
    raw_confidence, raw_right = _confidence(TASKS[about.task].probabilities(test.logits), test.truth)
    return Evaluation(
        task=about.task,
        method=about.method,
        weights=about.weights,
        splits=splits,
        per_class=_per_class(probability, test.truth, about.classes),
        confusion=_confusion(probability, test.truth),
        temperature=about.temperature,
        reliability_before=reliability(raw_confidence, raw_right),
        reliability_after=reliability(confidence, right),
        comparisons=tuple(
            compare(test, other, names=(about.method, name), about=about) for name, other in baselines.items()
        ),
        mistakes=_mistakes(probability, test, about),
        baselines={name: score(other, replace(about, temperature=1.0)) for name, other in baselines.items()},
        classes=about.classes,
        seconds=about.seconds,
    )


def score(answers: Answers, about: About) -> SplitScores:
    """All metrics of the task on these answers, each with its interval."""
    metrics = _score_multi(answers, about) if answers.truth.ndim == 2 else _score_single(answers, about)
    return SplitScores(n=len(answers.truth), metrics=metrics)


def majority(truth: Labels, n: int, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Logits (n, classes) of the model that knows only how frequent each class was in training.

    Args:
        truth: training targets, (N,) or (N, classes).
        n: how many images it answers.
        classes: names in output order.
    """
    if truth.ndim == 1:
        share = (np.bincount(truth, minlength=len(classes)) + 0.5) / (len(truth) + 0.5 * len(classes))
        return np.tile(np.log(share), (n, 1))
    share = (truth.sum(0) + 0.5) / (len(truth) + 1)
    return np.tile(np.log(share / (1 - share)), (n, 1))


def compare(a: Answers, b: Answers, *, names: tuple[str, str], about: About) -> Comparison:
    """Whether `a` answers better than `b`, image by image: paired bootstrap, and McNemar's exact test for accuracy."""
    task = TASKS[about.task]
    first, second = task.correctness(a.logits, a.truth), task.correctness(b.logits, b.truth)
    difference = first - second
    low, high = mean_interval(difference, resamples(len(difference), seed=about.seed))
    p = None
    if a.truth.ndim == 1:
        p = mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    return Comparison(
        a=names[0],
        b=names[1],
        metric="accuracy" if a.truth.ndim == 1 else "F1 of each image",
        difference=float(difference.mean()),
        low=low,
        high=high,
        p=p,
        n=len(difference),
        verdict=verdict,
    )


def _probability(answers: Answers, about: About) -> Floats:
    return TASKS[about.task].probabilities(answers.logits / about.temperature)


def _confidence(probability: Floats, truth: Labels) -> tuple[Floats, Floats]:
    """Confidence in each answer given, and whether it was right; for multi-label every decision is an answer."""
    if truth.ndim == 1:
        return probability.max(1), (probability.argmax(1) == truth).astype(np.float64)
    present = probability > 0.5
    confidence = np.where(present, probability, 1 - probability)
    return confidence.ravel(), (present == (truth > 0)).astype(np.float64).ravel()


def _proportion(values: Floats) -> Metric:
    low, high = wilson(float(values.sum()), len(values))
    return Metric(value=float(values.mean()), low=low, high=high, interval="wilson", n=len(values))


def _resampled(statistic: Callable[[Labels], float], draws: Labels) -> Metric:
    n = draws.shape[1]
    value = statistic(np.arange(n))
    low, high = bootstrap(statistic, draws)
    return Metric(value=value, low=min(low, value), high=max(high, value), interval="bootstrap", n=n)


def _mean(values: Floats, draws: Labels) -> Metric:
    low, high = mean_interval(values, draws)
    return Metric(value=float(values.mean()), low=low, high=high, interval="bootstrap", n=len(values))


def _score_single(answers: Answers, about: About) -> dict[str, Metric]:
    truth, classes = answers.truth, len(about.classes)
    probability, raw = _probability(answers, about), TASKS[about.task].probabilities(answers.logits)
    chosen = probability.argmax(1)
    draws = resamples(len(truth), seed=about.seed)
    by_class = resamples(len(truth), seed=about.seed, strata=truth)

    def table(rows: Labels) -> Labels:
        return single.confusion(truth[rows], chosen[rows], classes)

    confidence, right = _confidence(probability, truth)
    before = raw.max(1)
    metrics = {
        "accuracy": _proportion(right),
        "balanced_accuracy": _resampled(lambda rows: single.balanced_accuracy(table(rows)), by_class),
        "macro_f1": _resampled(lambda rows: single.macro_f1(table(rows)), by_class),
    }
    if classes >= _TOP_CLASSES:
        metrics["top5_accuracy"] = _proportion(single.hits(probability, truth, top=_TOP))
    metrics["log_loss"] = _mean(single.log_losses(probability, truth), draws)
    metrics["calibration_error"] = _resampled(
        lambda rows: calibration_error(confidence[rows], right[rows]), draws
    )
    metrics["calibration_error_before"] = _resampled(
        lambda rows: calibration_error(before[rows], right[rows]), draws
    )
    return metrics


def _score_multi(answers: Answers, about: About) -> dict[str, Metric]:
    truth = answers.truth
    probability, raw = _probability(answers, about), TASKS[about.task].probabilities(answers.logits)
    given = (probability > 0.5).astype(np.int64)
    draws = resamples(len(truth), seed=about.seed)

    def error(rows: Labels, source: Floats) -> float:
        return calibration_error(*_confidence(source[rows], truth[rows]))

    return {
        "map": _resampled(lambda rows: multi.mean_average_precision(probability[rows], truth[rows]), draws),
        "f1_micro": _resampled(lambda rows: multi.micro_f1(given[rows], truth[rows]), draws),
        "f1_macro": _resampled(lambda rows: multi.macro_f1(given[rows], truth[rows]), draws),
        "subset_accuracy": _proportion((given == truth).all(1).astype(np.float64)),
        "log_loss": _mean(multi.log_losses(probability, truth), draws),
        "calibration_error": _resampled(lambda rows: error(rows, probability), draws),
        "calibration_error_before": _resampled(lambda rows: error(rows, raw), draws),
    }


def _confusion(probability: Floats, truth: Labels) -> tuple[tuple[int, ...], ...]:
    if truth.ndim == 2:
        return ()
    table = single.confusion(truth, probability.argmax(1), probability.shape[1])
    return tuple(tuple(int(count) for count in row) for row in table)


def _per_class(probability: Floats, truth: Labels, classes: tuple[str, ...]) -> tuple[ClassScores, ...]:
    if truth.ndim == 1:
        table = single.confusion(truth, probability.argmax(1), len(classes))
        right, given, support = np.diag(table), table.sum(0), table.sum(1)
    else:
        present = probability > 0.5
        right, given, support = (present & (truth > 0)).sum(0), present.sum(0), truth.sum(0)
    f1 = multi.f1_from_counts(right, given, support)
    return tuple(
        ClassScores(
            name=name,
            precision=_ratio(int(right[index]), int(given[index])),
            recall=_ratio(int(right[index]), int(support[index])),
            f1=float(np.nan_to_num(f1[index])),
            support=int(support[index]),
        )
        for index, name in enumerate(classes)
    )


def _ratio(successes: int, n: int) -> Metric:
    low, high = wilson(successes, n)
    return Metric(value=successes / n if n else 0.0, low=low, high=high, interval="wilson", n=n)


def _mistakes(probability: Floats, answers: Answers, about: About) -> tuple[Mistake, ...]:
    """The most confidently wrong answers, the worst first."""
    decoded = TASKS[about.task].decode(probability)
    sure = _wrongness(probability, answers.truth)
    confidence = sure.max(1)
    out = []
    for row in np.argsort(-confidence, kind="stable")[:_MISTAKES]:
        if confidence[row] <= 0:
            break
        truth = answers.truth[row]
        true = [int(truth)] if answers.truth.ndim == 1 else [int(column) for column in np.flatnonzero(truth)]
        out.append(
            Mistake(
                name=answers.names[row],
                truth="|".join(about.classes[index] for index in true),
                predicted="|".join(about.classes[index] for index in decoded[row]),
                probability=float(confidence[row]),
                explained=about.classes[int(sure[row].argmax())],
            )
        )
    return tuple(out)


def _wrongness(probability: Floats, truth: Labels) -> Floats:
    """Confidence in each wrong decision (N, classes); zero where it was right, or, with one label, not the answer."""
    if truth.ndim == 1:
        given = np.arange(probability.shape[1]) == probability.argmax(1)[:, None]
        right = probability.argmax(1) == truth
        return np.where(given & ~right[:, None], probability, 0.0)
    present = probability > 0.5
    confidence = np.where(present, probability, 1 - probability)
    wrong: Floats = np.where(present == (truth > 0), 0.0, confidence)
    return wrong
