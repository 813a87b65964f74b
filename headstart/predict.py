"""Answers for images: one row each, streamed, and a row with the reason for an image that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.data.images import open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.pixels import contract_pixels
from headstart.tasks import TASKS

BATCH = 32


class Predictor(Protocol):
    """What can answer: a bundle opened by `export.open_bundle`, or anything with these four things."""

    @property
    def task(self) -> str:
        """A name of `TASKS`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in output order."""

    @property
    def preprocess(self) -> Preprocess:
        """The contract of its input."""

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated logits (N, classes) of contract pixels (N, height, width, 3)."""


@record
class Ranked:
    """A class and its calibrated probability in [0, 1]."""

    name: str
    probability: float


@record
class Prediction:
    """What is said about one image.

    Attributes:
        path: as the user gave it.
        answer: the class, or for multi-label the classes joined by `|`; None where the image could not be read.
        probability: of the most probable class; None where the image could not be read.
        top_k: the most probable classes, in falling order.
        error: why there is no answer, or None.
    """

    path: str
    answer: str | None
    probability: float | None
    top_k: tuple[Ranked, ...]
    error: str | None


def predict(predictor: Predictor, samples: Iterable[Sample], *, top_k: int = 5) -> Iterator[Prediction]:
    """One prediction for each sample, in order, in constant memory."""
    stream = iter(samples)
    while chunk := list(islice(stream, BATCH)):
        yield from _predict_chunk(predictor, chunk, top_k)


def _predict_chunk(predictor: Predictor, chunk: list[Sample], top_k: int) -> Iterator[Prediction]:
    pixels: list[NDArray[np.uint8]] = []
    reasons: list[str | None] = []
    for sample in chunk:
        try:
            pixels.append(contract_pixels(open_rgb(sample.source), predictor.preprocess))
            reasons.append(None)
        except BadInput as error:
            reasons.append(error.message)
    task = TASKS[predictor.task]
    rows: Iterator[NDArray[np.floating]] = iter(())
    if pixels:
        rows = iter(task.probabilities(predictor.logits(np.stack(pixels))))
    for sample, reason in zip(chunk, reasons, strict=True):
        if reason is not None:
            yield Prediction(path=sample.name, answer=None, probability=None, top_k=(), error=reason)
            continue
        row = next(rows)
        order = np.argsort(-row, kind="stable")[:top_k]
        ranked = tuple(Ranked(name=predictor.classes[i], probability=float(row[i])) for i in order)
        answer = "|".join(predictor.classes[i] for i in task.decode(row[None])[0])
        yield Prediction(
            path=sample.name, answer=answer, probability=ranked[0].probability, top_k=ranked, error=None
        )


def as_row(prediction: Prediction) -> dict[str, object]:
    """The row that other programs read: `path, class, probability, top_k, error`."""
    return {
        "path": prediction.path,
        "class": prediction.answer,
        "probability": prediction.probability,
        "top_k": [{"class": ranked.name, "probability": ranked.probability} for ranked in prediction.top_k],
        "error": prediction.error,
    }
