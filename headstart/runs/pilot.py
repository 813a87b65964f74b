"""Short fine-tunings of candidates that the ranking cannot tell apart: what features alone do not show, tuning may."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart import compute, scores, training, weights
from headstart._core.clock import Clock
from headstart._core.errors import BadPlan, BadWeights
from headstart._core.log import say
from headstart.adaptation import adapt
from headstart.data.records import Dataset, DatasetFacts, Sample
from headstart.features import FeatureStore
from headstart.methods import METHODS, Decline
from headstart.metrics import told_share
from headstart.planning import Rung
from headstart.ranking import Pilot, Ranked, Ranking, RankOptions
from headstart.ranking.candidates import arch_for
from headstart.ranking.measure import sample
from headstart.tasks import TASKS
from headstart.training import Event, FitResult, Pace, TrainingData

_METHOD = "partial"  # tunes what is most bound to the source; its frozen part runs once
_GIVEN = {"epochs": 6, "patience": 6, "views": 2}
_IMAGES, _FEWEST = 900, 60  # training images that pilots share, and that one must be tuned on at least
_FINALISTS = 3
_NEAR = 0.02  # probability of being the best from which a candidate that is not tied is nearly so
_HELD = (0, 1)  # of five folds: the images that judge
_CHOOSES = 6  # every sixth image of the others chooses the epoch


@dataclass(frozen=True)
class _Parts:
    """Training images: to tune on, to choose the epoch by, and to judge by."""

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    held: tuple[Sample, ...]


@dataclass(frozen=True)
class _Flown:
    """A pilot's figures, and its correctness (N,) on the held-out images."""

    pilot: Pilot
    correct: NDArray[np.float64]


def finalists(found: Ranking) -> tuple[Ranked, ...]:
    """The chosen one and the next of those that are tied or nearly so, in the ranking's order; never random weights."""
    near = [row for row in found.rows if (row.tied or row.best >= _NEAR) and row.objective != "none"]
    others = [row for row in near if row.weights != found.chosen][: _FINALISTS - 1]
    return tuple(row for row in near if row in others or row.weights == found.chosen)


def with_pilots(
    found: Ranking,
    dataset: Dataset,
    facts: DatasetFacts,
    *,
    options: RankOptions,
    seconds: float | None,
) -> Ranking:
    """The ranking, after the tied candidates were tuned for a short time on the same part of the training images.

    Another part, that no pilot saw, judges them. A candidate that is shown to be worse than the best of them is out; where
    the images show nothing, the ranking stands.

    Args:
        found: the ranking.
        dataset: scanned; its training images alone are looked at.
        facts: about it.
        options: that the ranking was made with.
        seconds: for all pilots together, about; each is tuned for one epoch at least. None: no limit.
    """
    started, rows = time.monotonic(), finalists(found)
    if len(rows) < 2:
        return replace(found, reason=f"{found.reason} No pilots: there is nothing to tell apart.")
    parts = _parts(dataset, options.seed)
    if len(parts.train) < _FEWEST:
        return replace(found, reason=f"{found.reason} No pilots: too few training images.")
    clock, flown, failed = Clock(seconds), [], []
    for turn, row in enumerate(rows):
        say(f"pilot: tuning {row.weights} for a short time")
        share = None if seconds is None else max(0.1, clock.left / (len(rows) - turn))
        try:
            flown.append(_fly(row, dataset, facts, parts=parts, options=options, clock=Clock(share)))
        except (BadPlan, BadWeights) as error:
            failed.append(f"no pilot of {row.weights}: {str(error).splitlines()[0]}")
    notes = f" ({'; '.join(failed)})" if failed else ""
    if len(flown) < 2:
        return replace(found, reason=f"{found.reason} No pilots to compare{notes}.")
    tied = scores.tied(np.stack([each.correct for each in flown], 1), seed=options.seed)
    pilots = tuple(replace(each.pilot, tied=bool(tie)) for each, tie in zip(flown, tied, strict=True))
    chosen, reason = settle(found, pilots, prefer=options.prefer)
    took = found.seconds + time.monotonic() - started
    return replace(found, pilots=pilots, chosen=chosen, reason=reason + notes, seconds=took)


