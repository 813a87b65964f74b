"""Answers for images: one row each, streamed, and a row with the reason for an image that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from headstart import compute
from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.data.images import open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import ImageSource, Sample
from headstart.metrics.conformal import COVERAGE, Conformal, sets
from headstart.metrics.novelty import Novelty
from headstart.pixels import ahead, contract_pixels, cpus, read_pixels
from headstart.tasks import TASKS

BATCH = 32
_FEW = 8  # images with places at a time: their answers are large
_AHEAD = 3  # batches decoded in advance


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


Judged = tuple[NDArray[np.float32], NDArray[np.floating] | None]
"""Calibrated logits (N, classes), and novelty scores (N,) where there are any."""


@dataclass(frozen=True)
class Trust:
    """What a predictor judges its own answers by; None where it cannot."""

    conformal: Conformal | None
    novelty: Novelty | None


_NO_TRUST = Trust(None, None)


@runtime_checkable
class Trusting(Predictor, Protocol):
    """A predictor that also says how far it can be trusted."""

    @property
    def trust(self) -> Trust:
        """What it judges by."""

    def judged(self, pixels: NDArray[np.uint8]) -> Judged:
        """Calibrated logits and novelty scores of contract pixels (N, height, width, 3)."""


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
        candidates: the set of classes that holds the true one as often as was asked for; None where there are no sets.
        unlike: whether the image is unlike the training images, so that no answer means much; None where that is unknown.
        novelty: the score that this is judged by; higher is stranger.
    """

    path: str
    answer: str | None
    probability: float | None
    top_k: tuple[Ranked, ...]
    error: str | None
    candidates: tuple[str, ...] | None = None
    unlike: bool | None = None
    novelty: float | None = None


@dataclass(frozen=True)
class Accelerated:
    """A predictor whose network runs in the runtime that `compute` chose.

    Attributes:
        task: a name of `TASKS`.
        classes: names in output order.
        preprocess: the contract of its input.
        network: gives uncalibrated logits, and in one more column novelty scores where `trust` has novelty.
        temperature: > 0; logits are divided by it.
        trust: what its answers are judged by.
    """

    task: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    network: compute.Network
    temperature: float
    trust: Trust = _NO_TRUST

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated logits (N, classes) of contract pixels (N, height, width, 3)."""
        return self.judged(pixels)[0]

    def judged(self, pixels: NDArray[np.uint8]) -> Judged:
        """Calibrated logits and novelty scores of contract pixels (N, height, width, 3)."""
        out: NDArray[np.float32] = self.network(pixels)[0]
        if self.trust.novelty is None:
            return out / np.float32(self.temperature), None
        return out[:, :-1] / np.float32(self.temperature), out[:, -1]


def accelerated(
    predictor: Predictor, model: nn.Module, *, temperature: float, samples: Sequence[Sample]
) -> Predictor:
    """The predictor in the fastest runtime that agrees with eager float32 on the first of these images.

    Itself where it is the fastest, or where so few images do not pay for compiling.

    Args:
        predictor: whose task, classes and contract stay.
        model: its network, in evaluation mode, giving uncalibrated logits (and novelty scores in one more column, if the
            predictor has them).
        temperature: > 0; logits are divided by it.
        samples: all images that it will be asked about.
    """
    if len(samples) < compute.FEW:
        return predictor
    network = compute.choose(model, samples, predictor.preprocess)
    if network.chosen.engine == compute.REFERENCE:
        return predictor
    trust = predictor.trust if isinstance(predictor, Trusting) else _NO_TRUST
    return Accelerated(predictor.task, predictor.classes, predictor.preprocess, network, temperature, trust)


def predict(
    predictor: Predictor, samples: Iterable[Sample], *, top_k: int = 5, coverage: float = COVERAGE
) -> Iterator[Prediction]:
    """One prediction for each sample, in order, in constant memory; decoding runs ahead in threads.

    Args:
        predictor: what answers.
        samples: the images.
        top_k: how many classes to list for each.
        coverage: how often the set of classes should hold the true one.

    Raises:
        BadOption: for a coverage outside (0, 1).
    """
    trust = predictor.trust if isinstance(predictor, Trusting) else _NO_TRUST
    threshold = trust.conformal.threshold(coverage) if trust.conformal else None
    read = partial(_read, preprocess=predictor.preprocess)
    with closing(ahead(read, samples, workers=cpus(), waiting=_AHEAD * BATCH)) as stream:
        while chunk := list(islice(stream, BATCH)):
            yield from _predict_chunk(predictor, chunk, top_k, threshold)


def _read(sample: Sample, *, preprocess: Preprocess) -> tuple[str, NDArray[np.uint8] | str]:
    """The sample's name with its pixels, or with the reason why there are none."""
    try:
        return sample.name, read_pixels(sample.source, preprocess)
    except BadInput as error:
        return sample.name, error.message


