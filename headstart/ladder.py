"""The climb: rungs in order, the best so far always on disk, a budget or a signal ends it without losing anything."""

from __future__ import annotations

import copy
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
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
from headstart.adaptation import Adapted, Ledger, adapt, same_parts, settle, settle_average
from headstart.features import View
from headstart.heads.logistic import LinearHead
from headstart.methods import METHODS
from headstart.metrics import fit_temperature, told, wilson
from headstart.metrics.classwise import Classwise
from headstart.planning import Plan, Rung, confidence, not_worth
from headstart.tasks import Mirrored, Network, Turned
from headstart.training import Event, FitResult, Pace, TrainingData
from headstart.training.rows import rows_of
from headstart.training.solve import set_head
from headstart.training.soup import greedy
from headstart.weights import Backbone

FEW = 500
"""Below this many training images, methods that cross-validate are compared on those images too, not on few others alone."""

SOUP, MIRROR = "soup", "mirror"
"""Names in the history of the two steps behind the last rung."""

_REPEATS = 2000
_FIRST_SHARE = 0.25  # of the budget that the first of several rungs may be planned for


@record
class Outcome:
    """How a rung ended; kept in `checkpoint/METHOD/outcome.json` so that a resumed climb need not repeat it.

    Attributes:
        temperature: fitted for this rung's network.
        classwise: what is part of the head instead, where that paid more; see `FitResult`.
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
    classwise: Classwise | None = None


@dataclass(frozen=True)
class Climbed:
    """A rung's network with its outcome.

    Attributes:
        val_logits: its answers on the validation images (N, classes).
        crossed: cross-validated answers on the training images (N, classes), each by a head that did not see the image;
            None where the method does not cross-validate.
        head: the head that gave `val_logits`, where the model's own has since been fitted on those images too; else None.
    """

    outcome: Outcome
    model: Network
    val_logits: NDArray[np.float64]
    crossed: NDArray[np.float64] | None = None
    head: LinearHead | None = None


@dataclass(frozen=True)
class Kept:
    """Told by `climb` when a rung has become the best so far: the caller saves it at once."""

    climbed: Climbed


@dataclass(frozen=True)
class Climb:
    """What is climbed, with what, where its state is kept; and the precision that shown boxes shall have, 0: the best F1."""

    plan: Plan
    backbone: Backbone
    data: TrainingData
    clock: Clock
    folder: Path
    every: float
    precision: float = 0.0


def climb(task: Climb) -> Generator[Event | Kept, None, tuple[Climbed, ...]]:
    """Events and every new best on the way; at the end all rungs that were climbed, the best first.

    The budget never stops the first rung: before it ends there is nothing to keep. A later rung of which too little is
    expected, after what the best so far has reached, is not climbed, unless there is no budget. At the end, where time is
    left, two more steps that train nothing: an average of the tuned networks, and answers averaged over an image and its
    mirror image.

    Raises:
        compute.Stopped: when somebody asked to stop before the first rung had ended.
    """
    best, done = yield from _climb_rungs(task)
    if task.data.task.places is not None:  # neither step is made for answers that have places
        yield _end(task, best)
        return (best, *(other for other in done if other is not best))
    tries = len(task.plan.rungs) - 1  # challengers on the same validation images
    souped = yield from _soup(task, best, done, tries=tries)
    if souped is not None:
        tries += souped.tried
        if len(souped.members) > 1:  # else it is a rung under another name
            done.append(souped.climbed)
        if souped.climbed.outcome.kept:
            best = souped.climbed
            yield Kept(best)
    mirrored = yield from _mirror(task, best, tries=tries + 1)
    if mirrored is not None:
        done.remove(best)
        done.append(mirrored)
        best = mirrored
        yield Kept(best)
    yield _end(task, best)
    return (best, *(other for other in done if other is not best))


def _end(task: Climb, best: Climbed) -> Event:
    why = task.clock.over or "the end of the ladder"
    return Event(event="ladder_end", rung=best.outcome.method, reason=why)


def _climb_rungs(task: Climb) -> Generator[Event | Kept, None, tuple[Climbed, list[Climbed]]]:
    """The best rung of the plan and all that were climbed, in order."""
    done: list[Climbed] = []
    best: Climbed | None = None
    for rung in task.plan.rungs:
        if best is not None and (reason := task.clock.over):
            yield Event(event="note", rung=rung.method, reason=f"not climbed: {reason}")
            continue
        found = _reload(task, rung, task.folder / rung.method)
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
            yield rung_end(found.outcome, len(task.data.val))
        done.append(found)
        if found.outcome.kept:
            best = found
            yield Kept(found)
    assert best is not None  # a plan has at least one rung, and the first is always kept
    return best, done


def _given_up(error: Exception, best: Climbed) -> str:
    """Why a costlier rung has no result; what was reached before it is not lost by that."""
    why = f"stopped by {error} before its first step" if isinstance(error, compute.Stopped) else str(error)
    return f"not climbed to its end: {why}\n{best.outcome.method} stays"


def rung_end(outcome: Outcome, images: int) -> Event:
    """The event that tells how a rung ended, by so many validation images."""
    return Event(
        event="rung_end",
        rung=outcome.method,
        seconds=outcome.seconds,
        kept=outcome.kept,
        reason=outcome.reason,
        metrics=outcome.metrics,
        intervals={name: wilson(value * images, images) for name, value in outcome.metrics.items()},
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
    reason = f"{best.outcome.method} has reached {told(scores)} and {doubt}: the cheaper one stays"
    return reason if doubt else ""


def _scores(logits: NDArray[np.floating], data: TrainingData, *, train: bool = False) -> NDArray[np.float64]:
    """How right the answers are on each validation (or training) image, in [0, 1]."""
    targets = data.task.targets(data.train if train else data.val, len(data.classes))
    return np.asarray(data.task.correctness(logits, targets), np.float64)


def _climb_rung(
    task: Climb, rung: Rung, best: Climbed | None, *, first: bool
) -> Generator[Event, None, Climbed]:
    adapted = adapt(
        rung, task.backbone, classes=len(task.data.classes), seed=task.data.seed, task=task.data.task
    )
    folder = task.folder / rung.method
    clock = task.clock.without_budget() if first else task.clock
    planned = max(0.0, task.clock.left) * (_FIRST_SHARE if first and len(task.plan.rungs) > 1 else 1.0)
    pace = Pace(clock, folder, every=task.every, planned=planned, before=best.model if best else None)
    result = yield from training.fit(adapted, task.data, pace)
    kept, reason = judge(result, best, task.data, candidates=len(task.plan.rungs) - 1)
    return _save(folder, result, settle(adapted, result.model), told=(kept, reason), data=task.data)


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
        return True, f"the first usable model: {data.task.primary} {told(scores)} on {what}"
    other = _scores(best.val_logits, data)
    if result.crossed is not None and best.crossed is not None and len(data.train) < FEW:
        scores = np.concatenate([scores, _scores(result.crossed, data, train=True)])
        other = np.concatenate([other, _scores(best.crossed, data, train=True)])
        what += f" and {len(data.train)} cross-validated training images"
    sure, asked = chance_of_gain(scores - other, seed=data.seed), confidence(candidates)
    against = (
        f"{data.task.primary} {told(scores)} on {what} against {told(other)} for {best.outcome.method}; "
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
    folder: Path, result: FitResult, ledger: Ledger, *, told: tuple[bool, str], data: TrainingData
) -> Climbed:
    """Write the rung's network, answers and outcome; the outcome last, so that its presence means all is there."""
    kept, reason = told
    outcome = Outcome(
        method=result.method,
        temperature=result.temperature,
        seconds=result.seconds,
        kept=kept,
        reason=reason,
        ended=result.ended,
        facts=result.facts,
        ledger=ledger,
        metrics={data.task.primary: float(_scores(result.val_logits, data).mean())},
        classwise=result.classwise,
    )
    state = {name: value.contiguous() for name, value in result.model.state_dict().items()}
    # A stream, not a path: only then does torch's error tell that the disk is full.
    with files.atomic(folder / "model.pt") as temporary, temporary.open("wb") as stream:
        depths = result.model.depths if isinstance(result.model, compute.DepthClassifier) else None
        head = result.head
        content = {
            "model": state,
            "val_logits": torch.from_numpy(result.val_logits),
            "crossed": None if result.crossed is None else torch.from_numpy(result.crossed),
            "depths": records.to_plain(depths) if depths else None,
            "head": None if head is None else [torch.from_numpy(part) for part in (head.weight, head.bias)],
        }
        torch.save(content, stream)
    records.save(folder / "outcome.json", outcome)
    (folder / training.CHECKPOINT).unlink(missing_ok=True)
    return Climbed(outcome, result.model, result.val_logits, result.crossed, result.head)


