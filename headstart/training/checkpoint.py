"""Checkpoints of a training loop: whole or absent, and enough to go on bit by bit as if nothing had happened."""

from __future__ import annotations

import pickle
import zipfile
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
        seconds: training time so far, from the first step on.
        opened: seconds before it: the network was built, and a frozen part stored; again after each resume.
        first: of it, what the first step took, which is slower than those after it.
        steps: how many there will be; 0 until the pace of the first steps has told how many the budget allows.
        micro: images that pass at once, which memory may have made fewer; 0 before the first step.
        precision: what the network is computed in, so that a run goes on as it began; empty before the first step.
        start: what may move, as it was before the first step; empty where nobody will want to go back towards it.
        average: the running average of what may move; empty where none is kept.
        best_averaged: whether `best` holds averaged weights.
    """

    step: int = 0
    steps: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = float("inf")
    best_step: int = 0
    stale: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    first: float = 0.0
    micro: int = 0
    precision: str = ""
    start: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    best_averaged: bool = False
    opened: float = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the rung began, those before an interruption included."""
        return self.opened + self.seconds


def save(path: Path, progress: Progress, model: dict[str, Tensor], optimizer: dict[str, Any]) -> None:
    """Write everything the loop needs, atomically."""
    # A stream, not a path: only then does torch's error tell that the disk is full.
    with atomic(path) as temporary, temporary.open("wb") as stream:
        torch.save({"progress": vars(progress), "model": model, "optimizer": optimizer}, stream)


def load(path: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Any]] | None:
    """What `save` wrote, or None where nothing was written; plain tensors and numbers only, no pickled objects.

    Raises:
        BadInput: when the file is damaged, or was written by a headstart whose loop kept other things.
    """
    if not path.exists():
        return None
    try:
        # torch.load reads the tensors without looking at their checksums
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Progress(**content["progress"]), content["model"], content["optimizer"]
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
    ) as error:
        raise BadInput(
            f"The checkpoint {path} is damaged: {error}.", hint="Delete it; the rung then starts anew."
        ) from error