def _predict_chunk(
    predictor: Predictor,
    chunk: list[tuple[str, NDArray[np.uint8] | str]],
    top_k: int,
    threshold: float | None,
) -> Iterator[Prediction]:
    pixels = [window for _, window in chunk if not isinstance(window, str)]
    task = TASKS[predictor.task]
    rows: Iterator[tuple[NDArray[np.floating], NDArray[np.bool_] | None, _Strange]] = iter(())
    if pixels:
        rows = _judge(predictor, np.stack(pixels), threshold)
    for name, window in chunk:
        if isinstance(window, str):
            yield Prediction(path=name, answer=None, probability=None, top_k=(), error=window)
            continue
        row, inside, (unlike, novelty) = next(rows)
        order = np.argsort(-row, kind="stable")[:top_k]
        ranked = tuple(Ranked(name=predictor.classes[i], probability=float(row[i])) for i in order)
        answer = "|".join(predictor.classes[i] for i in task.decode(row[None])[0])
        candidates = (
            None
            if inside is None
            else tuple(predictor.classes[i] for i in np.argsort(-row, kind="stable") if inside[i])
        )
        yield Prediction(
            path=name,
            answer=answer,
            probability=ranked[0].probability,
            top_k=ranked,
            error=None,
            candidates=candidates,
            unlike=unlike,
            novelty=novelty,
        )


_Strange = tuple[bool | None, float | None]


def _judge(
    predictor: Predictor, pixels: NDArray[np.uint8], threshold: float | None
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.bool_] | None, _Strange]]:
    """Of each image: probabilities (classes,), which of them are in its set, and how strange it is."""
    task, scores, novelty = TASKS[predictor.task], None, None
    if isinstance(predictor, Trusting):
        logits, scores = predictor.judged(pixels)
        novelty = predictor.trust.novelty
    else:
        logits = predictor.logits(pixels)
    probability = task.probabilities(logits)
    inside = None if threshold is None else sets(probability, threshold)
    for place, row in enumerate(probability):
        strange: _Strange = (None, None)
        if scores is not None and novelty is not None:
            strange = bool(scores[place] > novelty.threshold), float(scores[place])
        yield row, None if inside is None else inside[place], strange


@dataclass(frozen=True)
class Found:
    """What is said about the places in one image.

    Attributes:
        path: as the user gave it.
        source: the image.
        size: (width, height) in pixels, upright; (0, 0) where it could not be read.
        answer: boxes (K, 6): left, top, right, bottom, score, class; or class indices (H, W); None where there is none.
        error: why there is no answer, or None.
    """

    path: str
    source: ImageSource
    size: tuple[int, int]
    answer: NDArray[Any] | None
    error: str | None


class PlacePredictor(Protocol):
    """What can answer about places: a bundle opened by `export.open_bundle`."""

    @property
    def preprocess(self) -> Preprocess:
        """The contract of its input."""

    def answers(self, pixels: NDArray[np.uint8], sizes: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """The answer for each image, of contract pixels (N, height, width, 3) and original sizes (width, height)."""


def predict_places(predictor: PlacePredictor, samples: Iterable[Sample]) -> Iterator[Found]:
    """One answer for each sample, in order, in constant memory; decoding runs ahead in threads."""
    read = partial(_read_sized, preprocess=predictor.preprocess)
    with closing(ahead(read, samples, workers=cpus(), waiting=2 * _FEW)) as stream:
        while chunk := list(islice(stream, _FEW)):
            known = [(pixels, size) for _, pixels, size, _ in chunk if pixels is not None]
            answers: Iterator[NDArray[Any]] = iter(())
            if known:
                answers = iter(
                    predictor.answers(np.stack([p for p, _ in known]), [size for _, size in known])
                )
            for sample, pixels, size, error in chunk:
                answer = None if pixels is None else next(answers)
                yield Found(path=sample.name, source=sample.source, size=size, answer=answer, error=error)


def _read_sized(
    sample: Sample, *, preprocess: Preprocess
) -> tuple[Sample, NDArray[np.uint8] | None, tuple[int, int], str | None]:
    """The sample with its pixels and size, or with the reason why there are none."""
    try:
        image = open_rgb(sample.source)
    except BadInput as error:
        return sample, None, (0, 0), error.message
    return sample, contract_pixels(image, preprocess), image.size, None


def as_row(prediction: Prediction) -> dict[str, object]:
    """The row that other programs read: `path, class, probability, top_k, error, set, unlike, novelty`."""
    return {
        "path": prediction.path,
        "class": prediction.answer,
        "probability": prediction.probability,
        "top_k": [{"class": ranked.name, "probability": ranked.probability} for ranked in prediction.top_k],
        "error": prediction.error,
        "set": None if prediction.candidates is None else list(prediction.candidates),
        "unlike": prediction.unlike,
        "novelty": prediction.novelty,
    }