def _reload(task: Climb, rung: Rung, folder: Path) -> Climbed | None:
    """The result from an earlier, interrupted climb, in a network like this rung's, or None where it had not ended."""
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
        rung, task.backbone, classes=len(task.data.classes), seed=task.data.seed, task=task.data.task
    ).model
    if content["depths"] is not None:
        depths = records.from_plain(compute.Depths, content["depths"], where=str(folder / "model.pt"))
        model = compute.at_depths(model, depths, width=content["model"]["head.weight"].shape[1])
    model.load_state_dict(content["model"])
    crossed, head = content["crossed"], content.get("head")
    return Climbed(
        outcome=outcome,
        model=model.eval(),
        val_logits=content["val_logits"].numpy(),
        crossed=None if crossed is None else crossed.numpy(),
        head=None if head is None else LinearHead(*(part.numpy() for part in head)),
    )


@dataclass(frozen=True)
class _Souped:
    """An average of tuned networks, which ones are in it, and how many averages were judged to find it."""

    climbed: Climbed
    members: tuple[str, ...]
    tried: int


def _soup(
    task: Climb, best: Climbed, done: list[Climbed], *, tries: int
) -> Generator[Event, None, _Souped | None]:
    """The average of the tuned networks that the validation images like best, or None where there are not two of them.

    It costs a pass over the validation images for each network, and nothing in use. The probe that tuning started from may
    be part of it, with the head that has not seen the validation images.
    """
    members = _soupable(task, done)
    if len(members) < 2:
        return None
    names = [climbed.outcome.method for climbed, _ in members]
    yield Event(
        event="rung_start", rung=SOUP, reason=f"an average of {', '.join(names)} costs nothing in use"
    )
    rung = next(rung for rung in task.plan.rungs if rung.method == names[-1])
    found = _reload(task, rung, task.folder / SOUP)
    if found is None and (reason := task.clock.over):
        yield Event(event="note", rung=SOUP, reason=f"not tried: {reason}")
        return None
    if found is None:
        found = _cook(task, best, members, tries=tries)
    yield rung_end(found.outcome, len(task.data.val))
    return _Souped(found, tuple(_members(found.outcome)), tried=len(members) - 1)


