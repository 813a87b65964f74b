"""Many smooth convex problems of one shape, minimised side by side: each has its own memory, step length and end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from headstart._core.log import warn

MEMORY = 10
"""Pairs of steps and changes of slope that are remembered."""

GAP = 1e-5
"""What a step may still promise to take off a block's loss, in nats, where its descent ends.

A promise is low: the loss lay up to 3e-5 above the lowest (5 strengths, 10 to 60 classes), which moves a held-out loss by a
few hundredths of its standard error on 1000 images at most.
"""

_ITERATIONS, _HALVINGS = 200, 12
_ENOUGH, _NOISE, _TINY = 1e-4, 1e-7, 1e-20  # Armijo's share; what single precision adds; only rounding

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(points (live, rows, columns), which blocks these are) -> losses (live,) in double precision, slopes like points."""

Pair = tuple[Tensor, Tensor]
"""A step (blocks, rows, columns), and the change of the slope along it; zeros for a block that did not move."""


def minimise(
    objective: Objective, start: Tensor, first: tuple[Tensor, Tensor], known: Sequence[Pair]
) -> tuple[Tensor, list[Pair]]:
    """The lowest point of each block's loss, by L-BFGS, and the pairs learnt on the way.

    A block is done when the loss that a step would still take away, half the product of slope and step, is below `GAP`, both
    by the curvature learnt and by the scale that the objective came with; only the others are computed on. Own code because
    SciPy's works on one problem at a time, in double precision, and took most of the time.

    Args:
        objective: convex, scaled so that a unit step along the negative slope is about right.
        start: (blocks, rows, columns).
        first: losses and slopes there.
        known: pairs of similar problems, the latest last.

    Source: Nocedal & Wright 2006, algorithms 7.4 and 3.1; Boyd & Vandenberghe 2004, section 9.5, for the end.
    """
    point, (loss, slope) = start, first
    memory = deque(((step, change, _dot(step, change)) for step, change in known), maxlen=MEMORY)
    learnt: list[Pair] = []
    able = torch.ones(len(start), dtype=torch.bool)
    for _ in range(_ITERATIONS):
        direction = -_newton_like(slope, memory)
        fall = _dot(direction, slope).double()
        left = torch.maximum(-fall, _dot(slope, slope).double()) / 2
        live = torch.nonzero(able & (left > GAP))[:, 0]
        if not len(live):
            return point, learnt
        trial, trial_loss, trial_slope = point.clone(), loss.clone(), slope.clone()
        step = torch.ones(len(start))
        for _ in range(_HALVINGS):
            ahead = point[live] + step[live, None, None] * direction[live]
            trial[live] = ahead
            trial_loss[live], trial_slope[live] = objective(ahead, live)
            limit = loss + _ENOUGH * step * fall + _NOISE * loss.abs()
            live = live[trial_loss[live] > limit[live]]
            if not len(live):
                break
            step[live] /= 2
        able[live] = False  # no step helps: what is left is rounding
        trial[live], trial_loss[live], trial_slope[live] = point[live], loss[live], slope[live]
        pair = trial - point, trial_slope - slope
        learnt.append(pair)
        memory.append((*pair, _dot(*pair)))
        point, loss, slope = trial, trial_loss, trial_slope
    most = float(left.max())
    warn(f"A head did not settle in {_ITERATIONS} steps: its loss may still lie {most:.2g} above the lowest.")
    return point, learnt


def _newton_like(slope: Tensor, memory: deque[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The slope times an estimate of the inverse curvature, block by block (the two-loop recursion)."""
    out, shares = slope, []
    for step, change, product in reversed(memory):
        usable = product > _TINY
        share = torch.where(usable, _dot(step, out) / product.clamp_min(_TINY), 0.0)
        out = out - share[:, None, None] * change
        shares.append((share, usable))
    if memory:
        _, change, product = memory[-1]
        size = _dot(change, change)
        usable = (product > _TINY) & (size > _TINY)
        out = out * torch.where(usable, product / size.clamp_min(_TINY), 1.0)[:, None, None]
    for (step, change, product), (share, usable) in zip(memory, reversed(shares), strict=True):
        back = torch.where(usable, _dot(change, out) / product.clamp_min(_TINY), 0.0)
        out = out + (share - back)[:, None, None] * step
    return out


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2))
