"""What makes a network's probabilities true, fitted on images that it had not seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.heads.logistic import LinearHead
from headstart.metrics.classwise import Classwise, Fitted, fit_classwise
from headstart.tasks import Network
from headstart.training.records import TrainingData

Logits = NDArray[np.float64]


class Calibration(NamedTuple):
    """One temperature for all classes, or a scale and a shift for each that then become part of the head.

    Attributes:
        temperature: what to divide logits by; 1 where the classes are treated apart.
        fitted: of each class; None where one temperature does as well.
    """

    temperature: float
    fitted: Fitted | None = None

    @property
    def classwise(self) -> Classwise | None:
        """What becomes part of the head."""
        return None if self.fitted is None else self.fitted.whole

    def apart(self, logits: Logits, images: NDArray[np.int64]) -> Logits:
        """Logits as the head would give them, each by what was fitted without the image; see `Fitted.apart`."""
        return logits if self.fitted is None else self.fitted.apart(logits, images)

    def folded(self, head: LinearHead) -> LinearHead:
        """The head that gives logits of which each class is scaled and shifted."""
        if self.fitted is None:
            return head
        scale, shift = (np.array(part) for part in (self.fitted.whole.scale, self.fitted.whole.shift))
        return LinearHead(weight=head.weight * scale[:, None], bias=head.bias * scale + shift)


def calibrate(
    data: TrainingData, logits: Logits, targets: NDArray[np.int64], *, model: Network
) -> Calibration:
    """The temperature for the logits, or what pays more.

    Only a linear head can take scales and shifts in, so that every runtime and exported file has them without knowing; and
    only where an image has one class.

    Args:
        data: with the task, and the seed of the division.
        logits: (N, classes), of images that the network, or the heads of a cross-validation, had not seen.
        targets: their truth.
        model: whose head it is for.
    """
    temperature = data.task.temperature(logits, targets)
    if data.task.name != "classify" or not isinstance(model.head, nn.Linear):
        return Calibration(temperature)
    fitted = fit_classwise(logits, targets, seed=data.seed)
    return Calibration(temperature) if fitted is None else Calibration(1.0, fitted)


def fold_into(model: Network, found: Calibration) -> None:
    """Make scales and shifts part of the network's head, where there are any."""
    if found.classwise is None:
        return
    with torch.no_grad():
        scale = torch.tensor(found.classwise.scale, dtype=torch.float64)
        shift = torch.tensor(found.classwise.shift, dtype=torch.float64)
        weight, bias = model.head.weight, model.head.bias
        weight.copy_(weight.double().cpu() * scale[:, None])
        bias.copy_(bias.double().cpu() * scale + shift)
