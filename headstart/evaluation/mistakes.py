"""The wrong answers that the model was surest of."""

from __future__ import annotations

import numpy as np

from headstart.evaluation.records import About, Answers, Floats, Labels, Mistake
from headstart.tasks import TASKS

_MISTAKES = 12  # pictures in the report


def worst(probability: Floats, answers: Answers, about: About) -> tuple[Mistake, ...]:
    """The most confidently wrong answers, the worst first."""
    decoded = TASKS[about.task].decode(probability)
    sure = wrongness(probability, answers.truth)
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


def wrongness(probability: Floats, truth: Labels) -> Floats:
    """Confidence in each wrong decision (N, classes); zero where it was right, or, with one label, not the answer."""
    if truth.ndim == 1:
        given = np.arange(probability.shape[1]) == probability.argmax(1)[:, None]
        right = probability.argmax(1) == truth
        return np.where(given & ~right[:, None], probability, 0.0)
    present = probability > 0.5
    confidence = np.where(present, probability, 1 - probability)
    wrong: Floats = np.where(present == (truth > 0), 0.0, confidence)
    return wrong
