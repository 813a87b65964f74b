"""`fit`: from a folder of images to a tested, explained, saved model, one stage after the other."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from headstart import compute, data, export, ladder, planning, reporting, training, weights
from headstart._core import log, records
from headstart._core.check import existing
from headstart._core.clock import Clock, parse_duration
from headstart._core.errors import BadInput, HeadstartError
from headstart.data.records import Dataset, DatasetFacts, Sample
from headstart.evaluation import Evaluation
from headstart.features import FeatureStore
from headstart.ladder import Climb, Climbed, Kept
from headstart.planning import Plan, Wishes
from headstart.runs.exam import examine
from headstart.runs.folder import History, Request, as_request, locked, new_folder
from headstart.runs.gallery import save_examples
from headstart.runs.options import FitOptions, sort_options
from headstart.tasks import TASKS
from headstart.weights import Backbone

DEFAULT_WEIGHTS = "bundled:efficientnet_lite0"


@dataclass(frozen=True)
class Fitted:
    """A finished run: its folder, and what was measured on the test split."""

    folder: Path
    evaluation: Evaluation

    @property
    def report(self) -> Path:
        """The page that explains the result."""
        return self.folder / "report.html"


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
    chosen = sort_options(options)
    parse_duration(chosen.budget)  # a wrong word is told before an hour of work
    planning.check_given(chosen.method, chosen.given)
    dataset, facts, seconds = read(str(source), chosen)
    folder = new_folder(str(source), chosen.out)
    request = as_request(str(source), chosen)
    records.save(folder / "request.json", request)
    return _run(folder, chosen, dataset, facts, seconds)


def resume(run: str | Path) -> Fitted:
    """The finished run, after going on where it was interrupted.

    Raises:
        BadInput: when the folder holds no run, or the data has changed since.
    """
    folder = existing(run, what="The run folder")
    if (folder / "evaluation.json").exists() and (folder / "report.html").exists():
        raise BadInput(f"The run in {folder} is finished.", hint=f"Its report: {folder / 'report.html'}")
    request = records.load(Request, folder / "request.json")
    dataset, facts, seconds = read(request.source, request.options)
    if (folder / "facts.json").exists():
        before = records.load(DatasetFacts, folder / "facts.json")
        if before.digest != facts.digest:
            raise BadInput(
                f"The images or labels of {request.source} have changed since the run in {folder} was started.",
                hint="Start a new run: headstart fit " + request.source,
            )
    return _run(folder, request.options, dataset, facts, seconds)


def plan(source: str | Path, **options: Any) -> tuple[DatasetFacts, Plan]:
    """What `fit` would do with the same arguments; nothing is trained or written."""
    chosen = sort_options(options)
    planning.check_given(chosen.method, chosen.given)
    _, facts, _ = read(str(source), chosen)
    return facts, planning.make_plan(facts, _backbone(chosen), _wishes(chosen))


def read(source: str, options: FitOptions) -> tuple[Dataset, DatasetFacts, dict[str, float]]:
    """The data, its facts and the seconds it took."""
    started = time.perf_counter()
    dataset = data.load(source, options.data)
    facts = data.describe(dataset, source)
    for note in dataset.notes:
        log.say(note)
    if dataset.unreadable:
        log.warn(f"{len(dataset.unreadable)} files could not be read and are left out; facts.json lists them")
    return dataset, facts, {"scan": time.perf_counter() - started}


def _run(
    folder: Path, options: FitOptions, dataset: Dataset, facts: DatasetFacts, seconds: dict[str, float]
) -> Fitted:
    with locked(folder):
        task, climbed = fit_dataset(folder, dataset, facts, options)
        seconds["climb"] = task.clock.elapsed
        save_examples(folder, dataset, facts)
        result = examine(folder, task, dataset, climbed, seconds=seconds)
        _save_bundle(folder, task, climbed[0], metrics=records.to_plain(result)["splits"]["test"]["metrics"])
        reporting.write_report(folder)
        return Fitted(folder=folder, evaluation=result)


def fit_dataset(
    folder: Path, dataset: Dataset, facts: DatasetFacts, options: FitOptions
) -> tuple[Climb, tuple[Climbed, ...]]:
    """The climb and its rungs, the best first; the test split stays sealed.

    The folder gets the facts, the plan, the history, the ledger and, from the first rung on, the best bundle so far.
    """
    backbone = _backbone(options)
    records.save(folder / "facts.json", facts)
    decided = _plan_of(folder, facts, backbone, options)
    history = History(folder)
    spent = _forget_unfinished(folder, decided, history)
    clock = Clock(decided.budget_seconds, spent=spent)
    task = Climb(
        plan=decided,
        backbone=backbone,
        data=_training_data(dataset, backbone, options.seed),
        clock=clock,
        folder=folder / "checkpoint",
        every=options.checkpoint_every,
    )
    with _stopping(clock):
        return task, _climb(task, folder, history)


def _backbone(options: FitOptions) -> Backbone:
    name = DEFAULT_WEIGHTS if options.weights == "auto" else options.weights
    return weights.load(name, arch=options.arch)


def _wishes(options: FitOptions) -> Wishes:
    return Wishes(
        method=options.method,
        budget_seconds=parse_duration(options.budget),
        seed=options.seed,
        given=options.given,
    )


def _plan_of(folder: Path, facts: DatasetFacts, backbone: Backbone, options: FitOptions) -> Plan:
    """The plan of an interrupted run as it was, or a new one."""
    if (folder / "plan.json").exists():
        return records.load(Plan, folder / "plan.json")
    decided = planning.make_plan(facts, backbone, _wishes(options))
    records.save(folder / "plan.json", decided)
    return decided


def _training_data(dataset: Dataset, backbone: Backbone, seed: int) -> training.TrainingData:
    return training.TrainingData(
        train=dataset.train,
        val=dataset.val,
        task=TASKS[dataset.task],
        classes=dataset.classes,
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone),
        seed=seed,
        refit="val" in dataset.made,
    )


def _forget_unfinished(folder: Path, decided: Plan, history: History) -> float:
    """Seconds that an interrupted climb has spent, after dropping from the history what will be told again."""
    spent = 0.0
    for rung in decided.rungs:
        place = folder / "checkpoint" / rung.method
        if (place / "outcome.json").exists():
            spent += records.load(ladder.Outcome, place / "outcome.json").seconds
            continue
        found = training.checkpoint_of(place)
        history.forget_unfinished(rung.method, after_step=found.step if found else 0)
        spent += found.seconds if found else 0.0
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
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in event.metrics.items())
        place = f" epoch {event.epoch:.0f}" if event.step else ""
        log.say(f"{event.rung}{place}: validation {numbers}")
    elif event.event in ("rung_start", "rung_end", "note", "ladder_end") and event.reason:
        log.say(f"{event.rung}: {event.reason}")


def _save_bundle(folder: Path, task: Climb, climbed: Climbed, *, metrics: dict[str, Any]) -> None:
    info = task.backbone.info
    manifest = export.Manifest(
        task=task.data.task.name,
        classes=task.data.classes,
        arch=info.arch,
        width=task.backbone.width,
        preprocess=info.preprocess,
        weights=info,
        method=climbed.outcome.method,
        temperature=climbed.outcome.temperature,
        metrics=metrics,
    )
    export.save_bundle(folder / "bundle", climbed.model, manifest)


@contextmanager
def _stopping(clock: Clock) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the clock to stop; a second Ctrl-C is Python's own. Only the main thread may listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        log.warn(f"{name}: ending cleanly with the best model so far (again to stop at once)")
        clock.stop(name)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def validation_images(run: Path) -> tuple[Sample, ...]:
    """The validation images of a finished run, read again from where they came."""
    request = records.load(Request, run / "request.json")
    return data.load(request.source, request.options.data).val
