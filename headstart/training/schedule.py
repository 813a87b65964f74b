"""Optimiser, learning rates over time, and the order of the images: all pure functions of seed and step."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer

from headstart._core.seed import generator
from headstart.adaptation import Adapted

_MOMENTUM = 0.9
_FUSED = (
    "cpu",
    "cuda",
    "mps",
)  # one kernel for all tensors: a tenth of the time of torch's loop over 150 of them


def make_optimizer(adapted: Adapted) -> Optimizer:
    """The optimiser with one parameter group for each group of the ledger (and decay only on matrices and kernels)."""
    model, groups = adapted.model, []
    for group in adapted.applied.groups:
        if not group.trains:
            continue
        tensors = [model.get_parameter(name) for name in group.parameters]
        for decays, part in (
            (True, [t for t in tensors if t.ndim > 1]),
            (False, [t for t in tensors if t.ndim <= 1]),
        ):
            if part:
                decay = group.weight_decay if decays else 0.0
                groups.append({"params": part, "lr": group.lr, "peak": group.lr, "weight_decay": decay})
    fused = next(model.parameters()).device.type in _FUSED
    if adapted.params.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=_MOMENTUM, nesterov=True, fused=fused)
    return torch.optim.AdamW(groups, fused=fused)


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a linear rise over `warmup` of all steps, then a cosine to zero.

    >>> rate(0, 100, 0.1), rate(9, 100, 0.1), round(rate(55, 100, 0.1), 2), rate(100, 100, 0.1)
    (0.1, 1.0, 0.5, 0.0)
    """
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def epoch_groups(count: int, batch_size: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Positions of each batch of an epoch: shuffled by seed and epoch; a last batch of one image joins the one before."""
    order = generator(seed, "order", epoch).permutation(count)
    groups = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(groups) > 1 and len(groups[-1]) == 1:  # one image has no batch statistics
        groups[-2:] = [np.concatenate(groups[-2:])]
    return groups


def looks(epoch: int, epochs: int, *, most: int | None) -> bool:
    """Whether the validation images are looked at after an epoch (1, 2 …): each time, or about `most` times.

    >>> [epoch for epoch in range(1, 41) if looks(epoch, 40, most=8)]
    [1, 5, 10, 15, 20, 25, 30, 35, 40]
    """
    return most is None or epoch == 1 or (epochs - epoch) % max(1, round(epochs / most)) == 0
