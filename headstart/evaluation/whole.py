"""Everything that is reported about a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.comparing import compare
from headstart.evaluation.mistakes import worst
from headstart.evaluation.records import (
    About,
    Answers,
    Aside,
    Evaluation,
    Floats,
    Labels,
    Selection,
    SetScores,
)
from headstart.evaluation.scoring import (
    confidences,
    confusion,
    mean,
    per_class,
    probabilities,
    proportion,
    score,
    uncalibrated,
)
from headstart.evaluation.slices import find_slices
from headstart.metrics import draw, reliability
from headstart.metrics.conformal import sets
from headstart.metrics.selection import without_luck
from headstart.metrics.selective import risk_curve

_NOTHING = Aside()


def evaluate(
    test: Answers,
    *,
    val: Answers | None,
    baselines: Mapping[str, Answers],
    about: About,
    aside: Aside = _NOTHING,
) -> Evaluation:
    """Everything that is reported about a model.

    Args:
        test: answers to images that no choice was made on.
        val: answers to the images that choices were made on, for comparison; None where there are none.
        baselines: answers of simpler models to the test images.
        about: what is evaluated.
        aside: what else is known about the images and the choices.
    """
    splits = {"test": score(test, about)}
    if val is not None:
        splits["val"] = score(val, about)
    probability = probabilities(test, about)
    confidence, right = confidences(probability, test.truth)
    raw_confidence, raw_right = confidences(uncalibrated(test, about), test.truth)
    whole = right if test.truth.ndim == 1 else right.reshape(test.truth.shape).min(1)
    return Evaluation(
        task=about.task,
        method=about.method,
        weights=about.weights,
        splits=splits,
        per_class=per_class(probability, test.truth, about.classes),
        confusion=confusion(probability, test.truth),
        temperature=about.temperature,
        reliability_before=reliability(raw_confidence, raw_right),
        reliability_after=reliability(confidence, right),
        comparisons=tuple(
            compare(test, other, names=(about.method, name), about=about) for name, other in baselines.items()
        ),
        mistakes=worst(probability, test, about),
        baselines={
            name: score(other, replace(about, temperature=1.0, classwise=None))
            for name, other in baselines.items()
        },
        classes=about.classes,
        seconds=about.seconds,
        risks=risk_curve(probability.max(1), whole) if test.truth.ndim == 1 else (),
        sets=_sets(probability, test, aside, about),
        slices=find_slices(test, whole, aside, seed=about.seed) if aside.looks else None,
        selection=_selection(aside, val, about),
        classwise=about.classwise,
    )


def _sets(probability: Floats, test: Answers, aside: Aside, about: About) -> SetScores | None:
    """How the conformal sets do; nothing for several labels an image, of which no set is the true one."""
    if aside.conformal is None or test.truth.ndim == 2:
        return None
    inside = sets(probability, aside.conformal.threshold(aside.coverage))
    n, units = len(inside), test.units
    size = inside.sum(1).astype(np.float64)
    return SetScores(
        asked=aside.coverage,
        calibrated_on=aside.conformal.n,
        coverage=proportion(inside[np.arange(n), test.truth].astype(np.float64), units),
        size=mean(size, draw(n, seed=about.seed, groups=units), least=1.0, most=float(len(about.classes))),
        single=proportion((size == 1).astype(np.float64), units),
    )


def _selection(aside: Aside, val: Answers | None, about: About) -> Selection | None:
    if aside.candidates is None or len(aside.candidates) < 2 or val is None:
        return None
    draws = draw(aside.candidates.shape[1], seed=about.seed, groups=val.units)
    return Selection(
        candidates=len(aside.candidates),
        plain=mean(aside.candidates[0], draws, most=1.0),
        corrected=without_luck(aside.candidates, draws),
    )


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
