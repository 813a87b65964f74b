"""A running average of the weights beside those that train: it forgets the noise of single steps.

Source: Polyak & Juditsky 1992, Acceleration of stochastic approximation by averaging; the decay that grows in the first
steps is that of TensorFlow's ExponentialMovingAverage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Average:
    """The exponential average of everything that may move.

    What is averaged: parameters that train, and BatchNorm's running statistics where they follow the batches, because
    averaged weights want the statistics of about the same time. Whole numbers (BatchNorm's counters) are not averaged: they
    stay those of the network. What is frozen is not in it, so it cannot drift.

    Attributes:
        decay: weight of the past in each step, in (0, 1), once there is enough of it.
        values: name -> average, in float32 where the network is; changed in place by `update`.
    """

    decay: float
    values: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, start: Mapping[str, Tensor], decay: float) -> Average:
        """The average that stands at `start`, where the model computes.

        Args:
            model: whose tensors will be averaged.
            start: name -> value of what may move.
            decay: see the attribute.
        """
        where = next(model.parameters()).device
        values = {name: value.to(where) for name, value in start.items() if value.is_floating_point()}
        return cls(decay, {name: value.clone() for name, value in values.items()})

    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after that step (0, 1 …) into the average.

        The first weights count less than the decay says: min(decay, (1 + step) / (10 + step)), else the start would stay
        in the average for as long as the decay remembers.
        """
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        now = model.state_dict()
        with torch.no_grad():
            for name, value in self.values.items():
                value.lerp_(now[name], share)

    def over(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """That whole state of a network with the averages in the place of what they average, on the CPU."""
        return {**state, **{name: value.detach().cpu().clone() for name, value in self.values.items()}}
