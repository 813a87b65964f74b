"""What a task is: how labels become truth, what is minimised, and how a network's outputs become answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headstart._core.errors import BadPlan
from headstart.data.preprocess import Preprocess
from headstart.data.records import DatasetFacts, Sample
from headstart.metrics import fit_temperature
from headstart.metrics.assessment import Assessment
from headstart.metrics.losses import row_losses
from headstart.pixels import Chances, Example
from headstart.tasks.heads import Decode, HeadSpec
from headstart.tasks.model import Network
from headstart.weights import Backbone

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
Rows = NDArray[np.float64]
"""What is kept of the answers to images, (N, …): enough for every score; for classes the logits (N, classes)."""


class Glance(NamedTuple):
    """What validation images say on the way, of answers with places.

    Attributes:
        scores: (N,) the task's `correctness`.
        value: the task's `judge`.
        low: lower end of its 95 % interval over images.
        high: upper end.
    """

    scores: Floats
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, scores: Floats, value: float, resampled: Floats) -> Glance:
        """With the percentiles of the value in resamples of the images (R,); NaN is that of one that says nothing."""
        known = resampled[np.isfinite(resampled)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (0.0, 1.0)
        return cls(scores, value, min(float(low), value), max(float(high), value))


@dataclass(frozen=True)
class Places:
    """What a task knows whose answers have places in the image.

    Attributes:
        frame: facts -> (width, height) of the letterbox that its networks see, and why.
        answers: (outputs, sizes (width, height) of the images, contract) -> an answer for each image: boxes (K, 6) as
            `metrics.detection` describes, or class indices (H, W), both in the image's own pixels.
        tally: (answers, samples) -> rows.
        assess: (rows, truth, classes, threshold, seed) -> all that is measured.
        glance: (rows, truth, seed) -> what is told of them on the way.
        decode: of boxes: what `answers` reads them from, for files that carry it out themselves; None for masks.
    """

    frame: Callable[[DatasetFacts], tuple[tuple[int, int], str]]
    answers: Callable[[Tensor, Sequence[tuple[int, int]], Preprocess], list[NDArray[Any]]]
    tally: Callable[[Sequence[NDArray[Any]], Sequence[Sample], int], Rows]
    assess: Callable[[Rows, Any, Sequence[str], float, int], Assessment]
    glance: Callable[[Rows, Any, int], Glance]
    decode: Decode | None = None

    def rows(self, outputs: Tensor, samples: Sequence[Sample], preprocess: Preprocess, classes: int) -> Rows:
        """What is kept of a network's outputs for these samples (N, …)."""
        sizes = [(sample.width, sample.height) for sample in samples]
        return self.tally(self.answers(outputs, sizes, preprocess), samples, classes)


@dataclass(frozen=True)
class Task:
    """A row of `TASKS`: a task with its usual head; `task_of` gives it with another.

    Attributes:
        name: what the user types after `--task` and what `evaluation.json` says.
        head: that its networks have, with all settings.
        build: (backbone, classes) -> the network with new heads; the backbone's module becomes its body and may be changed.
        targets: (samples, classes) -> truth of images, one item each, as `correctness` wants it: (N,) class indices, or
            (N, classes) of 0 and 1, or a list of boxes.
        example: (sample, contract, chances or None) -> pixels, with truth where it moves with them.
        together: the truth of a batch's examples as `loss` wants it.
        loss: mean loss of outputs (N, …) against truth; per-class weights (classes,); label smoothing in [0, 1).
        rows: (outputs, samples, contract, classes) -> what is kept of the answers (N, …).
        primary: the metric by which rungs are compared, the mean of `correctness` over images; higher is better.
        correctness: (rows, truth) -> per-image score in [0, 1] whose mean orders rungs; the paired comparison uses it.
        judged_by: name of what chooses among epochs, lower is better.
        judge: (rows, truth) -> it.
        temperature: (rows, truth) -> what to divide logits by for calibrated probabilities; 1 where there are none.
        probabilities: logits (N, classes) -> probabilities (N, classes); for tasks of whole images.
        decode: probabilities (N, classes) -> for each image the indices of the classes it is given; the same.
        activation: `softmax` or `sigmoid`: what the exported graph ends with; empty for answers with places.
        places: what answers with places need beside; None for tasks of whole images.
    """

    name: str
    head: HeadSpec
    build: Callable[[Backbone, int], Network]
    targets: Callable[[Sequence[Sample], int], Any]
    example: Callable[[Sample, Preprocess, Chances | None], NDArray[np.uint8] | Example]
    loss: Callable[[Tensor, Any, Tensor | None, float], Tensor]
    primary: str
    correctness: Callable[[Any, Any], Floats]
    together: Callable[[Sequence[Any]], Any] = list
    rows: Callable[[Tensor, Sequence[Sample], Preprocess, int], Rows] = lambda outputs, *_: logit_rows(
        outputs
    )
    judged_by: str = "log_loss"
    temperature: Callable[[Any, Any], float] = fit_temperature
    judge: Callable[[Any, Any], float] = lambda rows, truth: float(row_losses(rows, truth).mean())
    probabilities: Callable[[Floats], Floats] = lambda _: _of_places()
    decode: Callable[[Floats], list[tuple[int, ...]]] = lambda _: _of_places()
    activation: str = ""
    places: Places | None = None


def logit_rows(outputs: Tensor) -> Rows:
    """Logits (N, classes) as an array."""
    out: Rows = outputs.float().cpu().numpy().astype(np.float64)
    return out


def _of_places() -> Any:
    raise BadPlan(
        "An answer with places has no probabilities of the image as a whole.",
        hint="This is a defect of headstart: please report it.",
    )
