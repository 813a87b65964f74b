"""Everything that is reported about answers that have places: boxes and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstart.evaluation.comparing import compare
from headstart.evaluation.records import About, Answers, Evaluation, Mistake, SplitScores
from headstart.metrics.assessment import Assessment
from headstart.tasks import TASKS

_WORST = 12  # pictures in the report


def evaluate_places(
    test: Answers,
    *,
    val: Answers | None,
    rivals: Mapping[str, Answers],
    about: About,
    threshold: float,
) -> Evaluation:
    """Everything that is reported about a model for boxes or masks.

    Args:
        test: answers to images that no choice was made on.
        val: answers to the images that choices were made on; None where there are none.
        rivals: answers of other models to the test images.
        about: what is evaluated.
        threshold: least score of a box that counts as shown.
    """
    found = _assessed(test, about, threshold)
    splits = {"test": SplitScores(n=len(test.names), metrics=found.metrics)}
    if val is not None:
        splits["val"] = SplitScores(n=len(val.names), metrics=_assessed(val, about, threshold).metrics)
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
            name: SplitScores(n=len(other.names), metrics=_assessed(other, about, threshold).metrics)
            for name, other in rivals.items()
        },
        classes=about.classes,
        seconds=about.seconds,
        places=found,
    )


def _assessed(answers: Answers, about: About, threshold: float) -> Assessment:
    places = TASKS[about.task].places
    assert places is not None
    truth: Any = answers.truth
    return places.assess(answers.logits, truth, about.classes, threshold, about.seed)


def _worst(names: Sequence[str], scores: Sequence[float]) -> tuple[Mistake, ...]:
    """The images with the lowest scores, the worst first; perfect ones are none."""
    order = [int(place) for place in np.argsort(scores, kind="stable")[:_WORST] if scores[int(place)] < 1]
    return tuple(
        Mistake(name=names[place], truth="", predicted="", probability=1 - scores[place]) for place in order
    )
