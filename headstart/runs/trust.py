"""What a model needs to say how far it can be trusted: scores for sets of classes, and features of its training images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart import compute
from headstart._core.seed import generator
from headstart.data.records import Sample
from headstart.ladder import Climb, Climbed
from headstart.methods import METHODS
from headstart.metrics.conformal import Conformal, calibrate
from headstart.metrics.novelty import NEIGHBOURS, Novelty, distances, fit_novelty, unit
from headstart.tasks import TASKS, Network, unmirrored
from headstart.training import TrainingData
from headstart.training.rows import rows_of

_BANK = 1000  # training images whose features a bundle carries: 2.5 MB of a width of 1280
_TUNED_BANK = 400  # of a tuned network, whose features nobody has computed yet
_LEAST = 20  # images to take a threshold from: with fewer, 95 % of them cannot be told from all


def conformal_of(climbed: Climbed, data: TrainingData) -> Conformal | None:
    """What sets of classes are made from; None for several labels an image, or without an image to calibrate on.

    It comes from the validation images and, of a method that cross-validates, from the training images too: each answered
    by a head that did not see it. Those heads had fewer images than the final one, which makes the sets a little too large.
    """
    if data.task.name != "classify" or not len(data.val):
        return None
    logits, samples = [climbed.val_logits], list(data.val)
    if climbed.crossed is not None:
        logits.append(climbed.crossed)
        samples += data.train
    truth = data.task.targets(tuple(samples), len(data.classes))
    calibrated = np.concatenate(logits) / climbed.outcome.temperature
    return calibrate(TASKS[data.task.name].probabilities(calibrated), truth)


def novelty_of(climbed: Climbed, task: Climb) -> tuple[Novelty, NDArray[np.float32]] | None:
    """What images are called unlike the training images by, and features (M, width) of some of them; None for too few.

    A frozen network has seen none of the images, so training and validation images alike are judged, each by the others. A
    tuned one has learned its training images by heart: the threshold comes from the validation images alone.
    """
    data, method = task.data, climbed.outcome.method
    frozen = method in METHODS and METHODS[method].solver == "features"
    model = unmirrored(climbed.model)
    if frozen and climbed.crossed is not None:
        judged = (*data.train, *data.val)
        logits = np.concatenate([climbed.crossed, climbed.val_logits])
        features = rows_of(model, data.store, judged)
        kept = _some(len(judged), _BANK, data.seed)
        bank, own = features[kept], np.full(len(judged), -1)
        own[kept] = np.arange(len(kept))
    else:
        chosen = tuple(data.train[place] for place in _some(len(data.train), _TUNED_BANK, data.seed))
        judged, logits, own = data.val, climbed.val_logits, None
        if min(len(judged), len(chosen)) < _LEAST:
            return None
        features, bank = (_read(model, each, task) for each in (judged, chosen))
    if min(len(judged), len(bank)) < max(_LEAST, NEIGHBOURS + 1):
        return None
    calibrated = logits / climbed.outcome.temperature if data.task.name == "classify" else None
    away = distances(features, bank, neighbours=NEIGHBOURS, own=own)
    return fit_novelty(away, calibrated), unit(bank)


class _Reader(nn.Module):
    """What the head of a classifier reads."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, width) of normalised images (N, 3, H, W)."""
        features: Tensor = self.model.read(images)[0]
        return features


def _some(n: int, most: int, seed: int) -> NDArray[np.int64]:
    """Positions of up to `most` of n images, drawn without replacement, in order."""
    return np.sort(generator(seed, "bank").permutation(n)[:most])


def _read(model: Network, samples: tuple[Sample, ...], task: Climb) -> NDArray[np.float32]:
    """What the head of a tuned network reads of these images."""
    contract = task.backbone.info.preprocess
    return compute.forward(_Reader(model).eval(), samples, contract, label="looking at training images")
