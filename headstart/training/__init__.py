"""Training: a rung's adapted network goes in, events come out, a result is returned."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from headstart.adaptation import Adapted
from headstart.training.checkpoint import CHECKPOINT, Progress
from headstart.training.checkpoint import load as load_checkpoint
from headstart.training.records import Event, FitResult, Pace, TrainingData

__all__ = ["CHECKPOINT", "Event", "FitResult", "Pace", "TrainingData", "checkpoint_of", "fit"]


def fit(adapted: Adapted, data: TrainingData, pace: Pace) -> Generator[Event, None, FitResult]:
    """Events while the network is trained by its method's solver, then the result."""
    if adapted.method.solver == "features":
        from headstart.training.solve import solve

        return (yield from solve(adapted, data, pace))
    from headstart.training.gradient import train  # Accelerate costs a second that a probe need not pay

    return (yield from train(adapted, data, pace))


def checkpoint_of(folder: Path) -> Progress | None:
    """Where an interrupted training loop stood, or None where it had not begun."""
    found = load_checkpoint(folder / CHECKPOINT)
    return found[0] if found else None