def _soupable(task: Climb, done: list[Climbed]) -> list[tuple[Climbed, Adapted]]:
    """The networks that may be averaged, each with itself before training; fewer than two tuned ones are none.

    They share the pretrained start, every tensor's place and shape, and a head on the same features.
    """
    found: list[tuple[Climbed, Adapted]] = []
    if sum(METHODS[climbed.outcome.method].solver == "gradient" for climbed in done) < 2:
        return found
    for climbed in done:
        rung = next(rung for rung in task.plan.rungs if rung.method == climbed.outcome.method)
        adapted = adapt(rung, task.backbone, classes=len(task.data.classes), seed=task.data.seed)
        alike = not adapted.applied.restart and not isinstance(climbed.model, compute.DepthClassifier)
        if alike and all(same_parts(adapted, other) for _, other in found):
            found.append((climbed, adapted))
    tuned = sum(adapted.method.solver == "gradient" for _, adapted in found)
    return found if tuned > 1 else []


def _cook(task: Climb, best: Climbed, members: list[tuple[Climbed, Adapted]], *, tries: int) -> Climbed:
    """The greedy soup of these networks, judged against the best so far and saved like a rung."""
    started, data = time.monotonic(), task.data
    model = copy.deepcopy(members[-1][0].model)

    def answer(state: dict[str, torch.Tensor]) -> NDArray[np.float64]:
        model.load_state_dict(state)
        return compute.forward(model, data.val, data.preprocess, label="tasting").astype(np.float64)

    targets = data.task.targets(data.val, len(data.classes))
    found = greedy(
        [_honest(climbed).state_dict() for climbed, _ in members],
        [climbed.val_logits for climbed, _ in members],
        targets=targets,
        answer=answer,
    )
    model.load_state_dict(found.state)
    names = [members[place][0].outcome.method for place in found.members]
    result = FitResult(
        method=SOUP,
        model=model.cpu().eval(),
        val_logits=found.logits,
        temperature=fit_temperature(found.logits, targets),
        seconds=time.monotonic() - started,
        ended="averaged",
        facts={"members": names, "tried": found.tried},
    )
    if len(names) == 1:
        told = False, f"no average has a lower loss than {names[0]} alone: {best.outcome.method} stays"
    else:
        kept, reason = judge(result, best, data, candidates=tries + found.tried)
        told = kept, f"the average of {', '.join(names)}: {reason}"
    ledger = settle_average([members[place][1] for place in found.members], result.model, name=SOUP)
    return _save(task.folder / SOUP, result, ledger, told=told, data=data)


