"""The climb: rungs in order, the best so far always on disk, a budget or a signal ends it without losing anything."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.typing import NDArray

from headstart import compute, training
from headstart._core import files, records
from headstart._core.clock import Clock
from headstart._core.errors import BadInput, BadPlan
from headstart._core.records import record
from headstart._core.seed import generator
from headstart.adaptation import Adapted, Ledger, adapt, settle
from headstart.planning import Plan, Rung
from headstart.tasks import Classifier
from headstart.training import Event, FitResult, Pace, TrainingData
from headstart.weights import Backbone

CONFIDENCE = 0.9
"""How sure a costlier rung must be of its gain on the validation images to replace a cheaper one (paired bootstrap)."""

_REPEATS = 2000


@record
class Outcome:
    """How a rung ended; kept in `checkpoint/METHOD/outcome.json` so that a resumed climb need not repeat it.

    Attributes:
        temperature: fitted for this rung's network.
        seconds: of training.
        kept: whether it was the best so far when it ended.
        reason: in words.
        facts: what the method found out on the way.
    """

    method: str
    temperature: float
    seconds: float
    kept: bool
    reason: str
    ended: str
    facts: dict[str, object]
    ledger: Ledger


@dataclass(frozen=True)
class Climbed:
    """A rung's network with its answers on the validation images (N, classes) and its outcome."""

    outcome: Outcome
    model: Classifier
    val_logits: NDArray[np.float64]


@dataclass(frozen=True)
class Kept:
    """Told by `climb` when a rung has become the best so far: the caller saves it at once."""

    climbed: Climbed


@dataclass(frozen=True)
class Climb:
    """What is climbed, with what, and where its state is kept."""

    plan: Plan
    backbone: Backbone
    data: TrainingData
    clock: Clock
    folder: Path
    every: float


def climb(task: Climb) -> Generator[Event | Kept, None, tuple[Climbed, ...]]:
    """Events and every new best on the way; at the end all rungs that were climbed, the best first.

    The budget never stops the first rung: before it ends there is nothing to keep.

    Raises:
        compute.Stopped: when somebody asked to stop before the first rung had ended.
    """
    done: list[Climbed] = []
    best: Climbed | None = None
    for rung in task.plan.rungs:
        if best is not None and (reason := task.clock.over):
            yield Event(event="note", rung=rung.method, reason=f"not climbed: {reason}")
            continue
        found = _reload(task, rung)
        if found is None:
            yield Event(event="rung_start", rung=rung.method, reason=rung.why)
            try:
                found = yield from _climb_rung(task, rung, best, first=best is None)
            except (BadPlan, compute.Stopped) as error:
                if best is None:
                    raise
                yield Event(event="note", rung=rung.method, reason=_given_up(error, best))
                continue
            yield rung_end(found.outcome)
        done.append(found)
        if found.outcome.kept:
            best = found
            yield Kept(found)
    assert best is not None  # a plan has at least one rung, and the first is always kept
    yield Event(event="ladder_end", rung=best.outcome.method, reason=task.clock.over or "all rungs climbed")
    return (best, *(other for other in done if other is not best))


def _given_up(error: Exception, best: Climbed) -> str:
    """Why a costlier rung has no result; what was reached before it is not lost by that."""
    why = f"stopped by {error} before its first step" if isinstance(error, compute.Stopped) else str(error)
    return f"not climbed to its end: {why}\n{best.outcome.method} stays"


def rung_end(outcome: Outcome) -> Event:
    """The event that tells how a rung ended."""
    return Event(
        event="rung_end",
        rung=outcome.method,
        seconds=outcome.seconds,
        kept=outcome.kept,
        reason=outcome.reason,
    )


def _climb_rung(
    task: Climb, rung: Rung, best: Climbed | None, *, first: bool
) -> Generator[Event, None, Climbed]:
    adapted = adapt(rung, task.backbone, classes=len(task.data.classes), seed=task.data.seed)
    folder = task.folder / rung.method
    clock = task.clock.without_budget() if first else task.clock
    result = yield from training.fit(adapted, task.data, Pace(clock=clock, folder=folder, every=task.every))
    kept, reason = judge(result, best, task.data)
    return _save(folder, adapted, result, kept=kept, reason=reason)


def judge(result: FitResult, best: Climbed | None, data: TrainingData) -> tuple[bool, str]:
    """Whether the validation images say that this rung is better than the best so far, and the reason in words."""
    targets = data.task.targets(data.val, len(data.classes))
    scores = data.task.correctness(result.val_logits, targets)
    own = f"{data.task.primary} {scores.mean():.1%} on {len(scores)} validation images"
    if best is None:
        return True, f"the first usable model: {own}"
    other = data.task.correctness(best.val_logits, targets)
    sure = chance_of_gain(scores - other, seed=data.seed)
    against = f"{own} against {other.mean():.1%} for {best.outcome.method}; chance of a true gain {sure:.0%}"
    if sure >= CONFIDENCE:
        return True, against
    return False, f"{against}, below {CONFIDENCE:.0%}: {best.outcome.method} stays"


def chance_of_gain(differences: NDArray[np.floating], *, seed: int) -> float:
    """Share of bootstrap resamples of paired per-image differences (N,) whose mean is above zero; ties count half."""
    rng = generator(seed, "judge")
    n = len(differences)
    means = np.array([differences[rng.integers(0, n, n)].mean() for _ in range(_REPEATS)])
    return float((means > 0).mean() + 0.5 * (means == 0).mean())


def _save(folder: Path, adapted: Adapted, result: FitResult, *, kept: bool, reason: str) -> Climbed:
    """Write the rung's network, answers and outcome; the outcome last, so that its presence means all is there."""
    outcome = Outcome(
        method=result.method,
        temperature=result.temperature,
        seconds=result.seconds,
        kept=kept,
        reason=reason,
        ended=result.ended,
        facts=result.facts,
        ledger=settle(adapted, result.model),
    )
    state = {name: value.contiguous() for name, value in result.model.state_dict().items()}
    # A stream, not a path: only then does torch's error tell that the disk is full.
    with files.atomic(folder / "model.pt") as temporary, temporary.open("wb") as stream:
        torch.save({"model": state, "val_logits": torch.from_numpy(result.val_logits)}, stream)
    records.save(folder / "outcome.json", outcome)
    (folder / training.CHECKPOINT).unlink(missing_ok=True)
    return Climbed(outcome=outcome, model=result.model, val_logits=result.val_logits)


def _reload(task: Climb, rung: Rung) -> Climbed | None:
    """The rung's result from an earlier, interrupted climb, or None where it had not ended."""
    folder = task.folder / rung.method
    if not (folder / "outcome.json").exists():
        return None
    outcome = records.load(Outcome, folder / "outcome.json")
    try:
        content = torch.load(folder / "model.pt", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise BadInput(
            f"{folder / 'model.pt'} cannot be read: {error}.",
            hint=f"Delete the folder {folder}; the rung then starts anew.",
        ) from error
    model = adapt(rung, task.backbone, classes=len(task.data.classes), seed=task.data.seed).model
    model.load_state_dict(content["model"])
    return Climbed(outcome=outcome, model=model.eval(), val_logits=content["val_logits"].numpy())
