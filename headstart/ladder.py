"""The climb: rungs in order, the best so far always on disk, a budget or a signal ends it without losing anything."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
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
from headstart.planning import Plan, Rung, confidence, not_worth
from headstart.tasks import Network
from headstart.training import Event, FitResult, Pace, TrainingData
from headstart.weights import Backbone

FEW = 500
"""Below this many training images, methods that cross-validate are compared on those images too, not on few others alone."""

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
        metrics: on the validation images.
    """

    method: str
    temperature: float
    seconds: float
    kept: bool
    reason: str
    ended: str
    facts: dict[str, object]
    ledger: Ledger
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Climbed:
    """A rung's network with its outcome.

    Attributes:
        val_logits: its answers on the validation images (N, classes).
        crossed: cross-validated answers on the training images (N, classes), each by a head that did not see the image;
            None where the method does not cross-validate.
    """

    outcome: Outcome
    model: Network
    val_logits: NDArray[np.float64]
    crossed: NDArray[np.float64] | None = None


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

    The budget never stops the first rung: before it ends there is nothing to keep. A later rung of which too little is
    expected, after what the best so far has reached, is not climbed, unless there is no budget.

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
        if found is None and best is not None and (reason := stays_below(task.plan, rung, best, task.data)):
            yield Event(event="note", rung=rung.method, reason=f"not climbed: {reason}")
            continue
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
    yield Event(
        event="ladder_end", rung=best.outcome.method, reason=task.clock.over or "the end of the ladder"
    )
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
        metrics=outcome.metrics,
    )


def stays_below(plan: Plan, rung: Rung, best: Climbed, data: TrainingData) -> str:
    """Why this rung is not worth its climb after what the best so far has reached, or an empty string.

    What the plan expected is a share of the errors that the rung removes; the errors are now known better than by the plan.
    Without a budget, and where nothing was expected, every rung is climbed.
    """
    before = next((r.expected for r in plan.rungs if r.method == best.outcome.method), None)
    if plan.budget_seconds is None or rung.expected is None or before is None:
        return ""
    scores = _scores(best.val_logits, data)
    if best.crossed is not None:  # a few dozen validation images may all be right by luck
        scores = np.concatenate([scores, _scores(best.crossed, data, train=True)])
    reached = float(scores.mean())
    share = (rung.expected.accuracy - before.accuracy) / max(1 - before.accuracy, 1e-6)
    doubt = not_worth(
        share * (1 - reached),
        accuracy=reached,
        images=len(data.val),
        candidates=len(plan.rungs) - 1,
        seconds=rung.expected.seconds,
        prefer=plan.prefer,
    )
    name = best.outcome.method
    return f"{name} has reached {reached:.1%} and {doubt}: the cheaper one stays" if doubt else ""


def _scores(logits: NDArray[np.floating], data: TrainingData, *, train: bool = False) -> NDArray[np.float64]:
    """How right the answers are on each validation (or training) image, in [0, 1]."""
    targets = data.task.targets(data.train if train else data.val, len(data.classes))
    return np.asarray(data.task.correctness(logits, targets), np.float64)


def _climb_rung(
    task: Climb, rung: Rung, best: Climbed | None, *, first: bool
) -> Generator[Event, None, Climbed]:
    adapted = adapt(
        rung, task.backbone, classes=len(task.data.classes), seed=task.data.seed, task=task.plan.task
    )
    folder = task.folder / rung.method
    clock = task.clock.without_budget() if first else task.clock
    result = yield from training.fit(adapted, task.data, Pace(clock=clock, folder=folder, every=task.every))
    kept, reason = judge(result, best, task.data, candidates=len(task.plan.rungs) - 1)
    return _save(folder, adapted, result, kept=kept, reason=reason, data=task.data)


def judge(
    result: FitResult, best: Climbed | None, data: TrainingData, *, candidates: int = 1
) -> tuple[bool, str]:
    """Whether the images that no weights were fitted to say that this rung is better than the best so far, and the reason.

    Those are the validation images; with few training images, and two methods that cross-validate, also the training
    images, each judged by a head that did not see it: a few dozen validation images alone decide little.

    Args:
        result: of this rung.
        best: so far; None before there is one.
        data: with the validation images.
        candidates: costlier rungs that have a try; the more, the surer each must be.
    """
    scores = _scores(result.val_logits, data)
    what = f"{len(scores)} validation images"
    if best is None:
        return True, f"the first usable model: {data.task.primary} {scores.mean():.1%} on {what}"
    other = _scores(best.val_logits, data)
    if result.crossed is not None and best.crossed is not None and len(data.train) < FEW:
        scores = np.concatenate([scores, _scores(result.crossed, data, train=True)])
        other = np.concatenate([other, _scores(best.crossed, data, train=True)])
        what += f" and {len(data.train)} cross-validated training images"
    sure, asked = chance_of_gain(scores - other, seed=data.seed), confidence(candidates)
    against = (
        f"{data.task.primary} {scores.mean():.1%} on {what} against {other.mean():.1%} for {best.outcome.method}; "
        f"chance of a true gain {sure:.0%}"
    )
    if sure >= asked:
        return True, against
    tries = f" (asked of each of {candidates} rungs)" if candidates > 1 else ""
    return False, f"{against}, below {asked:.0%}{tries}: {best.outcome.method} stays"


def chance_of_gain(differences: NDArray[np.floating], *, seed: int) -> float:
    """Share of bootstrap resamples of paired per-image differences (N,) whose mean is above zero; ties count half."""
    rng = generator(seed, "judge")
    n = len(differences)
    means = np.array([differences[rng.integers(0, n, n)].mean() for _ in range(_REPEATS)])
    return float((means > 0).mean() + 0.5 * (means == 0).mean())


def _save(
    folder: Path, adapted: Adapted, result: FitResult, *, kept: bool, reason: str, data: TrainingData
) -> Climbed:
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
        metrics={data.task.primary: float(_scores(result.val_logits, data).mean())},
    )
    state = {name: value.contiguous() for name, value in result.model.state_dict().items()}
    # A stream, not a path: only then does torch's error tell that the disk is full.
    with files.atomic(folder / "model.pt") as temporary, temporary.open("wb") as stream:
        depths = result.model.depths if isinstance(result.model, compute.DepthClassifier) else None
        content = {
            "model": state,
            "val_logits": torch.from_numpy(result.val_logits),
            "crossed": None if result.crossed is None else torch.from_numpy(result.crossed),
            "depths": records.to_plain(depths) if depths else None,
        }
        torch.save(content, stream)
    records.save(folder / "outcome.json", outcome)
    (folder / training.CHECKPOINT).unlink(missing_ok=True)
    return Climbed(outcome=outcome, model=result.model, val_logits=result.val_logits, crossed=result.crossed)


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
    model = adapt(
        rung, task.backbone, classes=len(task.data.classes), seed=task.data.seed, task=task.plan.task
    ).model
    if content["depths"] is not None:
        depths = records.from_plain(compute.Depths, content["depths"], where=str(folder / "model.pt"))
        model = compute.at_depths(model, depths, width=content["model"]["head.weight"].shape[1])
    model.load_state_dict(content["model"])
    crossed = content["crossed"]
    return Climbed(
        outcome=outcome,
        model=model.eval(),
        val_logits=content["val_logits"].numpy(),
        crossed=None if crossed is None else crossed.numpy(),
    )
