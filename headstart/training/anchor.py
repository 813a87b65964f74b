"""A pull of the pretrained weights towards where they started, instead of towards zero.

Source: Li et al. 2018, Explicit inductive bias for transfer learning with convolutional networks (L2-SP); decoupled from the
gradient as in AdamW (Loshchilov & Hutter 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from headstart.tasks import Network


@dataclass(frozen=True)
class Anchor:
    """Where each pretrained parameter started, and how strong the pull is.

    Attributes:
        strength: share of the way back that a step of learning rate 1 goes.
        start: of each parameter, by identity, where the parameter is; the head, which is new, has none.
    """

    strength: float
    start: dict[int, Tensor]

    @classmethod
    def of(cls, model: Network, start: Mapping[str, Tensor], strength: float) -> Anchor:
        """The anchor of the body's parameters that `start` names."""
        places = {
            id(parameter): start[name].to(parameter.device)
            for name, parameter in model.named_parameters()
            if name in start and name.startswith("body.")
        }
        return cls(strength, places)

    def pull(self, optimizer: Optimizer) -> None:
        """One step back towards the start, at each parameter's own learning rate of the moment."""
        with torch.no_grad():
            for group in optimizer.param_groups:
                share = min(1.0, group["lr"] * self.strength)
                for parameter in group["params"]:
                    if id(parameter) in self.start:
                        parameter.lerp_(self.start[id(parameter)], share)
