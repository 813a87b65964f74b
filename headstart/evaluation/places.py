"""Everything that is reported about answers that have places: boxes and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.comparing import compare
from headstart.evaluation.records import About, Answers, Evaluation, Mistake, SplitScores
from headstart.metrics import Metric, debiased_error, detection, draw
from headstart.metrics.assessment import Assessment, Trust
from headstart.metrics.detection import PLAIN, Calibration
from headstart.metrics.intervals import percentile
from headstart.tasks import TASKS

_WORST = 12  # pictures in the report


@dataclass(frozen=True)
class Shown:
    """Which boxes are shown and what their scores mean, found on validation images.

    Attributes:
        threshold: least score of a box, after calibration; 0 for masks.
        calibration: what a score becomes.
        precision: that the threshold was chosen for; 0: the best F1.
    """

    threshold: float = 0.0
    calibration: Calibration = PLAIN
    precision: float = 0.0


def evaluate_places(
    test: Answers,
    *,
    val: Answers | None,
    rivals: Mapping[str, Answers],
    about: About,
    shown: Shown,
) -> Evaluation:
    """Everything that is reported about a model for boxes or masks.

    Args:
        test: answers to images that no choice was made on.
        val: answers to the images that choices were made on; None where there are none.
        rivals: answers of other models to the test images.
        about: what is evaluated.
        shown: which boxes are shown, of scores as the network gives them.
    """
    found = _assessed(test, about, shown)
    splits = {"test": SplitScores(n=len(test.names), metrics=found.metrics)}
    if val is not None:
        splits["val"] = SplitScores(n=len(val.names), metrics=_assessed(val, about, shown).metrics)
    return Evaluation(
        task=about.task,
        method=about.method,
        weights=about.weights,
        splits=splits,
        per_class=(),
        confusion=found.confusion,
        temperature=about.temperature,
        reliability_before=(),
        reliability_after=(),
        comparisons=tuple(
            compare(test, other, names=(about.method, name), about=about) for name, other in rivals.items()
        ),
        mistakes=_worst(test.names, found.scores),
        baselines={
            name: SplitScores(n=len(other.names), metrics=_assessed(other, about, shown).metrics)
            for name, other in rivals.items()
        },
        classes=about.classes,
        seconds=about.seconds,
        places=found,
    )


def _assessed(answers: Answers, about: About, shown: Shown) -> Assessment:
    places = TASKS[about.task].places
    assert places is not None
    truth: Any = answers.truth
    boxes = about.task == "detect"
    rows = calibrated_rows(answers.logits, shown.calibration) if boxes else answers.logits
    found = places.assess(rows, truth, about.classes, shown.threshold, about.seed)
    return replace(found, trust=_trust(answers, about, shown)) if boxes else found


def calibrated_rows(rows: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    """Rows of boxes (N, K, 6) with probabilities for scores."""
    out = rows.copy()
    out[..., 4] = detection.calibrated(rows[..., 4], calibration)
    return out


def _trust(answers: Answers, about: About, shown: Shown) -> Trust:
    """What scores of the answers mean and how right those are that are shown, with intervals over images."""
    truth: Any = answers.truth
    matches = detection.match(list(answers.logits), truth, classes=len(about.classes), by_size=False)
    scores, right, images = detection.answered(matches)
    draws = draw(len(answers.names), seed=about.seed, groups=answers.units)

    def gap(confidence: NDArray[np.float64]) -> Metric:
        value, (low, high) = debiased_error(confidence, right, draws, owners=images)
        return Metric(value=value, low=low, high=high, interval="bootstrap", n=matches.images)

    probability = detection.calibrated(scores, shown.calibration)
    kept = probability >= shown.threshold
    hits, given = (
        np.bincount(images[kept], weights=weights[kept], minlength=matches.images).astype(np.float64)
        for weights in (right, np.ones(len(right)))
    )
    objects = detection.pooled(matches).objects.astype(np.float64)

    def share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Metric | None:
        if not whole.sum():
            return None
        value = float(part.sum() / whole.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = percentile((draws.images @ part) / (draws.images @ whole))
        return Metric(
            value=value, low=min(low, value), high=max(high, value), interval="bootstrap", n=matches.images
        )

    return Trust(
        slope=shown.calibration[0],
        offset=shown.calibration[1],
        asked=shown.precision,
        before=gap(scores),
        after=gap(probability),
        precision=share(hits, given),
        recall=share(hits, objects),
    )


def _worst(names: Sequence[str], scores: Sequence[float]) -> tuple[Mistake, ...]:
    """The images with the lowest scores, the worst first; perfect ones are none."""
    order = [int(place) for place in np.argsort(scores, kind="stable")[:_WORST] if scores[int(place)] < 1]
    return tuple(
        Mistake(name=names[place], truth="", predicted="", probability=1 - scores[place]) for place in order
    )