def _members(outcome: Outcome) -> list[str]:
    """The rungs whose networks are in the average; of a rung itself, that rung."""
    found = outcome.facts.get("members", [outcome.method])
    return [str(name) for name in found] if isinstance(found, list) else []


def _honest(climbed: Climbed) -> Network:
    """The network that gave `val_logits`: the rung's own, or a copy with the head from before the validation images."""
    if climbed.head is None:
        return climbed.model
    model = copy.deepcopy(climbed.model)
    set_head(model, climbed.head)
    return model


def _mirror(task: Climb, best: Climbed, *, tries: int) -> Generator[Event, None, Climbed | None]:
    """The best with answers averaged over an image and its mirror image, if the validation images say so; else None.

    Every answer then takes twice as long: never taken where speed is preferred, nor where images may not be mirrored.
    """
    methods = _members(best.outcome)
    flips = [rung.params.get("flip") for rung in task.plan.rungs if rung.method in methods]
    if task.plan.prefer == "speed" or not all(flips):
        return None
    if reason := task.clock.over:
        yield Event(event="note", rung=MIRROR, reason=f"not tried: {reason}")
        return None
    started, data = time.monotonic(), task.data
    logits = (best.val_logits + _turned(best, data)) / 2
    result = FitResult(
        method=best.outcome.method,
        model=Mirrored(best.model),
        val_logits=logits,
        temperature=fit_temperature(logits, data.task.targets(data.val, len(data.classes))),
        seconds=time.monotonic() - started,
        ended=best.outcome.ended,
        facts=best.outcome.facts | {"mirrored": True},
    )
    kept, reason = judge(result, best, data, candidates=tries)
    told = f"answers averaged over an image and its mirror image, in twice the time: {reason}"
    if not kept:
        yield Event(event="note", rung=MIRROR, reason=told)
        return None
    metrics = {data.task.primary: float(_scores(logits, data).mean())}
    outcome = replace(best.outcome, temperature=result.temperature, facts=result.facts, metrics=metrics)
    ended = replace(outcome, method=MIRROR, seconds=result.seconds, kept=True, reason=told)
    yield rung_end(ended, len(data.val))
    return Climbed(outcome, result.model, logits)


def _turned(climbed: Climbed, data: TrainingData) -> NDArray[np.float64]:
    """Answers (N, classes) to the mirrored validation images, of the network that gave `val_logits`."""
    model = _honest(climbed)
    if climbed.outcome.method in METHODS and METHODS[climbed.outcome.method].solver == "features":
        rows = rows_of(model, data.store, data.val, view=View(number=1, flip=True))
        weight, bias = (part.detach().cpu().numpy() for part in (model.head.weight, model.head.bias))
        return LinearHead(weight, bias)(rows).astype(np.float64)
    turned = compute.forward(Turned(model), data.val, data.preprocess, label="looking into a mirror")
    model.cpu()
    return turned.astype(np.float64)
