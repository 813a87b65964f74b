"""`fit`: from a folder of images to a tested, explained, saved model, one stage after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from headstart import compute, data, export, ladder, planning, reporting, training
from headstart._core import log, records
from headstart._core.check import existing, in_range, one_of
from headstart._core.clock import Clock, parse_duration
from headstart._core.errors import BadInput, BadOption, HeadstartError
from headstart.data.records import Dataset, DatasetFacts, LoadOptions, Sample
from headstart.evaluation import Evaluation
from headstart.evidence import Evidence
from headstart.export.bundle import FOLDER, MANIFEST
from headstart.features import FeatureStore
from headstart.ladder import Climb, Climbed, Kept
from headstart.methods import METHODS
from headstart.planning import PREFERENCES, Plan
from headstart.runs.decide import Decision, decide, save, with_plan
from headstart.runs.exam import examine
from headstart.runs.folder import REQUEST, History, Request, as_request, check_out, locked, new_folder
from headstart.runs.gallery import save_examples
from headstart.runs.options import FitOptions, sort_options
from headstart.runs.places import shown_of
from headstart.runs.source import check_weights, choose_source
from headstart.runs.stopping import Stopper, stopping
from headstart.runs.trust import conformal_of, novelty_of
from headstart.tasks import HEADS, task_of
from headstart.weights import Backbone


@dataclass(frozen=True)
class Fitted:
    """A finished run: its folder, and what was measured on the test split."""

    folder: Path
    evaluation: Evaluation

    @property
    def report(self) -> Path:
        """The page that explains the result."""
        return self.folder / "report.html"


class Planned(NamedTuple):
    """Facts about the images, what was measured on them (None for a single method), and the plan."""

    facts: DatasetFacts
    evidence: Evidence | None
    plan: Plan


class Interrupted(HeadstartError):
    """Somebody asked to stop before there was a model to keep."""

    exit_code = 130


def fit(source: str | Path, **options: Any) -> Fitted:
    """A tested, explained, saved model for the images at `source`.

    Args:
        source: class folders, a CSV or Parquet file, or a built-in name such as `digits`.
        **options: fields of `FitOptions`, of `LoadOptions`, and of any method's parameters, all by name.

    Raises:
        BadOption: for an unknown option, or one without effect on the chosen method.
        BadInput: for data or weights that cannot be used.
    """
    chosen = _checked(options)
    request = as_request(str(source), chosen)
    check_out(request.source, chosen.out)
    job = _prepare(request)
    folder = new_folder(request.source, chosen.out)
    with locked(folder):
        check_out(request.source, chosen.out)  # another process may have begun here while the data was read
        records.save(folder / REQUEST, request)
        return _run(folder, job)


def resume(run: str | Path) -> Fitted:
    """The finished run, after going on where it was interrupted.

    Raises:
        BadInput: when the folder holds no run, the run is finished, or the data has changed since.
    """
    folder = existing(run, what="The run folder")
    if not (folder / REQUEST).is_file():
        raise BadInput(
            f"{folder} holds no run: there is no {REQUEST} in it.",
            hint=f"Start one: headstart fit DATA --out {folder}",
        )
    with locked(folder):
        if _is_finished(folder):
            raise BadInput(f"The run in {folder} is finished.", hint=f"Its report: {folder / 'report.html'}")
        request = records.load(Request, folder / REQUEST)
        job = _prepare(request, folder)
        if (folder / "facts.json").exists():
            before = records.load(DatasetFacts, folder / "facts.json")
            if before.digest != job.facts.digest:
                raise BadInput(
                    f"The images or labels of {request.source} have changed since the run in {folder} was started.",
                    hint="Start a new run: headstart fit " + request.source,
                )
        return _run(folder, job)


def plan(source: str | Path, **options: Any) -> Planned:
    """What `fit` would do with the same arguments, and what was measured; nothing is trained or written."""
    job = _prepare(as_request(str(source), _checked(options)), explain=True)
    return Planned(job.facts, job.decision.evidence, job.decision.plan)


def _checked(options: dict[str, Any]) -> FitOptions:
    """The options, after every check that needs no data: a wrong word is told before an hour of work."""
    chosen = sort_options(options)
    parse_duration(chosen.budget)
    in_range("--checkpoint-every", chosen.checkpoint_every, low=0, high=86_400)
    in_range("--precision", chosen.precision, low=0, high=1)
    one_of("--prefer", chosen.prefer, PREFERENCES)
    if chosen.head:
        one_of("--head", chosen.head, HEADS)
    planning.check_given(chosen.method, chosen.given)
    chosen = with_plan(chosen)
    check_weights(chosen)
    return chosen


@dataclass(frozen=True)
class _Job:
    """All that is known before anything is trained or written; `seconds` is what it took, by stage."""

    options: FitOptions
    dataset: Dataset
    facts: DatasetFacts
    decision: Decision
    seconds: dict[str, float]


def _prepare(request: Request, folder: Path | None = None, *, explain: bool = False) -> _Job:
    """The job, with the plan that an interrupted run in that folder had made."""
    started = time.perf_counter()
    dataset, facts = read(request.source, request.options.data)
    seconds = {"scan": time.perf_counter() - started}
    return _job(dataset, facts, request.options, folder, seconds=seconds, explain=explain)


def _job(
    dataset: Dataset,
    facts: DatasetFacts,
    options: FitOptions,
    folder: Path | None,
    *,
    seconds: dict[str, float],
    explain: bool = False,
) -> _Job:
    if options.precision and facts.task != "detect":
        raise BadOption(f"--precision has no effect on {facts.task}.", hint="It is for boxes: leave it away.")
    source = choose_source(dataset, facts, options, folder)
    if source.ranking is not None:
        seconds = seconds | {"rank": source.ranking.seconds}
    decision = decide(dataset, facts, source, options, folder, explain=explain)
    if decision.evidence is not None:
        seconds = seconds | {"measure": decision.evidence.seconds}
    return _Job(options, dataset, facts, decision, seconds)


def read(source: str, options: LoadOptions) -> tuple[Dataset, DatasetFacts]:
    """The data and its facts, after telling what was decided on the way in."""
    dataset = data.load(source, options)
    facts = data.describe(dataset, source)
    for note in dataset.notes:
        log.say(note)
    if dataset.unreadable:
        log.warn(f"{len(dataset.unreadable)} files could not be read and are left out; facts.json lists them")
    return dataset, facts


def _is_finished(folder: Path) -> bool:
    """Whether the run's last steps are done: the bundle knows its metrics, and the card, written last, is there."""
    manifest = folder / FOLDER / MANIFEST
    if not all(path.exists() for path in (folder / "evaluation.json", folder / "report.md", manifest)):
        return False
    return bool(records.load(export.Manifest, manifest).metrics)


