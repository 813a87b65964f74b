"""Checkpoints of a training loop: whole or absent, and enough to go on bit by bit as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from headstart._core.errors import BadInput
from headstart._core.files import atomic

CHECKPOINT = "training.pt"


@dataclass
class Progress:
    """Where a training loop stands. Mutable on purpose: it is the loop's own state, saved as it is.

    All randomness is derived from the seed, the epoch and the step, so no generator needs to be stored.

    Attributes:
        step: optimiser steps done.
        best: the network with the lowest validation loss so far.
        best_loss: that loss; infinite before the first validation.
        best_step: when it was reached.
        stale: epochs since then.
        losses: training losses since the last event.
        seconds: training time so far.
        steps: how many there will be; 0 until the pace of the first steps has told how many the budget allows.
    """

    step: int = 0
    steps: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = float("inf")
    best_step: int = 0
    stale: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def save(path: Path, progress: Progress, model: dict[str, Tensor], optimizer: dict[str, Any]) -> None:
    """Write everything the loop needs, atomically."""
    with atomic(path) as temporary:
        torch.save({"progress": vars(progress), "model": model, "optimizer": optimizer}, temporary)


def load(path: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Any]] | None:
    """What `save` wrote, or None where nothing was written; plain tensors and numbers only, no pickled objects.

    Raises:
        BadInput: when the file is damaged.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError) as error:
        raise BadInput(
            f"The checkpoint {path} is damaged: {error}.", hint="Delete it; the rung then starts anew."
        ) from error
    return Progress(**content["progress"]), content["model"], content["optimizer"]
