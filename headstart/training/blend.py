"""Weights on the way between start and end of fine-tuning are often better than either; validation images say which.

Source: Wortsman et al. 2022, Robust fine-tuning of zero-shot models (WiSE-FT).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.adaptation import Adapted
from headstart.metrics import fit_temperature
from headstart.metrics.losses import row_losses

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""How far from the start (0, which is another rung) to the end (1)."""


def start_of(adapted: Adapted) -> dict[str, Tensor]:
    """A copy on the CPU of everything that may move, by name."""
    groups = adapted.applied.groups
    names = {name for group in groups if group.trains for name in group.parameters}
    names |= {name for group in groups if group.buffers_may_move for name in group.buffers}
    state = adapted.model.state_dict()
    return {name: state[name].detach().cpu().clone() for name in state if name in names}


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """`end` with what is in `start` moved back: start + share * (end - start); whole numbers stay those of the end."""
    moved = {
        name: torch.lerp(value, end[name].to(value.dtype), share)
        for name, value in start.items()
        if value.is_floating_point() and share != 1.0
    }
    return {**end, **moved}


def calibrated_losses(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-loss of each row (N,) at the best temperature: how sure a network is can be mended later, its order cannot."""
    return row_losses(logits / fit_temperature(logits, targets), targets)


def best_share(losses: Mapping[float, NDArray[np.float64]]) -> float:
    """The share with the lowest mean loss, if it beats the end by more than the standard error of the difference; else 1.

    Args:
        losses: share -> log-loss of each validation image (N,); 1.0 is among them.
    """
    best = min(losses, key=lambda share: (float(losses[share].mean()), -share))
    gain = losses[1.0] - losses[best]
    return best if gain.mean() > gain.std() / np.sqrt(len(gain)) else 1.0