def settle(found: Ranking, pilots: Sequence[Pilot], *, prefer: str) -> tuple[str, str]:
    """The weights to use after the pilots, and why.

    Of those that no pilot shows to be worse, the ranking's first stays; masked-image weights, of which the ranking can only
    guess, come behind the others.
    """
    by_name = {row.weights: row for row in found.rows}
    alive = [by_name[each.weights] for each in pilots if each.tied]
    alive.sort(key=lambda row: row.objective == "masked image")  # stable: otherwise the ranking's order
    chosen = alive[0]
    if prefer == "speed":
        chosen = min(alive, key=lambda row: row.latency)
    if prefer == "size":
        chosen = min(alive, key=lambda row: row.parameters)
    figures = ", ".join(f"{each.weights} {told_share(each.accuracy, each.images)}" for each in pilots)
    judged = f"fine-tunings, judged on {pilots[0].images} training images held out ({figures}),"
    before = next((each for each in pilots if each.weights == found.chosen), None)
    if chosen.weights == found.chosen:
        return chosen.weights, f"{found.reason} Short {judged} do not contradict it."
    said = f"The features alone spoke for {found.chosen}, but short {judged}"
    masked = "cannot tell them apart, and of masked-image weights the ranking only guesses"
    why = masked if before and before.tied else "show it to be behind"
    return chosen.weights, f"{said} {why}: {chosen.weights} it is."


def _parts(dataset: Dataset, seed: int) -> _Parts:
    images = sample(dataset, count=_IMAGES, seed=seed)
    judges = np.isin(images.divisions[0], _HELD)
    rest = [each for each, held in zip(images.samples, judges, strict=True) if not held]
    return _Parts(
        train=tuple(each for place, each in enumerate(rest) if place % _CHOOSES),
        val=tuple(rest[::_CHOOSES]),
        held=tuple(each for each, held in zip(images.samples, judges, strict=True) if held),
    )


def _fly(
    row: Ranked,
    dataset: Dataset,
    facts: DatasetFacts,
    *,
    parts: _Parts,
    options: RankOptions,
    clock: Clock,
) -> _Flown:
    """One pilot.

    Raises:
        BadPlan: when the network cannot be tuned this way, or its training does not converge.
    """
    backbone = weights.load(row.weights, arch=arch_for(row.weights, options.arch))
    answer = METHODS[_METHOD].suggest(facts, None, backbone, dict(_GIVEN))
    if isinstance(answer, Decline):
        raise BadPlan(answer.reason)
    rung = Rung(method=_METHOD, params=asdict(answer.params), why="pilot")
    task = TASKS[dataset.task]
    data = TrainingData(
        train=parts.train,
        val=parts.val,
        task=task,
        classes=dataset.classes,
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone, among=dataset.samples),
        seed=options.seed,
        refit=False,
    )
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        adapted = adapt(rung, backbone, classes=len(dataset.classes), seed=options.seed)
        result = _result(training.fit(adapted, data, Pace(clock=clock, folder=Path(folder))))
    logits = compute.forward(result.model, parts.held, data.preprocess, label="judging the pilot")
    truth = task.targets(parts.held, len(dataset.classes))
    correct = np.asarray(task.correctness(logits, truth), np.float64)
    pilot = Pilot(
        weights=row.weights,
        accuracy=float(correct.mean()),
        error=float(correct.std(ddof=1) / np.sqrt(len(correct))),
        images=len(correct),
        trained=len(parts.train),
        steps=int(result.facts["steps"]),
        seconds=time.monotonic() - started,
        tied=True,
    )
    return _Flown(pilot, correct)


def _result(steps: Generator[Event, None, FitResult]) -> FitResult:
    """What the training returns at its end; its events are not told."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: FitResult = end.value
            return found