def _run(folder: Path, job: _Job) -> Fitted:
    """The run, up to the report, in a folder that is locked."""
    with stopping() as stopper:
        task, climbed = _fit(folder, job, stopper)
        seconds = job.seconds | {"climb": task.clock.elapsed}
        save_examples(folder, job.dataset, job.facts)
        result = examine(folder, task, job.dataset, climbed, seconds=seconds)
        _save_bundle(folder, task, climbed[0], metrics=records.to_plain(result)["splits"]["test"]["metrics"])
        reporting.write_report(folder)
        return Fitted(folder=folder, evaluation=result)


def fit_dataset(
    folder: Path, dataset: Dataset, facts: DatasetFacts, options: FitOptions
) -> tuple[Climb, tuple[Climbed, ...]]:
    """The climb and its rungs, the best first; the test split stays sealed.

    The folder gets the facts, the plan, the history, the ledger and, from the first rung on, the best bundle so far.
    """
    job = _job(dataset, facts, options, folder, seconds={})
    with stopping() as stopper:
        return _fit(folder, job, stopper)


def _fit(folder: Path, job: _Job, stopper: Stopper) -> tuple[Climb, tuple[Climbed, ...]]:
    records.save(folder / "facts.json", job.facts)
    save(job.decision, folder)
    decided, backbone = job.decision.plan, job.decision.backbone
    history = History(folder)
    clock = Clock(decided.budget_seconds, spent=_mend(folder, decided, history, images=len(job.dataset.val)))
    stopper.watch(clock)
    task = Climb(
        plan=decided,
        backbone=backbone,
        data=_training_data(job.dataset, backbone, decided, measured=job.options.method == "auto"),
        clock=clock,
        folder=folder / "checkpoint",
        every=job.options.checkpoint_every,
        precision=job.options.precision,
    )
    return task, _climb(task, folder, history)


