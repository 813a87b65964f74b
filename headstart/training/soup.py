"""Networks that were tuned from the same start, averaged weight by weight as long as the validation images gain by it.

Source: Wortsman et al. 2022, Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time (the greedy soup). They compare accuracies; here the calibrated log-loss decides, which moves with
every image, so that a few dozen validation images say more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.training.blend import calibrated_losses

State = dict[str, Tensor]
Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Soup:
    """The average that was found.

    Attributes:
        members: which of the networks are in it, the best first; one alone: no average was better than that.
        state: its weights.
        logits: its answers on the validation images (N, classes).
        tried: averages that were judged.
    """

    members: tuple[int, ...]
    state: State
    logits: Logits
    tried: int


def average(states: Sequence[State]) -> State:
    """The mean of each tensor; what is the same in all stays the same to the last bit, whole numbers are the first's.

    BatchNorm's statistics, where they were tuned, are averaged like weights: an approximation that the validation images
    judge together with the rest.
    """
    out = {}
    for name, first in states[0].items():
        others = [state[name] for state in states[1:]]
        if not first.is_floating_point() or all(torch.equal(first, other) for other in others):
            out[name] = first
            continue
        total = first.double()
        for other in others:
            total = total + other.double()
        out[name] = (total / len(states)).to(first.dtype)
    return out


def greedy(
    states: Sequence[State],
    logits: Sequence[Logits],
    *,
    targets: NDArray[np.int64],
    answer: Callable[[State], Logits],
) -> Soup:
    """The best network alone, or the average with each further one that lowers the validation loss, the better first.

    Args:
        states: of the networks, all with the same names and shapes.
        logits: of each network, its answers on the validation images (N, classes).
        targets: of these images.
        answer: what a network with such weights answers.
    """
    losses = [float(calibrated_losses(each, targets).mean()) for each in logits]
    order = sorted(range(len(states)), key=lambda place: losses[place])
    members: tuple[int, ...] = (order[0],)
    state, said, loss = states[order[0]], logits[order[0]], losses[order[0]]
    for place in order[1:]:
        mixed = average([states[member] for member in (*members, place)])
        found = answer(mixed)
        mixed_loss = float(calibrated_losses(found, targets).mean())
        if mixed_loss < loss:
            members, state, said, loss = (*members, place), mixed, found, mixed_loss
    return Soup(members, state, said, tried=len(order) - 1)
