"""What is measured of a candidate on the user's training images."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from headstart import compute, scores
from headstart._core.clock import Clock
from headstart._core.seed import generator
from headstart.data.records import Dataset, Sample
from headstart.features import FeatureStore
from headstart.metrics import wilson
from headstart.metrics.intervals import Z95
from headstart.ranking.records import Scores
from headstart.weights import Backbone

_A_CLASS = 10  # images of a class that a cross-validated score wants; with more classes, some are left out
_FEW, _DIVISIONS = (
    1000,
    3,
)  # below so many images one division into folds is a game of chance, so several are averaged
_WARM, _REPEATS, _PATIENCE = 2, 7, 2.0  # passes for nothing, passes that count, seconds for all of them
_RANGES = {"log_me": (-math.inf, math.inf), "leep": (-math.inf, 0.0), "h_score": (0.0, math.inf)}

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Sampled:
    """The images that all candidates are measured on.

    Attributes:
        samples: N of them.
        targets: (N,) class indices or (N, labels) of 0 and 1.
        divisions: each (N,), the number of the fold in which an image is held out; several where images are few.
        among: all images that will be asked for, should these weights be chosen: their number decides the runtime, and
            features of one runtime only serve the run that follows.
    """

    samples: tuple[Sample, ...]
    targets: Labels
    divisions: tuple[Labels, ...]
    among: tuple[Sample, ...] = ()


def sample(dataset: Dataset, *, count: int, seed: int) -> Sampled:
    """At most `count` training images, each class by its share; of very many classes a part, so that each has ten images."""
    train = dataset.train
    chosen = np.arange(len(train))
    if len(train) > count:
        chosen = _spread(train, count, seed, single=dataset.task == "classify")
    samples = tuple(train[position] for position in chosen)
    targets = _targets(samples, dataset)
    names: dict[str, int] = {}
    groups = np.array([names.setdefault(each.group or each.digest, len(names)) for each in samples], np.int64)
    told = groups if len(names) < len(samples) else None
    repeats = _DIVISIONS if len(samples) < _FEW else 1
    divisions = (scores.fold_numbers(targets, seed=seed + turn, groups=told) for turn in range(repeats))
    return Sampled(samples, targets, tuple(divisions), among=dataset.samples)


def _spread(train: Sequence[Sample], count: int, seed: int, *, single: bool) -> Labels:
    """Positions (count,) drawn evenly over the classes, in ascending order."""
    rng = generator(seed, "rank", len(train))
    order = rng.permutation(len(train))
    if not single:
        return np.sort(order[:count])
    labels = np.array([each.labels[0] for each in train])
    names = rng.permutation(np.unique(labels))
    kept = names[: max(2, count // _A_CLASS)]
    order = order[np.isin(labels[order], kept)]
    order = order[np.argsort(labels[order], kind="stable")]
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64))
    return np.sort(order[places])


def _targets(samples: Sequence[Sample], dataset: Dataset) -> Labels:
    if dataset.task == "classify":
        return np.array([each.labels[0] for each in samples], np.int64)
    out = np.zeros((len(samples), len(dataset.classes)), np.int64)
    for row, each in enumerate(samples):
        out[row, list(each.labels)] = 1
    return out


def measure(
    backbone: Backbone, images: Sampled, *, clock: Clock | None = None
) -> tuple[Scores, NDArray[np.float64]]:
    """The scores of a candidate, and its probe's correctness (N,) in [0, 1] for each image, held out.

    Raises:
        BadInput: for features that are not finite or the same for all images.
        Stopped: when somebody asked for an end.
    """
    found = FeatureStore(backbone, among=images.among).get(images.samples, clock=clock)
    paths = [scores.ridge_path(found, images.targets, folds=folds) for folds in images.divisions]
    correct = np.mean([path.correct for path in paths], axis=0)
    single = images.targets.ndim == 1
    answers = _answers(backbone, found) if single else None
    probe = float(correct.mean())
    near = scores.knn_accuracy(found, images.targets) if single and len(found) > scores.NEIGHBOURS else None
    told = {"log_me": scores.log_me_estimate(found, images.targets)}
    if single:
        told["h_score"] = scores.regularised_h_score_estimate(found, images.targets)
    if answers is not None:
        told["leep"] = scores.leep_estimate(answers, images.targets)
    shares = {"probe": probe} if near is None else {"probe": probe, "knn": near}
    intervals = {name: wilson(share * len(found), len(found)) for name, share in shares.items()}
    return Scores(
        probe=probe,
        probe_error=float(correct.std(ddof=1) / np.sqrt(len(correct))),
        knn=near,
        intervals=intervals | {name: _interval(name, each) for name, each in told.items()},
        **{name: each.value for name, each in told.items()},
    ), correct


def _interval(name: str, found: scores.Estimate) -> tuple[float, float]:
    """(low, high) of the score of that name, 95 %, inside its range."""
    lowest, highest = _RANGES[name]
    return max(lowest, found.value - Z95 * found.error), min(highest, found.value + Z95 * found.error)


def _answers(backbone: Backbone, found: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Probabilities (N, source classes) of the pretraining classifier; None where there is none that names classes."""
    head = backbone.classifier
    if not isinstance(head, nn.Linear) or backbone.info.objective not in ("supervised", "unknown"):
        return None
    weight = head.weight.detach().cpu().numpy().astype(np.float64)
    bias = 0.0 if head.bias is None else head.bias.detach().cpu().numpy().astype(np.float64)
    logits = found @ weight.T + bias
    logits -= logits.max(1, keepdims=True)
    raised = np.exp(logits)
    out: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return out


def latency(backbone: Backbone) -> float:
    """Milliseconds for one image on this machine: the median of a few passes by eager torch in float32."""
    contract = backbone.info.preprocess
    network = compute.open_network(backbone, contract)
    pixels = np.full((1, contract.height, contract.width, 3), 127, np.uint8)
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < _WARM + _REPEATS and (len(taken) < 2 or time.perf_counter() - begun < _PATIENCE):
        started = time.perf_counter()
        network(pixels)
        taken.append(time.perf_counter() - started)
    counted = taken[_WARM:] or taken[1:]
    return float(np.median(counted)) * 1000