def _training_data(
    dataset: Dataset, backbone: Backbone, decided: Plan, *, measured: bool
) -> training.TrainingData:
    """What training may see; where the images are `measured` first, or depths are searched, one network reads them all."""
    depths = any(METHODS[rung.method].expects == "depths" for rung in decided.rungs)
    views = [
        rung.params["views"]
        for rung in decided.rungs
        if "views" in rung.params and METHODS[rung.method].solver == "features"
    ]
    passes = len(dataset.samples) + len(dataset.test) + len(dataset.train) * (max(views, default=1) - 1)
    return training.TrainingData(
        train=dataset.train,
        val=dataset.val,
        task=task_of(dataset.task, decided.head),
        classes=dataset.classes,
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone, among=dataset.samples, passes=passes, tapped=measured or depths),
        seed=decided.seed,
        refit="val" in dataset.made,
    )


def _mend(folder: Path, decided: Plan, history: History, *, images: int) -> float:
    """Seconds that an interrupted climb has spent, after making its history one that can be added to."""
    spent, ended, unfinished = 0.0, [], {}
    for rung in decided.rungs:
        place = folder / "checkpoint" / rung.method
        if (place / "outcome.json").exists():
            outcome = records.load(ladder.Outcome, place / "outcome.json")
            spent += outcome.seconds
            ended.append(ladder.rung_end(outcome, images))
            continue
        found = training.checkpoint_of(place)
        unfinished[rung.method] = found.step if found else 0
        spent += found.spent if found else 0.0
    history.mend(ended, unfinished)
    return spent


def _climb(task: Climb, folder: Path, history: History) -> tuple[Climbed, ...]:
    """Climb, telling every event to the history and saving every new best at once."""
    steps = ladder.climb(task)
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            result: tuple[Climbed, ...] = end.value
            return result
        except compute.Stopped as stopped:
            raise Interrupted(
                f"Stopped by {stopped} before the first model was ready.",
                hint=f"Go on: headstart fit --resume {folder}",
            ) from stopped
        if isinstance(event, Kept):
            _save_bundle(folder, task, event.climbed, metrics={})
            records.save(folder / "ledger.json", event.climbed.outcome.ledger)
            continue
        history.add(event)
        _tell(event)


def _tell(event: training.Event) -> None:
    if event.event == "validation":
        numbers = ", ".join(
            _shown(name, event.metrics[name], *span) for name, span in event.intervals.items()
        )
        place = f" epoch {event.epoch:.0f}" if event.step else ""
        log.say(f"{event.rung}{place}: validation {numbers}")
    elif event.event in ("rung_start", "rung_end", "note", "ladder_end") and event.reason:
        log.say(f"{event.rung}: {event.reason}")


def _shown(name: str, value: float, low: float, high: float) -> str:
    """`accuracy 93.5% (88.1% to 96.6%)`; losses as plain numbers, what `1 - mAP` lacks as the mAP that it is."""
    if name == "log_loss":
        return f"{name} {value:.3f} ({low:.3f} to {high:.3f})"
    if name.startswith("1 - "):
        name, value, low, high = name.removeprefix("1 - "), 1 - value, 1 - high, 1 - low
    return f"{name} {value:.1%} ({low:.1%} to {high:.1%})"


def _save_bundle(folder: Path, task: Climb, climbed: Climbed, *, metrics: dict[str, Any]) -> None:
    info = task.backbone.info
    whole, shown = task.data.task.places is None, shown_of(task, climbed)
    strange = novelty_of(climbed, task) if metrics and whole else None  # once, at the end
    manifest = export.Manifest(
        task=task.data.task.name,
        classes=task.data.classes,
        arch=info.arch,
        width=task.backbone.width,
        preprocess=info.preprocess,
        weights=info,
        method=climbed.outcome.method,
        head=task.data.task.head,
        temperature=climbed.outcome.temperature,
        classwise=climbed.outcome.classwise,
        threshold=shown.threshold,
        calibration=shown.calibration,
        precision=shown.precision,
        conformal=conformal_of(climbed, task.data),
        novelty=strange[0] if strange else None,
        metrics=metrics,
    )
    export.save_bundle(folder / "bundle", climbed.model, manifest, bank=strange[1] if strange else None)


def validation_images(run: Path) -> tuple[Sample, ...]:
    """The validation images of a finished run, read again from where they came."""
    request = records.load(Request, run / REQUEST)
    return data.load(request.source, request.options.data).val
